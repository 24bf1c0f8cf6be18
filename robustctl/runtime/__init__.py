"""Exported systems without JAX: this room imports NumPy alone."""

from .file import load as load
from .step import Step as Step
