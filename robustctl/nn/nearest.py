"""A linear model in coordinates in which it keeps a guarantee in the identity's metric, and the nearest one where it does not keep it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..errors import InvalidModelError
from ..lft import block_diagonal
from ..linalg import headroom, response, slack
from .inverse import Rates, outside_ports, within_ports

MARGIN, ROOM = 16, 6
"""Slacks of its dtype that the slowest mode stays within the rate, and the norm of the linear part below one: ports need room."""

LEAST, MOST = 1e-7, 0.03
"""Of a slack over rate^2 in these: the solvers of Gramians need more, and nothing is left with more."""

HALVINGS = 8
"""Of the distance from the slowest mode to the rate, and of the interval in which the largest gain lies."""

FASTER = 9
"""Radii of the slowest mode that are tried where the gain is too large, each by a factor of the square root of 2 farther from the rate."""

EXACT = 1e-6
"""Part of the impulse response that is rounding."""

FAINT = 1e-7
"""Of a Gramian's right side, for directions that input or output do not reach."""


class StateSpaceModel(NamedTuple):
    """`x+ = A x + B u + bx`, `y = C x + D u + by` in float64."""

    A: np.ndarray
    B: np.ndarray
    C: np.ndarray
    D: np.ndarray
    bx: np.ndarray
    by: np.ndarray


def nearest(m: StateSpaceModel, rate: float, supply: Rates | None, dtype) -> tuple[StateSpaceModel, float]:
    """Return a model that keeps a guarantee in the metric of the identity, and the part of the impulse response given up for it.

    ::

        given up = |G - G_nearest|_2 / |G|_2          (square sums of the impulse responses)

    Modes slower than the rate are moved onto its circle, with B fitted again; a gain beyond the supply rate is reduced by one factor.
    """
    radius = rate * (1 - _distance(MARGIN, rate, dtype))
    if supply is None:
        at_rate = _at_rate(m, radius)
        found = _in_coordinates(at_rate, *_gramians(at_rate, _between(at_rate.A, rate, 1)))
        # Gramians of nearly uncontrollable states are inexact.
        largest = rate * (1 - _distance(ROOM, rate, dtype))
        found = found._replace(A=found.A * min(1.0, largest / max(np.linalg.norm(found.A, 2), LEAST)))
        return found, _given_up(m, found)
    return _bounded(m, radius, rate, supply, dtype)


def _distance(slacks: int, rate: float, dtype) -> float:
    # In the map's H a state weighs rate^2 of the other blocks.
    return slacks * min(max(slack(dtype) / rate**2, LEAST), MOST)


def _at_rate(m: StateSpaceModel, radius: float) -> StateSpaceModel:
    """Return the model with its modes within a radius, and the B whose impulse response is nearest."""
    import scipy.linalg  # slow to import

    T, Z = scipy.linalg.schur(m.A)[:2]
    k, root = 0, np.ones(len(T))
    while k < len(T):
        size = 2 if k + 1 < len(T) and T[k + 1, k] else 1
        modulus = np.abs(np.linalg.eigvals(T[k : k + size, k : k + size])).max()
        root[k : k + size] = min(1.0, radius / max(modulus, radius)) ** 0.5
        k += size
    if root.min(initial=1.0) == 1.0:
        return m
    # What couples two modes is reduced with them.
    A = Z @ (root[:, None] * T * root) @ Z.T
    # min over B' of sum_k |C A'^k B' - C A^k B|^2 has B' = W^-1 X B with these two sums.
    CC = m.C.T @ m.C
    n = len(A)
    sums = scipy.linalg.solve_discrete_lyapunov(block_diagonal([A, m.A]).T, np.tile(CC, (2, 2)))
    # 1e-10: of directions that the outputs hardly see; the least B has nothing in them.
    B = np.linalg.lstsq(sums[:n, :n], sums[:n, n:] @ m.B, rcond=1e-10)[0]
    # The equilibrium stays where it was.
    bx = (np.eye(n) - A) @ np.linalg.solve(np.eye(n) - m.A, m.bx)
    return m._replace(A=A, B=B, bx=bx)


