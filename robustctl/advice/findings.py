"""From numbers to sentences: what one should know before training, and what to do about it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from .advice import Finding, InputAdvice, OutputAdvice, percent, short

UNIT_ROOT_T, SLOW_POLE, UNIT_POLE, GROWN, SUMMED = -2.86, 5.0, 0.2, 1.0, 0.5
PLAY_RATIO, PLAY_DROP = 0.6, 0.02
STILL, JUMPS, USABLE_NRMSE = 0.25, 0.05, 0.8
REST_GAP = 0.25
NEAR_FLOOR, UNTOLD = 1.2, 0.9
OTHER_UNIT, ALIKE, ALL_OTHER = 30.0, 3.0, 300.0
CLIPPED, MISSING = 0.01, 0.05
FEW_FREQUENCIES, COLLINEAR = 5.0, 0.95


def of_output(y: OutputAdvice, lengths: Sequence[int], names: Sequence[str], dt: float) -> Iterator[Finding]:
    """Findings about one output of experiments with these lengths (samples) and names."""
    if not y.moves:
        yield Finding("still", y.name, "it never moves; leave it out.")
        return
    for kind, text in (
        _drift(y, max(lengths)),
        _hysteresis(y),
        _sticking(y),
        _equilibria(y),
        _memory(y, lengths, names, dt),
        _unobservable(y),
        _linear(y),
    ):
        if text:
            yield Finding(kind, y.name, text)
    yield from _log(y)


def of_input(u: InputAdvice) -> Iterator[Finding]:
    """Findings about one input."""
    if not u.moves:
        text = f"it never moves from {u.low:.4g}; the record says nothing about it, so leave it out or excite it."
        yield Finding("still", u.name, text)
        return
    if u.binary:
        text = (
            "it has two levels, which show no static nonlinearity (any curve through two points is a straight line); "
            "add levels in between unless the plant is used at these two only."
        )
        yield Finding("binary", u.name, text)
    if u.frequencies < FEW_FREQUENCIES:
        text = (
            f"it holds {u.frequencies:.2g} effective frequencies, enough for about {2 * u.frequencies:.0f} parameters of a "
            "linear model; excite it with more (a multisine, or random steps)."
        )
        yield Finding("excitation", u.name, text)
    if u.explained > COLLINEAR:
        text = (
            f"the other inputs explain {percent(u.explained)} of its variance, so their effects cannot be told apart; "
            "move it by itself, or make one input of them."
        )
        yield Finding("collinear", u.name, text)
    yield from _log(u)


def of_sizes(channels: Sequence[str], sizes: np.ndarray, names: Sequence[str]) -> Iterator[Finding]:
    """Findings about channels whose sizes (experiments, channels, 2) differ between experiments as units do."""
    for j, channel in enumerate(channels):
        known = np.flatnonzero(np.isfinite(sizes[:, j, 0]))
        if len(known) < 2:
            continue
        low, high = (known[pick(sizes[known, j, 0])] for pick in (np.argmin, np.argmax))
        std, peak = (sizes[high] / sizes[low]).T
        alike, ratios = (std > 1 / ALIKE) & (std < ALIKE), np.minimum(std, peak)
        if (ratios[j] >= OTHER_UNIT and alike.any()) or np.nanmin(ratios) >= ALL_OTHER:
            others = "others are" if alike.any() else "no other channel is"
            text = (
                f"it is {short(ratios[j])} times as large in experiment {names[high]!r} as in {names[low]!r}, while {others} "
                "of like size in both; if the units differ (V and mV, rad and degrees), bring them to one and read again."
            )
            yield Finding("units", channel, text)


def _drift(y: OutputAdvice, longest: int) -> tuple[str, str]:
    slow, unit = y.pole >= 1 - SLOW_POLE / longest, y.pole >= 1 - UNIT_POLE / longest
    if not (unit or (slow and y.pole_t > UNIT_ROOT_T)):
        return "drift", ""
    pole = f"(pole {y.pole:.5g}, t = {y.pole_t:.2g})"
    if y.pole_t > -UNIT_ROOT_T and y.pole > 1 + GROWN / longest:
        return "unstable", (
            f"signs of an unstable plant {pole}: it grows by itself, which a contracting model cannot do; identify it "
            "within the control loop that holds it, from the reference on."
        )
    if y.summed >= SUMMED:
        return "integrator", (
            f"signs of an integrator, or of a memory far beyond the record {pole}: the summed inputs explain {percent(y.summed)} of "
            "its slow changes, but these data cannot tell its level, for a constant added to it fits the inputs as well; a "
            "contracting model forgets and cannot hold a sum, so difference this output, or identify the plant within its control "
            "loop; an observer must measure something that depends on the level."
        )
    return "drift", (
        f"signs of a drift {pole} that the inputs do not explain, so they cannot tell its level; a contracting model cannot "
        "follow it, so take it off (rc.data.detrend, or difference this output) or log what causes it as an input."
    )


def _hysteresis(y: OutputAdvice) -> tuple[str, str]:
    rival = y.curved_nrmse
    if not (y.play_nrmse <= PLAY_RATIO * rival and y.play_nrmse <= rival - PLAY_DROP):
        return "hysteresis", ""
    return "hysteresis", (
        f"signs of hysteresis or backlash: play operators on an input bring the free-run NRMSE from {rival:.3g} to "
        f"{y.play_nrmse:.3g}; a contracting model forgets the branch that the plant is on, so expect errors "
        "after turns of the input, and log the position behind the play as an input if you can."
    )


def _sticking(y: OutputAdvice) -> tuple[str, str]:
    curved = y.curved_nrmse <= PLAY_RATIO * y.linear_nrmse
    if curved or not (y.still >= STILL and y.jumps >= JUMPS and y.linear_nrmse < USABLE_NRMSE):
        return "sticking", ""
    return "sticking", (
        f"signs of sticking: it stands still in {percent(y.still)} of the moves that a linear model expects, and jumps in "
        f"{percent(y.jumps)}; no model with a smooth memory does that, so look for friction, a dead band or a sensor that "
        "holds its value."
    )


def _equilibria(y: OutputAdvice) -> tuple[str, str]:
    if not y.rest_gap > REST_GAP:
        return "equilibria", ""
    return "equilibria", (
        f"signs of several equilibria: of {y.rests} rests, two at one input lie {percent(y.rest_gap)} of the range apart; a "
        "contracting model has one rest for each input, so fit the branches separately, identify within the control loop, or "
        "log what tells them apart."
    )


def _memory(y: OutputAdvice, lengths: Sequence[int], names: Sequence[str], dt: float) -> tuple[str, str]:
    if _drift(y, max(lengths))[1]:
        return "memory", ""
    short = [name for name, length in zip(names, lengths, strict=True) if length < y.memory]
    if not short:
        return "memory", ""
    which = (
        "the record"
        if len(lengths) == 1
        else f"{len(short)} of {len(lengths)} experiments, {short[0]!r} first,"
    )
    reach = f", {y.memory:.0f} samples ({y.memory * dt:.3g} s)" if math.isfinite(y.memory) else ""
    return "memory", (
        f"{which} {'are' if len(short) > 1 else 'is'} shorter than the memory of this output{reach}; the initial state then "
        "matters to the end: log longer, and train with rc.train.learned_state."
    )


def _unobservable(y: OutputAdvice) -> tuple[str, str]:
    if not y.curved_nrmse >= UNTOLD:
        return "unobservable", ""
    told = max(0.0, 1 - y.curved_nrmse**2)
    return "unobservable", (
        f"the inputs tell {percent(told)} of its variance (free-run NRMSE {y.curved_nrmse:.3g}, linear or with squares and "
        "cubes): as far as such models see, these data cannot tell it; log what drives it, or what depends on it, as an input (for an "
        "observer: as a measured channel), or leave it out."
    )


def _linear(y: OutputAdvice) -> tuple[str, str]:
    if y.linear_nrmse <= NEAR_FLOOR * y.repeat_nrmse:
        return "linear", (
            f"a linear model (NRMSE {y.linear_nrmse:.3g}) already reaches the scatter of repeated periods "
            f"({y.repeat_nrmse:.3g}); take rc.nn.StableLinear, for a network has nothing left to gain."
        )
    if y.linear_nrmse >= 1 and y.curved_nrmse < UNTOLD:
        return "linear", (
            f"no linear model beats the mean (NRMSE {y.linear_nrmse:.3g}): the plant is strongly nonlinear, drifts, or is driven "
            "by something that is not logged; find out which before you train."
        )
    return "linear", ""


def _log(c: InputAdvice | OutputAdvice) -> Iterator[Finding]:
    ends = [
        f"{percent(s)} of the samples stand at its {e} value"
        for s, e in ((c.at_low, "lowest"), (c.at_high, "highest"))
        if s >= CLIPPED
    ]
    is_input = isinstance(c, InputAdvice)
    if ends:
        todo = (
            "log what reaches the plant (a clipped reading: set these samples to NaN)"
            if is_input
            else "set these samples to NaN, else the model learns the clip"
        )
        text = f"{' and '.join(ends)}; if it is clipped or was lost there, {todo}."
        yield Finding("saturation", c.name, text)
    if c.missing >= MISSING:
        filled = "inputs are interpolated there" if is_input else "they do not count in training"
        text = f"{percent(c.missing)} of its samples are missing, up to {c.longest_gap} in a row; {filled}; split the log at long gaps."
        yield Finding("gaps", c.name, text)
    if isinstance(c, OutputAdvice) and c.spikes:
        text = f"{c.spikes} single sample(s) stand out of the log; set those to NaN that the plant cannot have made."
        yield Finding("spikes", c.name, text)
