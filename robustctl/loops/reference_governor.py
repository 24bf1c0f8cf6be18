"""Set points that are followed only as fast as the limits of the loop allow."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree
from typing_extensions import override

from ..affine import is_affine, to_float64
from ..errors import InvalidModelError
from ..linalg import unstable
from ..registry import registered
from ..system import System
from .barrier import predicted_state, sizes
from .feedback import check_sample_time
from .filters import limits_or_none
from .invariant_set import determined
from .parts import FirstKnown
from .state_sets import StateLimits, columns

INSIDE = 0.99
"""Share of what is left of a limit in the steady state that set points may use; below 1 finitely many half-spaces are enough."""


class GovernorState(NamedTuple):
    """State of a reference governor.

    **Arguments:**

    - `controller`: state of the controller.
    - `v`: the set point (nr,) that the controller read last.
    """

    controller: PyTree
    v: Float[Array, " nr"]


class _Loop(NamedTuple):
    """An affine loop: `z+ = A z + B v + c`, `u = K z + D v + k` with the plant's and the controller's state z."""

    A: np.ndarray
    B: np.ndarray
    c: np.ndarray
    K: np.ndarray
    D: np.ndarray
    k: np.ndarray


@registered(name="loops.ReferenceGovernor")
class ReferenceGovernor(System):
    """A controller whose set points move towards the wanted ones as far as the loop keeps its limits for ever with them constant.

    ::

        v+ = v + kappa (r - v),   kappa in [0, 1] the largest with (z, v+) in O,   then each set point alone as far as it can go
        O = {(z, v) : the loop from z with the set point v keeps all limits at every later sample, whatever |d_j| <= 1}

    with the state z of plant and controller. O is the maximal output-admissible set, a polytope, so that kappa is the smallest of some
    quotients. Once (z, v) is in O it remains there: v need not change. Limits hold for linear plants and controllers, states
    that are measured and disturbances within the assumed size. Source: E. Garone, S. Di Cairano, I. Kolmanovsky, Automatica 75, 2017.

    It reads `[y, r]`, of which y begins with the plant's state.

    **Arguments:**

    - `plant`: a linear system or plant, as for `Barrier`.
    - `controller`: a linear system that reads `[y, r]`, with y the plant's state.
    - `limits`: of the plant's states, `StateLimits`.
    - `disturbance`: E (nx, nd), what acts on the plant's state in a sample; default none.
    - `low`: lowest controls (nu,), default none.
    - `high`: highest controls (nu,), default none.
    - `v0`: the first set point (nr,), default zero.
    - `steps`: largest number of samples that O is made of.

    **Raises:** `InvalidModelError` for a plant or controller that is not linear, a loop that is not stable, with its poles, a first set
    point whose equilibrium is outside the limits, and what `maximal_invariant_set` refuses.

    **Example:** ::

        plant = rc.StateSpace([[1.0, 0.1], [0.0, 1.0]], [[0.005], [0.1]], [[1.0, 0.0], [0.0, 1.0]], [[0.0], [0.0]], dt=0.1)
        law = rc.loops.Gain(jnp.array([[-4.0, -3.0, 4.0]]), jnp.zeros(3), jnp.zeros(1))    # u = 4 (r - x[0]) - 3 x[1]
        limits = rc.loops.StateLimits([[1.0, 0.0], [0.0, 1.0]], [1.0, 0.5])
        governed = rc.loops.ReferenceGovernor(plant, law, limits, low=[-1.0], high=[1.0])
    """

    controller: System
    H: Float[Array, "k nz"]
    G: Float[Array, "k nr"]
    limit: Float[Array, " k"]
    v0: Float[Array, " nr"]
    y0: Float[Array, " ny"]

    dt, outputs, output_units = FirstKnown("controller"), FirstKnown("controller"), FirstKnown("controller")

    def __init__(
        self, plant: System, controller: System, limits: StateLimits, disturbance=None, *, low=None, high=None, v0=None, steps: int = 500
    ):  # fmt: skip
        nx, nu = sizes(plant)
        check_sample_time("the controller", controller, "the plant's", plant)
        references = (controller.nu or nx) - nx
        if references < 1:
            raise InvalidModelError(
                f"the controller must read the plant's {nx} states and at least one reference, got {controller.nu} inputs; give it as many"
            )
        v0 = np.zeros(references) if v0 is None else np.asarray(v0, np.float64)
        if v0.shape != (references,):
            raise InvalidModelError(
                f"v0 must have one number for each of {references} references, got shape {v0.shape}"
            )
        loop = _affine_loop(plant, controller, nx, references)
        if poles := unstable(np.linalg.eigvals(loop.A)):
            raise InvalidModelError(
                f"the loop must be stable, got one with the poles {poles} (stable: inside the unit circle); only then may a set point "
                "stay constant for ever"
            )
        bounds = [np.asarray(a, np.float64) for a in limits_or_none(low, high, nu)]
        H, G, left, middle = _admissible(
            loop, limits, columns(disturbance, nx), (bounds[0], bounds[1]), v0, steps
        )
        self.controller, self.v0 = controller, jnp.asarray(v0, float)
        self.H, self.G, self.limit = (jnp.asarray(a, float) for a in (H, G, left))
        self.y0 = jnp.asarray(middle[:nx], float)

    @property
    @override
    def nu(self) -> int:
        """Number of states and references that it reads."""
        return self.y0.shape[0] + self.v0.shape[0]

    @property
    @override
    def ny(self) -> int | None:
        """Number of controls."""
        return self.controller.ny

    @property
    @override
    def references(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Number of references; without them the set point stays."""
        return self.v0.shape[0]

    @override
    def undisturbed(self, references: int = 0) -> Array:
        """Return the state of the first equilibrium, and `references` numbers of the first set point after it."""
        return jnp.concatenate([self.y0, self.v0[:references]])

    @override
    def init_state(self) -> GovernorState:
        """Return the controller's initial state and the first set point."""
        return GovernorState(self.controller.init_state(), self.v0)

    @override
    def step(self, x: GovernorState, u: Float[Array, " n"]) -> tuple[GovernorState, Float[Array, " nu"]]:
        """Return `(x_next, control)`; here the input is `[y, r]`, or y alone."""
        nx = self.y0.shape[0]
        r = u[nx:] if u.shape[0] > nx else x.v
        z = jnp.concatenate([u[:nx], ravel_pytree(x.controller)[0].astype(u.dtype)])
        v = self._moved(z, x.v, jnp.where(jnp.isfinite(r), r, x.v))
        inner, control = self.controller.step(x.controller, jnp.concatenate([u[:nx], v]))
        return GovernorState(inner, v), control

    def _moved(self, z: Array, v: Array, r: Array) -> Array:
        """Return the set point that is nearest to the wanted one on the way: all of them together, then one after the other."""
        H, G, limit = (a.astype(z.dtype) for a in (self.H, self.G, self.limit))
        ways = jnp.concatenate([jnp.ones((1, v.shape[0]), z.dtype), jnp.eye(v.shape[0], dtype=z.dtype)])
        for way in ways[: 1 if v.shape[0] == 1 else None]:
            step = way * (r - v)
            left, used = limit - H @ z - G @ v, G @ step
            quotients = jnp.where(used > 0, left / jnp.where(used > 0, used, 1), 1)
            v = v + jnp.clip(jnp.min(quotients), 0, 1) * step
        return v

    @override
    def prepare(self) -> "ReferenceGovernor":
        """Return the same with its controller prepared for many steps."""
        return eqx.tree_at(lambda governor: governor.controller, self, self.controller.prepare())


