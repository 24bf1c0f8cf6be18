"""A contracting model in innovation form: a predictor that continues through any pattern of lost samples."""

import itertools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..affine import to_float64
from ..checks import check_sizes
from ..errors import InvalidModelError
from ..linalg import exact_map, slack
from ..registry import registered
from ..system import System
from .activations import Activation
from .arrays import check_free, check_one, check_shapes, free_dtype
from .guarantee import Contracting, Guaranteed
from .initializers import draw, lecun_normals, split
from .numpy_maps import in_numpy, zeros
from .r2dn import ExplicitR2DN
from .sandwich import LBDN

# 2^8 = 256 norms of (nx, ny) matrices each time the map runs.
MOST_OUTPUTS = 8


@registered()
class InnovationSystem(System):
    """A predictor of the measured outputs that reads them as it goes; its input is `[u, y, seen]`, `seen` 0 or 1.

    ::

        w     = phi(C1 x + D12 u + bv),            y_hat = C2 x + D21 w + D22 u + by
        x+    = A x + B1 w + B2 u + K diag(seen) (y - y_hat) + bx

    The output is `y_hat`, made before `y` is read: a prediction of one sample where the last one was seen, of several
    where it was lost. Rows of `y_hat` past the ny that are measured estimate channels that never are.

    **Arguments:**

    - `A`: (nx, nx).
    - `B1`: (nx, nv).
    - `B2`: (nx, nu).
    - `K`: gain from the innovation of the ny measured outputs, (nx, ny).
    - `C1`: (nv, nx).
    - `C2`: (no, nx), no = ny + nz.
    - `D12`: (nv, nu).
    - `D21`: (no, nv).
    - `D22`: (no, nu).
    - `bx`: offset of the state, (nx,).
    - `bv`: offset of what reaches the network, (nv,).
    - `by`: offset of the prediction, (no,).
    - `phi`: the network, 1-Lipschitz, from nv features to nv.
    - `rate`: that it was built for, per sample.
    """

    A: Float[Array, "nx nx"]
    B1: Float[Array, "nx nv"]
    B2: Float[Array, "nx nu"]
    K: Float[Array, "nx ny"]
    C1: Float[Array, "nv nx"]
    C2: Float[Array, "no nx"]
    D12: Float[Array, "nv nu"]
    D21: Float[Array, "no nv"]
    D22: Float[Array, "no nu"]
    bx: Float[Array, " nx"]
    bv: Float[Array, " nv"]
    by: Float[Array, " no"]
    phi: Callable
    rate: Float[Array, ""] | float

    @property
    def nu(self) -> int:
        """Number of inputs, which are controls, measured outputs and flags of what was seen of these."""
        return self.B2.shape[1] + 2 * self.K.shape[1]

    @property
    def ny(self) -> int:
        """Number of outputs."""
        return self.by.size

    @property
    def predictor_sizes(self) -> tuple[int, int]:
        """Numbers of controls and measured outputs that it reads."""
        return self.B2.shape[1], self.K.shape[1]

    @property
    def flags(self) -> tuple[int, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Positions of the flags of what was seen."""
        return tuple(range(self.nu - self.K.shape[1], self.nu))

    def modes(self) -> tuple[System, ...]:
        """Return the model under each pattern of seen outputs, its products in float64: `under` rounds them to its dtype."""
        check_one(self, self.bx)
        nx, nv, no, nu = self.bx.size, self.bv.size, self.by.size, self.B2.shape[-1]
        check_shapes(
            self,
            A=(nx, nx),
            B1=(nx, nv),
            B2=(nx, nu),
            C1=(nv, nx),
            C2=(no, nx),
            D12=(nv, nu),
            D21=(no, nv),
            D22=(no, nu),
        )
        with jax.enable_x64(True):
            exact = to_float64(self)
            patterns = itertools.product((0.0, 1.0), repeat=self.K.shape[1])
            return tuple(exact.under(seen) for seen in patterns)

    def init_state(self) -> Float[Array, " nx"]:
        """Return the zero state."""
        return jnp.zeros(self.bx.shape, self.bx.dtype)

    def predict(self, x: Float[Array, " nx"], u: Float[Array, " nu"]) -> tuple[Array, Array]:
        """Return `(x_next, y_hat)` of a sample at which nothing is measured."""
        w = self.phi(self.C1 @ x + self.D12 @ u + self.bv)
        return (
            self.A @ x + self.B1 @ w + self.B2 @ u + self.bx,
            self.C2 @ x + self.D21 @ w + self.D22 @ u + self.by,
        )

    def step(self, x: Float[Array, " nx"], u: Float[Array, " n"]) -> tuple[Array, Array]:
        """Return `(x_next, y_hat)`; here the input is `[u, y, seen]`."""
        check_one(self, self.bx)
        nu, ny = self.B2.shape[1], self.K.shape[1]
        x_next, y_hat = self.predict(x, u[:nu])
        y, seen = u[nu : nu + ny], u[nu + ny :]
        return x_next + self.K @ (seen * (y - y_hat[:ny])), y_hat

    def under(self, seen: Sequence[float]) -> ExplicitR2DN:
        """Return the model from `[u, y]` to `y_hat` while the same channels are seen, as an R2DN with metric I."""
        return self._under(jax.device_put(np.asarray(seen, self.K.dtype)))

    @exact_map
    def _under(self, seen: Float[Array, " ny"]) -> ExplicitR2DN:
        K = self.K * seen[None]
        nv, ny = self.bv.size, K.shape[1]
        C2, D21, D22, by = (a[:ny] for a in (self.C2, self.D21, self.D22, self.by))
        none = (jnp.zeros((rows, ny), K.dtype) for rows in (nv, self.by.size))
        D12, whole_D22 = (jnp.hstack([D, zero]) for D, zero in zip((self.D12, self.D22), none, strict=True))
        return ExplicitR2DN(
            A=self.A - K @ C2, B1=self.B1 - K @ D21, B2=jnp.hstack([self.B2 - K @ D22, K]),
            C1=self.C1, C2=self.C2, D12=D12, D21=self.D21, D22=whole_D22,
            bx=self.bx - K @ by, bv=self.bv, by=self.by, phi=self.phi,
            P=jnp.eye(self.bx.size, dtype=self.bx.dtype), supply=None, rate=self.rate,
        )  # fmt: skip


def _sizes(model: "InnovationR2DN") -> dict:
    nx, nu, ny = model.bx.size, model.B2.shape[1], model.H.shape[1]
    return {"nu": nu, "nx": nx, "nv": model.bv.size, "ny": ny, "nz": model.by.size - ny, "hidden": ()}


@registered(sizes=_sizes)
class InnovationR2DN(Guaranteed):
    """R2DN in innovation form that is contracting under every pattern of lost samples, whatever the free arrays.

    ::

        |x1+ - x2+| <= rate |x1 - x2|      for equal inputs, whichever outputs are seen at whichever sample

    so a single metric, the identity, serves free run, filtering and everything between: outputs may be lost and come back
    at any time without harm. The plant must be open-loop stable, or no model of it contracts in free run. With
    `M = L L' = diag(rate^2 I - C1' C1, I)` this asks of `[A B1] = N_0 L'` that::

        |N_0 - K diag(seen) C| <= 1   for all seen in {0, 1}^ny,     C = [C2 D21] L'^-1 = R' Q'  (QR of C')

    and `N_0 = N (I - Q Q') + F G Q'`, `K = F H`, `F F' = I - N (I - Q Q') N'` reaches every such pair from a contraction
    N and `(G, H)` divided by `max(1, max over seen of |G - H diag(seen) R'|)`. The parameterization is ours, from the small-gain
    condition of [BWM25], Proposition 1, with phi 1-Lipschitz.

    **Arguments:**

    - `nu`: number of controls.
    - `nx`: number of states.
    - `nv`: number of network features.
    - `ny`: number of measured outputs, at most 8, because their patterns are enumerated.
    - `nz`: number of further channels to estimate from the same state that are never measured in use, a speed for example.
    - `hidden`: widths of the network's hidden layers.
    - `rate`: in (0, 1], per sample.
    - `activation`: elementwise, slope in [0, 1].
    - `key`: seeds the initial values, one PRNG key.
    - `dtype`: of the free arrays, float32 or float64; default that of JAX.

    **Raises:** `InvalidModelError` for a size below 1, another dtype, more than 8 outputs, a rate outside (0, 1] or a slope outside [0, 1].
    """

    X: Float[Array, "nx n"]
    C1_free: Float[Array, "nv nx"]
    G: Float[Array, "nx ny"]
    H: Float[Array, "nx ny"]
    B2: Float[Array, "nx nu"]
    C2: Float[Array, "no nx"]
    D12: Float[Array, "nv nu"]
    D21: Float[Array, "no nv"]
    D22: Float[Array, "no nu"]
    bx: Float[Array, " nx"]
    bv: Float[Array, " nv"]
    by: Float[Array, " no"]
    phi: LBDN
    guarantee: Contracting

    def __init__(
        self,
        *,
        nu: int,
        nx: int,
        nv: int,
        ny: int,
        nz: int = 0,
        hidden: Sequence[int] = (32, 32),
        rate: float = 1.0,
        activation: Activation = jax.nn.relu,
        key: PRNGKeyArray,
        dtype=None,
    ):
        check_sizes(nu=nu, nx=nx, nv=nv, ny=ny)
        if nz < 0:
            raise InvalidModelError(f"nz must be at least 0, got {nz}")
        self.guarantee = Contracting(rate)
        dtype = free_dtype(dtype)
        if ny > MOST_OUTPUTS:
            raise InvalidModelError(
                f"ny must be at most {MOST_OUTPUTS}, for every pattern of lost outputs counts, got {ny}"
            )
        a_key, c_key, h_key, port_key, D_key, phi_key = split(key, 6)
        (self.X,) = draw(
            lambda rng: [np.eye(nx, nx + nv) / rng.uniform(0.05, 0.6, (nx, 1))], [(nx, nx + nv)], dtype, a_key
        )
        (self.C1_free,) = lecun_normals(c_key, ((nv, nx),), dtype)
        no = ny + nz
        self.B2, self.C2, self.D12 = lecun_normals(port_key, ((nx, nu), (no, nx), (nv, nu)), dtype)
        (self.D21,) = lecun_normals(D_key, ((no, nv),), dtype, 0.1)
        self.D22 = zeros((no, nu), dtype)
        self.bx, self.bv, self.by = (zeros(n, dtype) for n in (nx, nv, no))
        self.phi = LBDN(nv, nv, tuple(hidden), activation=activation, key=phi_key, dtype=dtype)
        (self.H,) = lecun_normals(h_key, ((nx, ny),), dtype, 0.3)
        self.G = _continued(self)

    @exact_map
    def explicit(self) -> InnovationSystem:
        """Map to the model; differentiable, a few factorizations of (nx + nv)-sized matrices."""
        check_free(self, self.bx)
        nx = self.bx.size
        L, C1, N, Q, R = self._parts()
        keep = 1 - slack(L.dtype)
        # K acts within the span of Q alone, so N is divided into that part and the rest, which no pattern changes.
        rest = N - (N @ Q) @ Q.T
        # G and H share what the rest leaves, F F' = I - rest rest': the bound holds if |G - H diag(seen) R'| <= 1.
        F = jnp.linalg.cholesky(jnp.eye(nx, dtype=L.dtype) - rest @ rest.T)
        G, H = _within(self.G, self.H, R)
        # One factor for A, B1 and K keeps the bound for every pattern: it scales N_0 and K alike.
        whole = keep * (rest + F @ G @ Q.T) @ L.T
        return InnovationSystem(
            A=whole[:, :nx], B1=whole[:, nx:], B2=self.B2, K=keep * F @ H, C1=C1, C2=self.C2, D12=self.D12, D21=self.D21,
            D22=self.D22, bx=self.bx, bv=self.bv, by=self.by, phi=self.phi.explicit(), rate=self.rate,
        )  # fmt: skip

    def _parts(self) -> tuple[Array, ...]:
        """The factor L of M, C1, the contraction N, and Q R of C'."""
        nx, nv = self.bx.size, self.bv.size
        # |C1| < rate leaves rate^2 I - C1'C1 definite; ten times the slack, because its Cholesky factor is divided by.
        C1 = self.rate * (1 - 10 * slack(self.X.dtype)) * _contraction(self.C1_free)
        eye = jnp.eye(nx, dtype=C1.dtype)
        small = jnp.linalg.cholesky(self.rate**2 * eye - C1.T @ C1)
        L = jax.scipy.linalg.block_diag(small, jnp.eye(nv, dtype=C1.dtype))
        ny = self.H.shape[1]
        # C' in the coordinates in which M is the identity.
        C = jnp.linalg.solve(L, jnp.hstack([self.C2[:ny], self.D21[:ny]]).T)
        Q, R = jnp.linalg.qr(C)
        return L, C1, _contraction(self.X), Q, R


