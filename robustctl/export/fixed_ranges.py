"""Ranges that no signal leaves while inputs saturate: of states by contraction, of all that is computed from them by intervals."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import PyTree

from ..certificates import Proof, peak_bounds
from ..lft import LFT
from ..runtime.compiled import Compiled
from ..runtime.operations import HANDLERS
from ..runtime.program import DTYPES, Operation, Program, Value
from ..system import System
from .drift import MOVES, changed, joined, split
from .fixed_formats import along, fraction, signals
from .fixed_lower import Lowered

Array = np.ndarray
_NOMINAL = 2000
"""Samples of the undisturbed trajectory; what follows is bounded by the contraction rate."""
_ROOM = 1.02
"""Of proven ranges, for what rounding adds to them."""
_MOST = 32.0
"""A format is not chosen for a proven range so many times the one seen: five bits of every number would be lost."""
_SLACK = 1 + 1e-9
"""For the rounding of the bounds themselves, in float64."""


class Box(NamedTuple):
    """What the entries of an array lie between."""

    low: Array
    high: Array

    @property
    def size(self) -> Array:
        """What no entry exceeds in size."""
        return np.maximum(np.abs(self.low), np.abs(self.high))


class _States(System):
    """A system with its states as outputs, which is only described, never stepped."""

    system: System

    @property
    def nu(self) -> int | None:
        """Number of inputs."""
        return self.system.nu

    def modes(self):
        """Return those of the system."""
        return self.system.modes()

    def lft(self) -> LFT | None:
        """Return the system's form, from its inputs to its states."""
        form = self.system.lft()
        if form is None:
            return None
        D21, D22 = (np.zeros((form.nx, m.shape[1])) for m in (form.D21, form.D22))
        return form._replace(C2=np.eye(form.nx), D21=D21, D22=D22)

    def init_state(self) -> PyTree:
        """Return that of the system."""
        return self.system.init_state()

    def step(self, x: PyTree, u: PyTree) -> tuple[PyTree, PyTree]:
        """Return the next state twice."""
        after, _ = self.system.step(x, u)
        return after, after


class Proven(NamedTuple):
    """Proven ranges.

    **Arguments:**

    - `state`: what each array of the exact state lies between.
    - `sizes`: what no entry of a value exceeds, with room for rounding.
    """

    state: list[Box]
    sizes: dict[Value, float]


def proven(
    system: System, program: Program, proof: Proof | None, seen: dict[Value, float], bits: int, seconds: float
) -> Proven | str:
    """Return the ranges of all values of a step, for every input, or why they are not proven.

    **Arguments:**

    - `system`: the system.
    - `program`: its exact step.
    - `proof`: of the system's contraction rate.
    - `seen`: sizes along noise; that of the input decides where it saturates.
    - `bits`: of a number, without its sign.
    - `seconds`: time limit.
    """
    form = system.lft()
    if proof is None or not proof.value < 1 or form is None:
        return "no contraction rate below 1 is proven"
    if len(program.inputs) != 1 or len(system.modes()) > 1:
        return "the input does not consist of one array, or the system switches between modes"
    (u,) = program.inputs
    if (sum(s.value.size for s in program.state), u.value.size) != (form.nx, form.nu):
        return "the system has other states or inputs than its form"
    reach = ((1 << bits) - 1) * 2.0 ** -fraction(seen[u.value], bits)
    found = peak_bounds(_States(system), [reach] * form.nu, seconds=seconds)
    bounds = np.array(list(found.bounds.values()))
    if not np.isfinite(bounds).all():
        return found.unproven
    state = _about_undisturbed(program, proof, bounds)
    inputs = Box(np.full(u.value.shape, -reach), np.full(u.value.shape, reach))
    values = boxes(program, state, [inputs])
    sizes = {v: _ROOM * float(np.max(values[v].size)) for v in seen}
    sizes |= {s.after: min(sizes[s.after], sizes[s.value]) for s in program.state if s.after in sizes}
    sizes[u.value] = seen[u.value]
    times = max((sizes[v] / size for v, size in seen.items() if size), default=1.0)
    if not times < _MOST:
        return f"proven ranges are up to {times:.0f} times those seen"
    return Proven(state, sizes)


def _about_undisturbed(program: Program, proof: Proof, bounds: Array) -> list[Box]:
    """Return what each array of a state lies between that is no further than `bounds` from the trajectory without input."""
    low, high = _undisturbed(program, proof.P, proof.value)
    reached = bounds + (_SLACK - 1) * (bounds + np.abs(low) + np.abs(high))
    return list(map(Box, split(program, low - reached), split(program, high + reached)))


def _undisturbed(program: Program, P: Array, rate: float) -> tuple[Array, Array]:
    """Return the lowest and highest state of the trajectory without input."""
    (u,) = program.inputs
    compiled = Compiled(program)
    after = compiled.at([s.after for s in program.state])
    run = along(program, compiled, [np.zeros((_NOMINAL, *u.value.shape))])
    start = joined([s.start for s in program.state])
    xs = np.array([start, *(joined([m[at] for at in after]) for m in run)], np.float64)
    last = xs[-1] - xs[-2]
    rest = np.sqrt(last @ np.abs(P) @ last * np.diag(np.linalg.inv(P))) / (1 - rate)
    return np.min(xs, axis=0) - rest, np.max(xs, axis=0) + rest


