"""A region that a loop about a nonlinear plant does not leave, proven on a box.

::

    V = dx' P dx <= 1   is inside the box:   |dx_j|, |du_j| <= half_j
    V+ <= rate^2 V + sum mu_k (d_k / half_k)^2      for the step on the box, whatever its slopes there are

of the difference to an equilibrium. So the loop stays inside, with every disturbance of at most `sqrt((1 - rate^2) / sum mu)` times the
box's half widths.
"""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import PyTree

from ..errors import RobustctlError
from ..pytrees import fields_of
from .progress import deadline_after
from .prove import fault_of
from .region_loop import Given
from .region_program import Found, RegionProof, Watch, largest
from .stored import from_text, to_text

if TYPE_CHECKING:
    from ..loops import Feedback


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
    - `proof`: what proves it besides `P`.
    - `reference`: the constant references that it is for.
    - `fingerprint`: of the loop, see `rc.certificates.fingerprint`.
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
    proof: RegionProof
    reference: tuple[float, ...]
    fingerprint: str

    def to_json(self) -> str:
        """Return the region and its proof as JSON text, which `rc.certificates.recheck` takes back; numbers keep all their digits."""
        arrays = {"P": self.P.tolist(), "middle": self.middle.tolist(), "proof": self.proof.to_fields()}
        return to_text(fields_of(self) | arrays)

    @classmethod
    def from_json(cls, text: str) -> "Region":
        """Return the region that `to_json` wrote.

        **Raises:** `RobustctlError` for text that it did not write or of another format version.
        """
        return from_text(text, cls._of_fields)

    @classmethod
    def _of_fields(cls, fields: dict) -> "Region":
        arrays = {name: np.asarray(fields.pop(name), np.float64) for name in ("P", "middle")}
        tuples = {name: tuple(fields.pop(name)) for name in ("states", "assumptions", "reference")}
        return cls(proof=RegionProof.from_fields(fields.pop("proof")), **arrays, **tuples, **fields)

    @property
    def plant_P(self) -> np.ndarray:
        """P of the plant's states alone, of all values of the others, (nx, nx): the region's projection.

        ::

            P11 - P12 P22^-1 P21

        Of a loop whose controller has no state, about a plant without delay and rate limit, the plant's states do not leave it, whatever
        the others are: it is the P of a `rc.loops.Ellipsoid` for a filter.
        """
        n = len(self.states)
        own, other = self.P[:n, :n], self.P[n:, n:]
        return own - self.P[:n, n:] @ np.linalg.solve(other, self.P[n:, :n])

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
    loop: "Feedback",
    box: Mapping[str, float],
    *,
    middle: PyTree = None,
    reference: Sequence[float] = (),
    seconds: float = 60.0,
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
    - `reference`: the constant references (nr,) of a controller that reads some.
    - `seconds`: time limit.

    **Raises:** `RobustctlError` for names that the plant does not have, a half width that is missing, not positive or not finite, a middle
    that is no equilibrium, operations in the plant whose slopes cannot be bounded, and a box on which no region could be proven, with
    what a simulation from inside of it does.

    **Example:** ::

        tanks = rc.plants.Sampled(rc.plants.TwoTanks(), dt=2.0)
        loop = rc.loops.feedback(tanks, rc.classical.PID(0.5, 0.01, dt=2.0, y0=10.0, u0=2.9865))
        print(rc.certificates.region(loop, {"upper": 2.0, "lower": 2.0, "pump": 1.0}))
    """
    deadline = deadline_after(seconds)
    given = Given.of(loop, box, middle, reference)
    watched = given.watched(1.0)
    found = largest(watched, deadline)
    if found is None:
        raise RobustctlError(_refusal(given, watched, deadline))
    result = region_of(given, watched, found)
    given.check(result)
    return result


def region_of(given: Given, watched: Watch, found: Found) -> Region:
    """Return what was proven of a loop, in its own units."""
    plant, names = given.loop.plant.plant, given.names
    states = tuple(s.name for s in plant.states)
    nx = len(states)
    half = dict(zip(names, given.half, strict=True))
    inside = {name: size for name, size in zip(watched.names, found.bounds, strict=True) if name in half}
    disturbed = [s.name for s in plant.disturbances if half[s.name] > 0]
    return Region(
        found.P, given.middle, states, found.proof.rate, {name: float(found.allowed * half[name]) for name in disturbed},
        {name: float(size) for name, size in inside.items()},
        {name: float(min(1 / np.sqrt(found.P[k, k]), half[name])) for k, name in zip(range(nx), states, strict=True)},
        {name: float(size) for name, size in half.items() if size > 0},
        (*watched.form.assumptions, *_assumed(given)), found.proof, given.reference, given.fingerprint,
    )  # fmt: skip


def _assumed(given: Given) -> tuple[str, ...]:
    """What the loop has and the proof has not."""
    texts = ["the rounding of a sample is not counted"]
    if given.loop.plant.imperfections.noise is not None:
        texts.append("the readings have no noise")
    return tuple(texts)


def _refusal(given: Given, watched: Watch, deadline: float) -> str:
    """Return why there is no region: what a simulation shows, and how small a box has one."""
    if time.monotonic() > deadline:
        return "no region could be proven on this box in the time given; give more seconds"
    text = "no region could be proven on this box; take a smaller one, fewer disturbances, or a controller with more damping"
    if reason := fault_of(watched.form):
        text = f"{text} ({reason})"
    if left := given.escapes():
        text = f"{text}. {left}"
    for factor in (0.5, 0.2, 0.05):
        if time.monotonic() > deadline:
            break
        if largest(given.watched(factor), deadline) is not None:
            return f"{text}. With states at {factor:g} of these half widths a region could be proven"
    return text
