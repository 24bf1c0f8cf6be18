"""How a training went."""

from typing import TYPE_CHECKING

import numpy as np

from ..errors import RobustctlError
from ..train import Fit

if TYPE_CHECKING:
    import matplotlib.figure
    from matplotlib.axes import Axes


def training(fit: Fit) -> "matplotlib.figure.Figure":
    """Draw the loss of each epoch on the training and, where there was one, the validation record.

    The epoch whose model was kept is marked. The axis is logarithmic unless a loss is zero or negative.

    **Raises:** `RobustctlError` for a fit that ended before its first epoch.
    """
    loss, validation = fit.history["loss"], fit.history["validation"]
    if not len(loss):
        raise RobustctlError(f"a fit must have an epoch to draw, got none ({fit.stopped}); fit again")
    from matplotlib.ticker import MaxNLocator

    from .canvas import BLUE, ORANGE, SMALL, heading, panels

    figure, axes = panels(1, 1, (6.5, 3.4))
    ax = axes[0, 0]
    _curve(ax, loss, "training", BLUE)
    if not np.isnan(validation).all():
        _curve(ax, validation, "validation", ORANGE)
    _mark(ax, fit)
    drawn = np.concatenate([loss, validation])
    drawn = drawn[np.isfinite(drawn)]
    if drawn.size and drawn.min() > 0:
        ax.set_yscale("log")
    ax.set_xlabel("epoch", fontsize=SMALL + 1)
    ax.set_ylabel("loss of scaled outputs", fontsize=SMALL + 1)
    ax.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    room = max(0.5, 0.02 * len(loss))
    ax.set_xlim(-room, len(loss) - 1 + room)
    ax.legend(frameon=False, fontsize=SMALL)
    heading(figure, "Training", str(fit))
    return figure


def _curve(ax: "Axes", values: np.ndarray, label: str, color: str) -> None:
    from .canvas import line

    epochs = np.arange(len(values))
    line(ax, epochs, values, color=color, linewidth=1.4, label=label)


def _mark(ax: "Axes", fit: Fit) -> None:
    """Mark the kept epoch on the curve that it was judged by."""
    from .canvas import INK

    best = fit.best_epoch
    if not 0 <= best < len(fit.history["loss"]):
        return
    values = [fit.history[name][best] for name in ("validation", "loss")]
    value = next((v for v in values if np.isfinite(v)), None)
    ax.axvline(best, color=INK, linewidth=0.9, linestyle=":")
    if value is not None:
        ax.plot([best], [value], "o", color=INK, markersize=5, label=f"kept: epoch {best}, {value:.3g}")
