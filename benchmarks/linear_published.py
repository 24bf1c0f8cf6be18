"""Fit 20 random systems with packages that others wrote; write their poles and errors for `tests/test_linear_published.py`.

    pip install nfoursid sippy-unipi      # outside of robustctl's environment, which this script does not need
    python benchmarks/linear_published.py tests/fixtures/linear_published.json

Each system has two inputs, two outputs and two to six states; its record holds white inputs and noise of a tenth of each output.
"""

import importlib.metadata
import json
import sys
import warnings
from pathlib import Path

import numpy as np

SYSTEMS, SAMPLES, NOISE, BLOCK_ROWS = 20, 1500, 0.1, 10


def turn(radius: float, angle: float) -> np.ndarray:
    """Return a damped rotation, poles `radius exp(+-i angle)`."""
    return radius * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def system(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Return (A, B, C, D) with poles of radius 0.6 to 0.98."""
    count = int(rng.integers(1, 4))
    A, size = np.zeros((2 * count, 2 * count)), np.zeros(2 * count)
    for k in range(count):
        radius, angle = rng.uniform(0.6, 0.98), rng.uniform(0.1, 2.5)
        A[2 * k : 2 * k + 2, 2 * k : 2 * k + 2] = turn(radius, angle)
        # White inputs give states of about variance one.
        size[2 * k : 2 * k + 2] = np.sqrt(1 - radius**2)
    nx = 2 * count
    return A, size[:, None] * rng.normal(size=(nx, 2)), rng.normal(size=(2, nx)), rng.normal(size=(2, 2))


def response(model: tuple[np.ndarray, ...], u: np.ndarray) -> np.ndarray:
    """Return the outputs (T, ny) from rest."""
    A, B, C, D = model
    x, y = np.zeros(len(A)), np.empty((len(u), len(C)))
    for t, now in enumerate(u):
        y[t] = C @ x + D @ now
        x = A @ x + B @ now
    return y


def case(seed: int) -> tuple[tuple[np.ndarray, ...], np.ndarray, np.ndarray, np.ndarray]:
    """Return a system, the inputs and outputs of its record, and other inputs to simulate."""
    rng = np.random.default_rng(seed)
    true = system(rng)
    u, fresh = rng.normal(size=(SAMPLES, 2)), rng.normal(size=(SAMPLES, 2))
    y = response(true, u)
    return true, u, y + NOISE * y.std(axis=0) * rng.normal(size=y.shape), fresh


def errors(true: tuple[np.ndarray, ...], model: tuple[np.ndarray, ...], fresh: np.ndarray) -> dict:
    """Return the poles, the largest distance of a true pole to the nearest one, and the NRMSE of a simulation from rest."""
    poles, of = np.linalg.eigvals(model[0]), np.linalg.eigvals(true[0])
    clean, simulated = response(true, fresh), response(model, fresh)
    return {
        "poles": [[float(p.real), float(p.imag)] for p in np.sort_complex(poles)],
        "pole_error": float(np.max(np.min(np.abs(of[:, None] - poles), axis=1))),
        "nrmse": float(np.sqrt(np.mean((simulated - clean) ** 2 / clean.var(axis=0)))),
    }


def nfoursid(u: np.ndarray, y: np.ndarray, order: int) -> tuple[np.ndarray, ...]:
    """Return the matrices of package `nfoursid`."""
    import pandas as pd  # pyright: ignore
    from nfoursid.nfoursid import NFourSID  # pyright: ignore

    frame = pd.DataFrame(np.hstack([u, y]), columns=["u0", "u1", "y0", "y1"])
    found = NFourSID(frame, ["y0", "y1"], ["u0", "u1"], num_block_rows=BLOCK_ROWS)
    found.subspace_identification()
    model, _ = found.system_identification(rank=order)
    return model.a, model.b, model.c, model.d


def sippy(u: np.ndarray, y: np.ndarray, order: int) -> tuple[np.ndarray, ...]:
    """Return the matrices of package `sippy-unipi`, its N4SID."""
    from sippy_unipi import system_identification  # pyright: ignore

    found = system_identification(
        y.T, u.T, "N4SID", SS_fixed_order=order, SS_f=BLOCK_ROWS, SS_D_required=True
    )
    return found.A, found.B, found.C, found.D


PACKAGES = {"nfoursid": nfoursid, "sippy-unipi": sippy}


def main(path: Path) -> None:
    """Fit, and write by package what is installed."""
    results = {"samples": SAMPLES, "noise": NOISE, "numpy": np.__version__, "packages": {}}
    for name, fitted in PACKAGES.items():
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        rows = []
        for seed in range(SYSTEMS):
            true, u, y, fresh = case(seed)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                rows.append(
                    {"seed": seed, "order": len(true[0]), **errors(true, fitted(u, y, len(true[0])), fresh)}
                )
        results["packages"][name] = {"version": version, "systems": rows}
        print(name, version, [round(r["nrmse"], 4) for r in rows], [round(r["pole_error"], 4) for r in rows])
    path.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