def _between(A: np.ndarray, rate: float, halvings: int) -> float:
    """Return a radius between the slowest mode and the rate, nearer to the rate with each halving."""
    return rate - (rate - np.abs(np.linalg.eigvals(A)).max(initial=0.0)) / 2**halvings


def _gramians(m: StateSpaceModel, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the Gramians of input and output of `A / radius`."""
    A = m.A / radius
    return gramian(A, m.B @ m.B.T), gramian(A.T, m.C.T @ m.C)


def gramian(A: np.ndarray, Q: np.ndarray) -> np.ndarray:
    """Return the W of `A W A' - W = -(Q + small I)`, for Q >= 0."""
    import scipy.linalg

    return _definite(scipy.linalg.solve_discrete_lyapunov(A, _full(Q)))


def _full(Q: np.ndarray) -> np.ndarray:
    n = len(Q)
    return Q + FAINT * max(np.trace(Q), np.finfo(float).tiny ** 0.5) / n * np.eye(n)


def _definite(W: np.ndarray) -> np.ndarray:
    return (W + W.T) / 2


def _in_coordinates(m: StateSpaceModel, Wc: np.ndarray, Wo: np.ndarray) -> StateSpaceModel:
    """Return the model with both Gramians equal and diagonal.

    `A / r` is a contraction in both metrics `Wo` and `Wc^-1`, so it is one in what lies between them, the identity.
    """
    L = np.linalg.cholesky(Wc)
    values, V = np.linalg.eigh(L.T @ Wo @ L)
    # 1e-14: about the rounding of the eigenvalues; a smaller one is noise, of which the inverse root would be huge.
    root = np.maximum(values, values.max() * 1e-14) ** 0.25
    T, inverse = L @ V / root, (root * V).T @ np.linalg.inv(L)
    return m._replace(A=inverse @ m.A @ T, B=inverse @ m.B, C=m.C @ T, bx=inverse @ m.bx)


def _bounded(
    m: StateSpaceModel, radius: float, rate: float, supply: Rates, dtype
) -> tuple[StateSpaceModel, float]:
    """Return the nearest model inside a supply rate, and what it gives up.

    A gain is smaller with all ports multiplied by a factor, and with faster modes; the better of a few pairs is taken.
    """
    slowest = min(radius, np.abs(np.linalg.eigvals(m.A)).max(initial=0.0))
    best: tuple[StateSpaceModel, float] | None = None
    radii = [radius, *(rate - (rate - slowest) * 2 ** (k / 2) for k in range(1, FASTER))]
    for smaller in filter(lambda r: r > 0, radii):
        at_rate = _at_rate(m, smaller)
        found = _scaled_down(at_rate, rate, supply, dtype)
        if found is not None:
            given_up = _given_up(m, found)
            best = (found, given_up) if best is None or given_up < best[1] else best
            if given_up < EXACT:
                break
    if best is None:
        raise InvalidModelError(
            "the linear model must have a near one inside the guarantee, but none was found; use a larger rate or gamma"
        )
    return best


def _scaled_down(m: StateSpaceModel, rate: float, supply: Rates, dtype) -> StateSpaceModel | None:
    """Return the model inside a supply rate with its ports of unit gain multiplied by the largest factor that has room."""
    # A unit-gain model loses the headroom at its inputs, twice in the feedthrough.
    raised, limit = (1 - headroom(dtype)) ** -3, 1 - _distance(ROOM, rate, dtype)
    core = m._replace(**dict(zip("BCD", within_ports(supply, m.B, m.C, m.D), strict=True)))
    core = core._replace(B=raised * core.B, D=raised * core.D)

    def placed(factor: float) -> StateSpaceModel | None:
        # Half of it at each port: the states keep their share.
        h = factor**0.5
        return _with_unit_gain(core._replace(B=h * core.B, C=h * core.C, D=factor * core.D), rate, limit)

    found = placed(1.0)
    if found is None:
        low, high = 0.0, min(1.0, limit / peak(core, rate))
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            trial = placed(middle)
            low, high, found = (low, middle, found) if trial is None else (middle, high, trial)
    if found is None:
        return None
    ports = outside_ports(supply, found.B / raised, found.C, found.D / raised)
    return found._replace(**dict(zip("BCD", ports, strict=True)))


def _with_unit_gain(m: StateSpaceModel, rate: float, limit: float) -> StateSpaceModel | None:
    """Return the model in coordinates in which `[A / rate, B; C / rate, D]` is a contraction, None where none are found."""
    for halvings in range(1, HALVINGS):
        radius = _between(m.A, limit * rate, halvings)
        largest = peak(m, radius)
        # Gains are raised halfway to one, or less, which leaves the network's ports room.
        for exponent in (0.5, 0.25) if largest < limit else ():
            inflated = min(largest**-exponent, 4.0)
            found = _contraction(m, radius, rate, inflated)
            if found is not None and _norm(found, rate) < limit:
                return found
    return None


def _contraction(m: StateSpaceModel, radius: float, rate: float, factor: float) -> StateSpaceModel | None:
    h = factor**0.5
    A, B, C, D = m.A / radius, h * m.B, h * m.C / radius, factor * m.D
    Wo, Wc = _riccati(A, B, C, D), _riccati(A.T, C.T, B.T, D.T)
    if Wo is None or Wc is None:
        return None
    try:
        found = _in_coordinates(m, Wc, Wo)
    except np.linalg.LinAlgError:
        return None
    return found if np.isfinite(found.B).all() and np.isfinite(found.C).all() else None


def _riccati(A, B, C, D) -> np.ndarray | None:
    """Return the least P of `P = A'PA + C'C + (A'PB + C'D)(I - D'D - B'PB)^-1 (A'PB + C'D)'`, None where there is none."""
    import scipy.linalg

    try:
        P = scipy.linalg.solve_discrete_are(A, B, _full(C.T @ C), D.T @ D - np.eye(D.shape[1]), s=C.T @ D)
    except (np.linalg.LinAlgError, ValueError):
        return None
    return _definite(P) if np.isfinite(P).all() else None


def _norm(m: StateSpaceModel, rate: float) -> float:
    return float(np.linalg.norm(np.block([[m.A / rate, m.B], [m.C / rate, m.D]]), 2))


def peak(m: StateSpaceModel, radius: float) -> float:
    """Return the largest gain on a circle, near modes and on a grid; a proof of a bound is made elsewhere."""
    modes = np.linalg.eigvals(m.A)
    near = np.angle(modes)[:, None] + (1 - np.abs(modes) / radius)[:, None] * np.linspace(-2, 2, 9)
    angles = np.concatenate([[0.0, np.pi], np.geomspace(1e-5, np.pi, 100), near.ravel()])
    responses = response(m.A, m.B, m.C, m.D, radius * np.exp(1j * angles))
    return max(float(np.linalg.norm(responses, 2, axis=(1, 2)).max()), 1e-9)


def _given_up(m: StateSpaceModel, found: StateSpaceModel) -> float:
    """Return the relative difference of the impulse responses, square sums over time and channels."""
    A = block_diagonal([m.A, found.A])
    B, C = np.vstack([m.B, found.B]), np.hstack([m.C, -found.C])
    error = energy(A, B, C, m.D - found.D)
    return float(np.sqrt(error / max(energy(m.A, m.B, m.C, m.D), np.finfo(float).tiny)))


def energy(A, B, C, D) -> float:
    """Return the square sum of the impulse responses, over time and channels."""
    import scipy.linalg

    W = scipy.linalg.solve_discrete_lyapunov(A, B @ B.T)
    return max(float(np.trace(C @ W @ C.T)), 0.0) + float(np.sum(D**2))
