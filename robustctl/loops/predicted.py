"""A filter that predicts: the fallback's trajectory after a control must stay inside the limits."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float
from typing_extensions import override

from ..checks import is_whole, of_type
from ..errors import InvalidModelError
from ..linalg import unstable
from ..registry import registered
from ..system import Certifiable, System
from .barrier import error_bound, predicted_state, sizes
from .filters import Fallback, Filter, box, limits_or_none
from .half_spaces import Allowed
from .parts import Of
from .state_sets import Ellipsoid, StateLimits, StateSet, box_radius, columns, metric_root


class Tube(Certifiable):
    """How far disturbances can move the fallback's loop from its prediction, by the rate at which its trajectories approach.

    ::

        |e[k]|_P <= rate^k |e[0]|_P + (1 + rate + ... + rate^(k-1)) step,        step >= |E d|_P for all |d_j| <= 1

    The rate is proven where a certificate of the fallback's loop has it in this metric; otherwise it is assumed.

    **Arguments:**

    - `P`: metric (nx, nx) of the plant's state, in which trajectories of the fallback's loop approach each other.
    - `rate`: by which factor they do in a sample, in (0, 1).
    - `disturbance`: E (nx, nd), what acts on the state in a sample; default none.

    **Raises:** `InvalidModelError` for numbers out of range and shapes that do not fit.

    **Example:** ::

        A = np.array([[1.0, 0.1], [-0.1, 0.8]])    # of the fallback's loop
        tube = rc.loops.Tube.linear(A, [0.0, 0.02])
    """

    P: Float[Array, "nx nx"]
    rate: Float[Array, ""]
    step: Float[Array, ""]

    def __init__(self, P, rate: float, disturbance=None):
        self.P, self.rate = jnp.atleast_2d(jnp.asarray(P)), jnp.asarray(rate, float)
        root = metric_root(self.P)
        self.step = jnp.asarray(box_radius(root, columns(disturbance, len(root))), float)
        self.check_parts()

    @override
    def check_parts(self) -> None:
        metric_root(self.P)
        if not 0 < self.rate < 1 or not 0 <= self.step < np.inf:
            raise InvalidModelError(
                f"the rate of a tube must be in (0, 1) and its step at least 0, got {float(self.rate):.6g} and {float(self.step):.6g}; "
                "trajectories of the fallback's loop must approach each other"
            )

    @classmethod
    def linear(cls, A, disturbance=None) -> "Tube":
        """Return the tube of a linear loop `x+ = A x + E d`, in the metric and with the rate of the smallest ellipsoid that it stays in.

        ::

            P^-1 = A P^-1 A' / rate^2 + E E' + a little of each state:     |A e|_P <= rate |e|_P

        **Arguments:**

        - `A`: of the loop (nx, nx).
        - `disturbance`: E (nx, nd); default none.

        **Raises:** `InvalidModelError` for a loop that is not stable, with its poles.
        """
        A = np.asarray(A, np.float64)
        poles = np.linalg.eigvals(A)
        if listed := unstable(poles):
            raise InvalidModelError(
                f"the fallback's loop must be stable, got one with the poles {listed} (stable: inside the unit circle)"
            )
        slowest, E = np.abs(poles).max(), columns(disturbance, len(A))
        tubes = [
            cls(_metric(A, E, rate), rate, E) for rate in 1 - (1 - slowest) * np.linspace(0.05, 0.95, 19)
        ]
        return min(tubes, key=lambda tube: tube._volume())

    def _volume(self) -> float:
        """Return the logarithm of the volume, up to a constant, of the ellipsoid that the loop stays in: the same for all units."""
        reach = 2 * len(self.P) * np.log(float(self.step) / (1 - float(self.rate)) or 1.0)
        return float(reach - np.linalg.slogdet(np.asarray(self.P, np.float64))[1])

    def radii(self, horizon: int) -> tuple[np.ndarray, np.ndarray]:
        """Return `|e[k]|_P` for k = 1 to `horizon` by disturbances, and the factors of an error that is there at k = 1."""
        rate = float(self.rate)
        powers = rate ** np.arange(horizon)
        return float(self.step) * np.cumsum(powers), powers

    def ellipsoid(self, limits: StateLimits, middle=None) -> Ellipsoid:
        """Return the largest ellipsoid of the metric about an equilibrium inside limits of the states.

        The loop does not leave it under the tube's disturbance, which makes it a `terminal` set.

        **Arguments:**

        - `limits`: of states, and of controls as rows `-K x <= u_high`.
        - `middle`: the equilibrium (nx,), default the origin.

        **Raises:** `InvalidModelError` where the disturbance can drive the loop out of it, or the equilibrium is outside the limits.
        """
        root = metric_root(self.P)
        middle = np.zeros(len(root)) if middle is None else np.asarray(middle, np.float64)
        left = np.asarray(limits.limit, np.float64) - np.asarray(limits.C, np.float64) @ middle
        radius = float(np.min(left / limits.ball_margin(np.linalg.inv(root))))
        needed = float(self.step) / (1 - float(self.rate))
        if not radius > needed:
            raise InvalidModelError(
                f"the ellipsoid inside the limits must be wide enough for the disturbance, at least {needed:.4g} in the metric P, got "
                f"{radius:.4g}; widen the limits, assume smaller disturbances, or give a fallback that approaches faster"
            )
        return Ellipsoid(np.asarray(self.P, np.float64) / radius**2, middle)


def _metric(A: np.ndarray, E: np.ndarray, rate: float) -> np.ndarray:
    """Return P of `Tube.linear` for a rate."""
    import scipy.linalg  # slow to import

    def solved(drive: np.ndarray) -> np.ndarray:
        return np.asarray(scipy.linalg.solve_discrete_lyapunov(A / rate, drive))

    moved = np.diag(solved(E @ E.T)) if E.any() else np.ones(len(A))
    # A thousandth of how far the disturbance moves each state keeps P finite where it moves some combination of states not at all.
    inverse = solved(E @ E.T + 1e-3 * np.diag(np.maximum(moved, 1e-6 * moved.max())))
    P = np.linalg.inv((inverse + inverse.T) / 2)
    return (P + P.T) / 2


@registered(name="loops.Predicted")
class Predicted(Filter):
    """The fallback's predicted trajectory after the control stays inside a set, for any model.

    ::

        x[1] = model(x, u),   x[k+1] = model(x[k], fallback(x[k])):      h(x[k]) >= margin[k],  k = 1 ... horizon
                                                                         terminal(x[horizon]) >= its margin

    A control that does not satisfy this is replaced by the allowed one nearest to it on the way there from the fallback's, by bisection.
    The margins are what the tube allows at each sample, so that the true trajectory stays inside too: of the disturbance they grow along
    the prediction, of an estimate's error they shrink.

    With a `terminal` set that the fallback keeps, for example `Tube.ellipsoid`, the fallback's control is allowed in the next sample
    again: the state stays in h for ever, whichever of both controllers acts, where the tube is right and the state is measured. Without
    one this is so for the horizon.

    The fallback is predicted as the guard applies it: clipped to the limits of the guard's whole filter, those of a `RateLimit` in an
    `AllOf` included. A terminal set counts where no rate limit acts any more at the end of the prediction. For a static fallback `-K x`,
    `Tube.ellipsoid` excludes it inside the set where its limits have the rows `K (A - B K - I) x <= per_sample - |K E| 1` and the negative
    ones. With disturbances and rate limits that act along the prediction, the tube's rate must hold for the loop with them: it is assumed.

    The measurement must begin with the model's state, or with an estimate whose error `error` bounds; the fallback reads the same, and
    references that follow the state are constant. An estimate's error is carried through the first sample by the model's derivative:
    exactly for linear models, for others to first order.

    **Arguments:**

    - `model`: a system whose state is a vector, or a `Sampled` plant without imperfections.
    - `h`: a `StateSet`, for example `StateLimits` or `Ellipsoid`.
    - `horizon`: number of samples, at least 1.
    - `tube`: of the fallback's loop; default None, the prediction is exact.
    - `terminal`: a `StateSet` for the last sample; default none.
    - `error`: bounds (nx,) of the error of the state that is read, which need a tube; default None, it is measured.
    - `low`: lowest controls (nu,) also of the fallback, default none.
    - `high`: highest controls (nu,), default none.

    **Raises:** `InvalidModelError` for a model with imperfections or of another kind, a horizon of 0, and parts that do not fit.

    **Example:** ::

        pole = rc.plants.Sampled(rc.plants.CartPole(), 0.02)
        h = rc.loops.StateLimits([[1.0, 0.0, 0.0, 0.0], [-1.0, 0.0, 0.0, 0.0]], [1.0, 1.0])
        filter = rc.loops.Predicted(pole, h, horizon=100, low=[-10.0], high=[10.0])
    """

    model: System
    h: StateSet
    terminal: StateSet | None
    error: Float[Array, " nx"] | None
    root: Float[Array, "nx nx"]
    margins: Float[Array, "horizon k"]
    shares: Float[Array, "horizon k"]
    last: Float[Array, "2 m"]
    low: Float[Array, " nu"]
    high: Float[Array, " nu"]
    dt = Of("model")

    def __init__(
        self, model: System, h: StateSet, horizon: int, *, tube: Tube | None = None, terminal: StateSet | None = None, error=None,
        low=None, high=None,
    ):  # fmt: skip
        nx, nu = sizes(model)
        if not is_whole(horizon, 1):
            raise InvalidModelError(f"horizon must be at least 1 sample, got {horizon!r}")
        if tube is None and error is not None:
            raise InvalidModelError(
                "an estimate's error must have a tube that carries it along the prediction; give tube="
            )
        tube = Tube(np.eye(nx), 0.5) if tube is None else tube
        self.model, self.h, self.terminal = model.prepare(), _checked(h, nx), terminal
        self.error, self.low, self.high = error_bound(error, nx), *limits_or_none(low, high, nu)
        root = metric_root(tube.P)
        if root.shape != (nx, nx):
            raise InvalidModelError(f"the tube must be of the model's {nx} states, got {len(root)}")
        self.root = jnp.asarray(root, float)
        radii, powers = tube.radii(horizon)
        reach = h.ball_margin(np.linalg.inv(root))
        self.margins, self.shares = (jnp.asarray(np.outer(each, reach), float) for each in (radii, powers))
        final = np.zeros(0) if terminal is None else _checked(terminal, nx).ball_margin(np.linalg.inv(root))
        self.last = jnp.asarray(np.outer((radii[-1], powers[-1]), final), float)
        self.check_parts()

    @override
    def check_parts(self) -> None:
        nx, nu = sizes(self.model)
        low, high = np.asarray(self.low), np.asarray(self.high)
        if low.shape != (nu,) or high.shape != (nu,) or not (low < high).all():
            raise InvalidModelError(
                f"low must be below high for each of {nu} controls, got {low.tolist()} and {high.tolist()}"
            )
        if self.root.shape != (nx, nx) or self.margins.shape != self.shares.shape:
            raise InvalidModelError(
                f"the tube's arrays must be of the model's {nx} states and of one horizon, got {self.root.shape[0]} states, and "
                f"{self.margins.shape} and {self.shares.shape}"
            )

    @property
    @override
    def predicts(self) -> bool:
        """Whether `room` depends on the control: it does."""
        return True

    @property
    @override
    def unbounded_state(self) -> bool:
        """Whether no bound was given of the error of the state."""
        return self.error is None

    @override
    def allowed(self, y: Array, before: Array) -> Allowed:
        return box(self.low.astype(before.dtype), self.high.astype(before.dtype))

    @override
    def room(self, y: Array, u: Array, fallback: Fallback) -> Array:
        nx, dtype = self.root.shape[0], y.dtype
        margins, shares, last = (a.astype(dtype) for a in (self.margins, self.shares, self.last))
        error = self._error(y[:nx], u)

        def body(carry, each):
            x, state, before = carry
            margin, share = each
            left = jnp.min(self.h(x) - margin - share * error)
            state, control, free = fallback.step(state, jnp.concatenate([x, y[nx:]]), before)
            return (predicted_state(self.model, x, control), state, control), (left, x, free)

        first = predicted_state(self.model, y[:nx], u)
        _, (left, xs, free) = lax.scan(body, (first, fallback.state, u), (margins, shares))
        least = jnp.min(left)
        if self.terminal is not None:
            # The fallback keeps the set only without a rate limit that still acts.
            left = jnp.minimum(jnp.min(self.terminal(xs[-1]) - last[0] - last[1] * error), free[-1])
            least = jnp.minimum(least, left)
        return least

    def _error(self, x: Array, u: Array) -> Array:
        """Return the size in the metric of the estimate's error one sample later."""
        if self.error is None:
            return jnp.zeros((), x.dtype)
        J = jax.jacfwd(lambda x: predicted_state(self.model, x, u))(x)
        moved = jnp.abs(self.root.astype(x.dtype) @ J) @ self.error.astype(x.dtype)
        size = jnp.sum(moved**2)
        # The root of 0 has no derivative.
        return jnp.where(size > 0, jnp.sqrt(jnp.where(size > 0, size, 1)), 0)


def _checked(h: Any, nx: int) -> StateSet:
    """Return a set of states after checking its kind and size, or raise `InvalidModelError`."""
    of_type(
        h, StateSet, "the set must be a rc.loops.StateSet", "StateLimits and Ellipsoid are", InvalidModelError
    )
    try:
        h(jnp.zeros(nx))
    except (TypeError, ValueError) as error:
        raise InvalidModelError(f"the set must be of the model's {nx} states; {error}") from error
    return h
