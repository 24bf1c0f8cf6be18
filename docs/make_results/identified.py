"""Tables of linear models and of the error of a model over frequency."""

import statistics

from .markdown import table

Results = dict[str, dict]


def model_errors(results: Results) -> str:
    keys = ("case", "draws", "within", "median_weight_over_error", "seen_share", "truth_error")
    heads = (
        "draws", "error within the weight", "median weight over error", "seen share of the band",
        "uncertainty of the error over the weight",
    )  # fmt: skip
    rows = [[r[key] for key in keys] for r in results.get("model_error", {}).get("cases", [])]
    return table(("error", *heads), rows)


def linear_models(results: Results) -> str:
    keys = ("record", "order", "nrmse", "arx", "seconds")
    rows = [[r[key] for key in keys] for r in results.get("linear_models", {}).get("records", [])]
    return table(("record", "order", "test NRMSE", "ARX models of each output", "s"), rows)


def linear_models_random(results: Results) -> str:
    keys = ("order", "found", "largest_pole_error", "nrmse", "noise")
    rows = [
        [k + 1, *(r[key] for key in keys)]
        for k, r in enumerate(results.get("linear_models", {}).get("random", []))
    ]
    return table(
        (
            "system",
            "order",
            "order found",
            "largest error of a pole, order given",
            "NRMSE, order given",
            "noise",
        ),
        rows,
    )


def linear_coverage(results: Results) -> str:
    keys = ("plant", "noise_pole", "step", "frequency", "poles", "zeros")
    rows = [[r[key] for key in keys] for r in results.get("linear_coverage", {}).get("rows", [])]
    heads = ("pole of the noise", "step response", "frequency response", "poles", "zeros")
    return table(("plant", *heads), rows)


PUBLISHED = {
    "robot arm": ("0.035", "0.045 (PO-MOESP), 0.835 (jax-sysid)"),
    "glass furnace": ("0.40", "0.460 (PO-MOESP), 0.753 (jax-sysid)"),
    "heat exchanger": ("0.15", "0.418 (PO-MOESP), 0.206 (jax-sysid)"),
    "cascaded tanks": ("0.12", "0.10 (R2DN with a state estimator), 0.23 (GRU)"),
    "silverbox": ("0.006", "0.0044 (a public package, no certificate)"),
}
"""By record: what was aimed at, and what others reach."""


def identified_by_command(results: Results) -> str:
    runs = results.get("identify_auto", {}).get("runs", [])
    rows = []
    for record, (aim, others) in PUBLISHED.items():
        own = [r for r in runs if r["record"] == record]
        if own:
            network = ", ".join(f"{r['model']['test']:.4g}" for r in own)
            linear = ", ".join(dict.fromkeys(f"{r['linear']['test']:.4g}" for r in own))
            holds = f"{sum(r['holds'] for r in own)} of {len(own)}"
            rows.append([record, network, linear, aim, others, max(r["seconds"] for r in own), holds])
    heads = (
        "test NRMSE, a number a seed",
        "subspace model",
        "aim",
        "others",
        "most seconds",
        "certificate holds",
    )
    return table(("record", *heads), rows)


PACKAGES = {"robustctl": "robustctl", "jax_sysid": "jax-sysid", "tsfast": "tsfast"}
"""Names of the packages, as the file and as people write them."""


def identified_compared(results: Results) -> str:
    runs = results.get("identify_compared", {}).get("runs", [])
    rows = []
    for record, seed in dict.fromkeys((r["record"], r["seed"]) for r in runs):
        own = {r["package"]: r for r in runs if (r["record"], r["seed"]) == (record, seed)}
        cells = [
            f"{r['test_nrmse']:.3g} ({r['cpu_seconds']:.0f} s)"
            if (r := own.get(name)) and "error" not in r
            else None
            for name in PACKAGES
        ]
        rows.append([record, seed, *cells])
    return table(("record", "seed", *PACKAGES.values()), rows)


def identified_compared_how(results: Results) -> str:
    runs = results.get("identify_compared", {}).get("runs", [])
    return table(
        ("record", "package", "model"), [[r["record"], PACKAGES[r["package"]], r.get("how")] for r in runs]
    )


def simulated_plants(results: Results) -> str:
    found = results.get("simulated_plants", {}).get("plants", [])
    rows = []
    for kind in dict.fromkeys(p["kind"] for p in found):
        own = [p for p in found if p["kind"] == kind]
        ratios = sorted(p["ratio"] for p in own)
        middle = statistics.median(ratios)
        counts = [sum(r < 1 for r in ratios), sum(r > 1.05 for r in ratios)]
        rows.append([kind, len(own), *counts, middle, ratios[0], ratios[-1]])
    heads = ("better", "worse by more than 5 %", "median ratio", "least", "largest")
    return table(("kind", "plants", *heads), rows)


def start_at_linear(results: Results) -> str:
    found = results.get("start_at_linear", {}).get("rows", [])
    rows = [
        [
            *(r[key] for key in ("record", "start", "order", "linear")),
            ", ".join(f"{score:.3g}" for score in r["test"]),
            *(
                r[key]
                for key in (
                    "mean_of_seeds",
                    "training_at_first",
                    "training_after_a_tenth",
                    "training_at_last",
                )
            ),
            *(r[key] for key in ("epochs", "nv", "cpu_seconds_a_seed")),
        ]
        for r in found
    ]
    heads = (
        "linear model",
        "network, each seed",
        "mean of the seeds",
        "training at first",
        "after a tenth",
        "at last",
    )
    return table(("record", "start", "order", *heads, "epochs", "features", "CPU s a seed"), rows)


TABLES = {
    f.__name__: f
    for f in (
        model_errors,
        linear_models,
        linear_models_random,
        linear_coverage,
        identified_by_command,
        identified_compared,
        identified_compared_how,
        simulated_plants,
        start_at_linear,
    )
}
