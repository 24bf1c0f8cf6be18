"""Why a system cannot be certified whatever its matrices prove: arrays, shapes and claims without a meaning."""

import functools
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.dtypes import canonicalize_dtype

from ..errors import InvalidModelError
from ..lft import LFT, Claim
from ..pytrees import fields_of, is_key, is_numeric, items_of
from ..system import System, dtype_of


def complex_fault(system: System) -> str:
    """Return which array of a system is not of real numbers, empty where all are."""
    for name, leaf in _numbers(system):
        if np.iscomplexobj(leaf) or np.asarray(leaf).dtype == np.dtype(object):
            return f"{name} must be of real numbers, got {np.asarray(leaf).dtype}; a certificate covers real systems"
    return ""


_NO_LIMIT = {"low": -np.inf, "high": np.inf}
"""How the names of a signal's or a controller's limits end, `y_low` for example, and the value of one that is not there: it changes no
step."""


def array_fault(system: System) -> str:
    """Return which array of a system is not finite, empty where all are: `step` may read any of them."""
    # The metric counts as well: which arrays a step reads is not known of every class.
    for name, leaf in _numbers(system):
        values = np.asarray(leaf, np.float64).ravel()
        end = name.rpartition(".")[2].rpartition("_")[2]
        allowed = np.isfinite(values) | (values == _NO_LIMIT.get(end, np.nan))
        if not allowed.all():
            wrong = values[~allowed][0]
            return f"{name} must be finite, got {wrong}; where training left weights that are not finite, train again with a smaller step"
    return ""


