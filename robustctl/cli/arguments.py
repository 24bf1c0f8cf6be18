"""Command-line arguments to a command, and a command to its arguments."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args, get_type_hints

import tyro

from ..errors import RobustctlError


def run_command(commands: dict[str, Any], arguments: Sequence[str] | None, prog: str) -> int:
    """Run the command that the arguments name; exit status 2: bad input, 130: interrupted, otherwise the command's.

    **Arguments:**

    - `commands`: dataclasses with `__call__`, by name.
    - `arguments`: of the command line; those of the process where None.
    - `prog`: the program's name in messages.
    """
    try:
        return parsed(commands, arguments, prog)()
    except (RobustctlError, OSError) as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{prog}: interrupted", file=sys.stderr)
        return 130


def parsed(commands: dict[str, Any], arguments: Sequence[str] | None, prog: str = "robustctl") -> Any:
    """Return the command that the arguments name; see `run_command`."""
    bare = (tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes)
    about = "Certified recurrent networks for models, observers and controllers. `robustctl --version` prints the version."
    return tyro.extras.subcommand_cli_from_dict(
        commands, args=arguments, prog=prog, description=about, config=bare
    )


def arguments(command: Any) -> tuple[str, ...]:
    """Return the arguments that build a command's dataclass again, with absolute paths and without defaults.

    The arguments of a field that is itself a dataclass have no prefix, as on the command line.
    """
    hints = get_type_hints(type(command), include_extras=True)
    first, named = [], []
    for field in dataclasses.fields(command):
        value = getattr(command, field.name)
        positional = tyro.conf.Positional in get_args(hints[field.name])
        if dataclasses.is_dataclass(value):
            named += arguments(value)
        elif positional:
            first += _words(value)
        elif field.default is dataclasses.MISSING or value != field.default:
            named += _flag(field.name.replace("_", "-"), value)
    return (*first, *named)


def _flag(name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    return [f"--{name}", *_words(value)]


def _words(value: Any) -> list[str]:
    if isinstance(value, tuple):
        return [str(part) for part in value]
    return [str(value.absolute()) if isinstance(value, Path) else str(value)]
