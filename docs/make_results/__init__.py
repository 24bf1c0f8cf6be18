"""The results pages of the site, written from the files of `results/` when it is built: no figure on them is typed by hand.

The pages are in the folder of this file as text with holes, `{{table NAME}}` and the like: `read` brings the files, `pages` fills the
holes, `write` does both for the site.
"""

import json
import re
import subprocess
from fnmatch import fnmatch
from pathlib import Path

from . import compared, fixed_point, identified, imitation, learning, robust, software, speed
from .markdown import COMMANDS, command, number, origin, spread, table

__all__ = ["COMMANDS", "command", "number", "origin", "pages", "read", "spread", "write"]

HERE = Path(__file__).parent
RESULTS = HERE.parent.parent / "results"
TABLES = (
    compared.TABLES
    | fixed_point.TABLES
    | identified.TABLES
    | learning.TABLES
    | speed.TABLES
    | software.TABLES
    | imitation.TABLES
    | robust.TABLES
)
Results = dict[str, dict]


def read(folder: Path) -> Results:
    """Return the results by name, each with the date of its code and the figures that belong to it."""
    found = {}
    for path in sorted(folder.rglob("*.json")):
        name = path.relative_to(folder).with_suffix("").as_posix()
        result = json.loads(path.read_text("utf-8"))
        figures = [f"{name}{end}.png" for end in ("", "_field") if (folder / f"{name}{end}.png").is_file()]
        found[name] = {"date": _date(result.get("commit", "unknown")), "figures": figures} | result
    return found


def _date(commit: str) -> str | None:
    """Return the day of a commit; None outside of git and for one that this clone has not."""
    show = ["git", "show", "--no-patch", "--format=%cs", commit]
    try:
        return subprocess.run(show, cwd=HERE, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def pages(results: Results) -> dict[str, str]:
    """Return the Markdown of every page by its name; files that no page asks for are told at the end of the first."""
    texts = {path.stem: path.read_text("utf-8") for path in sorted(HERE.glob("*.md"))}
    asked = {
        n
        for text in texts.values()
        for m in re.findall(r"{{sources (.*?)}}", text)
        for n in _names(results, m)
    }
    filled = {
        page: re.sub(r"{{(\w+) (.*?)}}", lambda hole: FILL[hole[1]](results, hole[2]), text)
        for page, text in texts.items()
    }
    rest = [_unknown(name, result) for name, result in results.items() if name not in asked]
    return filled | {"results": "\n\n".join([filled["results"].rstrip(), *rest]) + "\n"}


def _names(results: Results, patterns: str) -> list[str]:
    """Return the files that are asked for: those with a command, and others that are there."""
    every = dict.fromkeys([*COMMANDS, *results])
    return [name for pattern in patterns.split() for name in every if fnmatch(name, pattern)]


def _table(results: Results, asked: str) -> str:
    name, *arguments = asked.split()
    return TABLES[name](results, *arguments) or "*Not measured.*"


def _figures(results: Results, patterns: str) -> str:
    figures = [f for name in _names(results, patterns) for f in results.get(name, {}).get("figures", ())]
    return "\n\n".join(f"![{Path(figure).stem.replace('_', ' ')}](../results/{figure})" for figure in figures)


def _sources(results: Results, patterns: str) -> str:
    lines = [
        origin(name, results[name]) if name in results else f"{name}: not measured; {command(name)}."
        for name in _names(results, patterns)
    ]
    return "\n".join(f"- {line}" for line in lines)


def _found(results: Results, keys: str):
    found = results
    for key in keys.split():
        found = found.get(key, {})
    return found


def _value(results: Results, keys: str) -> str:
    return number(_found(results, keys) or None)


def _list(results: Results, keys: str) -> str:
    return "\n".join(f"- {line}" for line in _found(results, keys))


FILL = {"table": _table, "figures": _figures, "sources": _sources, "value": _value, "list": _list}


def _unknown(name: str, result: dict) -> str:
    own = [
        (k, v) for k, v in result.items() if isinstance(v, int | float | str) and k not in ("commit", "date")
    ]
    return f"## {name}\n\nA file that has no table of its own yet.\n\n{table(('', ''), own)}\n\n- {origin(name, result)}"


def write(folder: Path) -> None:
    """Write the pages into the folder of the site; git ignores them."""
    for name, text in pages(read(RESULTS)).items():
        (folder / f"{name}.md").write_text(text, encoding="utf-8")
