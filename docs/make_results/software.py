"""Tables of what was done to the software itself: each a function from all results to Markdown, empty where its file is absent."""

import numpy as np

from .markdown import number, table

Results = dict[str, dict]


def certificates(results: Results) -> str:
    r = results.get("false_certificates")
    if r is None:
        return ""
    kinds = ("certified", "not certified", "FALSE")
    rows = [(model, *(found.get(kind, 0) for kind in kinds)) for model, found in r["by_model"].items()]
    total = ("all", *(r["counts"].get(kind, 0) for kind in kinds))
    return table(("model", "certified, rightly", "not certified", "certified, falsely"), [*rows, total])


def oracle(results: Results) -> str:
    r = results.get("certificate_oracle")
    if r is None:
        return ""
    kinds = ("true", "not certified", "refused", "FALSE")
    rows = [(edit, *(found.get(kind, 0) for kind in kinds)) for edit, found in r["by_edit"].items()]
    total = ("all", *(r["counts"].get(kind, 0) for kind in kinds))
    return table(
        ("edit", "certified, rightly", "not certified", "refused", "certified, falsely"), [*rows, total]
    )


def counts(found: dict, labels: dict[str, str]) -> str:
    """Write counts in words, those that there are."""
    return table(("", "count"), [(label, found[key]) for key, label in labels.items() if key in found])


def proven(results: Results) -> str:
    keys = ("model", "promised_gamma", "gamma", "lower", "promised_rate", "rate", "seconds")
    rows = [[r[key] for key in keys] for r in results.get("proven_gains", {}).get("trained", [])]
    heads = ("gamma promised", "proven", "searched from below", "rate promised", "rate proven", "s")
    return table(("model", *heads), rows)


def proven_linear(results: Results) -> str:
    return counts(results.get("proven_gains", {}).get("linear", {}), {
        "systems": "random linear systems, lightly damped, in unlike units",
        "within_1_percent": "of these with a proven gain within 1 % of the H-infinity norm",
        "below_the_norm": "of these with a gain below it", "largest_ratio": "largest proven gain over the norm",
        "median_seconds": "median seconds per system",
    })  # fmt: skip


def counterexamples(results: Results) -> str:
    found = results.get("counterexamples", {}).get("models", [])
    rows = []
    for model in dict.fromkeys(r["model"] for r in found):
        mine = [r for r in found if r["model"] == model]
        worst = max((r for r in mine if r["kind"]), key=lambda r: np.ptp(r["outputs_end"]), default=None)
        ends = "-" if worst is None else " or ".join(number(y) for y in worst["outputs_end"])
        held = None if worst is None else worst["input"]
        kinds = ", ".join(sorted({r["kind"] for r in mine if r["kind"]})) or "none found"
        disproved = sum(r["kind"] is not None for r in mine)
        rows.append((model, len(mine), sum(r["holds"] for r in mine), disproved, kinds, held, ends))
    heads = ("trained", "certified", "disproved", "how", "pump held at (V)", "levels at the end (V)")
    return table(("model", *heads), rows)


def certified(results: Results) -> str:
    keys = (
        "promised_gamma",
        "gamma",
        "lower",
        "promised_rate",
        "rate",
        "proven_over_promised",
        "lower_over_proven",
    )
    runs = results.get("certified_models", {}).get("trained", [])
    rows = [(f"{r['plant']}, {r['model']}, seed {r['seed']}", *(r[key] for key in keys)) for r in runs]
    heads = (
        "gamma promised",
        "proven",
        "searched from below",
        "rate promised",
        "rate proven",
        "proven/promised",
        "searched/proven",
    )
    return table(("model", *heads), rows)


def certified_summary(results: Results) -> str:
    return counts(results.get("certified_models", {}).get("summary", {}), {
        "runs": "trained models", "without_a_gain": "of these without a proven gain",
        "median_proven_over_promised": "median of proven over promised gain",
        "median_lower_over_proven": "median of searched over proven gain", "median_seconds": "median seconds per certificate",
        "false": "searched gains above the proven one",
    })  # fmt: skip


def certified_random(results: Results) -> str:
    return counts(results.get("certified_models", {}).get("random", {}), {
        "systems": "random systems", "proofs_of_gains": "proven gains", "proofs_of_rates": "proven rates",
        "without_a_gain": "systems without a proven gain", "false": "false proofs",
        "median_lower_over_proven": "median of searched over proven gain",
        "largest_lower_over_proven": "largest of searched over proven gain",
    })  # fmt: skip


def certified_seconds(results: Results) -> str:
    rows = [
        (f"nx {r['nx']}, nv {r['nv']}, {tuple(r['hidden'])}", r["unknowns"], r["estimate"], r["gain"]["seconds"], r["rate"]["seconds"])
        for r in results.get("certified_models", {}).get("timings", [])
    ]  # fmt: skip
    return table(("model", "unknowns", "estimate, s", "gain, s", "rate, s"), rows)


