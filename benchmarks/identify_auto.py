"""Identify measured records by `robustctl fit LOG --test TEST` and nothing else, and write the scores.

    python -m benchmarks.identify_auto FOLDER --seeds 0 1 2 --out results/identify_auto.json

`FOLDER` holds `daisy/robotarm_train.csv` and the others of the DaISy collection, `cascaded_tanks/dataBenchmark.csv` and
`silverbox/SNLS80mV.csv`. The test parts are scored at the end and used for nothing else. What the results file has already is left as it
is, so that the same command continues where it stopped.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from robustctl.problems import silverbox
from robustctl.runs.provenance import commit, provenance
from robustctl.store.json_text import write_json

DAISY = {
    "robot arm": ("robotarm", 1, 1),
    "glass furnace": ("glass", 3, 6),
    "heat exchanger": ("exchanger", 1, 1),
}
TANKS = "--inputs uEst --outputs yEst --dt 4 --test-inputs uVal --test-outputs yVal"
RECORDS = (*DAISY, "cascaded tanks", "silverbox")
"""In the order in which they are identified."""


def command(record: str, folder: Path, work: Path) -> list[str]:
    """Return log, test and channels of a record as arguments."""
    if record in DAISY:
        name, nu, ny = DAISY[record]
        log, test = (str(folder / "daisy" / f"{name}_{part}.csv") for part in ("train", "test"))
        channels = ["--inputs", *(f"u{k}" for k in range(nu)), "--outputs", *(f"y{k}" for k in range(ny))]
        return [log, "--test", test, *channels, "--dt", "1"]
    if record == "cascaded tanks":
        return [str(folder / "cascaded_tanks" / "dataBenchmark.csv"), *TANKS.split()]
    files = []
    for name, part in zip(("train", "test"), silverbox(folder), strict=True):
        e, file = part.experiments[0], work / f"{name}.csv"
        np.savetxt(file, np.hstack([e.u, e.y]), "%.9g", ",", header="V1,V2", comments="")
        files.append(str(file))
    return [files[0], "--test", files[1], "--inputs", "V1", "--outputs", "V2", "--dt", repr(part.dt)]


def run(record: str, seed: int, folder: Path, minutes: float) -> dict:
    """Identify a record by the command, and return what its folder holds."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        words = [
            "fit",
            *command(record, folder.absolute(), work),
            "--seed",
            str(seed),
            "--minutes",
            str(minutes),
        ]
        begin = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "robustctl", *words, "--out", "model.safetensors", "--run", "run"],
            cwd=work, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode not in (0, 1):
            raise SystemExit(f"{record}, seed {seed}: {done.stderr[-2000:]}")
        scores = json.loads((work / "run" / "scores.json").read_text())
        report = json.loads((work / "run" / "report.json").read_text())
    pooled = {
        name: {part: found and found["pooled_nrmse"] for part, found in scores[name].items()}
        for name in ("model", "linear")
    }
    return {
        "record": record, "seed": seed, "minutes": minutes, "seconds": round(time.monotonic() - begin, 1), **pooled,
        "chosen": scores["chosen"], "search": scores["search"], "note": scores["note"],
        "holds": report["certificate"]["holds"], "gamma": report["certificate"]["gamma"],
        "commit": commit(Path(__file__).parent), "words": re.sub(r"/\S*/", "", " ".join(words)),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--records", nargs="+", choices=RECORDS, default=list(RECORDS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    found = json.loads(given.out.read_text())["runs"] if given.out.exists() else []
    for seed in given.seeds:
        for record in given.records:
            if any((r["record"], r["seed"]) == (record, seed) for r in found):
                continue
            found.append(run(record, seed, given.folder, given.minutes))
            write_json(given.out, {**provenance(given.seeds[0]), "runs": found})
            print(
                json.dumps(
                    {k: found[-1][k] for k in ("record", "seed", "model", "linear", "seconds", "note")}
                ),
                flush=True,
            )


if __name__ == "__main__":
    main()
