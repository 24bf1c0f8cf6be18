"""The certified gain of a loop, if there is one."""

from typing import NamedTuple

import jax.numpy as jnp

from ..affine import is_affine
from ..certificates import certify
from ..classical.flat import sampled_plant
from ..classical.hinf_norm import hinf_norm
from ..classical.youla_gain import gain_of
from ..errors import RobustctlError
from ..lft import is_linear
from ..loops import Alongside, Feedback, Youla
from ..plants import Sampled
from .linear_loop import LinearLoop, Performance


class CertifiedGain(NamedTuple):
    """A proven bound on `|z(d) - z(0)| / |d|` over all disturbances d, or None, and what is proven in words."""

    gain: float | None
    statement: str


def certified_gain(loop: Feedback, linear: LinearLoop | None, performance: Performance) -> CertifiedGain:
    """Return the certified gain of a loop about a `Sampled` plant.

    ::

        linear loop:                          |z|_2 / |d|_2 <= H-infinity norm, exact
        certified Q about a linear plant:     |z(d) - z(0)|_2 / |d|_2 <= |T0| + |T1| gamma |T2|

    The second is for `Youla` and `Alongside`; about a nonlinear plant the statement gives what still holds.

    **Arguments:**

    - `loop`: a feedback loop about a `Sampled` plant
    - `linear`: its linearization, if there is one
    - `performance`: `performance(x, u) -> z`
    """
    sampled, policy = sampled_plant(loop), loop.policy
    # Only if loop and performance are linear themselves is their linearization's norm their gain.
    seen = is_affine(performance, sampled.init_state().x, jnp.zeros(len(sampled.plant.controls)))
    if linear is not None and linear.stable and is_linear(loop.lft()) and seen:
        return CertifiedGain(
            hinf_norm(linear.disturbance), "The loop is linear, so its H-infinity norm is its gain."
        )
    match policy:
        case Youla() | Alongside():
            return _youla(sampled, policy, performance)
        case _:
            return CertifiedGain(None, "No certificate covers this controller in this loop.")


def _youla(sampled: Sampled, policy: Youla | Alongside, performance: Performance) -> CertifiedGain:
    try:
        found = certify(policy.q, prove=False)
    except RobustctlError as error:
        return CertifiedGain(None, f"Q has no certificate: {error}")
    if not found.holds:
        return CertifiedGain(None, f"Q has no certificate: {found.reason}")
    if found.gamma is None:
        return CertifiedGain(
            None,
            "Q is certified to be contracting, without a bound on its gain: without disturbances it cannot destabilize what "
            "the base controller stabilizes.",
        )
    try:
        bound = gain_of(sampled, policy, found.gamma, performance)
    except RobustctlError as error:
        return CertifiedGain(None, f"Q is certified, but not the loop: {error}")
    local = "" if bound.certified else f" The linearization's bound: {bound.gain:.4g}."
    return CertifiedGain(bound.gain if bound.certified else None, f"{bound.statement}{local}")
