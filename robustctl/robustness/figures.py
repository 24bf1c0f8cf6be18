"""The report's figures; each loop has one color in all of them."""

from typing import TYPE_CHECKING, Any

import numpy as np

from ..classical.response import at_frequencies
from ..classical.types import Realization
from ..plot.canvas import (
    CYCLE,
    GREY,
    INK,
    SMALL,
    VERMILION,
    heading,
    labeled,
    legend_below,
    line,
    panels,
    plain,
    time_axis,
)
from .analysis import Findings
from .linear_loop import LinearLoop, complement, frequencies
from .margins import opened
from .responses import StepResponse

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST = 4
"""Channels that are drawn, so that a figure of a large plant remains readable; the table has all of them."""


def draw(report: Findings) -> "dict[str, Figure]":
    """Return the figures by name, without those for which no loop has data."""
    figures = {}
    stable = {n: a.linear for n, a in report.loops.items() if a.linear is not None and a.linear.stable}
    if stable:
        figures |= {
            "bode": _bode(report, stable),
            "nyquist": _nyquist(report, stable),
            "sensitivity": _sensitivity(report, stable),
        }
    if any(a.steps for a in report.loops.values()):
        figures["steps"] = _steps(report)
    if any(a.worst for a in report.loops.values()):
        figures["worst_case"] = _worst(report)
    return figures


def _style(report: Findings, name: str) -> dict[str, Any]:
    """Return the loop's color, and a line thinner than that of the loop before, which it may cover."""
    k = list(report.loops).index(name)
    return {"color": CYCLE[k % len(CYCLE)], "linewidth": max(2.4 - 0.4 * k, 1.0)}


def _bode(report: Findings, loops: dict[str, LinearLoop]) -> "Figure":
    controls = report.sampled.plant.controls[:_MOST]
    figure, axes = panels(2, len(controls), (6.0 if len(controls) == 1 else 4.2, 2.4), sharex="all")
    for j, signal in enumerate(controls):
        magnitude, phase = axes[:, j]
        for name, loop in loops.items():
            omega = frequencies(loop)
            L = opened(loop.S_in[j, j], omega)
            style = _style(report, name)
            magnitude.semilogx(omega, _db(np.abs(L)), label=plain(name), **style)
            phase.semilogx(omega, _phase(L), **style)
        magnitude.axhline(0, color=GREY, linewidth=0.8)
        phase.axhline(-180, color=GREY, linewidth=0.8)
        phase.yaxis.set_major_locator(_degrees(phase))
        magnitude.set_title(f"opened at\n{labeled(signal.name, lines=2)}", fontsize=SMALL + 1)
        phase.set_xlabel("frequency [rad/s]", fontsize=SMALL)
    axes[0, 0].set_ylabel("loop gain [dB]", fontsize=SMALL)
    axes[1, 0].set_ylabel("phase [deg]", fontsize=SMALL)
    heading(figure, "Bode diagram of the loop gain, at the plant's input")
    legend_below(figure, axes[0, 0], columns=4)
    return figure


def _phase(L: np.ndarray) -> np.ndarray:
    """Return the phase in degrees, unwrapped, between -360 and 0 where the gain is closest to one."""
    phase = np.degrees(np.unwrap(np.angle(L)))
    k = int(
        np.argmin(np.abs(np.log(np.maximum(np.abs(L), 1e-300))))
    )  # 1e-300: the logarithm of a gain of zero
    return phase - 360 * np.ceil(phase[k] / 360)


def _degrees(ax: Any) -> Any:
    from matplotlib.ticker import MultipleLocator

    low, high = ax.get_ylim()
    # Parts and multiples of 90 degrees, at which phases are read; at most six of them.
    steps = (5, 15, 45, 90, 180, 360)
    turns = 360 * np.ceil((high - low) / (6 * 360))
    return MultipleLocator(next((step for step in steps if (high - low) / step <= 6), turns))


def _nyquist(report: Findings, loops: dict[str, LinearLoop]) -> "Figure":
    controls = report.sampled.plant.controls[:_MOST]
    figure, axes = panels(1, len(controls), (4.6, 4.2))
    circle = np.exp(1j * np.linspace(0, 2 * np.pi, 200))
    for j, signal in enumerate(controls):
        ax = axes[0, j]
        ax.plot(np.real(circle), np.imag(circle), color=GREY, linewidth=0.8)
        for name, loop in loops.items():
            # more points than in the other figures: equal steps in frequency are far apart in the plane near a resonance
            L = opened(loop.S_in[j, j], frequencies(loop, 4000))
            style = _style(report, name)
            ax.plot(np.real(L), np.imag(L), label=plain(name), **style)
            ax.plot(np.real(L), -np.imag(L), **style | {"linewidth": 0.8, "linestyle": ":"})
        ax.plot([-1], [0], "+", color=VERMILION, markersize=11, markeredgewidth=2)
        # around -1, where margins are read; an integrator's curve leaves any frame
        ax.set_xlim(-4, 2)
        ax.set_ylim(-3, 3)
        ax.set_aspect("equal")
        ax.set_title(f"opened at\n{labeled(signal.name, lines=2)}", fontsize=SMALL + 1)
        ax.set_xlabel("real part of L [1]", fontsize=SMALL)
    axes[0, 0].set_ylabel("imaginary part of L [1]", fontsize=SMALL)
    heading(figure, "Nyquist diagram at the plant's input", "dotted: negative frequencies; +: the point -1")
    legend_below(figure, axes[0, 0], columns=4)
    return figure


