"""A loop linearized where it settles, with its sensitivities."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import control as ct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..classical.flat import in_float64, to_float64
from ..classical.linearize import equilibrium, linearize
from ..loops import Feedback, noiseless
from ..plants import Sampled

_SETTLE = 2000  # samples: a learned controller may rest far from where it starts
Performance = Callable[[Array, Array], Array]


class LinearLoop(NamedTuple):
    """The linearization of a loop `u = K y + v`, `y = P [u; d] + n` at its equilibrium, all `control.StateSpace`.

    ::

        S_in = (I - K P)^-1 from v to u,    S_out = (I - P K)^-1 from n to y,    T = I - S

    `P` from control to output, `K` from output to control, `disturbance` from d to the performance output z.
    `x`: the loop's state at the equilibrium; `y`, `u` (ny,), (nu,); `poles` of the loop; `stable`: all inside
    the unit circle.
    """

    P: Any
    K: Any
    S_in: Any
    S_out: Any
    disturbance: Any
    x: Any
    y: np.ndarray
    u: np.ndarray
    poles: np.ndarray
    stable: bool


def plain(loop: Feedback) -> Feedback:
    """Return the loop in float64, about its plant without noise, jitter and quantization."""
    assert isinstance(loop.plant, Sampled)
    return in_float64(to_float64)(Feedback(noiseless(loop.plant), loop.policy))


def linear_loop(loop: Feedback, performance: Performance, reference: np.ndarray) -> LinearLoop:
    """Linearize a loop about a `Sampled` plant where it settles under the constant `reference` (nr,).

    **Raises:** `RobustctlError` where no equilibrium is found near the start.
    """
    loop = plain(loop)
    sampled: Any = loop.plant
    ny, nd = len(sampled.plant.outputs), len(sampled.plant.disturbances)
    w = np.concatenate([np.zeros(nd), reference])
    found = equilibrium(loop, w, references=len(reference), settle=_SETTLE)
    y, u = found.y[:ny], found.y[ny:]
    plant_x, policy_x = found.x
    whole: Any = linearize(sampled, plant_x, np.concatenate([u, np.zeros(nd)]))
    K: Any = linearize(loop.policy, policy_x, np.concatenate([y, reference]), dt=sampled.dt)
    P, Bd = whole[:, : u.size], whole.B[:, u.size :]
    Cz, Dz = _slopes(performance, plant_x.x, u)
    C = np.pad(Cz, ((0, 0), (0, P.nstates - Cz.shape[1])))
    return _closed(P, K[:, :ny], Bd, C, Dz, found.x, y, u)


@in_float64
def _slopes(performance: Performance, x: Array, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    slopes = jax.jacobian(performance, (0, 1))(jnp.asarray(x), jnp.asarray(u))
    return np.asarray(slopes[0]), np.asarray(slopes[1])


def _closed(P: Any, K: Any, Bd, Cz, Dz, x, y, u) -> LinearLoop:
    A = np.block([[P.A + P.B @ K.D @ P.C, P.B @ K.C], [K.B @ P.C, K.A]])
    into = {"v": P.B, "n": P.B @ K.D, "d": Bd}
    below = {"v": np.zeros((K.nstates, P.ninputs)), "n": K.B, "d": np.zeros((K.nstates, Bd.shape[1]))}
    Cu = np.hstack([K.D @ P.C, K.C])
    Cy = np.hstack([P.C, np.zeros((P.noutputs, K.nstates))])
    Cp = np.hstack([Cz, np.zeros((len(Cz), K.nstates))]) + Dz @ Cu

    def system(source: str, C, D):
        return ct.StateSpace(A, np.vstack([into[source], below[source]]), C, D, P.dt)

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


def complement(S: Any) -> Any:
    """Return `T = I - S`."""
    return ct.StateSpace(S.A, S.B, -S.C, np.eye(S.noutputs) - S.D, S.dt)


def with_sensor_offsets(loop: Feedback) -> Feedback:
    """Return the loop with `w.noise` added to its readings in the outputs' units: the way in for a step."""
    sampled: Any = loop.plant
    imperfections = dataclasses.replace(sampled.imperfections, noise=1.0)
    return Feedback(dataclasses.replace(sampled, imperfections=imperfections), loop.policy)


def frequencies(loop: LinearLoop, count: int = 600) -> np.ndarray:
    """Return frequencies in rad/s up to half the sampling rate, closer about the loop's resonances."""
    nyquist = np.pi / loop.P.dt
    slow = np.log(np.maximum(np.abs(loop.poles), 1e-12)).max(initial=-1.0) / loop.P.dt
    lowest = min(max(abs(slow) / 30, nyquist * 1e-5), nyquist * 1e-3)
    grid = np.geomspace(lowest, nyquist * (1 - 1e-9), count)
    angle = np.abs(np.angle(loop.poles[np.abs(loop.poles) > 1e-6])) / loop.P.dt
    around = (angle[:, None] * np.linspace(0.9, 1.1, 21)).ravel()
    return np.unique(np.concatenate([grid, around[(around > lowest) & (around < nyquist)]]))
