"""What a training without a validation loss returns: the last arrays that were evaluated."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .problem import State


def settled(state: State, validation: np.ndarray, losses_again: Callable[[State], Array]) -> State:
    """Return the state with the best arrays replaced by sound ones where their loss is not finite.

    Without a validation loss nothing has evaluated the arrays after the last step. The last epoch run again does.

    **Arguments:**

    - `state`: of one training, or of several, stacked.
    - `validation`: the history's validation losses.
    - `losses_again`: runs one epoch of a state, whose buffers it may take, and returns the history's losses.
    """
    last = np.asarray(state.epoch) - 1
    unknown = np.isnan(validation).all(-1) & (np.asarray(state.best_epoch) == np.asarray(state.trained_epoch))
    if not (unknown & (last >= 0)).any():
        return state
    own = jax.tree.map(jnp.copy, state)
    losses = np.asarray(losses_again(own._replace(epoch=own.epoch - 1, stopped=own.stopped & False)))
    finite = np.isfinite(np.take_along_axis(losses, last[..., None], -1))[..., 0]
    if (finite | ~unknown).all():
        return state
    keep = jnp.asarray(finite | ~unknown)

    def choose(best: Array, sound: Array) -> Array:
        return jnp.where(keep.reshape(keep.shape + (1,) * (best.ndim - keep.ndim)), best, sound)

    best, epoch = jax.tree.map(choose, (state.best, state.best_epoch), (state.sound, state.sound_epoch))
    return state._replace(best=best, best_epoch=epoch)
