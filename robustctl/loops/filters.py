"""What a guarded controller may apply: limits and rate limits of controls, and several filters together."""

import abc
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree
from typing_extensions import override

from ..checks import is_positive
from ..errors import InvalidModelError
from ..registry import registered
from ..system import Certifiable, SignalLimits, System, Unknown
from .half_spaces import Allowed


class Fallback(NamedTuple):
    """The fallback of a guard, with the limits that the guard applies to its output in every sample.

    **Arguments:**

    - `system`: the fallback.
    - `state`: its state after this sample.
    - `filter`: whose box of limits, rate limits included, its output is clipped to.
    """

    system: System
    state: PyTree
    filter: "Filter"

    def step(
        self, state: PyTree, y: Float[Array, " ny"], before: Float[Array, " nu"]
    ) -> tuple[PyTree, Float[Array, " nu"], Float[Array, ""]]:
        """Return next state and control in a later sample, and how far rate limits are from changing it, negative where they do.

        **Arguments:**

        - `state`: of the fallback.
        - `y`: the measurement.
        - `before`: the control of the sample before.
        """
        state, wanted = self.system.step(state, y)
        low, high, _, _ = self.filter.allowed(y, before)
        # Limits that do not depend on the control before are no rate limits: one that was applied already is not changed by those.
        least, most, _, _ = self.filter.allowed(y, wanted)
        still = jnp.clip(wanted, least, most)
        below = jnp.where(low > least, still - low, jnp.inf)
        above = jnp.where(high < most, high - still, jnp.inf)
        return state, jnp.clip(wanted, low, high), jnp.min(jnp.minimum(below, above))


class Filter(Certifiable):
    """A constraint on the controls of each sample.

    A class of your own defines `allowed`; `Guarded` applies the allowed control that is nearest to the controller's. `dt` is the sample
    time in seconds that it is made for, None where it works at any.
    """

    dt = inputs = outputs = input_units = output_units = Unknown()

    def output_limits(self) -> SignalLimits | None:
        """Return a box (nu,), (nu,) that contains the filter's own at every sample; None where there is none."""
        return None

    @property
    def predicts(self) -> bool:
        """Whether `room` depends on the control; default: no."""
        return False

    @property
    def unbounded_state(self) -> bool:
        """Whether it reads a state and has no bound of its error, so that it must not read an estimate; default: it reads none."""
        return False

    def room(self, y: Float[Array, " ny"], u: Float[Array, " nu"], fallback: Fallback) -> Float[Array, ""]:
        """Return how far what follows a control stays from its limits, negative where it breaks one; default: infinitely far.

        **Arguments:**

        - `y`: the measurement, finite.
        - `u`: the control (nu,).
        - `fallback`: the fallback after this sample, with its limits.
        """
        return jnp.asarray(jnp.inf, y.dtype)

    @abc.abstractmethod
    def allowed(self, y: Float[Array, " ny"], before: Float[Array, " nu"]) -> Allowed:
        """Return the allowed controls of a sample.

        The box must contain a control for every `before` that the filter allowed; the half-spaces may exclude all.

        **Arguments:**

        - `y`: the measurement, finite.
        - `before`: the control (nu,) of the sample before.
        """


def box(low: Array, high: Array) -> Allowed:
    """Return a box without half-spaces."""
    nu = low.shape[0]
    return Allowed(low, high, jnp.zeros((0, nu), low.dtype), jnp.zeros(0, low.dtype))


@registered(name="loops.Limits")
class Limits(Filter):
    """Lowest and highest controls: `low <= u <= high`.

    **Arguments:**

    - `low`: (nu,), minus infinity where there is no limit.
    - `high`: (nu,).

    **Raises:** `InvalidModelError` for limits that contradict each other.

    **Example:** ::

        limits = rc.loops.Limits([-1.0], [1.0])
    """

    low: Float[Array, " nu"]
    high: Float[Array, " nu"]

    def __init__(self, low, high):
        self.low, self.high = vector(low), vector(high)
        self.check_parts()

    @override
    def check_parts(self) -> None:
        low, high = np.asarray(self.low), np.asarray(self.high)
        if low.shape != high.shape or not (low < high).all():
            raise InvalidModelError(
                f"low must be below high for each control, got low = {low.tolist()} and high = {high.tolist()}"
            )

    @override
    def output_limits(self) -> SignalLimits:
        return self.low, self.high

    @override
    def allowed(self, y: Array, before: Array) -> Allowed:
        return box(self.low.astype(before.dtype), self.high.astype(before.dtype))


