"""A step that a program describes, in NumPy."""

from typing import Any

import numpy as np

from ..errors import InvalidModelError
from .compiled import Compiled
from .program import Program, Signals, Value


class Step:
    """An exported system, one sample a call: `x, y = step(x, u)`, first with `x = step.init_state()`.

    A state, an input or an output that consists of several arrays is a tuple of them. All arrays have the dtype of the program, and
    every sum is taken in the order of its terms, so that the numbers are those of the exported C. The step can be pickled.

    **Arguments:**

    - `program`: the program.
    """

    def __init__(self, program: Program):
        self.program = program
        compiled = Compiled(program)
        self._template, self._runs, self._dtypes = compiled.template, compiled.runs, compiled.dtypes
        self._state = self._slots(compiled, [s.value for s in program.state])
        self._inputs = self._slots(compiled, [s.value for s in program.inputs])
        self._after = self._slots(compiled, [s.after for s in program.state])
        self._outputs = self._slots(compiled, [s.value for s in program.outputs])

    def _slots(self, compiled: Compiled, values: list[Value]) -> list[tuple[int, tuple[int, ...], np.dtype]]:
        return [
            (at, v.shape, self._dtypes[v.dtype]) for at, v in zip(compiled.at(values), values, strict=True)
        ]

    @property
    def dt(self) -> float | None:
        """Sample time in seconds, None where unknown."""
        return self.program.dt

    @property
    def inputs(self) -> tuple[Signals, ...]:
        """The arrays of the input, with the names and units of their entries."""
        return self.program.inputs

    @property
    def outputs(self) -> tuple[Signals, ...]:
        """The arrays of the output, likewise."""
        return self.program.outputs

    def init_state(self) -> Any:
        """Return the state that it starts from."""
        return _together([np.array(s.start, self._dtypes[s.value.dtype]) for s in self.program.state])

    def __call__(self, x: Any, u: Any) -> tuple[Any, Any]:
        """Return `(x_next, y)` for a state and one sample of the input.

        **Raises:** `InvalidModelError` for arrays of another number or shape.
        """
        m = self._template.copy()
        _fill(m, self._state, x, "the state")
        _fill(m, self._inputs, u, "u")
        # As in C, where a division by zero gives infinity without a warning.
        with np.errstate(all="ignore"):
            for run in self._runs:
                run(m)
        return _copies(m, self._after), _copies(m, self._outputs)

    def __getstate__(self) -> Program:
        """Return the program: functions cannot be pickled."""
        return self.program

    def __setstate__(self, program: Program) -> None:
        """Make the functions again."""
        self.__init__(program)


def _fill(m: list, slots: list, given: Any, what: str) -> None:
    arrays = (given,) if len(slots) == 1 else given
    if len(arrays) != len(slots):
        raise InvalidModelError(f"{what} must be a tuple of {len(slots)} arrays, got {len(arrays)}")
    for (at, shape, dtype), array in zip(slots, arrays, strict=True):
        found = np.asarray(array, dtype)
        if found.shape != shape:
            raise InvalidModelError(
                f"{what} must be one sample, an array of shape {shape}, got shape {found.shape}"
            )
        m[at] = found


def _copies(m: list, slots: list) -> Any:
    """Return copies: a caller may change them in place."""
    return _together([np.array(m[at], dtype) for at, _, dtype in slots])


def _together(arrays: list[np.ndarray]) -> Any:
    return arrays[0] if len(arrays) == 1 else tuple(arrays)