def loop_errors(results: Results) -> str:
    keys = ("error", "d to y", "d to u", "n to u", "r to e", "seconds")
    rows = [[r[key] for key in keys] for r in results.get("certify_loop", {}).get("table", [])]
    heads = ("d to y, proven", "d to u", "n to u", "r to e", "s")
    return table(("gain of the model error, V/V", *heads), rows)


def loop_limits(results: Results) -> str:
    r = results.get("certify_loop")
    if r is None:
        return ""
    small, search, beyond = r["small_gain"], r["search"], r["search_at_three_times"]
    return table(("", "value"), [
        ("states of the loop", r["states"]), ("neurons", r["neurons"]), ("contraction rate, proven", r["rate"]),
        ("proven gain of the model times that of the policy (small gain needs below 1; the PI's is infinite)", small["product"]),
        ("largest error at the output, proven, V/V", r["largest_error_at_output"]),
        ("error that destabilizes the linearization at an equilibrium", r["linear_limit_at_output"]),
        ("largest relative error at the input, proven", r["largest_error_at_input"]),
        ("largest additional delay, proven, samples", r["largest_delay_in_samples"]),
        ("simulated errors of the largest proven gain", search["errors"]), ("of these unstable", search["unstable"]),
        ("simulated errors of three times that gain", beyond["errors"]),
        ("of these unstable, which the proof does not exclude", beyond["unstable"]),
    ])  # fmt: skip


def measured_loop(results: Results) -> str:
    r = results.get("certify_measured")
    if r is None:
        return ""
    unseen = ", ".join(f"{low:.3g} to {high:.3g}" for low, high in r["unseen"])
    return table(("from log to loop, " + r["record"], "value"), [
        ("order of the model", r["order"]), ("fit on the fresh record, %", r["fit_percent_on_fresh_record"]),
        ("largest error where the record shows it, upper bound, V/V", r["largest_error_seen"]),
        ("largest gain of W, V/V", r["largest_weight"]),
        ("not seen, rad/s", unseen), ("gain of the policy that W allows, proven, V/V", r["allowed_gamma"]),
        ("gain of the trained policy, proven", r["proven_gamma_of_policy"]),
        ("stable for every error within W, proven", str(r["stable_for_every_error_within_W"]).lower()),
        ("cost before and after the training", " and ".join(map(number, r["cost_before_and_after"]))),
    ])  # fmt: skip


def regions(results: Results) -> str:
    rows = []
    for r in results.get("regions", {}).get("regions", []):
        disturbance = ", ".join(f"{name} {number(size)}" for name, size in r["disturbance"].items())
        starts = ", ".join(f"{name} {number(size)}" for name, size in r["starts"].items())
        rows.append(
            (
                r["loop"],
                starts,
                disturbance,
                r["rollouts"],
                r["left_the_region"],
                r["largest_V"],
                r["seconds"],
            )
        )
    heads = (
        "a state can start at, alone",
        "with disturbances up to",
        "rollouts",
        "left it",
        "largest V reached",
        "s",
    )
    return table(("loop", *heads), rows)


def peaks(results: Results) -> str:
    return counts(results.get("regions", {}).get("peaks", {}), {
        "systems": "random linear systems", "below_the_exact_peak": "of these with a peak bound below the exact peak gain",
        "median_ratio": "median bound over the exact peak gain", "largest_ratio": "largest bound over it",
        "seconds_per_system": "seconds per system",
    })  # fmt: skip


def guards(results: Results) -> str:
    rows = []
    for r in results.get("guarded", {}).get("plants", []):
        guarded, others = r["guarded"], [r[name] for name in ("unguarded", "base", "tube MPC")]
        beyond = r["beyond"]
        rows.append(
            (
                r["plant"],
                *(f"{each['broke_a_limit']} of {number(each['episodes'])}" for each in (guarded, *others)),
                *(
                    each["cost"] / each.get("cost_of_base", r["base"]["cost"])
                    for each in (guarded, r["unguarded"], r["tube MPC"])
                ),
                f"{number(guarded['passed'])} / {number(guarded['changed'])} / {number(guarded['fallback'])}",
                f"{number(beyond['fallback'])}, {beyond['broke_a_limit']} of {number(beyond['episodes'])}",
            )
        )
    names = "guarded", "unguarded", "base", "tube MPC"
    heads = [
        *(f"{name}: broke a limit" for name in names),
        *(f"cost of {name}" for name in names if name != "base"),
    ]
    return table(
        ("plant", *heads, "passed / changed / fallback", "beyond the size: fallback, broke a limit"), rows
    )


def programs(results: Results) -> str:
    return counts(results.get("guarded", {}).get("programs", {}), {
        "problems": "random quadratic programs", "same_optimum": "same optimum to 1e-6",
        "fallback_though_possible": "fallback although a control exists", "fallback_impossible": "fallback, and no control exists",
        "wrong": "another control, or one where none exists", "largest_difference": "largest difference of an optimum",
    })  # fmt: skip


