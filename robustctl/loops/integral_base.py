"""Integral action in a base controller."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree
from typing_extensions import override

from ..lft import LFT, float64, joined, linear, signals
from ..registry import registered
from ..system import SignalLimits
from .parts import Of
from .youla import Base, ModelBased


@registered(name="loops.IntegralBase")
class IntegralBase(Base):
    """A base controller with integrators on measured errors, so that a constant disturbance leaves none.

    ::

        z+ = z + H y - r,    u = law(x_hat) - Ki z + u_q,    r = r0 without a reference

    The innovation does not depend on u_q, as in the base without integrators, so a contracting Q leaves the loop stable;
    where Q's output becomes constant, `H y = r` whatever Q is.

    **Arguments:**

    - `inner`: observer and law.
    - `Ki`: gain (nu, ni) of the integrators.
    - `H`: (ni, ny), the outputs that are integrated.
    - `r0`: (ni,), their values at the operating point.
    """

    inner: ModelBased
    Ki: Float[Array, "nu ni"]
    H: Float[Array, "ni ny"]
    r0: Float[Array, " ni"]
    nu, ny, dt = Of("inner"), Of("inner"), Of("inner")
    inputs, outputs = Of("inner"), Of("inner")
    input_units, output_units = Of("inner"), Of("inner")

    @property
    @override
    def references(self) -> int:
        """Number of references, without which it works too."""
        return self.H.shape[0]

    @override
    def lft(self) -> LFT | None:
        """Return the form from `[u, innovation, r]` to y_hat, where observer and law have forms."""
        form = self.lft_with_law()
        if form is None or self.inner.lft() is None:
            return None
        return form._replace(C2=form.C2[: self.ny], D21=form.D21[: self.ny], D22=form.D22[: self.ny])

    @override
    def lft_with_law(self) -> LFT | None:
        inner = self.inner.lft_with_law()
        if inner is None:
            return None
        Ki, H = float64(self.Ki, self.H)
        eye = np.eye(len(H))
        integrators = linear(eye, np.hstack([H, -eye]), eye, np.zeros((len(H), sum(H.shape))))
        parts = [inner, integrators]
        expected_and_law, z, u, innovation, r = signals(parts, self.nu, self.ny, len(H))
        expected, law = np.split(expected_and_law, [self.ny])
        return joined(parts, [u, innovation, expected + innovation, r], [expected, law - Ki @ z])

    @override
    def input_limits(self) -> SignalLimits | None:
        return self.inner.input_limits()

    @override
    def undisturbed(self, references: int = 0) -> Array:
        return self.inner.undisturbed(references)

    @override
    def init_state(self) -> tuple[PyTree, Array]:
        return self.inner.init_state(), jnp.zeros_like(self.r0)

    @override
    def output(self, x: tuple[PyTree, Array], w: PyTree = None) -> Array:
        return self.inner.output(x[0])

    @override
    def control(self, x: tuple[PyTree, Array]) -> Array:
        return self.inner.control(x[0]) - self.Ki @ x[1]

    @override
    def advance(self, x: tuple[PyTree, Array], u: Array, w: Array) -> tuple[PyTree, Array]:
        """Return the next estimate and integrals; `w` is the innovation, or `[innovation, r]`."""
        estimate, z = x
        ny = self.H.shape[1]
        y = self.inner.output(estimate) + w[:ny]
        r = w[ny:] if w.shape[0] > ny else self.r0
        return self.inner.advance(estimate, u, w[:ny]), z + self.H @ y - r

    @override
    def prepare(self) -> "IntegralBase":
        return dataclasses.replace(self, inner=self.inner.prepare())
