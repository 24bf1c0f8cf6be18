"""What `advise` returns: numbers of each channel, what they mean, and both as text."""

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
UNSUITED = ("integrator", "drift", "unstable", "hysteresis", "sticking", "equilibria")


@dataclass(frozen=True)
class ChannelAdvice:
    """Any channel: how much of it is missing or clipped, and whether it moves.

    `missing`: share of samples; `longest_gap`: samples; `at_low`, `at_high`: shares of clipped samples.
    """

    name: str
    unit: str
    missing: float
    longest_gap: int
    at_low: float
    at_high: float
    moves: bool


@dataclass(frozen=True)
class InputAdvice(ChannelAdvice):
    """An input: what it excites.

    `low`, `high`: least and largest value; `central`: share of that range which the middle 90 % of the samples
    take up; `band_low`, `band_high` (Hz) and `frequencies`: see `spectrum`; `binary`; `explained`: R^2 by the other inputs.
    """

    low: float
    high: float
    central: float = math.nan
    binary: bool = False
    band_low: float = math.nan
    band_high: float = math.nan
    frequencies: float = 0.0
    explained: float = math.nan


@dataclass(frozen=True)
class OutputAdvice(ChannelAdvice):
    """An output: faults of its log, its linear model, and signs that it does not forget; NaN where unknown.

    `spikes`: samples; `order`, `delay` (samples)
    and `linear_nrmse` of the best linear model in free run; `memory`: samples; `pole`, `pole_t`: see `unit_root`;
    `summed`: see there; `curved_nrmse` (or the linear one, if less), `play_nrmse`: see `hysteresis`; `still`, `jumps`: see `sticking`;
    `rests`, `rest_gap`: see there; `repeat_nrmse`: no model can be better.
    """

    spikes: int = 0
    order: int = 0
    delay: int = 0
    linear_nrmse: float = math.nan
    memory: float = math.nan
    pole: float = math.nan
    pole_t: float = math.nan
    summed: float = math.nan
    curved_nrmse: float = math.nan
    play_nrmse: float = math.nan
    still: float = math.nan
    jumps: float = math.nan
    rests: int = 0
    rest_gap: float = math.nan
    repeat_nrmse: float = math.nan


@dataclass(frozen=True)
class Finding:
    """One thing to know before training: `kind`, a word for programs; `channel`, a name; `text`, a sentence or two."""

    kind: str
    channel: str
    text: str


@dataclass(frozen=True)
class Advice:
    """What `advise` found in a record; `print` it.

    `dt` in seconds; `names` and `lengths` (samples) of the experiments; `period` of the inputs, samples, 0 when they do
    not repeat; `inputs`, `outputs` and `findings` in the order of the record.
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
        """True when nothing was found that a contracting model cannot describe; it proves nothing."""
        return not any(finding.kind in UNSUITED for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields and `suits` as JSON holds them; None stands for a number that is unknown or infinite."""
        return finite({"format": 1, "suits": self.suits} | dataclasses.asdict(self))

    def __str__(self) -> str:
        """Return the advice as text of at most 100 columns."""
        blocks = [self._head(), *map(self._output, self.outputs), *map(self._input, self.inputs)]
        return "\n\n".join("\n".join(block) for block in [*blocks, list(self._findings())])

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
        lines = [*_output_lines(self, y, found)] if y.moves else [("moves", "never")]
        return _block("Output", y, [*lines, ("log", _faults(y))])

    def _input(self, u: InputAdvice) -> list[str]:
        return _block(
            "Input", u, [*(_input_lines(self, u) if u.moves else [("moves", "never")]), ("log", _faults(u))]
        )

    def _findings(self) -> Iterator[str]:
        yield "What to do" if self.findings else "Nothing to do before training."
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
    curves = f"; {y.curved_nrmse:.3g} with squares and cubes" if y.curved_nrmse < y.linear_nrmse else ""
    yield (
        "linear floor",
        f"NRMSE {y.linear_nrmse:.3g} in free run on the last third, order {y.order}{delay}{curves}",
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
    moves = f"stands still in {percent(y.still)} of the expected moves, jumps in {percent(y.jumps)}"
    unknown = "unknown: too few moves in the middle of its range"
    yield "sticking", unknown if math.isnan(y.still) else f"{_sign(found, 'sticking')}; {moves}"
    unknown = f"unknown: {y.rests} rest{'' if y.rests == 1 else 's'}, no two at one input"
    rests = f"{y.rests} rests, at one input up to {percent(y.rest_gap)} of the range apart"
    yield "several rests", unknown if math.isnan(y.rest_gap) else f"{_sign(found, 'equilibria')}; {rests}"


def _sign(found: set[str], *kinds: str) -> str:
    return "SIGNS" if found & set(kinds) else "no sign"


def _noise_floor(a: Advice, y: OutputAdvice) -> str:
    if not a.period:
        return "unknown: no input repeats"
    if math.isnan(y.repeat_nrmse):
        return (
            f"unknown: the input repeats every {a.period} samples, but too little is left after the transient"
        )
    return f"NRMSE {y.repeat_nrmse:.3g}, the scatter over periods of {a.period} samples; no model gets below"


def _memory(a: Advice, y: OutputAdvice) -> str:
    if math.isnan(y.memory):
        return "unknown: no input acts"
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
    if len(a.inputs) > 1:
        yield "other inputs", f"explain {percent(u.explained)} of its variance"


def _faults(c: ChannelAdvice) -> str:
    parts = [f"{percent(c.missing)} missing, longest gap {c.longest_gap}"] if c.longest_gap else []
    for share, end in ((c.at_low, "lowest"), (c.at_high, "highest")):
        parts += [f"{percent(share)} at the {end} value"] if share else []
    parts += [f"{c.spikes} spike{'s' * (c.spikes > 1)}"] if isinstance(c, OutputAdvice) and c.spikes else []
    return "; ".join(parts) or "no gaps, no clipping" + (", no spikes" if isinstance(c, OutputAdvice) else "")


def short(value: float) -> str:
    """Return a number with three digits, or all before the point."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def percent(share: float) -> str:
    """Return a share as text, as in "3.2 %"."""
    return f"{100 * share:.2g} %" if share < 0.99 else f"{100 * share:.4g} %"
