"""Kill a training run at random moments, continue it, and compare its result with that of an uninterrupted run.

    python -m benchmarks.kill_training --kills 100 --seed 0 --out results/kill_training.json

After every kill the training is resumed with `resume=True`. When it ends, its model and history must be identical to those of an
uninterrupted run, and a new run starts until all kills are done. While a child trains, this process tries to train in the same
folder, which must be refused. The process exits with 1 if a resume failed, a model differed, a second process was not
refused, or a kill lost more epochs than there are between two checkpoints.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from collections import Counter
from multiprocessing.synchronize import Event
from pathlib import Path

import equinox as eqx
import jax
import jax.random as jr
import numpy as np

import robustctl as rc
from robustctl.errors import RobustctlError
from robustctl.runs.checkpoint import checkpoints
from robustctl.runs.provenance import provenance
from robustctl.runs.run_folder import LOG
from robustctl.runs.watchers import read_log
from robustctl.store.json_text import write_json

EPOCHS, INTERVAL = 3000, 50
LONGEST = {"start": 4.0, "first epoch": 1.0}  # seconds that a child lives, counted from either, alternately


class Notify:
    """A watcher that notifies another process of the first epoch."""

    def __init__(self, event: Event):
        self.event = event

    def epoch(self, number: int, metrics: dict[str, float]) -> None:
        """Set the event."""
        self.event.set()

    def close(self, stopped: str) -> None:
        """Close nothing."""


def train(folder: Path, first_epoch: Event) -> rc.train.Fit:
    """Train a small model on a simulated log, continuing the folder's run."""
    from robustctl.problems import two_tanks

    model = rc.nn.ContractingR2DN(nu=1, nx=2, nv=3, ny=1, hidden=(4,), key=jr.key(0))
    run = rc.runs.Run(folder, resume=True, checkpoint_epochs=INTERVAL, keep=2)
    problem = rc.train.Identification(rc.data.windows(two_tanks(200, seed=0), 50, 50), batch_size=2)
    monitor = rc.runs.Monitor([Notify(first_epoch)], progress=False)
    return rc.train.train(problem, model, epochs=EPOCHS, run=run, monitor=monitor, key=jr.key(1))


def child(folder: Path, moments: dict[str, Event], answer) -> None:
    """Train until killed, or send the result as bytes."""
    moments["start"].set()
    fitted = train(folder, moments["first epoch"])
    moments["first epoch"].set()  # of a run that was already complete
    answer.send(result(fitted))


def result(fitted: rc.train.Fit) -> bytes:
    """All bytes of a fit: weights and history without wall times."""
    arrays = jax.tree.leaves(eqx.filter(fitted.model, eqx.is_array)) + list(fitted.history.values())
    return b"".join(np.asarray(a).tobytes() for a in arrays)


def second(folder: Path, context) -> str:
    """Return what becomes of a training in a folder that another process trains in.

    "refused", "trained", or "over" where that process had already ended the run, so that there was nothing to train.
    """
    trained = context.Event()
    try:
        train(folder, trained)
    except RobustctlError as error:
        return "refused" if "in use by process" in str(error) else str(error)
    return "trained" if trained.is_set() else "over"


def live(
    folder: Path, context, since: str, seconds: float | None, tried: Counter
) -> tuple[str, bytes | None]:
    """Let a child train for `seconds` since a moment: `("killed" | "failed", None)` or `("ended", its result)`.

    `tried`: counts the trainings tried in the same folder, and those refused.
    """
    moments = {name: context.Event() for name in LONGEST}
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=child, args=(folder, moments, there), daemon=True)
    process.start()
    there.close()
    if not moments[since].wait(300):
        raise RuntimeError(f"the child did not reach its {since} in 300 s")
    try:
        if since == "first epoch" and seconds is not None:
            found = second(folder, context)
            tried.update(second_processes=found != "over", second_refused=found == "refused")
        if here.poll(seconds):
            return "ended", here.recv()
        process.kill()
        return "killed", None
    except EOFError:
        return "failed", None
    finally:
        process.join()


def lost(folder: Path) -> int:
    """Number of epochs in the log after the newest checkpoint."""
    rows, _ = read_log(folder / LOG)
    files = checkpoints(folder / "checkpoints")
    saved = int(files[0].stem.removeprefix("epoch_")) if files else 0
    return len(rows) - saved


def kills(folder: Path, times: int, rng: np.random.Generator) -> dict:
    """Kill `times` children; count lost epochs and compare results."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["robustctl.train", "robustctl.problems"])
    tried = Counter(second_processes=0, second_refused=0)
    _, alone = live(folder / "alone", context, "start", None, tried)
    found = dict(
        kills=0, in_a_write=0, before_the_first_checkpoint=0, failed=0, most_epochs_lost=0, runs=0, equal=0
    )
    run = folder / "run_0"
    while found["kills"] < times or run.exists():
        since = ("start", "first epoch")[found["kills"] % 2]
        life = float(rng.uniform(0, LONGEST[since])) if found["kills"] < times else None
        outcome, value = live(run, context, since, life, tried)
        found["failed"] += outcome == "failed"
        if outcome == "killed":
            found["kills"] += 1
            found["in_a_write"] += bool(list((run / "checkpoints").glob(".*.tmp")))
            found["before_the_first_checkpoint"] += not checkpoints(run / "checkpoints")
            found["most_epochs_lost"] = max(found["most_epochs_lost"], lost(run))
        else:
            found["runs"] += 1
            found["equal"] += value == alone
            run = folder / f"run_{found['runs']}"
    return found | dict(tried)


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results/kill_training.json"))
    given = parser.parse_args()
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        # Children inherit these: each starts in seconds only if it finds the first one's compiled code.
        os.environ["JAX_COMPILATION_CACHE_DIR"] = f"{folder}/cache"
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        found = kills(Path(folder), given.kills, np.random.default_rng(given.seed))
    found |= {"epochs": EPOCHS, "epochs_between_checkpoints": INTERVAL, "longest_life_s": LONGEST}
    print(json.dumps(found), flush=True)
    report = provenance(given.seed) | {"wall_s": round(time.perf_counter() - begin, 1)} | found
    given.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(given.out, report)
    equal = found["equal"] == found["runs"] and found["second_refused"] == found["second_processes"]
    return 0 if equal and not found["failed"] and found["most_epochs_lost"] <= INTERVAL else 1


if __name__ == "__main__":
    raise SystemExit(main())
