"""Responses, poles and zeros of a linear model with the bands that hold them in 95 % of records."""

from typing import TYPE_CHECKING, Any

import numpy as np

from ..checks import check_whole
from ..errors import RobustctlError
from ..identify import LinearUncertainty, Spread

if TYPE_CHECKING:
    import matplotlib.figure

NORMAL = 1.96
"""Standard deviations around the estimate that hold a normal number in 95 %."""

TWO = 2.448
"""The same for the radius of two of them, sqrt(chi2(0.95, 2))."""

FAR = 1.6
"""Magnitude from which a zero is not drawn."""

MOST = 4
"""Channels that are drawn, so that the figure remains readable."""


def step_response(
    known: LinearUncertainty, samples: int = 100, *, inputs: int = MOST, outputs: int = MOST
) -> "matplotlib.figure.Figure":
    """Draw the responses to a step of one unit at each input, with their 95 % bands.

    **Arguments:**

    - `known`: from `rc.identify.uncertainty`
    - `samples`: number of samples
    - `inputs`: most inputs that are drawn
    - `outputs`: most outputs that are drawn

    **Raises:** `RobustctlError` for numbers below 1.
    """
    from .canvas import heading, panels, time_axis

    check_whole(1, samples=samples, inputs=inputs, outputs=outputs)
    r, found = known.record, known.step_response(samples)
    t = r.dt * np.arange(samples)
    rows, columns = min(r.ny, outputs), min(r.nu, inputs)
    figure, axes = panels(rows, columns, (3.6 if columns > 1 else 6.0, 2.3), sharex="all")
    for (i, j), ax in np.ndenumerate(axes):
        _band(ax, t, found.value[:, i, j], found.std[:, i, j])
        _labels(ax, known, i, j)
        if i == rows - 1:
            time_axis(ax)
    heading(figure, "Response to a step of one unit", "shaded: holds the truth for 95 % of such records")
    return figure


def bode(
    known: LinearUncertainty, omega: np.ndarray | None = None, *, inputs: int = MOST, outputs: int = MOST
) -> "matplotlib.figure.Figure":
    """Draw gain and phase from each input to each output, with their 95 % bands.

    **Arguments:**

    - `known`: from `rc.identify.uncertainty`
    - `omega`: frequencies (n,), rad/s; default 200 from that of the record's length to half the sampling frequency
    - `inputs`: most inputs that are drawn
    - `outputs`: most outputs that are drawn

    **Raises:** `RobustctlError` for numbers below 1.
    """
    from .canvas import SMALL, heading, panels

    check_whole(1, inputs=inputs, outputs=outputs)
    r = known.record
    longest = max(e.samples for e in r.experiments)
    omega = (
        np.geomspace(2 * np.pi / longest, np.pi, 200) / r.dt if omega is None else np.asarray(omega, float)
    )
    gain, phase, gain_std, phase_std = known.frequency_response(omega).gain_and_phase()
    rows, columns = min(r.ny, outputs), min(r.nu, inputs)
    figure, axes = panels(2 * rows, columns, (4.4 if columns > 1 else 6.0, 1.9), sharex="all")
    for i, j in np.ndindex(rows, columns):
        upper: Any = axes[2 * i, j]
        lower: Any = axes[2 * i + 1, j]
        decibel = 20 / np.log(10)
        _band(upper, omega, 20 * np.log10(gain[:, i, j]), decibel * gain_std[:, i, j])
        turned = np.unwrap(phase[:, i, j])
        # A phase is known up to whole turns: no deviation above half of one is known.
        _band(lower, omega, np.degrees(turned), np.degrees(np.minimum(phase_std[:, i, j], np.pi / NORMAL)))
        upper.set_xscale("log")
        _labels(upper, known, i, j)
        upper.set_ylabel(f"{r.outputs[i]}\ngain [dB]" if j == 0 else "", fontsize=SMALL)
        lower.set_ylabel("phase [deg]" if j == 0 else "", fontsize=SMALL)
        if i == rows - 1:
            lower.set_xlabel("frequency [rad/s]", fontsize=SMALL + 1)
    heading(figure, "Frequency response", "shaded: holds the truth for 95 % of such records")
    return figure


