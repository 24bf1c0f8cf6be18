"""Training histories."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ..errors import RobustctlError
from ..train import Fit

if TYPE_CHECKING:
    import matplotlib.figure
    from matplotlib.axes import Axes

_BELOW = {
    "learning_rate": "learning rate", "gradient_norm": "gradient norm", "certificate_margin": "certificate\nmargin",
}  # fmt: skip


_LARGEST = 1e100
"""Of the drawn values: Matplotlib's ticks overflow for those near the largest float."""


def training(fit: Fit) -> "matplotlib.figure.Figure":
    """Draw the losses of each epoch, and below them learning rate, gradient norm and certificate margin.

    The best epoch, whose model the fit returned, is marked. Columns that the history does not have are left out.

    **Raises:** `RobustctlError` for a fit that ended before its first epoch.
    """
    if not len(fit.history["loss"]):
        raise RobustctlError(f"a fit must have an epoch to draw, got none ({fit.stopped}); fit again")
    return history(fit.history, fit.best_epoch, str(fit))


def history(columns: Mapping[str, np.ndarray], best: int, *lines: str) -> "matplotlib.figure.Figure":
    """Draw the columns of a history.

    Axes are logarithmic unless a value is zero or negative; the axis of the margin is logarithmic on both sides of zero. An
    infinite margin (no certificate) is a cross.

    **Arguments:**

    - `columns`: as in `Fit.history`, one entry per epoch; `epoch`, where not every epoch has an entry.
    - `best`: the epoch to mark, -1 for none.
    - `lines`: of text below the title.
    """
    from matplotlib.ticker import MaxNLocator

    from .canvas import SMALL, heading, panels

    columns = {name: _limited(np.asarray(column, np.float64)) for name, column in columns.items()}
    below = [name for name in _BELOW if not np.isnan(columns.get(name, np.nan)).all()]
    heights = [3.4, *(1.5 for _ in below)]
    figure, axes = panels(len(heights), 1, (6.5, float(np.mean(heights))), sharex=True, height_ratios=heights)
    epochs = np.asarray(columns.get("epoch", np.arange(len(columns["loss"]))))
    _losses(axes[0, 0], epochs, columns, best)
    for ax, name in zip(axes[1:, 0], below, strict=True):
        _panel(ax, name, epochs, columns[name])
    ax, last = axes[-1, 0], float(epochs.max())
    ax.set_xlabel("epoch", fontsize=SMALL + 1)
    ax.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    room = max(0.5, 0.02 * (last + 1))
    ax.set_xlim(-room, last + room)
    figure.align_ylabels()
    heading(figure, "Training", *lines)
    return figure


def _limited(values: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(values), np.clip(values, -_LARGEST, _LARGEST), values)


def _losses(ax: "Axes", epochs: np.ndarray, columns: Mapping[str, np.ndarray], best: int) -> None:
    from .canvas import BLUE, ORANGE, SMALL

    loss, validation = columns["loss"], columns["validation"]
    _curve(ax, epochs, loss, label="training", color=BLUE)
    if not np.isnan(validation).all():
        _curve(ax, epochs, validation, label="validation", color=ORANGE)
    _mark(ax, best, *(column[epochs == best] for column in (validation, loss)))
    _logarithmic(ax, np.concatenate([loss, validation]))
    ax.set_ylabel("loss", fontsize=SMALL + 1)
    ax.legend(frameon=False, fontsize=SMALL)


def _panel(ax: "Axes", name: str, epochs: np.ndarray, values: np.ndarray) -> None:
    from .canvas import INK, PURPLE, SMALL, VERMILION

    ax.set_ylabel(_BELOW[name], fontsize=SMALL + 1)
    if name != "certificate_margin":
        _curve(ax, epochs, values, color=PURPLE)
        return _logarithmic(ax, values)
    computed, broken = np.flatnonzero(np.isfinite(values)), np.flatnonzero(np.isposinf(values))
    ax.axhline(0.0, color=INK, linewidth=0.8)
    ax.plot(epochs[computed], values[computed], color=PURPLE, linewidth=1.4, marker=".", markersize=4)
    ax.plot(epochs[broken], np.zeros(len(broken)), "x", color=VERMILION, markersize=5)
    sizes = np.abs(values[computed])
    if (sizes > 0).any():
        # Margins of 1e-12 and of 1 are both shown; below the smallest the axis is linear, because zero has no logarithm.
        ax.set_yscale("symlog", linthresh=float(sizes[sizes > 0].min()))
    ax.margins(y=0.1)


def _curve(ax: "Axes", epochs: np.ndarray, values: np.ndarray, **style) -> None:
    from .canvas import line

    line(ax, epochs, values, linewidth=1.4, **style)


def _logarithmic(ax: "Axes", values: np.ndarray) -> None:
    finite = values[np.isfinite(values)]
    if finite.size and finite.min() > 0:
        ax.set_yscale("log")


def _mark(ax: "Axes", best: int, *at_best: np.ndarray) -> None:
    """Mark an epoch on the curve by which it was selected; `at_best`: the values there, none where it has no entry."""
    from .canvas import INK

    found = np.concatenate(at_best)
    if not found.size:
        return
    ax.axvline(best, color=INK, linewidth=0.9, linestyle=":")
    if np.isfinite(found).any():
        value = found[np.isfinite(found)][0]
        ax.plot([best], [value], "o", color=INK, markersize=5, label=f"best: epoch {best}, {value:.3g}")
