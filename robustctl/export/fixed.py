"""A system's step in fixed point: integers alone, with a certificate of its constants and a bound on what rounding does."""

import dataclasses
from collections import Counter
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from ..certificates import Certificate, certify
from ..errors import InvalidModelError
from ..runtime.compiled import Compiled
from ..runtime.program import Program, Value
from ..system import Parameterization, System, explicit_of
from . import fixed_functions, fixed_kinds  # noqa: F401  # registers what they lower
from .drift import Drift, drift, of_fixed
from .fixed_formats import MOST_BITS, along, bits_of, quantized, ranges
from .fixed_lower import Lowered, check_kinds, lowered
from .fixed_ranges import Box, never_saturates, proven
from .measured import noise
from .trace import Traced, prepared, traced, tracing


@dataclasses.dataclass(frozen=True, eq=False)
class FixedPoint:
    """A step of integers; `rc.export.fixed` makes it.

    **Arguments:**

    - `system`: the system whose constants are those of the step, dequantized: rounded to their formats, in float64.
    - `original`: the system before its constants were rounded.
    - `lowered`: the program of integers, with the fractional bits of state, inputs and outputs.
    - `exact`: the step of `system` without rounding.
    - `certificate`: of `system`.
    - `drift`: the bound on what rounding does, or in words why there is none.
    - `saturations`: how often each rounding was saturated along the log, by where it is.
    - `sizes`: what the formats were chosen for, of each value of the exact program in turn.
    - `ranges`: `proven`, or `seen` and why they are not proven.
    - `never_saturates`: whether no rounding but that of the inputs can saturate, at any sample and for any input: proven from the
      ranges and the drift.
    """

    system: System
    original: System
    lowered: Lowered
    exact: Traced
    certificate: Certificate
    drift: Drift | str
    saturations: dict[str, int]
    sizes: tuple[float, ...]
    ranges: str
    never_saturates: bool

    @property
    def program(self) -> Program:
        """The step of integers, which `robustctl.runtime.Step` steps in NumPy."""
        return self.lowered.program

    @property
    def constants_as_certified(self) -> bool:
        """Whether the constants of the step are those of `system`, and so of its certificate; else they are rounded again."""
        return self.lowered.as_given

    @property
    def traced(self) -> Traced:
        """The program with the arrangement of its arrays, as `CompiledStep` takes it."""
        return arranged(self.lowered, self.exact)

    def integers(self, name: str, numbers: Any) -> np.ndarray:
        """Return numbers as the integers of an array of state, inputs or outputs: rounded to the nearest and saturated."""
        return self.lowered.integers(name, numbers)

    def numbers(self, name: str, integers: Any) -> np.ndarray:
        """Return what the integers of an array mean."""
        return self.lowered.numbers(name, integers)

    def saturated(self, log: PyTree) -> dict[str, int]:
        """Return how often numbers are saturated along another log, samples of the input, time first, by place."""
        return saturations(self.lowered, _log(self.system, self.exact, log))


