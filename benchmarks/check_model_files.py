"""Flip bits of a model file, truncate it, kill processes that write it, and count the errors that are detected.

    python -m benchmarks.check_model_files --flips 1000 --truncations 1000 --kills 100 --seed 0 \
        --out results/model_files.json

Every flip and cut must be refused with a ModelFileError, and after every kill the file must load and hold
one of the two models being saved. The process exits with 1 otherwise.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from multiprocessing.synchronize import Event
from pathlib import Path

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import robustctl as rc
from robustctl.errors import ModelFileError
from robustctl.io import inspect, load, save
from robustctl.runs.provenance import provenance
from robustctl.store.atomic import write_atomic
from robustctl.store.json_text import write_json

LONGEST_WAIT = 0.4  # seconds from the child's first save to its end
MOST_EXAMPLES = 5


def make_model() -> rc.nn.R2DN:
    """A model of the size of the identification problems, in the dtype they are trained in."""
    return rc.nn.LipschitzR2DN(
        nu=2, nx=32, nv=64, ny=2, gamma=5.0, hidden=(128, 128), key=jr.key(0), dtype=jnp.float32
    )


def attempt(path: Path) -> tuple[str, str]:
    """Outcome of loading a damaged file: detected, undetected, or another error."""
    try:
        load(path)
    except ModelFileError:
        return "detected", ""
    except Exception:
        return "other", traceback.format_exc(limit=-3)
    return "undetected", ""


def damage(raw: bytes, path: Path, times: int, change: Callable[[int], tuple[bytes, str]]) -> dict:
    """Counts of outcomes over `times` damaged copies."""
    counts, examples = Counter(detected=0, undetected=0, other=0), []
    for index in range(times):
        data, what = change(index)
        path.write_bytes(data)
        outcome, text = attempt(path)
        counts[outcome] += 1
        if outcome != "detected" and len(examples) < MOST_EXAMPLES:
            examples.append({"what": what, "outcome": outcome, "text": text})
    path.write_bytes(raw)
    return {"times": times, **counts, "examples": examples}


def flips(raw: bytes, path: Path, times: int, rng: np.random.Generator) -> dict:
    """One flipped bit each: every second one in the header, the others anywhere."""
    header = 8 + int.from_bytes(raw[:8], "little")

    def change(index: int) -> tuple[bytes, str]:
        at, bit = int(rng.integers(header if index % 2 else len(raw))), int(rng.integers(8))
        data = bytearray(raw)
        data[at] ^= 1 << bit
        return bytes(data), f"bit {bit} of byte {at}"

    return damage(raw, path, times, change)


def truncations(raw: bytes, path: Path, times: int, rng: np.random.Generator) -> dict:
    """Truncated at a random position, every second time within the last kilobyte."""

    def change(index: int) -> tuple[bytes, str]:
        at = int(rng.integers(max(len(raw) - 1024, 0) if index % 2 else 0, len(raw)))
        return raw[:at], f"the first {at} bytes"

    return damage(raw, path, times, change)


def save_forever(path: Path, started: Event) -> None:
    """Save two models in turn until killed."""
    models = [load(version) for version in _versions(path)]
    certificates = [rc.certify(model, prove=False) for model in models]
    while True:
        for model, certificate in zip(models, certificates, strict=True):
            save(path, model, certificate=certificate)
            started.set()


def write_forever(path: Path, started: Event) -> None:
    """Repeat the last part of `save`, in which a kill could damage the file, until killed."""
    files = [version.read_bytes() for version in _versions(path)]
    while True:
        for data in files:
            write_atomic(path, data)
            started.set()


def _versions(path: Path) -> list[Path]:
    return [path.with_suffix(".a"), path.with_suffix(".b")]


def two_models(model: rc.nn.R2DN) -> tuple:
    """The model, and the same with another bias."""
    return model, eqx.tree_at(lambda m: m.core.by, model, model.core.by + 1)


def kills(path: Path, times: int, rng: np.random.Generator) -> dict:
    """Kill a child at a random moment, then load the file that it left; every second child only writes."""
    model = load(path)
    for file, version in zip(_versions(path), two_models(model), strict=True):
        save(file, version)
    allowed = {file.read_bytes(): file.suffix[1:] for file in _versions(path)}
    # Children inherit these: each starts in seconds only if it finds the first one's compiled code.
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(path.parent / "cache")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["robustctl.io", "robustctl.certificates"])
    counts = Counter(a=0, b=0, unreadable=0, not_what_was_saved=0, kills_in_a_write=0)
    for index in range(times):
        job = write_forever if index % 2 else save_forever
        _kill_one(context.Event(), context, job, path, float(rng.uniform(0, LONGEST_WAIT)))
        counts["kills_in_a_write"] += len(_temporaries(path)) > 0
        try:
            load(path)
            counts[allowed.get(path.read_bytes(), "not_what_was_saved")] += 1
        except Exception:
            counts["unreadable"] += 1
    save(path, model)
    return {"times": times, **counts, "temporaries_after_the_next_save": len(_temporaries(path))}


def _kill_one(started: Event, context, job: Callable, path: Path, wait: float) -> None:
    child = context.Process(target=job, args=(path, started), daemon=True)
    child.start()
    if not started.wait(300):
        raise RuntimeError("the child did not save anything in 300 s")
    time.sleep(wait)
    child.kill()
    child.join()


def _temporaries(path: Path) -> list[Path]:
    return list(path.parent.glob(f".{path.name}.*.tmp"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--flips", type=int, default=1000)
    parser.add_argument("--truncations", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results/model_files.json"))
    options = parser.parse_args()
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save(path, make_model())
        raw = path.read_bytes()
        what = inspect(path)
        results = {"file": {"bytes": len(raw), "model": what["structure"]["class"], "format": what["format"]}}
        for name, run, times in (
            ("flips", flips, options.flips),
            ("truncations", truncations, options.truncations),
        ):
            results[name] = run(raw, path, times, np.random.default_rng([options.seed, len(name)]))
            print(name, json.dumps(results[name]), flush=True)
        results["kills"] = kills(path, options.kills, np.random.default_rng(options.seed))
        print("kills", json.dumps(results["kills"]), flush=True)
    report = provenance(options.seed) | {"wall_s": round(time.perf_counter() - begin, 1)} | results
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.out, report)
    return int(not _passed(results))


def _passed(results: dict) -> bool:
    detected = all(results[name]["detected"] == results[name]["times"] for name in ("flips", "truncations"))
    left = results["kills"]
    return detected and left["a"] + left["b"] == left["times"] and not left["temporaries_after_the_next_save"]


if __name__ == "__main__":
    raise SystemExit(main())
