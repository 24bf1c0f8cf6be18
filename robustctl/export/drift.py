"""How far rounding takes a state from the exact one, for all time: the error of one step, and a proven contraction rate."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from ..certificates.proof import Proof
from ..runtime.operations import HANDLERS
from ..runtime.program import COMPARE, DTYPES, Operation, Program, Value
from .fixed_lower import Approximated, Lowered

Array = np.ndarray
MOVES = ("reshape", "transpose", "broadcast", "slice", "reverse", "concatenate")
_SLACK = 1 + 1e-9
"""For the rounding of the bound itself, in float64."""
_STEPS = 8
"""Steps by which the bounds on single states are sharpened."""


@dataclasses.dataclass(frozen=True)
class Drift:
    """A bound on the distance between the rounded state and the exact one, where both start alike and have the same inputs.

    ```
    |x_rounded - x|_P <= max(start, error / (1 - rate))         |e|_P^2 = e' P e
    ```

    **Arguments:**

    - `rate`: the proven contraction rate per sample in the metric P.
    - `error`: by how much one step is off at most, in the norm of P.
    - `bound`: on the distance in the norm of P, at every sample.
    - `state`: on each state's distance, (nx,), in the state's units, its arrays one after another.
    - `outputs`: on that of each array of the outputs, in its units, by name.
    """

    rate: float
    error: float
    bound: float
    state: Array
    outputs: dict[str, Array]

    def to_fields(self) -> dict:
        """Return its numbers as lists, which JSON can hold."""
        return {
            "rate": self.rate, "error": self.error, "bound": self.bound, "state": self.state.tolist(),
            "outputs": {name: bound.tolist() for name, bound in self.outputs.items()},
        }  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Rounding:
    """What a program's rounding does: how large its values are, the error of each constant, and that of each operation.

    **Arguments:**

    - `program`: the program.
    - `size`: returns what no entry of a value exceeds in size.
    - `constants`: errors of constants, of those that have any.
    - `of`: returns by how much an operation's result is rounded.
    - `approximated`: values that approximate a function of others, whatever they are computed from.
    """

    program: Program
    size: Callable[[Value], Array]
    constants: dict[Value, Array]
    of: Callable[[Operation], Array | float]
    approximated: dict[Value, Approximated] = dataclasses.field(default_factory=dict)


def of_fixed(low: Lowered) -> Rounding:
    """Return the rounding of a program of integers: half a unit where one is rescaled to fewer bits."""
    most = float((1 << low.bits) - 1)

    def size(v: Value) -> Array:
        return np.full(v.shape, most) if v.data is None else np.abs(np.asarray(v.data, np.float64))

    def rounded(op: Operation) -> float:
        return 0.5 if op.kind == "rescale" and op.params["shift"] > 0 else 0.0

    return Rounding(low.program, size, low.constant_errors, rounded, low.approximated)


def of_float(program: Program, ranges: dict[Value, float]) -> Rounding:
    """Return the rounding of a program of floats, whose values stay in ranges; each operation is off by half a unit in the last place."""
    unit = 2.0**-24 if program.dtype == "float32" else 2.0**-53

    def size(v: Value) -> Array:
        return np.full(v.shape, ranges[v]) if v.data is None else np.abs(np.asarray(v.data, np.float64))

    def rounded(op: Operation) -> Array | float:
        if op.kind == "dot":
            n = op.operands[0].shape[-1]
            return 1.01 * n * unit * (size(op.operands[0]) @ size(op.operands[1])) + n * 2.0**-149
        if op.kind in ("add", "sub", "mul", "div", "reduce"):
            terms = op.operands[0].size if op.kind == "reduce" else 1
            reach = terms * ranges[op.operands[0]] if op.kind == "reduce" else ranges[op.results[0]]
            return 1.01 * terms * unit * reach + 2.0**-149
        return 0.0

    return Rounding(program, size, {}, rounded)


def errors(rounding: Rounding, state: Sequence[Array]) -> dict[Value, Array]:
    """Return how far each value is from that of the exact step at most.

    **Arguments:**

    - `rounding`: of the program.
    - `state`: how far the arrays of the state are at most. The inputs are those of the exact step.

    Where a selection depends on a rounded comparison, or for an operation without a rule, infinity.
    """
    program = rounding.program
    found = {s.value: np.asarray(e, np.float64) for s, e in zip(program.state, state, strict=True)}
    found |= {u.value: np.zeros(u.value.shape) for u in program.inputs}

    def of(v: Value) -> Array:
        if v.data is not None:
            return rounding.constants.get(v, np.zeros(v.shape))
        return found[v]

    for op in program.operations:
        (result,) = op.results
        with np.errstate(invalid="ignore", over="ignore"):
            error = _error(op, [of(v) for v in op.operands], [rounding.size(v) for v in _sized(op)])
            error = np.nan_to_num(error + rounding.of(op), nan=np.inf, posinf=np.inf)
        if (known := rounding.approximated.get(result)) is not None:
            error = known.factor * of(known.x) + known.error
        found[result] = np.broadcast_to(error, result.shape)
    return {v: of(v) for v in (*program.results, *found)}


def _sized(op: Operation) -> tuple[Value, ...]:
    return op.operands if op.kind in ("dot", "mul", "div") else ()


def _error(op: Operation, e: list[Array], size: list[Array]) -> Array:
    """Return the error of an operation's exact result from those of its operands."""
    kind = op.kind
    match kind:
        case "dot":
            return size[0] @ e[1] + e[0] @ size[1] + e[0] @ e[1]
        case "mul":
            return size[0] * e[1] + e[0] * size[1] + e[0] * e[1]
        case "div" if not e[1].any() and op.operands[1].data is not None:
            return e[0] / size[1]
        case "add" | "sub" | "and" | "or" | "xor":
            return e[0] + e[1]
        case "rescale":
            return e[0] * 2.0 ** -op.params["shift"]
        case "neg" | "abs" | "convert" | "not":
            return e[0]
        case "max" | "min":
            return np.maximum(e[0], e[1])
        case "select":
            return np.maximum(e[1], e[2]) + np.where(e[0] > 0, np.inf, 0.0)
        case "reduce" if op.params["how"] in ("add", "max", "min", "and", "or"):
            fold = np.sum if op.params["how"] == "add" else np.max
            return np.asarray(fold(e[0], axis=op.params["axis"]))
        case "take" if op.operands[1].data is not None:
            return e[0].reshape(-1)[np.asarray(op.operands[1].data)]
        case "put" | "dynamic_update":
            return changed(op, e[0], e[2 if kind == "put" else 1])
        case _ if kind in COMPARE:
            return np.where(e[0] + e[1] > 0, np.inf, 0.0)
        case _ if kind in MOVES:
            return HANDLERS[kind](op, dict.fromkeys(DTYPES, np.dtype(np.float64)))(*e)
        case _:
            return np.full(op.results[0].shape, np.inf)


