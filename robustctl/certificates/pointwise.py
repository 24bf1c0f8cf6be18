"""Activations of one signal: values, slopes, and the lines that bound them on an interval."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

_ROUNDING = 1e-13
"""Of a value or slope of a smooth activation, and of its extremes on an interval, where their positions are rounded themselves."""


@dataclasses.dataclass(frozen=True, eq=False)
class Activation:
    """A function of one signal; its functions take and return arrays of float64.

    **Arguments:**

    - `lo`: lower bound of all slopes, a number or one per neuron.
    - `hi`: upper bound.
    - `value`: the function.
    - `slope`: its derivative, where there is one.
    - `slopes`: `(l, u)` to bounds of the slopes between two points of `[l, u]`.
    - `lines`: `(l, u)` to `(a, b, c, d)` with `a v + b <= value(v) <= c v + d` on `[l, u]`, rounding included.
    """

    lo: float | np.ndarray
    hi: float | np.ndarray
    value: Callable
    slope: Callable
    slopes: Callable
    lines: Callable


def kinked(below: float | np.ndarray) -> Activation:
    """Return `v` for positive and `below v` for negative v: relu, leaky relu, PReLU and the absolute value."""
    lo, hi = np.minimum(below, 1.0), np.maximum(below, 1.0)

    def value(v):
        return np.where(v >= 0, v, below * v)

    def slopes(l, u):
        straight = (l >= 0) | (u <= 0)
        only = np.where(l >= 0, 1.0, below)
        return np.where(straight, only, lo), np.where(straight, only, hi)

    def lines(l, u):
        inside = (l < 0) & (u > 0)
        chord = np.where(
            inside, (value(u) - value(l)) / np.where(inside, u - l, 1.0), np.where(l >= 0, 1.0, below)
        )
        # The line through the kink that leaves the smaller area follows the wider side.
        tangent = np.where(inside, np.where(u > -l, 1.0, below), chord)
        rest = np.where(inside, value(u) - chord * u, 0.0)
        slack = 4 * _ROUNDING * np.where(inside, np.maximum(u, -l) * np.maximum(np.abs(lo), np.abs(hi)), 0.0)
        # Convex: the chord is above and the tangent below; concave: the other way around.
        convex = np.less_equal(below, 1.0) & (l == l)
        return (
            np.where(convex, tangent, chord), np.where(convex, 0.0, rest - slack),
            np.where(convex, chord, tangent), np.where(convex, rest + slack, 0.0),
        )  # fmt: skip

    return Activation(lo, hi, value, lambda v: np.where(v >= 0, 1.0, below), slopes, lines)


def _chords(value: Callable, slope: Callable, lo: float, hi: float, turning: Callable) -> Callable:
    """Return two lines of the chord's slope s; `turning(s)`: where the derivative may be s."""

    def lines(l, u):
        # 1e-6: the quotient of two differences of rounded numbers still has 10 correct digits; below, the slope at the middle is as good.
        wide = u - l > 1e-6 * (1 + np.abs(l) + np.abs(u))
        s = np.where(wide, (value(u) - value(l)) / np.where(wide, u - l, 1.0), slope((l + u) / 2))
        s = np.clip(s, lo, hi)
        rest = [value(v) - s * v for v in (l, u, *(np.clip(v, l, u) for v in turning(s)))]
        slack = 4 * _ROUNDING * (1 + 2 * hi * np.maximum(np.abs(l), np.abs(u)))
        return s, np.minimum.reduce(rest) - slack, s, np.maximum.reduce(rest) + slack

    return lines


def _by_slopes(value: Callable, slopes: Callable) -> Callable:
    """Return lines through the value at the middle, apart by as much as the slopes differ."""

    def lines(l, u):
        lo, hi = slopes(l, u)
        middle, s, half = (l + u) / 2, (lo + hi) / 2, (hi - lo) / 2 * (u - l) / 2
        at = value(middle) - s * middle
        slack = half + 4 * _ROUNDING * (1 + np.abs(at) + np.maximum(np.abs(l), np.abs(u)))
        return s, at - slack, s, at + slack

    return lines


def _hard_tanh() -> Activation:
    def value(v):
        return np.clip(v, -1, 1)

    def slope(v):
        return np.where(np.abs(v) < 1, 1.0, 0.0)

    def slopes(l, u):
        inside, outside = (l >= -1) & (u <= 1), (l >= 1) | (u <= -1)
        return np.where(inside, 1.0, 0.0), np.where(outside, 0.0, 1.0)

    return Activation(
        0.0, 1.0, value, slope, slopes, _chords(value, slope, 0.0, 1.0, lambda s: (0 * s - 1, 0 * s + 1))
    )