def units(results: Results) -> str:
    labels = {
        "norm_below": "H-infinity norm below a dense grid's", "norm_above": "H-infinity norm above it",
        "lqr": "LQR gain", "kalman": "Kalman gain", "place": "placed poles' gain", "hinf": "gamma of H-infinity synthesis",
        "riccati": "residual of ill-conditioned Riccati equations", "stiff": "stiff plants, from the matrix exponential",
    }  # fmt: skip
    r = results.get("scaled_systems")
    rows = [(label, r["worst"][key], r["bounds"][key]) for key, label in labels.items()] if r else []
    return table(("largest relative difference", "found", "bound"), rows)


def lipschitz(results: Results) -> str:
    keys = ("activation", "exact", "exact_seconds", "recursion", "recursion_seconds", "product", "lower")
    found = results.get("lipschitz_networks", {}).get("everywhere", [])
    rows = [("-".join(map(str, r["widths"])), *(r[key] for key in keys)) for r in found]
    heads = ("activation", "LipSDP", "s", "recursion", "s", "product of norms", "searched from below")
    return table(("widths", *heads), rows)


def lipschitz_on_boxes(results: Results) -> str:
    keys = ("activation", "half", "norm", "upper", "lower", "ratio", "seconds")
    found = results.get("lipschitz_networks", {}).get("boxes", [])
    rows = [
        ("-".join(map(str, r["widths"])), *(r[key] for key in keys), r["uppers"]["LipSDP"]) for r in found
    ]
    heads = ("activation", "half a side", "norm", "upper", "lower", "ratio", "s", "LipSDP, all inputs")
    return table(("widths", *heads), rows)


def lipschitz_random(results: Results) -> str:
    return counts(results.get("lipschitz_networks", {}).get("random", {}), {
        "networks": "random networks of all activations", "below": "upper bounds below a lower one",
        "above": "bounds on a box above that for all inputs", "ratio": "median upper bound over the lower one, all inputs",
        "box_ratio": "the same on a box", "less": "median bound on a box over that for all inputs",
    })  # fmt: skip


def trainings(results: Results) -> str:
    return counts(results.get("kill_training", {}), {
        "kills": "kills, at random moments", "in_a_write": "of these within a write of a checkpoint",
        "before_the_first_checkpoint": "of these before the first checkpoint", "failed": "resumes that failed",
        "most_epochs_lost": "most epochs lost by one kill", "epochs_between_checkpoints": "epochs between two checkpoints",
        "second_processes": "other processes that tried to train in a folder in use",
        "second_refused": "of these refused", "runs": "trainings that came to their end",
        "equal": "of these equal, bit for bit, to one left alone",
    })  # fmt: skip


def runs(results: Results) -> str:
    outcomes = {"ok": "used", "refused": "refused with a reason", "other": "anything else"}
    rows = [
        (kind, r["mutations"], *(r["counts"].get(key, 0) for key in outcomes))
        for kind, r in results.get("fuzz_runs", {}).get("files", {}).items()
    ]
    return table(("file", "damaged run folders", *outcomes.values()), rows)


def readers(results: Results) -> str:
    outcomes = {"ok": "read", "DataError": "refused with a reason", "other": "anything else"}
    rows = [
        (kind, r["mutations"], *(r["counts"].get(key, 0) for key in outcomes), r["crashes_contained"], r["timeouts_contained"])
        for kind, r in results.get("fuzz_readers", {}).get("formats", {}).items()
    ]  # fmt: skip
    return table(("format", "damaged logs", *outcomes.values(), "crashes contained", "hangs contained"), rows)


def damages(results: Results) -> str:
    r, keys = results.get("model_files", {}), ("times", "detected", "undetected", "other")
    kinds = {"flips": "one bit flipped", "truncations": "cut short"}
    rows = [(label, *map(r[key].get, keys)) for key, label in kinds.items() if key in r]
    return table(("damage", "files", "refused", "loaded", "anything else"), rows)


def saves(results: Results) -> str:
    return counts(results.get("model_files", {}).get("kills", {}), {
        "times": "kills while saving", "kills_in_a_write": "of these within a write",
        "a": "the one model was there, whole", "b": "the other model was there, whole",
        "unreadable": "no file could be read", "not_what_was_saved": "a file that nobody saved",
        "temporaries_after_the_next_save": "files left over after the next save",
    })  # fmt: skip


TABLES = {
    f.__name__: f
    for f in (
        certificates,
        oracle,
        proven,
        proven_linear,
        counterexamples,
        certified,
        certified_summary,
        certified_random,
        certified_seconds,
        lipschitz,
        lipschitz_on_boxes,
        lipschitz_random,
        loop_errors,
        loop_limits,
        measured_loop,
        guards,
        programs,
        regions,
        peaks,
        units,
        trainings,
        runs,
        readers,
        damages,
        saves,
    )
}
