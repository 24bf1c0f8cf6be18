"""Small dense quadratic programs with qpax, scaled to order one."""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..errors import RobustctlError


def require_qpax() -> None:
    """Refuse to continue without qpax.

    **Raises:** `RobustctlError` with the command that installs it.
    """
    try:
        import qpax  # noqa: F401
    except ImportError as error:
        raise RobustctlError(
            "qpax must be installed for model-predictive control; pip install 'robustctl[mpc]'"
        ) from error


def solve_qp(H: Array, f: Array, G: Array, h: Array, iterations: int) -> Array:
    """Return the minimizer of a strictly convex quadratic program, or 0 if the solver finds none.

    ::

        minimize  z' H z / 2 + f' z    with    G z <= h

    Differentiable, by the implicit function theorem in qpax.

    **Arguments:**

    - `H`: (n, n), quadratic cost
    - `f`: (n,), linear cost
    - `G`: (m, n), of the constraints
    - `h`: (m,), their right side
    - `iterations`: largest number of interior-point iterations
    """
    import qpax

    if G.shape[0] == 0:
        return jnp.linalg.solve(H, -f)
    # qpax stops at an absolute tolerance, so variables, rows and cost are scaled to order one: with z = size z' / least
    # the Hessian has a diagonal of one, `least` makes f at most one, `row` makes each row of G a unit vector.
    size = 1 / jnp.sqrt(jnp.diagonal(H))
    G = G * size[None]
    row = 1 / jnp.maximum(jnp.linalg.norm(G, axis=1), jnp.finfo(G.dtype).eps)
    least = 1 / jnp.maximum(1.0, jnp.max(jnp.abs(f * size)))
    # half the digits of the dtype, which is what an interior point method reaches at an active constraint
    tolerance = 1e-8 if H.dtype == jnp.float64 else 1e-4
    empty = jnp.zeros((0, f.size), H.dtype), jnp.zeros(0, H.dtype)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        z = qpax.solve_qp_primal(
            H * size[:, None] * size[None], f * size * least, *empty, G * row[:, None], h * row * least,
            solver_tol=tolerance, max_iter=iterations,
        )  # fmt: skip
    z = z * size / least
    return jnp.where(jnp.all(jnp.isfinite(z)), z, jnp.zeros_like(z))
