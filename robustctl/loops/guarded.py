"""A controller whose every output is checked, corrected, or replaced by that of a fallback."""

from enum import IntEnum
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree
from typing_extensions import override

from ..checks import check_whole, check_whole_or_none, of_type
from ..errors import InvalidModelError
from ..registry import registered
from ..system import SignalLimits, StrictlyProper, System
from .feedback import check_sample_time
from .filters import Fallback, Filter, limits_or_none, vector
from .guard_checks import check_range, check_stabilizing, check_start, finite
from .half_spaces import Allowed, contains, nearest
from .parts import FirstKnown
from .segment import furthest


class Outcome(IntEnum):
    """What a guarded controller did in a sample: passed the controller's output, changed it, or applied the fallback's."""

    PASSED = 0
    CHANGED = 1
    FALLBACK = 2


class Reason(IntEnum):
    """Why a sample was a fallback, the first that applies."""

    NONE = 0
    INPUT_NOT_FINITE = 1
    INPUT_STALE = 2
    INPUT_OUT_OF_RANGE = 3
    OUTPUT_NOT_FINITE = 4
    INFEASIBLE = 5
    RETURNING = 6


class GuardState(NamedTuple):
    """State of a guarded controller; after a sample it holds what was done in it.

    **Arguments:**

    - `controller`: state of the controller.
    - `fallback`: state of the fallback.
    - `y`: the last finite value of each measurement (ny,).
    - `u`: the last output (nu,).
    - `repeated`: number of successive samples with the same measurement.
    - `good`: number of successive samples without a fault, at most `back`.
    - `outcome`: the last sample's `Outcome`.
    - `reason`: the last sample's `Reason`.
    - `counts`: number of samples passed, changed and fallback, (3,).
    """

    controller: PyTree
    fallback: PyTree
    y: Float[Array, " ny"]
    u: Float[Array, " nu"]
    repeated: Int[Array, ""]
    good: Int[Array, ""]
    outcome: Int[Array, ""]
    reason: Int[Array, ""]
    counts: Int[Array, " 3"]


MOST = np.iinfo(np.int32).max
"""Counters stop here instead of becoming negative."""


_PARTS = "controller", "fallback", "filter"
"""In the order of precedence for names, units and sample time."""


