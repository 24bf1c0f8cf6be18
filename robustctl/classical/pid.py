"""PID control with a filtered derivative and anti-windup."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..affine import affine_form
from ..checks import is_positive
from ..errors import InvalidModelError
from ..lft import LFT
from ..loops.parts import Of
from ..registry import registered
from ..system import SignalLimits, System
from .model import as_array
from .types import ArrayLike


@registered(name="classical.PID")
class PID(System):
    """PID controllers, one per channel, with a filtered derivative of the output and anti-windup by back-calculation.

    ::

        v = u0 + kp (b r - y + (1 - b) y0) + I + D,      u = clip(v, low, high)
        I+ = I + ki dt (r - y) + dt / tt (u - v)
        D  = tf / (tf + dt) D- - kd / (tf + dt) (y - y-)

    Channel k controls output k and has reference k: it reads `y` (n,) or `[y, r]` (2 n,); without references r is `y0`. For a plant
    that measures other outputs too, `reads` gives the controlled ones, y is then `reads @ measured`, and it reads `measured` (ny,) or
    `[measured, r]` (ny + n,). Source: Astrom and Hagglund, "Advanced PID Control", 2006, sections 3.3 to 3.6 and 13.4.

    **Arguments:**

    - `kp`: proportional gain; like all others one number or one per channel
    - `ki`: integral gain
    - `kd`: derivative gain
    - `dt`: seconds per sample
    - `tf`: time constant of the derivative's filter in s, default kd / (10 kp)
    - `tt`: tracking time of the anti-windup in s, default sqrt(kd / ki) with a derivative and kp / ki without
    - `low`: lowest control
    - `high`: highest control
    - `y0`: the operating point's output
    - `u0`: its control
    - `b`: weight of the reference in the proportional part
    - `reads`: (n, ny), the controlled outputs as combinations of all measured ones, for example `[[0, 1]]` for the second of two;
      default each channel its own output

    **Raises:** `InvalidModelError` for gains of different lengths, negative times, limits in the wrong order, and `reads` of another shape.

    **Example:** ::

        pid = rc.classical.PID(4.0, 2.0, 0.4, dt=0.02, low=-1.0, high=1.0)
    """

    kp: Float[Array, " n"]
    ki: Float[Array, " n"]
    kd: Float[Array, " n"]
    tf: Float[Array, " n"]
    tt: Float[Array, " n"]
    low: Float[Array, " n"]
    high: Float[Array, " n"]
    y0: Float[Array, " n"]
    u0: Float[Array, " n"]
    b: Float[Array, " n"]
    dt: float = eqx.field(static=True)
    reads: tuple[tuple[float, ...], ...] = eqx.field(static=True)  # not an array: no optimizer may move it
    references, ny = Of("y0", "size"), Of("u0", "size")

    def __init__(
        self,
        kp: ArrayLike,
        ki: ArrayLike = 0.0,
        kd: ArrayLike = 0.0,
        *,
        dt: float,
        tf: ArrayLike | None = None,
        tt: ArrayLike | None = None,
        low: ArrayLike = -np.inf,
        high: ArrayLike = np.inf,
        y0: ArrayLike = 0.0,
        u0: ArrayLike = 0.0,
        b: ArrayLike = 1.0,
        reads: ArrayLike | None = None,
    ):
        try:
            parts = np.broadcast_arrays(
                *(np.atleast_1d(np.asarray(a, float)) for a in (kp, ki, kd, low, high, y0, u0, b))
            )
        except ValueError as error:
            raise InvalidModelError(
                f"gains, limits and offsets must be one number or one per channel; {error}"
            ) from error
        p, i, d, low, high, y0, u0, b = parts
        # The rules of the source: a filter a decade above the derivative's corner, a tracking time between
        # integral and derivative time. A missing gain makes a quotient infinite or NaN; dt is used instead.
        with np.errstate(divide="ignore", invalid="ignore"):
            tf = np.where(d != 0, np.abs(d / p) / 10, dt) if tf is None else np.broadcast_to(tf, p.shape)
            longest = np.where(d != 0, np.sqrt(np.abs(d / i)), np.abs(p / i))
            tt = (
                np.where(np.isfinite(longest) & (longest > 0), longest, dt)
                if tt is None
                else np.broadcast_to(tt, p.shape)
            )
        tf, tt = np.where(np.isfinite(tf), tf, dt), np.maximum(tt, dt)
        _check_numbers(dt, tf, low, high)
        for name, value in zip(
            ("kp", "ki", "kd", "tf", "tt", "low", "high", "y0", "u0", "b"),
            (p, i, d, tf, tt, low, high, y0, u0, b),
            strict=True,
        ):
            setattr(self, name, as_array(value))
        self.dt = float(dt)
        chosen = np.eye(p.size) if reads is None else np.asarray(reads, float)
        _check_reads(chosen, p.size)
        self.reads = tuple(map(tuple, chosen.tolist()))

    def check_parts(self) -> None:
        """Refuse numbers out of range.

        **Raises:** `InvalidModelError`.
        """
        _check_numbers(self.dt, *(np.asarray(a) for a in (self.tf, self.low, self.high)))
        _check_reads(np.asarray(self.reads, float), self.kp.size)

    @property
    def nu(self) -> int:
        """Number of inputs, references included."""
        return len(self.reads[0]) + self.y0.shape[0]

    def lft(self) -> LFT | None:
        """Return the matrices where no limit is set; its clipping feeds back into the integral."""
        limited = np.isfinite([self.low, self.high]).any()
        return None if limited else affine_form(self, self.nu)

    def output_limits(self) -> SignalLimits:
        """Return the limits of the control, infinite where there are none."""
        return self.low, self.high

    def init_state(self) -> tuple[Array, Array, Array]:
        """Return integral, derivative and last output at the operating point."""
        zero = jnp.zeros_like(self.kp)
        return zero, zero, self.y0

    def _controlled(self, u: Array) -> tuple[Array, Array]:
        """Return the controlled outputs and their references."""
        rows, (n, measured) = np.asarray(self.reads), np.shape(self.reads)
        if u.shape[0] not in (measured, measured + n):
            raise InvalidModelError(
                f"the PID must read {measured} measured outputs, or these and {n} references, got {u.shape[0]} signals; its argument "
                "reads gives the outputs that it controls"
            )
        # An output that a channel does not read may be missing: NaN times zero is NaN.
        own = jnp.where(rows != 0, jnp.asarray(rows, u.dtype) * u[None, :measured], 0).sum(axis=1)
        return own, u[measured:] if u.shape[0] > measured else self.y0

    def step(self, x: tuple[Array, Array, Array], u: Array) -> tuple[tuple[Array, Array, Array], Array]:
        """Return `(x_next, control)`; here the input is the measured output."""
        integral, derivative, last = x
        y, r = self._controlled(u)
        derivative = (self.tf * derivative - self.kd * (y - last)) / (self.tf + self.dt)
        wanted = self.u0 + self.kp * (self.b * r + (1 - self.b) * self.y0 - y) + integral + derivative
        control = jnp.clip(wanted, self.low, self.high)
        integral = integral + self.ki * self.dt * (r - y) + self.dt / self.tt * (control - wanted)
        return (integral, derivative, y), control


def _check_numbers(dt: float, tf: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
    if not is_positive(dt) or not (tf >= 0).all() or not (low < high).all():
        raise InvalidModelError(
            f"dt must be positive, tf at least 0 and low below high, got dt = {dt}, tf = {tf}, low = {low}, high = {high}"
        )


def _check_reads(chosen: np.ndarray, channels: int) -> None:
    if chosen.ndim != 2 or len(chosen) != channels or not chosen.any(axis=1).all():
        raise InvalidModelError(
            f"reads must have one row per channel, {channels}, and one column per measured output, each row with an entry, got "
            f"{chosen.tolist()}"
        )
