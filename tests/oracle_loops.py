"""Loops in rational arithmetic: what each part reads and gives, as rows over all states and block outputs, from its arrays alone."""

from fractions import Fraction
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

import robustctl as rc
from robustctl.lft import linear
from robustctl.loops import Base, Delay, Feedback, Series, Youla
from robustctl.system import StrictlyProper

from .exact import positive_definite, rational
from .oracle import TOLERANCE, exact_forms, network_bounded

MOST = 64  # states and block outputs of a loop


class OwnPlant(StrictlyProper):
    """`x+ = A x + B u + E w`, `y = C x`: a plant of a user's own."""

    A: Array
    B: Array
    E: Array
    C: Array
    nu = property(lambda self: self.B.shape[1])
    ny = property(lambda self: self.C.shape[0])

    def lft(self):
        return linear(
            self.A, np.hstack([self.B, self.E]), self.C, np.zeros((self.ny, self.nu + self.E.shape[1]))
        )

    def init_state(self):
        return jnp.zeros(len(self.A), self.A.dtype)

    def undisturbed(self, references=0):
        return jnp.zeros(self.E.shape[1], self.A.dtype)

    def output(self, x, w):
        return self.C @ x

    def advance(self, x, u, w):
        return self.A @ x + self.B @ u + self.E @ w


class OwnBase(Base):
    """`x+ = A x + B u + L innovation`, `y_hat = C x`, `u = K x + u_q`: a base controller of a user's own."""

    A: Array
    B: Array
    L: Array
    C: Array
    K: Array
    nu = property(lambda self: self.B.shape[1])
    ny = property(lambda self: self.C.shape[0])

    def _form(self, C):
        return linear(self.A, np.hstack([self.B, self.L]), C, np.zeros((len(C), self.nu + self.ny)))

    def lft(self):
        return self._form(self.C)

    def lft_with_law(self):
        return self._form(np.vstack([self.C, self.K]))

    def init_state(self):
        return jnp.zeros(len(self.A), self.A.dtype)

    def output(self, x, w=None):
        return self.C @ x

    def control(self, x):
        return self.K @ x

    def advance(self, x, u, w):
        return self.A @ x + self.B @ u + self.L @ w


class Rows:
    """The rows of a whole, in the order in which its parts were read: `x`, `x_next`, and `(network or None, v, w)` of each block."""

    def __init__(self):
        self.used, self.x, self.x_next, self.blocks = 0, [], [], []

    def new(self, count: int) -> np.ndarray:
        """Rows of new variables."""
        found = rational(np.eye(MOST)[self.used : self.used + count])
        self.used += count
        assert self.used <= MOST
        return found

    def states(self, count: int) -> np.ndarray:
        """Rows of new states."""
        self.x.append(self.new(count))
        return self.x[-1]

    def read(self, s: Any, u: np.ndarray) -> np.ndarray:
        """The rows of a system's outputs, where it reads the rows u."""
        if isinstance(s, rc.Scaled):
            return rational(s.y_std)[:, None] * self.read(s.system, u / rational(s.u_std)[:, None])
        if isinstance(s, Series):
            return self.read(s.second, self.read(s.first, u))
        if isinstance(s, Delay):
            x = self.states(s.samples * s.nu)
            self.x_next.append(np.vstack([x[s.nu :], u]))
            return x[: s.nu]
        if isinstance(s, Feedback):
            p: Any = s.plant
            x = self.states(len(p.A))
            self.x_next.append(x)  # its place comes before the policy's
            at, y = len(self.x_next) - 1, rational(p.C) @ x
            control = self.read(s.policy, y)
            self.x_next[at] = rational(p.A) @ x + rational(p.B) @ control + rational(p.E) @ u
            return np.vstack([y, control])
        if isinstance(s, Youla):
            b: Any = s.base
            x = self.states(len(b.A))
            self.x_next.append(x)
            at, innovation = len(self.x_next) - 1, u - rational(b.C) @ x
            control = rational(b.K) @ x + self.read(s.q, innovation)
            self.x_next[at] = rational(b.A) @ x + rational(b.B) @ control + rational(b.L) @ innovation
            return control
        (f,) = exact_forms(s)
        x, w = self.states(len(f.A)), self.new(f.B1.shape[1])
        self.x_next.append(f.A @ x + f.B1 @ w + f.B2 @ u)
        if len(w):
            self.blocks.append((f.network, f.C1 @ x + f.D11 @ w + f.D12 @ u, w))
        return f.C2 @ x + f.D21 @ w + f.D22 @ u


def loop_is_true(system: Any, certificate: Any) -> bool:
    """Whether a loop's contraction at the certificate's rates follows exactly from its metric, with multipliers of one."""
    rows, P = Rows(), rational(certificate.P)
    rows.read(system, np.full((system.lft().nu, MOST), Fraction(0)))  # equal inputs drop out
    if certificate.supply is not None or not 0 < certificate.rate_found <= certificate.rate <= 1:
        return False
    constant = np.zeros((rows.used, rows.used), object)
    for network, v, w in rows.blocks:
        v, w = v[:, : rows.used], w[:, : rows.used]
        if network is None:  # 2 dw (dv - dw) of slopes in [0, 1]
            constant = constant + w.T @ v + v.T @ w - 2 * w.T @ w
            continue
        bound = Fraction(network.lipschitz_bound()) * TOLERANCE
        if not network_bounded(network, bound):
            return False
        constant = constant + min(bound, 1) ** 2 * v.T @ v - w.T @ w / max(bound, Fraction(1)) ** 2
    x, x_next = (np.vstack(part)[:, : rows.used] for part in (rows.x, rows.x_next))
    moved = x_next.T @ P @ x_next + constant
    return positive_definite(P) and all(
        positive_definite(Fraction(rate) ** 2 * x.T @ P @ x - moved)
        for rate in (certificate.rate, certificate.rate_found)
    )
