"""The command that writes a script to start from."""

import dataclasses
import importlib.util
import keyword
from pathlib import Path
from typing import Literal

import tyro

from ..errors import RobustctlError

Positional = tyro.conf.Positional
TEMPLATES = Path(__file__).parent / "templates"
PLACEHOLDER = "NAME"  # of the script's name in the templates


@dataclasses.dataclass(frozen=True)
class New:
    """Write NAME.py: a script that trains, certifies and saves, to adapt to your own log or plant. It runs unchanged.

    Args:
        kind: The result of the script: an observer, a policy for a plant, or a model identified from a log (sysid).
        name: Name of the script, without its suffix; it is written to the working folder.
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
                file.write(text.replace(PLACEHOLDER, self.name))
        except FileExistsError:
            raise RobustctlError(
                f"{script} must not exist yet, and it does; give another name, or move the file"
            ) from None
        print(f"wrote {script}; run it with `python {script} --quick`, then change the lines marked CHANGE")
        return 0


def _check(name: str) -> None:
    """Refuse a name that Python cannot import, or that would shadow a package that the script imports."""
    if not name.isidentifier() or keyword.iskeyword(name):
        raise RobustctlError(
            f"name must be a Python identifier (letters, digits and _, no digit first, no path, no suffix), got {name!r}"
        )
    if name == "__main__" or _importable(name):
        raise RobustctlError(
            f"name must differ from every package, got {name!r}: Python would import {name}.py instead; give another name"
        )


def _importable(name: str) -> bool:
    """Return whether `import name` finds a module outside the working folder."""
    found, here = importlib.util.find_spec(name), Path.cwd()
    own = {str(here / f"{name}.py"), str(here / name / "__init__.py")}
    return found is not None and found.origin is not None and found.origin not in own
