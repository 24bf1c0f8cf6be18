"""Interval arithmetic and Jacobians on boxes: never narrower than the truth, and exact where nothing varies."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustctl.certificates import interval as iv
from robustctl.certificates.interval import Interval
from robustctl.certificates.jacobian_box import jacobian_box, mean_slopes, value_box
from robustctl.errors import InvalidModelError

RNG = np.random.default_rng(0)
ENDS = np.sort(RNG.normal(size=(2, 200)) * 10 ** RNG.uniform(-6, 6, 200), axis=0)


def fractions(a):
    return [Fraction(float(x)) for x in a]


@pytest.mark.parametrize("name", ["add", "sub", "mul", "div"])
def test_arithmetic_contains_the_exact_result_of_its_ends(name):
    """In rational arithmetic, which does not round."""
    a, b = Interval(*ENDS), Interval(*np.roll(ENDS, 7, axis=1))
    found = getattr(iv, name)(a, b)
    exact = {
        "add": lambda x, y: x + y,
        "sub": lambda x, y: x - y,
        "mul": lambda x, y: x * y,
        "div": lambda x, y: x / y,
    }[name]
    for x, y in ((x, y) for x in a for y in b):
        for k, (p, q) in enumerate(zip(fractions(x), fractions(y), strict=True)):
            value = exact(p, q)
            assert (found.lo[k] == -np.inf or Fraction(float(found.lo[k])) <= value) and (
                found.hi[k] == np.inf or value <= Fraction(float(found.hi[k]))
            )


def test_sums_contain_the_exact_sum():
    exact = sum(fractions(ENDS[0]))
    found = iv.total(iv.thin(ENDS[0]), (0,))
    assert Fraction(float(found.lo)) <= exact <= Fraction(float(found.hi))


FUNCTIONS = {
    "sin": jnp.sin, "cos": jnp.cos, "tan": lambda x: jnp.tan(x / 4), "tanh": jnp.tanh, "exp": jnp.exp, "log": lambda x: jnp.log(x + 4),
    "sqrt": lambda x: jnp.sqrt(x + 4), "rsqrt": lambda x: jax.lax.rsqrt(x + 4), "square": jnp.square, "cube": lambda x: x**3,
    "reciprocal": lambda x: 1 / (x + 4), "power": lambda x: (x + 4) ** 1.5, "sigmoid": jax.nn.sigmoid, "softplus": jax.nn.softplus,
    "arctan": jnp.arctan, "sinh": jnp.sinh, "cosh": jnp.cosh, "expm1": jnp.expm1, "log1p": lambda x: jnp.log1p(x / 4),
    "relu": jax.nn.relu, "abs": jnp.abs, "clip": lambda x: jnp.clip(x, -1, 1), "minimum": lambda x: jnp.minimum(x, x**2),
    "decided": lambda x: jnp.where(x > -9, jnp.sin(x), 0.0), "stopped": lambda x: jax.lax.stop_gradient(x) * x,
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_slopes_between_any_two_points_are_inside(name):
    function = FUNCTIONS[name]
    for middle, half in ((0.3, 0.2), (-1.0, 1.5), (2.0, 0.01)):
        box = Interval(np.array([middle - half]), np.array([middle + half]))
        bounds, values = jacobian_box(function, box, 8), value_box(function, box)
        x = np.linspace(*np.concatenate(box), 101)
        y = np.asarray(function(jnp.asarray(x)))
        slopes = np.diff(y) / np.diff(x)
        assert bounds.lo[0, 0] <= slopes.min() + 1e-9 and slopes.max() - 1e-9 <= bounds.hi[0, 0]
        assert values.lo[0] <= y.min() and y.max() <= values.hi[0]
        means = mean_slopes(function, box, 1, 8)
        away = np.abs(x - middle) > 1e-3 * half
        center = float(function(jnp.asarray(middle)))
        rest = (
            (y[away] - center) / (x[away] - middle)
            - means.middle
            - means.curvature[0, 0] * (x[away] - middle) / 2
        )
        assert np.all(np.abs(rest) <= means.half + 1e-9 * (1 + np.abs(means.middle)))


def arm(z):
    """Products, a quotient, a matrix and a loop: the operations of a plant's step."""
    A = jnp.array([[0.3, 1.0], [-1.0, 0.2]])

    def body(x, _):
        return x + 0.1 * jnp.stack(
            [x[1], -jnp.sin(x[0]) * x[1] / (2 + jnp.cos(x[0])) + z[2]]
        ) + 0.01 * A @ x, None

    return jax.lax.scan(body, z[:2], None, 3)[0]


def test_the_jacobian_of_a_step_is_inside_and_near():
    middle, half = np.array([0.4, -0.3, 0.1]), np.array([0.2, 0.3, 0.1])
    box = Interval(middle - half, middle + half)
    bounds = jacobian_box(arm, box, 256)
    points = middle + half * RNG.uniform(-1, 1, (2000, 3))
    true = np.asarray(jax.jit(jax.vmap(jax.jacfwd(arm)))(jnp.asarray(points)))
    assert np.all(bounds.lo <= true.min(0)) and np.all(true.max(0) <= bounds.hi)
    assert np.sum(bounds.hi - bounds.lo) < 1.5 * np.sum(true.max(0) - true.min(0))
    means = mean_slopes(arm, box, 3)
    dz = points - middle
    change = np.asarray(jax.vmap(arm)(jnp.asarray(points))) - np.asarray(arm(jnp.asarray(middle)))
    linear = dz @ means.middle.T + np.einsum("kjl,pj,pl->pk", means.curvature, dz, dz) / 2
    assert np.all(np.abs(change - linear) <= np.abs(dz) @ means.half.T)
    # Of what varies, what is left after the curvature is of second order
    assert np.sum(means.half) < 0.3 * np.sum(bounds.hi - bounds.lo)


def test_what_does_not_vary_is_exact():
    bounds = jacobian_box(
        lambda z: jnp.stack([z[0] + jnp.sin(z[1]), z[0], 0.5 * z[2]]), Interval(-np.ones(3), np.ones(3))
    )
    assert (
        bounds.lo[0, 0] == bounds.hi[0, 0] == 1
        and np.all(bounds.lo[:2, 2] == 0)
        and np.all(bounds.hi[:2, 2] == 0)
    )
    assert (
        jacobian_box(lambda z: jnp.ones(2), Interval(-np.ones(3), np.ones(3))).hi.tolist()
        == np.zeros((2, 3)).tolist()
    )


FAULTS = {
    "sign": (jnp.sign, "must not jump .* sign .* tanh"),
    "round": (jnp.round, "must not jump .* round"),
    "where": (lambda x: jnp.where(x > 0, 1.0 + x, x), "must not switch between formulas"),
    "sqrt": (lambda x: jnp.sqrt(jnp.maximum(x, 0)), "must be bounded on the box"),
    "quotient": (lambda x: 1 / x, "must be bounded on the box"),
    "sort": (lambda x: jnp.sort(jnp.concatenate([x, -x])), "got sort; known are abs, add"),
    "while": (lambda x: jax.lax.while_loop(lambda v: jnp.all(v < 9), lambda v: v * 2, x + 2), "got while; .* fixed size"),
    "position": (lambda x: jnp.arange(5.0)[jnp.asarray(x[0] * 2, int)], "whole numbers|fixed positions"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_what_has_no_bounded_slopes_is_named(name):
    function, message = FAULTS[name]
    with pytest.raises(InvalidModelError, match=message):
        jacobian_box(function, Interval(-np.ones(1), np.ones(1)), 4)
