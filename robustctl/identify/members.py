"""The members of an ensemble: their models stacked, and what is trained of them as two matrices."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from ..system import Parameterization
from ..train.optimizer import in_linear_part


class Member(NamedTuple):
    """An untrained model, and the state at the start of each experiment (experiments, nx)."""

    model: Parameterization
    x0: np.ndarray


class Members(NamedTuple):
    """The models, their arrays stacked, and the state at the start of each piece (members, pieces, nx)."""

    models: Any
    x0: Array


class Trained(NamedTuple):
    """What is trained, one row a member.

    The compiler takes as long for a small array as for a large one: as two matrices, a training compiles in two thirds of the time that
    it takes with an array for each of the models'.

    **Arguments:**

    - `linear`: all arrays of the linear parts.
    - `network`: all others of the models.
    - `x0`: the state at the start of each piece (members, pieces, nx).
    """

    linear: Float[Array, "k _a"]
    network: Float[Array, "k _b"]
    x0: Float[Array, "k P nx"]


class Places(NamedTuple):
    """Where in the two matrices the arrays of the models are; equal for equal models, so that these compile once."""

    structure: Any
    shapes: tuple[tuple[int, ...], ...]
    linear: tuple[bool, ...]


def flattened(arrays: PyTree, x0: Array) -> tuple[Trained, Places]:
    """Return stacked arrays as matrices, and the position of each in them."""
    paths, structure = jax.tree_util.tree_flatten_with_path(arrays)
    places = Places(
        structure, tuple(a.shape for _, a in paths), tuple(in_linear_part(path) for path, _ in paths)
    )
    rows: dict[bool, list[Array]] = {True: [], False: []}
    for (_, a), is_linear in zip(paths, places.linear, strict=True):
        rows[is_linear].append(a.reshape(len(a), -1))
    none = jnp.zeros((len(x0), 0), x0.dtype)
    linear, network = (jnp.concatenate([none, *rows[is_linear]], axis=1) for is_linear in (True, False))
    return Trained(linear, network, x0), places


def arrays_of(trained: Trained, places: Places) -> PyTree:
    """Return the stacked arrays that matrices hold."""
    matrices, at, found = {True: trained.linear, False: trained.network}, {True: 0, False: 0}, []
    for shape, is_linear in zip(places.shapes, places.linear, strict=True):
        first, size = at[is_linear], int(np.prod(shape[1:]))
        at[is_linear] = first + size
        found.append(matrices[is_linear][:, first : first + size].reshape(shape))
    return jax.tree.unflatten(places.structure, found)


def stacked(models: Sequence[Parameterization]) -> Any:
    """Return models of equal shapes as one, their arrays stacked."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves) if eqx.is_array(leaves[0]) else leaves[0], *models)


def members_of(stack: Any) -> list[Any]:
    """Return the members of a stack."""
    count = jax.tree.leaves(eqx.filter(stack, eqx.is_inexact_array))[0].shape[0]
    return [jax.tree.map(lambda a, k=k: a[k] if eqx.is_array(a) else a, stack) for k in range(count)]
