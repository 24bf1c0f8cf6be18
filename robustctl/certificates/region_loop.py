"""A loop about a nonlinear plant, its box and its equilibrium: what a region is searched from, and simulations that contradict one."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import PyTree

from ..affine import to_float64
from ..checks import of_type
from ..errors import InvalidModelError, RobustctlError
from .content import fingerprint
from .coordinates import opened
from .faults import system_fault
from .region_program import Watch, watch

if TYPE_CHECKING:
    from .region import Region

_OFF = 1e-3
"""Of the box, by which its middle may move in a sample and still count as an equilibrium: rounding in float32 stays below."""


class Given(NamedTuple):
    """A loop in float64, its box, and the equilibrium that is the middle of it.

    **Arguments:**

    - `loop`: in float64.
    - `names`: of states, controls and disturbances.
    - `half`: their half widths, zero for disturbances that do not act.
    - `middle`: the loop's state as a vector; `restore` returns it in its own form.
    - `point`: middle of the box, [x, u, d].
    - `w`: what acts at the equilibrium.
    - `drift`: what the middle moves by in a sample.
    - `reference`: the constant references.
    - `fingerprint`: of the loop as it was given.
    """

    loop: Any
    names: tuple[str, ...]
    half: np.ndarray
    middle: np.ndarray
    restore: Any
    point: np.ndarray
    w: Any
    drift: np.ndarray
    reference: tuple[float, ...]
    fingerprint: str

    @classmethod
    def of(cls, loop: Any, box: Mapping[str, float], middle: PyTree, reference: Sequence[float]) -> "Given":
        """Return the loop and its box, or refuse them."""
        from ..loops import Feedback  # slow to import

        must = "a region is of a loop about a rc.plants.Sampled, by rc.loops.feedback"
        if of_type(loop, Feedback, must, error=InvalidModelError).sampled is None:
            raise InvalidModelError(f"{must}, got one about a {type(loop.plant).__name__}")
        if fault := system_fault(loop):
            raise InvalidModelError(fault)
        plant, count = loop.sampled.plant, (loop.reads or loop.plant.ny) - loop.plant.ny
        if len(reference) != count:
            raise InvalidModelError(
                f"there must be one constant reference for each of {count} that the controller reads, got {list(reference)}; "
                "give reference="
            )
        print_of = fingerprint(loop)
        with jax.enable_x64(True):
            loop = to_float64(loop)
            state = _state(loop, middle)
            w = to_float64(loop.plant.undisturbed())._replace(r=jnp.asarray(reference, jnp.float64))
            flat, restore = ravel_pytree(state)
            after, output = _stepped(loop, state, w)
            flat, drift = np.asarray(flat), np.asarray(ravel_pytree(after)[0] - flat)
            x, u = np.asarray(state[0].x), np.asarray(output.u)
        names = tuple(s.name for s in (*plant.states, *plant.controls, *plant.disturbances))
        point = np.concatenate([x, u, np.zeros(len(plant.disturbances))])
        half = _half_widths(loop.plant, box, names, point)
        _check_rest(names, half, drift, len(plant.states), x)
        constants = tuple(float(r) for r in reference)
        return cls(loop, names, half, flat, restore, point, w, drift, constants, print_of)

    def watched(self, factor: float) -> Watch:
        """Return the loop on the box, its states and controls at `factor` of their half widths."""
        from .boxed_plant import Watched, boxed_loop

        half = self.half.copy()
        half[: len(half) - len(self.loop.plant.plant.disturbances)] *= factor
        form = boxed_loop(self.loop, self.restore(self.middle), self.point, half).lft()
        if form is None:
            raise InvalidModelError(
                f"the controller must describe itself by lft(), and {type(self.loop.policy).__name__} does not; without it nothing is known"
            )
        form = opened(form)
        marks = [block for block in form.blocks if isinstance(block, Watched)]
        nd = len(self.loop.plant.plant.disturbances)
        return watch(form, marks, half[len(half) - nd :], len(self.loop.plant.plant.states), self.drift)

    def check(self, region: "Region") -> None:
        """Step random states of the region, and refuse a loop that does not do what its form describes."""
        rng = np.random.default_rng(0)
        states = region.sample(rng, 256, 0.98)
        d = np.array([region.disturbance.get(s.name, 0.0) for s in self.loop.plant.plant.disturbances])
        with jax.enable_x64(True):
            ws = self.w._replace(d=jnp.asarray(d * rng.choice([-1, 1], (256, d.size))))
            after = np.asarray(_stepped_all(self.loop, self.restore, jnp.asarray(states), ws)) - self.middle
        levels = np.einsum("kn,nm,km->k", after, region.P, after)
        if not np.all(levels <= 1):
            raise InvalidModelError(
                f"the loop must do what its lft() describes, but a step from inside the region left it, to V = {np.nanmax(levels):.4g}; "
                f"correct lft() of {type(self.loop.policy).__name__} or of its parts"
            )

    def escapes(self, samples: int = 500) -> str:
        """Return where a simulation left the box, from starts at half of it, empty where none did."""
        nx = len(self.loop.plant.plant.states)
        starts = self.point[:nx] + 0.5 * self.half[:nx] * np.random.default_rng(0).uniform(-1, 1, (64, nx))
        states = np.tile(self.middle, (64, 1))
        states[:, :nx] = starts
        with jax.enable_x64(True):
            xs = np.asarray(_paths(self.loop, self.restore, jnp.asarray(states), self.w, samples))[:, :, :nx]
        outside = ~(np.abs(xs - self.point[:nx]) <= self.half[:nx])
        left = np.flatnonzero(outside.any((1, 2)))
        if not left.size:
            return ""
        k = int(left[0])
        t = int(np.argmax(outside[k].any(1)))
        name = self.names[int(np.argmax(outside[k, t]))]
        return (
            f"In simulation {left.size} of 64 trajectories from within half of the box left it, without disturbance: from "
            f"{_few(starts[k])} after {t + 1} samples, by {name}"
        )


def _state(loop: Any, middle: PyTree) -> PyTree:
    """Return a state in its own form, given so, as a vector, or as None for the initial one."""
    initial = loop.init_state()
    flat, restore = ravel_pytree(initial)
    match middle:
        case None:
            return initial
        case np.ndarray() if middle.shape == flat.shape:
            return restore(jnp.asarray(middle, flat.dtype))
        case _:
            return to_float64(jax.tree.map(jnp.asarray, middle))


def _half_widths(
    sampled: Any, box: Mapping[str, float], names: tuple[str, ...], point: np.ndarray
) -> np.ndarray:
    """Return one half width a signal: those given, the limits of controls, zero for disturbances.

    **Raises:** `RobustctlError`.
    """
    plant = sampled.plant
    if unknown := [name for name in box if name not in names]:
        raise RobustctlError(f"the box must be of the plant's signals, {list(names)}, got {unknown[0]!r}")
    half = []
    for k, signal in enumerate((*plant.states, *plant.controls, *plant.disturbances)):
        disturbance = k >= len(plant.states) + len(plant.controls)
        own = min(point[k] - signal.low, signal.high - point[k])
        # The limits of a state are where its equations end, those of a control where its actuator clips it.
        limit = (
            own if not disturbance and (k < len(plant.states) or sampled.imperfections.saturate) else np.inf
        )
        known = k >= len(plant.states) and not disturbance
        size = float(box.get(signal.name, 0.0 if disturbance else own if known else np.nan))
        if not (np.isfinite(size) and (size > 0 or (disturbance and signal.name not in box))):
            raise RobustctlError(
                f"the box must be bounded, a positive half width for each state and control, got {box.get(signal.name)} for "
                f"{signal.name!r}; add {{{signal.name!r}: how far it may be from its equilibrium, in {signal.unit or 'its unit'}}}"
            )
        if size > limit:
            raise RobustctlError(
                f"the box must be within the plant's limits, {limit:.4g} from the equilibrium of {signal.name!r}, got {size:.4g}"
            )
        half.append(size)
    return np.array(half)


def _check_rest(names: tuple[str, ...], half: np.ndarray, drift: np.ndarray, nx: int, x: np.ndarray) -> None:
    moved = np.abs(drift[:nx]) / half[:nx]
    if not np.all(moved <= _OFF) or not np.isfinite(drift).all():
        k = int(np.argmax(moved))
        raise InvalidModelError(
            f"the middle of the box must be an equilibrium of the loop, but at x = {_few(x)} {names[k]} moves by {drift[k]:.4g} in a "
            "sample; give middle=rc.classical.equilibrium(loop).x, or a controller for this operating point"
        )


def _few(a: np.ndarray) -> str:
    return np.array2string(a, precision=4, threshold=8, edgeitems=3, separator=", ")


@eqx.filter_jit
def _stepped(loop, state, w):
    return loop.step(state, w)


@eqx.filter_jit
def _stepped_all(loop, restore, states, ws):
    def one(state, d):
        return ravel_pytree(loop.step(restore(state), ws._replace(d=d))[0])[0]

    return jax.vmap(one)(states, ws.d)


@eqx.filter_jit
def _paths(loop, restore, states, w, samples: int):
    def body(state, _):
        after = ravel_pytree(loop.step(restore(state), w)[0])[0]
        return after, after

    return jax.vmap(lambda start: jax.lax.scan(body, start, None, samples)[1])(states)
