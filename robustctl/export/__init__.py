"""Export: a system's step without Python, JAX or any library."""

from .c99 import c as c
from .compiled import compile as compile
from .trace import program as program