def boxes(
    program: Program, state: Sequence[Box], inputs: Sequence[Box], inside: dict[Value, float] | None = None
) -> dict[Value, Box]:
    """Return what each value of a program lies between, of floats or of integers, for one step from any state and input in boxes.

    `inside`: what some values do not exceed in size for another reason.
    """
    found = {s.value: box for s, box in zip(program.state, state, strict=True)}
    found |= {u.value: box for u, box in zip(program.inputs, inputs, strict=True)}

    def of(v: Value) -> Box:
        return found[v] if v.data is None else Box(*[np.asarray(v.data, np.float64)] * 2)

    for op in program.operations:
        (result,) = op.results
        with np.errstate(invalid="ignore", over="ignore"):
            low, high = _after(op, [of(v) for v in op.operands])
        low, high = (
            np.nan_to_num(low, nan=-np.inf, neginf=-np.inf),
            np.nan_to_num(high, nan=np.inf, posinf=np.inf),
        )
        if inside and result in inside:
            low, high = np.full(result.shape, -inside[result]), np.full(result.shape, inside[result])
        found[result] = Box(*(np.broadcast_to(end, result.shape) for end in (low, high)))
    return {v: of(v) for v in (*signals(program), *program.results)}


def _after(op: Operation, x: list[Box]) -> Box:
    """Return what an operation's result lies between."""
    a, last = (x[0], x[-1]) if x else (Box(np.zeros(()), np.zeros(())),) * 2
    if op.results[0].dtype == "bool":
        return Box(np.zeros(()), np.ones(()))
    match op.kind:
        case "add":
            return Box(a.low + last.low, a.high + last.high)
        case "sub":
            return Box(a.low - last.high, a.high - last.low)
        case "neg":
            return Box(-a.high, -a.low)
        case "abs":
            return Box(np.where(a.low * a.high > 0, np.minimum(np.abs(a.low), np.abs(a.high)), 0.0), a.size)
        case "max" | "min":
            fold = np.maximum if op.kind == "max" else np.minimum
            return Box(fold(a.low, last.low), fold(a.high, last.high))
        case "mul" | "dot":
            return _product(np.multiply if op.kind == "mul" else np.matmul, a, last)
        case "div" if op.operands[1].data is not None:
            return _product(np.multiply, a, Box(1 / last.low, 1 / last.high))
        case "select":
            return Box(np.minimum(x[1].low, last.low), np.maximum(x[1].high, last.high))
        case "convert":
            return a
        case "rescale":
            unit, most = 2.0 ** -op.params["shift"], op.params["limit"]
            return Box(
                *(np.clip(end * unit + half, -most, most) for end, half in ((a.low, -0.5), (a.high, 0.5)))
            )
        case "reduce" if op.params["how"] in ("add", "max", "min"):
            fold = getattr(np, {"add": "sum"}.get(op.params["how"], op.params["how"]))
            return Box(*(np.asarray(fold(end, axis=op.params["axis"])) for end in a))
        case "tanh":
            return Box(np.tanh(a.low) - (_SLACK - 1), np.tanh(a.high) + (_SLACK - 1))
        case "take" if op.operands[1].data is None:
            return Box(np.min(a.low), np.max(a.high))
        case "take":
            return Box(*(end.reshape(-1)[np.asarray(op.operands[1].data)] for end in a))
        case "put" | "dynamic_update":
            k = 2 if op.kind == "put" else 1
            return Box(*(changed(op, *ends) for ends in zip(a, x[k], strict=True)))
        case _ if op.kind in MOVES:
            move = HANDLERS[op.kind](op, dict.fromkeys(DTYPES, np.dtype(np.float64)))
            return Box(move(*(each.low for each in x)), move(*(each.high for each in x)))
        case _:
            return Box(np.asarray(-np.inf), np.asarray(np.inf))


def _product(by, a: Box, b: Box) -> Box:
    """Return the product of two boxes, or a sum of products, from middles and radii."""
    (c, r), (d, q) = (((x.high + x.low) / 2, (x.high - x.low) / 2) for x in (a, b))
    middle, radius = by(c, d), by(np.abs(c), q) + by(r, np.abs(d)) + by(r, q)
    return Box(middle - _SLACK * radius, middle + _SLACK * radius)


def never_saturates(low: Lowered, boxed: Sequence[Box], drift: Array) -> bool:
    """Return whether no rounding can saturate, at any sample and for any input.

    **Arguments:**

    - `low`: the program of integers.
    - `boxed`: what each array of the exact state lies between, for all inputs that do not saturate.
    - `drift`: how far each state is from the exact one at most, as long as nothing saturates.

    Induction over the samples: where nothing has saturated so far, the state is within `drift` of the box.
    """
    program, most = low.program, float((1 << low.bits) - 1)
    state = [
        Box(
            *(
                (end + side * far) * 2.0 ** low.fractions[s.name]
                for end, side in zip(box, (-1, 1), strict=True)
            )
        )
        for s, box, far in zip(program.state, boxed, split(program, drift), strict=True)
    ]
    if any((box.size > most).any() for box in state):
        return False
    whole = [Box(np.full(u.value.shape, -most), np.full(u.value.shape, most)) for u in program.inputs]
    found = boxes(program, state, whole, low.inside)
    # The next state is within `drift` of the box, too, which intervals do not see.
    known = {u.value for u in program.inputs}, {s.after for s in program.state}
    roundings = [
        op for op in program.operations
        if op.kind == "rescale" and op.operands[0] not in known[0] and op.results[0] not in known[1]
    ]  # fmt: skip
    return all(
        bool((found[op.operands[0]].size * 2.0 ** -op.params["shift"] < op.params["limit"] + 0.5).all())
        for op in roundings
    )
