"""Small dense quadratic programs by qpax, in the scaling it works best in."""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..errors import RobustctlError


def require_qpax() -> None:
    """Raise where qpax is not installed.

    **Raises:** `RobustctlError` with what to install.
    """
    try:
        import qpax  # noqa: F401
    except ImportError as error:
        raise RobustctlError(
            "model-predictive control must have qpax; pip install 'robustctl[mpc]'"
        ) from error


def solve_qp(H: Array, f: Array, G: Array, h: Array, iterations: int) -> Array:
    """Return the minimizer of a strictly convex quadratic program, 0 where the solver finds none.

    ::

        minimize  z' H z / 2 + f' z    with    G z <= h

    Variables and rows are scaled to order one first. Differentiable, by the implicit function theorem in qpax.
    """
    import qpax

    if G.shape[0] == 0:
        return jnp.linalg.solve(H, -f)
    size = 1 / jnp.sqrt(jnp.diagonal(H))
    G = G * size[None]
    row = 1 / jnp.maximum(jnp.linalg.norm(G, axis=1), jnp.finfo(G.dtype).eps)
    least = 1 / jnp.maximum(1.0, jnp.max(jnp.abs(f * size)))
    tight = 1e-8 if H.dtype == jnp.float64 else 1e-4
    empty = jnp.zeros((0, f.size), H.dtype), jnp.zeros(0, H.dtype)
    # z = size * z', the cost divided by 1 / least, and z' by the same, so that f is of order one at most
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        z = qpax.solve_qp_primal(
            H * size[:, None] * size[None], f * size * least, *empty, G * row[:, None], h * row * least,
            solver_tol=tight, max_iter=iterations,
        )  # fmt: skip
    z = z * size / least
    return jnp.where(jnp.all(jnp.isfinite(z)), z, jnp.zeros_like(z))
