"""The error of a model over frequency."""

from typing import TYPE_CHECKING

import numpy as np

from ..identify import ErrorEstimate

if TYPE_CHECKING:
    import matplotlib.figure


def model_error(estimate: ErrorEstimate) -> "matplotlib.figure.Figure":
    """Draw the gain of a model's error over frequency: the estimate, its upper bound and the weight above it.

    Bands that the record does not see are gray; there the weight is only continued.

    **Arguments:**

    - `estimate`: from `rc.identify.model_error`.
    """
    from .canvas import BLUE, ORANGE, SHADE, SMALL, VERMILION, heading, panels

    figure, axes = panels(1, 1, (6.4, 3.6))
    ax = axes[0, 0]
    high = np.pi / estimate.W.dt
    omega = np.geomspace(estimate.omega[0] / 2, high, 400)
    for low, top in estimate.unseen:
        ax.axvspan(max(low, omega[0]), top, color=SHADE, linewidth=0)
    ax.loglog(estimate.omega, estimate.gain, color=BLUE, linewidth=1.0, label="estimate")
    ax.loglog(
        estimate.omega, estimate.upper, color=ORANGE, linewidth=1.2, label=f"upper, {estimate.confidence:.3g}"
    )
    ax.loglog(omega, estimate.weight_gain(omega), color=VERMILION, linewidth=1.6, label="W")
    ax.set_xlim(omega[0], high)
    ax.set_xlabel("frequency [rad/s]", fontsize=SMALL + 1)
    ax.set_ylabel(f"gain [{estimate.units}]", fontsize=SMALL + 1)
    ax.legend(frameon=False, fontsize=SMALL)
    heading(figure, "Gain of the model's error", "gray: the inputs have too little power to show it")
    return figure
