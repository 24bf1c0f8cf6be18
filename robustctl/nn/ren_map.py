"""The map from the free arrays of a REN to its matrices.

[RWM23] Revay, Wang, Manchester, "Recurrent equilibrium networks: flexible dynamic models with guaranteed
stability and robustness", IEEE TAC 2023.
"""

import jax.numpy as jnp
import jax.scipy.linalg as jsl
from jaxtyping import Array, Float

from .either_array import defect_factor, gram, library


def explicit_matrices(H, Y, B2_imp, D12_imp, rate: Float[Array, ""]) -> dict[str, Array]:
    """Return `A B1 B2 C1 D11 D12 Lambda P` of `ExplicitREN` from a positive definite `H`.

    ::

        E x+ = F x + B1_imp w + B2_imp u,    Lambda v = C1_imp x + D11_imp w + D12_imp u

            [ E + E' - P_imp / rate^2   -C1_imp'                       F'      ]
        H = [ -C1_imp                   2 Lambda - D11_imp - D11_imp'  B1_imp' ]
            [ F                         B1_imp                         P_imp   ]

        A = E^-1 F,  B = E^-1 B_imp,  C1 = Lambda^-1 C1_imp,  D1 = Lambda^-1 D1_imp,  P = E' P_imp^-1 E

    with Y - Y' for twice the skew part of E. Source: [RWM23], eqs. (19) and (29).
    """
    nx, nv = Y.shape[0], D12_imp.shape[0]
    H11, H21, H22 = H[:nx, :nx], H[nx:-nx, :nx], H[nx:-nx, nx:-nx]
    F, B1_imp, P_imp = H[-nx:, :nx], H[-nx:, nx:-nx], H[-nx:, -nx:]
    # H22 = 2 Lambda - D11_imp - D11_imp' with D11_imp strictly lower: its diagonal is 2 Lambda, its lower part -D11_imp.
    Lambda = jnp.diagonal(H22) / 2
    E = (H11 + P_imp / rate**2 + Y - Y.T) / 2
    state = jnp.linalg.solve(E, jnp.concatenate([F, B1_imp, B2_imp], axis=1))
    neuron = jnp.concatenate([-H21, -jnp.tril(H22, -1), D12_imp], axis=1) / Lambda[:, None]
    # P = E' P_imp^-1 E = (L^-1 E)' (L^-1 E), L L' = P_imp: semidefinite and symmetric however it is rounded.
    root = jsl.solve_triangular(jnp.linalg.cholesky(P_imp), E, lower=True)
    P = gram(root)
    A, B1, B2 = jnp.split(state, (nx, nx + nv), axis=1)
    C1, D11, D12 = jnp.split(neuron, (nx, nx + nv), axis=1)
    return dict(A=A, B1=B1, B2=B2, C1=C1, D11=D11, D12=D12, Lambda=Lambda, P=(P + P.T) / 2)


def port_factors(D22):
    """Return `(L, M, W)` of `UnitGainREN`."""
    L, M = defect_factor(D22.T), defect_factor(D22)
    return L, M, L.T @ jsl.solve_triangular(M, D22.T, lower=True).T


def port_gram(B2_free, C2_free, D12_free, D21_free, W):
    """Return `[o' k] [I -W; -W' I] [o; k']`, as a sum of squares; of NumPy arrays in NumPy."""
    xp, (nx, nu) = library(W), B2_free.shape
    o = xp.concatenate([C2_free, D21_free, xp.zeros((W.shape[0], nx), W.dtype)], axis=1)
    k = xp.concatenate([xp.zeros((nx, nu), W.dtype), -D12_free, B2_free])
    # [I -W; -W' I] = [I; -W'] [I -W] + blkdiag(0, I - W'W): both terms are squares, since |W| < 1.
    rest = o - W @ k.T
    return gram(rest) + k @ (xp.eye(nu, dtype=W.dtype) - gram(W)) @ k.T
