"""The dissipation inequality of a linear system in feedback with a static nonlinearity, in float64.

::

    x+ = A x + B1 w + B2 u,   v = C1 x + D11 w + D12 u,   y = C2 x + D21 w + D22 u

    [dv; dw]' Pi [dv; dw] >= 0                                  what is known of the nonlinearity
    M = S'PS - rate^2 X0'P X0 + [V; W]' Pi [V; W] - supply  < 0,   P > 0

with `S = [A B1 B2]`, `V = [C1 D11 D12]`, `W = [0 I 0]`, `X0 = [I 0 0]`. Without a supply rate the input is
the same for both trajectories and the columns of u drop out. Source: [RWM23], Theorem 1.
"""

from typing import NamedTuple

import numpy as np

from ..errors import InvalidModelError, RobustctlError
from ..lft import LFT, Claim, block_diagonal
from ..system import System
from .faults import check_sizes, claim_fault, form_fault

ROUNDING = float(np.finfo(np.float64).eps)

_LARGEST, _SMALLEST = 1e100, 1e-200
"""Of the entries that M is made of, and of its diagonal: the bound on rounding leaves underflow out. An underflow loses at most
5e-324, which another factor makes 5e-224: next to a diagonal entry of 1e-200 that is nothing."""


class NotDescribedError(InvalidModelError):
    """A system of which nothing can be proven because no form describes it; certificates give its message as their reason."""


class Inequality(NamedTuple):
    """A system's form and claim, and the quadratic form `Pi` of all its blocks, in the order of `[dv; dw]`.

    `fault`: why form or claim have no meaning, in words; then there is no `Pi` to read.
    """

    form: LFT
    claim: Claim
    Pi: np.ndarray
    fault: str = ""

    @property
    def network_bound(self) -> float | None:
        """The largest Lipschitz bound of a block, None without blocks."""
        return max((block.gain for block in self.form.blocks), default=None)


def inequality(system: System) -> Inequality | None:
    """Return the dissipation inequality of a system, None for one that does not describe itself.

    **Raises:** `InvalidModelError` for an `lft()` whose sizes are not those of `step`.
    """
    form = system.lft()
    if form is None:
        return None
    check_sizes(system, form)
    claim = system.claim or Claim()
    fault = form_fault(form) or claim_fault(form, claim)
    if claim.supply is not None and not fault:
        Q, S, R = claim.supply  # of R only the symmetric part counts in u'Ru
        claim = claim._replace(supply=(Q, S, (R + R.T) / 2))
    return Inequality(form, claim, np.zeros((0, 0)) if fault else blocks_form(form, claim), fault)


def described(system: System) -> list[tuple[System, Inequality | None]]:
    """Return each mode of a system with its inequality.

    **Raises:** `NotDescribedError` where `lft()` fails or there is no mode; `RobustctlError`, where the class itself refuses what it holds.
    """
    try:
        found = [(mode, inequality(mode)) for mode in system.modes()]
    except RobustctlError:
        raise
    except (TypeError, ValueError, LookupError, ArithmeticError) as error:
        raise NotDescribedError(
            f"{type(system).__name__} must describe itself, got {type(error).__name__}: {str(error)[:200]}"
        ) from error
    if not found:
        raise NotDescribedError("a system must have a mode to be in, got modes() that returns none")
    return found


def blocks_form(form: LFT, claim: Claim) -> np.ndarray:
    """Return one Pi for all blocks: each block's is in the order [v; w], the whole has every v before every w."""
    multipliers = claim.multipliers or tuple(np.ones(1) for _ in form.blocks)
    parts = [(block.form(T), block.nv) for block, T in zip(form.blocks, multipliers, strict=True)]
    vv, vw, ww = (
        block_diagonal([quarter(M, n) for M, n in parts])
        for quarter in (lambda M, n: M[:n, :n], lambda M, n: M[:n, n:], lambda M, n: M[n:, n:])
    )
    return np.vstack([np.hstack([vv, vw]), np.hstack([vw.T, ww])])


