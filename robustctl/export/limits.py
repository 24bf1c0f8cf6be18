"""What is known of the values of a step's inputs and outputs: limits of the class, of the actuators, and of the training record."""

from typing import Any, NamedTuple

import numpy as np

from ..errors import InvalidModelError
from ..runtime.program import Program, Signals


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


def known(system: Any, program: Program, trained: Any = None) -> Known:
    """Return what is known of the signals of a system.

    **Arguments:**

    - `system`: the system, in explicit form.
    - `program`: its step.
    - `trained`: the smallest and largest value of each input and output in the training record, as `trained_of` returns it.
    """
    return Known(ranges(system, program), _actuators(system, program), _trained(trained, program))


def ranges(system: Any, program: Program) -> Ranges:
    """Return the limits that a step keeps to, and for a plant those of its actuators, by the name of an array."""
    from ..classical import PID
    from ..classical.mpc import LinearMPC
    from ..plants import Sampled, limits

    if isinstance(system, Sampled):
        signals, (low, high) = program.inputs[:1], limits(system.plant.controls)
    elif isinstance(system, PID):
        signals, low, high = program.outputs, np.asarray(system.low), np.asarray(system.high)
    elif isinstance(system, LinearMPC):
        signals, low, high = program.outputs, *(np.asarray(system.u0 + a) for a in (system.low, system.high))
    else:
        return {}
    return _fitting(signals, low, high)


def _fitting(signals: tuple[Signals, ...], low: Any, high: Any) -> Ranges:
    low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
    return {s.name: Range(low, high) for s in signals if s.value.size == low.size == high.size}


def _actuators(system: Any, program: Program) -> Ranges:
    """Return the limits of the actuators that the model of the plant in a controller has."""
    from ..loops import Alongside, Youla
    from ..plants import Sampled, limits

    if not isinstance(system, Alongside | Youla):
        return {}
    plant: Any = system
    while plant is not None and not isinstance(plant, Sampled):
        parts = (getattr(plant, name, None) for name in ("base", "inner", "model"))
        plant = next((part for part in parts if part is not None), None)
    return {} if plant is None else _fitting(program.outputs, *limits(plant.plant.controls))


def trained_of(model: Any) -> dict[str, list[list[float]]] | None:
    """Return the range of the record that a fitted model was trained on, as JSON can hold it; None for another model."""
    from ..train import FittedModel

    if not isinstance(model, FittedModel) or model.trained is None:
        return None
    return {name: [list(ends) for ends in getattr(model.trained, name)] for name in ("u", "y")}


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
