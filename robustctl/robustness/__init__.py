"""The robustness report of linear and learned loops."""

from .analysis import Analysis as Analysis
from .loop_report import LoopReport as LoopReport
from .loop_report import report as report
from .page import page as page
