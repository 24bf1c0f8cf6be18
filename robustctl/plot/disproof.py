"""A counterexample to contraction: two trajectories that do not approach each other."""

from typing import TYPE_CHECKING

import jax
import numpy as np

from ..certificates import Counterexample
from ..system import Parameterization, System, explicit_of

if TYPE_CHECKING:
    import matplotlib.figure

_PANELS = 3
"""Outputs that are drawn: a taller figure does not fit a page."""

_DECADE = 10.0
"""A logarithmic axis of less has labels between powers of ten, which do not read well."""


def counterexample(
    model: Parameterization | System, found: Counterexample, *, samples: int | None = None
) -> "matplotlib.figure.Figure":
    """Draw the outputs of both trajectories of a counterexample, and the distance of their states.

    **Arguments:**

    - `model`: in which it was found.
    - `found`: what `rc.certificates.counterexample` returned.
    - `samples`: length, default that of the run in which it was found.
    """
    from .canvas import CYCLE, INK, SMALL, heading, labeled, line, panels, time_axis

    system = explicit_of(model)
    runs = found.replay(system, samples)
    ys, xs = ([_columns(tree) for tree in trees] for trees in zip(*((r.ys, r.xs) for r in runs), strict=True))
    # A loop's output begins with the plant's state; the outputs that have names are the last ones.
    ny = system.ny or ys[0].shape[1]
    names, units = system.outputs or tuple(f"y[{k}]" for k in range(ny)), system.output_units or ("",) * ny
    shown = min(ny, _PANELS)
    figure, axes = panels(shown + 1, 1, (6.5, 2.0), sharex=True)
    t = np.arange(len(ys[0])) * (system.dt or 1.0)
    for k in range(shown):
        for y, color in zip(ys, (INK, CYCLE[1]), strict=True):
            line(axes[k, 0], t, y[:, y.shape[1] - ny + k], color=color, linewidth=1.1)
        axes[k, 0].set_ylabel(labeled(names[k], units[k], lines=2), fontsize=SMALL + 1)
    distance = np.linalg.norm(xs[1] - xs[0], axis=1)
    line(axes[shown, 0], t, np.where(distance > 0, distance, np.nan), color=CYCLE[0], linewidth=1.1)
    known = distance[distance > 0]
    if known.size and known.max() > _DECADE * known.min():
        axes[shown, 0].set_yscale("log")
    axes[shown, 0].set_ylabel("distance\nof the states", fontsize=SMALL + 1)
    axes[shown, 0].set_xlabel("time [samples]", fontsize=SMALL + 1)
    if system.dt:
        time_axis(axes[shown, 0])
    heading(figure, f"Counterexample to contraction: {found.kind}", found.reason)
    return figure


def _columns(tree) -> np.ndarray:
    """Return all floating-point numbers of a sequence as columns (T, n)."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    kept = [a.reshape(len(a), -1).astype(np.float64) for a in leaves if np.issubdtype(a.dtype, np.floating)]
    return np.concatenate(kept, axis=1)
