"""One list of every plant, sampled as its tests and environments sample it."""

import numpy as np

from robustctl.plants import (
    BalanceArm,
    BalancePole,
    CartPole,
    HoldBall,
    HoldLevels,
    HoldProfile,
    HoldTemperature,
    Hover,
    LinearPlant,
    MagneticSuspension,
    PlanarQuadrotor,
    QuadrupleTank,
    ReactionDiffusion,
    RotaryPendulum,
    Sampled,
    StirredTankReactor,
    Task,
    TwoTanks,
)


def oscillator():
    return LinearPlant([[0.0, 1.0], [-4.0, -0.2]], [[0.0], [1.0]], [[1.0, 0.0]])


PLANTS = {
    "linear": (oscillator, Task, 0.1, 1),
    "magnetic suspension": (MagneticSuspension, HoldBall, 0.01, 1),
    "rotary pendulum": (RotaryPendulum, BalanceArm, 0.02, 2),
    "cart-pole": (CartPole, BalancePole, 0.02, 1),
    "planar quadrotor": (PlanarQuadrotor, Hover, 0.02, 1),
    "two tanks": (TwoTanks, HoldLevels, 2.0, 1),
    "quadruple tank": (QuadrupleTank, HoldLevels, 2.0, 1),
    "stirred tank reactor": (StirredTankReactor, HoldTemperature, 2.0, 20),
    "reaction-diffusion": (ReactionDiffusion, HoldProfile, 0.02, 1),
}
"""Name: plant, its task, sample time in seconds, solver steps a sample."""


def sampled(name, imperfections=None):
    make, _, dt, substeps = PLANTS[name]
    extra = {} if imperfections is None else {"imperfections": imperfections}
    return Sampled(make(), dt, substeps=substeps, **extra)


def weights(plant):
    """Weights of an LQG design that stabilizes any of them."""
    nx, nu, ny = len(plant.states), len(plant.controls), len(plant.outputs)
    return np.ones(nx), np.ones(nu), np.ones(nx), np.ones(ny)
