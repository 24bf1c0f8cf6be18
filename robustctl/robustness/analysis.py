"""The results for loops, from which tables, figures and pages are made."""

import dataclasses
from typing import Any

from ..plants import Sampled
from .certified import CertifiedGain
from .linear_loop import LinearLoop
from .margins import Margins, Peaks
from .responses import Episodes, StepResponse, imperfections_in_words
from .worst_case import WorstCase


@dataclasses.dataclass(frozen=True)
class Analysis:
    """The results for one loop.

    **Arguments:**

    - `linear`: the linearization, None if there is no equilibrium
    - `inputs`: margins with the loop opened at each control
    - `outputs`: margins with the loop opened at each output
    - `disk_inputs`: lower bound on the disk margin of all controls at once
    - `disk_outputs`: lower bound on the disk margin of all outputs at once
    - `peaks`: of the sensitivities
    - `hinf`: H-infinity norm from disturbance to performance output
    - `certified`: the gain that is proven
    - `worst`: the worst disturbance that was found
    - `steps`: step responses
    - `episodes`: costs of the task, None without a task
    - `note`: why the parts that need a stable linearization are None or empty, otherwise ""
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
    steps: tuple[StepResponse, ...]
    episodes: Episodes | None
    note: str


@dataclasses.dataclass(frozen=True)
class Findings:
    """The results for one or several loops about one plant.

    **Arguments:**

    - `title`: of the report
    - `sampled`: the plant
    - `loops`: an `Analysis` for each controller's name
    - `gain_unit`: unit of the performance output over that of the disturbance
    - `settings`: horizon, episodes, search
    - `origin`: seed, versions, machine, commit
    """

    title: str
    sampled: Sampled
    loops: dict[str, Analysis]
    gain_unit: str
    settings: dict[str, Any]
    origin: dict[str, Any]

    def head(self) -> str:
        """Return plant, sample time and imperfections as text."""
        plant = type(self.sampled.plant).__name__
        return f"{plant} at {self.sampled.dt:g} s, imperfections: {imperfections_in_words(self.sampled)}"

    def notes(self) -> list[tuple[str, str]]:
        """Return for each loop, as text, what is proven and what could not be computed."""
        return [(name, f"{a.certified.statement} {a.note}".strip()) for name, a in self.loops.items()]
