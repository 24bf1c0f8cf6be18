"""The core of every R2DN here: a linear system of gain at most one, from free arrays.

[BWM25] Barbara, Wang, Manchester, "R2DN: Scalable parameterization of contracting and Lipschitz recurrent
deep networks", arXiv 2504.01250; the free feedthrough and the rate below extend it.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from ..linalg import contraction, defect_factor, gram, polar_gram


def bounded_real(
    X: Float[Array, "n2 n2"],
    p: Float[Array, ""],
    Y: Float[Array, "nx nx"],
    B_imp: Float[Array, "nx ns"],
    C: Float[Array, "nr nx"],
    D: Float[Array, "nr ns"] | None,
    rate: Float[Array, ""] | float,
) -> tuple[Float[Array, "nx nx"], Float[Array, "nx ns"], Float[Array, "nx nx"]]:
    """Return `(A, B, P)` such that `x+ = A x + B s`, `r = C x + D s` has gain at most one at the given rate.

    ::

        V(x+) - rate^2 V(x) <= |s|^2 - |r|^2,   V(x) = x' P x

        Rbar  = I - D'D,  T = -C'D
        H     = p^2 X'X / |X|_F^2 + eps I
        P_imp = H22 + B_imp Rbar^-1 B_imp'
        F     = H21 + B_imp Rbar^-1 T'
        E     = (H11 + P_imp / rate^2 + C'C + T Rbar^-1 T' + Y - Y') / 2
        A = E^-1 F,  B = E^-1 B_imp,  P = E' P_imp^-1 E

    holds for every value of `X, p, Y, B_imp, C` and every `D` with `|D| < 1`. Here `s` stacks the inputs
    (w, u) and `r` the outputs (v, y); with `s = w`, `r = v` and `D = 0`, for which None costs nothing, it is the contracting form of
    [BWM25], eq. (14). `rate` is in (0, 1].
    """
    nx = Y.shape[0]
    H = polar_gram(X, p)
    BB, BT, TT = _completed_square(B_imp, C, D)
    P_imp = H[nx:, nx:] + BB
    F = H[nx:, :nx] + BT
    E = (H[:nx, :nx] + P_imp / rate**2 + gram(C) + TT + Y - Y.T) / 2
    AB = jnp.linalg.solve(E, jnp.concatenate([F, B_imp], axis=1))
    P = E.T @ jnp.linalg.solve(P_imp, E)
    return AB[:, :nx], AB[:, nx:], (P + P.T) / 2


def _completed_square(B_imp, C, D):
    """Return `B Rbar^-1 B'`, `B Rbar^-1 T'` and `T Rbar^-1 T'`."""
    nx = B_imp.shape[0]
    if D is None:
        zero = jnp.zeros((nx, nx), B_imp.dtype)
        return gram(B_imp.T), zero, zero
    M = defect_factor(D)
    stacked = jnp.linalg.solve(M, jnp.concatenate([B_imp, -C.T @ D]).T).T
    BR, TR = stacked[:nx], stacked[nx:]
    return gram(BR.T), BR @ TR.T, gram(TR.T)


def feedthrough(
    G12: Float[Array, "_a _b"],
    G21: Float[Array, "_c _d"],
    G22: Float[Array, "_e _f"],
    sizes: tuple[int, int, int],
) -> tuple[Float[Array, "nv nu"], Float[Array, "ny nv"], Float[Array, "ny nu"]]:
    """Return `(D12, D21, D22)` with `|[[0, D12], [D21, D22]]| < 1`, all such triples being reached.

    ::

        D12 = N12,  D21 = N21,  D22 = L W M',   L L' = I - N21 N21',  M M' = I - N12' N12

    for contractions `N12, N21, W` (Parrott's theorem). `sizes` is `(nu, nv, ny)`.
    """
    nu, nv, ny = sizes
    D12, D21 = contraction(G12, (nv, nu)), contraction(G21, (ny, nv))
    L, M = defect_factor(D21.T), defect_factor(D12)
    return D12, D21, L @ contraction(G22, (ny, nu)) @ M.T
