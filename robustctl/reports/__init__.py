"""The fit report: how well a model simulates a record, correlations of its residuals, and its certificate."""

from .fit_report import FitReport as FitReport
from .fit_report import fit_report as fit_report
