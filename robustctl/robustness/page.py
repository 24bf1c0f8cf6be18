"""A self-contained HTML page with one or several reports."""

import base64
import html
from collections.abc import Sequence

from ..reports.folder import png
from ..reports.html_page import document, origin
from .analysis import Findings
from .tables import rows, shown

_CAPTIONS = {
    "bode": "Loop gain with the loop opened at each control, the others closed. The gain margin is read at -180 degrees, the "
    "phase margin at 0 dB.",
    "nyquist": "The same in the complex plane. The closer a curve comes to the point -1, the smaller the margins.",
    "sensitivity": "A peak of S is the factor by which the loop amplifies disturbances at the output at that frequency; a peak "
    "of T shows where the loop is sensitive to noise and model errors.",
    "steps": "Responses of the nonlinear loop, each signal in its unit. A step of a set point is an offset of the sensor.",
    "worst_case": "The result of gradient ascent through the nonlinear loop, from the equilibrium. The gain is the ratio of the "
    "two signals' norms.",
}

_STYLE = """
div.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .18rem .9rem .18rem 0; text-align: right; white-space: nowrap; }
th:first-child, td:first-child, td.unit { text-align: left; }
thead th { border-bottom: 2px solid #444; }
tr.group th { text-align: left; padding-top: .8rem; border-bottom: 1px solid #ccc; }
td.unit { color: #666; }
figure { margin: 1.6rem 0; }
img { max-width: 100%; height: auto; }
figcaption { color: #444; font-size: .92rem; max-width: 46rem; }
dt { font-weight: 600; margin-top: .5rem; }
dd { margin-left: 0; max-width: 52rem; }
"""


def pictures(report: Findings) -> dict[str, bytes]:
    """Return the figures as PNG files, by name."""
    from .figures import draw

    return {name: png(figure) for name, figure in draw(report).items()}


def page(reports: Sequence[Findings], *, title: str | None = None) -> str:
    """Return reports as one HTML page that needs no other file and no network.

    **Arguments:**

    - `reports`: results of `report`
    - `title`: of the page, default the first report's
    """
    title = title or reports[0].title
    sections = "\n".join(map(_section, reports))
    return document(title, _STYLE, f"{origin(reports[0].origin)}\n{sections}")


def _section(report: Findings) -> str:
    notes = "\n".join(f"<dt>{html.escape(n)}</dt><dd>{html.escape(text)}</dd>" for n, text in report.notes())
    figures = "\n".join(_figure(name, picture) for name, picture in pictures(report).items())
    s = report.settings
    how = f"{s['episodes']} episodes of {s['horizon']} samples; steps and worst case without noise."
    return (
        f"<h2>{html.escape(report.head())}</h2>\n<p>{how}</p>\n{_table(report)}\n"
        f"<h3>What is proven</h3>\n<dl>{notes}</dl>\n{figures}"
    )


def _table(report: Findings) -> str:
    names = "".join(f"<th>{html.escape(name)}</th>" for name in report.loops)
    lines, group = [], None
    for row in rows(report):
        if row.group != group:
            group = row.group
            lines.append(
                f'<tr class="group"><th colspan="{len(report.loops) + 2}">{html.escape(group)}</th></tr>'
            )
        values = "".join(f"<td>{shown(value)}</td>" for value in row.values)
        lines.append(
            f'<tr><td>{html.escape(row.name)}</td><td class="unit">{html.escape(row.unit)}</td>{values}</tr>'
        )
    body = "\n".join(lines)
    return f'<div class="wide"><table><thead><tr><th></th><th></th>{names}</tr></thead><tbody>\n{body}\n</tbody></table></div>'


def _figure(name: str, picture: bytes) -> str:
    data = base64.b64encode(picture).decode()  # embedded, so that the page is one file
    caption = html.escape(_CAPTIONS[name])
    return f'<figure><img alt="{name}" src="data:image/png;base64,{data}"><figcaption>{caption}</figcaption></figure>'
