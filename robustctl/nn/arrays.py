"""Checks of a model's arrays, which anyone may have cast, stacked or replaced since it was built."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.dtypes import canonicalize_dtype

from ..errors import InvalidModelError
from ..pytrees import fields_of
from .activations import dtypes_of

_SINGLE, _DOUBLE = np.dtype(np.float32), np.dtype(np.float64)


def free_dtype(dtype: Any = None) -> np.dtype:
    """Return the dtype of free arrays, by default float64 where JAX runs in 64 bits and float32 where not.

    **Raises:** `InvalidModelError` for any other than these two.
    """
    found = canonicalize_dtype(jnp.result_type(float) if dtype is None else dtype)
    _check_dtype(found)
    return found


def check_free(model: eqx.Module, vector: Any) -> None:
    """Raise `InvalidModelError` for free arrays that cannot be mapped to a model: half precision, or a stack of models.

    `vector`: one of the model's arrays that has one axis.
    """
    check_one(model, vector)
    for dtype in dtypes_of(model):
        _check_dtype(dtype)


def _check_dtype(dtype: np.dtype) -> None:
    # LAPACK, which factorizes the free arrays' matrices, has these two alone.
    if dtype not in (_SINGLE, _DOUBLE):
        raise InvalidModelError(
            f"free arrays must be float32 or float64, got {dtype}; train in float32, and cast what explicit() returns where a "
            "smaller model must run"
        )


def check_one(model: eqx.Module, vector: Any) -> None:
    """Raise `InvalidModelError` for a stack of models, as `jax.vmap` makes one; `vector` has one axis in a single model."""
    if jnp.ndim(vector) != 1:
        raise InvalidModelError(
            f"{type(model).__name__} must be one model, got arrays with an axis more, as of a stack of models; map over it with "
            "equinox.filter_vmap, or take one: jax.tree.map(lambda a: a[0], models)"
        )


def check_shapes(model: eqx.Module, **shapes: tuple[int, ...]) -> None:
    """Raise `InvalidModelError` unless the arrays of these names have these shapes: arithmetic repeats entries without a word."""
    fields = fields_of(model)
    for name, shape in shapes.items():
        given = jnp.shape(fields[name])
        if given != shape:
            raise InvalidModelError(
                f"{name} of {type(model).__name__} must have shape {shape} to fit the other arrays, got {given}; replace an array by "
                "one of the same shape"
            )


def number(model: eqx.Module, name: str) -> float:
    """Return a field that is one real number, or raise `InvalidModelError`."""
    value = np.asarray(fields_of(model)[name])
    if value.shape or not jnp.issubdtype(value.dtype, np.number) or np.iscomplexobj(value):
        raise InvalidModelError(
            f"{name} of {type(model).__name__} must be one real number, got {value.tolist()!r}"
        )
    return float(value)
