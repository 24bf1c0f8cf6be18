"""The robustness report of linear and learned loops."""

from .page import page as page
from .report import Analysis as Analysis
from .report import LoopReport as LoopReport
from .report import report as report
