"""Damage a run folder at random, watch it, repeat it and resume it, and count the outcomes.

    python -m benchmarks.fuzz_runs --mutations 2000 --seed 0 --out results/fuzz_runs.json

Bytes of `run.json`, of `training.jsonl` and of checkpoints are damaged; values of their JSON are replaced, in checkpoints under a
new checksum. Only two outcomes are allowed: it works, or a RobustctlError. The process exits with 1 after any other.
"""

from __future__ import annotations

import json
import resource
import shutil
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import jax.random as jr
import numpy as np

import robustctl as rc
from benchmarks import fuzzing
from benchmarks.fuzz_readers import MOST_EXAMPLES, mutate
from robustctl.cli.arguments import arguments
from robustctl.cli.models import FitLog
from robustctl.cli.rerun import read_again
from robustctl.cli.watch import Watch, status
from robustctl.errors import RobustctlError, RobustctlWarning
from robustctl.recipe import Recipe
from robustctl.runs.checkpoint import checkpoints
from robustctl.runs.run_folder import CHECKPOINTS, LOG, SETTINGS
from robustctl.runs.watchers import read_log
from robustctl.store.container import pack, unpack

EPOCHS, SAMPLES = 6, 40
DRAWN = 20  # of so many folders one is drawn, which takes ten times as long as all else
ODD = (
    None, True, -1, 0, 1.5, 3, 10**6, 10**12, 10**400, 1e308, -1e308, "", "x", "x" * 10_000, "\ud800", "a\0b", "--help", [], {},
    [[[]]], {"a": {"b": [1]}},
)  # fmt: skip
DEEP = b"[" * 50_000


def train(folder: Path) -> None:
    """Train a small model in a folder, which may hold a part of the run."""
    command = FitLog(
        folder.parent / "log.csv", ("u",), ("y",), dt=0.1, recipe=Recipe(nx=2, nv=2, hidden=(3,), warm_up=3)
    )
    model = rc.nn.ContractingR2DN(nu=1, nx=2, nv=2, ny=1, hidden=(3,), key=jr.key(0))
    run = rc.runs.Run(folder, resume=True, checkpoint_epochs=2, command=("fit", *arguments(command)))
    record = command.records()[0]
    rc.fit(model, record, epochs=EPOCHS, run=run, monitor=None, key=jr.key(1))


def write_log(folder: Path) -> None:
    """Write the log that is trained on."""
    u = np.random.default_rng(0).normal(size=SAMPLES)
    y = np.convolve(u, [0.0, 1.0, 0.5])[:SAMPLES]
    rows = [f"{a:.6g},{b:.6g}" for a, b in zip(u, y, strict=True)]
    (folder / "log.csv").write_text("\n".join(["u,y", *rows]) + "\n")


def damage(folder: Path, kind: str, rng: np.random.Generator) -> None:
    """Damage one file of a run."""
    paths = {
        SETTINGS: [folder / SETTINGS],
        LOG: [folder / LOG],
        CHECKPOINTS: checkpoints(folder / CHECKPOINTS),
    }
    path = paths[kind][
        max(0, int(rng.integers(-3, len(paths[kind]))))
    ]  # the newest most often, which is read first
    raw = path.read_bytes()
    if rng.integers(2):
        path.write_bytes(mutate(raw, rng))
    elif kind == CHECKPOINTS:
        path.write_bytes(_repacked(raw, rng))
    else:
        path.write_bytes(_with_odd_value(raw, kind == LOG, rng))


def _with_odd_value(raw: bytes, lines: bool, rng: np.random.Generator) -> bytes:
    parts = raw.splitlines() if lines else [raw]
    at = int(rng.integers(len(parts)))
    parts[at] = DEEP if rng.integers(20) == 0 else json.dumps(_odd(json.loads(parts[at]), rng)).encode()
    return b"\n".join(parts) + b"\n"


