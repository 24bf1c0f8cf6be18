"""Sets of states as functions that are at least 0 inside: half-spaces and ellipsoids, and what bounded errors can take from them."""

import abc

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from typing_extensions import override

from ..errors import InvalidModelError
from ..registry import registered
from ..system import Certifiable
from .filters import vector


class StateSet(Certifiable):
    """A set of states, `h(x) >= 0`, with the most that an error of the state can change h by.

    A class of your own defines `__call__`, `box_margin` and `ball_margin`.
    """

    @abc.abstractmethod
    def __call__(self, x: Float[Array, " nx"]) -> Float[Array, " k"]:
        """Return h, at least 0 inside of the set."""

    @abc.abstractmethod
    def box_margin(self, E: np.ndarray) -> np.ndarray:
        """Return the most (k,) that `E d` with `|d_j| <= 1` can lower h by, at any state; E is (nx, nd)."""

    @abc.abstractmethod
    def ball_margin(self, W: np.ndarray) -> np.ndarray:
        """Return the most (k,) that `W v` with `|v| <= 1` can lower h by, at any state; W is (nx, nx)."""


@registered(name="loops.StateLimits")
class StateLimits(StateSet):
    """Limits of linear combinations of states: `h(x) = limit - C x`, which must stay at 0 or above.

    **Arguments:**

    - `C`: one row for each limit (k, nx).
    - `limit`: largest values of `C x` (k,).

    **Raises:** `InvalidModelError` for another number of limits than rows.

    **Example:** ::

        h = rc.loops.StateLimits([[1.0, 0.0], [-1.0, 0.0]], [0.5, 0.5])    # |x[0]| <= 0.5
    """

    C: Float[Array, "k nx"]
    limit: Float[Array, " k"]

    def __init__(self, C, limit):
        self.C, self.limit = jnp.atleast_2d(jnp.asarray(C)), vector(limit)
        if self.C.shape[0] != self.limit.shape[0]:
            raise InvalidModelError(
                f"there must be one limit for each row of C, got {self.limit.shape[0]} for {self.C.shape[0]} rows"
            )

    @override
    def __call__(self, x: Array) -> Array:
        """Return the distances (k,) from the limits."""
        return self.limit.astype(x.dtype) - self.C.astype(x.dtype) @ x

    @override
    def box_margin(self, E: np.ndarray) -> np.ndarray:
        return np.abs(np.asarray(self.C, np.float64) @ E).sum(1)

    @override
    def ball_margin(self, W: np.ndarray) -> np.ndarray:
        return np.linalg.norm(np.asarray(self.C, np.float64) @ W, axis=1)


@registered(name="loops.Ellipsoid")
class Ellipsoid(StateSet):
    """An ellipsoid of states, `(x - middle)' P (x - middle) <= 1`.

    ::

        h(x) = 1 - sqrt((x - middle)' P (x - middle))

    The root makes h fall by at most `|e|_P` with an error e of the state. `P` is for example that of a certificate or
    `plant_P` of `rc.certificates.region`, whose loop is proven not to leave it.

    **Arguments:**

    - `P`: (nx, nx), symmetric and positive definite.
    - `middle`: its center (nx,), default the origin.

    **Raises:** `InvalidModelError` for a P that is not symmetric and positive definite, or of another size than the middle.

    **Example:** ::

        h = rc.loops.Ellipsoid([[4.0, 0.0], [0.0, 1.0]])    # |2 x[0]|^2 + |x[1]|^2 <= 1
    """

    P: Float[Array, "nx nx"]
    middle: Float[Array, " nx"]

    def __init__(self, P, middle=None):
        self.P = jnp.atleast_2d(jnp.asarray(P))
        self.middle = vector(np.zeros(len(self.P)) if middle is None else middle)
        self.check_parts()

    @override
    def check_parts(self) -> None:
        if self.P.shape != 2 * self.middle.shape:
            raise InvalidModelError(
                f"P must be (nx, nx) for a middle (nx,), got {self.P.shape} and {self.middle.shape}"
            )
        metric_root(self.P)

    @override
    def __call__(self, x: Array) -> Array:
        """Return the distance (1,) from the surface in the metric P."""
        e = x - self.middle.astype(x.dtype)
        V = e @ self.P.astype(x.dtype) @ e
        # The root of 0 has no derivative; there any slope of h is right but infinity.
        return 1 - jnp.where(V > 0, jnp.sqrt(jnp.where(V > 0, V, 1)), 0)[None]

    @override
    def box_margin(self, E: np.ndarray) -> np.ndarray:
        return np.array([box_radius(metric_root(self.P), E)])

    @override
    def ball_margin(self, W: np.ndarray) -> np.ndarray:
        return np.array([np.linalg.norm(metric_root(self.P) @ W, 2)])


def metric_root(P) -> np.ndarray:
    """Return R with `R' R = P` in float64: `|R x|` is the norm of x in the metric P.

    **Raises:** `InvalidModelError` for a P that is not symmetric and positive definite.
    """
    P = np.asarray(P, np.float64)
    # float32 matrices are symmetric to their own rounding.
    if (
        P.ndim == 2
        and P.shape[0] == P.shape[1]
        and np.allclose(P, P.T, rtol=1e-5, atol=1e-6 * np.abs(P).max())
    ):
        try:
            return np.linalg.cholesky((P + P.T) / 2).T
        except np.linalg.LinAlgError:
            pass
    raise InvalidModelError(
        f"a metric P must be symmetric and positive definite, got {P.tolist()}; the P of a certificate is"
    )


def box_radius(root: np.ndarray, E: np.ndarray) -> float:
    """Return a bound on `|root E d|` over `|d_j| <= 1`: by the sizes of the entries, or of the columns where that is less."""
    moved = root @ E
    return float(min(np.linalg.norm(np.abs(moved).sum(1)), np.linalg.norm(moved, axis=0).sum()))


def columns(E, nx: int, name: str = "disturbance") -> np.ndarray:
    """Return the matrix (nx, nd) of `w = E d, |d_j| <= 1`; None is no disturbance, one column may be given as a vector.

    **Raises:** `InvalidModelError` for another number of rows, and numbers that are not finite.
    """
    E = np.zeros((nx, 0)) if E is None else np.asarray(E, np.float64)
    E = E[:, None] if E.ndim == 1 else E
    if E.ndim != 2 or E.shape[0] != nx or not np.isfinite(E).all():
        raise InvalidModelError(
            f"the {name} must be a finite matrix with a row for each of {nx} states and a column for each bounded number, got shape "
            f"{E.shape}"
        )
    return E
