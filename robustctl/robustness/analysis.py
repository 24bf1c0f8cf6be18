"""What is found of loops, before it is put into tables, figures and pages."""

import dataclasses
from typing import Any

from ..plants import Sampled
from .certified import CertifiedGain
from .linear_loop import LinearLoop
from .margins import Margins, Peaks
from .responses import Episodes, Step, imperfections_in_words
from .worst_case import WorstCase


@dataclasses.dataclass(frozen=True)
class Analysis:
    """What was found of one loop; the parts that need a stable linearization are None without one, `note` says why.
    `episodes` is None without a task.

    `inputs`, `outputs`: margins with the loop opened at each control and each output; `disk_inputs`,
    `disk_outputs`: lower bounds on the disk margin of all channels at once; `hinf`: H-infinity norm from
    disturbance to performance output.
    """

    linear: LinearLoop | None
    inputs: tuple[Margins, ...]
    outputs: tuple[Margins, ...]
    disk_inputs: float | None
    disk_outputs: float | None
    peaks: Peaks | None
    hinf: float | None
    certified: CertifiedGain
    worst: WorstCase | None
    steps: tuple[Step, ...]
    episodes: Episodes | None
    note: str


@dataclasses.dataclass(frozen=True)
class Findings:
    """What was found of one or several loops about one plant.

    `loops`: an `Analysis` for each controller's name; `sampled`: the plant; `gain_unit`: of the performance output over
    the disturbance's; `origin`: seed, versions, machine, commit.
    """

    title: str
    sampled: Sampled
    loops: dict[str, Analysis]
    gain_unit: str
    settings: dict[str, Any]
    origin: dict[str, Any]

    def head(self) -> str:
        """Return what was simulated, in words."""
        plant = type(self.sampled.plant).__name__
        return f"{plant} at {self.sampled.dt:g} s, imperfections: {imperfections_in_words(self.sampled)}"

    def notes(self) -> list[tuple[str, str]]:
        """Return what is proven of each loop and what could not be computed, in words."""
        return [(name, f"{a.certified.statement} {a.note}".strip()) for name, a in self.loops.items()]
