"""Estimate a rotary pendulum's speeds from logged angles alone, compare with extended Kalman filters and a GRU; write the scores.

    python -m benchmarks.observe_pendulum --out results/observe_pendulum.json

The log is that of a test bench: the motor's voltage and both angles at 100 Hz, the pendulum hanging, with 0.01 rad of noise and a
fifth of the samples lost. The observers learn speeds that are slopes of local polynomials through the same log, which
look ahead; the observers do not. All are scored with the true speeds, on excitations that are not in the training log, and
compared with filters whose plant model is exact or has 30 % too much inertia.
"""

import argparse
import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

import robustctl as rc
from robustctl.loops import Gain
from robustctl.observers import for_observer, for_prediction, simulate_log, with_derivative
from robustctl.plants import Imperfections, RotaryPendulum, Sampled, Task
from robustctl.runs.provenance import provenance
from robustctl.store.json_text import write_json

NOISE, MISSING, DT = 0.01, 0.2, 0.01
ANGLES = ("arm", "pendulum")
RATES = ("arm speed", "pendulum speed")
WASHOUT = 100
PROCESS_NOISES = (1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)


class Hanging(Task):
    """Start near the hanging equilibrium, both angles within 0.1 rad of it."""

    def initial_state(self, key):
        """Draw both angles."""
        return jnp.zeros(4).at[:2].set(jr.uniform(key, (2,), minval=-0.1, maxval=0.1)).at[1].add(jnp.pi)


def log(excitations, key) -> rc.data.Record:
    """Log a hanging pendulum whose arm is held near its middle by a weak proportional controller."""
    plant = RotaryPendulum()
    sampled = Sampled(plant, DT, Imperfections(saturate=True, noise=NOISE))
    middle = Gain(jnp.array([[-1.0, 0.0]]), jnp.zeros(2), jnp.zeros(1))
    return simulate_log(
        sampled, excitations, task=Hanging(plant), controller=middle, missing=MISSING, key=key
    )


def training_log(experiments: int) -> rc.data.Record:
    """Multisines and random walks of several sizes and bands."""
    return log(
        [
            rc.data.random_walk(1000, step=0.2 + 0.1 * (k % 5), low=-3.0, high=3.0, seed=k)
            if k % 2
            else rc.data.multisine(1000, rms=0.5 + 0.5 * (k % 6), highest=(0.05, 0.1, 0.2)[k % 3], seed=k)
            for k in range(experiments)
        ],
        jr.key(0),
    )


def test_log() -> rc.data.Record:
    """Steps, a binary signal and a chirp, none of them in the training log."""
    return log(
        [
            rc.data.steps(1500, low=-3.0, high=3.0, hold=60, seed=1),
            rc.data.prbs(1500, amplitude=2.0, hold=15, seed=2),
            rc.data.chirp(1500, rms=1.5, lowest=0.005, highest=0.1),
        ],
        jr.key(1),
    )


def with_speeds(record: rc.data.Record) -> rc.data.Record:
    """Replace the true speeds by slopes of the measured angles."""
    for angle, rate in zip(ANGLES, RATES, strict=True):
        record = with_derivative(record, angle, half_width=6, name=rate)
    return rc.data.select(record, outputs=(*ANGLES, *RATES))


def r2dn(record: rc.data.Record, epochs: int, seed: int) -> rc.train.Fit:
    """Predict the angles in innovation form, and estimate the speeds from the same state."""
    made, scaling = for_prediction(with_speeds(record), ANGLES)
    model = rc.nn.InnovationR2DN(
        nu=1, nx=12, nv=16, ny=2, nz=2, hidden=(24,), activation=jax.nn.tanh, key=jr.key(seed)
    )
    return fit(model, made, epochs, seed, 1e-2, scaling=scaling)


def gru(record: rc.data.Record, epochs: int, seed: int) -> rc.train.Fit:
    """Estimate the speeds from voltage, held angles and flags."""
    made = for_observer(with_speeds(record), ANGLES, RATES, flags=True)
    return fit(rc.nn.GRU(nu=5, nx=24, ny=2, key=jr.key(seed)), made, epochs, seed, 5e-3)


