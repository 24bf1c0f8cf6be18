"""An observer whose state is the estimate itself."""

import equinox as eqx
import jax.numpy as jnp

from ..registry import registered
from ..system import Parameterization, System
from .guarantee import Recurrent, check_contracting


@registered()
class StateObserver(Parameterization):
    """Observer from `[u, y]` to the state: the contracting model's own state is the estimate, its output the identity.

    ::

        x_hat+ = f(x_hat, [u, y]),      |x_hat1 - x_hat2|_P <= rate^t |x_hat1(0) - x_hat2(0)|_P

    If the plant's trajectories are solutions, `x+ = f(x, [u, h(x)])`, then every estimate converges to the state at
    the contraction rate. Source: [BWM25], Sec. VI; Yi, Wang, Manchester, "Reduced-order nonlinear observers via
    contraction analysis and convex optimization", IEEE Trans. Automatic Control, 2022.

    **Arguments:**

    - `core`: a `ContractingR2DN` or `ContractingREN` with as many states as the plant's and the plant's controls and measured
      outputs for its inputs; its own output map is not used and stays where it is.

    **Raises:** `InvalidModelError` for another core.
    """

    core: Recurrent

    def __check_init__(self):
        """Refuse a core whose guarantee is on its output."""
        check_contracting(
            self.core, Recurrent, "the core must be a ContractingR2DN or ContractingREN",
            "a gain bound on the core's own output does not bound its state",
        )  # fmt: skip

    def explicit(self) -> System:
        """Map to the observer."""
        core = self.core.explicit()
        nx, nv, nu = core.bx.size, core.bv.size, core.B2.shape[1]
        dtype = core.A.dtype
        output = (
            jnp.eye(nx, dtype=dtype),
            jnp.zeros((nx, nv), dtype),
            jnp.zeros((nx, nu), dtype),
            jnp.zeros(nx, dtype),
        )
        return eqx.tree_at(lambda m: (m.C2, m.D21, m.D22, m.by), core, output)
