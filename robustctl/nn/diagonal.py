"""Diagonal recurrences of gain at most one: modes that do not act on each other, so that a step takes O(nx)."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from ..errors import InvalidModelError
from ..lft import float64
from ..linalg import contraction, headroom, slack
from ..registry import registered
from .arrays import check_one, check_shapes
from .bounded_real import corner
from .either_array import library
from .initializers import draw, lecun_normals, split
from .lure import scaled_rows

_DIRECT = 0.1
"""Size of the free array of the direct path at the start: small, but not zero, where its factors would not move."""


@registered()
class DiagonalRecurrence(eqx.Module):
    """An explicit diagonal recurrence.

    ::

        s_j+ = (re_j + i im_j) s_j + (B v)_j,      z = C x + D v,      x = [Re s; Im s]

    with one real mode, the last of `re`, where the number of states is odd.
    """

    re: Float[Array, " nr"]
    im: Float[Array, " np"]
    B: Float[Array, "nx ni"]
    C: Float[Array, "no nx"]
    D: Float[Array, "no ni"]

    @property
    def nx(self) -> int:
        """Number of states."""
        return self.B.shape[0]

    def step(self, x: Float[Array, " nx"], v: Float[Array, " ni"]) -> tuple[Array, Array]:
        """Return `(x_next, z)`."""
        return turned(self.re, self.im, x) + self.B @ v, self.C @ x + self.D @ v

    def over(self, x0: Float[Array, " nx"], vs: Float[Array, "T ni"]) -> tuple[Array, Array, Array]:
        """Return `(xs, zs, x_final)` over a sequence: all samples at once, the states apart."""
        run = in_turn if jax.default_backend() == "cpu" else in_parallel
        xs, x_final = run(self, x0, vs @ self.B.T)
        return xs, xs @ self.C.T + vs @ self.D.T, x_final

    def matrices(self) -> tuple[np.ndarray, ...]:
        """Return A, B, C and D in float64."""
        re, im, B, C, D = float64(self.re, self.im, self.B, self.C, self.D)
        return np.stack([turned(re, im, x) for x in np.eye(len(B))], axis=1), B, C, D

    def check(self, ni: int) -> int:
        """Return the number of outputs, or raise `InvalidModelError` for arrays that do not fit each other and `ni` inputs."""
        check_one(self, self.re)
        nx, no = self.re.size + self.im.size, self.D.shape[0]
        if self.re.size - self.im.size not in (0, 1):
            raise InvalidModelError(
                "re must have an entry for each of im and at most one more, of a real mode, got "
                f"{self.re.size} and {self.im.size}; replace an array by one of the same shape"
            )
        check_shapes(self, im=(nx // 2,), B=(nx, ni), C=(no, nx), D=(no, ni))
        return no


def turned(re: Any, im: Any, x: Any) -> Any:
    """Return `A x` for one vector; of NumPy arrays in NumPy."""
    n, pairs = len(re), len(im)
    real, alone, imag = x[:pairs], x[pairs:n], x[n:]
    parts = re[:pairs] * real - im * imag, re[pairs:] * alone, im * real + re[:pairs] * imag
    return library(x).concatenate(parts)


def in_turn(
    recurrence: DiagonalRecurrence, x0: Float[Array, " nx"], bs: Float[Array, "T nx"]
) -> tuple[Array, Array]:
    """Return the states before each sample of `x+ = A x + b[t]` and the last, one sample after the other: fastest on a CPU."""

    def body(x, b):
        return turned(recurrence.re, recurrence.im, x) + b, x

    x_final, xs = lax.scan(body, x0, bs)
    return xs, x_final


def in_parallel(
    recurrence: DiagonalRecurrence, x0: Float[Array, " nx"], bs: Float[Array, "T nx"]
) -> tuple[Array, Array]:
    """Return the same in about log2(T) steps, each of all samples."""
    re, im = recurrence.re, recurrence.im
    n, odd = re.size, re.size - im.size
    poles = lax.complex(re, jnp.pad(im, (0, odd)))

    def paired(x):
        return lax.complex(x[..., :n], jnp.pad(x[..., n:], [(0, 0)] * (x.ndim - 1) + [(0, odd)]))

    # s2 = p2 (p1 s0 + b1) + b2: affine maps compose associatively.
    def composed(first, second):
        (p1, b1), (p2, b2) = first, second
        return p2 * p1, p2 * b1 + b2

    powers, forced = lax.associative_scan(composed, (jnp.broadcast_to(poles, (len(bs), n)), paired(bs)))
    s = forced + powers * paired(x0)[None]
    after = jnp.concatenate([s.real, s.imag[:, : n - odd]], axis=1)
    xs = jnp.concatenate([x0[None], after])
    return xs[:-1], xs[-1]


@registered()
class DiagonalParameters(eqx.Module):
    """Free arrays of one diagonal recurrence of gain at most one at the given rate.

    ::

        a_j = sqrt(sigmoid(2 q_j)) e^(i angle_j),      d_j = sqrt(1 - |a_j|^2)
        poles = rate a,     B = diag(d) K1,     C = rate K2 diag(d),     D = -K2 A0' K1 + (I - K2 K2')^1/2 W (I - K1'K1)^1/2

    with contractions K1, K2 and W and A0 the real form of diag(a): by Parrott's theorem these are all with

    ::

        |[A / rate, B; C / rate, D]| <= 1,      so that  |x+|^2 - rate^2 |x|^2 <= |v|^2 - |z|^2
    """

    q: Float[Array, " nr"]
    angle: Float[Array, " np"]
    G1: Float[Array, "_ _"]
    G2: Float[Array, "_ _"]
    G0: Float[Array, "_ _"]

    def __init__(self, ni: int, nx: int, no: int, memory: tuple[float, float], key: PRNGKeyArray, dtype):
        mode_key, port_key, direct_key = split(key, 3)
        pairs = nx // 2
        self.q, self.angle = draw(
            lambda rng: _modes(rng, nx - pairs, pairs, memory), [(nx - pairs,), (pairs,)], dtype, mode_key
        )
        shapes = [(a + b, min(a, b)) for a, b in ((nx, ni), (no, nx), (no, ni))]
        self.G1, self.G2 = lecun_normals(port_key, shapes[:2], dtype)
        (self.G0,) = lecun_normals(direct_key, shapes[2:], dtype, _DIRECT)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Numbers of inputs, states and outputs."""
        nx = self.q.size + self.angle.size
        ni, no = self.G1.shape[0] - nx, self.G2.shape[0] - nx
        return ni, nx, no

    def explicit(self, rate: Float[Array, ""]) -> DiagonalRecurrence:
        """Map to the recurrence of this rate."""
        (ni, nx, no), pairs, dtype = self.sizes, self.angle.size, self.q.dtype
        # Both square roots as exponentials, which neither cancel nor have an infinite derivative.
        size, d = (jnp.exp(jax.nn.log_sigmoid(q) / 2) for q in (2 * self.q, -2 * self.q))
        d = jnp.concatenate([d, d[:pairs]])
        re = jnp.concatenate([size[:pairs] * jnp.cos(self.angle), size[pairs:]])
        im = size[:pairs] * jnp.sin(self.angle)
        K1, K2 = contraction(self.G1, (nx, ni)), contraction(self.G2, (no, nx))
        W = corner(K1, K2, contraction(self.G0, (no, ni)))
        D = W - K2 @ jax.vmap(lambda k: turned(re, -im, k), 1, 1)(K1)
        # Slower by `slack` and with inputs smaller by `headroom`: room for the rounding of the poles and of the ports.
        faster, smaller = (1 - slack(dtype)) * rate, 1 - headroom(dtype)
        return DiagonalRecurrence(
            faster * re, faster * im, smaller * d[:, None] * K1, rate * K2 * d[None, :], smaller * D
        )

    def quiet(self, factor: float) -> "DiagonalParameters":
        """Return the same with output arrays multiplied by `factor`."""
        return scaled_rows(self, factor, "G2", "G0")


def _modes(rng: np.random.Generator, real: int, pairs: int, memory: tuple[float, float]) -> list[np.ndarray]:
    """Return q and the angle of modes `e^(-1/tau)` of time constants tau, samples, spread evenly on a logarithmic scale."""
    shortest, longest = np.log(memory)
    tau = np.exp(rng.uniform(shortest, longest, real))
    # Up to one turn in a time constant: oscillations damped well enough to be of use to most plants.
    angle = np.minimum(rng.uniform(0, 2 * math.pi, pairs) / tau[:pairs], 0.9 * math.pi)
    # sigmoid(2 q) = e^(-2 / tau)
    return [-1 / tau - np.log(-np.expm1(-2 / tau)) / 2, angle]
