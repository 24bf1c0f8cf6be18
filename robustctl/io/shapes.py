"""The shapes that a class gives its arrays, to compare a file's with: JAX slices and broadcasts silently."""

import dataclasses
import inspect
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.random as jr

from ..pytrees import fields_of, shape_of
from ..registry import CLASSES, name_of, registered


def check_shapes(value: Any) -> None:
    """Raise `ValueError` unless every registered part of `value` has arrays of the shapes it is built with.

    Each is built again, abstractly, with the sizes that its registered function computes from its arrays.
    """
    for part in _parts(value):
        name = name_of(type(part))
        sizes = CLASSES[name].sizes if name else None
        if sizes is not None:
            _compare(part, _built(type(part), sizes(part)))


def _built(cls: type, arguments: dict[str, Any]) -> Any:
    takes_key = "key" in inspect.signature(cls).parameters
    return eqx.filter_eval_shape(
        lambda key: cls(**arguments, **({"key": key} if takes_key else {})), jr.key(0)
    )


def _parts(value: Any) -> Iterator[Any]:
    match value:
        case eqx.nn.MLP():
            # Its layers are checked with it; with scan=True they are stacked, unlike any on its own.
            yield value
        case eqx.Module():
            yield value
            yield from _parts(tuple(fields_of(value).values()))
        case tuple():
            for item in value:
                yield from _parts(item)


def _static_fields(part: eqx.Module) -> dict[str, Any]:
    """Equinox's networks keep the arguments of their constructors as static fields."""
    static = {f.name for f in dataclasses.fields(part) if f.metadata.get("static")}
    return {name: value for name, value in fields_of(part).items() if name in static}


def _mlp_sizes(part: eqx.nn.MLP) -> dict[str, Any]:
    if not part.scan and len(part.layers) != part.depth + 1:
        raise ValueError(f"an MLP of depth {part.depth} must have one layer more, got {len(part.layers)}")
    return _static_fields(part)


registered(name="equinox.nn.MLP", sizes=_mlp_sizes)(eqx.nn.MLP)
registered(name="equinox.nn.Linear", sizes=_static_fields)(eqx.nn.Linear)
# The cells of GRU and LSTM are checked with the models that hold them.
registered(name="equinox.nn.GRUCell")(eqx.nn.GRUCell)
registered(name="equinox.nn.LSTMCell")(eqx.nn.LSTMCell)


def _compare(part: Any, built: Any) -> None:
    given, expected = _shapes(part), _shapes(built)
    for name in expected.keys() | given.keys():
        if given.get(name) != expected.get(name):
            raise ValueError(
                f"{type(part).__name__}{name} must have shape {expected.get(name)}, got {given.get(name)}"
            )


def _shapes(part: Any) -> dict[str, tuple[int, ...]]:
    """Shapes by path, without those of phi, which may be any network and is checked as a separate part."""
    leaves = jax.tree_util.tree_leaves_with_path(part)
    named = {jax.tree_util.keystr(path): shape_of(leaf) for path, leaf in leaves}
    return {name: shape for name, shape in named.items() if shape is not None and ".phi" not in name}
