"""Export: a system's step without Python, JAX or any library."""

from .c99 import c as c
from .compiled import compile as compile
from .fixed import FixedPoint as FixedPoint
from .fixed import bits_needed as bits_needed
from .fixed import fixed as fixed
from .fmu_file import fmu as fmu
from .folder import Checked as Checked
from .folder import check as check
from .folder import package as package
from .jax_file import jax as jax
from .matlab_file import matlab as matlab
from .onnx_file import onnx as onnx
from .runtime_file import runtime as runtime
from .trace import program as program
