"""Random systems, the same in other units, and equations of the collections CAREX and DAREX from the formulas of their papers."""

from typing import NamedTuple

import control as ct
import numpy as np
import scipy.linalg


def random_plant(rng, dt, most=5):
    """Return a random plant of up to `most` states, with D = 0; it may be unstable."""
    n = int(rng.integers(1, most + 1))
    m, p = (min(int(rng.integers(1, 3)), n) for _ in range(2))
    A = rng.normal(size=(n, n)) - 0.3 * np.eye(n)
    return ct.ss(A / 2 if dt else A, rng.normal(size=(n, m)), rng.normal(size=(p, n)), 0, dt)


def stable(system):
    """Return the system with its poles shifted or shrunk into the stable region."""
    poles = np.linalg.eigvals(system.A)
    A = (
        system.A / max(1.0, np.abs(poles).max() * 1.05)
        if system.dt
        else system.A - (poles.real.max() + 0.05) * np.eye(len(system.A))
    )
    return ct.ss(A, system.B, system.C, system.D, system.dt)


def scales(rng, n, m, p, dt):
    """Return units of states, inputs and outputs, and of rates: each up to 1e9 either way."""
    return (*(10 ** rng.uniform(-9, 9, k) for k in (n, m, p)), 1.0 if dt else 10 ** rng.uniform(-9, 9))


def rescaled(system, x, u, y, rate=1.0):
    """Return the system whose states, inputs and outputs are x, u and y times as large, with rates `rate` times as fast."""
    A, B = system.A * x[:, None] / x * rate, system.B * x[:, None] / u * rate
    return ct.ss(A, B, system.C * y[:, None] / x, system.D * y[:, None] / u, system.dt)


def generalized(rng, plant):
    """Return a generalized plant about a plant, and its numbers of performance outputs and disturbances."""
    n, m, p = plant.nstates, plant.ninputs, plant.noutputs
    B = np.hstack([rng.normal(size=(n, n)), np.zeros((n, p)), plant.B])
    C = np.vstack([rng.normal(size=(n, n)), np.zeros((m, n)), plant.C])
    D = np.zeros((n + m + p, n + p + m))
    D[n : n + m, n + p :], D[n + m :, n : n + p] = np.eye(m), np.eye(p)
    return ct.ss(plant.A, B, C, D, plant.dt), n + m, n + p


class Equation(NamedTuple):
    """A Riccati equation with its solution, where the paper has one, to a relative accuracy."""

    name: str
    A: np.ndarray
    B: np.ndarray
    Q: np.ndarray
    R: np.ndarray
    discrete: bool = False
    X: np.ndarray | None = None
    rtol: float = 1e-8

    def residual(self, X):
        """Return what the equation leaves, relative to its terms, in the given coordinates."""
        A, B, Q, R = self.A, self.B, self.Q, self.R
        if self.discrete:
            K = np.linalg.solve(R + B.T @ X @ B, B.T @ X @ A)
            terms = (A.T @ X @ A, -X, Q, -(A.T @ X @ B) @ K)
        else:
            terms = (A.T @ X, X @ A, Q, -X @ B @ np.linalg.solve(R, B.T @ X))
        return np.linalg.norm(sum(terms)) / sum(np.linalg.norm(M) for M in terms)


