"""A stable linear filter of low order above a gain that is known at some frequencies."""

from collections.abc import Callable

import numpy as np

from ..errors import DataError
from ..lft import float64
from ..linalg import response
from ..state_space import StateSpace

RADIUS = 0.9999
"""Largest radius of a pole or zero: 10,000 samples of memory, longer than what a record of some thousand shows."""

BELOW = 10.0
"""Weight of a gain below the bound against one above it: the filter is raised at the end to where it is nowhere below."""

BETTER = 0.9
"""Of the mean excess of a lower order: what a higher one must come below, or its further poles follow the noise of the bound."""

ENOUGH = 0.05
"""Mean excess, 5 %, with which no higher order is tried."""

POINTS = 60
"""At most that many frequencies enter the fit, each with the largest bound of its neighbors."""

DENSE = 100
"""Points of a logarithmic axis, and of a linear one, at which the filter is near the bound, interpolated: from a hundredth of the lowest
frequency to half the sampling rate, so that no resonance or notch is between frequencies or beyond them."""


SMALL = 1e-6
"""Least variance of a balanced state over the largest: of 400 random filters up to order 6, poles to 0.9999, none loses more than 1e-7 of
its gain; with 1e-16 some lose 1e-3."""


def weight_above(omega: np.ndarray, upper: np.ndarray, dt: float, *, order: int | None = None) -> StateSpace:
    """Fit a stable filter of minimum phase whose gain is at least `upper` at every frequency.

    ::

        W(z) = k prod_i (z^2 + a_i z + b_i) / (z^2 + c_i z + d_i),     |W(exp(i omega dt))| >= upper

    The logarithms of the gains are fitted by least squares that weigh what is below the bound ten times as much; then k is raised until
    nothing is below, at the frequencies and between them by interpolation of the logarithms. Below the first frequency and above the
    last the bound is continued as a constant, up to half the sampling rate.

    **Arguments:**

    - `omega`: frequencies (n,), rad/s, increasing, in (0, pi / dt]
    - `upper`: the bound (n,), positive
    - `dt`: sample time, seconds
    - `order`: of the filter, 0 to 6; None for the lowest of 0 to 4 that a higher one improves by less than 10 %

    **Raises:** `DataError` for frequencies out of range, a bound that is not positive and finite, and another order.
    """
    _check(omega, upper, dt, order)
    bound = _bound(*_thinned(omega * dt, np.log(upper)))
    angle = _grid(omega * dt)
    best = None
    for n in range(5) if order is None else [order]:
        tried = _fit(angle, bound(angle), n)
        if best is None or tried[0] < BETTER * best[0]:
            best = tried
        if best[0] < ENOUGH:
            break
    assert best is not None
    # Between the points of the grid a gain is lowest at the angles of zeros.
    zeros = np.concatenate([np.zeros(0), *(np.roots(p) for p, _ in _sections(np.split(best[1], 2)[0]))])
    angle = np.concatenate([angle, np.clip(np.abs(np.angle(zeros)), angle[0], np.pi)])
    angle, target = np.concatenate([angle, omega * dt]), np.concatenate([np.exp(bound(angle)), upper])
    W = _realized(best[1], dt)
    # Of the matrices as they are stored, in 32 bits where JAX has no 64; a millionth more covers the rounding of the product.
    k = float(np.max(target / gains(W, angle / dt, np.ones(1)))) * (1 + 1e-6)
    return StateSpace(W.A, W.B, k * W.C, k * W.D, dt)


def gains(W: StateSpace, omega: np.ndarray, u_size: np.ndarray) -> np.ndarray:
    """Return the largest singular value (n,) of a filter whose inputs are given in other units.

    **Arguments:**

    - `W`: the filter
    - `omega`: frequencies (n,), rad/s
    - `u_size`: unit of each input (nu,)
    """
    A, B, C, D = float64(W.A, W.B, W.C, W.D)
    G = response(A, B, C, D, np.exp(1j * np.asarray(omega) * W.dt))
    return np.linalg.norm(G * u_size, 2, axis=(1, 2))