@registered(name="loops.Guarded")
class Guarded(System):
    """A controller whose every output is passed, changed by a filter, or replaced by a fallback controller's.

    Each sample has one of three outcomes, which the state holds and counts:

    - *passed*: the controller's output, bit for bit; the filter allows it.
    - *changed*: the allowed control that is nearest to it, with `Predicted` the nearest on the way there from the fallback's.
    - *fallback*: the fallback's output, clipped to the box of the filter's limits. This is every sample with a measurement that is
      not finite, stale or out of range, with an output or next state of the controller that is not finite, or with a filter that allows
      no control or does not find it; and those after it, until `back` samples without a fault have followed.

    For any controller the output is finite and in the filter's box, which includes the rate limit; where the fallback's is not finite,
    it is the last output. Both controllers run in every sample, so that their states are up to date at a switch; with a `RateLimit` it
    makes no larger step than the limit. Neither reads what was applied: give the integrator of a PID its limits too. Both read the last
    finite value of a measurement that is not finite, and a state that is not finite is replaced by its initial state. Write NaN for a
    measurement that comes too late.

    `xs[t + 1]` of a rollout holds the outcome of sample t, and `x_final.counts` their numbers.

    **Arguments:**

    - `controller`: any system from y (ny,) to u (nu,), references included.
    - `filter`: what is allowed, for example `Limits`.
    - `fallback`: a controller that reads the same.
    - `back`: number of successive samples without a fault before the controller's output is used again.
    - `y_low`: lowest measurements (ny,) that the controller is made for, default none.
    - `y_high`: highest measurements (ny,), default none.
    - `stale_after`: number of successive repetitions of the measurement, all of its entries, from which it is stale; default None, never.
    - `y0`: measurement (ny,) before the first; default zero, or what the controller defines as undisturbed.
    - `u0`: output (nu,) before the first; default zero.
    - `plant`: where it is given, the fallback must stabilize its linearization.

    **Raises:** `InvalidModelError` for parts of different sample times, a fallback that does not stabilize the plant, with the poles, and a
    filter that allows nothing at the start; at the first step, for a controller or fallback that gives another number of controls.

    **Example:** ::

        plant = rc.plants.Sampled(rc.plants.LinearPlant([[-1.0]], [[1.0]], [[1.0]]), 0.1)
        bold = rc.classical.PID(50.0, dt=0.1)
        guarded = rc.loops.Guarded(bold, rc.loops.Limits([-1.0], [1.0]), rc.classical.PID(1.0, dt=0.1), plant=plant)
    """

    controller: System
    filter: Filter
    fallback: System
    y_low: Float[Array, " ny"]
    y_high: Float[Array, " ny"]
    y0: Float[Array, " ny"]
    u0: Float[Array, " nu"]
    back: int = eqx.field(static=True)
    stale_after: int | None = eqx.field(static=True)

    dt, inputs, outputs = FirstKnown(*_PARTS), FirstKnown(*_PARTS), FirstKnown(*_PARTS)
    input_units, output_units = FirstKnown(*_PARTS), FirstKnown(*_PARTS)

    def __init__(
        self,
        controller: System,
        filter: Filter,
        fallback: System,
        *,
        back: int = 10,
        y_low: Any = None,
        y_high: Any = None,
        stale_after: int | None = None,
        y0: Any = None,
        u0: Any = None,
        plant: StrictlyProper | None = None,
    ):
        _check_kinds(controller, filter, fallback)
        self.controller, self.filter, self.fallback = controller, filter, fallback
        self.back, self.stale_after = back, stale_after
        self.y0 = vector(controller.undisturbed() if y0 is None else y0)
        self.u0 = vector(jnp.zeros(self._controls(), self.y0.dtype) if u0 is None else u0)
        self.y_low, self.y_high = limits_or_none(y_low, y_high, self.nu)
        self.check_parts()
        if plant is not None:
            check_stabilizing(plant, fallback)

    def _controls(self) -> int:
        if self.controller.ny is not None:
            return self.controller.ny
        return eqx.filter_eval_shape(lambda: self.controller.step(self.controller.init_state(), self.y0))[
            1
        ].shape[0]

    @override
    def check_parts(self) -> None:
        check_whole(0, back=self.back)
        check_whole_or_none(1, stale_after=self.stale_after)
        check_sample_time("the fallback", self.fallback, "the controller's", self.controller)
        for part, whose in ((self.controller, "the controller's"), (self.fallback, "the fallback's")):
            check_sample_time("the filter", self.filter, whose, part)
        check_range(self.y_low, self.y_high)
        check_start(self.filter, self.fallback, self.y0, self.u0)

    @property
    @override
    def nu(self) -> int:
        """Number of measurements and references that it reads."""
        return self.y0.shape[0]

    @property
    @override
    def ny(self) -> int:
        """Number of controls."""
        return self.u0.shape[0]

    @property
    @override
    def references(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Number of references, without which it works too."""
        return min(self.controller.references, self.fallback.references)

    @property
    @override
    def unbounded_state(self) -> bool:
        """Whether the filter reads a state and has no bound of its error."""
        return self.filter.unbounded_state or super().unbounded_state

    @override
    def output_limits(self) -> SignalLimits | None:
        return self.filter.output_limits()

    @override
    def actuator_limits(self) -> SignalLimits | None:
        own, other = (part.actuator_limits() for part in (self.controller, self.fallback))
        return other if own is None else own

    @override
    def init_state(self) -> GuardState:
        """Return the state before the first sample, all counts zero."""
        zero = jnp.asarray(0, jnp.int32)
        good = jnp.asarray(self.back, jnp.int32)
        own, other = self.controller.init_state(), self.fallback.init_state()
        # No measurement has come before the first, which therefore repeats none.
        return GuardState(own, other, self.y0, self.u0, zero - 1, good, zero, zero, jnp.zeros(3, jnp.int32))

    @override
    def step(self, x: GuardState, u: Float[Array, " ny"]) -> tuple[GuardState, Float[Array, " nu"]]:
        """Return `(x_next, control)`; here the input is the measured output."""
        y = jnp.where(jnp.isfinite(u), u, x.y[: u.shape[0]])
        own, wanted, own_good = _run(self.controller, x.controller, y, x.u)
        other, spare, _ = _run(self.fallback, x.fallback, y, x.u)
        allowed = self.filter.allowed(y, x.u)
        safe = jnp.clip(spare, allowed.low, allowed.high)
        near, passes, found = self._filtered(y, wanted, safe, allowed, other)
        repeated = self._repeated(x, u)
        reason = self._reason(u, repeated, own_good, passes | found)
        good = reason == Reason.NONE
        nominal = good & (x.good >= self.back)
        control = jnp.where(
            nominal, jnp.where(passes, wanted, near), jnp.where(jnp.isfinite(safe), safe, x.u)
        )
        seen = jnp.concatenate([y, x.y[u.shape[0] :]])
        steady = jnp.where(good, jnp.minimum(x.good + 1, self.back), 0)
        return GuardState(
            own, other, seen, control, repeated, steady, *_recorded(x.counts, nominal, passes, reason)
        ), control

    def _filtered(
        self, y: Array, wanted: Array, safe: Array, allowed: Allowed, fallback: PyTree
    ) -> tuple[Array, Array, Array]:
        """Return the allowed control near the wanted one, whether that one is allowed, and whether one was found."""
        near, found = nearest(wanted, allowed)
        passes = contains(allowed, wanted)
        if not self.filter.predicts:
            return near, passes, found

        def room(u):
            return self.filter.room(y, u, Fallback(self.fallback, fallback, self.filter))

        on_the_way, reached = furthest(room, safe, near)
        # Between two allowed controls all are allowed; from a fallback that is not, only the whole way counts.
        found = found & reached & (contains(allowed, safe) | jnp.all(on_the_way == near))
        return on_the_way, passes & (room(wanted) >= 0), found

    def _repeated(self, x: GuardState, u: Array) -> Array:
        """Return for how many samples the measurement has been the same; references may be constant."""
        m = min(u.shape[0], self.nu - self.references)
        same = jnp.all(u[:m] == x.y[:m])
        return jnp.where(same, jnp.minimum(x.repeated + 1, MOST - 1), 0)

    def _reason(self, u: Array, repeated: Array, own_good: Array, found: Array) -> Array:
        """Return the first fault of a sample."""
        n = u.shape[0]
        inside = jnp.all((self.y_low[:n] <= u) & (u <= self.y_high[:n]))
        fresh = jnp.asarray(True) if self.stale_after is None else repeated < self.stale_after
        reason = _number(found, Reason.NONE, Reason.INFEASIBLE)
        for good, otherwise in (
            (own_good, Reason.OUTPUT_NOT_FINITE), (inside, Reason.INPUT_OUT_OF_RANGE), (fresh, Reason.INPUT_STALE),
            (jnp.all(jnp.isfinite(u)), Reason.INPUT_NOT_FINITE),
        ):  # fmt: skip
            reason = _number(good, reason, otherwise)
        return reason

    @override
    def prepare(self) -> "Guarded":
        """Return the same with its parts prepared for many steps."""
        parts = self.controller.prepare(), self.fallback.prepare()
        return eqx.tree_at(lambda guarded: (guarded.controller, guarded.fallback), self, parts)


def _recorded(counts: Array, nominal: Array, passes: Array, reason: Array) -> tuple[Array, Array, Array]:
    """Return a sample's outcome, the reason for it and the counts with it."""
    outcome = _number(nominal, _number(passes, Outcome.PASSED, Outcome.CHANGED), Outcome.FALLBACK)
    reason = _number(nominal | (reason != Reason.NONE), reason, Reason.RETURNING)
    here = (jnp.arange(3, dtype=jnp.int32) == outcome) & (counts < MOST)
    return outcome, reason, counts + here.astype(jnp.int32)


def _number(which: Array, yes: Any, no: Any) -> Array:
    return jnp.where(which, jnp.asarray(yes, jnp.int32), jnp.asarray(no, jnp.int32))


def _run(system: System, x: PyTree, y: Array, before: Array) -> tuple[PyTree, Array, Array]:
    """Return next state and output, both finite, and whether they were so."""
    x_next, u = system.step(x, y)
    if u.shape != before.shape:
        raise InvalidModelError(
            f"{type(system).__name__} must give {before.shape[0]} controls, as controller and fallback both do, got shape {u.shape}"
        )
    whole = finite(x_next)
    x_next = jax.tree.map(lambda new, start: jnp.where(whole, new, start), x_next, system.init_state())
    good = whole & jnp.all(jnp.isfinite(u))
    return x_next, jnp.where(jnp.isfinite(u), u, before), good


def _check_kinds(controller: System, filter: Filter, fallback: System) -> None:
    for name, part in (("controller", controller), ("fallback", fallback)):
        of_type(
            part,
            System,
            f"the {name} must be a System",
            "explicit() of a parameterization is one",
            InvalidModelError,
        )
    of_type(
        filter, Filter, "the filter must be a rc.loops.Filter", "Limits is the simplest", InvalidModelError
    )
