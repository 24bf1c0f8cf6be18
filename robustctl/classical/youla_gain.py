"""The closed loop's gain from disturbance to performance with a certified Q."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..affine import is_affine
from ..errors import InvalidModelError
from ..lft import is_linear
from ..loops import Alongside, Youla, noiseless, zero_gain
from ..loops.alongside import learned_with
from ..plants import Sampled
from ..system import System
from .hinf_norm import hinf_norm
from .linearize import linearize
from .types import Realization, typed

_LINEAR = (
    "For every two disturbances and this linear plant: |z1 - z2| <= gain |d1 - d2| from the same initial state, so a disturbance d "
    "changes z by at most gain |d| in norm; the influence of the initial state decays."
)
_NONLINEAR = (
    "The plant, its actuators, its sensors, the controller or the performance output is not known to be linear, or the sample time "
    "jitters, so this gain is that of the linearization at the operating point and holds near it only. Without disturbances the "
    "learned system cannot destabilize what the base controller stabilizes. With disturbances the innovation depends on the state, "
    "and two trajectories stay in a tube about each other whose width grows with the disturbance [BWMM25]; the width is not "
    "certified here. rc.certificates.region proves on a box where the loop stays and which disturbances it endures."
)


class YoulaGain(NamedTuple):
    """The three maps of the closed loop `z = T0 d + T1 q(T2 d)`, their norms, and the bound that follows.

    **Arguments:**

    - `t0`: the map T0 from d to z without Q, a `control.StateSpace`
    - `t1`: T1, from Q's output to z
    - `t2`: T2, from d to the innovation
    - `norms`: H-infinity norms of T0, T1, T2
    - `gamma`: the gain of Q
    - `gain`: `|T0| + |T1| gamma |T2|`
    - `certified`: whether the gain is proven for the plant itself
    - `statement`: what is proven, in words
    """

    t0: Realization
    t1: Realization
    t2: Realization
    norms: tuple[float, float, float]
    gamma: float
    gain: float
    certified: bool
    statement: str

    def __str__(self) -> str:
        """Return gain and statement as text."""
        n0, n1, n2 = self.norms
        kind = "certified" if self.certified else "local, not certified"
        terms = f"|T0| + |T1| gamma |T2| = {n0:.4g} + {n1:.4g} x {self.gamma:.4g} x {n2:.4g}"
        return f"closed-loop gain ({kind}): {terms} = {self.gain:.4g}\n{self.statement}"

    __repr__ = __str__


class _Open(System):
    """A stand-in for Q: its state `(v, innovation)` is its next output and its last input."""

    def init_state(self):
        return ()

    def step(self, x, u):
        return (x[0], u), x[0]


class _Opened(System):
    """The loop opened at Q: `[d, v] -> [z, innovation, y]`, with v in place of Q's output."""

    plant: Sampled
    policy: Youla | Alongside
    performance: Callable[[Array, Array], Array]

    def init_state(self):
        return self.plant.init_state(), self.policy.init_state()[0]

    def step(self, x, u):
        nd = len(self.plant.plant.disturbances)
        w = self.plant.undisturbed()._replace(d=u[:nd])
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
    """Bound the gain from disturbance to performance of a loop whose Q has the certified gain `gamma`.

    ::

        z = T0 d + T1 q(T2 d),     |z1 - z2| <= (|T0| + |T1| gamma |T2|) |d1 - d2|        (H-infinity norms)

    for two disturbances from the same initial state. The gain of q is incremental: q(0) need not be zero, because a network
    has offsets; without a disturbance z is T1 q(0).

    Exact for a `LinearPlant` without saturation, rate limit, quantization or jitter, a linear base controller and a linear
    performance; otherwise the maps are linearized at the operating point, and the statement gives the limitations. Source:
    [BWM23], Sec. III; [BWMM25] "React to surprises: the Youla-REN", arXiv 2506.01226.

    **Arguments:**

    - `sampled`: the plant
    - `base`: the controller that Q adds to: a `Base` of a `Youla` loop, or any controller that Q is used `Alongside`
    - `gamma`: certified gain of Q, controls' unit over outputs' unit, as in `rc.certify(q).gamma`
    - `performance`: `performance(x, u) -> z`, default the plant's output

    **Raises:** `InvalidModelError` for a gamma that is None (a model without a gain), negative or not finite, and for a base controller
    whose innovation depends on Q's output (its model is not the plant's): then no gain of Q alone is safe.

    **Example:** ::

        sampled = rc.plants.Sampled(rc.plants.TwoTanks(), 2.0)
        base = rc.classical.linear_base(sampled, [1.0, 1.0], 1.0, 0.1, 0.1)
        print(rc.classical.youla_gain(sampled, base, gamma=0.5))
    """
    return gain_of(sampled, learned_with(base, sampled, _Open()), gamma, performance)


