"""The design of a moving-horizon estimator for a sampled plant or an identified model."""

import numpy as np

from ..checks import is_whole, of_type, weight
from ..errors import InvalidModelError
from ..loops import ModelPlant, noiseless
from ..plants import Sampled
from .mhe_window import MovingHorizonEstimator, vector
from .model import as_array
from .nonlinear_mpc import SQP
from .qp import require_qpax
from .types import ArrayLike

_DEFAULT = SQP(steps=2)


def moving_horizon(
    model: Sampled | ModelPlant,
    W: ArrayLike,
    V: ArrayLike,
    *,
    x0: ArrayLike | None = None,
    P0: ArrayLike | None = None,
    horizon: int = 10,
    x_limits: tuple[ArrayLike, ArrayLike] | None = None,
    w_limits: tuple[ArrayLike, ArrayLike] | None = None,
    arrival: ArrayLike | None = None,
    solver: SQP = _DEFAULT,
) -> MovingHorizonEstimator:
    """Design a moving-horizon estimator for a sampled plant or an identified model.

    ::

        minimize  |x[t-N] - m|^2_{P^-1}  +  sum_{k<t} |w[k]|^2_{W^-1}  +  sum_{k<=t} |y[k] - h(x[k])|^2_{V^-1}
        with      x[k+1] = f(x[k], u[k]) + w[k],   x_low <= x[k] <= x_high,   w_low <= w[k] <= w_high

    At each sample a fixed number of Gauss-Newton steps, each a quadratic program about the states of the last estimate. Limits of states
    are soft in the program, and the estimate itself never leaves them. The samples before the window enter by the mean m and the
    covariance P of its start, which an extended Kalman filter updates, linearized at the window's estimates; `arrival` replaces
    its P, for example by that of an observer's error bound. A channel that is not finite counts as not measured.
    For a linear model without limits the estimate is that of the Kalman filter, whatever the horizon. Source: Rao, Rawlings, Mayne,
    IEEE Trans. Automatic Control 48(2), 2003; Rawlings, Mayne, Diehl, "Model Predictive Control", 2017, chapter 4.

    **Arguments:**

    - `model`: the plant; an identified model as `rc.loops.ModelPlant`, whose state is estimated
    - `W`: covariance (nx, nx) of the process noise per sample, or its diagonal
    - `V`: covariance (ny, ny) of the measurement noise, or its diagonal
    - `x0`: prior mean (nx,), default the operating point, of a model its initial state
    - `P0`: prior covariance (nx, nx), default W
    - `horizon`: N, samples before the newest one
    - `x_limits`: lowest and highest states, one number or nx each, infinite where there is none
    - `w_limits`: lowest and highest process noise, likewise; 0 must lie between them
    - `arrival`: covariance (nx, nx) of the window's start, or its diagonal; default the extended Kalman filter's
    - `solver`: Gauss-Newton steps per sample, and iterations of each quadratic program

    **Raises:** `InvalidModelError` for a model of another class, covariances of the wrong shape or sign, limits that are no pair with
    low < high or do not enclose 0 (process noise), and numbers below 1; `RobustctlError` for limits without qpax.

    **Example:** ::

        sampled = rc.plants.Sampled(rc.plants.TwoTanks(), 2.0)
        estimator = rc.classical.moving_horizon(sampled, 0.1, 0.1, x_limits=(0.0, np.inf))    # levels are never negative
        controller = rc.classical.EstimateFeedback(estimator, rc.classical.lqr(sampled, [1.0, 1.0], 1.0).controller)
    """
    of_type(
        model, (Sampled, ModelPlant), "the model must be a Sampled plant or a ModelPlant",
        "rc.loops.ModelPlant(model) makes one of an identified model", InvalidModelError,
    )  # fmt: skip
    if not all(is_whole(value, 1) for value in (horizon, *solver)):
        raise InvalidModelError(
            f"horizon, steps and iterations must be whole numbers of at least 1, got {horizon} and {solver}"
        )
    model = noiseless(model) if isinstance(model, Sampled) else model
    start, ny = model.init_state(), model.ny
    nx = vector(start).size
    assert ny is not None  # a ModelPlant and a Sampled refuse models without
    W, V = weight(W, nx, "W", definite=False), weight(V, ny, "V", definite=True)
    P0 = W if P0 is None else weight(P0, nx, "P0", definite=False)
    x0 = np.asarray(vector(start) if x0 is None else x0, float)
    if x0.shape != (nx,) or not np.isfinite(x0).all():
        raise InvalidModelError(f"x0 must have {nx} finite entries, got {x0.tolist()}")
    x_bounds, w_bounds = _bounds(x_limits, nx, "x_limits"), _bounds(w_limits, nx, "w_limits")
    if (w_bounds[0] > 0).any() or (w_bounds[1] < 0).any():
        raise InvalidModelError(
            f"w_limits must enclose 0, no process noise, got {w_bounds.tolist()}; move what always acts into the model"
        )
    limited, w_limited = _limited(x_bounds), _limited(w_bounds)
    if any(limited + w_limited):
        require_qpax()
    own = None if arrival is None else as_array(weight(arrival, nx, "arrival", definite=False))
    parts = [as_array(a) for a in (W, V, P0, x0, x_bounds, w_bounds)]
    return MovingHorizonEstimator(
        model, *parts, arrival=own, horizon=horizon, limited=limited, w_limited=w_limited, solver=solver
    )


def _bounds(limits: tuple[ArrayLike, ArrayLike] | None, n: int, what: str) -> np.ndarray:
    """Return lowest and highest values (2, n)."""
    given = (-np.inf, np.inf) if limits is None else limits
    try:
        low, high = given
        found = np.stack([np.broadcast_to(np.asarray(bound, float), (n,)) for bound in (low, high)])
    except (ValueError, TypeError) as error:
        raise InvalidModelError(
            f"{what} must be a pair (low, high) of one number or {n} each, got {limits!r}"
        ) from error
    if not (found[0] < found[1]).all():
        raise InvalidModelError(f"{what} must have low < high everywhere, got {found.tolist()}")
    return found


def _limited(bounds: np.ndarray) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return which entries have a lowest value, and which a highest."""
    low, high = (tuple(np.flatnonzero(np.isfinite(bound)).tolist()) for bound in bounds)
    return low, high
