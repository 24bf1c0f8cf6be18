"""Free runs of several models on one record."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ..errors import DataError
from ..identify import Simulation
from .signals import MOST_ROWS, left_out

if TYPE_CHECKING:
    import matplotlib.figure
    from matplotlib.axes import Axes


def compare_models(
    simulations: Mapping[str, Simulation], *, experiments: int = 3
) -> "matplotlib.figure.Figure":
    """Draw the free runs of several models on one record: a row for each output, a column for each experiment.

    **Arguments:**

    - `simulations`: free runs of one record from `rc.simulate`, by the models' names.
    - `experiments`: how many to draw, starting with the first.

    **Raises:** `DataError` for no simulation, for simulations of different records, and for `experiments` below 1.
    """
    from .canvas import SMALL, heading, panels

    shapes = {tuple(y.shape for y in s.y_hat) for s in simulations.values()}
    if len(shapes) != 1 or experiments < 1:
        raise DataError(
            f"simulations must be one or more of one record, and experiments at least 1, got the shapes {shapes} and {experiments}; "
            "simulate all models on the same record"
        )
    record = next(iter(simulations.values())).record
    columns, rows = min(experiments, len(record.experiments)), min(MOST_ROWS, record.ny)
    size = (7.5, 2.5) if columns == 1 else (4.6, 2.4)
    figure, axes = panels(rows, columns, size, sharex="col", sharey="row")
    for k in range(columns):
        for i in range(rows):
            _panel(axes[i, k], simulations, k, i)
            _name(axes[i, k], simulations, k, i, last=i == rows - 1)
    skipped = max(s.skipped for s in simulations.values())
    heading(
        figure,
        "Free-run simulation of several models",
        f"first {skipped} samples not scored" if skipped else "",
        left_out(record, columns, rows),
    )
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=3, frameon=False, fontsize=SMALL + 1)
    return figure


def _panel(ax: "Axes", simulations: Mapping[str, Simulation], k: int, i: int) -> None:
    from .canvas import CYCLE, GREY, labeled, line

    record = next(iter(simulations.values())).record
    experiment, t = record.experiments[k], record.time(k)
    measured = np.where(experiment.y_mask[:, i], experiment.y[:, i], np.nan)
    line(ax, t, measured, color=GREY, linewidth=2.0, label="measured", zorder=2)
    for number, (name, simulation) in enumerate(simulations.items()):
        style = {"color": CYCLE[number % len(CYCLE)], "linestyle": ("-", "--", ":")[number // len(CYCLE) % 3]}
        line(ax, t, simulation.y_hat[k][:, i], linewidth=1.0, label=labeled(name), zorder=3, **style)
    ax.margins(x=0.01)


def _name(ax: "Axes", simulations: Mapping[str, Simulation], k: int, i: int, last: bool) -> None:
    from .canvas import SMALL, labeled, time_axis

    record = next(iter(simulations.values())).record
    if k == 0:
        ax.set_ylabel(labeled(record.outputs[i], record.output_units[i], lines=2), fontsize=SMALL + 1)
    if last:
        time_axis(ax)
    if i == 0 and len(record.experiments) > 1:
        ax.set_title(labeled(record.experiments[k].name), loc="left", fontsize=SMALL + 1)
