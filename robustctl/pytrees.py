"""What pytrees hold: random keys, values being traced, and the fields of modules."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp


def is_key(leaf: Any) -> bool:
    """Return whether a leaf is an array of random keys, which are no numbers."""
    return eqx.is_array(leaf) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def is_numeric(leaf: Any) -> bool:
    """Return whether a leaf is an array of numbers or one number."""
    return eqx.is_array_like(leaf) and not is_key(leaf)


def shape_of(leaf: Any) -> tuple[int, ...] | None:
    """Return the shape of an array, or of one that is only described by shape and dtype; None for anything else."""
    return getattr(leaf, "shape", None)


def shape_and_dtype(leaf: Any) -> Any:
    """Return shape and dtype of an array, and any other leaf itself."""
    return (leaf.shape, leaf.dtype) if eqx.is_array(leaf) else leaf


def traced(tree: Any) -> bool:
    """Return whether any leaf of a pytree is being traced, so that its value is unknown."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree))


def fields_of(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass, module or named tuple by name, in order; None for one that was never set."""
    return {name: getattr(value, name, None) for name in field_names(type(value))}


def field_names(cls: type) -> tuple[str, ...]:
    """Return the names of the fields of a dataclass, module or named tuple, in order."""
    if issubclass(cls, tuple):
        return cls._fields  # pyright: ignore[reportAttributeAccessIssue]
    return tuple(field.name for field in dataclasses.fields(cls))


def items_of(container: dict | list | tuple) -> Iterable[tuple[Any, Any]]:
    """Return the items of a dictionary with their keys, and those of a list or tuple with their positions."""
    return container.items() if isinstance(container, dict) else enumerate(container)