def for_each_input(W: StateSpace, u_size: np.ndarray, inputs: tuple[str, ...]) -> StateSpace:
    """Return `W(z) diag(1 / u_size)`, the same filter for every input.

    **Arguments:**

    - `W`: the filter, one input and one output
    - `u_size`: unit of each input (nu,)
    - `inputs`: their names
    """
    A, B, C, D = (np.kron(np.eye(len(u_size)), M) for M in (W.A, W.B, W.C, W.D))
    return StateSpace(A, B / u_size, C, D / u_size, W.dt, inputs=inputs)


def _check(omega: np.ndarray, upper: np.ndarray, dt: float, order: int | None) -> None:
    if not (
        len(omega) and np.all(np.diff(omega) > 0) and omega[0] > 0 and omega[-1] <= np.pi / dt * (1 + 1e-9)
    ):
        raise DataError(f"frequencies must increase within (0, {np.pi / dt:g}] rad/s, got {omega}")
    if upper.shape != omega.shape or not (np.isfinite(upper).all() and (upper > 0).all()):
        raise DataError(f"the bound must be one positive, finite gain per frequency, got {upper}")
    if order is not None and order not in range(7):
        raise DataError(f"order must be a whole number from 0 to 6, got {order!r}")


def _thinned(angle: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the middle frequency and the largest bound of each of at most `POINTS` intervals of a logarithmic axis."""
    edges = np.geomspace(angle[0], angle[-1], POINTS)[1:-1]
    groups = [g for g in np.split(np.arange(len(angle)), np.searchsorted(angle, edges)) if len(g)]
    return np.array([np.exp(np.log(angle[g]).mean()) for g in groups]), np.array(
        [target[g].max() for g in groups]
    )


def _bound(angle: np.ndarray, target: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return the bound at any angles: interpolated between those given, constant outside."""
    return lambda at: np.interp(np.log(at), np.log(angle), target)


def _grid(angle: np.ndarray) -> np.ndarray:
    # Two decades below the lowest frequency of the data, where the bound is constant.
    low = 0.01 * angle[0]
    return np.unique(np.concatenate([np.geomspace(low, np.pi, DENSE), np.linspace(low, np.pi, DENSE)]))


def _fit(angle: np.ndarray, target: np.ndarray, order: int) -> tuple[float, np.ndarray]:
    """Return the mean excess over the bound once raised above it, and the free numbers of zeros and poles."""
    from scipy.optimize import least_squares  # slow to import

    z = np.exp(1j * angle)

    def excess(free: np.ndarray) -> np.ndarray:
        return free[-1] + _log_gain(z, free[:-1])[0] - target

    def weighed(free: np.ndarray) -> np.ndarray:
        e = excess(free)
        # A little of the free numbers themselves holds those that the bound does not determine.
        return np.concatenate([np.where(e < 0, BELOW * e, e), 1e-3 * free[:-1]])

    def slope(free: np.ndarray) -> np.ndarray:
        gain, rows = _log_gain(z, free[:-1])
        weight = np.where(free[-1] + gain - target < 0, BELOW, 1.0)[:, None]
        rows = weight * np.append(rows, np.ones((len(z), 1)), axis=1)
        return np.vstack([rows, 1e-3 * np.eye(2 * order, 2 * order + 1)])

    starts = [np.append(start, target.mean()) for start in _starts(order)]
    found = [least_squares(weighed, start, slope, method="lm", max_nfev=40) for start in starts]  # pyright: ignore
    best = min(found, key=lambda f: f.cost).x
    e = excess(best)
    return float(np.mean(e) - np.min(e)), best[:-1]


def _starts(order: int) -> list[np.ndarray]:
    """Return starts of zeros and poles: all poles fast and all zeros slow, the reverse, and both in the middle.

    Radii tanh 3, 2 and 1, or 0.995, 0.96 and 0.76, last 200, 25 and 4 samples.
    """
    slow, middle, fast = (_halves(order, c) for c in (3.0, 2.0, 1.0))
    # Equal zeros and poles would cancel, and so would their slopes.
    return [np.concatenate(pair) for pair in ((slow, fast), (fast, slow), (fast, middle), (middle, fast))][
        : 4 if order else 1
    ]


def _halves(order: int, c: float) -> np.ndarray:
    """Return the free numbers of `order` real roots near tanh(c)."""
    r, s = np.tanh(c), np.tanh(0.8 * c)
    b, a = r * s, -(r + s)
    # z^2 + a z + b = (z - r)(z - s), in the coordinates of `_sections`.
    return np.append(np.tile([np.arctanh(b), np.arctanh(a / (1 + b))], order // 2), [c] * (order % 2))


def _sections(free: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return polynomials of degree two and one with all roots inside the circle of `RADIUS`, and the slopes of their coefficients.

    `z^2 + a z + b` has its roots inside the unit circle exactly for `|b| < 1` and `|a| < 1 + b`.
    """
    t, found = np.tanh(free), []
    d = 1 - t**2
    for k in range(0, len(t) - 1, 2):
        b, a = t[k : k + 2]
        slopes = np.array(
            [[0.0, RADIUS * a * d[k], RADIUS**2 * d[k]], [0.0, RADIUS * (1 + b) * d[k + 1], 0.0]]
        )
        found.append((np.array([1.0, RADIUS * a * (1 + b), RADIUS**2 * b]), slopes))
    if len(t) % 2:
        found.append((np.array([1.0, -RADIUS * t[-1]]), np.array([[0.0, -RADIUS * d[-1]]])))
    return found


def _log_gain(z: np.ndarray, free: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the logarithm of the gain (n,) for the free numbers of zeros and poles, and its slope (n, free numbers)."""
    total, slopes = np.zeros(len(z)), []
    for sign, half in zip((1, -1), np.split(free, 2), strict=True):
        for polynomial, slope in _sections(half):
            value = np.polyval(polynomial, z)
            total += sign * np.log(np.abs(value))
            slopes += [sign * np.real(np.polyval(row, z) / value) for row in slope]
    return total, np.array(slopes).reshape(-1, len(z)).T


def _realized(free: np.ndarray, dt: float) -> StateSpace:
    """Return the filter in balanced coordinates: those of the polynomials are far from orthogonal where poles are near each other.

    Sections in a row keep the digits that the coefficients of one polynomial of all poles lose.
    """
    A, B, C = np.zeros((0, 0)), np.zeros((0, 1)), np.zeros((1, 0))
    for (zeros, _), (poles, _) in zip(*map(_sections, np.split(free, 2)), strict=True):
        n = len(poles) - 1
        a = np.vstack([-poles[1:], np.eye(n - 1, n)])
        A = np.block([[A, np.zeros((len(A), n))], [np.eye(n, 1) @ C, a]])
        B, C = np.vstack([B, np.eye(n, 1)]), np.hstack([C, (zeros - poles)[None, 1:]])
    if len(A):
        A, B, C = _balanced(A, B, C)
    return StateSpace(A, B, C, [[1.0]], dt)


def _balanced(A: np.ndarray, B: np.ndarray, C: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a stable system in states that are as reachable as observable: both Gramians are the same diagonal."""
    from scipy.linalg import solve_discrete_lyapunov

    # The other method solves for all pairs of states at once, which loses the digits of poles near each other.
    reached, seen = (
        solve_discrete_lyapunov(M, Q, method="bilinear") for M, Q in ((A, B @ B.T), (A.T, C.T @ C))
    )
    values, vectors = np.linalg.eigh(reached)
    # A state that is hardly reached or seen, where a pole almost cancels a zero, gets a finite size: smaller ones cost digits.
    root = vectors * np.sqrt(np.maximum(values, values[-1] * SMALL))
    values, vectors = np.linalg.eigh(root.T @ seen @ root)
    T = root @ vectors * np.maximum(values, values[-1] * SMALL) ** -0.25
    return np.linalg.solve(T, A @ T), np.linalg.solve(T, B), C @ T
