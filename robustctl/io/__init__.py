"""Model files: sealed safetensors, written whole or not at all, read without running anything in them."""

from .files import inspect as inspect
from .files import load as load
from .files import save as save
