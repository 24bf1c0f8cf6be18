"""The result of `advise`: numbers for each channel, what they mean, and both as text."""

from __future__ import annotations

import dataclasses
import math
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..store.json_text import finite

WIDTH = 100
LABEL = 15
# Findings that contradict forgetting: the output depends on more than the inputs of the last `memory` samples.
UNSUITED = ("integrator", "drift", "unstable", "hysteresis", "sticking", "equilibria")


@dataclass(frozen=True)
class ChannelAdvice:
    """Any channel: how much of it is missing or clipped, and whether it varies.

    **Arguments:**

    - `name`: of the channel.
    - `unit`: of the channel, or an empty string.
    - `missing`: share of samples.
    - `longest_gap`: samples.
    - `at_low`: share of samples clipped at the lowest value.
    - `at_high`: share of samples clipped at the highest value.
    - `varies`: False for a constant channel.
    - `mark`: number that stands for lost samples (`lost_mark`), NaN where there is none.
    """

    name: str
    unit: str
    missing: float
    longest_gap: int
    at_low: float
    at_high: float
    varies: bool
    mark: float


@dataclass(frozen=True)
class InputAdvice(ChannelAdvice):
    """An input: what it excites.

    **Arguments:** those of `ChannelAdvice`, and

    - `low`: smallest value.
    - `high`: largest value.
    - `central`: share of that range that the middle 90 % of the samples cover.
    - `binary`: True for a signal with two levels (`is_binary`).
    - `band_low`: lowest frequency excited, Hz (`spectrum`).
    - `band_high`: highest frequency excited, Hz.
    - `frequencies`: effective number of frequencies.
    - `explained`: R^2 by the other inputs.
    - `delay`: samples until its effect on the outputs certainly begins (`linear.delays.found_delays`), 0 where that is at once or unknown.
    """

    low: float
    high: float
    central: float = math.nan
    binary: bool = False
    band_low: float = math.nan
    band_high: float = math.nan
    frequencies: float = 0.0
    explained: float = math.nan
    delay: int = 0


@dataclass(frozen=True)
class OutputAdvice(ChannelAdvice):
    """An output: faults of its log, its linear model, and signs that it does not forget; NaN where unknown.

    **Arguments:** those of `ChannelAdvice`, and

    - `spikes`: samples.
    - `order`: of the best linear model.
    - `delay`: of its ARX model, samples.
    - `linear_nrmse`: of the best linear model in free run.
    - `joint`: whether that is one of all outputs by a subspace method (`joint_model`), and no ARX model of this output.
    - `memory`: samples (`Arx.memory`).
    - `pole`: nearest to one (`unit_root`).
    - `pole_t`: its t value.
    - `summed`: R^2 of slow changes by the summed inputs (`summed`).
    - `curved_nrmse`: with squares and cubes (`hysteresis`), or the linear one if it is lower.
    - `play_nrmse`: with play operators.
    - `levels`: number of levels that it takes, 0 for a finer resolution (`resolution`).
    - `level_step`: distance of two levels, share of the range.
    - `stuck`: share of moves without motion (`sticking`).
    - `jumps`: share of moves with a jump.
    - `steady_states`: number of steady states (`steady_states`).
    - `steady_gap`: largest gap between two at one input, share of the range.
    - `repeat_nrmse`: noise floor; no model has a lower one.
    """

    spikes: int = 0
    order: int = 0
    delay: int = 0
    linear_nrmse: float = math.nan
    joint: bool = False
    memory: float = math.nan
    pole: float = math.nan
    pole_t: float = math.nan
    summed: float = math.nan
    curved_nrmse: float = math.nan
    play_nrmse: float = math.nan
    levels: int = 0
    level_step: float = 0.0
    stuck: float = math.nan
    jumps: float = math.nan
    steady_states: int = 0
    steady_gap: float = math.nan
    repeat_nrmse: float = math.nan


@dataclass(frozen=True)
class Finding:
    """One problem or property of the log to know before training.

    **Arguments:**

    - `kind`: a keyword for programs; `advise` lists them.
    - `channel`: the name of the channel.
    - `text`: a sentence or two.
    """

    kind: str
    channel: str
    text: str


