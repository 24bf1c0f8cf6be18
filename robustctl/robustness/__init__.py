"""The robustness report of loops with linear and learned controllers."""

from .analysis import Analysis as Analysis
from .loop_report import LoopReport as LoopReport
from .loop_report import report as report
from .page import page as page
