"""Linear parameter-varying (LPV) systems that approach each other under every schedule, ready to step."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from typing_extensions import override

from ..checks import check_gamma, check_rate, is_whole
from ..errors import InvalidModelError
from ..lft import LFT, Bounded, Claim, float64
from ..linalg import frobenius
from ..registry import registered
from ..system import System, step_by_step
from .arrays import check_one, check_shapes, number
from .stable_linear import LinearSystem

EQUAL_SCHEDULES = "both trajectories have the same schedule, which may be any and as fast as it likes"


@registered()
class ScheduleMap(eqx.Module):
    """What the schedule p changes in an LPV system.

    ::

        f = [1; p; tanh(W p + b)],   k_j = K_j f / |K_j f|,   beta_j = 2 sigmoid(q_j f),   bx = E f,   by = F f
    """

    W: Float[Array, "nh np"]
    b: Float[Array, " nh"]
    K: Float[Array, "factors nv nf"]
    q: Float[Array, "factors nf"]
    E: Float[Array, "nx nf"]
    F: Float[Array, "ny nf"]

    def __call__(self, p: Float[Array, " np"]) -> tuple[Array, Array, Array, Array]:
        """Return the vectors k (factors, nv), beta (factors,), bx and by."""
        f = jnp.concatenate([jnp.ones(1, self.b.dtype), p, jnp.tanh(self.W @ p + self.b)])
        k = jax.vmap(_unit)(self.K @ f)
        nv = k.shape[1]
        # |k|^2 rounds to at most 1 + (nv + 8) eps: with beta |k|^2 <= 2 no factor has a norm above one.
        most = 2 / (1 + (nv + 8) * float(jnp.finfo(k.dtype).eps))
        return k, most * jax.nn.sigmoid(self.q @ f), self.E @ f, self.F @ f


def _unit(a: Float[Array, " nv"]) -> Float[Array, " nv"]:
    return a / frobenius(a)


@registered()
class LPVSystem(System):
    """An `LPV` ready to step; its input has the schedule p among its entries, the others are u.

    ::

        v = C1 x + D12 u,    w = H(p) v,    x+ = B1 w + bx(p),    y = D21 w + by(p)
        H(p) = (I - beta_1 k_1 k_1') ... (I - beta_m k_m k_m'),    |H(p)| <= 1

    `lft()` is None: the gain from the schedule has no bound. `modes()` is the system between its other inputs and its outputs,
    under whichever schedule; so is its certificate.

    **Arguments:**

    - `B1`: (nx, nv).
    - `C1`: (nv, nx).
    - `D12`: (nv, nu), nu inputs that are no schedule.
    - `D21`: (ny, nv).
    - `schedule_map`: from the schedule to what it changes.
    - `gamma`: gain bound that it was built for.
    - `rate`: contraction rate per sample that it was built for.
    - `schedule`: positions of the schedule among the inputs.
    """

    B1: Float[Array, "nx nv"]
    C1: Float[Array, "nv nx"]
    D12: Float[Array, "nv nw"]
    D21: Float[Array, "ny nv"]
    schedule_map: ScheduleMap
    gamma: Float[Array, ""] | float
    rate: Float[Array, ""] | float
    schedule: tuple[int, ...] = eqx.field(static=True)  # pyright: ignore[reportIncompatibleVariableOverride]

    @property
    def nu(self) -> int:
        """Number of inputs, the schedule included."""
        return self.D12.shape[1] + len(self.schedule)

    @property
    def ny(self) -> int:
        """Number of outputs."""
        return self.D21.shape[0]

    @property
    def others(self) -> tuple[int, ...]:
        """Positions of the inputs that are no schedule."""
        return tuple(k for k in range(self.nu) if k not in self.schedule)

    def init_state(self) -> Float[Array, " nx"]:
        """Return the zero state."""
        return jnp.zeros(self.B1.shape[0], self.B1.dtype)

    def step(
        self, x: Float[Array, " nx"], u: Float[Array, " {self.nu}"]
    ) -> tuple[Float[Array, " nx"], Float[Array, " {self.ny}"]]:
        """Return `(x_next, y)`; here the input is the whole one."""
        check_one(self, self.schedule_map.b)
        return self.under(self.schedule_map(u[jnp.asarray(self.schedule)]), x, u[jnp.asarray(self.others)])

    def under(self, scheduled: tuple[Array, ...], x: Array, u: Array) -> tuple[Array, Array]:
        """Return `(x_next, y)` of the inputs that are no schedule, for what `schedule_map` returned."""
        k, beta, bx, by = scheduled
        w = self.C1 @ x + self.D12 @ u
        for j in reversed(range(len(beta))):
            w = w - beta[j] * (k[j] @ w) * k[j]
        return self.B1 @ w + bx, self.D21 @ w + by

    @override
    def scan(self, x0: Float[Array, " nx"], us: Float[Array, "T nu"]) -> tuple[Array, Array, Array]:
        """Return `(xs, ys, x_final)` over a sequence, with what the schedule changes computed for all samples at once."""
        check_one(self, self.schedule_map.b)
        scheduled = jax.vmap(self.schedule_map)(us[:, jnp.asarray(self.schedule)])
        rest = us[:, jnp.asarray(self.others)]
        return step_by_step(lambda x, each: self.under(each[0], x, each[1]), x0, (scheduled, rest))

    @override
    def modes(self) -> tuple[System, ...]:
        """Return the one system that it is under all schedules, which steps at the schedule zero."""
        return (EverySchedule(self, jnp.zeros(len(self.schedule), self.B1.dtype)),)

    def frozen(self, p: Float[Array, " np"]) -> LinearSystem:
        """Return the linear system that it is while the schedule stays at p.

        **Raises:** `InvalidModelError` for another number of entries.
        """
        p = jnp.asarray(p, self.B1.dtype)
        check_schedule(self, p)
        _, _, bx, by = scheduled = self.schedule_map(p)
        nx, nu = len(self.B1), self.D12.shape[1]
        columns = jax.vmap(lambda z: self.under(scheduled, z[:nx], z[nx:]), out_axes=1)(
            jnp.eye(nx + nu, dtype=self.B1.dtype)
        )
        (A, B), (C, D) = (
            jnp.split(M - b[:, None], [nx], axis=1) for M, b in zip(columns, (bx, by), strict=True)
        )
        return LinearSystem(A, B, C, D, bx, by, jnp.eye(nx, dtype=A.dtype), self.rate)

    @override
    def check_parts(self) -> None:
        """Refuse arrays and positions that do not fit each other.

        **Raises:** `InvalidModelError`.
        """
        check_one(self, self.schedule_map.b)
        m, np_, nu = self.schedule_map, len(self.schedule), self.D12.shape[1]
        (nx, nv), ny, nh, factors = self.B1.shape, len(self.D21), m.b.size, len(m.q)
        check_positions(self.schedule, self.nu)
        check_shapes(self, C1=(nv, nx), D12=(nv, nu), D21=(ny, nv))
        nf = 1 + np_ + nh
        check_shapes(m, W=(nh, np_), K=(factors, nv, nf), q=(factors, nf), E=(nx, nf), F=(ny, nf))


@registered()
class EverySchedule(System):
    """An `LPVSystem` from its other inputs to its outputs, of two trajectories with the same schedule.

    `step` takes one schedule; `lft()` and `claim` are true for every sequence of schedules.

    **Arguments:**

    - `system`: the LPV system.
    - `at`: the schedule (np,) that `step` takes.
    """

    system: LPVSystem
    at: Float[Array, " np"]

    @property
    def nu(self) -> int:
        """Number of inputs, the schedule not among them."""
        return self.system.D12.shape[1]

    @property
    def ny(self) -> int:
        """Number of outputs."""
        return self.system.ny

    def init_state(self) -> Float[Array, " nx"]:
        """Return that of the system."""
        return self.system.init_state()

    def step(self, x: Float[Array, " nx"], u: Float[Array, " nu"]) -> tuple[Array, Array]:
        """Return `(x_next, y)` at the schedule that it holds."""
        return self.system.under(self.system.schedule_map(self.at), x, u)

    @override
    def check_parts(self) -> None:
        self.system.check_parts()
        check_schedule(self.system, self.at)

    @override
    def lft(self) -> LFT:
        """Return the form whose one block is H, of gain at most one whatever the schedule."""
        self.check_parts()
        B1, C1, D12, D21 = float64(self.system.B1, self.system.C1, self.system.D12, self.system.D21)
        (nx, nv), nu, ny = B1.shape, self.nu, self.ny
        return LFT(
            np.zeros((nx, nx)), B1, np.zeros((nx, nu)), C1, np.zeros((nv, nv)), D12, np.zeros((ny, nx)), D21, np.zeros((ny, nu)),
            (Bounded(nv, nv, 1.0),), (EQUAL_SCHEDULES,),
        )  # fmt: skip

    @property
    @override
    def claim(self) -> Claim:
        """The rate and the gain, with the metric and the multiplier `gamma I`."""
        gamma = check_gamma(number(self.system, "gamma"))
        supply = -np.eye(self.ny) / gamma, np.zeros((self.nu, self.ny)), gamma * np.eye(self.nu)
        metric = gamma * np.eye(len(self.system.B1))
        return Claim(check_rate(number(self.system, "rate")), metric, supply, (np.full(1, gamma),))


def check_schedule(system: LPVSystem, p: Array) -> None:
    """Raise `InvalidModelError` unless a schedule has as many entries as the system's."""
    if jnp.shape(p) != (len(system.schedule),):
        raise InvalidModelError(
            f"a schedule must have {len(system.schedule)} entries, of inputs {list(system.schedule)}, got shape {jnp.shape(p)}"
        )


def check_positions(schedule: tuple[int, ...], nu: int) -> None:
    """Raise `InvalidModelError` unless the positions are of some of nu inputs, each named once, and not of all."""
    known = all(is_whole(k, 0) and k < nu for k in schedule)
    if not (known and 0 < len(set(schedule)) == len(schedule) < nu):
        raise InvalidModelError(
            f"schedule must be positions from 0 to {nu - 1} of the {nu} inputs, at least one, each once, and leave an input that "
            f"is none, got {schedule}; record.inputs.index(name) is that of a channel"
        )
