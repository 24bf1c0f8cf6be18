"""Settings of an identification. It imports nothing, for the help of the command line."""

import dataclasses
from typing import Literal

ModelName = Literal["contracting", "lipschitz", "contracting-ren", "lipschitz-ren", "linear", "gru", "lstm"]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Settings of an identification; times are in samples of the log.

    Args:
        model: What to fit; linear, gru and lstm are baselines.
        gamma: Certified gain of the lipschitz models, between signals scaled to standard deviation one.
        rate: Certified contraction rate per sample, in (0, 1].
        nx: Number of states.
        nv: Number of features of the network in the model.
        hidden: Widths of the hidden layers of an R2DN's network.
        activation: Elementwise function with slope in [0, 1].
        warm_up: Samples from which the initial state is estimated.
        window: Length of the training windows; 0 trains on whole experiments, each from a trained initial state.
        stride: Samples from the start of one window to the next.
        batch: Windows per gradient step.
        validation: Share of each experiment, its last part, in [0, 1), that selects the best epoch; requires windows.
        epochs: Passes over the training data.
        learning_rate: Initial learning rate of Adam; it decays to zero along a cosine.
        seed: Seed of the initial weights and the order of the windows.
    """

    model: ModelName = "contracting"
    gamma: float = 10.0
    rate: float = 1.0
    nx: int = 4
    nv: int = 8
    hidden: tuple[int, ...] = (16,)
    activation: Literal["relu", "tanh", "leaky_relu", "hard_tanh", "softplus"] = "relu"
    warm_up: int = 30
    window: int = 0
    stride: int = 16
    batch: int = 16
    validation: float = 0.0
    epochs: int = 6000
    learning_rate: float = 1e-2
    seed: int = 0
