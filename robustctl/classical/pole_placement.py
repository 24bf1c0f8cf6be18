"""State feedback and observers by pole placement."""

from typing import NamedTuple

import control as ct
import numpy as np

from ..errors import InvalidModelError
from ..system import System
from .balance import reachable_sizes
from .lqg import about, observer_controller
from .lqr import StateFeedback
from .model import as_array, linear_model, require_discrete
from .modes import immovable, is_stable
from .policies import implement
from .summary import summary
from .types import ArrayLike, PlantLike


class PolePlacement(NamedTuple):
    """A design by pole placement.

    **Arguments:**

    - `K`: the gain, u = -K x
    - `L`: the observer's gain, None without an observer
    - `E`: the poles of A - B K
    - `controller`: the controller, from the state or, with an observer, from the measured output
    """

    K: np.ndarray
    L: np.ndarray | None
    E: np.ndarray
    controller: System

    __repr__ = summary


def pole_placement(
    plant: PlantLike,
    poles: ArrayLike,
    observer_poles: ArrayLike | None = None,
    *,
    dt: float | None = None,
) -> PolePlacement:
    """Design state feedback with the given poles, and optionally an observer with its own poles.

    ::

        eig(A - B K) = poles,     x_hat+ = A x_hat + B u + L (y - C x_hat),   eig(A - L C) = observer_poles

    Without `observer_poles` the controller reads the state, else the measured output. Computed by `control.place`
    (Tits and Yang, IEEE Trans. Automatic Control 41(10), 1996).

    **Arguments:**

    - `plant`: as for `linear_model`
    - `poles`: nx stable values; for a discrete-time plant `|p| < 1`. None may be repeated more often than there are
      controls (outputs, for the observer)
    - `observer_poles`: nx values for an observer
    - `dt`: the controller's sample time, for a continuous-time plant with an observer

    **Raises:** `InvalidModelError` for poles that are not nx in number, in conjugate pairs and stable, for an
    uncontrollable or unobservable mode, and for too many repetitions.

    **Example:** ::

        sampled = rc.plants.Sampled(rc.plants.TwoTanks(), 2.0)
        design = rc.classical.pole_placement(sampled, [0.8, 0.85], [0.4, 0.5])
    """
    model = linear_model(plant)
    sys = model.system
    K = _place(sys.A, sys.B, poles, model.discrete, "poles", "(A, B)")
    E = np.linalg.eigvals(sys.A - sys.B @ K)
    if observer_poles is None:
        none = np.zeros((0, sys.nstates))
        parts = (K, np.zeros((sys.ninputs, 0)), none, model.x, model.u, 1.0)
        return PolePlacement(
            K, None, E, StateFeedback(*(as_array(M) for M in parts), dt=float(sys.dt) or None)
        )
    step = require_discrete(model, dt, "the controller")
    L = _place(sys.A.T, sys.C.T, observer_poles, model.discrete, "observer_poles", "(C, A)").T
    none = np.zeros((0, sys.noutputs))
    controller = implement(observer_controller(model, K, L, none), step)
    assert controller is not None
    return PolePlacement(K, L, E, about(controller, model, none))


def _place(
    A: np.ndarray, B: np.ndarray, given: ArrayLike, discrete: bool, what: str, pair: str
) -> np.ndarray:
    poles = np.atleast_1d(np.asarray(given, complex))
    paired = np.allclose(np.sort_complex(poles), np.sort_complex(poles.conj()))
    if poles.size != A.shape[0] or not is_stable(poles, discrete) or not paired:
        where = "inside the unit circle" if discrete else "in the left half plane"
        raise InvalidModelError(
            f"{what} must be {A.shape[0]} values {where}, complex ones in conjugate pairs, got {poles}"
        )
    for mode in immovable(A, B):
        kind = "uncontrollable" if pair == "(A, B)" else "unobservable"
        raise InvalidModelError(
            f"every mode of {pair} must be movable, but the mode lambda = {mode:.6g} is {kind}; leave that state out"
        )
    t, s, rate = reachable_sizes(A, B, poles)
    rate = 1.0 if discrete else rate
    A, B, poles = A * t / t[:, None] / rate, B * s / t[:, None] / rate, poles / rate
    try:
        K = np.asarray(ct.place(A, B, np.real_if_close(poles)))
    except (ValueError, ct.ControlDimension) as error:
        raise InvalidModelError(
            f"no value of {what} may be repeated more than rank(B) times; move them apart a little ({error})"
        ) from error
    _check_placed(A - B @ K, poles, what)
    return K * s[:, None] / t


def _check_placed(A: np.ndarray, poles: np.ndarray, what: str) -> None:
    """Refuse a gain whose closed loop is not, up to rounding, one with the poles."""
    size = np.linalg.norm(A, 2)
    for pole in poles:
        # The distance to a matrix that has the pole. The pole itself may be far more sensitive, of a chain of equal ones.
        left = np.linalg.svd(A - pole * np.eye(len(A)), compute_uv=False)[-1] / size
        if not left < 1e-8:  # far above the rounding of a well-posed placement, 1e-14
            raise InvalidModelError(
                f"{what} must be reachable with a gain that rounding leaves intact, but {pole:.6g} is missed by {left:.3g} of the "
                "closed loop's size; choose poles nearer to the plant's own"
            )
