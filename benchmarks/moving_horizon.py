"""Estimate the speeds of the pendulum of `observe_pendulum` by filters and moving horizons on its equations; write the scores.

    python -m benchmarks.moving_horizon --out results/moving_horizon.json

The same test log as there: 0.01 rad of noise, a fifth of the samples lost. Extended and unscented Kalman filters and moving-horizon
estimators (horizons of 5 and 20 samples) have the same covariances, a model that is exact or has 30 % too much inertia, and two priors: the
right one, and one with the pendulum upright in place of hanging. Scores are taken after the first second and within it.
"""

import argparse
import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import robustctl as rc
from robustctl.plants import Imperfections, RotaryPendulum, Sampled
from robustctl.runs.provenance import provenance
from robustctl.store.json_text import write_json

from .observe_pendulum import DT, NOISE, RATES, WASHOUT, test_log

PROCESS_NOISES = (1e-4, 3e-3, 3e-2)
MODELS = {"exact": 1.0, "inertia 30 % too large": 1.3}
PRIORS = {
    "hanging": ([0, np.pi, 0, 0], [1e-2, 1e-2, 1.0, 1.0]),
    "upright": ([0, 0, 0, 0], [1e-2, 10.0, 1.0, 1.0]),
}


def moving(horizon: int):
    """Return the design of a moving-horizon estimator."""
    return lambda *given, **kw: rc.classical.moving_horizon(*given, **kw, horizon=horizon)


DESIGNS = {
    "extended Kalman": rc.classical.extended_kalman,
    "unscented Kalman": rc.classical.unscented_kalman,
    "moving horizon, N = 5": moving(5),
    "moving horizon, N = 20": moving(20),
}


def estimator(design: str, model: str, prior: str, process: float) -> rc.System:
    """Return an estimator of the hanging pendulum."""
    plant = RotaryPendulum()
    masses = {name: MODELS[model] * float(getattr(plant, name)) for name in ("arm_mass", "pendulum_mass")}
    sampled = Sampled(RotaryPendulum(**masses), DT, Imperfections(saturate=True))
    x0, P0 = PRIORS[prior]
    return DESIGNS[design](sampled, [1e-8, 1e-8, process, process], [NOISE**2] * 2, x0=x0, P0=P0)


@eqx.filter_jit
def run(system: rc.System, us, ys):
    """Return the estimates (B, T, nx) of logs."""
    return jax.vmap(lambda u, y: rc.rollout(system, (u, y)).ys)(us, ys)


def scores(error: np.ndarray, size: np.ndarray) -> dict:
    """Return the errors of both speeds over their deviations, after the first second and within it."""
    parts = {"nrmse": error[:, WASHOUT:], "first_second": error[:, :WASHOUT]}
    return {name: (np.sqrt(np.mean(e**2, axis=(0, 1))) / size).tolist() for name, e in parts.items()}


def main() -> None:
    """Estimate and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    record = test_log()
    us, measured, ys = (
        np.stack([getattr(e, name) for e in record.experiments]) for name in ("u", "y_mask", "y")
    )
    seen = np.where(measured, ys, np.nan)[:, :, :2]
    truth = ys[:, :, [record.outputs.index(f"true {name}") for name in RATES]]
    size = np.std(truth[:, WASHOUT:], axis=(0, 1))
    rows = []
    for design in DESIGNS:
        jax.block_until_ready(
            run(estimator(design, "exact", "hanging", 1.0), jnp.asarray(us), jnp.asarray(seen))
        )  # compiles
        for model in MODELS:
            for prior in PRIORS:
                for process in PROCESS_NOISES:
                    system = estimator(design, model, prior, process)
                    begin = time.process_time()
                    found = np.asarray(run(system, jnp.asarray(us), jnp.asarray(seen)), float)
                    seconds = time.process_time() - begin
                    rows.append(
                        {
                            "estimator": design, "model": model, "prior": prior, "process_noise": process,
                            **scores(found[:, :, 2:] - truth, size), "cpu_ms_a_sample": 1e3 * seconds / seen[..., 0].size,
                        }
                    )  # fmt: skip
                    print(rows[-1], flush=True)
        jax.clear_caches()
    results = {
        "task": "speeds of a hanging rotary pendulum from its angles", "noise_rad": NOISE, "missing": 1 - float(measured[:, :, :2].mean()),
        "dt": DT, **provenance(0), "channels": RATES, "rows": rows,
    }  # fmt: skip
    write_json(given.out, results)


if __name__ == "__main__":
    main()
