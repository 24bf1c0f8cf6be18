"""How well models simulate a record: the fit report of one, with its certificate, and the comparison of several."""

from .fit_report import FitReport as FitReport
from .fit_report import fit_report as fit_report
from .model_comparison import ModelComparison as ModelComparison
from .model_comparison import compare_models as compare_models
