"""A simulated log to start with: two tanks in cascade, with sensor noise."""

import numpy as np

from ..data import Record, from_arrays

DT = 2.0  # seconds
_SUBSTEPS = 10  # Euler steps of 0.2 s; the tanks' time constants are about a minute


def two_tanks(samples: int, *, seed: int, noise: float = 0.02) -> Record:
    """Return a record of a pump's voltage (V) and the lower tank's level sensor (V), one sample every 2 s.

    ::

        dh1/dt = -k1 sqrt(h1) + kp u
        dh2/dt =  k2 sqrt(h1) - k3 sqrt(h2),    y = min(h2, 10) + noise

    the equations of the cascaded-tanks benchmark (Schoukens, Noel, "Three benchmarks addressing open challenges
    in nonlinear system identification", IFAC 2017) without overflow between the tanks; the sensor
    saturates at 10 V. The input is a random step every 30 samples, smoothed.

    **Arguments:**

    - `samples`: length.
    - `seed`: of the input and the noise.
    - `noise`: standard deviation, V.

    **Example:** ::

        record = rc.problems.two_tanks(300, seed=0)
    """
    rng = np.random.default_rng(seed)
    steps = np.repeat(rng.uniform(1.0, 4.5, samples // 30 + 2), 30)
    u = np.convolve(steps, np.ones(8) / 8, mode="valid")[:samples]
    h = np.array([3.0, 3.0])
    y = np.empty(samples)
    for k in range(samples):
        y[k] = min(h[1], 10.0)
        for _ in range(_SUBSTEPS):
            h = np.maximum(h + DT / _SUBSTEPS * _rates(h, u[k]), 0.0)
    y += noise * rng.normal(size=samples)
    return from_arrays(
        u,
        y,
        DT,
        inputs=["pump"],
        outputs=["level"],
        input_units=["V"],
        output_units=["V"],
        name=f"simulated tanks, seed {seed}",
    )


def _rates(h: np.ndarray, u: float) -> np.ndarray:
    upper, lower = np.sqrt(h)
    return np.array([-0.055 * upper + 0.04 * u, 0.055 * upper - 0.05 * lower])
