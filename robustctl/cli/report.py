"""The command that reports on the loops of a script."""

import dataclasses
import runpy
from pathlib import Path
from typing import Any

import tyro

from ..errors import RobustctlError

Positional = tyro.conf.Positional


@dataclasses.dataclass(frozen=True)
class Report:
    """Report on the robustness of the loops that a Python file builds: margins, steps, worst disturbance, side by side.

    The file is run. In it, `loops` is a feedback loop, a dictionary of them by name, or a function that returns either;
    `task`, if there is one, a task or a function that returns one.

    Args:
        file: A Python file.
        loops: The name that the loops have in it.
        task: The name of the task, where there is one.
        horizon: Samples of each run; default: the task's.
        episodes: Episodes of the task.
        search: Gradient steps for the worst disturbance, 0 for none.
        seed: Of the episodes and the search.
        out: Folder for report.html, report.json, report.txt and the figures; default: the file's name without its ending.
    """

    file: Positional[Path]
    loops: str = "loops"
    task: str = "task"
    horizon: int | None = None
    episodes: int = 32
    search: int = 60
    seed: int = 0
    out: Path | None = None

    def __call__(self) -> int:
        """Run the command."""
        from ..loops import Feedback
        from ..robustness import report

        names = _names(self.file)
        if self.loops not in names:
            raise RobustctlError(
                f"{self.file} must define {self.loops}: a feedback loop, a dictionary of them by name, or a function that "
                "returns either; or name another with --loops"
            )
        loops, task = _built(names[self.loops]), _built(names.get(self.task))
        if not isinstance(loops, Feedback | dict):
            raise RobustctlError(
                f"{self.loops} must be a loop or a dictionary of loops, got {type(loops).__name__}"
            )
        made = report(
            loops,
            task,
            title=self.file.stem,
            horizon=self.horizon,
            count=self.episodes,
            search=self.search,
            seed=self.seed,
        )
        print(made)
        out = self.out or Path(self.file.stem)
        made.save(out)
        print(f"report: {out / 'report.html'}")
        return 0


def _names(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}; name a Python file that builds the loops")
    return runpy.run_path(str(file), run_name="robustctl_report")


def _built(value: Any) -> Any:
    from ..plants import Task
    from ..system import System

    return value() if callable(value) and not isinstance(value, System | Task) else value
