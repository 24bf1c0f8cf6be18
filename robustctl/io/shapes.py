"""The shapes that a class gives its arrays, to compare a file's with: JAX slices and broadcasts silently."""

import dataclasses
import inspect
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.random as jr

from ..nn import GRU, LBDN, LSTM, CorrectedR2DN, InnovationR2DN, LipschitzStatic, StateObserver
from ..scaled import Rescaled
from ..system import Parameterization
from ..train import FittedModel


def check_shapes(value: Any) -> None:
    """Raise `ValueError` unless every model and network in `value` has arrays of the shapes it is built with.

    Each is built again, abstractly, with the sizes that its own arrays and numbers tell.
    """
    for part in _parts(value):
        sizes = _sizes(part)
        if sizes is not None:
            wanted = inspect.signature(type(part).__init__).parameters
            arguments = {name: size for name, size in sizes.items() if name in wanted}
            _compare(part, _built(type(part), arguments))


def _built(cls: type, arguments: dict[str, Any]) -> Any:
    return eqx.filter_eval_shape(lambda key: cls(**arguments, key=key), jr.key(0))


def _parts(value: Any) -> Iterator[Any]:
    if isinstance(value, eqx.Module):
        yield value
        # The layers of an MLP are checked with it; with scan=True they are stacked, unlike any by itself.
        whole = isinstance(value, eqx.nn.MLP)
        value = () if whole else tuple(getattr(value, f.name) for f in dataclasses.fields(value))
    if isinstance(value, tuple):
        for item in value:
            yield from _parts(item)


def _sizes(part: Any) -> dict[str, Any] | None:
    """Arguments of the part's class; None for a class that is checked inside of another, or free in shape."""
    if isinstance(part, eqx.nn.MLP) and not part.scan and len(part.layers) != part.depth + 1:
        raise ValueError(f"an MLP of depth {part.depth} must have one layer more, got {len(part.layers)}")
    if isinstance(part, eqx.nn.MLP | eqx.nn.Linear):
        return {f.name: getattr(part, f.name) for f in dataclasses.fields(part) if f.metadata.get("static")}
    if isinstance(part, LBDN):
        return _lbdn_sizes(part)
    if isinstance(part, GRU | LSTM):
        return {"nu": part.system.D.shape[1], "nx": part.system.C.shape[1], "ny": part.system.by.size}
    if isinstance(part, Parameterization) and not isinstance(
        part, FittedModel | LipschitzStatic | Rescaled | StateObserver | CorrectedR2DN
    ):
        return _recurrent_sizes(part)
    return None


def _lbdn_sizes(part: LBDN) -> dict[str, Any]:
    hidden, no = tuple(layer.d.size for layer in part.layers), part.b.size
    first = (part.layers[0].XY.shape[0] - hidden[0]) if hidden else (part.XY.shape[0] - no)
    return {"ni": first, "no": no, "hidden": hidden}


def _recurrent_sizes(part: Any) -> dict[str, Any]:
    core = getattr(part, "core", part)
    inputs = next(
        getattr(core, name).shape[1]
        for name in ("B2", "B2_imp", "B2_free", "B", "B_imp")
        if hasattr(core, name)
    )
    never = core.by.size - core.H.shape[1] if isinstance(core, InnovationR2DN) else 0
    return {
        "nu": getattr(core, "nu", inputs),
        "nx": core.bx.size,
        "nv": core.bv.size if hasattr(core, "bv") else None,
        "ny": core.by.size - never,
        "nz": never,
        "hidden": (),
        "gamma": getattr(part, "gamma_start", None),
        "train_gamma": getattr(part, "log_gamma_ratio", None) is not None,
        **{name: getattr(part, name, None) for name in "QSR"},
    }


def _compare(part: Any, built: Any) -> None:
    given, expected = _shapes(part), _shapes(built)
    for name in expected.keys() | given.keys():
        if given.get(name) != expected.get(name):
            raise ValueError(
                f"{type(part).__name__}{name} must have shape {expected.get(name)}, got {given.get(name)}"
            )


def _shapes(part: Any) -> dict[str, tuple[int, ...]]:
    """Shapes by path, without those of phi, which may be any network and is a part of its own."""
    leaves = jax.tree_util.tree_leaves_with_path(part)
    named = {jax.tree_util.keystr(path): leaf for path, leaf in leaves if hasattr(leaf, "shape")}
    return {name: leaf.shape for name, leaf in named.items() if ".phi" not in name}
