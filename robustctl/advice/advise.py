"""Analysis of a record before training: whether a contracting model suits it, and what a good score would be."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..checks import of_type
from ..data.record import Record
from ..data.record_checks import check_squares
from ..data.trend import pooled
from ..errors import DataError
from ..linear.delays import found_delays
from ..linear.series import Series
from . import channels, signs
from .advice import Advice, InputAdvice, OutputAdvice
from .arx import BETTER, best_arx
from .findings import FEW_FREQUENCIES, of_input, of_output, of_sizes
from .joint import joint_model
from .series import FITTED_SHARE, OutputSeries, Standard, series, standard

# Of each output. 20 samples to fit leave 3 per parameter of the smallest model (order 1, one input: 4 parameters) with some
# gaps; a score from 10 is uncertain by about a fifth.
FEWEST_SAMPLES, FEWEST_HELD_OUT = 30, 10
MEMORY_LIMIT = 4  # lengths of the longest experiment: a longer memory looks like an infinite one
RARE = 0.5  # share of the samples in which an input is known
FEWEST_REPEATED = 20  # degrees of freedom: a deviation from 20 is uncertain by 1 / sqrt(40), 16 %


def advise(record: Record) -> Advice:
    """Report before training whether a contracting model suits a record, and what a good score would be.

    A contracting model forgets its initial state. A log can only hint at whether the plant does: each line below is
    a sign with its number, and no sign is no proof. Channels are scaled to mean 0 and deviation 1 first. The
    functions named here, in `robustctl.advice.signs`, `arx`, `joint` and `channels`, state their formulas.

    ============ ======================================================== ==============================================
    kind         number                                                   reported when
    ============ ======================================================== ==============================================
    units        ratios of a channel's standard deviations s and of its   s, p >= 30 and s of another in (1/3, 3), or
                 largest absolute values p, between two experiments       s, p >= 300 in all; not where all inputs are
                                                                          constant
    integrator   pole and t of a unit root (`unit_root`), R^2 of slow     pole >= 1 - 5 / T, -2.86 < t < 2.86 and
                 changes by summed inputs (`summed`)                      R^2 >= 0.5, T samples the longest experiment;
                                                                          within 1 - 0.2 / T and 1 + 1 / T at any t
    drift        the same                                                 the same, but R^2 < 0.5
    unstable     the same                                                 t > 2.86 and pole > 1 + 1 / T
    hysteresis   NRMSE with play operators p, without q (`hysteresis`)    p <= 0.6 q and p <= q - 0.02
    sticking     shares s of moves without motion, j with a jump          s >= 0.25, j >= 0.05, linear NRMSE < 0.8, and
                 (`sticking`)                                             squares and cubes leave over 0.6 of that
    equilibria   gap between steady states at equal inputs over the       > 0.25
                 range (`steady_states`)
    memory       samples m until the step response of the linear model    m > samples of an experiment, and no drift
                 stays within 1 % (`Arx.memory`)
    unobservable NRMSE c of the best model linear in the inputs, their    c >= 0.9
                 squares and cubes (`hysteresis`)
    linear       NRMSE l of the best linear model (`best_arx`, or one of  l <= 1.2 r, or l >= 1 > 0.9 > c
                 all outputs by a subspace method, `joint_model`), r of
                 the scatter of repeated periods
    constant     standard deviation over largest value                    <= 1e-12
    binary       share of samples within 5 % of the range of its ends     >= 0.95
    excitation   effective number of frequencies (`spectrum`)             < 5
    collinear    R^2 of an input by the other inputs (`explained`)        > 0.95
    marks        number that stands for lost samples (`lost_mark`)        any
    quantized    distance of the levels over the range (`resolution`)     >= 0.02
    saturation   share of samples held at an extreme value (`at_ends`)    >= 0.01
    gaps         share of missing samples                                 >= 0.05
    spikes       single samples that stand out (`spikes`)                 any
    ============ ======================================================== ==============================================

    ``NRMSE = sqrt(mean (y - y_hat)^2 / mean (y - mean y)^2)`` over the last third of every experiment, to which no model
    was fitted, but which selected the order and delay. The scatter of repeated periods is ``s / std(y)`` over the
    whole record, with s the standard deviation at equal phases of the period after the transient (`channels.period`).

    For an observer, give the record that `rc.observers.for_observer` makes: its inputs include the measured channels, and
    "integrator", "drift" and "unobservable" then report which channels the measurements do not determine.

    **Arguments:**

    - `record`: one or more experiments, with or without gaps; 30 measured samples of each output at least.

    **Returns:** An `Advice` to print; its fields and ``to_dict()`` hold the numbers, ``findings`` the sentences,
    ``suits`` the verdict.

    **Raises:** `DataError` for an argument that is not a record, or an output with too few measured samples, in
    total, without a gap, or in the last third of its experiments.

    **Example:** ::

        print(rc.advice.advise(rc.problems.two_tanks(600, seed=0)))
    """
    _check(record)
    for field, names in (("u", record.inputs), ("y", record.outputs)):
        check_squares(*pooled(record, field), names)
    u_standard, y_standard = standard(record, "u"), standard(record, "y")
    u_varies = u_standard.varies
    u = [u_standard(e.u)[:, u_varies] for e in record.experiments]
    periods = [channels.period(values)[0] if u_varies.any() else 0 for values in u]
    together = _together(record, u, y_standard)
    delays = found_delays(together) if together else (0,) * int(u_varies.sum())
    inputs = _inputs(record, u, u_varies, delays)
    joint = _joint(together, delays, y_standard.varies)
    # A play of a nearly sinusoidal input is a phase shift, as of a lag: hysteresis needs more frequencies.
    exciting = [channel.frequencies >= FEW_FREQUENCIES for channel in inputs if channel.varies]
    outputs = []
    for i in range(record.ny):
        log = _log(record, "y", i)
        measured = [k for k, e in enumerate(record.experiments) if e.y_mask[:, i].any()]
        runs = [series(record.experiments[k], i, u_standard, y_standard) for k in measured]
        varies = bool(y_standard.varies[i])
        numbers = (
            _plant(runs, exciting, [periods[k] for k in measured], record, log["name"]) if varies else {}
        )
        numbers |= _lower(numbers, joint.get(i))
        outputs.append(OutputAdvice(**log, varies=varies, **numbers))
    names, lengths = zip(*((e.name, e.samples) for e in record.experiments), strict=True)
    findings = list(of_sizes(record.inputs + record.outputs, _sizes(record, u_varies), names))
    findings += [f for channel in outputs for f in of_output(channel, lengths, names, record.dt)]
    findings += [f for channel in inputs for f in of_input(channel)]
    period = periods[int(np.argmax(lengths))]
    return Advice(record.dt, names, lengths, period, inputs, tuple(outputs), tuple(findings))


def _check(record: Any) -> None:
    of_type(
        record,
        Record,
        "advise needs a Record",
        "make one with rc.data.read or rc.data.from_arrays",
        DataError,
    )
    for i, name in enumerate(record.outputs):
        measured = [e.y_mask[:, i] for e in record.experiments]
        late = sum(int(m[int(np.ceil(FITTED_SHARE * len(m))) :].sum()) for m in measured)
        count = sum(int(m.sum()) for m in measured)
        if count < FEWEST_SAMPLES or late < FEWEST_HELD_OUT:
            raise DataError(
                f"output {name!r} needs {FEWEST_SAMPLES} measured samples or more, {FEWEST_HELD_OUT} of them in the last "
                f"thirds of the experiments; got {count} and {late}; log longer, or leave the output out"
            )


def _log(record: Record, field: str, channel: int) -> dict[str, Any]:
    """Name, unit and faults of a channel, the fields that inputs and outputs share."""
    names, units = (
        (record.inputs, record.input_units) if field == "u" else (record.outputs, record.output_units)
    )
    signals = [e.signal(field) for e in record.experiments]
    masks = [mask[:, channel] for _, mask in signals]
    values = [values[:, channel][m] for (values, _), m in zip(signals, masks, strict=True)]
    at_low, at_high = channels.at_ends(values)
    all_values = np.concatenate(values)
    return {
        "name": names[channel],
        "unit": units[channel],
        "missing": float(1 - np.concatenate(masks).mean()),
        "longest_gap": max(channels.longest_gap(m) for m in masks),
        "at_low": at_low,
        "at_high": at_high,
        "mark": channels.lost_mark(all_values),
    }


def _sizes(record: Record, u_varies: np.ndarray) -> np.ndarray:
    """Sizes (experiments, nu + ny, 2) of the channels, NaN where all inputs are constant: noise is small in any unit."""
    found = []
    for e in record.experiments:
        pairs = [*zip(e.u.T, e.u_mask.T, strict=True), *zip(e.y.T, e.y_mask.T, strict=True)]
        of_all = channels.sizes([values[mask] for values, mask in pairs])
        idle = u_varies.any() and not np.isfinite(of_all[: record.nu]).any()
        found.append(np.full_like(of_all, np.nan) if idle else of_all)
    return np.array(found)


def _together(record: Record, u: list[np.ndarray], y_standard: Standard) -> list[Series]:
    """Return all channels that vary, scaled, an entry for each experiment; none where no input or no output varies."""
    varies = y_standard.varies
    if not u[0].shape[1] or not varies.any():
        return []
    return [
        Series(scaled, y_standard(e.y)[:, varies], np.all(e.u_mask, axis=1), e.y_mask[:, varies])
        for e, scaled in zip(record.experiments, u, strict=True)
    ]


def _joint(
    together: list[Series], delays: tuple[int, ...], varies: np.ndarray
) -> dict[int, tuple[int, float]]:
    """Return order and NRMSE of the linear model of all outputs, by the numbers of those that it has a score for."""
    found = joint_model(together, delays) if together else None
    if found is None:
        return {}
    scores = zip(np.flatnonzero(varies), found.nrmse, strict=True)
    return {int(i): (found.order, float(nrmse)) for i, nrmse in scores if np.isfinite(nrmse)}


def _lower(numbers: dict[str, Any], joint: tuple[int, float] | None) -> dict[str, Any]:
    """Return what changes where the model of all outputs has a lower error than the ARX model."""
    if joint is None or not joint[1] < BETTER * numbers["linear_nrmse"]:
        return {}
    order, nrmse = joint
    curved = min(numbers["curved_nrmse"], nrmse)
    return {"order": order, "linear_nrmse": nrmse, "joint": True, "curved_nrmse": curved}


def _inputs(
    record: Record, u: list[np.ndarray], varies: np.ndarray, delays: tuple[int, ...]
) -> tuple[InputAdvice, ...]:
    values, mask = pooled(record, "u")
    explained = channels.explained(np.concatenate(u))
    advice = []
    for j in range(record.nu):
        measured, column = values[mask[:, j], j], int(varies[:j].sum())
        low, high = float(measured.min()), float(measured.max())
        numbers: dict[str, Any] = {"varies": bool(varies[j]), "low": low, "high": high}
        if varies[j]:
            middle = np.subtract(*np.percentile(measured, (95, 5))) / (high - low)
            band = channels.spectrum([x[:, column] for x in u], record.dt)
            numbers |= {"central": float(middle), "binary": channels.is_binary(measured)}
            numbers |= dict(zip(("band_low", "band_high", "frequencies"), band, strict=True))
            numbers |= {"explained": float(explained[column]), "delay": delays[column]}
        advice.append(InputAdvice(**_log(record, "u", j), **numbers))
    return tuple(advice)


def _rare(record: Record) -> str:
    """What to do about inputs that are missing in most samples, as those are that a log holds only where they change."""
    known = pooled(record, "u")[1].mean(axis=0)
    rare = [f"{name!r}" for name, share in zip(record.inputs, known, strict=True) if share < RARE]
    held = f"; known in less than half of the samples: {', '.join(rare)}. If an input is logged only when it changes, read with hold="
    return f"{held}{rare[0]}" if rare else ""


def _plant(
    series: list[OutputSeries], exciting: list[bool], periods: list[int], record: Record, name: str
) -> dict[str, Any]:
    """Numbers of one output that come from a model, with the field names of `OutputAdvice`."""
    found = best_arx(series)
    if found is None:
        raise DataError(
            f"output {name!r} must have more consecutive samples without gaps for a linear model; log longer{_rare(record)}"
        )
    model, nrmse = found
    simulated = [model.simulate(s) for s in series]
    memory = model.memory(MEMORY_LIMIT * max(len(s.y) for s in series))
    measured = np.concatenate([s.y[s.y_ok] for s in series])
    y_span, (levels, level_step) = signs.span(measured), channels.resolution(measured)
    pole, pole_t = signs.unit_root(series, model.delay)
    curved, played = signs.hysteresis(series, model, nrmse, exciting)
    stuck, jumps = signs.sticking(series, simulated, level_step)
    states, gap = signs.steady_states(series, simulated)
    pairs = zip(series, simulated, strict=True)
    return {
        "spikes": sum(channels.spikes(s.y, y_hat, s.y_ok, y_span) for s, y_hat in pairs),
        "order": model.order, "delay": model.delay, "linear_nrmse": nrmse, "memory": memory,
        "pole": pole, "pole_t": pole_t, "summed": signs.summed(series),
        "curved_nrmse": float(np.fmin(nrmse, curved)), "play_nrmse": played, "stuck": stuck, "jumps": jumps,
        "levels": levels, "level_step": level_step,
        "steady_states": states, "steady_gap": gap, "repeat_nrmse": _repeat(series, periods, memory),
    }  # fmt: skip


def _repeat(series: list[OutputSeries], periods: list[int], memory: float) -> float:
    """NRMSE of the best possible model, from the scatter between periods; NaN when too few repeat."""
    squares, free = 0.0, 0
    for s, period in zip(series, periods, strict=True):
        if period:
            # The response repeats once the transient has decayed; without a finite memory, one period is a guess.
            skipped = int(memory) if np.isfinite(memory) else period
            more = channels.scatter(s.y, s.y_ok, period, skipped)
            squares, free = squares + more[0], free + more[1]
    return float(np.sqrt(squares / free)) if free >= FEWEST_REPEATED else np.nan
