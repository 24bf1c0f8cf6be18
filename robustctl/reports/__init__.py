"""The fit report: how well a model simulates a record, what its residuals hold, what is proven of it."""

from .fit_report import FitReport as FitReport
from .fit_report import fit_report as fit_report
