"""What a certified Q makes of the closed loop: a gain from disturbance to performance."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..errors import ModelError
from ..loops import Beside, Youla, noiseless
from ..loops.beside import learned_with
from ..plants import Sampled, at_rest
from ..system import System
from .hinf_norm import hinf_norm
from .linearity import is_linear, is_linear_policy
from .linearize import linearize

_LINEAR = "For every disturbance and this linear plant: |z| <= gain |d| from rest, and trajectories forget where they started."
_NONLINEAR = (
    "The plant, its actuator, its readings or the controller is not linear, or the sample time jitters, so this gain is that of the "
    "linearisation at the operating point and holds near it only. Without disturbances the learned system cannot destabilise what "
    "the base controller stabilises. With them the innovation depends on the state, and trajectories stay in a tube about each other "
    "whose width grows with the disturbance [BWMM25]; how wide is not certified here."
)


class YoulaGain(NamedTuple):
    """The three maps of the closed loop `z = T0 d + T1 q(T2 d)`, their norms, and the bound they give.

    `norms`: H-infinity norms of T0, T1, T2; `gain`: `|T0| + |T1| gamma |T2|`; `certified`: whether it is proven for
    the plant itself; `statement`: what that means, in words.
    """

    t0: Any
    t1: Any
    t2: Any
    norms: tuple[float, float, float]
    gain: float
    certified: bool
    statement: str

    def __str__(self) -> str:
        """Return a text for people."""
        n0, n1, n2 = self.norms
        kind = "certified" if self.certified else "local, not certified"
        return f"closed-loop gain ({kind}): {n0:.4g} + {n1:.4g} gamma {n2:.4g} = {self.gain:.4g}\n{self.statement}"


class _Open(System):
    """In Q's place: its state `(v, innovation)` is what it says next, and what it heard."""

    def init_state(self):
        return ()

    def step(self, x, u):
        return (x[0], u), x[0]


class _Opened(System):
    """The loop with the place of Q left open: `[d, v] -> [z, innovation]`."""

    plant: Sampled
    policy: Youla | Beside
    performance: Callable[[Array, Array], Array]

    def init_state(self):
        return self.plant.init_state(), self.policy.init_state()[0]

    def step(self, x, u):
        nd = len(self.plant.plant.disturbances)
        w = jax.tree.map(lambda a: a[0], at_rest(self.plant, 1))._replace(d=u[:nd])
        y = self.plant.output(x[0], w)
        (own, (_, innovation)), control = self.policy.step((x[1], (u[nd:], None)), y)
        after = self.plant.advance(x[0], control, w), own
        return after, jnp.concatenate([self.performance(x[0].x, control), innovation])


def youla_gain(
    sampled: Sampled,
    base: System,
    gamma: float,
    *,
    performance: Callable[[Array, Array], Array] | None = None,
) -> YoulaGain:
    """Return the gain from disturbance to performance of a loop whose Q has the certified gain `gamma`.

    ::

        z = T0 d + T1 q(T2 d),     |z| <= (|T0| + |T1| gamma |T2|) |d|        (H-infinity norms)

    Exact for a `LinearPlant` without saturation, rate limit, quantisation or jitter, a linear base controller and a performance that
    is linear; for others the maps are linearised at the operating point, and the statement says what is lost. Source: [BWM23], Sec. III;
    [BWMM25] "React to surprises: the Youla-REN", arXiv 2506.01226.

    **Arguments:** `base`: what Q adds to, a `Base` of a `Youla` loop or any controller that Q is put `Beside`; `gamma`: outputs'
    to controls' unit, as in `certificate(q).gamma`; `performance(x, u) -> z`: default the plant's output.

    **Raises:** `ModelError` for a gamma that is negative or not finite, and for a base controller whose
    innovation depends on what Q says (its model is not the plant's): then no gain of Q is safe by itself.
    """
    return gain_of(sampled, learned_with(base, sampled, _Open()), gamma, performance)


def gain_of(
    sampled: Sampled,
    policy: Youla | Beside,
    gamma: float,
    performance: Callable[[Array, Array], Array] | None,
) -> YoulaGain:
    """Return `youla_gain` of a controller as it is, whatever its q."""
    if not 0 <= gamma < np.inf:
        raise ModelError(f"gamma must be a finite gain of at least 0, got {gamma}")
    z = performance or (lambda x, u: sampled.plant.output(x))
    nd, nu = len(sampled.plant.disturbances), len(sampled.plant.controls)
    ny = len(sampled.plant.outputs)
    opened = _Opened(noiseless(sampled), dataclasses.replace(policy, q=_Open()), z)
    whole = linearize(opened, u0=nd + nu, dt=sampled.dt)
    nz = whole.noutputs - ny
    t0, t1, t2, loop = whole[:nz, :nd], whole[:nz, nd:], whole[nz:, :nd], whole[nz:, nd:]
    _check_silent(loop)
    norms = (hinf_norm(t0), hinf_norm(t1), hinf_norm(t2))
    linear = is_linear(sampled) and _is_linear_base(policy)
    gain = norms[0] + norms[1] * gamma * norms[2]
    return YoulaGain(t0, t1, t2, norms, gain, linear, _LINEAR if linear else _NONLINEAR)


def _is_linear_base(policy: Youla | Beside) -> bool:
    """Correction and law of a `Base` are functions of the user's, and taken for linear as `youla_gain` says."""
    if isinstance(policy, Beside):
        return is_linear(policy.model) and is_linear_policy(policy.controller)
    model = getattr(policy.base, "model", None)
    return not isinstance(model, Sampled) or is_linear(model)


def _check_silent(loop: Any) -> None:
    """Refuse a base whose innovation hears Q: its impulse response from v must vanish."""
    response, x = 0.0, loop.B
    scale = np.abs(loop.C).max() * np.abs(loop.B).max()
    for _ in range(2 * loop.nstates):
        response = max(response, np.abs(loop.C @ x).max(initial=0.0))
        x = loop.A @ x
    if response > 1e-8 * scale:
        raise ModelError(
            f"the innovation must not depend on what Q says, but answers it with up to {response:.3g}; give the base controller "
            "the plant's own model (linear_base, internal_model and PlantScenario do)"
        )
