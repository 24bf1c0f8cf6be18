"""A bound on the norms of matrices in training, for networks whose free arrays do not bound them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PyTree

from ..checks import is_positive
from ..errors import RobustctlError

NAMES = ("weight", "weight_ih", "weight_hh")
"""What Equinox calls the matrices of its layers and cells."""

ROUNDING = 8
"""Units in the last place, for each row or column, by which a singular value decomposition and the step itself may miss the bound."""


def spectral_cap(limit: float = 1.0, *, names: tuple[str, ...] = NAMES) -> optax.GradientTransformation:
    """Return a transformation after which no matrix of a network has a norm above a limit, the last in a chain.

    ::

        W + update = U diag(s) V'   becomes   U diag(min(s, limit)) V'

    A network of matrices with that norm and activations of slope at most one has a Lipschitz constant of at most `limit` to the power of
    their number, which `rc.certify` and `rc.certificates.lipschitz` compute afterwards. Networks of `rc.nn` do not need it: their
    bound holds for every set of free arrays.

    **Arguments:**

    - `limit`: of the largest singular value, above 0.
    - `names`: of the arrays that are matrices of a network; all others are left as they are.

    **Raises:** `RobustctlError` for a limit that is not positive and finite.

    **Source:** the projection onto a ball of the spectral norm; for its use in training Newhouse et al., "Training transformers with
    enforced Lipschitz constants", arXiv 2507.13338, who approximate it by polynomials.

    **Example:** ::

        import optax

        optimizer = optax.chain(rc.train.clipped_adam(1e-3), rc.train.spectral_cap(1.0))
    """
    if not is_positive(limit):
        raise RobustctlError(f"limit must be a positive, finite norm, got {limit!r}")

    def update(updates: PyTree, state: optax.OptState, params: PyTree | None = None):
        if params is None:
            raise RobustctlError("spectral_cap needs the arrays that are trained; give params= to update")

        def capped(path, change: Array, W: Array) -> Array:
            is_matrix = jnp.ndim(W) == 2 and jax.tree_util.keystr(path[-1:], simple=True) in names
            return _capped(W + change, limit) - W if is_matrix else change

        return jax.tree.map_with_path(capped, updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _capped(W: Array, limit: float) -> Array:
    """Return the nearest matrix whose norm is at most the limit, rounding included."""
    U, s, V = jnp.linalg.svd(W, full_matrices=False)
    below = limit * (1 - ROUNDING * max(W.shape) * np.finfo(W.dtype).eps)
    # A matrix that is within the limit is left as it is, to the last bit.
    return jnp.where(s[0] <= below, W, (U * jnp.minimum(s, below)[None]) @ V)
