"""Measure how often the 95 % bands of linear models hold the truth, for `rc.identify.uncertainty`; write the shares.

    OPENBLAS_NUM_THREADS=1 python -m benchmarks.linear_coverage --draws 200 --out results/linear_coverage.json

Each draw is a record of one known plant with new inputs and new noise. The process exits with 1 where a share leaves 90 to 98 %.
"""

import argparse
import sys
import time
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import numpy as np
import scipy.linalg
import scipy.signal

import robustctl as rc
from robustctl.runs.provenance import provenance
from robustctl.store.json_text import write_json

from .linear_published import response, turn

SAMPLES, NOISE, NORMAL, LEAST, MOST = 1500, 0.1, 1.96, 0.90, 0.98
OMEGA = np.linspace(0.05, 3, 12)
STEPS = 30
COLORS = (0.0, 0.9)
"""Poles of the filter that colors the noise."""


def plants() -> dict[str, tuple[np.ndarray, ...]]:
    """Return a plant of two inputs and outputs, and one of each with a direct path, with zeros at -0.4 and 0.2."""
    rng = np.random.default_rng(7)
    many = (
        np.asarray(scipy.linalg.block_diag(turn(0.9, 0.3), turn(0.85, 1.0))),
        rng.normal(size=(4, 2)), rng.normal(size=(2, 4)), rng.normal(size=(2, 2)),
    )  # fmt: skip
    one = scipy.signal.tf2ss(np.poly([-0.4, 0.2]), np.poly([0.9, 0.5]))
    return {"two inputs, two outputs": many, "one input, one output": one}


def truth(system: tuple[np.ndarray, ...]) -> dict[str, np.ndarray]:
    """Return what the bands shall hold."""
    A, B, C, D = system
    nu = B.shape[1]
    steps = [response(system, np.tile(np.eye(nu)[j], (STEPS, 1))) for j in range(nu)]
    G = np.array([C @ np.linalg.solve(np.exp(1j * w) * np.eye(len(A)) - A, B) + D for w in OMEGA])
    pencil = np.block([[A, B[:, :1]], [C[:1], D[:1, :1]]]), np.diag(np.append(np.ones(len(A)), 0.0))
    zeros = scipy.linalg.eigvals(*pencil)
    return {
        "step": np.stack(steps, axis=2), "frequency": G, "poles": np.linalg.eigvals(A), "zeros": zeros[np.abs(zeros) < 1e6],
    }  # fmt: skip


def held(found: rc.identify.Spread, true: np.ndarray) -> float:
    """Return the share of numbers within 1.96 deviations of their estimates, parts of complex ones singly."""
    error = found.value - true
    if not np.iscomplexobj(error):
        return float(np.mean(np.abs(error) <= NORMAL * found.std))
    parts = np.stack([error.real, error.imag], axis=-1)
    counted = found.std > 1e-12
    return float(np.mean((np.abs(parts) <= NORMAL * found.std)[counted]))


def draw(system: tuple[np.ndarray, ...], color: float, seed: int) -> dict[str, float]:
    """Fit one record and return the shares."""
    rng = np.random.default_rng(seed)
    true, nu, ny = truth(system), system[1].shape[1], len(system[2])
    u = rng.normal(size=(SAMPLES, nu))
    y = response(system, u)
    noise = scipy.signal.lfilter([1], [1, -color], rng.normal(size=(SAMPLES + 200, ny)), axis=0)[200:]
    noise *= NOISE * y.std(axis=0) / noise.std(axis=0)
    record = rc.data.from_arrays(u, y + noise, 1.0)
    known = rc.identify.uncertainty(rc.identify.subspace(record, order=len(system[0]), delay=0), record)
    found = {
        "step": known.step_response(STEPS), "frequency": known.frequency_response(OMEGA), "poles": known.poles(), "zeros": known.zeros(),
    }  # fmt: skip
    for name in ("poles", "zeros"):
        nearest = [int(np.argmin(np.abs(found[name].value - p))) for p in true[name]]
        found[name] = rc.identify.Spread(found[name].value[nearest], found[name].covariance[nearest])
    return {name: held(found[name], true[name]) for name in found}


def main() -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    rows = []
    for name, system in plants().items():
        for color in COLORS:
            begin = time.process_time()
            shares = [draw(system, color, seed) for seed in range(given.draws)]
            mean = {quantity: float(np.mean([s[quantity] for s in shares])) for quantity in shares[0]}
            rows.append(
                {"plant": name, "noise_pole": color, **mean, "cpu_seconds": time.process_time() - begin}
            )
            print(rows[-1], flush=True)
    results = {**provenance(0), "draws": given.draws, "samples": SAMPLES, "noise": NOISE, "rows": rows}
    write_json(given.out, results)
    shares = [row[quantity] for row in rows for quantity in ("step", "frequency", "poles", "zeros")]
    return 0 if all(LEAST <= share <= MOST for share in shares) else 1


if __name__ == "__main__":
    sys.exit(main())
