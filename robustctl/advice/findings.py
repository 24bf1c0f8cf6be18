"""Findings from numbers: what to know before training, and what to do about it.

Ranges in the comments were measured on ten simulated logs per plant, of 1,200 samples with 2 to 5 % noise: linear lags, a cube
and a saturation around one, backlash and stick-slip of half and a fifth of the input's standard deviation, an integrator,
a random walk, a bistable plant (the plants of `tests/test_advise.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from .advice import ChannelAdvice, Finding, InputAdvice, OutputAdvice, percent, short

# The 5 % point of the Dickey-Fuller distribution with a constant.
UNIT_ROOT_T = -2.86
# Distances of a pole from one, over 1 / T. 1 - 5 / T is a time constant of a fifth of the record, which it forgets by its
# end; 1 - 0.2 / T is one of five records, which no t value distinguishes from an integrator; 1 + 1 / T grows e times over the record.
SLOW_POLE, UNIT_POLE, GROWN = 5.0, 0.2, 1.0
SUMMED = 0.5  # R^2: at least 0.89 for the integrator, at most 0.20 for the random walk
# Play operators must remove two fifths of the error, and 2 % of the deviation, which noise can feign where the error is small.
# Ratios: at least 0.89 for lag, cube and saturation, 0.22 to 0.40 for wide backlash, 0.50 to 0.72 for narrow backlash, half of
# which is missed.
PLAY_RATIO, PLAY_DROP = 0.6, 0.02
# Shares of moves: stuck at most 0.06 for lags, at least 0.58 for wide stick-slip, 0.09 to 0.28 for narrow; jumps at most 0.04
# and at least 0.12. A cube is partly flat: three of ten are flagged. The moves that a model with an NRMSE above 0.8 expects
# mean nothing.
STUCK, JUMPS, USABLE_NRMSE = 0.25, 0.05, 0.8
STEADY_GAP = (
    0.25  # of the range: at most 0.02 for lags; up to 0.8 for the bistable plant, found in eight of ten logs
)
# A model within a fifth of the noise floor has nothing left to gain beyond the uncertainty of that floor. A free-run NRMSE of
# 0.9 explains 19 % of the variance; outputs unrelated to the inputs reached 0.92 by chance.
NEAR_FLOOR, UNOBSERVABLE = 1.2, 0.9
# Ratios of sizes. Between rad and degrees it is 57, between V and mV 1,000; excitation rarely differs by 30 in one channel
# alone, and by 300 in all of them.
OTHER_UNIT, ALIKE, ALL_OTHER = 30.0, 3.0, 300.0
# Shares of the samples. Fewer at an extreme are a peak that touches it; missing samples are weighted out and cost only data.
CLIPPED, MISSING = 0.01, 0.05
# Five frequencies determine ten parameters; an ARX model of order 3 with one input has eight. R^2 of 0.95 multiplies the
# variance of an input's estimated effect by 1 / (1 - R^2) = 20.
FEW_FREQUENCIES, COLLINEAR = 5.0, 0.95
# Of the range: 50 levels, whose rounding alone is 2 % of the deviation of a signal spread evenly over its range.
COARSE_LEVELS = 0.02


def of_output(y: OutputAdvice, lengths: Sequence[int], names: Sequence[str], dt: float) -> Iterator[Finding]:
    """Findings about one output of experiments with these lengths (samples) and names."""
    yield from _marks(y)
    if not y.varies:
        yield Finding("constant", y.name, "it is constant; leave it out.")
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
    yield from _log(y, is_input=False)
    if y.level_step >= COARSE_LEVELS:
        text = (
            f"it takes {y.levels} levels, {percent(y.level_step)} of its range apart, so it is quantized; no model can follow it closer "
            "than half a level: log it with a finer resolution if you can."
        )
        yield Finding("quantized", y.name, text)
    if y.spikes and math.isnan(y.mark):
        text = (
            f"{y.spikes} single sample(s) are outliers; set those to NaN that the plant cannot have produced."
        )
        yield Finding("spikes", y.name, text)


def of_input(u: InputAdvice) -> Iterator[Finding]:
    """Findings about one input."""
    yield from _marks(u)
    if not u.varies:
        text = f"it is constant at {u.low:.4g}; the record does not show its effect, so leave it out or excite it."
        yield Finding("constant", u.name, text)
        return
    if u.binary:
        text = (
            "it has two levels, which cannot show a static nonlinearity (a straight line passes through any two points); "
            "add levels in between unless the plant is used at these two only."
        )
        yield Finding("binary", u.name, text)
    if u.frequencies < FEW_FREQUENCIES:
        text = (
            f"it has {u.frequencies:.2g} effective frequencies, enough for about {2 * u.frequencies:.0f} parameters of a "
            "linear model; excite it with more (a multisine, or random steps)."
        )
        yield Finding("excitation", u.name, text)
    if u.explained > COLLINEAR:
        text = (
            f"the other inputs explain {percent(u.explained)} of its variance, so their effects cannot be separated; "
            "vary it independently, or combine them into one input."
        )
        yield Finding("collinear", u.name, text)
    yield from _log(u, is_input=True)


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
                "of similar size in both; if the units differ (V and mV, rad and degrees), convert them to one and read again."
            )
            yield Finding("units", channel, text)


def _marks(c: ChannelAdvice) -> Iterator[Finding]:
    if not math.isnan(c.mark):
        text = (
            f"samples of {c.mark:.10g}, far from all others, stand for lost ones: read with format=rc.data.Format(missing={c.mark:.10g}) "
            f"(--missing {c.mark:.10g}); until then all numbers here are about them."
        )
        yield Finding("marks", c.name, text)


def _drift(y: OutputAdvice, longest: int) -> tuple[str, str]:
    slow, unit = y.pole >= 1 - SLOW_POLE / longest, y.pole >= 1 - UNIT_POLE / longest
    if not (unit or (slow and y.pole_t > UNIT_ROOT_T)):
        return "drift", ""
    pole = f"(pole {y.pole:.5g}, t = {y.pole_t:.2g})"
    if y.pole_t > -UNIT_ROOT_T and y.pole > 1 + GROWN / longest:
        return "unstable", (
            f"signs of an unstable plant {pole}: its free response grows, which a contracting model cannot do; identify it "
            "within the control loop that stabilizes it, with the reference as the input."
        )
    if y.summed >= SUMMED:
        return "integrator", (
            f"signs of an integrator, or of a memory far beyond the record {pole}: the summed inputs explain {percent(y.summed)} of "
            "its slow changes, but these data do not determine its level, because a constant added to it fits the inputs as well; "
            "a contracting model forgets and cannot integrate, so difference this output, or identify the plant within its "
            "control loop; an observer must measure a quantity that depends on the level."
        )
    return "drift", (
        f"signs of a drift {pole} that the inputs do not explain, so they do not determine its level; a contracting model cannot "
        "follow it, so remove it (rc.data.detrend, or difference this output) or log its cause as an input."
    )


def _hysteresis(y: OutputAdvice) -> tuple[str, str]:
    rival = y.curved_nrmse
    if not (y.play_nrmse <= PLAY_RATIO * rival and y.play_nrmse <= rival - PLAY_DROP):
        return "hysteresis", ""
    return "hysteresis", (
        f"signs of hysteresis or backlash: play operators on an input reduce the free-run NRMSE from {rival:.3g} to "
        f"{y.play_nrmse:.3g}; a contracting model forgets the branch that the plant is on, so expect errors "
        "after reversals of the input, and log the position behind the play as an input if you can."
    )


def _sticking(y: OutputAdvice) -> tuple[str, str]:
    curved = y.curved_nrmse <= PLAY_RATIO * y.linear_nrmse
    # A curve in the output is partly flat and partly steep, like sticking: where curves explain it, no sticking is reported.
    if curved or not (y.stuck >= STUCK and y.jumps >= JUMPS and y.linear_nrmse < USABLE_NRMSE):
        return "sticking", ""
    return "sticking", (
        f"signs of sticking: it does not move in {percent(y.stuck)} of the moves that a linear model expects, and jumps in "
        f"{percent(y.jumps)}; no smooth model does that, so look for friction, a dead band or a sensor that "
        "holds its value."
    )


def _equilibria(y: OutputAdvice) -> tuple[str, str]:
    if not y.steady_gap > STEADY_GAP:
        return "equilibria", ""
    return "equilibria", (
        f"signs of several equilibria: of {y.steady_states} steady states, two at equal inputs are {percent(y.steady_gap)} of "
        "the range apart; a contracting model has one equilibrium for each input, so fit the branches separately, identify "
        "within the control loop, or log what distinguishes them."
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
        else f"{len(short)} of {len(lengths)} experiments, for example {short[0]!r},"
    )
    reach = f", {y.memory:.0f} samples ({y.memory * dt:.3g} s)" if math.isfinite(y.memory) else ""
    return "memory", (
        f"{which} {'are' if len(short) > 1 else 'is'} shorter than the memory of this output{reach}, so the initial state "
        "affects all of it: log longer, and train with rc.train.learned_state."
    )


def _unobservable(y: OutputAdvice) -> tuple[str, str]:
    if not y.curved_nrmse >= UNOBSERVABLE:
        return "unobservable", ""
    explained = max(0.0, 1 - y.curved_nrmse**2)
    return "unobservable", (
        f"the inputs explain {percent(explained)} of its variance (free-run NRMSE {y.curved_nrmse:.3g}, linear or with squares "
        "and cubes): by such models these data do not determine it; log what drives it, or what depends on it, as an input (for an "
        "observer: as a measured channel), or leave it out."
    )


def _linear(y: OutputAdvice) -> tuple[str, str]:
    if y.linear_nrmse <= NEAR_FLOOR * y.repeat_nrmse:
        return "linear", (
            f"a linear model (NRMSE {y.linear_nrmse:.3g}) already reaches the scatter of repeated periods "
            f"({y.repeat_nrmse:.3g}); use rc.nn.StableLinear, because a network has nothing left to gain."
        )
    if y.linear_nrmse >= 1 and y.curved_nrmse < UNOBSERVABLE:
        return "linear", (
            f"no linear model beats the mean (NRMSE {y.linear_nrmse:.3g}): the plant is strongly nonlinear, drifts, or is driven "
            "by a signal that is not logged; find out which before you train."
        )
    return "linear", ""


def _log(c: ChannelAdvice, is_input: bool) -> Iterator[Finding]:
    ends = [
        f"{percent(s)} of the samples are at its {e} value"
        for s, e in ((c.at_low, "lowest"), (c.at_high, "highest"))
        if s >= CLIPPED
    ]
    if ends:
        todo = (
            "log the value that reaches the plant (for a clipped reading, set these samples to NaN)"
            if is_input
            else "set these samples to NaN, or the model learns the clip"
        )
        text = f"{' and '.join(ends)}; if it is clipped or was lost there, {todo}."
        yield Finding("saturation", c.name, text)
    if c.missing >= MISSING:
        filled = (
            f"inputs are interpolated there (if it is logged only when it changes, read with hold={c.name!r})"
            if is_input
            else "they do not count in training"
        )
        text = (
            f"{percent(c.missing)} of its samples are missing, up to {c.longest_gap} in a row; {filled}; split the log at long gaps "
            "(split_gaps= of rc.data.read)."
        )
        yield Finding("gaps", c.name, text)
