"""What is known of the values of a step's inputs and outputs: limits of the class, of the actuators, and of the training record."""

from typing import Any, NamedTuple

import numpy as np

from ..errors import InvalidModelError
from ..runtime.program import Program, Signals
from ..system import Parameterization, SignalLimits, System


class Range(NamedTuple):
    """What the entries of an array of signals lie between.

    **Arguments:**

    - `low`: the lowest values, (n,).
    - `high`: the highest.
    """

    low: np.ndarray
    high: np.ndarray

    def of(self, k: int) -> tuple[float, float]:
        """Return both ends of an entry."""
        return float(self.low[k]), float(self.high[k])


Ranges = dict[str, Range]
"""By the name of an array among a program's inputs and outputs."""


class Known(NamedTuple):
    """Ranges that are known.

    **Arguments:**

    - `limits`: what the step keeps to.
    - `actuators`: what the plant's actuators can do; the step may compute more.
    - `trained`: what the record contained that a model was trained on.
    """

    limits: Ranges = {}  # noqa: RUF012  # never changed
    actuators: Ranges = {}  # noqa: RUF012
    trained: Ranges = {}  # noqa: RUF012

    def kinds(self, signals: Signals) -> list[tuple[str, str, Range]]:
        """Return the ranges of an array: how a comment names each, what a macro's name has for it, and the range."""
        named = (
            ("", "", self.limits), ("actuator ", "_ACTUATOR", self.actuators), ("trained ", "_TRAINED", self.trained),
        )  # fmt: skip
        return [(word, macro, known[signals.name]) for word, macro, known in named if signals.name in known]

    def notes(self, signals: Signals, k: int) -> list[str]:
        """Return in words what is known of an entry."""
        return [
            f"{word}{_between(*found.of(k))}"
            for word, _, found in self.kinds(signals)
            if any(np.isfinite(found.of(k)))
        ]


def _between(low: float, high: float) -> str:
    if np.isfinite(low) and np.isfinite(high):
        return f"{low:.6g} to {high:.6g}"
    return f"at least {low:.6g}" if np.isfinite(low) else f"at most {high:.6g}"


def known(system: System, program: Program, trained: Any = None) -> Known:
    """Return what is known of the signals of a system.

    **Arguments:**

    - `system`: the system, in explicit form.
    - `program`: its step.
    - `trained`: the smallest and largest value of each input and output in the training record, as `trained_of` returns it.
    """
    can = _declared(system, "actuator_limits", system.actuator_limits(), program.outputs)
    return Known(ranges(system, program), can, _trained(trained, program))


def ranges(system: System, program: Program) -> Ranges:
    """Return the limits of a system's inputs, for a plant those of its actuators, and of its outputs, by the name of an array."""
    inputs = _declared(system, "input_limits", system.input_limits(), program.inputs[:1])
    return inputs | _declared(system, "output_limits", system.output_limits(), program.outputs)


def _declared(
    system: System, method: str, given: SignalLimits | None, signals: tuple[Signals, ...]
) -> Ranges:
    """Return limits that a class gives, having checked that they are those of some signals."""
    if given is None:
        return {}
    low, high = (np.atleast_1d(np.asarray(end, np.float64)) for end in given)
    if low.size == 0:
        return {}
    found = _fitting(signals, low, high)
    if not found or not (low <= high).all():
        raise InvalidModelError(
            f"{method}() of {type(system).__name__} must return lowest and highest values of shape {signals[-1].value.shape}, got "
            f"{low.tolist()} and {high.tolist()}"
        )
    return found


def _fitting(signals: tuple[Signals, ...], low: np.ndarray, high: np.ndarray) -> Ranges:
    return {s.name: Range(low, high) for s in signals if s.value.size == low.size == high.size}


def trained_of(model: Any) -> dict[str, list[list[float]]] | None:
    """Return the range of the record that a model was trained on, as JSON can hold it; None where unknown."""
    return model.trained_ranges() if isinstance(model, Parameterization | System) else None


def _trained(trained: Any, program: Program) -> Ranges:
    found: Ranges = {}
    for name, signals in (("u", program.inputs), ("y", program.outputs)):
        try:
            ends = np.asarray((trained or {}).get(name, []), np.float64)
        except (AttributeError, TypeError, ValueError) as error:
            raise InvalidModelError(
                "the trained range must have two numbers for each signal; export again"
            ) from error
        if ends.ndim == 2 and ends.shape[1] == 2:
            found |= _fitting(signals, ends[:, 0], ends[:, 1])
    return found
