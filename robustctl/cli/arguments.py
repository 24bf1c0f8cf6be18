"""Command-line arguments to a command, and a command to its arguments."""

import dataclasses
import io
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
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


def rebuilt(commands: dict[str, Any], words: Any) -> Any:
    """Return the command of arguments that a file has, as `arguments` gives them after its name.

    The parser has flags that no command has, one of which writes a file anywhere: words that begin as flags must be those
    of the command's fields.

    **Raises:** `RobustctlError` for anything else.
    """
    from ..checks import are_all

    texts = are_all(words, str) and all(map(_is_plain, words))
    if not texts or not words or words[0] not in commands:
        raise RobustctlError(
            f"a repeated command must be one of {', '.join(commands)} with its arguments, got {str(words)[:80]!r}"
        )
    known = _flags(commands[words[0]])
    for word in words[1:]:
        if word.startswith("-") and word not in known and not _is_number(word):
            raise RobustctlError(
                f"{words[0]} must be repeated with its own options, got {word[:80]!r}; it has {', '.join(sorted(known))}"
            )
    try:
        with (
            redirect_stderr(io.StringIO()),
            redirect_stdout(io.StringIO()),
        ):  # its help is that of a user's command line
            return parsed(commands, words)
    except SystemExit:
        raise RobustctlError(
            f"{words[0]} must be repeated with arguments that it can read, got {' '.join(words)[:400]!r}"
        ) from None


def _flags(command: type) -> set[str]:
    """Return the flags of a command's fields; those of a field that is a dataclass have no prefix."""
    found = set()
    for name, hint in get_type_hints(command).items():
        if dataclasses.is_dataclass(hint):
            found |= _flags(hint)  # pyright: ignore[reportArgumentType]
        else:
            flag = name.replace("_", "-")
            found |= {f"--{flag}", f"--no-{flag}"} if hint is bool else {f"--{flag}"}
    return found


def _is_plain(word: str) -> bool:
    """Return whether a word can be one of a command line and a file's name."""
    return word.isprintable() and len(word) < 4096


def _is_number(word: str) -> bool:
    with suppress(ValueError):
        float(word)
        return True
    return False


def arguments(command: Any) -> tuple[str, ...]:
    """Return the arguments that build a command's dataclass again, with absolute paths and without defaults.

    The arguments of a field that is itself a dataclass have no prefix, as on the command line.
    """
    hints = get_type_hints(type(command), include_extras=True)
    first, named = [], []
    values = vars(command)
    for field in dataclasses.fields(command):
        value = values[field.name]
        positional = tyro.conf.Positional in get_args(hints[field.name])
        if dataclasses.is_dataclass(value):
            named += arguments(value)
        elif positional:
            first += _words(value)
        elif field.default is dataclasses.MISSING or value != field.default:
            named += _flag(field.name.replace("_", "-"), value)
    return (*first, *named)


def _flag(name: str, value: Any) -> list[str]:
    match value:
        case True:
            return [f"--{name}"]
        case False:
            return [f"--no-{name}"]
        case _:
            return [f"--{name}", *_words(value)]


def _words(value: Any) -> list[str]:
    match value:
        case tuple():
            return [word for part in value for word in _words(part)]
        case Path():
            return [str(value.absolute())]
        case _:
            return [str(value)]
