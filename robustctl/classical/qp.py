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


def all_or_nan(measured: Array) -> Array:
    """Return what a controller reads, NaN throughout unless all of it is finite.

    Solvers give a finite plan for measurements that are not: it would look like a control, and a guard could not see the fault.
    """
    return measured - jnp.where(jnp.all(jnp.isfinite(measured)), 0.0, jnp.nan)


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
    # qpax stops at an absolute tolerance, so variables and rows are scaled to order one: with z = size z' no entry of the diagonal of the
    # Hessian and of f exceeds one, `row` makes each row of G a unit vector. The large linear cost of a slack makes its own variable small;
    # dividing the whole cost by it would leave the plan a hundredth of the tolerance.
    tiny = jnp.finfo(f.dtype).tiny
    size = jnp.minimum(1 / jnp.sqrt(jnp.diagonal(H)), 1 / jnp.maximum(jnp.abs(f), tiny))
    G = G * size[None]
    row = 1 / jnp.maximum(jnp.linalg.norm(G, axis=1), jnp.finfo(G.dtype).eps)
    # half the digits of the dtype, which is what an interior point method reaches at an active constraint
    tolerance = 1e-8 if H.dtype == jnp.float64 else 1e-4
    empty = jnp.zeros((0, f.size), H.dtype), jnp.zeros(0, H.dtype)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        z = size * qpax.solve_qp_primal(
            H * size[:, None] * size[None], f * size, *empty, G * row[:, None], h * row,
            solver_tol=tolerance, max_iter=iterations,
        )  # fmt: skip
    return jnp.where(jnp.all(jnp.isfinite(z)), z, jnp.zeros_like(z))
