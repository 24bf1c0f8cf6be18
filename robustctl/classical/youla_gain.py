"""What a certified Q makes of the closed loop: a gain from disturbance to performance."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..errors import ModelError
from ..loops import Alongside, Youla, noiseless
from ..loops.alongside import learned_with
from ..plants import Sampled, undisturbed
from ..system import System
from .hinf_norm import hinf_norm
from .linearity import is_linear, is_linear_policy
from .linearize import linearize

_LINEAR = (
    "For every two disturbances and this linear plant: |z1 - z2| <= gain |d1 - d2| from one start, so a disturbance moves z from what "
    "it is without by at most gain |d|; and trajectories forget where they started."
)
_NONLINEAR = (
    "The plant, its actuator, its readings or the controller is not linear, or the sample time jitters, so this gain is that of the "
    "linearization at the operating point and holds near it only. Without disturbances the learned system cannot destabilize what "
    "the base controller stabilizes. With them the innovation depends on the state, and trajectories stay in a tube about each other "
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
    """The loop with the place of Q left open: `[d, v] -> [z, innovation, y]`."""

    plant: Sampled
    policy: Youla | Alongside
    performance: Callable[[Array, Array], Array]

    def init_state(self):
        return self.plant.init_state(), self.policy.init_state()[0]

    def step(self, x, u):
        nd = len(self.plant.plant.disturbances)
        w = jax.tree.map(lambda a: a[0], undisturbed(self.plant, 1))._replace(d=u[:nd])
        y = self.plant.output(x[0], w)
        (own, (_, innovation)), control = self.policy.step((x[1], (u[nd:], None)), y)
        after = self.plant.advance(x[0], control, w), own
        return after, jnp.concatenate([self.performance(x[0].x, control), innovation, y])


def youla_gain(
    sampled: Sampled,
    base: System,
    gamma: float | None,
    *,
    performance: Callable[[Array, Array], Array] | None = None,
) -> YoulaGain:
    """Return the gain from disturbance to performance of a loop whose Q has the certified gain `gamma`.

    ::

        z = T0 d + T1 q(T2 d),     |z1 - z2| <= (|T0| + |T1| gamma |T2|) |d1 - d2|        (H-infinity norms)

    for two disturbances from one start. The gain of q is one of differences: q(0) need not be zero, a network has offsets, and
    without a disturbance z is what q makes of that.

    Exact for a `LinearPlant` without saturation, rate limit, quantization or jitter, a linear base controller and a performance that
    is linear; for others the maps are linearized at the operating point, and the statement says what is lost. Source: [BWM23], Sec. III;
    [BWMM25] "React to surprises: the Youla-REN", arXiv 2506.01226.

    **Arguments:** `base`: what Q adds to, a `Base` of a `Youla` loop or any controller that Q is put `Alongside`; `gamma`: outputs'
    to controls' unit, as in `certificate(q).gamma`; `performance(x, u) -> z`: default the plant's output.

    **Raises:** `ModelError` for a gamma that is None, as of a model without a gain, negative or not finite, and for a base controller whose
    innovation depends on what Q says (its model is not the plant's): then no gain of Q is safe by itself.
    """
    return gain_of(sampled, learned_with(base, sampled, _Open()), gamma, performance)


def gain_of(
    sampled: Sampled,
    policy: Youla | Alongside,
    gamma: float | None,
    performance: Callable[[Array, Array], Array] | None,
) -> YoulaGain:
    """Return `youla_gain` of a controller as it is, whatever its q."""
    if gamma is None or not 0 <= gamma < np.inf:
        raise ModelError(f"gamma must be a finite gain of at least 0, got {gamma}")
    z = performance or (lambda x, u: sampled.plant.output(x))
    nd, nu = len(sampled.plant.disturbances), len(sampled.plant.controls)
    ny = len(sampled.plant.outputs)
    opened = _Opened(noiseless(sampled), dataclasses.replace(policy, q=_Open()), z)
    whole = linearize(opened, u0=nd + nu, dt=sampled.dt)
    nz = whole.noutputs - 2 * ny
    t0, t1, t2 = whole[:nz, :nd], whole[:nz, nd:], whole[nz:-ny, :nd]
    _check_silent(whole[nz:-ny, nd:], whole[-ny:, nd:])
    norms = (hinf_norm(t0), hinf_norm(t1), hinf_norm(t2))
    linear = is_linear(sampled) and _is_linear_base(policy)
    gain = norms[0] + norms[1] * gamma * norms[2]
    return YoulaGain(t0, t1, t2, norms, gain, linear, _LINEAR if linear else _NONLINEAR)


def _is_linear_base(policy: Youla | Alongside) -> bool:
    """Correction and law of a `Base` are functions of the user's, and taken for linear as `youla_gain` says."""
    if isinstance(policy, Alongside):
        return is_linear(policy.model) and is_linear_policy(policy.controller)
    model = getattr(policy.base, "model", None)
    return not isinstance(model, Sampled) or is_linear(model)


def _check_silent(innovation: Any, reading: Any) -> None:
    """Refuse a base whose innovation hears Q: of what the reading answers to v, nothing may be left in it.

    Both are stable, so no mode that answers late or little is missed; `1e-6` and, of a reading that answers nothing, the
    rounding of the state's sums are let pass.
    """
    rounding = 1e-12 * np.abs(innovation.C).max(axis=1) * np.abs(innovation.B).max()
    for k in range(innovation.noutputs):
        left, whole = hinf_norm(innovation[k, :]), hinf_norm(reading[k, :])
        if left > 1e-6 * whole + rounding[k]:
            raise ModelError(
                f"the innovation must not depend on what Q says, but where the reading answers it with a gain of {whole:.3g}, the "
                f"innovation does with {left:.3g}; give the base controller the plant's own model (linear_base, internal_model and "
                "PlantScenario do)"
            )
