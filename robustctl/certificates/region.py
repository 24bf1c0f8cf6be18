"""A region that a loop about a nonlinear plant does not leave, proven on a box.

::

    V = dx' P dx <= 1   is inside the box:   |dx_j|, |du_j| <= half_j
    V+ <= rate^2 V + sum mu_k (d_k / half_k)^2      for the step on the box, whatever its slopes there are

of the difference to an equilibrium. So the loop stays inside, with every disturbance of at most `sqrt((1 - rate^2) / sum mu)` times the
box's half widths.
"""

import dataclasses
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import PyTree

from ..affine import to_float64
from ..errors import ModelError, RobustctlError
from .coordinates import opened
from .prove import fault_of
from .region_program import Found, Watch, largest, watch

if TYPE_CHECKING:
    from ..loops import Feedback

_OFF = 1e-3
"""Of the box, by which its middle may move in a sample and still count as an equilibrium: rounding in float32 stays below."""


@dataclasses.dataclass(frozen=True, eq=False)
class Region:
    """A region in which a loop stays, `(x - middle)' P (x - middle) <= 1` of its whole state x.

    **Arguments:**

    - `P`: of the loop's state as one vector, (n, n).
    - `middle`: the equilibrium, (n,).
    - `states`: the plant's states, which come first, by name.
    - `rate`: without disturbance `sqrt(V)` falls by this factor per sample.
    - `disturbance`: the largest disturbances that cannot drive the loop out, by name, in their units.
    - `bounds`: how far each state and control can be from the equilibrium in the region, by name, in its unit.
    - `starts`: how far each state of the plant can start from the equilibrium while all else is there.
    - `box`: the half widths that the proof is for.
    - `assumptions`: what it assumes, in words.
    """

    P: np.ndarray
    middle: np.ndarray
    states: tuple[str, ...]
    rate: float
    disturbance: dict[str, float]
    bounds: dict[str, float]
    starts: dict[str, float]
    box: dict[str, float]
    assumptions: tuple[str, ...]

    def level(self, state: PyTree) -> float:
        """Return V of a state of the loop, in its own form or as a vector; it is in the region where V is at most 1.

        **Raises:** `RobustctlError` for a state of another size.
        """
        flat = np.asarray(ravel_pytree(state)[0], np.float64)
        if flat.shape != self.middle.shape:
            raise RobustctlError(
                f"the state must be that of the loop, of {self.middle.size} numbers, got {flat.size}"
            )
        dx = flat - self.middle
        return float(dx @ self.P @ dx)

    def sample(self, rng: np.random.Generator, count: int, level: float = 1.0) -> np.ndarray:
        """Return states on the surface `V = level`, (count, n), in random directions."""
        inside = rng.normal(size=(count, self.middle.size))
        inside /= np.linalg.norm(inside, axis=1, keepdims=True)
        return self.middle + np.sqrt(level) * np.linalg.solve(np.linalg.cholesky(self.P).T, inside.T).T

    def __str__(self) -> str:
        """Return what is proven, in lines."""
        lines = [
            f"region of a loop, proven on the box: approaching its equilibrium at a rate of {self.rate:.6g} per sample"
        ]
        for name, half in self.box.items():
            inside = f"at most {self.bounds[name]:.4g}" if name in self.bounds else ""
            start = f", from {self.starts[name]:.4g} alone at the start" if name in self.starts else ""
            allowed = f"may be up to {self.disturbance[name]:.4g}" if name in self.disturbance else ""
            lines.append(f"  {name}: {inside}{allowed}{start} (box {half:.4g})")
        return "\n".join([*lines, *(f"  assumed: {text}" for text in self.assumptions)])


def region(
    loop: "Feedback", box: Mapping[str, float], *, middle: PyTree = None, seconds: float = 60.0
) -> Region:
    """Prove a region that a loop about a nonlinear plant does not leave, with its limits on states and controls.

    The Jacobian of the sampled step as it runs is bounded on the box by interval arithmetic; each entry that is not the same everywhere
    becomes a channel with known slopes, and the loop with these is proven as any other. A controller that has the plant's model in it,
    as a base controller does, has the same box for that.

    **Arguments:**

    - `loop`: of `rc.loops.feedback` about a `rc.plants.Sampled`, with a controller that describes itself by `lft()`.
    - `box`: half widths about the equilibrium, by the names of the plant's states, controls and disturbances, in their units.
      Controls not named have their limits; disturbances not named do not act.
    - `middle`: the loop's equilibrium, a state in its own form; default its initial state, with the plant at its operating point.
    - `seconds`: time limit.

    **Raises:** `RobustctlError` for names that the plant does not have, a half width that is missing, not positive or not finite, a middle
    that is no equilibrium, operations in the plant whose slopes cannot be bounded, and a box on which no region could be proven, with
    what a simulation from inside of it does.

    **Example:** ::

        tanks = rc.plants.Sampled(rc.plants.TwoTanks(), dt=2.0)
        loop = rc.loops.feedback(tanks, rc.classical.PID(0.5, 0.01, dt=2.0, y0=10.0, u0=2.9865))
        print(rc.certificates.region(loop, {"upper": 2.0, "lower": 2.0, "pump": 1.0}))
    """
    deadline = time.monotonic() + _positive(seconds)
    given = _Given.of(loop, box, middle)
    watched = given.watched(1.0)
    found = largest(watched, deadline)
    if found is None:
        raise RobustctlError(_refusal(given, deadline))
    return _region(given, watched, found)


def _positive(seconds: float) -> float:
    if not seconds > 0:
        raise RobustctlError(f"seconds must be positive, got {seconds}")
    return seconds


