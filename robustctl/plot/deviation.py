"""The terms of the bound on a policy's deviation from its expert."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..errors import RobustctlError
from ..train import DeviationBound

if TYPE_CHECKING:
    import matplotlib.figure


def deviation(bounds: Mapping[float, DeviationBound]) -> "matplotlib.figure.Figure":
    """Draw the two terms of the deviation from an expert's loop, and their sum, over the Lipschitz constant that policies are allowed.

    The error of the action falls with it, the effect of errors of the measurement grows; the smallest sum is marked.

    **Arguments:**

    - `bounds`: one by allowed Lipschitz constant, of the same expert.

    **Raises:** `RobustctlError` for fewer than two.
    """
    if len(bounds) < 2:
        raise RobustctlError(f"there must be bounds for two or more Lipschitz constants, got {len(bounds)}")
    from .canvas import BLUE, GREY, ORANGE, SMALL, VERMILION, heading, panels

    figure, axes = panels(1, 1, (6.4, 3.6))
    ax, alphas = axes[0, 0], sorted(bounds)
    totals = [bounds[a].total for a in alphas]
    lines = {
        "by errors of the action": ([bounds[a].imitation for a in alphas], BLUE),
        "by errors of the measurement": ([bounds[a].measurement for a in alphas], ORANGE),
        "both": (totals, VERMILION),
    }
    for label, (values, color) in lines.items():
        ax.plot(alphas, values, color=color, linewidth=1.4, marker=".", label=label)
    best = min(alphas, key=lambda a: bounds[a].total)
    ax.axvline(best, color=GREY, linewidth=0.8, linestyle=":")
    ax.set_ylim(bottom=0.0)
    ax.set_xlabel("allowed Lipschitz constant", fontsize=SMALL + 1)
    ax.set_ylabel("deviation in the metric P", fontsize=SMALL + 1)
    ax.legend(frameon=False, fontsize=SMALL)
    heading(figure, "Deviation from the expert's loop", f"smallest at {best:.4g}: {min(totals):.4g}")
    return figure