def _contraction(X: Float[Array, "m n"]) -> Float[Array, "m n"]:
    """Return `X (I + X'X)^-1/2` up to a rotation: every matrix of norm below one, once."""
    # With L L' = I + X'X the result has N N' = X (I + X'X)^-1 X' < I.
    L = jnp.linalg.cholesky(jnp.eye(X.shape[1], dtype=X.dtype) + X.T @ X)
    return jnp.linalg.solve(L, X.T).T


def _within(G: Array, H: Array, R: Array) -> tuple[Array, Array]:
    """Divide both by the largest norm over all patterns, where that is above one."""
    seen = jnp.asarray(list(itertools.product((0.0, 1.0), repeat=R.shape[0])), R.dtype)
    norms = jax.vmap(lambda m: jnp.linalg.norm(G - (H * m[None]) @ R.T, 2))(seen)
    # Both by the same number, so that the largest norm becomes one; not below one, or small gains could not be reached.
    most = jnp.maximum(jnp.max(norms), 1.0)
    return G / most, H / most


def _continued(model: InnovationR2DN) -> Array:
    """The G with which the first part of the map leaves N unchanged: at the start outputs do not enter the dynamics."""
    (nx, ny), nv, dtype = model.H.shape, model.bv.size, model.X.dtype

    def contraction(X):
        return np.linalg.solve(np.linalg.cholesky(np.eye(X.shape[1]) + X.T @ X), X.T).T

    rate = float(model.guarantee.rate)

    def compute(X, C1_free, C2, D21):
        C1 = rate * (1 - 10 * slack(dtype)) * contraction(C1_free)
        L = np.eye(nx + nv)
        L[:nx, :nx] = np.linalg.cholesky(rate**2 * np.eye(nx) - C1.T @ C1)
        Q, _ = np.linalg.qr(np.linalg.solve(L, np.hstack([C2[:ny], D21[:ny]]).T))
        NQ = contraction(X) @ Q
        rest = contraction(X) - NQ @ Q.T
        return [np.linalg.solve(np.linalg.cholesky(np.eye(nx) - rest @ rest.T), NQ)]

    return in_numpy(compute, [(nx, min(ny, nx + nv))], dtype, model.X, model.C1_free, model.C2, model.D21)[0]