def fixed(
    system: System | Parameterization, dtype: str = "q15", *, name: str = "model", u: PyTree = None, dt: float | None = None,
    log: PyTree = None, margin: float = 2.0, seconds: float = 60.0,
) -> FixedPoint:  # fmt: skip
    """Return a system's step in fixed point.

    ```
    number = integer 2^-n,      |integer| <= 2^B - 1
    ```

    Each array has its own n, chosen from the largest size that it can have. Without a log it is proven: inputs saturate at twice their
    range, `rc.certificates.peak_bounds` bounds the states, and intervals all that is computed from them. Where that is not possible, and
    with a log, it is the largest size seen. Every result is rounded to the nearest, halves away from zero, and saturated; sums of
    products are exact before, in 64 bits. So the numbers are the same on every processor.

    **Arguments:**

    - `system`: any system whose step consists of sums, products, comparisons, selections, `tanh` and loops of fixed length: R2DN and REN
      with `relu` or `tanh`, PID, LQG, Youla, linear.
    - `dtype`: `q4` to `q31`, numbers of that many bits and a sign.
    - `name`: an identifier, with which all names in its code begin.
    - `u`: one sample of the input; needed for a system without `nu`.
    - `dt`: sample time in seconds; needed for code, where the system does not know its own.
    - `log`: samples of the input, time first, from which ranges are taken; default those proven, else noise over twice the range of
      the inputs.
    - `margin`: what ranges seen are multiplied with, at least 1.
    - `seconds`: time limit of each proof.

    **Raises:** `InvalidModelError` for another dtype, operations that fixed point does not have, by name, and a log that does not fit.

    **Example:** ::

        plant = rc.StateSpace(jnp.array([[0.9]]), jnp.array([[1.0]]), jnp.array([[1.0]]), jnp.zeros((1, 1)), 0.1)
        step = rc.export.fixed(plant, "q15")
        print(step.certificate.rate, step.drift)
    """
    bits = bits_of(dtype)
    if bits is None:
        raise InvalidModelError(f"dtype must be a fixed-point format, q4 to q{MOST_BITS}, got {dtype!r}")
    if not margin >= 1:
        raise InvalidModelError(f"margin must be at least 1, got {margin}")
    made = formats(system, bits, name=name, u=u, dt=dt, log=log, margin=margin, seconds=seconds)
    counted = saturations(made.low, made.samples)
    bound = drift_of(made.low, made.certificate, counted)
    never = (
        isinstance(bound, Drift)
        and not isinstance(made.box, str)
        and never_saturates(made.low, made.box, bound.state)
    )
    ranges = f"seen: {made.box}" if isinstance(made.box, str) else "proven"
    sizes = tuple(made.sizes.values())
    return FixedPoint(
        made.rounded, made.original, made.low, made.exact, made.certificate, bound, counted, sizes, ranges, never
    )  # fmt: skip


class Formats(NamedTuple):
    """A step of integers: the system as it is and rounded, its exact step, the log, the sizes, and the state's proven boxes or why not."""

    original: System
    rounded: System
    exact: Traced
    samples: list[np.ndarray]
    sizes: dict[Value, float]
    low: Lowered
    certificate: Certificate
    box: list[Box] | str


def formats(
    system: System | Parameterization, bits: int, *, name: str, u: PyTree, dt: float | None, log: PyTree,
    margin: float = 2.0, seconds: float = 60.0,
) -> Formats:  # fmt: skip
    """Return a system's step with so many bits; arguments and errors are those of `fixed`."""
    ready, _ = prepared(explicit_of(system), np.float64)
    rounded = quantized(ready, bits)
    with tracing(np.float64):
        exact = traced(rounded, name=name, dtype=np.float64, u=u, dt=dt, for_integers=True)
        check_kinds(exact.program)
        samples = _log(rounded, exact, log)
        seen = ranges(exact.program, samples)
        certificate = certify(rounded, seconds=seconds)
        found = (
            proven(rounded, exact.program, certificate.rate_proof, seen, bits, seconds)
            if log is None
            else "a log was given"
        )
    if isinstance(found, str):
        sizes, box = {v: margin * size for v, size in seen.items()}, found
    else:
        sizes, box = found.sizes, found.state
    low = lowered(exact.program, sizes, bits)
    return Formats(ready, rounded, exact, samples, sizes, low, certificate, box)


def bits_needed(system: System | Parameterization, *, least: int = 4, seconds: float = 60.0) -> int | None:
    """Return with how many bits a constant a contraction rate below 1 is proven, the fewest from `least` on, else None.

    **Arguments:**

    - `system`: the system.
    - `least`: bits to begin with.
    - `seconds`: time limit of each proof.
    """
    ready, _ = prepared(explicit_of(system), np.float64)

    def contracts(rounded: System) -> bool:
        with tracing(np.float64):
            proof = certify(rounded, seconds=seconds).rate_proof
        return proof is not None and proof.value < 1

    if not contracts(ready):
        return None
    return next((bits for bits in range(least, MOST_BITS + 1) if contracts(quantized(ready, bits))), None)


