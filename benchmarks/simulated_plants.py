"""Identify thirty simulated nonlinear plants without settings, and write how each model compares with the linear one on a test record.

    python -m benchmarks.simulated_plants --out results/simulated_plants.json

Five kinds, six plants of each: a static nonlinearity before a linear system (Hammerstein) or behind it (Wiener), a linear system whose
states saturate, a pendulum with viscous damping, and two inputs and outputs with a nonlinearity on each side. Training and test record
have other inputs and noise of two per cent. What the results file has already is left as it is, so that the same command continues where
it stopped.
"""

import argparse
import json
from pathlib import Path

import jax.random as jr
import numpy as np

import robustctl as rc
from robustctl.runs.provenance import provenance
from robustctl.store.json_text import write_json

SAMPLES, NOISE, EACH = 1500, 0.02, 6
KINDS = ("hammerstein", "wiener", "saturating", "pendulum", "two by two")
STATIC = (
    lambda v: np.tanh(1.5 * v),
    lambda v: np.sign(v) * np.maximum(np.abs(v) - 0.5, 0),
    lambda v: np.where(v > 0, v, 0.3 * v),
    lambda v: v + 0.4 * v**3 / (1 + v**2),
)
"""Saturation, dead zone, two slopes, a spring that hardens."""


def steps(rng: np.random.Generator, nu: int) -> np.ndarray:
    """Return inputs (T, nu) of steps of random height and length."""
    u = np.zeros((SAMPLES, nu))
    for k in range(nu):
        lengths = rng.integers(3, 30, SAMPLES)
        u[:, k] = np.repeat(rng.uniform(-2, 2, SAMPLES), lengths)[:SAMPLES]
    return u


def linear(rng: np.random.Generator, nu: int, ny: int) -> tuple[np.ndarray, ...]:
    """Return A, B, C of two to four states and pole radii of 0.7 to 0.95, whose outputs are of about the size of its inputs."""
    poles = [rng.uniform(0.7, 0.95) * np.exp(1j * rng.uniform(0.05, 0.6)) for _ in range(rng.integers(1, 3))]
    nx = 2 * len(poles)
    A = np.zeros((nx, nx))
    for k, pole in enumerate(poles):
        A[2 * k : 2 * k + 2, 2 * k : 2 * k + 2] = [[pole.real, pole.imag], [-pole.imag, pole.real]]
    T = rng.normal(size=(nx, nx)) / 2 + np.eye(nx)
    A, B, C = T @ A @ np.linalg.inv(T), rng.normal(size=(nx, nu)), rng.normal(size=(ny, nx))
    y = run(A, B, C, steps(np.random.default_rng(0), nu))
    return A, B, C / y.std(axis=0)[:, None]


def run(A, B, C, u: np.ndarray, wrapped=lambda x: x) -> np.ndarray:
    """Return the outputs (T, ny) from rest; `wrapped`: of the states at each step."""
    x, ys = np.zeros(len(A)), []
    for now in u:
        ys.append(C @ x)
        x = wrapped(A @ x + B @ now)
    return np.array(ys)


def pendulum(rng: np.random.Generator, u: np.ndarray) -> np.ndarray:
    """Return the angle of a damped pendulum under a torque, in substeps of a tenth of a sample."""
    gravity, damping, h = rng.uniform(0.3, 1.0), rng.uniform(0.2, 0.6), 0.03
    # Too weak to turn it over.
    torque = rng.uniform(0.2, 0.35) * gravity
    angle, speed, ys = 0.0, 0.0, []
    for now in u[:, 0]:
        ys.append([angle])
        for _ in range(10):
            speed += h * (torque * now - damping * speed - gravity * np.sin(angle))
            angle += h * speed
    return np.array(ys)


def outputs(kind: str, rng: np.random.Generator, u: np.ndarray) -> np.ndarray:
    """Return the noise-free outputs of a plant that the generator draws."""
    if kind == "pendulum":
        return pendulum(rng, u)
    nu = ny = u.shape[1]
    before, behind = (STATIC[k] for k in rng.integers(0, len(STATIC), 2))
    A, B, C = linear(rng, nu, ny)
    if kind == "saturating":
        size = run(A, B, np.eye(len(A)), steps(np.random.default_rng(0), nu)).std(axis=0)
        return run(A, B, C, u, lambda x: size * np.tanh(x / size))
    y = run(A, B, C, u if kind == "wiener" else before(u))
    return y if kind == "hammerstein" else behind(y)


def records(kind: str, number: int) -> tuple[rc.data.Record, rc.data.Record]:
    """Return training and test record of one plant."""
    made = []
    for part in (0, 1):
        plant, own = np.random.default_rng(number), np.random.default_rng((number, part))
        u = steps(own, 2 if kind == "two by two" else 1)
        y = outputs(kind, plant, u)
        made.append(rc.data.from_arrays(u, y + NOISE * y.std(axis=0) * own.normal(size=y.shape), 1.0))
    return made[0], made[1]


def identified(kind: str, number: int, minutes: float) -> dict:
    """Return the scores of one plant."""
    training, test = records(kind, number)
    fitted = rc.identify.auto(training, test=test, minutes=minutes, monitor=None, key=jr.key(number))
    network, line = (fitted.scores[name]["test"]["pooled_nrmse"] for name in ("model", "linear"))
    return {
        "kind": kind, "number": number, "network": network, "linear": line, "ratio": network / line,
        "is_linear": fitted.is_linear, "chosen": fitted.scores["chosen"], "seconds": round(fitted.seconds, 1),
        "note": fitted.scores["note"],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--plants", type=int, default=EACH * len(KINDS))
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    found = json.loads(given.out.read_text())["plants"] if given.out.exists() else []
    for number in range(len(found), given.plants):
        found.append(identified(KINDS[number % len(KINDS)], number, given.minutes))
        write_json(given.out, {**provenance(0), "minutes": given.minutes, "plants": found})
        print(
            json.dumps({k: found[-1][k] for k in ("kind", "network", "linear", "ratio", "seconds")}),
            flush=True,
        )


if __name__ == "__main__":
    main()
