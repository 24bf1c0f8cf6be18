"""The core of every R2DN here: a linear system of gain at most one, from free arrays.

[BWM25] Barbara, Wang, Manchester, "R2DN: Scalable parameterization of contracting and Lipschitz recurrent
deep networks", arXiv 2504.01250; the free feedthrough and the rate below extend it.
"""

from typing import Any

from jaxtyping import Array, Float

from ..linalg import contraction, polar_gram
from .either_array import defect_factor, divided, gram, library, solves


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
    return of_gram(polar_gram(X, p), Y, B_imp, C, D, rate)


def of_gram(H, Y, B_imp, C, D, rate) -> tuple[Any, Any, Any]:
    """Return `(A, B, P)` as `bounded_real` does, from its `H`; of NumPy arrays in NumPy."""
    nx = len(Y)
    BB, BT, TT = completed_square(B_imp, C, D)
    # z = E x turns the inequality into one that is linear in E, F, B_imp and P_imp; H is what it leaves positive definite.
    P_imp = H[nx:, nx:] + BB
    F = H[nx:, :nx] + BT
    # The first block fixes the symmetric part of E, E + E' = H11 + ...; the skew part Y - Y' is free.
    E = (H[:nx, :nx] + P_imp / rate**2 + gram(C) + TT + Y - Y.T) / 2
    A, B = solves(E, F, B_imp)
    P = E.T @ library(E).linalg.solve(P_imp, E)
    # A proof needs a P that is symmetric to the last bit.
    return A, B, (P + P.T) / 2


def completed_square(B_imp, C, D) -> tuple[Any, Any, Any]:
    """Return `B Rbar^-1 B'`, `B Rbar^-1 T'` and `T Rbar^-1 T'`, all three with one square root of `Rbar`."""
    if D is None:
        nx = len(B_imp)
        zero = library(B_imp).zeros((nx, nx), B_imp.dtype)
        return gram(B_imp.T), zero, zero
    # Rbar = M M', so B Rbar^-1 B' = (M^-1 B')' (M^-1 B'): the Gram matrix keeps it symmetric and semidefinite when rounded.
    BR, TR = divided(defect_factor(D), B_imp, -C.T @ D)
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
    return D12, D21, corner(D12, D21, contraction(G22, (ny, nu)))


def corner(D12, D21, W) -> Any:
    """Return the D22 of `feedthrough`; of NumPy arrays in NumPy."""
    # Parrott: with L and M the defects of the row [D21, .] and the column [D12; .], every contraction W fills the corner.
    return defect_factor(D21.T) @ W @ defect_factor(D12).T
