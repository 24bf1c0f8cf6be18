"""A simulated log of a plant: the channels that a test rig would record, and the true states."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, PRNGKeyArray, PyTree
from numpy.typing import ArrayLike

from ..data import Record, from_arrays
from ..errors import DataError
from ..loops import open_loop
from ..plants import Exogenous, PlantState, Sampled, Task, draw
from ..system import System


def simulate_log(
    sampled: Sampled,
    excitations: Sequence[ArrayLike],
    *,
    task: Task | None = None,
    controller: System | None = None,
    missing: float = 0.0,
    key: PRNGKeyArray,
) -> Record:
    """Simulate an experiment for each excitation and return the log, with the plant's noise, delay and other imperfections.

    ::

        u = excitation                 or, with a controller,     u = controller(y) + excitation

    The record's inputs are the applied controls; its outputs are the sensors' readings and then the true states, named
    "true gap" and so on, for training and evaluating an observer.

    **Arguments:**

    - `sampled`: the plant with its imperfections
    - `excitations`: arrays (T, nu) in the controls' units about the operating point, for example of `rc.data.multisine`
    - `task`: draws initial states and disturbances, default `Task(plant)`: at the operating point, undisturbed
    - `controller`: a stabilizing controller, for a plant that is not open-loop stable
    - `missing`: share of the sensors' samples that are lost, in [0, 1)
    - `key`: of the draws

    **Raises:** `DataError` for excitations of another width, a share outside [0, 1), and a simulation that diverges, with
    the time.

    **Example:** ::

        sampled = rc.plants.Sampled(rc.plants.TwoTanks(), 2.0)
        record = rc.observers.simulate_log(sampled, [rc.data.multisine(400, rms=0.1)], key=jax.random.key(0))
    """
    if not 0 <= missing < 1:
        raise DataError(f"missing must be a share in [0, 1), got {missing}")
    plant = sampled.plant
    nu = len(plant.controls)
    task = Task(plant) if task is None else task
    controller = open_loop(sampled) if controller is None else controller
    us, ys = [], []
    for k, excitation in enumerate(excitations):
        e = jnp.asarray(excitation, jnp.result_type(float))
        if e.ndim != 2 or e.shape[1] != nu:
            raise DataError(f"an excitation must have shape (T, {nu}), time first, got {e.shape}")
        # Experiment k has the same draws whatever the others are, and the same trajectory whatever is lost.
        run_key, lost_key = jr.split(jr.fold_in(key, k))
        u, y, x = (np.asarray(a, float) for a in _run(sampled, controller, task, e, run_key))
        _check_finite(x, sampled.dt, k)
        lost = np.asarray(jr.bernoulli(lost_key, missing, y.shape))
        us.append(u)
        ys.append(np.hstack([np.where(lost, np.nan, y), x]))
    names = [s.name for s in plant.outputs] + [f"true {s.name}" for s in plant.states]
    units = [s.unit for s in (*plant.outputs, *plant.states)]
    return from_arrays(
        us, ys, sampled.dt, inputs=[s.name for s in plant.controls], outputs=names,
        input_units=[s.unit for s in plant.controls], output_units=units, name=type(plant).__name__,
    )  # fmt: skip


@eqx.filter_jit
def _run(
    sampled: Sampled, controller: System, task: Task, excitation: Array, key: PRNGKeyArray
) -> tuple[Array, Array, Array]:
    """Return applied controls, readings and true states, time first."""
    x_key, w_key = jr.split(key)
    start: tuple[PlantState, PyTree] = sampled.state_at(task.initial_state(x_key)), controller.init_state()
    ws = draw(task, sampled, w_key, excitation.shape[0])

    def body(carry, now: tuple[Exogenous, Array]):
        x, c = carry
        w, e = now
        y = sampled.output(x, w)
        c, u = controller.step(c, y)
        after = sampled.advance(x, u + e, w)
        # the control as the actuators applied it, after delay and saturation, which is what a rig would log
        return (after, c), (after.applied, y[: len(sampled.plant.outputs)], x.x)

    _, (us, ys, xs) = jax.lax.scan(body, start, (ws, excitation))
    return us, ys, xs


def _check_finite(x: np.ndarray, dt: float, k: int) -> None:
    bad = np.flatnonzero(~np.isfinite(x).all(axis=1))
    if bad.size:
        raise DataError(
            f"experiment {k} must stay finite, but its state did not after {dt * bad[0]:g} s; give a smaller excitation or "
            "a controller that stabilizes the plant"
        )
