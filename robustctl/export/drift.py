"""How far rounding takes a state from the exact one, for all time: the error of one step, and a proven contraction rate."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from ..certificates.proof import Proof
from ..runtime.operations import HANDLERS
from ..runtime.program import COMPARE, DTYPES, Operation, Program, Value
from .fixed_lower import Lowered

Array = np.ndarray
MOVES = ("reshape", "transpose", "broadcast", "slice", "reverse", "concatenate")
_SLACK = 1 + 1e-9
"""For the rounding of the bound itself, in float64."""


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
    - `state`: on each state's distance, in the state's units.
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
    """

    program: Program
    size: Callable[[Value], Array]
    constants: dict[Value, Array]
    of: Callable[[Operation], Array | float]


def of_fixed(low: Lowered) -> Rounding:
    """Return the rounding of a program of integers: half a unit where one is rescaled to fewer bits."""
    most = float((1 << low.bits) - 1)

    def size(v: Value) -> Array:
        return np.full(v.shape, most) if v.data is None else np.abs(np.asarray(v.data, np.float64))

    def rounded(op: Operation) -> float:
        return 0.5 if op.kind == "rescale" and op.params["shift"] > 0 else 0.0

    return Rounding(low.program, size, low.constant_errors, rounded)


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
        case "take":
            return e[0].reshape(-1)[np.asarray(op.operands[1].data)]
        case _ if kind in COMPARE:
            return np.where(e[0] + e[1] > 0, np.inf, 0.0)
        case _ if kind in MOVES:
            return HANDLERS[kind](op, dict.fromkeys(DTYPES, np.dtype(np.float64)))(*e)
        case _:
            return np.full(op.results[0].shape, np.inf)


def drift(
    rounding: Rounding, proof: Proof | None, units: dict[str, float], start: Array | float = 0.0
) -> Drift | str:
    """Return the bound, or in words why there is none.

    **Arguments:**

    - `rounding`: of the program.
    - `proof`: that of the contraction rate of the system with these constants.
    - `units`: of each array of state and outputs what its error is multiplied with, by name.
    - `start`: how far the initial state is rounded at most, in the state's units.
    """
    program = rounding.program
    if proof is None or not proof.value < 1:
        return "no contraction rate below 1 is proven of these constants"
    if len(program.state) != 1 or program.state[0].value.size != len(proof.P):
        return "the state consists of several arrays, which are not in the order of the metric"
    (s,) = program.state
    unit = units[s.name]
    once = errors(rounding, [np.zeros(s.value.shape)])[s.after].ravel() * unit
    if not np.isfinite(once).all():
        return "the step has an operation that may jump where its operand is rounded, or whose own rounding is not bounded"
    sizes, offset = np.abs(proof.P), np.broadcast_to(start, once.shape)
    error, first = (_SLACK * float(np.sqrt(v @ sizes @ v)) for v in (once, offset))
    bound = max(first, error / (1 - proof.value)) * _SLACK
    each = _SLACK * bound * np.sqrt(np.diag(np.linalg.inv(proof.P)))
    later = errors(rounding, [each.reshape(s.value.shape) / unit])
    outputs = {y.name: later[y.value] * units[y.name] for y in program.outputs if y.value.dtype != "bool"}
    return Drift(proof.value, error, bound, each.reshape(s.value.shape), outputs)
