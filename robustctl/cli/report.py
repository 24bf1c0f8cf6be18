"""The command that reports on the feedback loops of a script."""

import contextlib
import dataclasses
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tyro

from ..errors import RobustctlError

Positional = tyro.conf.Positional


@dataclasses.dataclass(frozen=True)
class Report:
    """Compare the robustness of the loops that a Python file builds: margins, step responses, worst disturbance.

    The file is run. Its variable `loops` is a feedback loop, a dictionary of loops by name, or a function that returns
    either; its variable `task`, if there is one, is a task or a function that returns one.

    Args:
        file: A Python file.
        loops: Name of the variable that holds the loops.
        task: Name of the variable that holds the task, if there is one.
        horizon: Samples of each episode; default: the task's.
        episodes: Number of episodes of the task.
        search: Gradient steps for the worst disturbance, 0 for none.
        seed: Random seed of the episodes and the search.
        out: Folder for report.html, report.json, report.txt and the figures; default: the file's name without its suffix.
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
        from ..checks import of_type
        from ..loops import Feedback
        from ..robustness import report

        with _importable(self.file.parent):  # functions among the names may import, too
            names = _names(self.file)
            if self.loops not in names:
                raise RobustctlError(
                    f"{self.file} must define {self.loops}: a feedback loop, a dictionary of loops by name, or a function "
                    "that returns either; or name another variable with --loops"
                )
            loops, task = _built(names[self.loops]), _built(names.get(self.task))
        kinds: Any = Feedback | dict
        of_type(loops, kinds, f"{self.loops} must be a loop or a dictionary of loops")
        made = report(
            loops,
            task,
            title=self.file.stem,
            horizon=self.horizon,
            count=self.episodes,
            search=self.search,
            seed=self.seed,
            progress=lambda line: print(line, file=sys.stderr, flush=True),
        )
        print(made)
        out = self.out or Path(self.file.stem)
        made.save(out)
        print(f"report: {out / 'report.html'}")
        return 0


def _names(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}; name a Python file that builds the loops")
    print(f"running {file}", file=sys.stderr, flush=True)
    return runpy.run_path(str(file), run_name="robustctl_report")


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Let a file import the modules in its folder, as `python FILE` does."""
    sys.path.insert(0, str(folder.absolute()))
    try:
        yield
    finally:
        sys.path.remove(str(folder.absolute()))


def _built(value: Any) -> Any:
    from ..plants import Task
    from ..system import System

    # Systems and tasks may define __call__ themselves.
    return value() if callable(value) and not isinstance(value, System | Task) else value
