"""Tables of what was trained: each a function from all results to Markdown, empty where its file is absent."""

from collections.abc import Iterable

from robustctl.problems import f16, records

from .markdown import number, published, spread, table
from .speed import rows_of

Results = dict[str, dict]
NAMES = {
    "r2dn": "R2DN",
    "ren": "REN",
    "lstm": "LSTM",
    "linear": "linear model",
    "lipschitz": "Lipschitz R2DN",
    "ours": "our own recipe",
}


def models(results: Results, problem: str) -> dict[str, dict]:
    """Return the files of a problem by what they trained: `{"R2DN": ..., "REN": ...}`."""
    found = {}
    for name, result in results.items():
        start, _, kind = name.partition("_")
        if start == problem and result.get("problem") == problem:
            model, *rest = kind.split("_")
            found[" ".join([NAMES.get(model, model), *rest])] = result
    return found


def of_runs(result: dict, *keys: str, digits: int = 3) -> str:
    """Write one figure over the runs of a file; the keys lead to it."""
    values = []
    for run in result["runs"]:
        for key in keys:
            run = None if run is None else run.get(key)
        values += run if isinstance(run, list) else [run]
    return spread(values, digits)


def held(result: dict) -> str:
    """Count the certificates that hold, of all runs, on the way and at the end."""
    checks = [check["holds"] for run in result["runs"] for check in run.get("certificates", [])]
    checks += [run["certificate"]["holds"] for run in result["runs"] if "certificate" in run]
    checks += [run["certificate_holds"] for run in result["runs"] if run.get("certificate_holds") is not None]
    return f"{sum(checks)} of {len(checks)}" if checks else "none claimed"


def training(
    results: Results, problem: str, heading: str, loss: str, parameters: str = "parameters", digits: int = 3
) -> str:
    """Write what the training of a published problem came to, compared with what was published."""
    rows = []
    for model, r in models(results, problem).items():
        final, known = of_runs(r, loss, digits=digits), published(r["published"], digits)
        seconds = of_runs(r, "seconds_per_epoch"), (r["published"] or {}).get("seconds_per_epoch")
        rows.append((model, of_runs(r, parameters, digits=7), final, known, *seconds, held(r)))
    return table(
        ("model", "parameters", heading, "published", "s an epoch", "published, GPU", "certified"), rows
    )


def f16_training(results: Results) -> str:
    return training(results, "f16", "training loss", "final_training_loss")


def f16_nrmse(results: Results) -> str:
    there = models(results, "f16")
    levels = _levels(there)
    rows: list[tuple] = [
        (
            model,
            of_runs(r, "test", "nrmse"),
            *(of_runs(r, "test", "nrmse_by_level", level) for level in levels),
        )
        for model, r in there.items()
    ]
    rows += [
        (f"{model}, average of {len(r['average']['seeds'])} seeds", *_levels_of(r["average"]["test"], levels))
        for model, r in there.items()
        if len(r.get("average", {}).get("seeds", ())) > 1
    ]
    known = [(name, value, *[None] * len(levels)) for name, value in f16.REFERENCES.items()]
    return table(("", "all levels", *(f"level {level}" for level in levels)), rows + known if rows else [])


def f16_rmse(results: Results) -> str:
    there = models(results, "f16")
    rows = [
        (f"{model}, level {level}", *_channels(run["test"]["rmse"][level] for run in r["runs"]))
        for model, r in there.items()
        for level in _levels(there)
    ]
    return table(("RMSE, m/s²", *f16.OUTPUTS), rows)


def _levels_of(scores: dict, levels: list[str]) -> list[float]:
    return [scores["nrmse"], *(scores["nrmse_by_level"][level] for level in levels)]


def _levels(there: dict[str, dict]) -> list[str]:
    return list(dict.fromkeys(level for r in there.values() for level in r["runs"][0]["test"]["rmse"]))


def _channels(runs: Iterable[list[float]]) -> list[str]:
    return [spread(channel) for channel in zip(*runs, strict=True)]


def pde_training(results: Results) -> str:
    return training(results, "pde", "training loss", "final_training_loss", "trained_parameters")


def pde_test(results: Results) -> str:
    keys, there = ("test_nrmse", "test_nrmse_last_half"), models(results, "pde")
    rows = [
        (model, of_runs(r, "final_training_loss"), *(of_runs(r, key) for key in keys))
        for model, r in there.items()
    ]
    for r in list(there.values())[:1]:
        affine = (of_runs(r, "references", "affine_fit", key) for key in ("loss", *keys))
        rows.append(("affine predictor", *affine))
    return table(("", "training loss", "NRMSE, all samples", "NRMSE, last half"), rows)


def youla(results: Results) -> str:
    return training(results, "youla", "test cost", "final_test_cost", digits=4)


def gains(results: Results, name: str) -> str:
    """Write what a bound on the gain of Q costs."""
    r = results.get(name, {"mean_relative_cost": {}})
    rows = []
    for policy in r["mean_relative_cost"]:
        own = [run for run in r["runs"] if run["policy"] == policy]
        proven = f"{sum(run['certificate'] for run in own)} of {len(own)}"
        cost = spread(run["relative_cost"] for run in own)
        rows.append((policy, cost, r["published"].get(policy), own[0]["certified_gain"], proven))
    return table(("policy", "relative cost", "published", "certified gain of Q", "certified"), rows)