def changed(op: Operation, x: Array, update: Array) -> Array:
    """Return an array with entries changed at constant places, as `put` and `dynamic_update` have it."""
    of_kind = HANDLERS[op.kind](op, dict.fromkeys(DTYPES, np.dtype(np.float64)))
    if op.kind == "put":
        return of_kind(x, op.operands[1].data, update)
    return of_kind(x, update, *(v.data for v in op.operands[2:]))


def joined(arrays: Sequence[Array]) -> Array:
    """Return the entries of arrays of a state, one array after another, as a metric has them."""
    return np.concatenate([np.zeros(0), *(np.ravel(a) for a in arrays)])


def split(program: Program, x: Array) -> list[Array]:
    """Return the arrays of a state, given their entries one after another."""
    ends = np.cumsum([s.value.size for s in program.state])[:-1]
    parts = np.split(x, ends) if program.state else []
    return [part.reshape(s.value.shape) for part, s in zip(parts, program.state, strict=True)]


def drift(
    rounding: Rounding, proof: Proof | None, units: dict[str, float], start: Sequence[Array] | None = None
) -> Drift | str:
    """Return the bound, or in words why there is none.

    **Arguments:**

    - `rounding`: of the program.
    - `proof`: that of the contraction rate of the system with these constants.
    - `units`: of each array of state and outputs what its error is multiplied with, by name.
    - `start`: how far the arrays of the initial state are rounded at most, in the state's units; default not at all.
    """
    program = rounding.program
    if proof is None or not proof.value < 1:
        return "no contraction rate below 1 is proven of these constants"
    if sum(s.value.size for s in program.state) != len(proof.P) or any(
        s.name not in units for s in program.state
    ):
        return "the state has entries that the metric of the rate does not have"
    unit = joined([np.full(s.value.shape, units[s.name]) for s in program.state])

    def after(each: Array) -> tuple[dict[Value, Array], Array]:
        found = errors(rounding, split(program, each / unit))
        return found, joined([found[s.after] for s in program.state]) * unit

    once = after(np.zeros(unit.shape))[1]
    if not np.isfinite(once).all():
        return "the step has an operation that may jump where its operand is rounded, or whose own rounding is not bounded"
    sizes, offset = np.abs(proof.P), joined(start or [np.zeros(s.value.shape) for s in program.state])
    error, first = (_SLACK * float(np.sqrt(v @ sizes @ v)) for v in (once, offset))
    bound = max(first, error / (1 - proof.value)) * _SLACK
    each = _SLACK * bound * np.sqrt(np.diag(np.linalg.inv(proof.P)))
    # At every later sample a state is within what one step makes of these bounds, too; entries of a queue get their own.
    for _ in range(_STEPS):
        each = np.minimum(each, np.maximum(offset, _SLACK * after(each)[1]))
    later, _ = after(each)
    outputs = {y.name: later[y.value] * units[y.name] for y in program.outputs if y.value.dtype != "bool"}
    return Drift(proof.value, error, bound, each, outputs)
