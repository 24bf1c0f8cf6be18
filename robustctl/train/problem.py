"""Problems: what a training minimizes, and what the engine changes and reports."""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

import equinox as eqx
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from ..checks import of_type
from ..runs.devices import replicate
from ..system import Parameterization
from .health import Health, Trouble


class State(NamedTuple):
    """Everything that training changes; epochs and steps count from zero, -1: there was none.

    **Arguments:**

    - `trained`: the arrays after the last step, which the next step evaluates.
    - `trained_epoch`: epoch of the step that gave them.
    - `sound`: the last arrays with finite loss and gradient.
    - `sound_epoch`: epoch of the step that gave them.
    - `opt_state`: the optimizer's.
    - `best`: the arrays to return.
    - `best_loss`: their validation loss.
    - `best_epoch`: their epoch.
    - `epoch`: epochs done.
    - `step`: gradient steps tried.
    - `health`: steps skipped.
    - `stopped`: whether training is over before its last epoch.
    """

    trained: PyTree
    trained_epoch: Int[Array, ""]
    sound: PyTree
    sound_epoch: Int[Array, ""]
    opt_state: PyTree
    best: PyTree
    best_loss: Float[Array, ""]
    best_epoch: Int[Array, ""]
    epoch: Int[Array, ""]
    step: Int[Array, ""]
    health: Health
    stopped: Bool[Array, ""]


class Steps(NamedTuple):
    """Loss and gradient norm of each gradient step of an epoch."""

    losses: Float[Array, "..."]
    norms: Float[Array, "..."]


StepLoss = Callable[[PyTree, PyTree, PyTree], tuple[Array, PyTree]]
"""`(trained, carry, batch) -> (loss, next carry)`; the gradient does not go through the carry."""

Descend = Callable[[State, StepLoss, PyTree, PyTree], tuple[State, Steps]]
"""`(state, loss, first carry, batches) -> (state, steps)`: one gradient step a batch, the batches stacked along the first axis."""


def check_model(model: Any) -> None:
    """Raise `RobustctlError` unless a model is a parameterization."""
    must = "the model must be a Parameterization; give what explicit() is called on"
    of_type(model, Parameterization, must)


class Objective(eqx.Module):
    """A problem with its model, ready to compile: the arrays that an epoch reads, and how it goes.

    Arrays are arguments of the compiled program. All else is a part of it and must compare equal for equal settings:
    a function that is made again for each training compiles the program again.

    `fixed`: what of the model is not trained; `mesh`: the devices that the arrays are on, None for one.
    """

    fixed: eqx.AbstractVar[PyTree]
    mesh: eqx.AbstractVar[Mesh | None]

    @abc.abstractmethod
    def epoch(self, state: State, descend: Descend) -> tuple[State, Steps]:
        """Take the gradient steps of one epoch from `state.trained`, by one or more calls of `descend`."""

    def validate(self, trained: PyTree) -> Float[Array, ""] | None:
        """Return the loss that selects the best epoch, None to take the last."""
        return None

    def whole(self, trained: PyTree) -> Any:
        """Return trained and fixed arrays together."""
        return eqx.combine(trained, self.fixed)

    def shown(self, trained: PyTree) -> Any:
        """Return the model that a callback is given."""
        return self.whole(trained)

    def on(self, mesh: Mesh | None) -> "Objective":
        """Return the objective with its arrays on every device of the mesh."""
        return replicate(dataclasses.replace(self, mesh=mesh), mesh)  # pyright: ignore[reportCallIssue]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a training returns.

    **Arguments:**

    - `model`: the best by the validation loss, without one the last with finite loss and gradient.
    - `history`: arrays with one entry an epoch: `loss`, `validation` (NaN without one), `gradient_norm`,
      `learning_rate` (NaN for an optimizer that does not show it, see `clipped_adam`), `skipped` (gradient steps that
      were not finite) and `certificate_margin` (NaN where no callback gave one).
    - `best_epoch`: counted from 0; -1: there was none.
    - `stopped`: "finished", "patience", "interrupted", "time budget" or "not finite".
    - `trouble`: what was not finite, None where everything was.
    - `seconds`: wall time of this call, compilation included.
    - `optimizer_state`: the optimizer's state at the end.
    """

    model: Any
    history: dict[str, np.ndarray]
    best_epoch: int
    stopped: str
    trouble: Trouble | None
    seconds: float
    optimizer_state: PyTree = dataclasses.field(default=None, repr=False)

    @property
    def caution(self) -> str:
        """What speaks against the model although training went well, in words, or ""."""
        epochs, selected = len(self.history["loss"]), not np.isnan(self.history["validation"]).all()
        if self.trouble is None and epochs and self.best_epoch < 0:
            return (
                "no epoch gave a model with a finite loss and gradient, so the model is the untrained one; use a smaller learning rate or "
                "look at the data"
            )
        if self.trouble is None and not selected and self.best_epoch < epochs - 1:
            return (
                f"loss or gradient of the model after the last step was not finite, so the model is that of epoch {self.best_epoch}; "
                "use a smaller learning rate"
            )
        return ""


Result = TypeVar("Result", bound=Outcome)


class Problem(abc.ABC, Generic[Result]):
    """What a training minimizes, without model and optimizer: `rc.train.train(problem, model, ...)` solves it.

    Your own problem defines what is trained, what an epoch does, and what must be the same for a run to be resumed::

        class Loss(rc.train.Objective):
            fixed: PyTree
            batches: PyTree  # arrays, one batch a gradient step along the first axis
            mesh: None = None

            def epoch(self, state, descend):
                def loss(trained, carry, batch):
                    return my_loss(self.whole(trained).explicit(), batch), carry

                return descend(state, loss, None, self.batches)

        @dataclasses.dataclass(frozen=True)
        class Mine(rc.train.Problem):
            batches: PyTree

            def prepare(self, model, key):
                trained, fixed = eqx.partition(model, eqx.is_inexact_array)
                return trained, Loss(fixed, self.batches)

            def fingerprint(self, whole):
                return {"data": rc.runs.array_hash(self.batches), "model": rc.runs.model_hash(whole)}
    """

    @abc.abstractmethod
    def prepare(self, model: Any, key: PRNGKeyArray) -> tuple[PyTree, Objective]:
        """Return the arrays to train, at their first values, and the objective; `key`: for its random draws.

        **Raises:** `RobustctlError` where model and problem do not fit, before anything is written.
        """

    @abc.abstractmethod
    def fingerprint(self, whole: Any) -> dict[str, str]:
        """Return what a run is recognized by when it is resumed, by name: hashes of data and of the untrained model."""

    def settings(self) -> dict[str, Any]:
        """Return the settings that must be the same for a run to be resumed."""
        return {}

    def sizes(self, objective: Any) -> dict[str, int]:
        """Return, by name, the numbers that the number of devices must divide."""
        return {}

    def result(self, outcome: Outcome) -> Result:
        """Return what `train` returns; `outcome.model` is the best model, `Objective.whole` of its arrays."""
        return outcome  # pyright: ignore[reportReturnType]