def _numbers(system: System) -> Iterator[tuple[str, Any]]:
    """Arrays and numbers by name, static fields apart; random keys are none."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(system):
        if is_numeric(leaf):
            yield jax.tree_util.keystr(path).lstrip("."), leaf


def hidden_fault(part: Any) -> str:
    """Return which method an object of a system hides by an attribute, empty where none: a call outside `jit` takes that."""
    match part:
        case tuple() | list() | dict():
            inside = [item for _, item in items_of(part)]
        case eqx.Module():
            fields = fields_of(part)
            hidden = (vars(part).keys() - fields.keys()) & set(dir(type(part)))
            if hidden:
                return (
                    f"{type(part).__name__} must compute by the methods of its class, but {min(hidden)} was set on the object; "
                    "write a subclass"
                )
            inside = fields.values()
        case _:
            return ""
    return next((found for item in inside if (found := hidden_fault(item))), "")


def system_fault(system: System) -> str:
    """Return why nothing can be certified of a system as it is stepped, empty where nothing is known against it."""
    return complex_fault(system) or array_fault(system) or hidden_fault(system) or step_fault(system)


def step_fault(system: System) -> str:
    """Return how a step's state or output has other shapes than the system's, empty where they agree.

    Arithmetic repeats an array with too few entries and returns more outputs for one with too many, without an error.
    """
    try:
        x, x_next, y = step_shapes(system)
    except Exception as error:
        return f"its arrays must fit together, got a step that fails with: {str(error)[:200]}"
    given, needed = ([leaf.shape for leaf in jax.tree.leaves(tree)] for tree in (x_next, x))
    if x_next is not None and given != needed:
        return f"the state after a step must have the shapes {needed}, got {given}; its arrays do not fit together"
    vectors = y is not None and all(len(leaf.shape) == 1 for leaf in y)
    if y is not None and system.ny is not None and not (vectors and _size(y) == system.ny):
        return f"a step must return ny = {system.ny} outputs, got shapes {[leaf.shape for leaf in y]}; its arrays do not fit together"
    return ""


def step_shapes(system: System) -> tuple[Any, Any, list | None]:
    """Return the shapes of the state, of the state after a step and of the outputs; None where the input is unknown.

    **Raises:** whatever a step raises whose arrays do not fit together.
    """
    leaves, structure = jax.tree.flatten(jax.tree.map(_abstract, system))
    nu = system.input_size
    try:
        hash((structure, *leaves))
    except TypeError:  # a static field or a random key that has no hash
        return _traced_shapes.__wrapped__(nu, structure, *leaves)
    return _traced_shapes(nu, structure, *leaves)


# Tracing is most of a small model's certificate, and models of one structure are certified again and again.
@functools.lru_cache(maxsize=64, typed=True)
def _traced_shapes(nu: int | None, structure: Any, *leaves: Any) -> tuple[Any, Any, list | None]:
    abstract = jax.tree.unflatten(structure, leaves)
    x = eqx.filter_eval_shape(lambda s: s.init_state(), abstract)
    if nu is None:
        return x, None, None
    u = jax.ShapeDtypeStruct((nu,), dtype_of(abstract))
    x_next, y = eqx.filter_eval_shape(lambda s, x, u: s.step(x, u), abstract, x, u)
    return x, x_next, jax.tree.leaves(y)


def _abstract(leaf: Any) -> Any:
    """A mode may have float64 arrays where JAX runs in 32 bits; its shapes are looked at in the dtype that JAX has then."""
    if not eqx.is_array(leaf) or is_key(leaf):
        return leaf
    return jax.ShapeDtypeStruct(leaf.shape, canonicalize_dtype(leaf.dtype))


def check_sizes(system: System, form: LFT) -> None:
    """Raise `InvalidModelError` unless the form has as many states, inputs and outputs as the system steps with."""
    x, _, y = step_shapes(system)
    found, wanted = {"states": form.nx}, {"states": _size(x)}
    if y is not None:
        found |= {"inputs": form.nu, "outputs": form.ny}
        wanted |= {"inputs": system.nu, "outputs": _size(y)}
    if found != wanted:
        raise InvalidModelError(
            f"lft() of {type(system).__name__} must describe what its step does, with {wanted}, got {found}; correct lft(), "
            "or leave it out and no claim is made"
        )


def _size(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def form_fault(form: LFT) -> str:
    """Return why a form is none: matrices that do not fit each other or the blocks, or bounds that bound nothing."""
    nx, nu, ny = form.nx, form.nu, form.ny
    nv, nw = sum(block.nv for block in form.blocks), sum(block.nw for block in form.blocks)
    rows, columns = (nx, nv, ny), (nx, nw, nu)
    # In the order of the fields: A B1 B2, C1 D11 D12, C2 D21 D22.
    needed = [(row, column) for row in rows for column in columns]
    for name, M, shape in zip(LFT._fields, form.matrices, needed, strict=False):
        if M.shape != shape:
            return f"{name} must have shape {shape} to fit the other matrices and the blocks, got {M.shape}"
    for block in form.blocks:
        if block.fault:
            return block.fault
    return ""


def claim_fault(form: LFT, claim: Claim) -> str:
    """Return why a claim cannot be proven for a form whatever its numbers; the metric is one's own to find."""
    if not 0 < claim.rate <= 1:
        return f"the rate must be in (0, 1], got {claim.rate:.6g}"
    if claim.supply is not None:
        needed = {"Q": (form.ny, form.ny), "S": (form.nu, form.ny), "R": (form.nu, form.nu)}
        for (name, shape), M in zip(needed.items(), claim.supply, strict=True):
            if M.shape != shape or not np.isfinite(M).all():
                return f"{name} of the supply rate must be finite and of shape {shape}, got {M.tolist()}; gamma must be positive"
    return _multiplier_fault(form, claim)


def _multiplier_fault(form: LFT, claim: Claim) -> str:
    """A negative multiplier would turn what is known of a block around."""
    if claim.multipliers is None:
        return ""
    if len(claim.multipliers) != len(form.blocks):
        return (
            f"there must be a multiplier for each of {len(form.blocks)} blocks, got {len(claim.multipliers)}"
        )
    for block, T in zip(form.blocks, claim.multipliers, strict=True):
        size = block.multipliers
        if np.size(T) not in (1, size) or np.ndim(T) > 1 or not (np.isfinite(T).all() and np.all(T >= 0)):
            return f"a block's multipliers must be {size} finite numbers of at least 0, got {np.asarray(T).tolist()}"
    return ""
