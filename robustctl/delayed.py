"""Systems whose inputs act some samples late."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from .checks import checked_delays
from .lft import LFT, Claim, block_diagonal, linear, series
from .registry import registered
from .system import SignalLimits, System, dtype_of

HEAVY = 1e6
"""Weight of the last entries of the queue over what they do to the inner state, so that margins of 1e-5 remain."""

Supply = tuple[np.ndarray, np.ndarray, np.ndarray]


class DelayedState(NamedTuple):
    """State of a system with delayed inputs.

    **Arguments:**

    - `queue`: inputs that have not acted yet, (n,): of the first input the newest first, then of the second and so on.
    - `system`: the inner system's state.
    """

    queue: Array
    system: PyTree


@registered()
class Delayed(System):
    """A system whose inputs act some samples late, each by its own number.

    ::

        y = system(v),    v_j[t] = u_j[t - delay_j]

    A shift register for each input; before the first sample it holds zeros. The delay changes neither the gain nor, of
    contraction alone, the rate, so the whole promises these as the inner system does, and no other supply rate.

    **Arguments:**

    - `system`: the inner system, which reads the delayed inputs.
    - `delay`: samples, a whole number of at least 0 for each input.

    **Raises:** `RobustctlError` for delays that are no such numbers, or not one for each of the system's inputs.

    **Example:** ::

        lag = rc.StateSpace([[0.9]], [[0.1]], [[1.0]], [[0.0]], dt=0.1)
        print(rc.rollout(rc.Delayed(lag, (3,)), jnp.ones((6, 1))).ys[:, 0])    # zero for four samples
    """

    system: System
    delay: tuple[int, ...] = eqx.field(static=True, converter=tuple)

    def __check_init__(self):
        """Refuse delays that are no whole numbers, or of another number of inputs."""
        checked_delays(self.delay, self.system.nu)

    @property
    def nu(self) -> int:
        """Number of inputs."""
        return len(self.delay)

    @property
    def ny(self) -> int | None:
        """Number of outputs; None where unknown."""
        return self.system.ny

    @property
    def flags(self) -> tuple[int, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Positions of the inputs that are 0 or 1."""
        return self.system.flags

    @property
    def schedule(self) -> tuple[int, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Positions of the schedule among the inputs."""
        return self.system.schedule

    @property
    def innermost(self) -> System:
        """The system inside."""
        return self.system.innermost

    def flag_fault(self) -> str:
        """Return that of the inner system."""
        return self.system.flag_fault()

    def lft(self) -> LFT | None:
        """Return the inner system's form behind the shift registers."""
        inner = self.system.lft()
        return None if inner is None else series(_registers(self.delay), inner)

    @property
    def claim(self) -> Claim | None:
        """The inner system's claim, as far as a delay keeps it; a metric of the whole is to be found."""
        claim = self.system.claim
        if claim is None or not any(self.delay):
            return claim
        if _kept(claim.supply, self.delay):
            # A register passes on what it received: |v| = |u| in the sum over all samples, but not weighted by rate^-2t.
            return claim._replace(rate=1.0, P=None)
        return claim._replace(P=self._metric(claim), supply=None)

    def _metric(self, claim: Claim) -> np.ndarray | None:
        """Return the inner metric with weights of the queue, so large that what leaves it cannot undo the contraction."""
        inner = self.system.lft()
        if claim.P is None or inner is None or claim.P.shape != inner.A.shape:
            return None
        late = np.repeat(np.arange(self.nu), self.delay)
        # `rate^2 w[k] > w[k + 1]`: a value may not gain weight on its way through the register.
        left = np.concatenate([np.arange(d)[::-1] for d in self.delay])
        size = np.einsum("ij,ik,kj->j", inner.B2, claim.P, inner.B2)
        weights = HEAVY * np.maximum(size, np.abs(claim.P).max())[late] * (1.01 / claim.rate**2) ** (left + 1)
        return block_diagonal([np.diag(weights), claim.P])

    def modes(self) -> tuple[System, ...]:
        """Return the inner system's modes, with the delays of the inputs that they have."""
        modes = self.system.modes()
        if len(modes) == 1 and modes[0] is self.system:
            return (self,)
        read = tuple(d for j, d in enumerate(self.delay) if j not in (*self.flags, *self.schedule))
        return tuple(Delayed(mode, read) for mode in modes)

    def input_range(self) -> tuple[np.ndarray, np.ndarray]:
        """Return that of the inner system, whose inputs these are."""
        return self.system.input_range()

    def input_limits(self) -> SignalLimits | None:
        """Return those of the inner system."""
        return self.system.input_limits()

    def output_limits(self) -> SignalLimits | None:
        """Return those of the inner system."""
        return self.system.output_limits()

    def actuator_limits(self) -> SignalLimits | None:
        """Return those of the inner system."""
        return self.system.actuator_limits()

    def init_state(self) -> DelayedState:
        """Return zeros in the registers, and the inner system's initial state."""
        return DelayedState(jnp.zeros(sum(self.delay), dtype_of(self.system)), self.system.init_state())

    def step(self, x: DelayedState, u: Float[Array, " nu"]) -> tuple[DelayedState, PyTree]:
        """Return `(x_next, y)`."""
        queue, v = _shifted(jnp, self.delay, x.queue, u)
        x_next, y = self.system.step(x.system, v)
        return DelayedState(queue, x_next), y

    def numpy_step(self) -> tuple[Callable, np.ndarray] | None:
        """Return the inner system's step in NumPy behind the registers; its state is the queue, then the inner state."""
        inner = self.system.numpy_step()
        if inner is None:
            return None
        step, start = inner
        n = sum(self.delay)

        def delayed(x: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            queue, v = _shifted(np, self.delay, x[:n], u)
            x_next, y = step(x[n:], v)
            return np.concatenate([queue, x_next]), y

        return delayed, np.concatenate([np.zeros(n, start.dtype), start])

    def scan(self, x0: DelayedState, us: Float[Array, "T nu"]) -> tuple[DelayedState, PyTree, DelayedState]:
        """Return `(xs, ys, x_final)` over a sequence, by the inner system's way."""
        queues, vs = [jnp.zeros((len(us) + 1, 0), us.dtype)], []
        parts = jnp.split(x0.queue, np.cumsum(self.delay)[:-1])
        for d, waiting, u in zip(self.delay, parts, us.T, strict=True):
            line = jnp.concatenate([waiting[::-1].astype(u.dtype), u])
            vs.append(line[: len(u)])
            # The newest first: at sample t the register holds the entries t + d - 1, ..., t of the line.
            queues.append(line[np.arange(len(u) + 1)[:, None] + np.arange(d)[::-1]])
        queue = jnp.concatenate(queues, axis=1)
        xs, ys, x_final = self.system.scan(x0.system, jnp.stack(vs, axis=1))
        return DelayedState(queue[:-1], xs), ys, DelayedState(queue[-1], x_final)

    def prepare(self) -> "Delayed":
        """Return the same with the inner system prepared."""
        return dataclasses.replace(self, system=self.system.prepare())


def _shifted(xp, delay: tuple[int, ...], queue, u) -> tuple:
    """Return the queue after a sample of the inputs, and what acts at that sample, in NumPy or JAX."""
    owner = np.repeat(np.arange(len(delay)), delay)  # the input of each entry
    last = np.cumsum(delay) - 1
    late = np.asarray(delay) > 0
    newest = np.isin(np.arange(len(queue)), last - np.asarray(delay) + 1)
    if not late.any():
        return queue, u
    acting = xp.where(late, queue[np.where(late, last, 0)], u)
    return xp.where(newest, u[owner].astype(queue.dtype), xp.roll(queue, 1)), acting


def _registers(delay: tuple[int, ...]) -> LFT:
    """Return the form from u to v: every entry of the queue moves up, the newest is the input."""
    n, nu = sum(delay), len(delay)
    A, B, C, D = np.zeros((n, n)), np.zeros((n, nu)), np.zeros((nu, n)), np.zeros((nu, nu))
    first = 0
    for j, d in enumerate(delay):
        if d == 0:
            D[j, j] = 1.0
            continue
        A[first : first + d, first : first + d] = np.eye(d, k=-1)
        B[first, j] = C[j, first + d - 1] = 1.0
        first += d
    return linear(A, B, C, D)


def _kept(supply: Supply | None, delay: tuple[int, ...]) -> bool:
    """Return whether a supply rate is one between outputs and inputs apart, and its R has no products of inputs of unlike delays."""
    if supply is None:
        return False
    d = np.asarray(delay)
    return not supply[1].any() and not supply[2][d[:, None] != d].any()