def _bell(value: Callable, slope: Callable, hi: float, turning: Callable) -> Activation:
    """Return an activation whose slope is even, and falls from its largest at 0."""

    def slopes(l, u):
        ends = slope(l), slope(u)
        return _within(np.minimum(*ends), np.where((l <= 0) & (u >= 0), hi, np.maximum(*ends)), 0.0, hi)

    return Activation(0.0, hi, value, slope, slopes, _chords(value, slope, 0.0, hi, turning))


def _within(low, high, lo: float, hi: float):
    """Slopes rounded outwards, but no further than they are anywhere."""
    return np.clip(low - _ROUNDING, lo, hi), np.clip(high + _ROUNDING, lo, hi)


def _sigmoid(v):
    return 0.5 * (1 + np.tanh(v / 2))


def _artanh_of_root(s):
    """Return artanh of the root of `1 - s`, finite."""
    return np.arctanh(np.minimum(np.sqrt(np.clip(1 - s, 0, 1)), 1 - 1e-16))


def _tanh() -> Activation:
    def turning(s):
        # 1 - tanh(v)^2 = s
        v = _artanh_of_root(s)
        return -v, v

    return _bell(np.tanh, lambda v: 1 - np.tanh(v) ** 2, 1.0, turning)


def _logistic() -> Activation:
    def turning(s):
        # (1 - tanh(v/2)^2) / 4 = s
        v = 2 * _artanh_of_root(4 * s)
        return -v, v

    return _bell(_sigmoid, lambda v: 0.25 * (1 - np.tanh(v / 2) ** 2), 0.25, turning)


def _softplus() -> Activation:
    def value(v):
        return np.logaddexp(v, 0)

    def slopes(l, u):
        return _within(_sigmoid(l), _sigmoid(u), 0.0, 1.0)

    def turning(s):
        s = np.clip(s, 1e-300, 1 - 1e-16)
        return (np.log(s) - np.log1p(-s),)

    return Activation(0.0, 1.0, value, _sigmoid, slopes, _chords(value, _sigmoid, 0.0, 1.0, turning))


_SILU = -0.0999, 1.0999
"""The extremes of silu's slope, -0.09984 and 1.09984, rounded outwards."""

_SILU_BENDS = 2.3993572805154
"""Where the slope of silu is largest; at minus that it is smallest."""


def _silu() -> Activation:
    def value(v):
        return v * _sigmoid(v)

    def slope(v):
        s = _sigmoid(v)
        return s * (1 + v * (1 - s))

    def slopes(l, u):
        # Monotone between its extremes: the largest and smallest are at the ends, or are those of all v.
        ends = slope(l), slope(u)
        # Far above the rounding of the bends' positions: near one, its extreme slope counts, which is on the safe side.
        near = 1e-6
        low = np.where((l <= near - _SILU_BENDS) & (u >= -near - _SILU_BENDS), _SILU[0], np.minimum(*ends))
        high = np.where((l <= near + _SILU_BENDS) & (u >= _SILU_BENDS - near), _SILU[1], np.maximum(*ends))
        return _within(low, high, *_SILU)

    return Activation(*_SILU, value, slope, slopes, _by_slopes(value, slopes))


POINTWISE: dict[str, Activation] = {
    "relu": kinked(0.0), "leaky_relu": kinked(0.01), "abs": kinked(-1.0), "hard_tanh": _hard_tanh(), "tanh": _tanh(),
    "sigmoid": _logistic(), "softplus": _softplus(), "silu": _silu(),
}  # fmt: skip
"""Activations by the name that a list of layers gives."""


def assumed_unit(function: Callable) -> Activation:
    """Return an elementwise JAX function whose slopes are taken to be in [0, 1]."""

    def evaluated(f):
        def of_array(v):
            with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
                flat = jax.vmap(f)(jnp.asarray(np.ravel(v), np.float64))
            return np.asarray(flat, np.float64).reshape(np.shape(v))

        return of_array

    def slopes(l, u):
        return 0 * l, 0 * u + 1

    value = evaluated(function)
    return Activation(0.0, 1.0, value, evaluated(jax.grad(function)), slopes, _by_slopes(value, slopes))
