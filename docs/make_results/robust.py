"""Tables of robustness over the promised gain, of critics of bounded slope and of memories for delays."""

import statistics

from .markdown import spread, table
from .speed import rows_of

Results = dict[str, dict]


def robustness_over_gain(results: Results) -> str:
    """Write the errors on Silverbox of every model and promised gain."""
    rows = rows_of(results, "robustness_page", "rows")
    lines = []
    for model, gamma in dict.fromkeys((r["model"], r["gamma"]) for r in rows):
        own = [r for r in rows if (r["model"], r["gamma"]) == (model, gamma)]
        bound = [r.get("proven", r.get("reported_zero_state")) for r in own]
        keys = ("clean", "within", "beyond", "unperturbed", "perturbed", "amplification")
        lines.append(
            (model, gamma, spread(bound), *(spread(r[key] for r in own) for key in keys), own[0]["weights"])
        )
    heads = (
        "clean",
        "arrow within",
        "arrow beyond",
        "unperturbed",
        "perturbed",
        "amplification found",
        "weights",
    )
    return table(("model", "promised gain", "bound", *heads), lines)


def critics(results: Results) -> str:
    """Write cost and error of the critic, on the plant as trained and the mean over the changed ones."""
    rows = rows_of(results, "lipschitz_critic", "rows")
    lines = []
    for name, gamma in dict.fromkeys((r["environment"], r["gamma"]) for r in rows):
        own = [r["tests"] for r in rows if (r["environment"], r["gamma"]) == (name, gamma)]
        cells = []
        for key in ("cost", "value_error"):
            cells.append(spread(tests["as trained"][key] for tests in own))
            cells.append(
                spread(
                    statistics.mean(v[key] for t, v in tests.items() if t != "as trained") for tests in own
                )
            )
        lines.append((name, "plain" if gamma is None else gamma, *cells))
    heads = ("cost, as trained", "cost, changed", "critic's error, as trained", "critic's error, changed")
    return table(("environment", "slope of the critic", *heads), lines)


def delay_memories(results: Results) -> str:
    """Write the errors on records with a delay."""
    rows = rows_of(results, "delay_memory", "rows")
    lines = [
        (r["record"], r["found_delay"][0], r["how"], spread(r["nrmse"]), r["linear"], r["cpu_seconds_of_all"])
        for r in rows
    ]
    heads = (
        "delay found, samples",
        "network",
        "NRMSE",
        "NRMSE of the linear model",
        "training, s, all seeds",
    )
    return table(("record", *heads), lines)


TABLES = {f.__name__: f for f in (robustness_over_gain, critics, delay_memories)}
