"""Steps that meet something that is not finite: skipped, the rate cut, and what a person needs to know of them."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

LIMIT = 10
"""Steps in a row that are not finite after which training ends."""
_CUT, _REGROWTH = 0.5, 1.02


class Health(NamedTuple):
    """How many steps were skipped, and what the first of them met. Steps and epochs count from zero; -1: none."""

    scale: Float[Array, ""]
    in_a_row: Int[Array, ""]
    skipped: Int[Array, ""]
    first_step: Int[Array, ""]
    first_epoch: Int[Array, ""]
    first_array: Int[Array, ""]
    hopeless: Bool[Array, ""]


@dataclasses.dataclass(frozen=True)
class Trouble:
    """What was not finite in a training.

    **Arguments:**

    - `step`: the first gradient step skipped for it, counted from 0.
    - `epoch`: of that step, counted from 0.
    - `array`: the first that was not finite: the loss, the gradient of an array, or the array after the step.
    - `skipped`: steps skipped in all.
    - `fatal`: whether ten in a row ended the training.
    """

    step: int
    epoch: int
    array: str
    skipped: int
    fatal: bool

    def __str__(self) -> str:
        """Return the diagnosis and what to do."""
        text = (
            f"{self.array} was not finite at gradient step {self.step} (epoch {self.epoch}); {self.skipped} "
            f"such steps were skipped and the learning rate cut after each"
        )
        if self.fatal:
            text += f"; {LIMIT} in a row ended the training, and the last model with finite loss and gradient was returned"
        return text + "; use a smaller learning rate or a shorter segment"


def healthy(dtype) -> Health:
    """Return the health before the first step."""
    zero, none = jnp.zeros((), jnp.int32), jnp.full((), -1, jnp.int32)
    return Health(jnp.ones((), dtype), zero, zero, none, none, none, jnp.zeros((), bool))


def learn(
    health: Health, step: Array, epoch: Array, loss: Array, slope: PyTree, trained: PyTree
) -> tuple[Bool[Array, ""], Health]:
    """Return whether to take the step, and the health after it.

    A step that is not finite halves the scale of those to come; each good one raises it by 2 %, up to one.
    """
    finite = jnp.stack([jnp.all(jnp.isfinite(a)) for a in (loss, *jax.tree.leaves((slope, trained)))])
    good = jnp.all(finite)
    in_a_row = jnp.where(good, 0, health.in_a_row + 1)
    first = ~good & (health.first_step < 0)

    def latch(new, old):
        return jnp.where(first, new.astype(jnp.int32), old)

    grown = jnp.minimum(1, health.scale * _REGROWTH)
    return good & ~health.hopeless, Health(
        scale=jnp.where(good, grown, health.scale * _CUT),
        in_a_row=in_a_row,
        skipped=health.skipped + (~good & ~health.hopeless).astype(jnp.int32),
        first_step=latch(step, health.first_step),
        first_epoch=latch(epoch, health.first_epoch),
        first_array=latch(jnp.argmin(finite), health.first_array),
        hopeless=health.hopeless | (in_a_row >= LIMIT),
    )


def diagnosis(health: Health, trained: PyTree) -> Trouble | None:
    """Return what the skipped steps met, None where none was skipped."""
    if int(health.skipped) == 0:
        return None
    names = [
        jax.tree_util.keystr(path, simple=True, separator=".")
        for path, _ in jax.tree_util.tree_leaves_with_path(trained)
    ]
    met = [
        "the loss",
        *(f"the gradient of {name}" for name in names),
        *(f"{name} after the step" for name in names),
    ]
    return Trouble(
        int(health.first_step), int(health.first_epoch), met[int(health.first_array)], int(health.skipped),
        bool(health.hopeless),
    )  # fmt: skip
