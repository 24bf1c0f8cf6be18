"""Measured and simulated signals."""

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from ..data import Record
from ..errors import DataError
from ..identify import Simulation
from ..identify.scores import ChannelScores

if TYPE_CHECKING:
    import matplotlib.figure
    from matplotlib.axes import Axes

MOST_ROWS = 6  # of panels that can still be read on a screen


def compare(
    simulation: Simulation, *, experiments: int = 3, interval: tuple[float, float] | None = None
) -> "matplotlib.figure.Figure":
    """Draw measured and simulated outputs over time: a row for each output, a column for each experiment.

    The heading states how the outputs were simulated, as MATLAB's `compare` does: in free run, from which
    initial state, and with how many samples skipped (shaded, not scored). Gaps in the measurement are left blank. The
    fit and NRMSE in a panel are those of its output and experiment alone.

    **Arguments:**

    - `simulation`: a free run from `rc.simulate`.
    - `experiments`: how many to draw, starting with the first.
    - `interval`: start and end of the time axis, seconds; all of it where None. The scores are always those of the
      whole experiment.

    **Raises:** `DataError` for a simulation without a scored sample, `experiments` below 1 and an `interval`
    with no sample in it.
    """
    if experiments < 1:
        raise DataError(f"experiments must be at least 1, got {experiments}")
    scores = simulation.scores()
    from .canvas import SMALL, heading, panels

    record = simulation.record
    columns, rows = min(experiments, len(record.experiments)), min(MOST_ROWS, record.ny)
    spans = [_span(record.time(k), interval) for k in range(columns)]
    size = (7.5, 2.5) if columns == 1 else (4.6, 2.4)
    figure, axes = panels(rows, columns, size, sharex="col", sharey="row")
    for k in range(columns):
        for i in range(rows):
            _panel(axes[i, k], simulation, k, i, spans[k])
            _name(axes[i, k], simulation, k, i, rows)
    lines = _start(simulation), _pooled(record, scores), left_out(record, columns, rows)
    heading(figure, "Free-run simulation", *lines)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=3, frameon=False, fontsize=SMALL + 1)
    return figure


def _panel(ax: "Axes", simulation: Simulation, k: int, i: int, span: slice) -> None:
    from .canvas import BLUE, GREY, SHADE, line

    experiment = simulation.record.experiments[k]
    t = simulation.record.time(k)[span]
    skipped = min(simulation.skipped, experiment.samples) - span.start
    if skipped > 0:
        last = float(t[min(skipped, len(t)) - 1])
        ax.axvspan(float(t[0]), last, color=SHADE, linewidth=0, zorder=0, label="skipped")
    measured = np.where(experiment.y_mask[:, i], experiment.y[:, i], np.nan)[span]
    line(ax, t, measured, color=GREY, linewidth=2.0, label="measured", zorder=2)
    line(ax, t, simulation.y_hat[k][span, i], color=BLUE, linewidth=1.0, label="simulated", zorder=3)
    ax.margins(x=0.01)


def _name(ax: "Axes", simulation: Simulation, k: int, i: int, rows: int) -> None:
    from .canvas import SMALL, labeled, time_axis

    record = simulation.record
    if k == 0:
        ax.set_ylabel(labeled(record.outputs[i], record.output_units[i], lines=2), fontsize=SMALL + 1)
    if i == rows - 1:
        time_axis(ax)
    title = _scores_of(simulation, k, i)
    if i == 0 and len(record.experiments) > 1:
        title = f"{labeled(record.experiments[k].name)}\n{title}"
    ax.set_title(title, loc="left", fontsize=SMALL + 1)


def _scores_of(simulation: Simulation, k: int, i: int) -> str:
    record = dataclasses.replace(simulation.record, experiments=simulation.record.experiments[k : k + 1])
    alone = dataclasses.replace(simulation, record=record, y_hat=simulation.y_hat[k : k + 1])
    try:
        scores = alone.scores()
    except DataError:
        return "not scored"
    return score_text(scores.fit_percent[i], scores.nrmse[i], scores.notes[i])


def score_text(fit_percent: float, nrmse: float, note: str) -> str:
    """Return fit and NRMSE as text, or why they are undefined or not finite."""
    if np.isnan(nrmse):
        return "fit undefined, " + ("constant measurement" if "constant" in note else "no measured sample")
    if np.isinf(nrmse):
        return "not finite"
    return f"fit {fit_percent:.1f} %, NRMSE {nrmse:.3g}"


def _start(simulation: Simulation) -> str:
    skipped = simulation.skipped
    count = "no sample skipped" if not skipped else f"first {skipped} samples skipped"
    return f"initial state: {simulation.initial}; {count}"


def _pooled(record: Record, scores: ChannelScores) -> str:
    if len(record.experiments) == 1:
        return ""
    each = zip(record.outputs, scores.fit_percent, scores.nrmse, scores.notes, strict=True)
    fits = [f"{name} {score_text(fit, nrmse, note)}" for name, fit, nrmse, note in each]
    return f"all {len(record.experiments)} experiments: {'; '.join(fits[:MOST_ROWS])}"


def left_out(record: Record, columns: int, rows: int) -> str:
    """Return how many experiments and outputs of a record are shown, where not all are."""
    more = []
    if columns < len(record.experiments):
        more.append(f"{columns} of {len(record.experiments)} experiments")
    if rows < record.ny:
        more.append(f"{rows} of {record.ny} outputs")
    return f"shown: the first {' and the first '.join(more)}" if more else ""


def _span(t: np.ndarray, interval: tuple[float, float] | None) -> slice:
    if interval is None:
        return slice(0, len(t))
    room = 1e-6 * (t[1] - t[0])  # the times are rounded
    start, stop = np.searchsorted(t, interval[0] - room), np.searchsorted(t, interval[1] + room, "right")
    if start >= stop:
        raise DataError(
            f"interval must hold a sample of each experiment drawn, got {interval[0]:g} to {interval[1]:g} s "
            f"for one from {t[0]:g} to {t[-1]:g} s; give an interval within that"
        )
    return slice(int(start), int(stop))
