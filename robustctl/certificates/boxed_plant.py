"""A sampled plant on a box: its step as a linear part and one channel for each entry of the Jacobian that is not the same everywhere.

::

    f(b) - f(a) = J (b - a),    J = middle + half * w    with w in [-1, 1] entry by entry,     for all a, b in the box

It is the step that runs, integrator included, whose Jacobian is bounded, and not the differential equation.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from typing_extensions import override

from ..affine import to_float64
from ..errors import InvalidModelError
from ..lft import LFT, Slopes, delay, joined, signals
from ..plants import PlantState, Sampled
from ..pytrees import fields_of
from .interval import Interval
from .jacobian_box import MeanSlopes, jacobian_box, mean_slopes

_NARROW = 1e-10
"""Of what a row of the Jacobian can move over the box: entries less wide count as rounding, which a region allows for."""

_SMALL = 0.02
"""Of the largest singular value: directions in which the slopes change less are bounded entry by entry."""

_NEAR = 1e-6
"""Of the half widths, by which a model's equilibrium may be off the plant's: they are computed apart from each other."""


@dataclasses.dataclass(frozen=True, eq=False)
class Watched(Slopes):
    """Channels without effect that show how far the signals of a plant are from the middle of its box.

    Their inputs are x, the control applied and d; their outputs, which are zero, move x, so that what is added to the
    state can be followed through a loop.

    **Arguments:**

    - `names`: of the signals, (n,).
    - `half`: half widths of the box, (n,).
    - `rounding`: what may be added to each state in a sample, (nx,).
    """

    names: tuple[str, ...]
    half: np.ndarray
    rounding: np.ndarray


class Boxed(Sampled):
    """A sampled plant that describes itself on a box, in which no control is at its limits."""

    # A function, because arrays may not be static
    form: Callable[[], LFT] | None = eqx.field(static=True, default=None)

    @override
    def lft(self) -> LFT | None:
        """Return the form from `[u, d]` to y on the box; its states are those of a `PlantState`."""
        return None if self.form is None else self.form()


def boxed(sampled: Sampled, slopes: "tuple[_Slopes, _Slopes]", half: np.ndarray, prefix: str = "") -> Boxed:
    """Return a sampled plant that describes itself on a box of `[x, u, d]`.

    **Arguments:**

    - `sampled`: the plant.
    - `slopes`: of its step and of its output, by `slopes_of`.
    - `half`: half widths of the box.
    - `prefix`: of the names of its signals.
    """
    plant, nx, nu = sampled.plant, len(sampled.plant.states), sampled.nu
    names = tuple(prefix + s.name for s in (*plant.states, *plant.controls, *plant.disturbances))
    held = _form(*slopes, nx, names, half)
    parts = [held, delay(nu, sampled.imperfections.delay), delay(nu, 1)]
    y, due, _, u, d = signals(parts, nu, held.nu - nu)
    form = joined(parts, [due, d, u, due], [y])
    fields: dict[str, Any] = fields_of(sampled) | {"form": lambda: form}
    return Boxed(**fields)


def boxed_loop(loop: PyTree, state: PyTree, point: np.ndarray, half: np.ndarray) -> Any:
    """Return a loop about a sampled plant with that plant, and each model of it in the controller, on a box.

    **Arguments:**

    - `loop`: of `feedback`; the plant comes first.
    - `state`: its equilibrium.
    - `point`: the middle of the box, [x, u, d].
    - `half`: its half widths.

    **Raises:** `InvalidModelError` for a model that does not rest where the plant does, and same errors as `boxed`.
    """
    nx = len(loop.plant.plant.states)
    states = [s.x for s in jax.tree.leaves(state, is_leaf=_is_state) if _is_state(s)]
    for x in states:
        if x.shape != (nx,) or not np.all(np.abs(np.asarray(x) - point[:nx]) <= _NEAR * half[:nx]):
            raise InvalidModelError(
                f"a model in the controller must rest where the plant does, at {point[:nx]}, got {np.asarray(x)}; design it for this plant"
            )
    wide, known = half * (1 + _NEAR), []

    def on_box(node):
        if not _is_plant(node):
            return node
        prefix = "model of " if known else ""
        # The model in an observer is most often the plant itself
        slopes = next((found for other, found in known if _moves_alike(node, other)), None)
        known.append((node, slopes or slopes_of(node, Interval(point - wide, point + wide))))
        return boxed(node, known[-1][1], wide, prefix)

    return jax.tree.map(on_box, loop, is_leaf=_is_plant)


def _is_plant(node) -> bool:
    return isinstance(node, Sampled)


def _is_state(node) -> bool:
    return isinstance(node, PlantState)


def _moves_alike(a: Sampled, b: Sampled) -> bool:
    plain = [dataclasses.replace(s, imperfections=type(s.imperfections)()) for s in (a, b)]
    return bool(eqx.tree_equal(*plain)) and a.imperfections.jitter == b.imperfections.jitter


class _Slopes(NamedTuple):
    """The slopes from an equilibrium, `middle + sum_k w_k effect_k input_k' + entries`, `|w_k| <= 1`, `|entries| <= half`.

    **Arguments:**

    - `middle`: (m, n).
    - `effect`: (m, channels).
    - `inputs`: (channels, n).
    - `half`: (m, n).
    """

    middle: np.ndarray
    effect: np.ndarray
    inputs: np.ndarray
    half: np.ndarray


def slopes_of(sampled: Sampled, box: Interval) -> tuple[_Slopes, _Slopes]:
    """Return the slopes of the step, by [x, u, d], and of the output, by x, from the middle of a box.

    **Raises:** `InvalidModelError` for a rate limit, a resolution or late samples, and same errors as `jacobian_box`.
    """
    given = fields_of(sampled.imperfections)
    for name in ("rate_limit", "resolution", "late"):
        if given[name] is not None:
            raise InvalidModelError(
                f"a plant on a box must be without {name}, whose slopes are not known; leave it off"
            )
    plant, nx, nu, n = sampled.plant, len(sampled.plant.states), sampled.nu, box.lo.size
    jitter = sampled.imperfections.jitter
    known = None if jitter else plant.lft()
    if known is not None and not known.blocks and (form := _plain(sampled).lft()) is not None:
        # A sampled linear plant has its matrices from its own form
        J = np.hstack([form.A[:nx, :nx], form.B2[:nx]])
        return _entries(Interval(J, J)), _entries(Interval(form.C2[:, :nx], form.C2[:, :nx]))

    def step(z):
        cast = to_float64(sampled)
        return cast.hold(z[:nx], z[nx : nx + nu], z[nx + nu : n], z[n] if jitter else jnp.asarray(sampled.dt))

    H = _entries(jacobian_box(lambda x: to_float64(plant).output(x), box.map(lambda a: a[:nx])))
    if jitter:
        # The length of a sample moves nothing at an equilibrium
        lengths = sampled.dt * (1 - jitter), sampled.dt * (1 + jitter)
        box = Interval(*(np.append(end, length) for end, length in zip(box, lengths, strict=True)))
    return _together(mean_slopes(step, box, n), (box.hi - box.lo)[:n] / 2), H


def _entries(J: Interval) -> _Slopes:
    """Return slopes whose entries are independent."""
    middle, half = _middle(J)
    return _Slopes(middle, np.zeros((len(middle), 0)), np.zeros((0, middle.shape[1])), half)


def _together(slopes: MeanSlopes, half: np.ndarray) -> _Slopes:
    """Return slopes of which those that change together, in proportion to one variable, are few channels."""
    rows, rest = half[: len(slopes.middle)], slopes.half
    matrices = [slopes.curvature[:, :, k] * half[k] / 2 for k in np.flatnonzero(half > 0)]
    # Without units: what each does to a deviation over the box
    seen = [np.linalg.svd(M * half / rows[:, None], full_matrices=False) for M in matrices]
    largest = max((s[0] for _, s, _ in seen), default=0.0)
    effect, inputs = [np.zeros((len(rows), 0))], [np.zeros((0, half.size))]
    for M, (U, s, V) in zip(matrices, seen, strict=True):
        kept = s > _SMALL * max(largest, _SMALL)
        # A variable that does not move has no unit to divide by, and no effect
        b = np.divide(V[kept], half, out=np.zeros_like(V[kept]), where=half > 0)
        a = rows[:, None] * U[:, kept] * s[kept]
        rest = rest + np.where(half > 0, np.abs(M - a @ b), 0.0) * (1 + 1e-9)
        effect.append(a)
        inputs.append(b)
    return _Slopes(slopes.middle, np.hstack(effect), np.vstack(inputs), rest)


def _plain(sampled: Sampled) -> Sampled:
    """Return the plant without imperfections: its saturation is left out on the box, and a delay is added after."""
    return dataclasses.replace(sampled, imperfections=type(sampled.imperfections)())


def _form(J: _Slopes, H: _Slopes, nx: int, names: tuple[str, ...], half: np.ndarray) -> LFT:
    n, ny = len(names), len(H.middle)
    reach = np.where(J.half > 0, J.half * half, 0.0)
    wide = reach > _NARROW * (np.abs(J.middle) * half + reach).sum(1, keepdims=True)
    rounding = np.where(wide, 0.0, reach).sum(1)
    entries = [(i, j, J.half[i, j]) for i, j in np.argwhere(wide)]
    seen = [(nx + i, j, H.half[i, j]) for i, j in np.argwhere(H.half > 0)]
    every = [*entries, *seen]
    inputs, effect = np.zeros((len(every), n)), np.zeros((nx + ny, len(every)))
    for k, (row, column, width) in enumerate(every):
        inputs[k, column], effect[row, k] = 1.0, width
    V = np.vstack([np.eye(n), J.inputs, inputs])
    W = np.hstack([np.eye(nx + ny, n) * (np.arange(n) < nx), np.pad(J.effect, ((0, ny), (0, 0))), effect])
    ones, zeros = np.ones(len(V) - n), np.zeros(n)
    blocks = (Watched(zeros, zeros, names, half, rounding), *([Slopes(-ones, ones)] if ones.size else []))
    A = J.middle
    return LFT(
        A[:, :nx], W[:nx], A[:, nx:], V[:, :nx], np.zeros((len(V), W.shape[1])), V[:, nx:], H.middle, W[nx:],
        np.zeros((ny, n - nx)), blocks,
    )  # fmt: skip


def _middle(bounds: Interval) -> tuple[np.ndarray, np.ndarray]:
    """Return the middle of bounds and a half width that covers them."""
    middle = bounds.lo / 2 + bounds.hi / 2
    half = np.maximum(bounds.hi - middle, middle - bounds.lo)
    return middle, np.where(bounds.lo == bounds.hi, 0.0, np.nextafter(half, np.inf))
