"""The few lines around a step in C for a target: Arduino, ROS 2, Simulink; and the step itself for programmable controllers."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ..errors import InvalidModelError
from ..runtime.program import Program
from .emit_arduino import arduino, check_arduino
from .emit_plc import plc
from .emit_ros2 import ros2
from .emit_simulink import simulink
from .fixed_lower import Lowered
from .limits import Known
from .wrapped import Wrapped


class Emitted(NamedTuple):
    """Texts of files by name.

    **Arguments:**

    - `files`: what is compared when a folder is checked.
    - `yours`: what the user changes.
    """

    files: dict[str, str]
    yours: dict[str, str]


_TARGETS: dict[str, Callable[[Wrapped], tuple[dict[str, str], dict[str, str]]]] = {
    "arduino": arduino,
    "ros2": ros2,
    "simulink": simulink,
    "plc": plc,
}


def check_emit(emit: str | None, folder: Path | None = None, name: str = "") -> None:
    """Raise `InvalidModelError` unless a target is one of those known, and the folder, where one is given, one that it takes."""
    if emit is not None and emit not in _TARGETS:
        raise InvalidModelError(f"emit must be one of {', '.join(_TARGETS)}, got {emit!r}")
    if emit == "arduino" and folder is not None:
        check_arduino(folder, name)


def emitted(emit: str | None, program: Program, low: Lowered | None, known: Known) -> Emitted:
    """Return the files around a step for a target; none without one."""
    return Emitted({}, {}) if emit is None else Emitted(*_TARGETS[emit](Wrapped(program, low, known)))
