"""A loop linearized at its equilibrium, with its sensitivities."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import control as ct
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from ..affine import to_float64
from ..classical.flat import in_float64, sampled_plant
from ..classical.linearize import equilibrium, linearize
from ..classical.types import Realization, typed
from ..loops import Feedback, noiseless
from ..plants import Plant

_SETTLE = 2000
"""Samples simulated before the search: the equilibrium of a learned controller may be far from its initial state."""

Performance = Callable[[Array, Array], Array]
"""`performance(x, u) -> z`, of the plant's physical state and the control."""


class MeasuredOutput(eqx.Module):
    """The performance output that is the measured one; a module, so that a second report finds the compiled functions."""

    plant: Plant

    def __call__(self, x: Array, u: Array) -> Array:
        """Return the plant's output."""
        return self.plant.output(x)


class LinearLoop(NamedTuple):
    """The linearization of a loop `u = K y + v`, `y = P [u; d] + n` at its equilibrium, all `control.StateSpace`.

    ::

        S_in = (I - K P)^-1 from v to u,    S_out = (I - P K)^-1 from n to y,    T = I - S

    **Arguments:**

    - `P`: from control to output
    - `K`: from output to control
    - `S_in`: sensitivity at the plant's input
    - `S_out`: sensitivity at the plant's output
    - `disturbance`: from d to the performance output z
    - `x`: the state of plant and policy at the equilibrium
    - `y`: output (ny,) at the equilibrium
    - `u`: control (nu,) at the equilibrium
    - `poles`: of the loop
    - `stable`: whether all poles are inside the unit circle
    """

    P: Realization
    K: Realization
    S_in: Realization
    S_out: Realization
    disturbance: Realization
    x: PyTree
    y: np.ndarray
    u: np.ndarray
    poles: np.ndarray
    stable: bool


def plain(loop: Feedback) -> Feedback:
    """Return the loop in float64, about its plant without noise, jitter, quantization and late samples."""
    return in_float64(to_float64)(Feedback(noiseless(sampled_plant(loop)), loop.policy))


def linear_loop(loop: Feedback, performance: Performance, reference: np.ndarray) -> LinearLoop:
    """Linearize a loop about a `Sampled` plant at its equilibrium under a constant reference.

    **Arguments:**

    - `loop`: the feedback loop
    - `performance`: `performance(x, u) -> z`
    - `reference`: (nr,)

    **Raises:** `RobustctlError` if no equilibrium is found near the initial state.
    """
    loop = plain(loop)
    sampled = sampled_plant(loop)
    ny, nd = len(sampled.plant.outputs), len(sampled.plant.disturbances)
    w = np.concatenate([np.zeros(nd), reference])
    found = equilibrium(loop, w, references=len(reference), settle=_SETTLE)
    y, u = found.y[:ny], found.y[ny:]
    plant_x, policy_x = found.x
    whole = typed(linearize(sampled, plant_x, np.concatenate([u, np.zeros(nd)])))
    K = typed(linearize(loop.policy, policy_x, np.concatenate([y, reference]), dt=sampled.dt))
    P, Bd = whole[:, : u.size], whole.B[:, u.size :]
    # z is a function of the physical state, the first entries of the plant's state
    Cz, Dz = _slopes(performance, plant_x.x, u)
    C = np.pad(Cz, ((0, 0), (0, P.nstates - Cz.shape[1])))
    return _closed(P, K[:, :ny], Bd, C, Dz, found.x, y, u)


@in_float64
def _slopes(performance: Performance, x: Array, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    slopes = jax.jacobian(performance, (0, 1))(jnp.asarray(x), jnp.asarray(u))
    return np.asarray(slopes[0]), np.asarray(slopes[1])


def _closed(
    P: Realization,
    K: Realization,
    Bd: np.ndarray,
    Cz: np.ndarray,
    Dz: np.ndarray,
    x: PyTree,
    y: np.ndarray,
    u: np.ndarray,
) -> LinearLoop:
    """Close the loop `u = K y + v`, `y = P [u; d] + n`: P has no direct path, so K's direct path makes no algebraic loop."""
    A = np.block([[P.A + P.B @ K.D @ P.C, P.B @ K.C], [K.B @ P.C, K.A]])
    # The states are the plant's, then the controller's; `into` and `below` are the rows of B for these.
    into = {"v": P.B, "n": P.B @ K.D, "d": Bd}
    below = {"v": np.zeros((K.nstates, P.ninputs)), "n": K.B, "d": np.zeros((K.nstates, Bd.shape[1]))}
    Cu = np.hstack([K.D @ P.C, K.C])
    Cy = np.hstack([P.C, np.zeros((P.noutputs, K.nstates))])
    Cp = np.hstack([Cz, np.zeros((len(Cz), K.nstates))]) + Dz @ Cu

    def system(source: str, C, D):
        return typed(ct.StateSpace(A, np.vstack([into[source], below[source]]), C, D, P.dt))

    poles = np.linalg.eigvals(A)
    return LinearLoop(
        P=P,
        K=K,
        S_in=system("v", Cu, np.eye(P.ninputs)),
        S_out=system("n", Cy, np.eye(P.noutputs)),
        disturbance=system("d", Cp, np.zeros((len(Cp), Bd.shape[1]))),
        x=x,
        y=y,
        u=u,
        poles=poles,
        stable=bool(np.abs(poles).max(initial=0.0) < 1),
    )


def complement(S: Realization) -> Realization:
    """Return `T = I - S`."""
    return typed(ct.StateSpace(S.A, S.B, -S.C, np.eye(S.noutputs) - S.D, S.dt))


def with_sensor_offsets(loop: Feedback) -> Feedback:
    """Return the loop with `w.noise` added to its readings in the outputs' units, through which a step enters."""
    sampled = sampled_plant(loop)
    imperfections = dataclasses.replace(sampled.imperfections, noise=1.0)
    return Feedback(dataclasses.replace(sampled, imperfections=imperfections), loop.policy)


def frequencies(loop: LinearLoop, count: int = 600) -> np.ndarray:
    """Return frequencies in rad/s up to half the sampling rate, denser about the loop's resonances."""
    nyquist = np.pi / loop.P.dt
    # From a thirtieth of the slowest pole's rate, at least 1e-5 of half the sampling rate (an integrator has rate zero)
    # and at most 1e-3 (a deadbeat loop has no slow pole). 1e-12 and 1e-6: poles at zero, of a delay, have no frequency.
    slow = np.log(np.maximum(np.abs(loop.poles), 1e-12)).max(initial=-1.0) / loop.P.dt
    lowest = min(max(abs(slow) / 30, nyquist * 1e-5), nyquist * 1e-3)
    grid = np.geomspace(lowest, nyquist * (1 - 1e-9), count)
    # 21 points within 10 % of each pole's frequency, for a resonance narrower than the grid
    angle = np.abs(np.angle(loop.poles[np.abs(loop.poles) > 1e-6])) / loop.P.dt
    around = (angle[:, None] * np.linspace(0.9, 1.1, 21)).ravel()
    return np.unique(np.concatenate([grid, around[(around > lowest) & (around < nyquist)]]))