def _region(given: "_Given", watched: Watch, found: Found) -> Region:
    plant, names = given.loop.plant.plant, given.names
    states = tuple(s.name for s in plant.states)
    nx = len(states)
    half = dict(zip(names, given.half, strict=True))
    inside = {name: size for name, size in zip(watched.names, found.bounds, strict=True) if name in half}
    disturbed = [s.name for s in plant.disturbances if half[s.name] > 0]
    result = Region(
        found.P, given.middle, states, found.rate, {name: float(found.allowed * half[name]) for name in disturbed},
        {name: float(size) for name, size in inside.items()},
        {name: float(min(1 / np.sqrt(found.P[k, k]), half[name])) for k, name in zip(range(nx), states, strict=True)},
        {name: float(size) for name, size in half.items() if size > 0},
        (*watched.form.assumptions, *_assumed(given)),
    )  # fmt: skip
    given.check(result)
    return result


def _assumed(given: "_Given") -> tuple[str, ...]:
    """What the loop has and the proof has not."""
    texts = ["the rounding of a sample is not counted"]
    if given.loop.plant.imperfections.noise is not None:
        texts.append("the readings have no noise")
    return tuple(texts)


def _refusal(given: "_Given", deadline: float) -> str:
    """Return why there is no region: what a simulation shows, and how small a box has one."""
    text = "no region could be proven on this box; take a smaller one, fewer disturbances, or a controller with more damping"
    if reason := fault_of(given.watched(1.0).form):
        text = f"{text} ({reason})"
    if left := given.escapes():
        text = f"{text}. {left}"
    for factor in (0.5, 0.2, 0.05):
        if time.monotonic() > deadline:
            break
        if largest(given.watched(factor), deadline) is not None:
            return f"{text}. With states at {factor:g} of these half widths a region could be proven"
    return text


class _Given(NamedTuple):
    """A loop in float64, its box, and the equilibrium that is the middle of it.

    **Arguments:**

    - `loop`: in float64.
    - `names`: of states, controls and disturbances.
    - `half`: their half widths, zero for disturbances that do not act.
    - `middle`: the loop's state as a vector; `restore` returns it in its own form.
    - `point`: middle of the box, [x, u, d].
    - `w`: what acts at the equilibrium.
    - `drift`: what the middle moves by in a sample.
    """

    loop: Any
    names: tuple[str, ...]
    half: np.ndarray
    middle: np.ndarray
    restore: Any
    point: np.ndarray
    w: Any
    drift: np.ndarray

    @classmethod
    def of(cls, loop: Any, box: Mapping[str, float], middle: PyTree) -> "_Given":
        """Return the loop and its box, or refuse them."""
        from ..loops import Feedback  # slow to import

        if not (isinstance(loop, Feedback) and loop.sampled is not None):
            raise ModelError(
                f"a region is of a loop about a rc.plants.Sampled, by rc.loops.feedback, got {type(loop).__name__}"
            )
        plant = loop.sampled.plant
        with jax.enable_x64(True):
            loop = to_float64(loop)
            state = loop.init_state() if middle is None else to_float64(jax.tree.map(jnp.asarray, middle))
            w = to_float64(loop.plant.undisturbed((loop.reads or loop.plant.ny) - loop.plant.ny))
            flat, restore = ravel_pytree(state)
            after = ravel_pytree(_stepped(loop, state, w))[0]
            flat, drift = np.asarray(flat), np.asarray(after - flat)
            x, u = np.asarray(state[0].x), np.asarray(loop.step(state, w)[1].u)
        names = tuple(s.name for s in (*plant.states, *plant.controls, *plant.disturbances))
        point = np.concatenate([x, u, np.zeros(len(plant.disturbances))])
        half = _half_widths(loop.plant, box, names, point)
        _check_rest(names, half, drift, len(plant.states), x)
        return cls(loop, names, half, flat, restore, point, w, drift)

    def watched(self, factor: float) -> Watch:
        """Return the loop on the box, its states and controls at `factor` of their half widths."""
        from .boxed_plant import Watched, boxed_loop

        half = self.half.copy()
        half[: len(half) - len(self.loop.plant.plant.disturbances)] *= factor
        form = boxed_loop(self.loop, self.restore(self.middle), self.point, half).lft()
        if form is None:
            raise ModelError(
                f"the controller must describe itself by lft(), and {type(self.loop.policy).__name__} does not; without it nothing is known"
            )
        form = opened(form)
        marks = [block for block in form.blocks if isinstance(block, Watched)]
        nd = len(self.loop.plant.plant.disturbances)
        return watch(form, marks, half[len(half) - nd :], len(self.loop.plant.plant.states), self.drift)

    def check(self, region: Region) -> None:
        """Step random states of the region, and refuse a loop that does not do what its form describes."""
        rng = np.random.default_rng(0)
        states = region.sample(rng, 256, 0.98)
        d = np.array([region.disturbance.get(s.name, 0.0) for s in self.loop.plant.plant.disturbances])
        with jax.enable_x64(True):
            ws = self.w._replace(d=jnp.asarray(d * rng.choice([-1, 1], (256, d.size))))
            after = np.asarray(_stepped_all(self.loop, self.restore, jnp.asarray(states), ws)) - self.middle
        levels = np.einsum("kn,nm,km->k", after, region.P, after)
        if not np.all(levels <= 1):
            raise ModelError(
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
        raise ModelError(
            f"the middle of the box must be an equilibrium of the loop, but at x = {_few(x)} {names[k]} moves by {drift[k]:.4g} in a "
            "sample; give middle=rc.classical.equilibrium(loop).x, or a controller for this operating point"
        )


def _few(a: np.ndarray) -> str:
    return np.array2string(a, precision=4, threshold=8, edgeitems=3, separator=", ")


@eqx.filter_jit
def _stepped(loop, state, w):
    return loop.step(state, w)[0]


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
