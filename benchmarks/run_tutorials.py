"""Run tutorials in full, and store their output and figures for their pages of the site.

    OPENBLAS_NUM_THREADS=1 python -m benchmarks.run_tutorials identify_your_log youla_feedback ...
    OPENBLAS_NUM_THREADS=1 python -m benchmarks.run_tutorials identify_f16 --data FOLDER

Writes `tutorials/full/NAME.json` and the figures to the same folder. Each takes minutes on two CPU cores; the tests run them in
quick mode.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from robustctl.runs.provenance import provenance
from robustctl.store.json_text import write_json

TUTORIALS = Path(__file__).resolve().parent.parent / "tutorials"
FULL = TUTORIALS / "full"


def run(name: str, more: list[str]) -> dict:
    """Run one in a temporary folder and store its figures; return its output, the figures' names and its duration."""
    with tempfile.TemporaryDirectory() as folder:
        out, begin = Path(folder) / "out", time.monotonic()
        command = [sys.executable, str(TUTORIALS / f"{name}.py"), "--out", str(out), *more]
        environment = os.environ | {"MPLBACKEND": "Agg"}
        done = subprocess.run(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True
        )
        seconds = round(time.monotonic() - begin)
        figures, drawn = [], sorted(out.rglob("*.png"), key=lambda path: path.stat().st_mtime)
        several = Counter(path.stem for path in drawn)  # for example the reports on two plants
        for path in drawn:
            stem = path.stem if several[path.stem] == 1 else f"{path.parent.name}-{path.stem}"
            figures.append(f"{name}-{stem}.png")
            shutil.copy(path, FULL / figures[-1])
        return {
            "seconds": seconds,
            "figures": figures,
            "printed": done.stdout.replace(str(out), f"runs/{name}"),
        }


def main() -> None:
    """Run the requested tutorials in sequence."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = sorted(path.stem for path in TUTORIALS.glob("*.py"))
    parser.add_argument("names", nargs="+", choices=names, metavar="NAME", help=", ".join(names))
    given, more = parser.parse_known_args()
    FULL.mkdir(exist_ok=True)
    for name in given.names:
        results = {**provenance(0), **run(name, more)}
        del results["seed"]  # each tutorial has its own seeds
        write_json(FULL / f"{name}.json", results)
        print(f"{name}: {results['seconds']} s, {len(results['figures'])} figures")


if __name__ == "__main__":
    main()
