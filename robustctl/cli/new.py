"""Write a script to begin with."""

import dataclasses
import importlib.util
import keyword
from pathlib import Path
from typing import Literal

import tyro

from ..errors import RobustctlError

Positional = tyro.conf.Positional
TEMPLATES = Path(__file__).parent / "templates"
PLACE = "NAME"  # stands in the templates where the script's name goes


@dataclasses.dataclass(frozen=True)
class New:
    """Write NAME.py: a script that trains, certifies and saves, to change for your own log or plant. It runs as it is.

    Args:
        kind: What the script makes: an observer, a policy for a plant, or a model identified from a log (sysid).
        name: Of the script, without its ending; it is written to the working folder.
    """

    kind: Positional[Literal["observer", "policy", "sysid"]]
    name: Positional[str]

    def __call__(self) -> int:
        """Run the command."""
        _check(self.name)
        script = Path(f"{self.name}.py")
        text = (TEMPLATES / f"{self.kind}.py").read_text(encoding="utf-8")
        try:
            with script.open("x", encoding="utf-8") as file:
                file.write(text.replace(PLACE, self.name))
        except FileExistsError:
            raise RobustctlError(
                f"{script} must not exist yet, and it does; take another name, or move it away"
            ) from None
        print(f"wrote {script}; run it with `python {script} --quick`, then change the lines marked CHANGE")
        return 0


def _check(name: str) -> None:
    """Refuse a name that Python could not import, or that would hide a package from the script itself."""
    if not name.isidentifier() or keyword.iskeyword(name):
        raise RobustctlError(
            f"name must be a Python identifier (letters, digits and _, no digit first, no path, no ending), got {name!r}"
        )
    if name == "__main__" or _importable(name):
        raise RobustctlError(
            f"name must not be that of a package, got {name!r}: Python would find {name}.py in its place"
        )


def _importable(name: str) -> bool:
    """Whether `import name` finds something else than what lies in the working folder itself."""
    found, here = importlib.util.find_spec(name), Path.cwd()
    own = {str(here / f"{name}.py"), str(here / name / "__init__.py")}
    return found is not None and found.origin is not None and found.origin not in own
