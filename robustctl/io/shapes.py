"""The shapes that a class gives its arrays, to compare a file's with: JAX slices and broadcasts silently."""

import dataclasses
import inspect
import types
import typing
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
from jaxtyping import AbstractArray, jaxtyped

from ..checks import are_all, is_positive
from ..pytrees import fields_of, shape_of
from ..registry import CLASSES, name_of, registered
from ..system import Certifiable, System


def check_shapes(value: Any) -> None:
    """Raise `ValueError` unless every registered part of `value` has arrays of the shapes it is built with.

    Each must be as its fields' annotations require, and is built again, abstractly, with the sizes that its registered function
    computes from its arrays. Then each is asked whether its own parts fit each other.
    """
    for part in _parts(value):
        name = name_of(type(part))
        if name is None:
            continue
        _check_annotations(part)
        sizes = CLASSES[name].sizes
        if sizes is not None:
            _compare(part, _built(type(part), sizes(part)))
        if isinstance(part, Certifiable):
            part.check_parts()
        if isinstance(part, System):
            _check_signals(part)


def _check_signals(system: System) -> None:
    if system.dt is not None and not is_positive(system.dt):
        raise ValueError(f"dt must be a positive number of seconds, got {system.dt!r}")
    for kind, count, names in (
        ("input", system.nu, system.inputs), ("input", system.nu, system.input_units),
        ("output", system.ny, system.outputs), ("output", system.ny, system.output_units),
    ):  # fmt: skip
        if names is not None and not (are_all(names, str) and count in (None, len(names))):
            raise ValueError(f"{kind}s must have {count} names and units, got {names!r:.200}")


def _check_annotations(part: Any) -> None:
    cls = type(part)
    # Those of other packages are comments.
    if cls.__module__.split(".")[0] in ("equinox", "diffrax"):
        return
    hints = typing.get_type_hints(cls) if fields_of(part) else {}
    with jaxtyped("context"):  # in which `nx` is one number
        for name, value in fields_of(part).items():
            if not _has_kind(value, hints[name]):
                raise ValueError(
                    f"{cls.__name__}.{name} must be of the kind {hints[name]} and fit the other arrays, got {_described(value)}"
                )


def _has_kind(value: Any, hint: Any) -> bool:
    """Return whether a value is what an annotation requires of arrays and modules; anything else is taken as it is."""
    kind, inside = typing.get_origin(hint), typing.get_args(hint)
    if kind in (typing.Union, types.UnionType):
        return any(_has_kind(value, one) for one in inside)
    if kind is tuple:
        return isinstance(value, tuple) and _have_kinds(value, inside)
    if not isinstance(hint, type):
        return True
    if issubclass(hint, AbstractArray | jax.Array | eqx.Module | types.NoneType):
        return isinstance(value, hint)
    return not (hint in (bool, int, float, str) and isinstance(value, jax.Array | np.ndarray))


def _have_kinds(values: tuple, hints: tuple) -> bool:
    if len(hints) == 2 and hints[1] is ...:
        # Each in its own context: one layer has other sizes than the next.
        return all(jaxtyped(typechecker=None)(_has_kind)(value, hints[0]) for value in values)
    return len(values) == len(hints) and all(map(_has_kind, values, hints))


def _described(value: Any) -> str:
    return f"shape {value.shape}, {value.dtype}" if eqx.is_array(value) else f"a {type(value).__name__}"


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
registered(name="equinox.nn.GRUCell", sizes=_static_fields)(eqx.nn.GRUCell)
registered(name="equinox.nn.LSTMCell", sizes=_static_fields)(eqx.nn.LSTMCell)


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
