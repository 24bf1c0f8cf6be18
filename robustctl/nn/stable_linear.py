"""Linear systems, and linear systems that stay stable while they are trained."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..checks import check_rate, check_sizes
from ..errors import InvalidModelError
from ..lft import LFT, Claim, float64, linear
from ..linalg import exact_map, slack
from ..pytrees import fields_of
from ..registry import registered
from ..state_space import DirectPath
from .arrays import check_free, check_one, check_shapes, free_dtype, number
from .bounded_real import bounded_real
from .guarantee import Contracting, Guaranteed
from .initializers import Initializer, lecun_normals, random, split
from .inverse import core_arrays, invert_bounded_real
from .nearest import gramian
from .numpy_maps import norm, zeros


@registered()
class LinearSystem(DirectPath):
    """A linear system ready to step.

    ::

        x+ = A x + B u + bx
        y  = C x + D u + by

    with the metric `P` and the `rate` of `A' P A <= rate^2 P`, which `certify` checks and stepping does
    not use.

    **Arguments:**

    - `A`: (nx, nx).
    - `B`: (nx, nu).
    - `C`: (ny, nx).
    - `D`: (ny, nu).
    - `bx`: offset of the state, (nx,).
    - `by`: offset of the output, (ny,).
    - `P`: metric, (nx, nx).
    - `rate`: contraction rate per sample.
    """

    A: Float[Array, "nx nx"]
    B: Float[Array, "nx nu"]
    C: Float[Array, "ny nx"]
    D: Float[Array, "ny nu"]
    bx: Float[Array, " nx"]
    by: Float[Array, " ny"]
    P: Float[Array, "nx nx"]
    rate: Float[Array, ""] | float

    def linear_part(self) -> tuple[Array, ...]:
        """Return the matrices and offsets."""
        return self.A, self.B, self.C, self.D, self.bx, self.by

    def lft(self) -> LFT:
        """Return the matrices."""
        check_one(self, self.bx)
        nx, nu, ny = self.bx.size, self.B.shape[-1], self.by.size
        check_shapes(self, A=(nx, nx), B=(nx, nu), C=(ny, nx), D=(ny, nu), by=(ny,), P=(nx, nx))
        return linear(self.A, self.B, self.C, self.D)

    @property
    def claim(self) -> Claim:
        """The rate and its metric."""
        (P,) = float64(self.P)
        return Claim(check_rate(number(self, "rate")), P, None, ())

    def init_state(self) -> Float[Array, " {self.A.shape[0]}"]:
        """Return the zero state."""
        return jnp.zeros_like(self.bx)

    def step(
        self, x: Float[Array, " {self.A.shape[0]}"], u: Float[Array, " {self.B.shape[1]}"]
    ) -> tuple[Float[Array, " {self.A.shape[0]}"], Float[Array, " {self.C.shape[0]}"]]:
        """Return `(x_next, y)`."""
        check_one(self, self.bx)
        return self.A @ x + self.B @ u + self.bx, self.C @ x + self.D @ u + self.by


def _sizes(model: "StableLinear") -> dict:
    (ny, nx), nu = model.C.shape, model.B.shape[1]
    return {"nu": nu, "nx": nx, "ny": ny}


@registered(sizes=_sizes)
class StableLinear(Guaranteed):
    """Linear system with all modes inside the circle of radius `rate`, whatever the free arrays.

    ::

        V(x1+ - x2+) <= rate^2 V(x1 - x2),   V(d) = d' P d

    `A` is that of `bounded_real` with neither inputs nor outputs, which reaches every such `A`; `B`, `C`
    and `D` are free. Source: [RWM23], eq. (19), without neurons.

    **Arguments:**

    - `nu`: number of inputs.
    - `nx`: number of states.
    - `ny`: number of outputs.
    - `rate`: in (0, 1], per sample.
    - `init`: an initializer: `random`, `long_memory`, `resonances`.
    - `key`: seeds the initial values, one PRNG key.
    - `dtype`: of the free arrays, float32 or float64; default that of JAX.

    **Raises:** `InvalidModelError` for a size below 1, another dtype or a rate outside (0, 1].
    """

    X: Float[Array, "nh nh"]
    p: Float[Array, ""]
    Y: Float[Array, "nx nx"]
    B: Float[Array, "nx nu"]
    C: Float[Array, "ny nx"]
    D: Float[Array, "ny nu"]
    bx: Float[Array, " nx"]
    by: Float[Array, " ny"]
    guarantee: Contracting

    def __init__(
        self,
        *,
        nu: int,
        nx: int,
        ny: int,
        rate: float = 1.0,
        init: Initializer = random,
        key: PRNGKeyArray,
        dtype=None,
    ):
        check_sizes(nu=nu, nx=nx, ny=ny)
        self.guarantee = Contracting(rate)
        dtype = free_dtype(dtype)
        core_key, port_key = split(key, 2)
        self.X, self.Y, _, _ = init(core_key, nx, zeros((0, 0), dtype), float(self.guarantee.rate))
        self.p = norm(self.X)
        self.B, self.C = lecun_normals(port_key, ((nx, nu), (ny, nx)), dtype)
        self.D = zeros((ny, nu), dtype)
        self.bx, self.by = zeros(nx, dtype), zeros(ny, dtype)

    @exact_map
    def explicit(self) -> LinearSystem:
        """Map to the model; differentiable, one solve with an (nx, nx) matrix."""
        check_free(self, self.bx)
        nx, dtype = self.bx.size, self.X.dtype
        # Without ports the map leaves A'PA < rate^2 P alone, and B, C and D do not enter.
        B, C, D = (jnp.zeros(shape, dtype) for shape in ((nx, 0), (0, nx), (0, 0)))
        A, _, P = bounded_real(self.X, self.p, self.Y, B, C, D, self.rate)
        return LinearSystem(A=A, B=self.B, C=self.C, D=self.D, bx=self.bx, by=self.by, P=P, rate=self.rate)

    def quiet(self, factor: float = 1e-2) -> "StableLinear":
        """Return the model with its output arrays multiplied by `factor`."""
        return eqx.tree_at(lambda m: (m.C, m.D), self, (factor * self.C, factor * self.D))


def stable_linear_at(A, B, C, D, by, *, rate: float = 1.0) -> StableLinear:
    """Return the `StableLinear` whose model is a given one, in other coordinates of the state.

    ::

        x+ = A x + B u,    y = C x + D u + by

    The new state is `L' x`, in which the metric is the identity: `L L' = P` solves `A' P A - s^2 P = -C'C - small I` for a rate s in the
    middle between the spectral radius and `rate`, which leaves the contraction a margin.

    **Arguments:**

    - `A`: (nx, nx), with a spectral radius below `rate`.
    - `B`: (nx, nu).
    - `C`: (ny, nx).
    - `D`: (ny, nu).
    - `by`: offset of the output, (ny,).
    - `rate`: in (0, 1], per sample.

    **Raises:** `InvalidModelError` for an A that is not stable at the rate.
    """
    A, B, C, D = (np.asarray(M, np.float64) for M in (A, B, C, D))
    radius = np.abs(np.linalg.eigvals(A)).max(initial=0.0)
    if not radius < rate:
        raise InvalidModelError(f"A must have a spectral radius below the rate {rate:g}, got {radius:.6g}")
    nx, (ny, nu) = len(A), D.shape
    L = np.linalg.cholesky(gramian((A / ((radius + rate) / 2)).T, C.T @ C))
    A, B, C = L.T @ np.linalg.solve(L, A.T).T, L.T @ B, np.linalg.solve(L, C.T).T
    model = StableLinear(nu=nu, nx=nx, ny=ny, rate=rate, key=jax.random.key(0))
    free = _core(A, rate, slack(model.B.dtype)) | {"B": B, "C": C, "D": D, "by": by}
    arrays = [jnp.asarray(value, model.B.dtype) for value in free.values()]
    return eqx.tree_at(lambda m: [fields_of(m)[name] for name in free], model, arrays)


def _core(A: np.ndarray, rate: float, least: float) -> dict[str, np.ndarray]:
    nx, ports = len(A), (np.zeros((len(A), 0)), np.zeros((0, len(A))), np.zeros((0, 0)))
    X = invert_bounded_real(np.eye(nx), A, rate**2 * np.eye(nx), *ports, rate, least)
    if not np.isfinite(X).all():
        # A mode within the slack of the rate becomes faster by it.
        X = invert_bounded_real(np.eye(nx), A, rate**2 * np.eye(nx), *ports, rate, 0.0)
    return core_arrays(X, np.zeros(nx))
