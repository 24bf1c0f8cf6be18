"""Correlations of the residuals."""

from typing import TYPE_CHECKING

import numpy as np

from ..identify import Simulation
from ..identify.residuals import residual_correlations

if TYPE_CHECKING:
    import matplotlib.figure
    from matplotlib.axes import Axes

MOST = 6  # rows and columns of panels that can still be read on a screen


def residuals(simulation: Simulation, max_lag: int = 25) -> "matplotlib.figure.Figure":
    """Draw the autocorrelation of each residual and its correlation with each input, with 99 % bands.

    A row for each output; the first column shows the autocorrelation, each other column one input. Values
    outside their band are orange-red; the title counts those with lag >= 0, where the input precedes the residual. The
    numbers are those of `residual_correlations`.

    **Arguments:**

    - `simulation`: a free run from `rc.simulate`.
    - `max_lag`: largest lag, samples.

    **Raises:** `DataError` in the cases in which `residual_correlations` raises it.
    """
    found = residual_correlations(simulation, max_lag)
    from .canvas import SMALL, heading, labeled, panels

    record = simulation.record
    rows, inputs = min(record.ny, MOST), min(record.nu, MOST)
    figure, axes = panels(rows, 1 + inputs, (3.6, 2.0), sharey="row")
    first = len(found.lags) - 1
    for i in range(rows):
        output = labeled(record.outputs[i], lines=2)
        axes[i, 0].set_ylabel(f"residual of\n{output}", fontsize=SMALL + 1)
        _stems(axes[i, 0], found.lags[1:], found.auto[i, 1:], found.auto_band[i, 1:])
        _title(axes[i, 0], "with itself", found.auto[i, 1:], found.auto_band[i, 1:])
        for j in range(inputs):
            _stems(axes[i, 1 + j], found.cross_lags, found.cross[i, j], found.cross_band[i, j])
            # A residual that precedes the input shows feedback in the record, not a fault of the model.
            late = found.cross[i, j, first:], found.cross_band[i, j, first:]
            _title(axes[i, 1 + j], f"with {labeled(record.inputs[j])}", *late)
    for ax in axes[-1]:
        ax.set_xlabel(f"lag [samples of {record.dt:g} s]", fontsize=SMALL + 1)
    note = "shaded: 99 % band; counted: lags >= 0, where the input precedes the residual"
    more = ""
    if (rows, inputs) != (record.ny, record.nu):
        more = f"shown: the first {rows} of {record.ny} outputs and {inputs} of {record.nu} inputs"
    heading(figure, "Correlation of the residuals", note, more)
    return figure


def _stems(ax: "Axes", lags: np.ndarray, r: np.ndarray, band: np.ndarray) -> None:
    from .canvas import BLUE, INK, SHADE, SMALL, VERMILION

    ax.axhline(0.0, color=INK, linewidth=0.8)
    if np.isnan(r).all():
        why = "undefined: a constant signal,\nor too few pairs"
        ax.text(0.5, 0.6, why, ha="center", transform=ax.transAxes, fontsize=SMALL)
        return
    ax.fill_between(lags, -band, band, step="mid", color=SHADE, linewidth=0, zorder=1)
    outside = np.abs(r) > band
    for chosen, color in ((~outside, BLUE), (outside, VERMILION)):
        ax.vlines(lags[chosen], 0.0, r[chosen], color=color, linewidth=1.2, zorder=2)
        ax.plot(lags[chosen], r[chosen], linestyle="none", marker="o", markersize=3, color=color, zorder=3)


def _title(ax: "Axes", what: str, r: np.ndarray, band: np.ndarray) -> None:
    """Write how many of the lags that concern the model are outside: 1, 2, ... and, for an input, 0."""
    from .canvas import SMALL

    count = int(np.sum(~np.isnan(r)))
    found = f": {int(np.sum(np.abs(r) > band))} of {count} outside" if count else ""
    ax.set_title(what + found, loc="left", fontsize=SMALL + 1)