def faults(results: Results, name: str) -> str:
    """Write what faults do to the loops; with the share of episodes that stayed in bounds, where not all did."""
    found = results.get(name, {"under_faults": {}})["under_faults"]

    def cell(costs: dict[str, dict], policy: str) -> str:
        own, base = costs[policy], costs["base"]
        ratio = number(own["mean"] / base["mean"] if own["mean"] is not None and base["mean"] else None)
        return ratio if own["stayed"] == 1 else f"{ratio} ({own['stayed']:.0%} stayed)"

    policies = [policy for policy in next(iter(found.values()), {}) if policy != "base"]
    return table(("policy", *found), [(p, *(cell(costs, p) for costs in found.values())) for p in policies])


def shaking(results: Results) -> str:
    """Write how much policies shake that were trained without and with the actuator's delay."""
    rows = [
        (row["trained_with_samples"], row["run_with_samples"], row["amplitude_m"], row["change_of_force_N"])
        for row in results.get("actuator_delay", {"rows": []})["rows"]
    ]
    columns = (
        "trained with a delay of",
        "run with a delay of",
        "amplitude, m",
        "change of the force per sample, N",
    )
    return table(columns, rows)


def fits(results: Results) -> str:
    keys, there = ("nrmse", "rmse", "fit_percent"), {n: results[n] for n in records.PUBLISHED if n in results}
    rows = [
        (f"{name.replace('_', ' ')}, {start}", *(of_runs(r, "test", key) for key in keys), held(r))
        for name, r in there.items()
        for start in dict.fromkeys(run["test"]["initial_state"] for run in r["runs"])
    ]
    return table(("record, start of the test", "NRMSE", "RMSE, V", "fit, %", "certified"), rows)


def records_published(results: Results) -> str:
    rows = [
        (f"{name.replace('_', ' ')}: {model}", nrmse)
        for name, known in records.PUBLISHED.items()
        for model, nrmse in known.items()
    ]
    return table(("", "NRMSE"), rows)


def observers(results: Results) -> str:
    """Write the scores of the pendulum's observers compared with those of Kalman filters."""
    r = results.get("observe_pendulum")
    if r is None:
        return ""
    rows: list[tuple] = []
    for model in dict.fromkeys(one["model"] for one in r["observers"]):
        own = [one for one in r["observers"] if one["model"] == model]
        proven = f"{sum(one['certificate'] for one in own)} of {len(own)}"
        rows.append((f"{model}, learned", *_channels(one["nrmse"] for one in own), proven))
    for which, found in r["extended_kalman_filters_by_process_noise"].items():
        rows += [
            (f"extended Kalman, {which}, noise {noise}", *errors, None) for noise, errors in found.items()
        ]
    return table(("observer", *(f"NRMSE, {c}" for c in r["channels"]), "certified"), rows)


def moving_horizons(results: Results) -> str:
    """Write the pendulum's observers that have the plant's equations."""
    keys = ("estimator", "model", "prior", "process_noise")
    rows = [
        (*map(r.get, keys), *r["nrmse"], *r["first_second"], r["cpu_ms_a_sample"])
        for r in rows_of(results, "moving_horizon", "rows")
    ]
    errors = ("arm", "pendulum", "arm, first second", "pendulum, first second")
    return table(("observer", "model", "prior", "process noise", *errors, "ms"), rows)


def controllers(results: Results, name: str) -> str:
    """Write a report on loops, without its steps and the other forms of the disk margin."""
    rows = [
        (f"{r['group']}: {r['quantity']}" + (f" [{r['unit']}]" if r["unit"] else ""), *(number(v, 4) for v in r["values"].values()))
        for r in results.get(name, {"table": []})["table"]
        if not r["group"].startswith("step of") and not r["quantity"].startswith("disk: ")
    ]  # fmt: skip
    return table(("", *(results[name]["table"][0]["values"] if rows else ())), rows)


def reactor(results: Results) -> str:
    """Write the controllers of the reactor."""
    keys = ("cost", "largest_excess_K", "mean_excess_K", "spread", "step_ms")
    rows = [(r["controller"], *map(r.get, keys)) for r in rows_of(results, "convex_reactor", "rows")]
    return table(
        ("controller", "cost", "largest excess, K", "mean excess, K", "spread over starts", "step, ms"), rows
    )


def reactor_models(results: Results) -> str:
    """Write the models of the reactor."""
    found = results.get("convex_reactor", {}).get("models", {})
    rows = [(name, r.get("weights"), *r["nrmse"], r.get("training_cpu_s")) for name, r in found.items()]
    return table(("model", "weights", "NRMSE, concentration", "NRMSE, temperature", "training, s"), rows)


TABLES = {f.__name__: f for f in (
    f16_training, f16_nrmse, f16_rmse, pde_training, pde_test, youla, gains, faults, fits, records_published, observers, moving_horizons,
    controllers, shaking, reactor, reactor_models,
)}  # fmt: skip
