"""A linear base controller for the Youla parameterization, at a plant's operating point."""

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from ..errors import InvalidModelError
from ..lft import LFT, float64, static_gain
from ..loops import Base, IntegralBase, ModelBased, Youla, noiseless, zero_gain
from ..plants import Sampled
from ..registry import registered
from ..system import Certifiable
from .kalman import filter_gains
from .lqr import extended, gains
from .model import Model, as_array, linear_model, require_sampled, require_stable
from .types import ArrayLike


@registered(name="classical.LinearCorrection")
class LinearCorrection(Certifiable):
    """An observer's correction `dx = L (y - y_hat)`."""

    L: Float[Array, "nx ny"]

    def __call__(self, x: Array, innovation: Array) -> Array:
        """Return the correction of the physical state."""
        return self.L @ innovation

    def lft(self) -> LFT:
        """Return the matrix from `[x, innovation]` to the correction."""
        (L,) = float64(self.L)
        return static_gain(np.hstack([np.zeros((len(L), len(L))), L]))


@registered(name="classical.LinearLaw")
class LinearLaw(Certifiable):
    """A control law `u = u0 - K (x - x0)` on the physical state."""

    K: Float[Array, "nu nx"]
    x0: Float[Array, " nx"]
    u0: Float[Array, " nu"]

    def __call__(self, x: Array) -> Array:
        """Return the control."""
        return self.u0 - self.K @ (x - self.x0)

    def lft(self) -> LFT:
        """Return the matrix from state to control."""
        return static_gain(-float64(self.K)[0])


def linear_base(
    sampled: Sampled,
    Q: ArrayLike,
    R: ArrayLike,
    W: ArrayLike,
    V: ArrayLike,
    *,
    integral: ArrayLike | bool = False,
) -> ModelBased | IntegralBase:
    """Design a base controller with the gains of an LQG design at the plant's operating point.

    ::

        x_hat+ = f(x_hat, u) + L (y - h(x_hat)),    u = u_e - K (x_hat - x_e)  [- Ki z,    z+ = z + H y - r]

    with the plant's own model f, h, the regulator gain K of (Q, R) and the Kalman predictor's gain L of (W, V). Without
    integral action a constant disturbance leaves a constant error, and references go to the learned system alone.

    **Arguments:**

    - `sampled`: the plant; its delay and rate limit are in the model, but not in the design of the gains
    - `Q`: the regulator's weight (nx, nx) of the physical state, or its diagonal; (nx + ni, nx + ni) with integrators
    - `R`: its weight (nu, nu) of the control, or its diagonal
    - `W`: covariance (nx, nx) of the process noise, or its diagonal
    - `V`: covariance (ny, ny) of the measurement noise, or its diagonal
    - `integral`: True for integrators on all outputs, or H (ni, ny) for those on `H y`. Constant disturbances then leave no error
      in them, and they follow ni references

    **Raises:** same errors as `lqr` and `kalman`; `InvalidModelError` for an `integral` of another width, and with the closed-loop poles
    if the base controller does not stabilize the plant, for example because of a delay that the gains do not take into account.

    **Example:** ::

        sampled = rc.plants.Sampled(rc.plants.TwoTanks(), 2.0)
        base = rc.classical.linear_base(sampled, [1.0, 1.0], 1.0, 0.1, 0.1)
    """
    require_sampled(sampled)
    model = _without_delay(sampled)
    H = _integrated(integral, sampled.ny)
    K, _, _ = gains(*extended(model, H @ model.system.C), Q, R, None, True)
    L, _, _ = filter_gains(model, W, V)
    nx = model.x.size
    law = LinearLaw(as_array(K[:, :nx]), as_array(model.x), as_array(model.u))
    base = ModelBased(noiseless(sampled), LinearCorrection(as_array(L)), law)
    if len(H):
        base = IntegralBase(base, as_array(K[:, nx:]), as_array(H), as_array(H @ model.y))
    stabilizes(base, sampled)
    return base


def _integrated(integral: ArrayLike | bool, ny: int) -> np.ndarray:
    """Return H (ni, ny) of the outputs that are integrated."""
    match integral:
        case True:
            return np.eye(ny)
        case False:
            return np.zeros((0, ny))
    H = np.asarray(integral, float)
    if H.ndim != 2 or H.shape[1] != ny:
        raise InvalidModelError(
            f"integral must have one column per output, {ny}, got shape {H.shape}; True integrates all outputs"
        )
    return H


def stabilizes(base: Base, sampled: Sampled) -> np.ndarray:
    """Return the closed-loop poles of a base controller that stabilizes the plant, and refuse any other.

    **Arguments:**

    - `base`: the base controller
    - `sampled`: the plant, with its delay

    **Raises:** `InvalidModelError` with the closed-loop poles if one has a modulus of 1 or more.
    """
    alone = Youla(base, zero_gain(sampled.ny, sampled.nu))
    return require_stable(noiseless(sampled), alone, "the base controller")


def _without_delay(sampled: Sampled) -> Model:
    """The gains act on the physical state, which has no entries for controls in the delay or for a rate limit."""
    plain = type(sampled.imperfections)(saturate=sampled.imperfections.saturate)
    return linear_model(eqx.tree_at(lambda s: s.imperfections, noiseless(sampled), plain))
