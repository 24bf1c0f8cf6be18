"""Measure the drift of steps in fixed point against its proven bound, of twenty models and of the systems of the tests; write it.

    OPENBLAS_NUM_THREADS=1 python -m benchmarks.fixed_drift --out results/fixed_drift.json

A model is drawn, its ranges are proven, and it runs 2,000 samples of noise over all that its inputs can be; a system runs 200 samples
of the log from which its ranges are taken. The process exits with 1 where a drift exceeds its bound, and where fewer than twenty
systems of one number of bits have a bound.
"""

import argparse
import sys
from pathlib import Path

import jax

sys.path.insert(0, str(Path(__file__).parent.parent))
jax.config.update("jax_enable_x64", True)

import robustctl as rc
from robustctl.runs.provenance import provenance
from robustctl.store.json_text import write_json
from tests.fixed_drift import FAST, SLOW, of_rate, share_in_proven_ranges, share_of

OF_MODELS, OF_SYSTEMS, LEAST = (8, 12, 15, 20, 24), (8, 10, 12, 16, 20, 24), 20


def models(count: int) -> list[dict]:
    """Return the shares of each model, and the bits that it needs."""
    rows = []
    for seed in range(count):
        shares = {str(bits): share_in_proven_ranges(seed, bits) for bits in OF_MODELS}
        rows.append({"seed": seed, "shares": shares, "bits_needed": rc.export.bits_needed(of_rate(seed))})
        print(rows[-1], flush=True)
    return rows


def systems() -> list[dict]:
    """Return the shares of each system, None where the drift has no bound."""
    rows = []
    for name in [*FAST, *SLOW]:
        rows.append(
            {"system": name, "shares": {str(bits): share_of(name, f"q{bits}") for bits in OF_SYSTEMS}}
        )
        print(rows[-1], flush=True)
    return rows


def holds(results: dict) -> bool:
    """Return whether every drift is within its bound and enough systems have one."""
    counts = dict.fromkeys(map(str, OF_SYSTEMS), 0)
    for row in (*results["models"], *results["systems"]):
        for bits, share in row["shares"].items():
            if share is None:
                continue
            if share > 1:
                return False
            if "system" in row:
                counts[bits] += 1
    return min(counts.values()) >= LEAST and all(row["bits_needed"] is not None for row in results["models"])


def main() -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", type=int, default=20)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    results = {**provenance(0), "models": models(given.models), "systems": systems()}
    write_json(given.out, results)
    return 0 if holds(results) else 1


if __name__ == "__main__":
    sys.exit(main())
