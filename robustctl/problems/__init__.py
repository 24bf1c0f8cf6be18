"""Problems to try things on, importable: where the log comes from and what a score means."""

from .records import cascaded_tanks as cascaded_tanks
from .records import silverbox as silverbox
from .two_tanks import two_tanks as two_tanks