def gain_of(
    sampled: Sampled,
    policy: Youla | Alongside,
    gamma: float | None,
    performance: Callable[[Array, Array], Array] | None,
) -> YoulaGain:
    """Return `youla_gain` for a given `Youla` or `Alongside` controller; its own q is not used.

    **Raises:** `InvalidModelError`, same errors as `youla_gain`.
    """
    if gamma is None or not 0 <= gamma < np.inf:
        raise InvalidModelError(f"gamma must be a finite gain of at least 0, got {gamma}")
    z = performance or (lambda x, u: sampled.plant.output(x))
    nd, nu = len(sampled.plant.disturbances), len(sampled.plant.controls)
    ny = len(sampled.plant.outputs)
    opened = _Opened(noiseless(sampled), dataclasses.replace(policy, q=_Open()), z)
    whole = typed(linearize(opened, u0=nd + nu, dt=sampled.dt))
    nz = whole.noutputs - 2 * ny
    # [z; innovation] = [T0 T1; T2 0] [d; v]: the zero is what makes the loop affine in Q, so it is checked
    t0, t1, t2 = whole[:nz, :nd], whole[:nz, nd:], whole[nz:-ny, :nd]
    _check_decoupled(whole[nz:-ny, nd:], whole[-ny:, nd:])
    norms = (hinf_norm(t0), hinf_norm(t1), hinf_norm(t2))
    # With Q's place taken by zero, what is left must be linear for certain: its form has no block.
    base = dataclasses.replace(policy, q=zero_gain(sampled.ny, sampled.nu))
    x, u = sampled.init_state().x, jnp.zeros(nu)
    linear = is_linear(sampled.lft()) and is_linear(base.lft()) and is_affine(z, x, u)
    gain = norms[0] + norms[1] * gamma * norms[2]
    return YoulaGain(t0, t1, t2, norms, float(gamma), gain, linear, _LINEAR if linear else _NONLINEAR)


def _check_decoupled(innovation: Realization, reading: Realization) -> None:
    """Refuse a base whose innovation depends on Q's output v, by its gain relative to that of the reading.

    Both maps are stable, so their H-infinity norms miss no slow or weak mode.
    """
    # The innovation is a difference of two large readings. 1e-6 of the reading's gain is far above the rounding of that
    # difference and far below what a wrong model leaves; `rounding` is that of C x for a reading that does not depend on v.
    rounding = 1e-12 * np.abs(innovation.C).max(axis=1) * np.abs(innovation.B).max()
    for k in range(innovation.noutputs):
        left, whole = hinf_norm(innovation[k, :]), hinf_norm(reading[k, :])
        if left > 1e-6 * whole + rounding[k]:
            raise InvalidModelError(
                f"the innovation must not depend on Q's output, but its gain from there is {left:.3g} where that of the reading is "
                f"{whole:.3g}; give the base controller the plant's own model (linear_base, internal_model and PlantScenario do)"
            )