def _affine_loop(plant: System, controller: System, nx: int, references: int) -> _Loop:
    """Return the matrices of a loop in float64.

    **Raises:** `InvalidModelError` for one that is not affine.
    """
    with jax.enable_x64(True):
        plant, controller = to_float64(plant.prepare()), to_float64(controller)
        inner, restore = ravel_pytree(controller.init_state())
        nz = nx + inner.size

        def step(zv: Array) -> Array:
            after, u = controller.step(restore(zv[nx:nz]), jnp.concatenate([zv[:nx], zv[nz:]]))
            flat = ravel_pytree(after)[0].astype(zv.dtype)  # of a controller without a state it is float32
            return jnp.concatenate([predicted_state(plant, zv[:nx], u), flat, u])

        zero = jnp.zeros(nz + references)
        if not is_affine(step, zero):
            raise InvalidModelError(
                "plant and controller must be linear, or affine, and this was not shown; give a linear plant or rc.classical.linearize of "
                "it, and a controller without limits: those are low and high"
            )
        M, c = (np.asarray(a, np.float64) for a in jax.jit(lambda z: (jax.jacfwd(step)(z), step(z)))(zero))
    return _Loop(M[:nz, :nz], M[:nz, nz:], c[:nz], M[nz:, :nz], M[nz:, nz:], c[nz:])


def _admissible(
    loop: _Loop,
    limits: StateLimits,
    E: np.ndarray,
    bounds: tuple[np.ndarray, np.ndarray],
    v0: np.ndarray,
    steps: int,
) -> tuple[np.ndarray, ...]:
    """Return H, G, limit of `H z + G v <= limit`, and the equilibrium of the first set point."""
    nz, nr = loop.B.shape
    at_rest = np.linalg.inv(np.eye(nz) - loop.A)
    middle = at_rest @ (loop.B @ v0 + loop.c)
    C = np.pad(np.asarray(limits.C, np.float64), ((0, 0), (0, nz - limits.C.shape[1])))
    u0 = loop.K @ middle + loop.D @ v0 + loop.k
    rows = np.vstack([C, loop.K, -loop.K])
    direct = np.vstack([np.zeros((len(C), nr)), loop.D, -loop.D])
    left = np.concatenate([np.asarray(limits.limit, np.float64) - C @ middle, bounds[1] - u0, u0 - bounds[0]])
    rows, direct, left = (a[np.isfinite(left)] for a in (rows, direct, left))
    E = np.pad(E, ((0, nz - len(E)), (0, 0)))
    # In the steady state of a set point, less all that disturbances can do, a share of each limit stays free.
    rest = INSIDE * (left - _reach(loop.A, rows, E))
    if not (rest > 0).all():
        raise InvalidModelError(
            f"the first set point must be possible: its equilibrium within the limits less what disturbances can do, got {rest.min():.4g} "
            "left of one; give another v0, wider limits or smaller disturbances"
        )
    whole = np.block([[loop.A, loop.B], [np.zeros((nr, nz)), np.eye(nr)]])
    steady = np.hstack([np.zeros((len(rows), nz)), rows @ at_rest @ loop.B + direct])
    found, one = determined(
        whole,
        np.hstack([rows, direct]),
        left,
        np.pad(E, ((0, nr), (0, 0))),
        given=(steady, rest),
        steps=steps,
    )
    H, G = found[:, :nz], found[:, nz:]
    return H, G, one + H @ middle + G @ v0, middle


def _reach(A: np.ndarray, C: np.ndarray, E: np.ndarray) -> np.ndarray:
    """Return `sum_j |C A^j E| 1`, what disturbances can do to `C x` in all."""
    total, X = np.zeros(len(C)), E
    # The terms fall at the rate of the slowest pole, which is below one: the loop was found stable.
    while X.size and np.abs(X).max() > 1e-15 * max(1.0, np.abs(E).max()):
        total, X = total + np.abs(C @ X).sum(1), A @ X
    return total
