"""Parts that the figures share; it imports matplotlib, so functions that draw import it when they are called."""

import io
import itertools
import math
import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's colors, which are distinct for every kind of color vision.
BLUE, ORANGE, VERMILION, GREEN, PURPLE, SKY = "#0072B2", "#E69F00", "#D55E00", "#009E73", "#CC79A7", "#56B4E9"
CYCLE = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY)
INK, GREY, SHADE = "#3C3C3C", "#8E8E8E", "#E4E4E4"
SMALL = 8.5
_MOST_POINTS = 8000  # of a line: several per pixel of the widest panel, so thinning is not visible
_TIME_UNITS = ((1.0, "s"), (1e3, "ms"), (1e6, "µs"), (1e9, "ns"))
_SHORTEST = 0.2  # of a time axis in one of these units: its labels have two digits behind the point at most
_LATE = 100.0  # starts that many times its length after zero: labels would have three equal digits in front
_WIDE = 5.0  # inches of an axis that hold eight labels, all others hold five
_LINE = 24  # characters that fit along the side of a small panel


class Canvas(Figure):
    """A figure that notebooks show without pyplot."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=100)
        return buffer.getvalue()


def panels(rows: int, columns: int, size: tuple[float, float], **share) -> tuple[Canvas, np.ndarray]:
    """Return a figure of `rows` x `columns` panels, each of about `size` inches, and its axes.

    **Arguments:**

    - `rows`: number of rows.
    - `columns`: number of columns.
    - `size`: width and height of a panel, inches.
    - `share`: passed to `Figure.subplots`.
    """
    figure = Canvas(figsize=(columns * size[0], rows * size[1] + 0.9), dpi=120, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **share)
    for ax in axes.flat:
        ax.grid(True, color=SHADE, linewidth=0.6)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=SMALL)
    return figure, axes


def heading(figure: Figure, title: str, *lines: str) -> None:
    """Write a title and lines below it, wrapped, at the top left of the figure."""
    size = SMALL + 1.5
    # A letter of matplotlib's default font is 0.56 of its size wide on average.
    width = int(figure.get_figwidth() * 72 / (0.56 * size))
    wrapped = [plain(part) for text in (title, *lines) for part in textwrap.wrap(text, width)]
    figure.suptitle("\n".join(wrapped), x=0.01, ha="left", fontsize=size)


def legend_below(figure: Figure, ax: Axes, columns: int = 3) -> None:
    """Write below the panels what the lines of one of them are, which are those of all."""
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=columns, frameon=False, fontsize=SMALL + 1)


def labeled(name: str, unit: str = "", *, lines: int = 1) -> str:
    """Return `name [unit]` for the side or top of a panel, on at most `lines` lines; a longer text loses its middle."""
    text = f"{name} [{unit}]" if unit else name
    most = _LINE * lines
    if len(text) > most:
        text = f"{text[: most // 2]}…{text[len(text) - most // 2 + 1 :]}"
    return plain("\n".join(textwrap.wrap(text, _LINE)))


def plain(text: str) -> str:
    """Return text that matplotlib prints literally: dollar signs do not start a formula."""
    return text.replace("$", r"\$")


def time_axis(ax: Axes) -> None:
    """Label the time axis in s, ms, us or ns, and from a round time on where the axis starts long after zero.

    The data stay in seconds; call it when all of them are drawn.
    """
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    low, high = ax.get_xlim()
    span = high - low
    scale, unit = next((pair for pair in _TIME_UNITS if span * pair[0] >= _SHORTEST), _TIME_UNITS[-1])
    step = 10.0 ** math.floor(math.log10(span))
    # 2 %: the axis begins a little before its first sample.
    start = math.floor((low + 0.02 * span) / step) * step if abs(low) > _LATE * span else 0.0
    wide = ax.bbox.width / ax.figure.dpi > _WIDE
    ax.xaxis.set_major_locator(MaxNLocator(8 if wide else 5, steps=[1, 2, 5, 10]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda t, _: f"{(t - start) * scale:.6g}"))
    ax.set_xlabel(f"time - {start:.12g} s [{unit}]" if start else f"time [{unit}]", fontsize=SMALL + 1)


def line(ax: Axes, t: np.ndarray, y: np.ndarray, **style) -> None:
    """Draw a line with gaps where `y` is NaN; a sample between two gaps is a dot, a long line is thinned."""
    y = np.where(np.isfinite(y), y, np.nan)
    finite = np.isfinite(y)
    neighbors = np.concatenate([[False], finite, [False]])
    alone = finite & ~neighbors[:-2] & ~neighbors[2:]
    ax.plot(*_thinned(t, y), **style)
    if alone.any():
        dots = style | {"linestyle": "none", "marker": ".", "markersize": 3, "label": None}
        ax.plot(t[alone], y[alone], **dots)


def _thinned(t: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reduce a line to the lowest and the highest sample of each of many bins, which looks the same."""
    if len(t) <= _MOST_POINTS:
        return t, y
    edges = np.linspace(0, len(t), _MOST_POINTS // 2 + 1).astype(int)
    chosen = []
    for start, stop in itertools.pairwise(edges):
        part = y[start:stop]
        gap = np.isnan(part)
        ends = (np.argmin(np.where(gap, np.inf, part)), np.argmax(np.where(gap, -np.inf, part)))
        # One NaN of a bin is enough to break the line there.
        chosen += sorted({start + int(k) for k in (*ends, *np.flatnonzero(gap)[:1])})
    return t[chosen], y[chosen]
