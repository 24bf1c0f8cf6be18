"""Export: a system's step without Python, JAX or any library."""

from .trace import program as program