def drift_of(low: Lowered, certificate: Certificate, counted: dict[str, int]) -> Drift | str:
    """Return the bound on what rounding does, or why there is none; `counted`: saturations."""
    units = {name: 2.0**-n for name, n in low.fractions.items()}
    start = [0.5 * units.get(s.name, 0.0) * (np.asarray(s.start) != 0) for s in low.program.state]
    found = drift(of_fixed(low), certificate.rate_proof, units, start)
    if isinstance(found, str) or not counted:
        return found
    return f"numbers were saturated along the log: {', '.join(f'{place} {n} times' for place, n in counted.items())}"


def _log(system: System, exact: Traced, log: PyTree) -> list[np.ndarray]:
    """Return samples of each array of the input.

    **Raises:** `InvalidModelError` for another number of arrays or shape.
    """
    us = noise(system, exact, 2000) if log is None else log
    given = [np.asarray(a, np.float64) for a in jax.tree.leaves(us)]
    given = [a for a in given if 0 not in a.shape[1:]]
    shapes = [s.value.shape for s in exact.program.inputs]
    if (
        [a.shape[1:] for a in given] != shapes
        or len({len(a) for a in given}) > 1
        or any(not len(a) for a in given)
    ):
        raise InvalidModelError(
            f"log must have samples of shapes {shapes}, time first, got arrays of shapes {[a.shape for a in given]}"
        )
    return given


def saturations(low: Lowered, samples: list[np.ndarray]) -> dict[str, int]:
    """Return how often numbers were saturated along a log, by place; none where they never were.

    **Arguments:**

    - `low`: the program.
    - `samples`: numbers of each array of the input, time first.
    """
    counts: Counter[str] = Counter()
    for u, given in zip(low.program.inputs, samples, strict=True):
        if (n := low.fractions.get(u.name)) is not None:
            counts[f"input {u.name}"] = int(np.sum(np.abs(given) * 2.0**n >= (1 << low.bits) - 0.5))
    names, compiled = _places(low.program), Compiled(low.program)
    roundings = [
        (names[op.results[0]], *compiled.at(op.operands), 2.0 ** -op.params["shift"], op.params["limit"] + 0.5)
        for op in low.program.operations if op.kind == "rescale"
    ]  # fmt: skip
    inputs = [low.integers(u.name, given) for u, given in zip(low.program.inputs, samples, strict=True)]
    for m in along(low.program, compiled, inputs):
        for place, at, factor, limit in roundings:
            counts[place] += int(np.sum(np.abs(np.asarray(m[at], np.float64)) * factor >= limit))
    return {place: count for place, count in counts.items() if count}


def _places(program: Program) -> dict[Value, str]:
    """Return where each rounding is, in words."""
    names = {op.results[0]: f"operation {k}" for k, op in enumerate(program.operations, 1)}
    names |= {y.value: f"output {y.name}" for y in program.outputs}
    return names | {s.after: f"state {s.name}" for s in program.state}


def arranged(low: Lowered, exact: Traced) -> Traced:
    """Return the program of integers with the arrangement of its arrays."""

    def ints(tree: PyTree) -> PyTree:
        return jax.tree.map(
            lambda a: np.zeros(a.shape, np.int32 if np.issubdtype(a.dtype, np.floating) else a.dtype), tree
        )

    leaves, structure = jax.tree.flatten(exact.x)
    starts = iter(s.start for s in low.program.state)
    x = structure.unflatten(
        [next(starts) if np.size(leaf) else np.zeros(np.shape(leaf), np.int32) for leaf in leaves]
    )
    return Traced(low.program, x, ints(exact.u), ints(exact.y))