def carex():
    """Return equations of Abels and Benner, "CAREX: a collection of benchmark examples", SLICOT working note 1999-14."""
    row = np.array
    for e in (1.0, 1e-6):  # example 2.1: A = diag(1, -2), B = (e, 0)', Q = [1 1; 1 1]
        r = np.sqrt(1 + e**2)
        X = row([[(1 + r) / e**2, 1 / (2 + r)], [1 / (2 + r), (1 - e**2 / (2 + r) ** 2) / 4]])
        yield Equation(
            f"carex 2.1, {e:g}", np.diag([1.0, -2]), row([[e], [0]]), np.ones((2, 2)), np.eye(1), X=X
        )
    for e in (1.0, 1e-8):  # example 2.2: a stable plant with weak damping of the weights' own
        A, B = row([[-0.1, 0], [0, -0.02]]), row([[0.1, 0], [0.001, 0.01]])
        c = row([[10.0, 100.0]])
        yield Equation(f"carex 2.2, {e:g}", A, B, c.T @ c, row([[1 + e, 1], [1, 1]]))
    for e in (1.0, 1e-6, 1e6):  # example 2.3: a double integrator of gain e
        A, B = row([[0, e], [0, 0]]), row([[0.0], [1]])
        s = np.sqrt(1 + 2 * e)
        X = row([[s / e, 1], [1, s]])
        yield Equation(f"carex 2.3, {e:g}", A, B, np.eye(2), np.eye(1), X=X)
    for e in (1.0, 1e-7):  # example 2.4: A = [e+1 1; 1 e+1], G = I, Q = e^2 I
        A = row([[e + 1, 1.0], [1, e + 1]])
        a, d = np.sqrt((e + 2) ** 2 + e**2) + e + 2, np.sqrt(2) * e + e
        X = row([[a + d, a - d], [a - d, a + d]]) / 2
        yield Equation(f"carex 2.4, {e:g}", A, np.eye(2), e**2 * np.eye(2), np.eye(2), X=X)
    n = 21  # example 4.1's kind: a chain of integrators, with q and r of one
    A, B = np.eye(n, k=1), np.eye(n)[:, -1:]
    Q = np.zeros((n, n))
    Q[0, 0] = 1.0
    yield Equation("carex 4.1, chain", A, B, Q, np.eye(1))


def darex():
    """Return equations of Abels and Benner, "DAREX: a collection of benchmark examples", SLICOT working note 1999-16."""
    row = np.array
    for e in (
        1.0,
        1e6,
    ):  # example 2.1: an unstable plant whose one control costs r; Q has rank one, and X with it
        A, B = row([[4.0, 3], [-4.5, -3.5]]), row([[1.0], [-1]])
        q, r = row([[9.0, 6], [6, 4]]), e
        X = q * (1 + np.sqrt(1 + 4 * r)) / 2
        yield Equation(f"darex 2.1, {e:g}", A, B, q, r * np.eye(1), True, X)
    for e in (1.0, 1e6):  # example 2.3: A = [0 e; 0 0], whose solution is diag(1, 1 + e^2)
        X = np.diag([1.0, 1 + e**2])
        yield Equation(
            f"darex 2.3, {e:g}", row([[0, e], [0, 0]]), row([[0.0], [1]]), np.eye(2), np.eye(1), True, X
        )
    t = 1e8  # example 2.4: a fast and two slow modes, turned by a reflection
    V = np.eye(3) - 2 / 3 * np.ones((3, 3))
    A0 = np.diag([0.0, 1, 3])
    A, Q = V @ A0 @ V, t * np.eye(3)
    x = [t, t * (1 + np.sqrt(5)) / 2, t * (9 + np.sqrt(85)) / 2]
    yield Equation("darex 2.4", A, np.eye(3), Q, t * np.eye(3), True, V @ np.diag(x) @ V)
    n = 20  # example 4.1: a chain of delays, whose solution is diag(1, ..., n)
    yield Equation(
        "darex 4.1",
        np.eye(n, k=1),
        np.eye(n)[:, -1:],
        np.eye(n),
        np.eye(1),
        True,
        np.diag(np.arange(1.0, n + 1)),
    )


def exact_step(A, B, dt):
    """Return the matrices of a sample of dx/dt = A x + B v with v held, by SciPy."""
    n, m = B.shape
    whole = scipy.linalg.expm(dt * np.block([[A, B], [np.zeros((m, n + m))]]))
    return whole[:n, :n], whole[:n, n:]