def pole_zero(known: LinearUncertainty, output: int = 0, input: int = 0) -> "matplotlib.figure.Figure":
    """Draw the poles, and the zeros from one input to one output, in the z plane with their 95 % regions.

    **Arguments:**

    - `known`: from `rc.identify.uncertainty`
    - `output`: its number
    - `input`: its number

    **Raises:** `RobustctlError` for a channel that the record does not have.
    """
    from .canvas import BLUE, GREY, ORANGE, SMALL, heading, panels

    r = known.record
    if not 0 <= output < r.ny or not 0 <= input < r.nu:
        raise RobustctlError(
            f"the output must be below {r.ny} and the input below {r.nu}, got {output} and {input}"
        )
    figure, axes = panels(1, 1, (5.2, 4.8))
    ax = axes[0, 0]
    circle = np.exp(1j * np.linspace(0, 2 * np.pi, 200))
    ax.plot(np.real(circle), np.imag(circle), color=GREY, linewidth=0.8)
    poles, zeros = known.poles(), known.zeros(output, input)
    _places(ax, poles, BLUE, "x", "poles")
    _places(ax, zeros, ORANGE, "o", f"zeros from {r.inputs[input]} to {r.outputs[output]}")
    # A zero far outside, one of the sampling or nearly at infinity, would take the scale.
    places = np.abs(np.concatenate([poles.value, zeros.value]))
    size = 1.1 * max(1.0, *places[places < FAR])
    ax.set_xlim(-size, size)
    ax.set_ylim(-size, size)
    ax.set_aspect("equal")
    ax.set_xlabel("real part", fontsize=SMALL + 1)
    ax.set_ylabel("imaginary part", fontsize=SMALL + 1)
    ax.legend(frameon=False, fontsize=SMALL, loc="upper left")
    outside = int(np.sum(np.abs(zeros.value) >= FAR))
    beyond = f"; {outside} zeros beyond the frame" if outside else ""
    heading(figure, "Poles and zeros", f"ellipses: hold the truth for 95 % of such records{beyond}")
    return figure


def _labels(ax: Any, known: LinearUncertainty, i: int, j: int) -> None:
    from .canvas import SMALL, labeled

    r = known.record
    if i == 0:
        ax.set_title(f"from {labeled(r.inputs[j])}", fontsize=SMALL + 1)
    if j == 0:
        unit = (
            f"{r.output_units[i]}/{r.input_units[j]}"
            if r.output_units[i] and r.input_units[j]
            else r.output_units[i]
        )
        ax.set_ylabel(labeled(r.outputs[i], unit), fontsize=SMALL)


def _band(ax: Any, x: np.ndarray, value: np.ndarray, std: np.ndarray) -> None:
    from .canvas import BLUE, SKY

    ax.fill_between(x, value - NORMAL * std, value + NORMAL * std, color=SKY, alpha=0.4, linewidth=0)
    ax.plot(x, value, color=BLUE, linewidth=1.4)


def _places(ax: Any, found: Spread, color: str, marker: str, label: str) -> None:
    turn = np.linspace(0, 2 * np.pi, 60)
    around = np.stack([np.cos(turn), np.sin(turn)])
    ax.plot(
        np.real(found.value),
        np.imag(found.value),
        marker,
        color=color,
        markerfacecolor="none",
        label=label,
        linestyle="none",
    )
    for value, cov in zip(found.value.tolist(), found.covariance, strict=True):
        # A real pole has no variance of its imaginary part.
        values, vectors = np.linalg.eigh(cov)
        ellipse = TWO * (vectors * np.sqrt(np.maximum(values, 0))) @ around
        ax.plot(value.real + ellipse[0], value.imag + ellipse[1], color=color, linewidth=0.9)
