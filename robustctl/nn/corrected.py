"""A known model, and a contracting correction that reads its state."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.scipy.linalg as jsl
import numpy as np
from jaxtyping import Array

from ..errors import InvalidModelError
from ..linalg import exact_map
from ..registry import registered
from ..system import Parameterization
from .fixed import Fixed
from .guarantee import check_contracting
from .r2dn import R2DN, ExplicitR2DN


@registered()
class CorrectedR2DN(Parameterization):
    """A fixed, stable linear model with an R2DN that corrects it; contracting as a whole, whatever the free arrays.

    ::

        p+ = A p + B u + a,      y = C p + D u + d + c          the prior, for example a Kalman filter
        x, c                     of the core driven by [u, p]   the correction

    One stable system drives another, so the whole forgets its initial state at the core's rate; it is an R2DN itself, with the
    metric `blkdiag(s P_prior, P_core)`, and its certificate is checked as one. Source: the cascade is standard (Lohmiller,
    Slotine, "On contraction analysis for non-linear systems", Automatica 1998); its metric is ours.

    The prior's matrices are not trained. `rc.nn.quiet(core)` starts at the prior itself.

    **Arguments:**

    - `A`: of the prior, (np, np).
    - `B`: (np, nu).
    - `C`: (ny, np).
    - `D`: (ny, nu).
    - `a`: offset of the prior's state, (np,).
    - `d`: offset of its output, (ny,).
    - `core`: a `ContractingR2DN` with nu + np inputs and ny outputs.

    **Raises:** `InvalidModelError` for matrices that do not fit each other or the core, and for a prior that does not forget
    faster than the core's rate.
    """

    core: R2DN
    A: Fixed
    B: Fixed
    C: Fixed
    D: Fixed
    a: Fixed
    d: Fixed
    P: Fixed

    def __init__(self, A: Any, B: Any, C: Any, D: Any, a: Any, d: Any, *, core: R2DN):
        self.core = core
        self.A, self.B, self.C, self.D = (
            Fixed(np.atleast_2d(np.asarray(M, np.float64))) for M in (A, B, C, D)
        )
        self.a, self.d = (Fixed(np.ravel(np.asarray(v, np.float64))) for v in (a, d))
        _check_core(core)
        self.P = Fixed(prior_metric(self.A.exact, float(core.guarantee.rate)))

    def __check_init__(self):
        """Refuse a prior that does not fit the core or does not forget."""
        _check_core(self.core)
        prior_metric(self.A.exact, float(self.core.guarantee.rate))
        n, (ny, inputs) = len(self.A.words), (self.core.core.by.size, self.core.core.nu)
        nu = inputs - n
        for name, given, shape in (
            ("A", self.A, (n, n)),
            ("B", self.B, (n, nu)),
            ("C", self.C, (ny, n)),
            ("D", self.D, (ny, nu)),
            ("a", self.a, (n,)),
            ("d", self.d, (ny,)),
            ("P", self.P, (n, n)),
        ):
            M = given.exact
            if M.shape != shape or not np.isfinite(M).all():
                raise InvalidModelError(
                    f"{name} must be finite and of shape {shape} for a prior of {n} states and a core of {inputs} inputs and "
                    f"{ny} outputs, got {M.tolist()}"
                )

    @exact_map
    def explicit(self) -> ExplicitR2DN:
        """Map to the whole observer; differentiable, one solve with an (nx, nx) matrix."""
        dtype = self.core.core.X.dtype
        fixed = (self.A, self.B, self.C, self.D, self.a, self.d, self.P)
        A, B, C, D, a, d, P = (M.value(dtype) for M in fixed)
        k: Any = self.core.explicit()
        n, nu = B.shape
        (B2u, B2p), (D12u, D12p), (D22u, D22p) = ((M[:, :nu], M[:, nu:]) for M in (k.B2, k.D12, k.D22))
        return ExplicitR2DN(
            A=jnp.block([[A, jnp.zeros((n, k.bx.size), dtype)], [B2p, k.A]]),
            B1=jnp.vstack([jnp.zeros((n, k.bv.size), dtype), k.B1]),
            B2=jnp.vstack([B, B2u]), C1=jnp.hstack([D12p, k.C1]), C2=jnp.hstack([C + D22p, k.C2]),
            D12=D12u, D21=k.D21, D22=D + D22u,
            bx=jnp.concatenate([a, k.bx]), bv=k.bv, by=k.by + d, phi=k.phi,
            P=jsl.block_diag(_weight(k, B2p, D12p) * P, k.P), supply=None, rate=k.rate,
        )  # fmt: skip

    def quiet(self, factor: float = 1e-2) -> "CorrectedR2DN":
        """Return the model with its correction scaled down by `factor`, so that it starts at the prior."""
        return eqx.tree_at(lambda m: m.core, self, self.core.quiet(factor))


def _check_core(core: R2DN) -> None:
    check_contracting(core, R2DN, "the core must be a ContractingR2DN")


def prior_metric(A: np.ndarray, rate: float) -> np.ndarray:
    """Return the P of `A'PA - rate^2 P = -I`, or raise `InvalidModelError` where A does not forget faster than the rate."""
    import scipy.linalg  # slow to import

    if A.ndim != 2 or A.shape[0] != A.shape[1] or not np.isfinite(A).all():
        raise InvalidModelError(f"A must be finite and square, got {A.tolist()}")
    slowest = np.abs(np.linalg.eigvals(A)).max()
    if not slowest < rate:
        raise InvalidModelError(
            f"the prior must forget faster than the core's rate {rate:g}, but A has an eigenvalue of size {slowest:.6g}; give "
            "it a gain from the measured output (rc.classical.kalman), or the core a larger rate"
        )
    # (A / rate)' P (A / rate) - P = -I / rate^2 is the inequality divided by rate^2.
    P = scipy.linalg.solve_discrete_lyapunov(A.T / rate, np.eye(len(A)) / rate**2)
    return (P + P.T) / 2


def _weight(k: ExplicitR2DN, B2p: Array, D12p: Array) -> Array:
    """An s with `s I >= K + N' (-M)^-1 N`: M the core's dissipation matrix, N and K what p adds to it."""
    S, V = jnp.hstack([k.A, k.B1]), jnp.hstack([k.C1, jnp.zeros_like(k.C1 @ k.B1)])
    nv = k.bv.size
    M = S.T @ k.P @ S + V.T @ V - jsl.block_diag(k.rate**2 * k.P, jnp.eye(nv, dtype=S.dtype))
    N = S.T @ k.P @ B2p + V.T @ D12p
    K = B2p.T @ k.P @ B2p + D12p.T @ D12p
    # Schur complement: with s times the prior's -I the whole is negative for s I > K - N' M^-1 N; 1 and 2 leave it room.
    return 1 + 2 * jnp.linalg.norm(K - N.T @ jnp.linalg.solve(M, N))
