"""Free runs of several models on one record."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ..data import Record
from ..errors import DataError
from ..identify import Simulation
from .signals import left_out, name_sides, signal_panels

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
    from .canvas import heading, legend_below

    shapes = {tuple(y.shape for y in s.y_hat) for s in simulations.values()}
    if len(shapes) != 1 or experiments < 1:
        raise DataError(
            f"simulations must be one or more of one record, and experiments at least 1, got the shapes {shapes} and {experiments}; "
            "simulate all models on the same record"
        )
    record = next(iter(simulations.values())).record
    figure, axes = signal_panels(record, experiments)
    for (i, k), ax in np.ndenumerate(axes):
        _panel(ax, simulations, k, i)
    _name_experiments(axes[0], record)
    name_sides(axes, record)
    skipped = max(s.skipped for s in simulations.values())
    heading(
        figure,
        "Free-run simulation of several models",
        f"first {skipped} samples not scored" if skipped else "",
        left_out(record, axes),
    )
    legend_below(figure, axes[0, 0])
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


def _name_experiments(top: np.ndarray, record: Record) -> None:
    from .canvas import SMALL, labeled

    for ax, experiment in zip(top, record.experiments, strict=False):
        if len(record.experiments) > 1:
            ax.set_title(labeled(experiment.name), loc="left", fontsize=SMALL + 1)
