"""The plants with an environment, and their sampling."""

from collections.abc import Callable
from typing import NamedTuple

from robustctl.plants import (
    BalanceArm,
    BalancePole,
    CartPole,
    HoldBall,
    HoldLevels,
    HoldProfile,
    Hover,
    LinearPlant,
    MagneticSuspension,
    PlanarQuadrotor,
    Plant,
    QuadrupleTank,
    ReactionDiffusion,
    RotaryPendulum,
    Signal,
    Task,
    TwoTanks,
)


class Entry(NamedTuple):
    """A plant with its task, sample time in seconds, solver steps per sample, and samples per episode."""

    plant: Callable[[], Plant]
    task: Callable[..., Task]
    dt: float
    substeps: int
    horizon: int


def oscillator() -> LinearPlant:
    """Return a weakly damped oscillator, force to position."""
    return LinearPlant(
        [[0.0, 1.0], [-4.0, -0.2]], [[0.0], [1.0]], [[1.0, 0.0]],
        states=(Signal("position", "m"), Signal("speed", "m/s")),
        controls=(Signal("force", "N", -5.0, 5.0),),
        disturbances=(Signal("push", "N"),),
        outputs=(Signal("position", "m"),),
    )  # fmt: skip


ENVIRONMENTS = {
    "Linear": Entry(oscillator, Task, 0.05, 1, 400),
    "MagneticSuspension": Entry(MagneticSuspension, HoldBall, 0.01, 1, 500),
    "RotaryPendulum": Entry(RotaryPendulum, BalanceArm, 0.02, 2, 500),
    "CartPole": Entry(CartPole, BalancePole, 0.02, 1, 500),
    "PlanarQuadrotor": Entry(PlanarQuadrotor, Hover, 0.02, 1, 400),
    "TwoTanks": Entry(TwoTanks, HoldLevels, 2.0, 1, 300),
    "QuadrupleTank": Entry(QuadrupleTank, HoldLevels, 2.0, 1, 300),
    "ReactionDiffusion": Entry(ReactionDiffusion, HoldProfile, 0.02, 1, 500),
}
