"""Tables of times: each a function from all results to Markdown, empty where its file is absent."""

from collections.abc import Iterator

from .markdown import number, spread, table

Results = dict[str, dict]


def rows_of(results: Results, file: str, rows: str) -> list[dict]:
    """Return the rows of a file, none where it is absent."""
    return results.get(file, {}).get(rows, [])


def yardstick(results: Results) -> str:
    keys = ("plain_ms", "ours_ms", "ratio", "accepted", "floor_ms", "bytes_floor_ms")
    rows = [(f"{r['case']}: {r['what']}", *map(r.get, keys)) for r in rows_of(results, "speed", "rows")]
    return table(
        ("", "as published, ms", "ours, ms", "ratio", "accepted", "floor, ms", "bytes floor, ms"), rows
    )


def published(results: Results) -> str:
    keys = ("published_ms", "ours_ms", "ratio", "difference")
    rows = [
        (f"{r['case']}: {r['what']}", *map(r.get, keys)) for r in rows_of(results, "speed_published", "rows")
    ]
    return table(("", "theirs, ms", "ours, ms", "ratio", "difference"), rows)


def devices(results: Results) -> str:
    keys = ("devices", "epoch_ms", "speedup", "efficiency")
    rows = [tuple(map(r.get, keys)) for r in rows_of(results, "devices", "epoch")]
    return table(("devices", "epoch, ms", "speed-up", "efficiency"), rows)


def environments(results: Results) -> str:
    keys = ("num_envs", "native_steps_per_second", "sync_steps_per_second", "ratio")
    rows = [tuple(map(r.get, keys)) for r in rows_of(results, "envs", "native_over_sync")]
    return table(("copies", "steps/s, compiled", "steps/s, SyncVectorEnv", "ratio"), rows)


def rivals(results: Results) -> str:
    rows = [
        (f"{case}: {name}", r["parameters"], r["rollout_ms"], r["gradient_ms"])
        for case, found in results.get("speed", {}).get("rivals", {}).items()
        for name, r in found.items()
    ]
    return table(("", "parameters", "rollout, ms", "gradient, ms"), rows)


def growth(results: Results) -> str:
    rows = [
        (what, ", ".join(map(str, r["values"])), ", ".join(map(number, r["gradient_ms"])), r["slope"])
        for what, r in results.get("speed", {}).get("scaling", {}).items()
    ]
    return table(("what grows", "values", "gradient, ms", "slope"), rows)


def latency(results: Results) -> str:
    found = results.get("speed", {}).get("latency", {})
    ways = [way.replace("_", " ") for way in next(iter(found.values()), {})]
    rows = [
        (case, *(f"{number(t['median_us'])} ({number(t['p99_us'])})" for t in r.values()))
        for case, r in found.items()
    ]
    return table(("", *ways), rows)


def steps(results: Results, file: str = "step_times") -> str:
    keys = ("median_us", "p99_9_us", "max_us", "times_c")
    rows = [
        (f"{system}: {way}", *map(r.get, keys))
        for system, ways in results.get(file, {}).get("systems", {}).items()
        for way, r in ways.items()
    ]
    return table(("", "median, us", "99.9 %, us", "largest, us", "median over that of C"), rows)


def long_records(results: Results) -> str:
    found = rows_of(results, "stack_long", "rows")
    names = dict.fromkeys(name for r in found for name in r["ms"])
    rows = [
        (
            f"{number(r['samples'])} x {r['records']}: {r['what']}",
            *map(r["ms"].get, names),
            r["ms"]["R2DN"] / r["ms"]["stack"],
        )
        for r in found
    ]
    return table(("samples x records", *(f"{name}, ms" for name in names), "ratio"), rows)


def rows_in_time(results: Results, file: str) -> list[tuple[str, dict]]:
    """Return each case with each of its rows of iterations over all samples, none where the file is absent."""
    found = results.get(file, {}).get("parallel_in_time", {})
    return [(case, row) for case, rows in found.items() for row in rows]


def parallel(results: Results, file: str = "speed") -> str:
    found = rows_in_time(results, file)
    methods = dict.fromkeys(key for _, r in found for key, value in r.items() if isinstance(value, dict))

    def cells(r: dict) -> Iterator[str | None]:
        for one in map(r.get, methods):
            yield one and f"{number(one['times_faster_than_scan'])} ({one['iterations']})"

    return table(
        ("", "samples", "scan, ms", *methods),
        [(case, r["samples"], r["scan_ms"], *cells(r)) for case, r in found],
    )


def differences(results: Results) -> str:
    keys = ("difference", "gradient_difference")
    rows = [
        (case, r["samples"], *(r[method][key] for method in ("picard", "mean-slope") for key in keys))
        for case, r in rows_in_time(results, "iterations")
    ]
    return table(("", "samples", "picard: outputs", "gradient", "mean-slope: outputs", "gradient"), rows)


def slopes(results: Results) -> str:
    r = results.get("expressivity", {"slopes": {}})
    rows = [
        (f"{kind}, {name}", f"{number(found['slope'])} ({number(found['error'], 2)})", r["published_slopes"][kind][name],
         r["target"] if kind == "R2DN" else None)
        for kind, both in r["slopes"].items() for name, found in both.items()
    ]  # fmt: skip
    return table(("", "slope", "published", "target"), rows)


def sizes(results: Results) -> str:
    rows = [
        (f"{r['model']} {r['size']}", r["parameters"], r["inference_ms"], r["gradient_ms"],
         spread(100 * error for error in r["test_nrmse"]))
        for r in rows_of(results, "expressivity", "rows")
    ]  # fmt: skip
    return table(("", "parameters", "inference, ms", "gradient, ms", "NRMSE, %"), rows)


def seeds(results: Results) -> str:
    found = results.get("seeds", {"arrangements": {}})
    rows = [
        (name, r["ms"], r["times_of_one_seed"], r["part_of_peak"])
        for name, r in found["arrangements"].items()
    ]
    return table(
        (f"arrangement of {found.get('seeds')} seeds", "ms", "times one seed", "part of the peak rate"), rows
    )


def reading(results: Results) -> str:
    keys = ("pandas_s", "ours_s", "ratio", "pandas_mb", "ours_mb", "memory_ratio")
    rows = [(r["case"], *map(r.get, keys)) for r in rows_of(results, "read_speed", "reading")]
    return table(("", "pandas, s", "ours, s", "ratio", "pandas, MB", "ours, MB", "ratio of memory"), rows)


def advising(results: Results) -> str:
    rows = [tuple(r.values()) for r in rows_of(results, "read_speed", "advice")]
    return table(("samples", "inputs", "outputs", "s"), rows)


def stepping(results: Results) -> str:
    rows = [
        (f"{r['batch']} plants, {what}", r[what]["b_ms"], r[what]["a_ms"], r[what]["ratio"])
        for r in rows_of(results, "loops", "stepping_diffrax_over_hand_written")
        for what in ("forward", "gradient")
    ]
    return table(("", "Diffrax, ms", "by hand, ms", "ratio"), rows)


def epoch(results: Results) -> str:
    r = results.get("loops", {}).get("problem_3_epoch_plain_over_ours")
    return table(("plain, ms", "ours, ms", "ratio"), [(r["b_ms"], r["a_ms"], r["ratio"])] if r else [])


TABLES = {f.__name__: f for f in (
    yardstick, rivals, growth, latency, steps, parallel, differences, published, slopes, sizes, seeds, devices, stepping, epoch,
    environments, reading, advising, long_records,
)}  # fmt: skip
