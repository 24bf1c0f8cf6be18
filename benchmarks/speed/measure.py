"""The cost of the R2DN, compared with the yardstick and other models: a table of ratios."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax

from robustctl.runs.provenance import provenance
from robustctl.store.atomic import write_atomic
from robustctl.store.json_text import write_json

from . import cases, floors, yardstick
from .cases import CASES, Case
from .latency import latencies
from .scaling import in_time, scaling
from .timing import check_quiet, compiled, difference, interleaved

ACCEPTED = {
    "training step": {"f16": 6.0, "pde": 1.5, "youla": 3.5},
    "rollout": {"f16": 1.9, "pde": 1.8, "youla": 2.3},
    "rollout gradient": {"f16": 2.4, "pde": 2.6, "youla": 3.7},
    "gradient, batch 4": {"f16": 5.0, "youla": 8.0},
    "gradient, batch 1": {"f16": 5.0, "youla": 8.0},
    "explicit map": {"f16": 1.6, "pde": 1.6, "youla": 1.6},
    "explicit map, with gradient": {"f16": 1.4, "pde": 1.4, "youla": 1.4},
}
"""Lower bounds for the ratios after a change, on an idle machine."""


def benchmark(folder: Path, *, quick: bool = False, repeats: int = 21) -> dict:
    """Measure everything, print each row, and write `speed.json` and `speed.txt` to `folder` after each.

    **Raises:** `RobustctlError` on a busy machine, unless `quick`, whose figures are meaningless.
    """
    machine = {} if quick else check_quiet()
    repeats = 2 if quick else repeats
    sizes = {"youla": cases.small(CASES["youla"])} if quick else CASES
    rates = floors.measure_rates()
    rows: list[dict] = []
    results = {
        "what": "time of the yardstick over ours, medians of interleaved runs; compilation apart", "quick": quick,
        **provenance(0), **machine,
        "gflops_of_one_large_product": rates.gflops, "gigabytes_a_second_of_one_large_copy": rates.gbytes, "rows": rows,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    for case in sizes.values():
        for row in _rows(case, rates, quick, repeats):
            rows.append(row)
            print(_line(row), flush=True)
            _write(results, folder)
    others = {
        "rivals": lambda: {name: _rivals(case, quick, repeats) for name, case in sizes.items()},
        "scaling": lambda: scaling(quick, repeats),
        "latency": lambda: latencies(sizes, quick),
        "parallel_in_time": lambda: in_time(sizes, quick, repeats),
    }
    for name, measured in others.items():
        results[name] = measured()
        _write(results, folder)
    return results


def _write(results: dict, folder: Path) -> None:
    write_json(folder / "speed.json", results)
    write_atomic(folder / "speed.txt", ("\n".join(map(_line, results["rows"])) + "\n").encode())


def _rows(case: Case, rates: floors.Rates, quick: bool, repeats: int):
    model = case.model()
    row = functools.partial(_row, case, rates, repeats)
    *losses, data = cases.training(case, quick)
    state = cases.optimizer_of_all().init(cases.free(model))  # pyright: ignore
    steps = [cases.training_step(loss) for loss in losses]
    yield row("training step", _samples(data[0]), steps, (model, state, *data), lambda out: out[2])
    us, ys = cases.sequences(case, 4 if quick else 64, 20 if quick else 128)
    yield row("rollout", _samples(us), [cases.plain, cases.ours], (model, us))
    gradients = [eqx.filter_value_and_grad(cases.squared_error(run)) for run in (cases.plain, cases.ours)]
    yield row("rollout gradient", _samples(us), gradients, (model, us, ys), lambda out: out[0])
    for batch in (4, 1):
        data = cases.sequences(case, batch, 20 if quick else 256)
        yield row(
            f"gradient, batch {batch}", _samples(data[0]), gradients, (model, *data), lambda out: out[0]
        )
    maps = [yardstick.explicit_map, _without_metric]
    yield row("explicit map", 0, maps, (model,), compare=None)
    both = [cases.with_gradient(fn) for fn in maps]
    yield row("explicit map, with gradient", 0, both, (model,), compare=None)


def _samples(data: jax.Array) -> int:
    """Number of samples of all sequences."""
    return data.size // data.shape[-1]


def _without_metric(model: Any) -> list:
    """The arrays of the map that a rollout needs; the metric P is for certificates, and the compiler drops it in training."""
    system = model.explicit()
    return jax.tree.leaves((system.A, system.B1, system.phi))


def _row(
    case: Case, rates: floors.Rates, repeats: int, what: str, samples: int, fns, args, compare: Callable | None = lambda out: out
) -> dict:  # fmt: skip
    """One row: the yardstick `fns[0]` against ours `fns[1]`, after comparing their results, with the lower bounds of ours."""
    made = {name: compiled(fn, *args) for name, fn in zip(("plain", "ours"), fns, strict=True)}
    apart = None
    if compare is not None:
        theirs, own = (compare(call()) for call, _, _ in made.values())
        apart = difference(own, theirs)
    found = interleaved({name: call for name, (call, _, _) in made.items()}, repeats)
    (_, slow, much), (_, quick, little) = made.values()
    return {
        "case": case.name, "what": what, "plain_ms": found["plain"]["ms"], "ours_ms": found["ours"]["ms"],
        **floors.floors(rates, case, what, samples, fns[1], args),
        "ratio": found["ours"]["ratio"], "accepted": ACCEPTED[what].get(case.name), "difference": apart,
        "compile_seconds": [round(slow, 2), round(quick, 2)], "temporary_bytes": [much, little],
    }  # fmt: skip


def _line(row: dict) -> str:
    accepted = "" if row["accepted"] is None else f"(accepted {row['accepted']:g})"
    least = [row["floor_ms"], row["bytes_floor_ms"]]
    floor = "" if None in least else "floors {:.3f} and {:.3f} ms".format(*least)
    plain, ours = row["temporary_bytes"]
    return (
        f"{row['case']:<6}{row['what']:<29}{row['plain_ms']:>9.3f} ms{row['ours_ms']:>9.3f} ms{row['ratio']:>7.2f}x "
        f"{accepted:<15} {floor:<27} compiled in {row['compile_seconds'][0]:.1f} and {row['compile_seconds'][1]:.1f} s, "
        f"temporaries {plain / 1e6:.2f} and {ours / 1e6:.2f} MB"
    )


def _rivals(case: Case, quick: bool, repeats: int) -> dict[str, dict[str, Any]]:
    """Forward and gradient of a rollout, 64 x 128: R2DN, the published REN, LSTM and GRU of equal size."""
    us, ys = cases.sequences(case, 4 if quick else 64, 20 if quick else 128)
    models = {"R2DN": case.model(), **case.rivals()}
    found: dict[str, dict[str, Any]] = {
        name: {"parameters": cases.parameters(m)} for name, m in models.items()
    }
    for what, fn, args in (
        ("rollout", cases.ours, (us,)),
        ("gradient", eqx.filter_value_and_grad(cases.squared_error(cases.ours)), (us, ys)),
    ):
        made = {name: compiled(fn, model, *args) for name, model in models.items()}
        times = interleaved({name: call for name, (call, _, _) in made.items()}, max(2, repeats // 3))
        for name in models:
            found[name][f"{what}_ms"] = times[name]["ms"]
            found[name][f"{what}_compile_seconds"] = round(made[name][1], 2)
            found[name][f"{what}_temporary_bytes"] = made[name][2]
    return found
