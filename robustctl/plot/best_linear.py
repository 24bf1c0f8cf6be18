"""The best linear approximation over frequency, with noise and nonlinear distortion."""

from typing import TYPE_CHECKING

import numpy as np

from ..identify import BestLinear, ResponseFit
from .uncertainty import MOST

if TYPE_CHECKING:
    import matplotlib.figure


def best_linear(best: BestLinear, fit: ResponseFit | None = None) -> "matplotlib.figure.Figure":
    """Draw the gain of the best linear approximation, and its standard deviations by noise and by noise and distortion.

    Where the line of both stands above that of the noise, the plant is nonlinear there.

    **Arguments:**

    - `best`: from `rc.identify.best_linear`
    - `fit`: a model of it to draw as well, from `rc.identify.fit_response`
    """
    from .canvas import BLUE, GREEN, ORANGE, SMALL, heading, labeled, legend_below, panels

    rows, columns = min(len(best.outputs), MOST), min(len(best.inputs), MOST)
    figure, axes = panels(rows, columns, (4.0 if columns > 1 else 6.0, 2.6), sharex="all")
    for (i, j), ax in np.ndenumerate(axes):
        lines = (
            (np.abs(best.G), BLUE, "best linear approximation"),
            (best.total, ORANGE, "deviation, noise and distortion"),
            (best.noise, GREEN, "deviation, noise"),
        )
        for values, color, label in lines:
            # A line that is exactly zero, as without noise, has no logarithm.
            level = 20 * np.log10(np.where(values[:, i, j] > 0, values[:, i, j], np.nan))
            ax.semilogx(best.omega, level, ".", color=color, markersize=3, label=label)
        if fit is not None:
            gain = np.abs(fit.frequency_response(best.omega).value[:, i, j])
            level = 20 * np.log10(np.maximum(gain, 1e-300))
            ax.semilogx(best.omega, level, color="0.2", lw=0.9, label="fitted model")
        if i == 0:
            ax.set_title(f"from {labeled(best.inputs[j])}", fontsize=SMALL + 1)
        if i == rows - 1:
            ax.set_xlabel("frequency [rad/s]", fontsize=SMALL + 1)
        if j == 0:
            ax.set_ylabel(f"{labeled(best.outputs[i])}\n[dB]", fontsize=SMALL)
    legend_below(figure, axes[0, 0])
    known = "" if np.isfinite(best.total).any() else "; distortion takes more experiments than inputs"
    heading(
        figure,
        "Best linear approximation",
        f"{best.experiments} experiments of {best.periods} periods{known}",
    )
    return figure
