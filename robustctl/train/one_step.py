"""One-step prediction: the next sample from the measured one, without a simulation."""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
from jax.sharding import Mesh
from jaxtyping import Array, PRNGKeyArray, PyTree

from ..checks import renamed
from ..errors import RobustctlError
from ..runs.fingerprint import array_hash, model_hash
from .problem import Descend, Objective, Outcome, Problem, State, Steps, check_model

OneStepLoss = Callable[[Any, PyTree], Array]
"""`(system, batch) -> loss` of one batch."""


class OneStepObjective(Objective):
    """Batches on the device and the loss of one of them."""

    fixed: PyTree
    batches: PyTree
    loss: OneStepLoss
    mesh: Mesh | None = eqx.field(static=True, default=None)

    def epoch(self, state: State, descend: Descend) -> tuple[State, Steps]:
        """Take a gradient step a batch, always in one order."""

        def loss(trained, carry, batch):
            return self.loss(self.whole(trained).explicit(), batch), carry

        return descend(state, loss, None, self.batches)


@renamed()
@dataclasses.dataclass(frozen=True)
class OneStep(Problem[Outcome]):
    """Minimize the error of a model's next sample, given the measured one.

    ::

        min over free arrays   loss(explicit(), batch),     a gradient step for each batch, in their order

    **Arguments:**

    - `batches`: arrays whose first axis counts the batches: `(batches, samples, ...)`.
    - `loss`: `(system, batch) -> number`, the loss of one batch; a function made once, since a new one compiles again.
    - `free`: by default every floating-point array of the model is trained; else `free(model)` returns a tree of
      booleans in the model's shape.

    The result is an `Outcome` with the last good model.

    **Raises:** `RobustctlError` for batches that are not stacked alike.
    """

    batches: PyTree
    loss: OneStepLoss
    free: Callable[[Any], PyTree] | None = None

    def __post_init__(self):
        """Refuse batches that cannot be taken one after the other."""
        counts = {a.shape[0] if a.ndim else 0 for a in jax.tree.leaves(self.batches)}
        if len(counts) != 1 or 0 in counts:
            raise RobustctlError(
                f"batches must be arrays with as many batches along the first axis each, got {sorted(counts)}"
            )

    def prepare(self, model: Any, key: PRNGKeyArray) -> tuple[PyTree, OneStepObjective]:
        """Return the arrays to train and the objective."""
        check_model(model)
        free = eqx.is_inexact_array if self.free is None else self.free(model)
        trained, fixed = eqx.partition(model, free)
        return trained, OneStepObjective(fixed=fixed, batches=self.batches, loss=self.loss)

    def fingerprint(self, whole: Any) -> dict[str, str]:
        """Return hashes of the batches and of what is not trained."""
        free = eqx.is_inexact_array if self.free is None else self.free(whole)
        return {"data": array_hash(self.batches), "model": model_hash(eqx.partition(whole, free))}
