"""The robustness report: time responses, margins, gains and worst case of several controllers in comparison."""

import dataclasses
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax.random as jr
import numpy as np

from ..checks import check_whole, of_type
from ..classical.flat import sampled_plant
from ..classical.hinf_norm import hinf_norm
from ..errors import RobustctlError
from ..loops import Feedback
from ..plants import Sampled, Task
from ..reports.folder import write_folder
from ..runs.provenance import provenance
from ..store.json_text import finite, json_text
from .analysis import Analysis, Findings
from .certified import certified_gain
from .linear_loop import LinearLoop, MeasuredOutput, Performance, linear_loop, plain
from .margins import all_channels, channel_margins, peaks
from .page import page, pictures
from .responses import episodes, sizes_of, steps
from .tables import rows, text_table
from .worst_case import worst_case

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FILES = (
    "report.txt",
    "report.json",
    "report.html",
    *(f"{n}.png" for n in ("bode", "nyquist", "sensitivity", "steps", "worst_case")),
)


@dataclasses.dataclass(frozen=True)
class LoopReport(Findings):
    """The result of `report`: to print, to draw with `figures`, or to `save` to a folder."""

    def __str__(self) -> str:
        """Return the report as text with one column per controller."""
        notes = [textwrap.fill(f"{name}: {text}", 100, subsequent_indent="  ") for name, text in self.notes()]
        return "\n\n".join(
            [f"{self.title}: {self.head()}", text_table(rows(self), list(self.loops)), "\n".join(notes)]
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as JSON types; undefined and infinite ones become None."""
        table = [
            {
                "group": r.group,
                "quantity": r.name,
                "unit": r.unit,
                "values": dict(zip(self.loops, r.values, strict=True)),
            }
            for r in rows(self)
        ]
        poles = {
            n: None if a.linear is None else [[p.real, p.imag] for p in a.linear.poles.tolist()]
            for n, a in self.loops.items()
        }
        return finite(
            {
                "title": self.title, "plant": type(self.sampled.plant).__name__, "dt": self.sampled.dt,
                "imperfections": dataclasses.asdict(self.sampled.imperfections), "settings": self.settings, **self.origin,
                "table": table, "poles": poles, "notes": dict(self.notes()),
            }
        )  # fmt: skip

    def figures(self) -> "dict[str, Figure]":
        """Return the figures by name."""
        from .figures import draw

        return draw(self)

    def save(self, folder: str | Path) -> list[Path]:
        """Write report.txt, report.json, report.html and the figures; return the files written.

        **Raises:** `RobustctlError` if `folder` is a file.
        """
        drawn = pictures(self)
        contents = [
            ("report.txt", f"{self}\n".encode()),
            ("report.json", (json_text(self.to_dict(), indent=2) + "\n").encode()),
            ("report.html", page([self]).encode()),
            *((f"{name}.png", picture) for name, picture in drawn.items()),
        ]
        return write_folder(folder, contents, FILES)


def report(
    loops: Feedback | Mapping[str, Feedback],
    task: Task | None = None,
    *,
    performance: Performance | None = None,
    performance_unit: str = "",
    title: str = "Robustness report",
    horizon: int | None = None,
    count: int = 32,
    search: int = 60,
    seed: int = 0,
    progress: Callable[[str], object] | None = None,
) -> LoopReport:
    """Analyze one loop, or compare several about the same plant, with linear and learned controllers alike.

    Step responses, episodes and the worst disturbance are simulated with the nonlinear loop; Bode and Nyquist diagrams,
    margins, sensitivity peaks and the H-infinity norm are those of its linearization at the equilibrium, by exact Jacobians.

    **Arguments:**

    - `loops`: a feedback loop about a `Sampled` plant, or several by the controllers' names
    - `task`: draws initial states and disturbances and defines the cost; None: no episodes
    - `performance`: `performance(x, u) -> z`, the output of the gains, default the measured output
    - `performance_unit`: unit of z
    - `title`: of the report
    - `horizon`: samples of each simulation, default the task's or 500
    - `count`: number of episodes
    - `search`: gradient steps of the search for the worst disturbance, 0 for none
    - `seed`: of episodes and search
    - `progress`: called with one line of text before each loop, for example `print`; a learned loop takes minutes

    **Raises:** `RobustctlError` for loops about anything other than a `Sampled` plant, about plants with different
    signals, sample times or imperfections, and for counts that are too small.

    **Example:** ::

        sampled = rc.plants.Sampled(rc.plants.TwoTanks(), 2.0)
        loop = rc.loops.Feedback(sampled, rc.classical.lqg(sampled, [1.0, 1.0], 1.0, 0.1, 0.1).controller)
        print(rc.robustness.report({"LQG": loop}, horizon=100, search=10))
    """
    match loops:
        case Feedback():
            loops = {"loop": loops}
        case Mapping():
            loops = dict(loops)
        case _:
            raise RobustctlError(
                "loops must be a Feedback, as rc.loops.feedback(plant, controller) returns it, or several by name, got "
                f"{type(loops).__name__}"
            )
    sampled = _common_plant(loops)
    horizon = horizon if horizon is not None else 500 if task is None else task.horizon
    check_whole(10, horizon=horizon)
    check_whole(1, count=count)
    check_whole(0, search=search)
    z: Performance = performance or MeasuredOutput(sampled.plant)
    settings = {"horizon": horizon, "episodes": count, "search": search}
    analyzed = {}
    for name, loop in loops.items():
        if progress is not None:
            progress(f"analyzing {name} ({len(analyzed) + 1} of {len(loops)})")
        analyzed[name] = _analyze(loop, task, z, settings, seed)
    unit = performance_unit or _joined(s.unit for s in sampled.plant.outputs)
    gain_unit = f"{unit}/{_joined(s.unit for s in sampled.plant.disturbances)}"
    return LoopReport(title, sampled, analyzed, gain_unit, settings, provenance(seed))


def _analyze(
    loop: Feedback, task: Task | None, z: Performance, settings: dict[str, int], seed: int
) -> Analysis:
    plant = sampled_plant(loop).plant
    sizes, reference = sizes_of(Task(plant) if task is None else task, loop, settings["horizon"])
    runs = (
        None
        if task is None
        else episodes(loop, task, settings["episodes"], settings["horizon"], jr.key(seed))
    )
    linear, note = _linear(loop, z, reference)
    note = f"{note} {_held_at_limits(loop, linear)}".strip()
    if linear is None:
        return Analysis(
            None, (), (), None, None, None, None, certified_gain(loop, None, z), None, (), runs, note
        )
    responses = tuple(steps(loop, linear, reference, sizes, settings["horizon"]))
    certified = certified_gain(loop, linear, z)
    if not linear.stable:
        return Analysis(linear, (), (), None, None, None, None, certified, None, responses, runs, note)
    worst = None
    # The search distributes one energy over all disturbances, so it takes the largest of their sizes.
    if settings["search"] and linear.disturbance.ninputs:
        worst = worst_case(
            loop, linear, z, reference, rms=float(np.max(sizes["disturbances"])), horizon=settings["horizon"],
            steps=settings["search"], key=jr.key(seed),
        )  # fmt: skip
    if worst is not None and certified.gain is None:
        note = f"{note} The worst disturbance is the worst that a search found.".strip()
    return Analysis(
        linear=linear,
        inputs=tuple(channel_margins(linear, linear.S_in, k, s.name) for k, s in enumerate(plant.controls)),
        outputs=tuple(channel_margins(linear, linear.S_out, k, s.name) for k, s in enumerate(plant.outputs)),
        disk_inputs=all_channels(linear, linear.S_in),
        disk_outputs=all_channels(linear, linear.S_out),
        peaks=peaks(linear),
        hinf=hinf_norm(linear.disturbance) if linear.disturbance.ninputs else None,
        certified=certified,
        worst=worst,
        steps=responses,
        episodes=runs,
        note=note,
    )


def _linear(loop: Feedback, z: Performance, reference: np.ndarray) -> tuple[LinearLoop | None, str]:
    try:
        linear = linear_loop(loop, z, reference)
    except RobustctlError as error:
        return None, f"Not linearized: {error}"
    if linear.stable:
        return linear, ""
    worst = ", ".join(f"{p:.4g}" for p in sorted(linear.poles, key=abs, reverse=True)[:3])
    return linear, f"The linearization is not stable, so it has no margins; its largest poles are {worst}."


def _held_at_limits(loop: Feedback, linear: LinearLoop | None) -> str:
    """Return as text which controls are at a limit in the equilibrium, where the linearization has no feedback."""
    sampled = sampled_plant(loop)
    if linear is None or not sampled.imperfections.saturate:
        return ""
    low, high = sampled.input_limits()
    u = linear.u
    past = (
        (u < low)
        | (u > high)
        | np.isclose(u, low, rtol=1e-9, atol=0)
        | np.isclose(u, high, rtol=1e-9, atol=0)
    )
    controls = zip(sampled.plant.controls, u, past, strict=True)
    names = [f"{s.name} = {value:.4g} {s.unit}".strip() for s, value, at in controls if at]
    if not names:
        return ""
    return (
        f"In equilibrium the loop holds {', '.join(names)} at a limit: there the feedback does not act, and the linearization is "
        "that of the plant alone in these controls; give it a set point that its actuators reach."
    )


def _common_plant(loops: dict[str, Feedback]) -> Sampled:
    if not loops:
        raise RobustctlError("there must be at least one loop to report on, got none")
    described = {}
    for name, loop in loops.items():
        must, do = f"{name} must be a feedback loop about a Sampled plant", "rc.loops.feedback makes one"
        plant = of_type(loop, Feedback, must, do).sampled
        if plant is None:
            raise RobustctlError(f"{must}, got one about a {type(loop.plant).__name__}; {do}")
        p = plant.plant
        described[name] = (p.controls, p.outputs, p.disturbances, plant.dt, plant.imperfections)
    first, *others = described.items()
    for name, signals in others:
        for what, a, b in zip(
            ("controls", "outputs", "disturbances", "dt", "imperfections"), first[1], signals, strict=True
        ):
            if a != b:
                raise RobustctlError(
                    f"the loops must be about the same plant, but the {what} of {name} are {b} and those of {first[0]} are {a}; "
                    "make a report for each plant"
                )
    one = next(iter(loops.values()))
    # in float64 as `plain` gives it, but with the imperfections that episodes are simulated with
    return dataclasses.replace(sampled_plant(plain(one)), imperfections=sampled_plant(one).imperfections)


def _joined(units) -> str:
    distinct = list(dict.fromkeys(unit or "1" for unit in units))
    return distinct[0] if len(distinct) == 1 and " " not in distinct[0] else f"({', '.join(distinct)})"