def quadratic_terms(f: Inequality) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
    """Return `S` and the pairs `(N, Q)` whose sum of `N'QN` is the part of M without P."""
    form, supply = f.form, f.claim.supply
    nx, nw, nu = form.nx, form.B1.shape[1], 0 if supply is None else form.nu
    S = np.hstack([form.A, form.B1, form.B2[:, :nu]])
    W = np.hstack([np.zeros((nw, nx)), np.eye(nw), np.zeros((nw, nu))])
    N = np.vstack([np.hstack([form.C1, form.D11, form.D12[:, :nu]]), W])
    terms = [(N, f.Pi)]
    if supply is not None:
        Q, S_uy, R = supply
        U = np.hstack([np.zeros((nu, nx + nw)), np.eye(nu)])
        YU = np.vstack([np.hstack([form.C2, form.D21, form.D22]), U])
        terms.append((YU, -np.block([[Q, S_uy.T], [S_uy, R]])))
    return S, terms


def margin(f: Inequality, P: np.ndarray, roundings: float = 1.0) -> float:
    """Return an upper bound on the largest eigenvalue of M over its largest entry; negative proves M < 0.

    M is first scaled by powers of two, which is exact and keeps its sign, and the rounding of its
    computation is bounded from the same products of absolute values and added: a negative answer is a
    proof, not an impression. Infinite where P is not positive definite or something is not finite or in range.
    `roundings`: how many times that bound the form's own entries may be off.
    """
    S, terms = quadratic_terms(f)
    arrays = [P, S, *(a for term in terms for a in term)]
    if P.shape != f.form.A.shape or not all(in_range(a) for a in arrays) or not positive_definite(P):
        return float("inf")
    nx = P.shape[0]
    with np.errstate(over="ignore", invalid="ignore"):
        M, size = sum_of_products([(S, P), *terms])
        M[:nx, :nx] -= f.claim.rate**2 * P
        size[:nx, :nx] += f.claim.rate**2 * np.abs(P)
        underflow = np.any(np.diag(size) < _SMALLEST)
        M, size = _balanced(M, size)
    if not np.isfinite(size).all() or underflow:
        return float("inf")
    # Two products of n terms and a sum: (2 n + 10) eps |size| at most (Higham 2002, chapter 3), the eigenvalues' own
    # rounding is n eps |M|; twice that covers inputs that are rounded themselves.
    n, roundings = len(M), max(roundings, f.form.roundings)
    rounding = 4 * (n + 10) * roundings * ROUNDING * (np.linalg.norm(size) + np.linalg.norm(M))
    largest = float(np.linalg.eigvalsh((M + M.T) / 2)[-1]) + rounding
    return float(largest / np.abs(M).max())


def in_range(array: np.ndarray) -> bool:
    """Return whether an array is finite and far enough from overflow for products of three."""
    return bool(np.abs(array).max(initial=0.0) < _LARGEST)


def sum_of_products(terms):
    """Return the sum of `N'QN` over pairs `(N, Q)`, and that of `|N|'|Q||N|`: the size of what was added up."""
    M = np.sum([N.T @ Q @ N for N, Q in terms], axis=0)
    size = np.sum([np.abs(N).T @ np.abs(Q) @ np.abs(N) for N, Q in terms], axis=0)
    return M, size


def _balanced(M, size):
    diagonal = np.diag(size)
    safe = np.where(diagonal > 0, diagonal, 1.0)
    # Powers of two: no digit changes, and by a congruence no eigenvalue changes its sign.
    d = np.exp2(-np.round(np.log2(safe) / 2))
    return d[:, None] * M * d, d[:, None] * size * d


def positive_definite(P: np.ndarray) -> bool:
    """Return whether a symmetric matrix is proven to be positive definite, rounding included."""
    if not (np.array_equal(P, P.T) and np.all(np.diag(P) > 0)):
        return False
    if not len(P):
        return True
    balanced, size = _balanced(P, np.abs(P))
    rounding = 4 * (len(P) + 10) * ROUNDING * np.linalg.norm(size)
    return bool(np.linalg.eigvalsh(balanced)[0] > rounding)