@registered(name="loops.RateLimit")
class RateLimit(Filter):
    """Largest change of each control from one sample to the next: `|u[t] - u[t-1]| <= per_sample`.

    A switch between controllers then makes no larger step either.

    **Arguments:**

    - `per_sample`: largest change in a sample (nu,).
    - `per_second`: in place of it, the largest change in a second (nu,).
    - `dt`: sample time in seconds, which `per_second` needs.

    **Raises:** `InvalidModelError` for rates that are not positive, and unless exactly one of both is given.

    **Example:** ::

        slow = rc.loops.RateLimit(per_second=[2.0], dt=0.1)
    """

    per_sample: Float[Array, " nu"]
    dt: float | None = eqx.field(static=True)

    def __init__(self, per_sample=None, *, per_second=None, dt: float | None = None):
        if (per_sample is None) == (per_second is None):
            raise InvalidModelError("a rate limit must be given per_sample or per_second, one of them")
        if per_second is not None and not is_positive(dt):
            raise InvalidModelError(
                f"dt must be a positive number of seconds, which per_second needs, got {dt!r}"
            )
        self.dt = dt
        self.per_sample = vector(per_sample if per_second is None else np.asarray(per_second, float) * dt)
        self.check_parts()

    @override
    def check_parts(self) -> None:
        rates = np.asarray(self.per_sample)
        if not (rates > 0).all():
            raise InvalidModelError(f"rates must be positive, got {rates.tolist()}")

    @override
    def allowed(self, y: Array, before: Array) -> Allowed:
        most = self.per_sample.astype(before.dtype)
        return box(before - most, before + most)


@registered(name="loops.AllOf")
class AllOf(Filter):
    """Several filters together: what every one of them allows.

    **Arguments:**

    - `filters`: two or more.

    **Raises:** `InvalidModelError` for filters of different sample times.

    **Example:** ::

        both = rc.loops.AllOf((rc.loops.Limits([-1.0], [1.0]), rc.loops.RateLimit([0.2])))
    """

    filters: tuple[Filter, ...] = eqx.field(converter=tuple)

    def __check_init__(self):
        """Refuse different sample times."""
        times = {f.dt for f in self.filters if f.dt is not None}
        if times and not np.allclose(max(times), min(times), rtol=1e-9, atol=0):
            raise InvalidModelError(f"filters must have one sample time, got {sorted(times)} s")

    @property
    @override
    def dt(self) -> float | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Sample time of the first that has one."""
        return next((f.dt for f in self.filters if f.dt is not None), None)

    @property
    @override
    def predicts(self) -> bool:
        """Whether one of them does."""
        return any(f.predicts for f in self.filters)

    @property
    @override
    def unbounded_state(self) -> bool:
        """Whether this is so for one of them."""
        return any(f.unbounded_state for f in self.filters)

    @override
    def room(self, y: Array, u: Array, fallback: Fallback) -> Array:
        least = super().room(y, u, fallback)
        for each in self.filters:
            least = jnp.minimum(least, each.room(y, u, fallback)) if each.predicts else least
        return least

    @override
    def output_limits(self) -> SignalLimits | None:
        known = [found for f in self.filters if (found := f.output_limits()) is not None]
        if not known:
            return None
        lows, highs = zip(*known, strict=True)
        return np.max(lows, axis=0), np.min(highs, axis=0)

    @override
    def allowed(self, y: Array, before: Array) -> Allowed:
        each = [f.allowed(y, before) for f in self.filters]
        low, high = each[0].low, each[0].high
        for one in each[1:]:
            low, high = jnp.maximum(low, one.low), jnp.minimum(high, one.high)
        return Allowed(
            low, high, jnp.concatenate([one.G for one in each]), jnp.concatenate([one.g for one in each])
        )


def vector(value) -> Array:
    """Return numbers as an array (n,) of floats, one number as an array of one."""
    found = jnp.atleast_1d(jnp.asarray(value))
    return found if jnp.issubdtype(found.dtype, jnp.floating) else found.astype(float)


def limits_or_none(low, high, n: int) -> tuple[Array, Array]:
    """Return lowest and highest values (n,), infinite where none are given."""
    given = (-np.inf if low is None else low, np.inf if high is None else high)
    lowest, highest = (jnp.broadcast_to(vector(value), (n,)) for value in given)
    return lowest, highest