@dataclass(frozen=True)
class Advice:
    """The findings of `advise` on a record; `print` them.

    **Arguments:**

    - `dt`: sample time, seconds.
    - `names`: of the experiments.
    - `lengths`: of the experiments, samples.
    - `period`: of the inputs, samples; 0 when they do not repeat.
    - `inputs`: one `InputAdvice` per input, in the order of the record.
    - `outputs`: one `OutputAdvice` per output, in the order of the record.
    - `findings`: in the order of the record.
    """

    dt: float
    names: tuple[str, ...]
    lengths: tuple[int, ...]
    period: int
    inputs: tuple[InputAdvice, ...]
    outputs: tuple[OutputAdvice, ...]
    findings: tuple[Finding, ...]

    @property
    def suits(self) -> bool:
        """True when no finding speaks against a contracting model; this is no proof."""
        return not any(finding.kind in UNSUITED for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields and `suits` for JSON; a number that is unknown or infinite becomes None."""
        return finite({"format": 2, "suits": self.suits} | dataclasses.asdict(self))

    def __str__(self) -> str:
        """Return the advice as text of at most 100 columns."""
        blocks = [self._head(), *map(self._output, self.outputs), *map(self._input, self.inputs)]
        return "\n\n".join("\n".join(block) for block in [*blocks, [self.recommendations()]])

    def recommendations(self) -> str:
        """Return the findings as numbered sentences, in lines of at most 100 columns."""
        return "\n".join(self._findings())

    def _head(self) -> list[str]:
        count, samples = len(self.lengths), sum(self.lengths)
        runs = "1 experiment" if count == 1 else f"{count} experiments"
        reasons = list(dict.fromkeys(f.kind for f in self.findings if f.kind in UNSUITED))
        verdict = "no sign against a contracting model"
        verdict = f"signs against a contracting model: {', '.join(reasons)}" if reasons else verdict
        size = f"Advice on {runs}, {samples} samples, dt = {self.dt:.4g} s, {samples * self.dt:.4g} s in all"
        return [size, *textwrap.wrap(verdict[0].upper() + verdict[1:] + ".", WIDTH)]

    def _output(self, y: OutputAdvice) -> list[str]:
        found = {f.kind for f in self.findings if f.channel == y.name}
        lines = [*_output_lines(self, y, found)] if y.varies else [("varies", "never")]
        return _block("Output", y, [*lines, ("log", _faults(y, y.spikes))])

    def _input(self, u: InputAdvice) -> list[str]:
        return _block(
            "Input", u, [*(_input_lines(self, u) if u.varies else [("varies", "never")]), ("log", _faults(u))]
        )

    def _findings(self) -> Iterator[str]:
        yield "Recommendations" if self.findings else "Nothing to do before training."
        for number, finding in enumerate(self.findings, 1):
            yield from textwrap.wrap(
                f"{finding.channel}: {finding.text}",
                WIDTH,
                initial_indent=f"{number:3}. ",
                subsequent_indent="     ",
            )


def _block(kind: str, channel: ChannelAdvice, lines: list[tuple[str, str]]) -> list[str]:
    block = [f"{kind} {channel.name}{f' [{channel.unit}]' if channel.unit else ''}"[:WIDTH]]
    for label, text in lines:
        first = f"  {label:<{LABEL}}"
        block += textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=" " * len(first))
    return block


def _output_lines(a: Advice, y: OutputAdvice, found: set[str]) -> Iterator[tuple[str, str]]:
    delay = f", delay {y.delay}" if y.delay else ""
    of_all = " of all outputs" if y.joint else ""
    curves = f"; {y.curved_nrmse:.3g} with squares and cubes" if y.curved_nrmse < y.linear_nrmse else ""
    yield (
        "linear floor",
        f"NRMSE {y.linear_nrmse:.3g} in free run on the last third, order {y.order}{of_all}{delay}{curves}",
    )
    yield "noise floor", _noise_floor(a, y)
    yield "memory", _memory(a, y)
    poles = f"pole nearest to one {y.pole:.5g}, t = {y.pole_t:.3g} (above -2.86: may drift)"
    unknown = "unknown: too few samples"
    yield (
        "drift",
        unknown if math.isnan(y.pole) else f"{_sign(found, 'integrator', 'drift', 'unstable')}; {poles}",
    )
    tried = f"NRMSE {y.curved_nrmse:.3g} without play operators on an input, {y.play_nrmse:.3g} with them"
    unknown = "unknown: too few frequencies in the inputs, or too few samples"
    yield "hysteresis", unknown if math.isnan(y.play_nrmse) else f"{_sign(found, 'hysteresis')}; {tried}"
    moves = f"does not move in {percent(y.stuck)} of the expected moves, jumps in {percent(y.jumps)}"
    unknown = "unknown: too few moves in the middle of its range"
    yield "sticking", unknown if math.isnan(y.stuck) else f"{_sign(found, 'sticking')}; {moves}"
    count = f"{y.steady_states} steady state{'' if y.steady_states == 1 else 's'}"
    gap = f"{count}, at equal inputs up to {percent(y.steady_gap)} of the range apart"
    unknown = f"unknown: {count}, no two at equal inputs"
    yield "equilibria", unknown if math.isnan(y.steady_gap) else f"{_sign(found, 'equilibria')}; {gap}"


def _sign(found: set[str], *kinds: str) -> str:
    return "SIGNS" if found & set(kinds) else "no sign"


def _noise_floor(a: Advice, y: OutputAdvice) -> str:
    if not a.period:
        return "unknown: no input repeats"
    if math.isnan(y.repeat_nrmse):
        return f"unknown: the input repeats every {a.period} samples, but too few samples remain after the transient"
    return (
        f"NRMSE {y.repeat_nrmse:.3g}, the scatter over periods of {a.period} samples; no model can have less"
    )


def _memory(a: Advice, y: OutputAdvice) -> str:
    if math.isnan(y.memory):
        return "unknown: no input has an effect"
    if math.isinf(y.memory):
        return f"more than {4 * max(a.lengths)} samples: by the linear model it does not forget"
    times = min(a.lengths) / max(y.memory, 1)
    which = "the record" if len(a.lengths) == 1 else "the shortest experiment"
    return f"{y.memory:.0f} samples ({y.memory * a.dt:.3g} s) to forget 99 %; {which} is {short(times)} times as long"


def _input_lines(a: Advice, u: InputAdvice) -> Iterator[tuple[str, str]]:
    nyquist = 0.5 / a.dt
    band = f"{u.band_low:.3g} to {u.band_high:.3g} Hz hold 90 % of its power (half the sample rate: {nyquist:.3g} Hz)"
    yield "band", f"{band}; {short(u.frequencies)} effective frequencies"
    shape = "two levels" if u.binary else f"90 % of the samples in {percent(u.central)} of the range"
    yield "range", f"{u.low:.4g} to {u.high:.4g}; {shape}"
    if u.delay:
        yield (
            "delay",
            f"its effect begins {u.delay} samples ({u.delay * a.dt:.3g} s) late; give a model that delay",
        )
    if len(a.inputs) > 1:
        yield "other inputs", f"explain {percent(u.explained)} of its variance"


def _faults(c: ChannelAdvice, spikes: int | None = None) -> str:
    """Faults of a channel's log in words; `spikes` is None for an input, where they are not looked for."""
    parts = [f"{percent(c.missing)} missing, longest gap {c.longest_gap}"] if c.longest_gap else []
    for share, end in ((c.at_low, "lowest"), (c.at_high, "highest")):
        parts += [f"{percent(share)} at the {end} value"] if share else []
    parts += [] if math.isnan(c.mark) else [f"{c.mark:.10g} for lost samples"]
    parts += [f"{spikes} spike{'s' * (spikes > 1)}"] if spikes else []
    return "; ".join(parts) or "no gaps, no clipping" + (", no spikes" if spikes == 0 else "")


def short(value: float) -> str:
    """Return a number with three digits, or all before the point."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def percent(share: float) -> str:
    """Return a share as text, for example "3.2 %"."""
    # Shares near one get four digits, so that 99.99 % does not print as 1e+02 %.
    return f"{100 * share:.2g} %" if share < 0.99 else f"{100 * share:.4g} %"
