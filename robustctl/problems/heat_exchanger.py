"""A simulated log that no linear model fits: cold water cools a wall, and a valve sets its flow."""

import numpy as np

from ..data import Record, from_arrays

DT = 2.0  # seconds
_SUBSTEPS = 4  # Euler steps of 0.5 s; the fastest time constant is 4 s
_HELD, _SMOOTHED = 25, 5  # samples of a valve position, and of its change to the next


def heat_exchanger(samples: int, *, seed: int, noise: float = 0.1) -> Record:
    """Return a record of a valve's opening (%) and the temperature of the water that leaves (°C), one sample every 2 s.

    ::

        dT/dt  = q(u) (15 - T) + 0.05 (Tw - T),      q(u) = 0.2 * 50^(u / 100 - 1)
        dTw/dt = 0.05 (60 - Tw) + 0.05 (T - Tw),     y = T + noise

    with T of the water, Tw of the wall, and the flow q of an equal-percentage valve, in fills per second. At a small opening the outlet
    reacts strongly and in a minute, at a large one weakly and in seconds: gain and time constant change with the operating point, and a
    linear model has one of each. The input is a random step every 25 samples, smoothed.

    **Arguments:**

    - `samples`: length.
    - `seed`: of the input and the noise.
    - `noise`: standard deviation, °C.

    **Example:** ::

        record = rc.problems.heat_exchanger(300, seed=0)
    """
    rng = np.random.default_rng(seed)
    steps = np.repeat(rng.uniform(0.0, 100.0, samples // _HELD + 2), _HELD)
    u = np.convolve(steps, np.ones(_SMOOTHED) / _SMOOTHED, mode="valid")[:samples]
    flow = 0.2 * 50.0 ** (u / 100 - 1)
    temperatures, y = np.array([30.0, 40.0]), np.empty(samples)
    for k, q in enumerate(flow):
        y[k] = temperatures[0]
        for _ in range(_SUBSTEPS):
            temperatures = temperatures + DT / _SUBSTEPS * _rates(temperatures, q)
    y += noise * rng.normal(size=samples)
    return from_arrays(
        u,
        y,
        DT,
        inputs=["valve"],
        outputs=["outlet"],
        input_units=["%"],
        output_units=["degC"],
        name=f"simulated heat exchanger, seed {seed}",
    )


def _rates(temperatures: np.ndarray, q: float) -> np.ndarray:
    water, wall = temperatures
    return np.array([q * (15 - water) + 0.05 * (wall - water), 0.05 * (60 - wall) + 0.05 * (water - wall)])
