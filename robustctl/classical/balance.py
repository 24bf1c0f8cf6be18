"""Scalings of states, inputs and time, with which a result depends on the system and not on its units."""

import numpy as np
import scipy.linalg


def power_of_two(sizes: np.ndarray | float) -> np.ndarray:
    """Return the powers of two nearest to positive sizes, by which scaling is exact; 1 for sizes of zero."""
    sizes = np.asarray(sizes, float)
    usable = (sizes > 0) & np.isfinite(sizes)
    return 2.0 ** np.round(np.log2(np.where(usable, sizes, 1.0)))


def state_scales(A: np.ndarray, B: np.ndarray, C: np.ndarray) -> np.ndarray:
    """Return t (nx,), powers of two, with which `x = t x_scaled` makes the system's entries alike in size.

    ::

        A_ij t_j / t_i,    B_ik / t_i,    C_kj t_j

    The inputs and outputs are one node of the graph that LAPACK balances (Parlett and Reinsch, "Balancing a matrix", 1969), so that they
    keep their units.

    **Arguments:**

    - `A`: (nx, nx)
    - `B`: (nx, nu)
    - `C`: (ny, nx)
    """
    n = len(A)
    graph = np.zeros((n + 1, n + 1))
    graph[:n, :n] = np.abs(A)
    graph[:n, n], graph[n, :n] = np.linalg.norm(B, axis=1), np.linalg.norm(C, axis=0)
    # SciPy also reads the scales as row numbers, which large ones are not
    with np.errstate(invalid="ignore"):
        t = np.asarray(scipy.linalg.matrix_balance(graph, permute=False, separate=True)[1][0])
    return t[:n] / t[n]


def rate_scale(A: np.ndarray, B: np.ndarray, C: np.ndarray) -> float:
    """Return the power of four nearest to a continuous-time system's fastest rate, the unit of time of a computation.

    With time in its inverse A is divided by it, and B and C by its square root, a power of two.
    """
    fastest = max(np.linalg.norm(A), np.linalg.norm(B) * np.linalg.norm(C), 0.0)
    return float(power_of_two(np.sqrt(fastest))) ** 2


def scaled(
    A: np.ndarray, B: np.ndarray, C: np.ndarray, discrete: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]:
    """Return A, B, C with states and time scaled, the scales t of the states and the rate that time was divided by.

    ::

        A_scaled = A t_j / (t_i rate),    B_scaled = B / (t_i sqrt(rate)),    C_scaled = C t_j / sqrt(rate)

    In discrete time the rate is 1.
    """
    t, rate = np.ones(len(A)), 1.0
    # Twice: B and C have the unit of a root of a rate, so they are comparable with A only after time is scaled.
    for _ in range(2):
        once = state_scales(A, B, C)
        A, B, C, t = A * once / once[:, None], B / once[:, None], C * once, t * once
        by = 1.0 if discrete else rate_scale(A, B, C)
        A, B, C, rate = A / by, B / np.sqrt(by), C / np.sqrt(by), rate * by
    return A, B, C, t, rate


def reachable_sizes(A: np.ndarray, B: np.ndarray, poles: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Return the sizes of states (nx,) and inputs (nu,) that belong together, and the fastest rate.

    ::

        t_i^2 = sum over inputs k and j < nx of  (s_k (A / rate)^j b_k)_i^2,    every s_k taking the same share of all states

    They follow any change of units exactly, so a design that depends on its coordinates, for example a placement with several inputs, gets
    the same matrices to design for.

    **Arguments:**

    - `A`: (nx, nx), of a controllable pair
    - `B`: (nx, nu)
    - `poles`: of the closed loop, which with the plant's own define the rate
    """
    rate = float(np.abs(np.concatenate([np.linalg.eigvals(A), poles])).max(initial=0.0)) or 1.0
    reached, moved = np.zeros(B.shape), B
    for _ in range(len(A)):
        reached, moved = np.hypot(reached, moved), A @ moved / rate
    s = np.ones(B.shape[1])
    # Sinkhorn's iteration, linear: far below rounding's effect on a gain for all but decoupled inputs
    for _ in range(100):
        t = np.linalg.norm(reached * s, axis=1)
        s = s / np.maximum(np.linalg.norm(reached * s / t[:, None], axis=0), np.finfo(float).tiny)
    return np.linalg.norm(reached * s, axis=1), s, rate


def connected(A: np.ndarray, B: np.ndarray, C: np.ndarray) -> np.ndarray:
    """Return which states (nx,) a chain of nonzero entries connects with an input and with an output; no other acts."""
    reached, seen = np.any(B != 0, axis=1), np.any(C != 0, axis=0)
    for _ in range(len(A)):
        reached = reached | ((A != 0) & reached).any(axis=1)
        seen = seen | ((A != 0) & seen[:, None]).any(axis=0)
    return reached & seen


def equilibrated(M: np.ndarray) -> np.ndarray:
    """Return a matrix with rows and columns scaled to about the same norm, which leaves its rank as it is."""
    for _ in range(10):  # a few suffice: units are gone, and the rest is a factor of the size of the matrix
        for axis in (1, 0):
            M = M / power_of_two(np.linalg.norm(M, axis=axis, keepdims=True))
    return M
