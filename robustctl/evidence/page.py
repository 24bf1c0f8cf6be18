"""The evidence as one HTML page."""

import html
import os
import urllib.parse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..reports.html_page import document, origin
from .clauses import CLAUSES, NOT_COVERED, PRACTICE, SUPPORTS
from .line import KINDS, Line, State

_STYLE = """
article { border-left: .4rem solid; padding: .3rem 0 .3rem 1rem; margin: 1.2rem 0; break-inside: avoid; }
article.holds { border-color: #2a7d3c; }
article.fails { border-color: #b3261e; background: #fdeceb; }
article.unchecked { border-color: #b58a1b; }
article.missing { border-color: #bbb; color: #666; }
h3 { font-size: 1rem; margin: 0; }
b.state { display: inline-block; color: #fff; border-radius: .2rem; padding: 0 .45rem; margin-right: .5rem; font-size: .85rem;
  font-weight: 600; -webkit-print-color-adjust: exact; print-color-adjust: exact; }
.holds b.state { background: #2a7d3c; } .fails b.state { background: #b3261e; }
.unchecked b.state { background: #8a6a10; } .missing b.state { background: #777; }
article p, article ul { margin: .3rem 0; overflow-wrap: anywhere; }
article ul { padding-left: 1.2rem; }
pre { font-size: .8rem; line-height: 1.35; white-space: pre-wrap; overflow-wrap: anywhere; margin: .4rem 0; }
code { font-size: .85rem; overflow-wrap: anywhere; }
.sha, .supports { color: #555; font-size: .85rem; }
@media print { body { margin: 0; max-width: none; font-size: 11px; } a { color: inherit; } }
"""
_CLASSES = {
    State.HOLDS: "holds", State.FAILS: "fails", State.UNCHECKED: "unchecked", State.MISSING: "missing",
}  # fmt: skip


def page(folder: Path, lines: Iterable[Line], hashes: Mapping[Path, str], about: dict[str, Any]) -> str:
    """Return the page.

    **Arguments:**

    - `folder`: where it is written, from which its links lead.
    - `lines`: of evidence.
    - `hashes`: sha256 of each file of the lines that is there.
    - `about`: versions, machine, commit and time.
    """
    lines = list(lines)
    parts = [
        f"<p>{_summary(lines)}</p>", f'<p class="origin">Checked {html.escape(about["made"])}</p>', origin(about),
        *(_article(line, folder, hashes) for line in lines),
        _assumptions(lines), _practice(),
    ]  # fmt: skip
    return document(f"Evidence: {folder.resolve().name}", _STYLE, "\n".join(parts))


def _summary(lines: list[Line]) -> str:
    counts = {state: sum(line.state == state for line in lines) for state in State}
    text = ", ".join(f"{state.value}: {count}" for state, count in counts.items() if count)
    return (
        f"<strong>{text}.</strong> Each line links the files that it is about and names the command that repeats it. This page claims no "
        "conformity with any standard."
    )


def _article(line: Line, folder: Path, hashes: Mapping[Path, str]) -> str:
    state = _CLASSES[line.state]
    parts = [
        f'<article class="{state}"><h3><b class="state">{line.state.value}</b>{html.escape(KINDS[line.kind].title)}</h3>',
        f"<p>{html.escape(line.found)}</p>", *map(_detail, line.details),
    ]  # fmt: skip
    if line.files:
        parts.append(f"<ul>{''.join(_file(path, folder, hashes.get(path)) for path in line.files)}</ul>")
    if line.command:
        verb = "Made by" if line.state == State.MISSING else "Repeated by"
        parts.append(f"<p>{verb} <code>{html.escape(line.command)}</code></p>")
    if line.kind in SUPPORTS and line.state == State.HOLDS:
        clause, what = SUPPORTS[line.kind]
        parts.append(
            f'<p class="supports">Can support F3269-21, {clause} ({CLAUSES[clause]}): {html.escape(what)}.</p>'
        )
    return "\n".join([*parts, "</article>"])


def _detail(text: str) -> str:
    escaped = html.escape(text)
    return f"<pre>{escaped}</pre>" if "\n" in text else f"<p>{escaped}</p>"


def _file(path: Path, folder: Path, digest: str | None) -> str:
    name = html.escape(shown(path, folder))
    if digest is None:
        return f"<li>{name}, which is gone</li>"
    return (
        f'<li><a href="{link(path, folder)}">{name}</a> <span class="sha">sha256 {digest[:16]}…</span></li>'
    )


def shown(path: Path, folder: Path) -> str:
    """Return a file's name from a folder."""
    try:
        return os.path.relpath(path, folder).replace(os.sep, "/")
    except ValueError:  # another drive
        return str(path)


def link(path: Path, folder: Path) -> str:
    """Return the link from a page in a folder to a file."""
    try:
        return html.escape(urllib.parse.quote(os.path.relpath(path, folder).replace(os.sep, "/")))
    except ValueError:  # another drive
        return html.escape(path.resolve().as_uri())


def assumptions(lines: Iterable[Line]) -> list[str]:
    """Return what the lines assume, each once."""
    first = "proofs are about the models in the files, and about a plant only within the model error that they name"
    return list(dict.fromkeys([first, *(text for line in lines for text in line.assumptions)]))


def _assumptions(lines: list[Line]) -> str:
    clause, what = SUPPORTS["assumptions"]
    return (
        f"<h2>Assumed, not checked</h2>\n<ul>{_items(assumptions(lines))}</ul>\n"
        f'<p class="supports">Can support F3269-21, {clause} ({CLAUSES[clause]}): {html.escape(what)}.</p>'
    )


def _practice() -> str:
    cited = f"{PRACTICE}. Cited are its scope (section 1) and its significance and use (section 4)"
    return (
        f"<h2>About the practice for run-time assurance</h2>\n<p>{html.escape(cited)}; what a line can support is our reading. "
        f"Nothing here covers:</p>\n<ul>{_items(NOT_COVERED)}</ul>"
    )


def _items(texts: Iterable[str]) -> str:
    return "".join(f"<li>{html.escape(text)}</li>" for text in texts)
