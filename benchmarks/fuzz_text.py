"""Mistakes of people and programs in text logs, at random: read each log in this process, and count the outcomes.

    python -m benchmarks.fuzz_text --mutations 2000 --seed 0 --out results/fuzz_text.json

Only two outcomes are allowed: a record of finite numbers, or a RobustctlError. The process exits with 1 after any other.
`benchmarks.fuzz_readers` damages the bytes of files of every format.
"""

from __future__ import annotations

import random
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import fuzzing
from robustctl.advice import advise
from robustctl.data import Format, read
from robustctl.errors import RobustctlError

SAMPLES = 60
CELLS = (
    "", " ", "-", "nan", "#N/A", "inf", "-1e999", "1e-320", "-9999", "49.987", "1.234,5", "1,234.5", "1 234", "0x1F", "1_0", "12:00:00",
    "2024-02-30", "2024-03-31T00:00:00Z", "31.03.2024 00:00", "99:99:99", '"', '""', "'", "\0", "\u0664", "\ufeff", "TRUE", "V", "[V]",
    "Average", "t", "u", "y", "u [V]", "9" * 400, "é", "\u2028", ",", ";", "\t", "# note", "%", "sep=;", "1.#QNAN",
)  # fmt: skip
ENCODINGS = ("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252", "utf-32", "cp037")
OPTIONS = {
    "time": ("t", "t", "u", "absent"),
    "dt": (None, 1e-9, 1e9, 1.0),
    "decimal": (".", ","),
    "encoding": ("utf-8", "latin-1", "utf-16", "rot13"),
    "missing": (("-9999",), ("Average", "V"), ("1",)),
    "hold": ("u", "u", "y"),
    "split_gaps": (0.5, 1e-9, 1e9),
    "time_unit": ("ms", "days"),
}
DEFAULTS = {"dt": 0.1, "missing": (), "hold": ()}


def valid(rng: random.Random) -> list[list[str]]:
    """Rows of a log with stamps in one of six spellings."""
    stamp = rng.choice(
        [
            lambda k: f"{0.1 * k:.1f}",
            lambda k: f"{100 * k}",
            lambda k: f"2024-03-31T00:00:{k % 60:02d}",
            lambda k: f"{k // 60:02d}:{k % 60:02d}:00",
            lambda k: f"{45382 + k / 864000:.10f}",
            lambda k: f"{1711846785000 + 100 * k}",
        ]
    )
    rows = [[stamp(k), f"{rng.random():.4g}", f"{rng.gauss(0, 1):.5g}"] for k in range(SAMPLES)]
    return [["t", "u", "y"], *([["s", "V", "bar"]] if rng.random() < 0.2 else []), *rows]


def mutated(rows: list[list[str]], rng: random.Random) -> list[list[str]]:
    """The rows with one to four mistakes."""
    rows = [list(row) for row in rows]
    for _ in range(rng.choice([1, 1, 2, 4])):
        kind, at = rng.randrange(9), rng.randrange(len(rows))
        row = rows[at]
        if kind <= 1 and row:
            row[rng.randrange(len(row))] = rng.choice(CELLS)
        elif kind == 2:
            row.insert(rng.randrange(len(row) + 1), rng.choice(CELLS))
        elif kind == 3 and row:
            del row[rng.randrange(len(row))]
        elif kind == 4:
            rows.insert(at, [rng.choice(CELLS) for _ in range(rng.randrange(6))])
        elif kind == 5:
            other = rng.randrange(len(rows))
            rows[at], rows[other] = rows[other], rows[at]
        elif kind == 6:
            del rows[at : at + rng.randrange(1, SAMPLES)]
            rows = rows or [[""]]
        elif kind == 7:
            column = rng.randrange(3)
            word = rng.choice(CELLS)
            rows[1:] = [[word if k == column else cell for k, cell in enumerate(row)] for row in rows[1:]]
        else:
            rows[1:] = [[cell.replace(".", ",") for cell in row] for row in rows[1:]]
    return rows


def content(rng: random.Random) -> bytes:
    """Bytes of a mutated log."""
    separator, newline = rng.choice([",", ",", ";", "\t", " ", "|"]), rng.choice(["\n", "\r\n", "\r"])
    text = newline.join(separator.join(row) for row in mutated(valid(rng), rng))
    text = (
        rng.choice(["", "", "", "% t u y\n", "sep=;\n", "Bench 7\nDate,2024\n\n", "LabVIEW Measurement\n"])
        + text
    )
    text += rng.choice(["", newline, "\0" * 9, "\n\nEnd", ",,\n,,\n"])
    return text.encode(rng.choice(ENCODINGS), "replace")


def attempt(path: Path, rng: random.Random) -> tuple[str, str]:
    """Outcome of reading a log with random options, and a text about it."""
    given: dict[str, Any] = {
        name: rng.choice(choices) if rng.random() < 0.08 else DEFAULTS.get(name)
        for name, choices in OPTIONS.items()
    }
    try:
        form = Format(
            decimal=given.pop("decimal"), encoding=given.pop("encoding"), missing=given.pop("missing")
        )
        record = read(path, inputs="u", outputs="y", format=form, **given)
        found = str(record)
        if record.samples <= 4 * SAMPLES:
            advise(record)
    except RobustctlError as error:
        return "RobustctlError", str(error)
    except Exception:
        return "other", traceback.format_exc(limit=-4)
    finite = all(np.isfinite(e.u).all() and np.isfinite(e.y).all() for e in record.experiments)
    return ("ok", found) if finite else ("other", "a record with values that are not finite")


def fuzz(folder: Path, mutations: int, seed: int) -> dict:
    """Counts of outcomes, with examples of any that are not allowed."""
    outcomes, path, start = [], folder / "log.csv", time.perf_counter()
    for index in range(mutations):
        rng = random.Random(f"{seed} {index}")
        path.write_bytes(content(rng))
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)  # a stray one of NumPy is an error, too
            warnings.simplefilter("ignore", UserWarning)
            outcomes.append(attempt(path, rng))
    return {
        "mutations": mutations,
        "counts": {"ok": 0, "RobustctlError": 0, "other": 0} | Counter(outcome for outcome, _ in outcomes),
        "seconds": round(time.perf_counter() - start, 1),
        "others": [
            {"index": k, "what": text} for k, (outcome, text) in enumerate(outcomes) if outcome == "other"
        ][:5],
    }


def main() -> int:
    options = fuzzing.parser(__doc__, "fuzz_text").parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = fuzz(Path(folder), options.mutations, options.seed)
    print(result)
    return fuzzing.finish(options, result, [result])


if __name__ == "__main__":
    raise SystemExit(main())