def fit(model, made, epochs: int, seed: int, rate: float, scaling=None) -> rc.train.Fit:
    data, batch = rc.data.windows(made, 250, 125), 32
    steps = epochs * (len(data.experiments) // batch)
    optimizer = optax.chain(optax.clip(10.0), optax.adam(optax.cosine_decay_schedule(rate, steps)))
    problem = rc.train.Identification(data, scaling=scaling, washout=50, batch_size=batch)
    return rc.train.train(
        problem, model, epochs=epochs, optimizer=optimizer, monitor=None, key=jr.key(100 + seed)
    )


def estimated(model, record: rc.data.Record) -> list[np.ndarray]:
    """Return a model's speeds (T, 2) on each experiment of a log."""
    log = with_speeds(record)
    innovation = isinstance(model.parameterization, rc.nn.InnovationR2DN)
    made = for_prediction(log, ANGLES)[0] if innovation else for_observer(log, ANGLES, RATES, flags=True)
    return [y[:, -2:] for y in rc.simulate(model, made).y_hat]


def filtered(record: rc.data.Record, inertia: float, process: float) -> list[np.ndarray]:
    """Return an extended Kalman filter's speeds, its model's masses multiplied by `inertia`."""
    plant = RotaryPendulum()
    masses = {name: inertia * float(getattr(plant, name)) for name in ("arm_mass", "pendulum_mass")}
    sampled = Sampled(RotaryPendulum(**masses), DT, Imperfections(saturate=True))
    ekf = rc.classical.extended_kalman(
        sampled, [1e-8, 1e-8, process, process], [NOISE**2] * 2, x0=[0, np.pi, 0, 0], P0=[1e-2, 1e-2, 1.0, 1.0]
    )  # fmt: skip

    @jax.jit
    def run(us, ys):
        def body(x, now):
            return ekf.advance(x, *now), ekf.output(x, now[1])

        return jax.lax.scan(body, ekf.init_state(), (us, ys))[1][:, 2:]

    return [
        np.asarray(run(jnp.asarray(e.u), jnp.asarray(np.where(e.y_mask, e.y, np.nan)[:, :2])), float)
        for e in record.experiments
    ]


def nrmse(record: rc.data.Record, estimates: list[np.ndarray]) -> list[float]:
    """Return each speed's error over its deviation, all experiments together, after the washout."""
    columns = [record.outputs.index(f"true {name}") for name in RATES]
    truth = np.concatenate([e.y[WASHOUT:, columns] for e in record.experiments])
    error = np.concatenate([x[WASHOUT:] for x in estimates]) - truth
    return (np.sqrt(np.mean(error**2, axis=0)) / np.std(truth, axis=0)).tolist()


def filters(test: rc.data.Record) -> dict:
    """Return both filters' scores for every assumed process noise."""
    return {
        name: {str(w): nrmse(test, filtered(test, inertia, w)) for w in PROCESS_NOISES}
        for name, inertia in (("exact model", 1.0), ("inertia 30 % too large", 1.3))
    }


def main() -> None:
    """Train, compare and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=600)
    parser.add_argument("--experiments", type=int, default=24)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    test, record, runs = test_log(), training_log(given.experiments), []
    found = filters(test)
    print(json.dumps(found, indent=1), flush=True)
    for name, train in (("InnovationR2DN", r2dn), ("GRU", gru)):
        for seed in range(given.seeds):
            begin = time.monotonic()
            fitted = train(record, given.epochs, seed)
            certificate = rc.certify(fitted.model, prove=False)
            runs.append(
                {
                    "model": name, "seed": seed, "nrmse": nrmse(test, estimated(fitted.model, test)),
                    "certificate": certificate.holds, "rate": certificate.rate_found,
                    "seconds": round(time.monotonic() - begin, 1),
                }
            )  # fmt: skip
            print(runs[-1], flush=True)
    results = {
        "task": "speeds of a hanging rotary pendulum from its angles", "noise_rad": NOISE, "missing": MISSING, "dt": DT,
        **provenance(0), "settings": {k: v for k, v in vars(given).items() if k != "out"},
        "channels": RATES, "extended_kalman_filters_by_process_noise": found, "observers": runs,
    }  # fmt: skip
    write_json(given.out, results)


if __name__ == "__main__":
    main()