def _sensitivity(report: Findings, loops: dict[str, LinearLoop]) -> "Figure":
    disturbed = bool(report.sampled.plant.disturbances)
    figure, axes = panels(1, 2 + disturbed, (3.9, 3.0))
    for name, loop in loops.items():
        omega, style = frequencies(loop), _style(report, name)
        for ax, system in zip(axes[0], (loop.S_out, complement(loop.S_out)), strict=False):
            ax.semilogx(omega, _db(_largest(system, omega)), label=plain(name), **style)
        if disturbed:
            axes[0, 2].loglog(omega, _largest(loop.disturbance, omega), **style)
    for ax, letter in zip(axes[0], ("sensitivity S", "complementary T"), strict=False):
        ax.axhline(0, color=GREY, linewidth=0.8)
        ax.set_ylabel(f"{letter} [dB]", fontsize=SMALL)
        ax.set_ylim(bottom=max(ax.get_ylim()[0], -60))  # an integrator's S goes to minus infinity
    if disturbed:
        axes[0, 2].set_ylabel(labeled("disturbance to output", report.gain_unit, lines=3), fontsize=SMALL)
        low, high = axes[0, 2].get_ylim()
        axes[0, 2].set_ylim(
            bottom=max(low, 1e-4 * high)
        )  # four decades; a roll-off to zero would take the scale
    for ax in axes[0]:
        ax.set_xlabel("frequency [rad/s]", fontsize=SMALL)
    heading(figure, "Sensitivities at the plant's output: largest singular values")
    legend_below(figure, axes[0, 0], columns=4)
    return figure


def _largest(system: Realization, omega: np.ndarray) -> np.ndarray:
    """Return the largest singular value at each frequency."""
    return np.linalg.norm(at_frequencies(system, omega), 2, axis=(1, 2))


def _steps(report: Findings) -> "Figure":
    plant = report.sampled.plant
    shown = max((a.steps for a in report.loops.values()), key=len)
    outputs, controls = plant.outputs[:_MOST], plant.controls[:_MOST]
    columns = len(shown[: 2 * _MOST])
    figure, axes = panels(
        len(outputs) + len(controls), columns, (6.5 if columns == 1 else 3.9, 2.0), sharex="col"
    )
    for c, step in enumerate(shown[: 2 * _MOST]):
        for name, analysis in report.loops.items():
            if not analysis.steps:
                continue
            own, style = analysis.steps[c], _style(report, name)
            for i in range(len(outputs)):
                line(axes[i, c], own.t, own.y[:, i], label=plain(name), **style)
            for i in range(len(controls)):
                line(axes[len(outputs) + i, c], own.t, own.u[:, i], **style)
        axes[0, c].set_title(
            f"{step.size:g} {step.unit} in\n{labeled(step.name, lines=2)}", fontsize=SMALL + 1
        )
        axes[-1, c].set_xlim(0, _until([a.steps[c] for a in report.loops.values() if a.steps]))
        time_axis(axes[-1, c])
    for i, signal in enumerate((*outputs, *controls)):
        axes[i, 0].set_ylabel(labeled(signal.name, signal.unit, lines=2), fontsize=SMALL)
    heading(figure, "Steps, through the nonlinear loop without noise", "deviations from the equilibrium")
    legend_below(figure, axes[0, 0], columns=4)
    return figure


def _until(steps: list[StepResponse]) -> float:
    """Return the time to show: four times the settling time of the slowest loop, or all of it."""
    end = float(steps[0].t[-1])
    slowest = max(step.settling for step in steps)
    return min(
        end, max(4 * slowest, 0.05 * end)
    )  # 5 %: a loop that settles in no time still shows its first samples


def _worst(report: Findings) -> "Figure":
    found = {name: a.worst for name, a in report.loops.items() if a.worst is not None}
    plant = report.sampled.plant
    figure, axes = panels(2, len(found), (6.5 if len(found) == 1 else 3.2, 2.2), sharex="all", sharey="row")
    for c, (name, worst) in enumerate(found.items()):
        t = report.sampled.dt * np.arange(len(worst.d))
        line(axes[0, c], t, worst.d[:, 0], **_style(report, name))
        line(
            axes[1, c],
            t,
            np.linalg.norm(worst.random_z, axis=1),
            color=INK,
            linewidth=0.9,
            label="random, of the same energy",
        )
        line(axes[1, c], t, np.linalg.norm(worst.z, axis=1), label="worst found", **_style(report, name))
        axes[0, c].set_title(f"{plain(name)}: gain {worst.gain:.3g}", fontsize=SMALL + 1)
        time_axis(axes[1, c])
    first = plant.disturbances[0]
    axes[0, 0].set_ylabel(labeled(f"worst {first.name}", first.unit, lines=2), fontsize=SMALL)
    unit = report.gain_unit.rpartition("/")[0]
    axes[1, 0].set_ylabel(labeled("size of the deviation", unit, lines=2), fontsize=SMALL)
    heading(
        figure,
        "The worst disturbance found, and a random one of the same energy (dark)",
        f"gain in {report.gain_unit}",
    )
    return figure


def _db(magnitude: np.ndarray) -> np.ndarray:
    return 20 * np.log10(np.maximum(magnitude, 1e-300))
