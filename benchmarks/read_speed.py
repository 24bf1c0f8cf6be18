"""Times and memory of reading large logs, with pandas' in one process, and the time of advice on a long record.

    python -m benchmarks.read_speed --rows 1000000 --repeats 5 --out results/read_speed.json

Times are CPU seconds, child processes included; the ratio is the median of the ratios of neighboring runs. The memory is the peak of
a separate process that reads one file. The process exits with 1 where a value differs from pandas' in one bit.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from robustctl.advice import advise
from robustctl.data import Record, from_arrays, read
from robustctl.runs.provenance import provenance
from robustctl.store.json_text import write_json

CHANNELS: dict[str, Any] = {"inputs": "u", "outputs": "y", "time": "t"}
DT = 0.01


def table(rows: int, seed: int) -> pd.DataFrame:
    """A log of stamps, an input and an output."""
    rng = np.random.default_rng(seed)
    stamps = (DT * np.arange(rows)).round(2)
    return pd.DataFrame({"t": stamps, "u": rng.normal(size=rows), "y": rng.normal(size=rows)})


def dated(log: pd.DataFrame) -> pd.DataFrame:
    """The log with dates for stamps."""
    dates = pd.DatetimeIndex(np.datetime64("2024-03-31", "ms") + 10 * np.arange(len(log)))
    return log.assign(t=dates.strftime("%Y-%m-%d %H:%M:%S.%f"))


def with_gaps(log: pd.DataFrame) -> pd.DataFrame:
    """The log with every seventh output missing."""
    return log.assign(y=log["y"].where(np.arange(len(log)) % 7 > 0))


def write_hdf5(log: pd.DataFrame, path: Path) -> None:
    """Write a dataset for each column."""
    import h5py

    with h5py.File(path, "w") as file:
        for name in log:
            file[str(name)] = log[name].to_numpy()


def read_hdf5(path: Path) -> pd.DataFrame:
    """Read the datasets, as h5py alone does: pandas reads only HDF5 files that it wrote."""
    import h5py

    with h5py.File(path) as file:
        return pd.DataFrame({name: np.asarray(file[name]) for name in "tuy"})


CASES: dict[str, tuple[str, Callable[[pd.DataFrame, Path], Any], Callable[[Path], pd.DataFrame]]] = {
    "csv, all digits": ("a.csv", lambda log, path: log.to_csv(path, index=False), pd.read_csv),
    "csv, six digits": ("b.csv", lambda log, path: log.round(6).to_csv(path, index=False), pd.read_csv),
    "csv, missing samples": (
        "c.csv",
        lambda log, path: with_gaps(log).to_csv(path, index=False),
        pd.read_csv,
    ),
    "csv, semicolons and decimal commas": (
        "d.csv",
        lambda log, path: log.to_csv(path, index=False, sep=";", decimal=","),
        lambda path: pd.read_csv(path, sep=";", decimal=","),
    ),
    "csv, dates": (
        "e.csv",
        lambda log, path: dated(log).to_csv(path, index=False),
        lambda path: pd.read_csv(path, parse_dates=["t"]),
    ),
    "parquet": ("f.parquet", lambda log, path: log.to_parquet(path), pd.read_parquet),
    "hdf5": ("g.h5", write_hdf5, read_hdf5),
}


def cpu() -> float:
    """CPU seconds of this process and of its children that have ended."""
    return time.process_time() + sum(os.times()[2:4])


def seconds(call: Callable[[], Any]) -> float:
    """CPU seconds of one call."""
    start = cpu()
    call()
    return cpu() - start


def measured(case: str, folder: Path, log: pd.DataFrame, repeats: int) -> dict[str, Any]:
    """Times and memory of one case, and whether every value is pandas'."""
    name, write, theirs = CASES[case]
    path = folder / name
    write(log, path)
    pairs = np.array(
        [(seconds(lambda: theirs(path)), seconds(lambda: read(path, **CHANNELS))) for _ in range(repeats)]
    )
    frame, record = theirs(path), read(path, **CHANNELS).experiments[0]
    same = [
        np.array_equal(np.where(mask, values, np.nan)[:, 0], frame[channel].to_numpy(), equal_nan=True)
        for channel, values, mask in (("u", record.u, record.u_mask), ("y", record.y, record.y_mask))
    ]
    text = path.suffix == ".csv"  # others are read by a child process
    theirs_mb, ours_mb = (peak_mb(who, case, path) if text else None for who in ("pandas", "robustctl"))
    return {
        "case": case,
        "pandas_s": float(np.median(pairs[:, 0])),
        "ours_s": float(np.median(pairs[:, 1])),
        "ratio": float(np.median(pairs[:, 1] / pairs[:, 0])),
        "pandas_mb": theirs_mb,
        "ours_mb": ours_mb,
        "memory_ratio": ours_mb / theirs_mb if ours_mb and theirs_mb else None,
        "same_bits": all(same),
    }


def peak_mb(who: str, case: str, path: Path) -> float:
    """Peak memory of a process that reads one file, MB."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.read_speed", "--peak", who, case, str(path)],
        capture_output=True, check=True, text=True,
    )  # fmt: skip
    return float(done.stdout)


def print_peak(who: str, case: str, path: Path) -> None:
    """Read a file and print the peak memory of this process; both libraries are imported in either case."""
    CASES[case][2](path) if who == "pandas" else read(path, **CHANNELS)
    # Not by getrusage, whose peak begins with the memory of the process that started this one.
    status = Path("/proc/self/status").read_text()
    print(int(status.split("VmHWM:")[1].split()[0]) / 1e3)


def long_record(rows: int, nu: int, ny: int, seed: int) -> Record:
    """A nonlinear plant's log with noise."""
    from scipy.signal import lfilter

    rng = np.random.default_rng(seed)
    u: Any = lfilter([0.2], [1, -0.8], rng.normal(size=(rows, nu)), axis=0)
    gains = rng.normal(size=(nu, ny))
    y = lfilter([0, 0, 0, 0.02], [1, -1.8, 0.82], np.tanh(u) @ gains, axis=0)
    return from_arrays(u, y + 0.01 * rng.normal(size=(rows, ny)), DT)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results/read_speed.json"))
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        print_peak(options.peak[0], options.peak[1], Path(options.peak[2]))
        return 0
    log, rows = table(options.rows, options.seed), []
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            rows.append(measured(case, Path(folder), log, options.repeats))
            print(rows[-1], flush=True)
    advice = []
    for nu, ny in ((1, 1), (2, 2)):
        record = long_record(options.rows // 10, nu, ny, options.seed)
        times = [seconds(lambda record=record: advise(record)) for _ in range(min(3, options.repeats))]
        advice.append(
            {"rows": record.samples, "inputs": nu, "outputs": ny, "seconds": float(np.median(times))}
        )
        print(advice[-1], flush=True)
    found = {"log_rows": options.rows, "repeats": options.repeats, "reading": rows, "advice": advice}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.out, provenance(options.seed) | found)
    return int(not all(row["same_bits"] for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
