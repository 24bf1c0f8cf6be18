"""Memories of the past of a signal as linear systems whose gain is known: Legendre and Laguerre polynomials of it.

::

    x' = A x + B u,      m = (x+ + x) / 2,      x+ - x = dt (A m + B u)

With P = I each has an identity for every sample, step and order, which the bilinear step keeps.

[GDEKRR20] Gu, Dao, Ermon, Rudra, Re, "HiPPO: Recurrent memory with optimal polynomial projections", NeurIPS 2020. The identities
are ours.
"""

import functools
from collections.abc import Sequence

import numpy as np
import scipy.linalg
from jaxtyping import Array, Float, PRNGKeyArray

from ..checks import check_sizes, is_positive
from ..errors import InvalidModelError
from ..linalg import slack
from ..state_space import StateSpace
from .initializers import Initializer, LinearPart, draw, part_shapes, unit, with_room


def legs(order: int) -> tuple[np.ndarray, np.ndarray]:
    """Return A and B of the scaled Legendre memory, for which `A + A' = -(I + B B')`."""
    q = np.sqrt(2 * np.arange(order) + 1.0)
    return -(np.tril(np.outer(q, q), -1) + np.diag(np.arange(order) + 1.0)), q


def legt(order: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return A, B and s of the sliding window, for which `A + A' = -(B B' + s s')`."""
    n = np.arange(order)
    q = np.sqrt(2 * n + 1.0)
    sign = (-1.0) ** (n[:, None] - n[None, :])
    return -np.outer(q, q) * np.where(n[:, None] < n[None, :], sign, 1.0), q, (-1.0) ** n * q


def lagt(order: int) -> tuple[np.ndarray, np.ndarray]:
    """Return A and B of the Laguerre memory, for which `A + A' = -B B'`."""
    return -(np.tril(np.ones((order, order)), -1) + 0.5 * np.eye(order)), np.ones(order)


def stepped(A: np.ndarray, B: np.ndarray, dt: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the matrices of one bilinear step, `x+ = A x + B u`."""
    eye = np.eye(len(A))
    Ad, Bd = np.split(
        np.linalg.solve(eye - dt / 2 * A, np.hstack([eye + dt / 2 * A, dt * B[:, None]])), [len(A)], 1
    )
    return Ad, Bd[:, 0]


def _seen(A, B, dt: float, C: np.ndarray, sample_time: float) -> StateSpace:
    """Return the memory with the outputs `C m`, of which a step sees the mean of the states before and after it."""
    Ad, Bd = stepped(A, B, dt)
    return StateSpace(Ad, Bd[:, None], C @ (np.eye(len(A)) + Ad) / 2, C @ Bd[:, None] / 2, sample_time)


def hippo(shortest: float, longest: float, *, order: int = 8) -> Initializer:
    """Return an initializer of memories of the whole past, by Legendre polynomials of it (HiPPO-LegS).

    ::

        |x+|^2 - |x|^2 + |m|^2 / tau + (q'm - u)^2 / tau = u^2 / tau,      A = rate blkdiag(A_1, A_2, ...)

    Contracting in the metric I for every step `1 / tau`, which `invert_bounded_real` asks for: the model starts at these
    matrices, inside its guarantee. Inputs and outputs are random directions, of `q` and of `m`. Source: [GDEKRR20].

    **Arguments:**

    - `shortest`: time constant of the slowest state of the fastest memory, samples.
    - `longest`: the same of the slowest memory; those between are spread evenly on a logarithmic scale.
    - `order`: states of each memory; the last has those that are left over.

    **Raises:** `InvalidModelError` unless `0 < shortest <= longest`, both finite, and for an order below 1.

    **Example:** ::

        init = rc.nn.hippo(10.0, 300.0)
        model = rc.nn.LipschitzR2DN(nu=1, nx=16, nv=8, ny=1, gamma=2.0, hidden=(8,), init=init, key=jax.random.key(0))
        print(rc.certify(model, prove=False).holds)
    """
    if not (is_positive(shortest) and is_positive(longest) and shortest <= longest):
        raise InvalidModelError(
            f"time constants must satisfy 0 < shortest <= longest, finite, in samples, got {shortest!r} and {longest!r}"
        )
    check_sizes(order=order)
    return functools.partial(_hippo, (float(shortest), float(longest), order))


def _hippo(
    memory: tuple[float, float, int], key: PRNGKeyArray, nx: int, D: Float[Array, "nr ns"], rate: float
) -> LinearPart:
    shortest, longest, order = memory
    least = slack(D.dtype)
    sizes = [min(order, nx - first) for first in range(0, nx, order)]
    taus = np.geomspace(longest, shortest, len(sizes))
    blocks = [stepped(*legs(n), 1 / tau) for n, tau in zip(sizes, taus, strict=True)]

    def part(rng, D):
        # Of a long memory |A| is one up to rounding; the slack's share is left to the ports.
        A = (1 - 4 * least) * np.asarray(scipy.linalg.block_diag(*(Ad for Ad, _ in blocks)))
        # sqrt(dt) u in and sqrt(dt) m out have gain one.
        into = scipy.linalg.block_diag(
            *(np.sqrt(tau) * Bd[:, None] for (_, Bd), tau in zip(blocks, taus, strict=True))
        )
        out = (np.eye(nx) + A) / 2 / np.sqrt(np.repeat(taus, sizes))[:, None]
        B = rate * into @ unit(rng.standard_normal((len(sizes), D.shape[1])))
        C = unit(rng.standard_normal((D.shape[0], nx))) @ out
        X, B, C = with_room(A, B, C, D, rate, least)
        return X, np.zeros((nx, nx)), B, C

    return LinearPart(*draw(part, part_shapes(nx, D), D.dtype, key, D))


def sliding_window(
    window: float, *, order: int = 12, delays: Sequence[float] | None = None, dt: float = 1.0
) -> StateSpace:
    """Return a window of the past of one signal, by Legendre polynomials on it (HiPPO-LegT): delays without a queue.

    ::

        |x+|^2 - |x|^2 + (q'm - u)^2 / window + (s'm)^2 / window = u^2 / window
        y_k = sum_n sqrt(2 n + 1) P_n(1 - 2 delay_k / window) m_n,    of which  s'm  is the one of the whole window

    The delay of the whole window has a gain of at most one at every order: it is the Pade approximation of degrees order - 1 and
    order. A sine of f cycles a sample comes late by the window up to a part `(2 pi f)^2 / 12` of the step and an error of the order:
    at f window = 0.7 it is 5e-2 of the amplitude for 4 states, and below 1e-6 for 12. Other delays read the polynomial within the
    window; `rc.certify` proves the gain of all outputs together. Source: [GDEKRR20].

    **Arguments:**

    - `window`: length, samples; not necessarily a whole number.
    - `order`: number of states.
    - `delays`: one an output, samples, within the window; default the window itself.
    - `dt`: sample time of the system, seconds.

    **Raises:** `InvalidModelError` for a window that is not positive, an order below 1, and a delay longer than the window.

    **Example:** ::

        past = rc.nn.sliding_window(20.0, order=6, delays=(0.0, 10.0, 20.0), dt=0.1)      # delayed inputs for a policy
        policy = rc.nn.LipschitzStatic(nu=3, ny=1, gamma=2.0, hidden=(8,), key=jax.random.key(0))
        print(rc.certify(rc.loops.Series(past, policy.explicit())).gamma)
    """
    check_sizes(order=order)
    if not is_positive(window):
        raise InvalidModelError(f"window must be a positive, finite number of samples, got {window!r}")
    at = np.asarray([window] if delays is None else delays, float)
    if at.ndim != 1 or not len(at) or not np.all((at >= 0) & (at <= window)):
        raise InvalidModelError(
            f"delays must be between 0 and the window of {window:g} samples, which holds no more of the past, got {at.tolist()}; give a "
            "longer window, and a higher order with it"
        )
    A, q, _ = legt(order)
    return _seen(A, q, 1 / window, q * np.polynomial.legendre.legvander(1 - 2 * at / window, order - 1), dt)


def laguerre(tau: float, *, order: int = 8, dt: float = 1.0) -> StateSpace:
    """Return a bank of Laguerre filters of one signal, each of gain one: a memory that fades at one time constant.

    ::

        |x+|^2 - |x|^2 + (1'm - u)^2 / tau = u^2 / tau,      y_n = m_n / 2 = ((s - 1/2) / (s + 1/2))^n u / (2 s + 1),    s in 1 / tau

    `u - 1'm` is all-pass of the given order. Source: Wahlberg, "System identification using Laguerre models", IEEE TAC 1991, with a
    bilinear step.

    **Arguments:**

    - `tau`: samples; each filter has the time constant `2 tau`, `order` times over for the last.
    - `order`: number of filters, which are the outputs.
    - `dt`: sample time of the system, seconds.

    **Raises:** `InvalidModelError` for a tau that is not positive and finite, and an order below 1.

    **Example:** ::

        bank = rc.nn.laguerre(10.0, order=4, dt=0.1)
        init = rc.nn.at_linear(bank.A, bank.B, bank.C[:1] + bank.C[1:2], bank.D[:1] + bank.D[1:2])
        model = rc.nn.ContractingR2DN(nu=1, nx=4, nv=4, ny=1, hidden=(4,), init=init, key=jax.random.key(0))
    """
    check_sizes(order=order)
    if not is_positive(tau):
        raise InvalidModelError(f"tau must be a positive, finite number of samples, got {tau!r}")
    return _seen(*lagt(order), 1 / tau, np.eye(order) / 2, dt)
