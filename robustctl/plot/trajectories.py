"""Trajectories from several initial states."""

from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..certificates import Certificate
from ..errors import RobustctlError
from ..system import Parameterization, System, explicit_of
from ..trajectory import rollout

if TYPE_CHECKING:
    import matplotlib.figure

# In roundings of the state: each step adds about one, and a contracting system sums them up to 1 / (1 - rate) of them.
# Distances below are rounding errors; a larger factor hides more of a true decay.
_ROUNDINGS = 100.0


def contraction(
    model: Parameterization | System,
    certificate: Certificate,
    us: Float[Array, "T nu"],
    *,
    states: int = 6,
    spread: float = 1.0,
    key: PRNGKeyArray,
) -> "matplotlib.figure.Figure":
    """Draw outputs from several initial states under one input, and their distances with the certified bound.

    ::

        |x_i[t] - x_0[t]|_P / |x_i[0] - x_0[0]|_P  <=  rate^t,     |dx|_P = sqrt(dx' P dx)

    The first trajectory starts at the model's initial state, the others at normally distributed states around it.
    Distances at the level of rounding errors are left out.

    **Arguments:**

    - `model`: a parameterization or a system.
    - `certificate`: of that model.
    - `us`: inputs (T, nu).
    - `states`: number of trajectories, at least 2.
    - `spread`: standard deviation of the initial states.
    - `key`: of the initial states.

    **Raises:** `RobustctlError` for a certificate that does not hold or is of another state size, and for
    fewer than two states.
    """
    system = explicit_of(model)
    P, rate = _metric(certificate, system, states)
    first = system.init_state()
    away = spread * jr.normal(key, (states, first.size), first.dtype)
    x0s = first[None] + away.at[0].set(0.0)
    runs = _runs(system, us, x0s)
    figure = _drawn(system, np.asarray(runs.ys, np.float64), _distances(np.asarray(runs.xs), P), rate)
    from .canvas import heading

    ny = runs.ys.shape[-1]
    more = f"shown: the first of {ny} outputs" if ny > 1 else ""
    claim = f"{certificate.model}: no distance above the dashed line, for any states and any input"
    heading(figure, f"{states} initial states, one input", claim, more)
    return figure


@eqx.filter_jit
def _runs(system, us, x0s):
    return jax.vmap(lambda x0: rollout(system, us, x0))(x0s)


def _drawn(system: Any, ys: np.ndarray, distances: np.ndarray, rate: float) -> "matplotlib.figure.Figure":
    from .canvas import CYCLE, INK, SMALL, labeled, line, panels, time_axis

    figure, axes = panels(2, 1, (6.5, 2.5), sharex=True)
    t = np.arange(ys.shape[1]) * (system.dt or 1.0)
    for k, y in enumerate(ys):
        style = dict(color=INK if k == 0 else CYCLE[(k - 1) % len(CYCLE)], linewidth=1.1)
        line(axes[0, 0], t, y[:, 0], **style)
        if k:
            line(axes[1, 0], t, distances[k - 1], **style)
    axes[1, 0].plot(
        t,
        rate ** np.arange(len(t)),
        color=INK,
        linewidth=1.2,
        linestyle="--",
        label=f"certified: {rate:.6g}$^t$",
    )
    axes[1, 0].set_yscale("log")
    if np.isfinite(distances).any():
        axes[1, 0].set_ylim(bottom=0.5 * np.nanmin(distances))
    axes[1, 0].legend(frameon=False, fontsize=SMALL)
    name, unit = (system.outputs or ("y[0]",))[0], (system.output_units or ("",))[0]
    axes[0, 0].set_ylabel(labeled(name, unit, lines=2), fontsize=SMALL + 1)
    axes[1, 0].set_ylabel("distance in P,\nrelative to its first", fontsize=SMALL + 1)
    axes[1, 0].set_xlabel("time [samples]", fontsize=SMALL + 1)
    if system.dt:
        time_axis(axes[1, 0])
    return figure


def _metric(certificate: Certificate, system: Any, states: int) -> tuple[np.ndarray, float]:
    if states < 2:
        raise RobustctlError(f"states must be at least 2, got {states}")
    proof = certificate.rate_proof
    # Each rate belongs to the metric that proves it.
    P, rate = (certificate.P, certificate.rate) if proof is None else (proof.P, proof.value)
    if not certificate.holds or P is None or rate is None:
        reason = certificate.reason or "no metric"
        raise RobustctlError(f"the certificate must hold and have a metric, got one that does not: {reason}")
    sizes = [np.shape(leaf) for leaf in jax.tree.leaves(system.init_state())]
    if sizes != [(len(P),)]:
        raise RobustctlError(f"the state must be a vector of the metric's size {len(P)}, got shapes {sizes}")
    return P, rate


def _distances(xs: np.ndarray, P: np.ndarray) -> np.ndarray:
    """Distances (states - 1, T) of every trajectory to the first in the metric, NaN at the level of rounding errors."""
    # P = L L', so |dx|_P is the Euclidean norm of L' dx: row vectors times L.
    L = np.linalg.cholesky(P)
    eps = float(jnp.finfo(xs.dtype).eps)
    z = np.asarray(xs, np.float64) @ L
    distance = np.linalg.norm(z[1:] - z[0], axis=-1)
    floor = _ROUNDINGS * eps * np.linalg.norm(z, axis=-1).max()
    distance = np.where(distance > floor, distance, np.nan)
    return distance / distance[:, :1]
