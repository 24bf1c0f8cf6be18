"""`python -m robustctl`: the command line where `robustctl` is not on the path."""

import sys

from .cli import main

sys.exit(main())
