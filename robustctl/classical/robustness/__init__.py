"""The robustness report of linear and learned loops."""

from .analysis import Analysis as Analysis
from .page import page as page
from .report import LoopReport as LoopReport
from .report import report as report
