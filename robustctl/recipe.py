"""Settings of an identification. It imports nothing, for the help of the command line."""

import dataclasses
from typing import Literal

ModelName = Literal["contracting", "lipschitz", "contracting-ren", "lipschitz-ren", "linear", "gru", "lstm"]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Settings of an identification; what is not given is chosen from the record.

    Args:
        model: What to fit; linear is the subspace model, gru and lstm are baselines without a guarantee.
        gamma: Certified gain of the lipschitz models, between signals scaled to standard deviation one.
        rate: Certified contraction rate per sample, in (0, 1].
        delay: Samples by which the inputs act late, one number or one for each.
        init: Where the network starts: linear, at the subspace model; prior, about it, which is not trained; memory, at slow modes.
        order: Order of the linear model that it is, or starts at.
        nx: Number of states.
        nv: Number of features of the network in the model.
        hidden: Widths of the hidden layers of an R2DN's network.
        activation: Elementwise function with slope in [0, 1].
        seeds: Models trained as one, whose average is returned; three where a longer training gains more.
        warm_up: Samples from which the initial state of a record is estimated.
        window: Samples of the random windows of a long record; 0 trains on whole experiments.
        batch: Windows per gradient step.
        validation: Share of each experiment in [0, 1) that is held out of each model, another part of each, and selects.
        minutes: Time limit of the identification.
        epochs: Passes of a training; fewer where the time limit leaves fewer.
        learning_rate: Of the first half of a training; it then falls to zero.
        seed: Seed of the initial weights and the windows.
    """

    model: ModelName = "contracting"
    gamma: float = 10.0
    rate: float = 1.0
    delay: tuple[int, ...] | None = None
    init: Literal["linear", "prior", "memory"] | None = None
    order: int | None = None
    nx: int | None = None
    nv: int | None = None
    hidden: tuple[int, ...] | None = None
    activation: Literal["relu", "tanh", "leaky_relu", "hard_tanh", "softplus"] = "relu"
    seeds: int = 6
    warm_up: int = 30
    window: int | None = None
    batch: int = 32
    validation: float = 0.25
    minutes: float = 5.0
    epochs: int | None = None
    learning_rate: float = 1e-2
    seed: int = 0
