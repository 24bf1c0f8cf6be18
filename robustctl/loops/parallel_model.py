"""A base controller for a stable identified model: the model in parallel with the plant, and a constant control."""

import numpy as np
from jaxtyping import Array, Float, PyTree
from typing_extensions import override

from ..lft import LFT
from ..registry import registered
from .model_plant import ModelPlant
from .parts import control_of
from .youla import WithModel


@registered(name="loops.ParallelModel")
class ParallelModel(WithModel):
    """The base controller of internal model control, of an identified model.

    ::

        x_hat+ = f(x_hat, u),    y_hat = h(x_hat),    control = u0

    With it `rc.loops.Youla` is internal model control, `u = u0 + q(y - y_hat)`, which leaves the loop with the model itself stable for
    every stable q, if the model is; `rc.certificates.allowed_gamma` bounds the gain of q where the plant differs from the model.
    `internal_model` is the same for a sampled plant of equations.

    **Arguments:**

    - `model`: the identified model as a plant.
    - `u0`: the control (nu,) to which q adds; default zero.

    **Raises:** `InvalidModelError` for a control that is not one number for each input.
    """

    model: ModelPlant
    u0: Float[Array, " nu"]

    def __init__(self, model: ModelPlant, u0=None):
        self.model = model
        self.u0 = control_of(u0, model.nu, model.u0.dtype)

    @override
    def lft(self) -> LFT | None:
        """Return the form from `[u, innovation]`, which the model does not read, to y_hat."""
        form = self.model.lft()
        if form is None:
            return None
        B2, D12, D22 = (np.pad(M, ((0, 0), (0, self.ny))) for M in (form.B2, form.D12, form.D22))
        return form._replace(B2=B2, D12=D12, D22=D22)

    @override
    def lft_with_law(self) -> LFT | None:
        """Return the form from `[u, innovation]` to y_hat and the law's control, which is constant."""
        form = self.lft()
        if form is None:
            return None
        C2, D21, D22 = (np.pad(M, ((0, self.nu), (0, 0))) for M in (form.C2, form.D21, form.D22))
        return form._replace(C2=C2, D21=D21, D22=D22)

    @override
    def control(self, x: PyTree) -> Array:
        """Return the constant control."""
        return self.u0

    @override
    def advance(self, x: PyTree, u: Array, w: Array) -> PyTree:
        """Return the model's next state; `w`, the innovation, does not act."""
        return self.model.advance(x, u, self.model.undisturbed())
