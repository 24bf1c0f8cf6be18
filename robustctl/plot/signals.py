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

    from .canvas import Canvas

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
    from .canvas import heading, legend_below

    record = simulation.record
    figure, axes = signal_panels(record, experiments)
    spans = [_span(record.time(k), interval) for k in range(axes.shape[1])]
    for (i, k), ax in np.ndenumerate(axes):
        _panel(ax, simulation, k, i, spans[k])
        _title(ax, simulation, k, i)
    name_sides(axes, record)
    heading(
        figure, "Free-run simulation", _start(simulation), _pooled(record, scores), left_out(record, axes)
    )
    legend_below(figure, axes[0, 0])
    return figure


def signal_panels(record: Record, experiments: int) -> "tuple[Canvas, np.ndarray]":
    """Return a figure and its axes: a row for each output, as many as can be read, a column for each experiment up to a number."""
    from .canvas import panels

    rows, columns = min(MOST_ROWS, record.ny), min(experiments, len(record.experiments))
    size = (7.5, 2.5) if columns == 1 else (4.6, 2.4)
    return panels(rows, columns, size, sharex="col", sharey="row")


def name_sides(axes: np.ndarray, record: Record) -> None:
    """Name the outputs at the left and the time at the bottom, when all lines are drawn."""
    from .canvas import SMALL, labeled, time_axis

    for ax, output, unit in zip(axes[:, 0], record.outputs, record.output_units, strict=False):
        ax.set_ylabel(labeled(output, unit, lines=2), fontsize=SMALL + 1)
    for ax in axes[-1]:
        time_axis(ax)


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


def _title(ax: "Axes", simulation: Simulation, k: int, i: int) -> None:
    from .canvas import SMALL, labeled

    record = simulation.record
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


def left_out(record: Record, axes: np.ndarray) -> str:
    """Return how many experiments and outputs of a record are shown, where not all are."""
    (rows, columns), more = axes.shape, []
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
