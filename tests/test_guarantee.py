"""A guarantee is a value: its numbers compile nothing anew, are never trained, and err on the safe side."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import robustctl as rc
from robustctl.errors import InvalidModelError
from robustctl.nn import Contracting, Dissipative, Fixed, Lipschitz

from .models import draw

SIZES = dict(nu=2, nx=3, nv=4, ny=2, key=jr.key(0))
NUMBERS = [0.0, 1.0, -0.3, 0.1 + 0.2, 1 - 2**-40, 3.0, 1e-3, 2.0**-126, 1e-40, 3.4e38, 1e300, -1e300]


@pytest.mark.parametrize("number", NUMBERS)
def test_a_fixed_number_is_exact_and_no_larger_in_float32(number):
    fixed = Fixed(number)
    assert float(fixed) == float(fixed.value(jnp.float64)) == number
    found = fixed.value(jnp.float32)
    assert found.dtype == jnp.float32 and abs(float(found)) <= abs(number)
    within = 2.0**-126 <= abs(number) <= float(np.finfo(np.float32).max)
    assert not within or abs(number) * (1 - 2**-23) <= abs(float(found))


def test_an_array_of_fixed_numbers_keeps_its_shape():
    numbers = np.random.default_rng(0).normal(size=(3, 2))
    assert np.array_equal(Fixed(numbers).exact, numbers)
    assert np.array_equal(Fixed(numbers).value(jnp.float64), numbers)
    rounded = np.asarray(Fixed(numbers).value(jnp.float32), np.float64)
    np.testing.assert_allclose(rounded, numbers, rtol=2**-23)
    assert np.all(np.abs(rounded) <= np.abs(numbers))


def of(kind, rate=0.9, gamma=2.0, **kw):
    guarantee = {
        "Contracting": lambda: Contracting(rate),
        "Lipschitz": lambda: Lipschitz(gamma, rate),
        "Dissipative": lambda: Dissipative(**rc.nn.passive(2, output_excess=1 / gamma), rate=rate),
    }[kind]()
    return {
        "R2DN": rc.nn.R2DN(guarantee, hidden=(5,), **SIZES, **kw),
        "REN": rc.nn.REN(guarantee, **SIZES, **kw),
    }


OTHERS = {
    "StableLinear": lambda rate, gamma: rc.nn.StableLinear(nu=2, nx=3, ny=2, rate=rate, key=jr.key(0)),
    "InnovationR2DN": lambda rate, gamma: rc.nn.InnovationR2DN(
        nu=2, nx=3, nv=4, ny=2, hidden=(5,), rate=rate, key=jr.key(0)
    ),
    "LipschitzStatic": lambda rate, gamma: rc.nn.LipschitzStatic(
        nu=2, ny=2, gamma=gamma, hidden=(5,), key=jr.key(0)
    ),
}
KINDS = ("Contracting", "Lipschitz", "Dissipative")
MAKE = {
    **{f"{kind} {name}": lambda rate, gamma, k=kind, n=name: of(k, rate, gamma)[n] for kind in KINDS for name in ("R2DN", "REN")},
    **OTHERS,
}  # fmt: skip


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_another_rate_and_gain_are_the_same_program(make):
    traces = []

    @eqx.filter_jit
    def explicit(model):
        traces.append(0)
        return model.explicit()

    first, second = explicit(make(0.9, 2.0)), explicit(make(0.5, 3.0))
    assert len(traces) == 1
    leaves = [jax.tree.leaves(eqx.filter(s, eqx.is_array)) for s in (first, second)]
    assert any(not np.array_equal(a, b) for a, b in zip(*leaves, strict=True))


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_no_optimizer_moves_a_guarantee(make):
    """Weight decay shrinks every floating-point array, its gradient being zero."""
    model = make(0.9, 2.0)
    free, rest = eqx.partition(model, eqx.is_inexact_array)
    optimizer = optax.adamw(1.0, weight_decay=0.5)
    with jax.numpy_dtype_promotion("standard"):  # Optax counts in integers
        updates, _ = optimizer.update(jax.tree.map(jnp.zeros_like, free), optimizer.init(free), free)
    moved = eqx.combine(optax.apply_updates(free, updates), rest)
    before, after = (jax.tree.leaves(m.guarantee) for m in (model, moved))
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    assert not np.array_equal(jax.tree.leaves(free)[0], jax.tree.leaves(moved)[0])


@pytest.mark.parametrize("name", ["R2DN", "REN"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_twenty_draws_at_two_rates_and_gains_hold_in_one_program(name, dtype):
    models = [of("Lipschitz", rate, gamma, dtype=dtype)[name] for rate, gamma in ((0.5, 0.2), (0.95, 30.0))]
    drawn = [draw(model, jr.key(k), 1.0) for model in models for k in range(10)]
    arrays, rest = eqx.partition(drawn, eqx.is_array)
    stacked = jax.tree.map(lambda *a: jnp.stack(a), *arrays)
    systems = jax.jit(jax.vmap(lambda a: eqx.filter(eqx.combine(a, rest[0]).explicit(), eqx.is_array)))(
        stacked
    )
    like = drawn[0].explicit()
    for k, (rate, gamma) in enumerate(10 * [(0.5, 0.2)] + 10 * [(0.95, 30.0)]):
        system = eqx.combine(jax.tree.map(lambda a, k=k: a[k], systems), like)
        found = rc.certify(system, prove=False)
        assert found.holds, str(found)
        assert rate * (1 - 2**-23) <= found.rate <= rate
        assert found.gamma <= gamma * (1 + 1e-6 if dtype == jnp.float32 else 1 + 1e-12)


def test_the_short_functions_are_the_classes_with_their_guarantees():
    pairs = [
        (rc.nn.ContractingR2DN(rate=0.9, hidden=(5,), **SIZES), of("Contracting")["R2DN"]),
        (rc.nn.LipschitzR2DN(rate=0.9, gamma=2.0, hidden=(5,), **SIZES), of("Lipschitz")["R2DN"]),
        (rc.nn.ContractingREN(rate=0.9, **SIZES), of("Contracting")["REN"]),
        (rc.nn.LipschitzREN(rate=0.9, gamma=2.0, **SIZES), of("Lipschitz")["REN"]),
        (
            rc.nn.DissipativeREN(rate=0.9, **rc.nn.passive(2, output_excess=0.5), **SIZES),
            of("Dissipative")["REN"],
        ),
    ]
    for short, whole in pairs:
        assert eqx.tree_equal(short, whole)


def test_a_supply_rate_must_fit_the_ports():
    guarantee = Dissipative(**rc.nn.passive(3))
    for cls in (rc.nn.R2DN, rc.nn.REN):
        with pytest.raises(
            InvalidModelError, match=r"S must have shape \(2, 2\) for nu = 2, ny = 2, got \(3, 3\)"
        ):
            cls(guarantee, **SIZES)


def test_a_trained_gain_has_the_dtype_of_its_model():
    for dtype in (jnp.float32, jnp.float64):
        model = rc.nn.R2DN(Lipschitz(2.0, trainable=True), dtype=dtype, **SIZES)
        assert model.guarantee.log_gamma_ratio.dtype == model.gamma.dtype == model.core.X.dtype == dtype


class OfEachOutput(rc.nn.Guarantee):
    """A gain for each output: `sum_k |dy_k|^2 / g_k^2 <= |du|^2`."""

    rate: Fixed
    gains: Fixed

    def supply(self, nu, ny, dtype):
        Q = -jnp.diag(1 / self.gains.value(dtype) ** 2)
        return rc.nn.Supply(Q, jnp.zeros((nu, ny), dtype), jnp.eye(nu, dtype=dtype))


@pytest.mark.parametrize("cls", [rc.nn.R2DN, rc.nn.REN])
def test_a_guarantee_of_the_users_own_is_kept(cls):
    found = rc.certify(
        draw(cls(OfEachOutput(Fixed(0.9), Fixed([0.1, 5.0])), **SIZES), jr.key(1), 1.0), prove=False
    )
    assert found.holds and found.rate == 0.9
    np.testing.assert_allclose(found.supply[0], np.diag([-100.0, -0.04]))