def _odd(value: Any, rng: np.random.Generator) -> Any:
    """Return a JSON value with one of its parts replaced, removed or added."""
    if not isinstance(value, dict | list) or not value or rng.integers(6) == 0:
        return ODD[int(rng.integers(len(ODD)))]
    changed: Any = value.copy()
    keys = list(value) if isinstance(value, dict) else range(len(value))
    key = keys[int(rng.integers(len(keys)))]
    if rng.integers(5) == 0:
        del changed[key]
    else:
        changed[key] = _odd(value[key], rng)
    return changed


def _repacked(raw: bytes, rng: np.random.Generator) -> bytes:
    """Return a checkpoint with another header or other arrays and the checksum that fits."""
    header, arrays = unpack(raw)
    del header["sha256"]
    if rng.integers(2):
        changed = _odd(header, rng)
        header = changed if isinstance(changed, dict) else {}
    else:
        name = list(arrays)[int(rng.integers(len(arrays)))]
        a = arrays.pop(name)
        others = [
            None, a[None], a.astype(np.float16), np.full_like(a, -7), np.full_like(a, 120), np.zeros(0, a.dtype), a.ravel()[:1],
        ]  # fmt: skip
        other = others[int(rng.integers(len(others)))]
        arrays |= {} if other is None else {name: other}
    try:
        return pack(header, arrays)
    except (ValueError, UnicodeEncodeError):  # a value that no file of ours can hold
        return raw


def attempt(folder: Path, draw: bool) -> tuple[str, str]:
    """Return the outcome of watching, repeating and resuming a run, and a text about it."""
    refused = False
    for use in (_watch(folder, draw), lambda: read_again(folder), lambda: train(folder)):
        try:
            use()
        except (RobustctlError, OSError) as error:
            refused = refused or isinstance(error, RobustctlError)
            if not isinstance(error, RobustctlError | FileNotFoundError):
                return "other", traceback.format_exc(limit=-3)
        except Exception:
            return "other", traceback.format_exc(limit=-3)
    return ("refused" if refused else "ok"), ""


def _watch(folder: Path, draw: bool):
    def watch() -> None:
        rows, stopped = read_log(folder / LOG)
        status(rows, stopped, time.time())
        if draw and rows:
            next(Watch(folder, once=True)._updates())

    return watch


def fuzz(folder: Path, mutations: int, seed: int) -> dict:
    """Return counts of outcomes for each kind of file, with examples of any that is not allowed."""
    write_log(folder)
    train(folder / "valid")
    found: dict[str, Any] = {}
    for kind in (SETTINGS, LOG, CHECKPOINTS):
        outcomes = [_one(folder, kind, seed, index) for index in range(mutations // 3 + 1)]
        counts = Counter(outcome for outcome, _ in outcomes)
        others = [text for outcome, text in outcomes if outcome == "other"]
        found[kind] = {"mutations": len(outcomes), "counts": {"ok": 0, "refused": 0, "other": 0} | counts}
        found[kind]["others"] = others[:MOST_EXAMPLES]
    return found


def _one(folder: Path, kind: str, seed: int, index: int) -> tuple[str, str]:
    rng = np.random.default_rng([seed, sum(kind.encode()), index])
    run = folder / "run"
    shutil.copytree(folder / "valid", run)
    try:
        damage(run, kind, rng)
        return attempt(run, index % DRAWN == 0)
    finally:
        shutil.rmtree(run)


def main() -> int:
    """Run the command."""
    given = fuzzing.parser(__doc__, "fuzz_runs").parse_args()
    warnings.simplefilter("error")  # a stray numerical warning of this package counts as an error too
    warnings.simplefilter("ignore", RobustctlWarning)
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        found = fuzz(Path(folder), given.mutations, given.seed)
    print(json.dumps(found, indent=1), flush=True)
    wall_s = round(time.perf_counter() - begin, 1)
    memory = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return fuzzing.finish(given, {"wall_s": wall_s, "most_memory_mb": memory, "files": found}, found.values())


if __name__ == "__main__":
    raise SystemExit(main())
