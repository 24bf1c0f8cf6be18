"""Tables of all models on the same records, with as many weights and as much time."""

import statistics

from .markdown import number, table
from .speed import rows_of

Results = dict[str, dict]


def which_model_errors(results: Results) -> str:
    rows = rows_of(results, "which_model", "rows")
    records = list(dict.fromkeys(r["record"] for r in rows))
    found = {(r["record"], r["model"]): sorted(r["nrmse"]) for r in rows}
    linear = results.get("which_model", {}).get("linear", {})
    lines = [
        [model, *(_middle(found.get((record, model))) for record in records)]
        for model in dict.fromkeys(r["model"] for r in rows)
    ]
    return table(
        ("model", *records), [*lines, ["linear, by a subspace method", *map(linear.get, records)]] if lines else []
    )  # fmt: skip


def _middle(errors: list[float] | None) -> str:
    if errors is None:
        return "-"
    low, high = number(errors[0]), number(errors[-1])
    return f"{number(statistics.median(errors))} [{low},\N{NO-BREAK SPACE}{high}]"


def which_model_costs(results: Results) -> str:
    rows = rows_of(results, "which_model", "rows")
    default = {r["record"]: r["epochs"] for r in rows if r["model"] == "R2DN, sandwich layers"}
    lines = []
    for model in dict.fromkeys(r["model"] for r in rows):
        own = [r for r in rows if r["model"] == model]
        steps = [r["epochs"] / default[r["record"]] for r in own if r["record"] in default]
        gains = [r["gamma"] for r in own if r["gamma"] is not None]
        lines.append([
            model, round(statistics.median(r["weights"] for r in own)), statistics.median(steps) if steps else None,
            statistics.median(r["step_microseconds"] for r in own), own[0]["promised_gamma"],
            statistics.median(gains) if gains else None, f"{sum(r['holds'] for r in own)} of {len(own)}",
        ])  # fmt: skip
    heads = (
        "weights",
        "training steps over the default's",
        "µs a step in C",
        "promised gain",
        "proven gain",
        "certified",
    )
    return table(("model", *heads), lines)


def smaller_models(results: Results) -> str:
    rows = rows_of(results, "smaller_models", "rows")
    lines = []
    for record in dict.fromkeys(r["record"] for r in rows):
        own = [r for r in rows if r["record"] == record]
        found = {("-", "as trained"): [r["full"] for r in own]}
        for r in own:
            for weight, ways in r["weights"].items():
                for way, model in ways.items():
                    found.setdefault((weight, way), []).append(model)
        for (weight, way), models in found.items():
            if way == "nothing left":
                lines.append([record, weight, way, *["-"] * 6, f"{len(models)} of {len(own)} seeds"])
                continue
            each = [[m[name] for m in models] for name in ("nx", "nv", "hidden", "bytes", "gamma")]
            each[2] = [sum(widths) for widths in each[2]]
            lines.append([
                record, weight, way, *(number(statistics.median(values)) for values in each), _middle(sorted(m["nrmse"] for m in models)),
                f"{sum(m['holds'] for m in models)} of {len(models)}",
            ])  # fmt: skip
    heads = (
        "weight of the lasso", "model", "states", "features", "hidden", "bytes of C", "proven gain", "NRMSE", "certified",
    )  # fmt: skip
    return table(("record", *heads), lines)


def tuned_within_one_training(results: Results) -> str:
    rows = rows_of(results, "bilevel", "rows")
    names = {"sweep": "sweep, Optuna", "bilevel": "bilevel gradients"}
    lines = []
    for record in dict.fromkeys(r["record"] for r in rows):
        for way, name in names.items():
            own = [r[way] for r in rows if r["record"] == record]
            scores = (_middle(sorted(r[what] for r in own)) for what in ("nrmse", "validation"))
            chosen = (number(statistics.median(r[what] for r in own)) for what in ("rate", "gamma", "ridge"))
            lines.append([record, name, *scores, *chosen])
    return table(("record", "way", "NRMSE", "validation loss", "rate", "gamma", "ridge"), lines)


TABLES = {
    f.__name__: f for f in (which_model_errors, which_model_costs, smaller_models, tuned_within_one_training)
}
