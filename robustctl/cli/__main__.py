"""`python -m robustctl.cli`."""

import sys

from . import main

sys.exit(main())
