"""Linear model-predictive control that keeps its limits under bounded disturbances."""

from .mpc import MPC, designed
from .types import ArrayLike, PlantLike

PENALTY = 1e4
"""Cost of exceeding a limit of the states: it acts only from states for which no plan keeps the limits."""


def tube_mpc(
    plant: PlantLike,
    Q: ArrayLike,
    R: ArrayLike,
    disturbance: ArrayLike,
    *,
    horizon: int = 20,
    u_low: ArrayLike | None = None,
    u_high: ArrayLike | None = None,
    x_low: ArrayLike | None = None,
    x_high: ArrayLike | None = None,
    iterations: int = 40,
) -> MPC:
    """Design linear model-predictive control that keeps limits on controls and states under every bounded disturbance.

    ::

        x+ = A x + B u + E d,  |d_j| <= 1:     the plan of `mpc` with, at sample k, limits less sum_{j<k} |C (A - B K)^j E| 1
        x[N] in O less the same,               O the maximal robustly invariant set of the LQR

    From a state with a plan, the limits hold for ever: what is left of the plan, with the LQR after it, is a plan in the next sample,
    whatever d was. Elsewhere the limits of the states are exceeded as little as possible. Each step solves a quadratic program with qpax
    (`pip install 'robustctl[mpc]'`), so that limits hold to the accuracy of its solution. Source: L. Chisci, J. Rossiter, G. Zappa,
    "Systems with persistent disturbances: predictive control with restricted constraints", Automatica 37(7), 2001.

    **Arguments:**

    - `plant`: in discrete time, as for `linear_model`
    - `Q`: weight of the state, as for `lqr`
    - `R`: weight of the control, as for `lqr`
    - `disturbance`: E (nx, nd), what acts on the state in a sample
    - `horizon`: N, samples
    - `u_low`: lowest controls, in their units, default those of the plant's control signals
    - `u_high`: highest controls, likewise
    - `x_low`: lowest states, in their units, default none
    - `x_high`: highest states, likewise
    - `iterations`: largest number of the solver's iterations

    **Raises:** `InvalidModelError` as `mpc`, and for a disturbance that alone exceeds a limit; `RobustctlError` without qpax.

    **Example:** ::

        sampled = rc.plants.Sampled(rc.plants.TwoTanks(), 2.0)
        design = rc.classical.tube_mpc(sampled, [1.0, 1.0], 1.0, [0.05, 0.0], horizon=10, x_high=[12.0, 12.0])
    """
    return designed(
        plant, (Q, R), horizon, (u_low, u_high), (x_low, x_high), PENALTY, iterations, disturbance
    )
