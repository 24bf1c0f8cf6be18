"""What must not be certified, and a certificate that belongs to its own model: expected values follow from the step itself."""

import dataclasses
import os
import stat
from fractions import Fraction

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import robustctl as rc
from robustctl.affine import is_affine
from robustctl.certificates.dissipation import inequality, margin
from robustctl.certificates.faults import array_fault
from robustctl.errors import InvalidModelError
from robustctl.observers.bound import inverse_diagonal

from .exact import positive_definite, rational


@pytest.fixture(scope="module")
def system():
    return rc.nn.LipschitzR2DN(nu=1, nx=3, nv=2, ny=1, hidden=(3,), gamma=2.0, key=jr.key(0)).explicit()


@pytest.fixture(scope="module")
def predictor():
    return rc.nn.InnovationR2DN(nu=1, nx=3, nv=2, ny=1, hidden=(3,), key=jr.key(0)).explicit()


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["by", "bx", "bv", "phi.b"])
def test_an_offset_that_is_not_finite_is_named(system, name, value):
    def array(s):
        return s.phi.b if name == "phi.b" else getattr(s, name)

    found = rc.certify(eqx.tree_at(array, system, array(system) * value), prove=False)
    assert not found.holds and found.reason.startswith(f"{name} must be finite")


def test_a_scaling_that_is_not_finite_is_named(system):
    one = jnp.ones(1)
    assert rc.certify(rc.Scaled(system, 0 * one, one, 0 * one, one), prove=False).holds
    found = rc.certify(rc.Scaled(system, jnp.full(1, jnp.nan), one, one, one), prove=False)
    assert not found.holds and found.reason.startswith("u_mean must be finite")


def test_a_complex_array_is_named(system):
    found = rc.certify(
        eqx.tree_at(lambda s: s.A, system, jnp.asarray(np.asarray(system.A) + 0j)), prove=False
    )
    assert not found.holds and found.reason.startswith("A must be of real numbers, got complex")


@pytest.mark.parametrize("name", ["u_mean", "u_std", "y_mean", "y_std"])
def test_complex_scales_are_named(system, name):
    one = jnp.ones(1)
    scales = {"u_mean": one, "u_std": one, "y_mean": one, "y_std": one} | {name: jnp.asarray([1 + 0.1j])}
    found = rc.certify(rc.Scaled(system, **scales))
    assert not found.holds and "real" in found.reason and found.gamma is None and found.rate is None


class Lag(rc.System):
    """x+ = a x + u, y = x + b."""

    a: jax.Array
    b: jax.Array
    nu = ny = 1

    def init_state(self):
        return jnp.zeros(1)

    def step(self, x, u):
        return self.a * x + u, x + self.b

    def lft(self):
        return rc.lft.linear([[float(self.a)]], [[1.0]], [[1.0]], [[0.0]])


def claiming(base, **claimed):
    """A system of a class that claims what anyone can write down."""

    class Claiming(base):
        @property
        def claim(self):
            return rc.lft.Claim(**claimed)

    return Claiming(jnp.asarray(0.5), jnp.zeros(1))


def test_an_own_description_is_an_assumption_in_words():
    found = rc.certify(Lag(jnp.asarray(0.5), jnp.zeros(1)), prove=False)
    assert found.holds and found.assumptions == ("lft() of Lag describes its step: sizes were compared",)


def test_an_offset_of_three_entries_does_not_fit_one_output():
    with pytest.raises(InvalidModelError, match=r"step does.*'outputs': 3"):
        rc.certify(Lag(jnp.asarray(0.5), jnp.zeros(3)), prove=False)
    found = rc.certify(Lag(jnp.asarray(0.5), jnp.zeros((2, 3))), prove=False)
    assert not found.holds


@pytest.mark.parametrize("rate", [1.5, 0.0, -0.9, np.nan])
def test_a_rate_outside_its_range_is_not_certified(rate):
    found = rc.certify(claiming(Lag, rate=rate), prove=False)
    assert not found.holds and "rate must be in (0, 1]" in found.reason


@pytest.mark.parametrize("gamma", [-3.0, 0.0, np.nan])
def test_a_gain_that_is_not_positive_is_not_certified(gamma):
    """The gain of 1 / (z - 0.5) is 2."""
    one = np.ones((1, 1))
    with np.errstate(divide="ignore"):
        good, bad = (
            rc.certify(claiming(Lag, supply=(-one / np.float64(g), 0 * one, g * one)), prove=False)
            for g in (3.0, gamma)
        )
    assert good.holds and np.isclose(good.gamma, 3.0) and not bad.holds


class Inputless(Lag):
    """Two inputs that nothing depends on."""

    nu = 2

    def step(self, x, u):
        return self.a * x, self.b

    def lft(self):
        return rc.lft.linear([[0.5]], np.zeros((1, 2)), [[0.0]], np.zeros((1, 2)))


@pytest.mark.parametrize("R", [[[4.5, 6.0], [0.0, 4.5]], [[4.5, 0.0], [6.0, 4.5]]])
def test_the_gain_counts_both_halves_of_an_asymmetric_supply_rate(R):
    """u'Ru is at most (4.5 + 3) |u|^2, whichever half of R has the 6."""
    found = rc.certify(claiming(Inputless, supply=(-np.eye(1), np.zeros((2, 1)), np.asarray(R))), prove=False)
    assert found.holds and np.isclose(found.gamma, np.sqrt(7.5))


class Loud:
    """A mixin."""

    def step(self, x, u):
        x_next, y = super().step(x, u)  # pyright: ignore[reportAttributeAccessIssue]
        return 3 * x_next, y


def overriding(base):
    def compiled(self, x, u):
        return 3 * x, u

    class Mixed(Loud, base):
        pass

    class Compiled(base):
        step = eqx.filter_jit(compiled)

    class Field(base):
        init_state: object = None

    return Mixed, Compiled, Field


@pytest.mark.parametrize("base", [rc.nn.ExplicitR2DN, rc.nn.InnovationSystem, rc.Scaled])
def test_a_class_that_steps_otherwise_by_any_means_inherits_no_description(base):
    for cls in overriding(base):
        assert cls.lft is rc.System.lft and cls.modes is rc.System.modes, cls.__name__


def test_a_predictor_that_steps_otherwise_is_not_certified(predictor):
    class Louder(rc.nn.InnovationSystem):
        def predict(self, x, u):
            x_next, y = super().predict(x, u)
            return 3 * x_next, y

    louder = Louder(**{field.name: getattr(predictor, field.name) for field in dataclasses.fields(predictor)})
    assert rc.certify(predictor, prove=False).holds and not rc.certify(louder, prove=False).holds


# Flags


def test_a_predictor_whose_flags_are_scaled_is_not_certified(predictor):
    zero, one = jnp.zeros(3), jnp.ones(3)
    for mean, std in ((0.0, 0.3), (0.9, 1.0)):
        u = zero.at[2].set(mean), one.at[2].set(std)
        scaled = rc.Scaled(predictor, *u, jnp.zeros(1), jnp.ones(1))
        for system in (scaled, rc.Delayed(scaled, (2, 0, 0))):
            found = rc.certify(system, prove=False)
            assert not found.holds and "inputs [2] are flags" in found.reason
            assert "for_prediction" in found.reason
    units = rc.Scaled(predictor, zero.at[0].set(5.0), one.at[0].set(100.0), jnp.ones(1), jnp.ones(1))
    found = rc.certify(units, prove=False)
    assert found.holds and found.assumptions == ("its inputs [2], which are flags, are 0 or 1",)


def test_fit_leaves_flags_unscaled_and_refuses_a_scaling_of_them():
    rng = np.random.default_rng(0)
    log = rc.data.from_arrays(rng.normal(size=60), rng.normal(size=60), 0.1)
    record, scaling = rc.observers.for_prediction(log, hidden=0.3)
    model = rc.nn.InnovationR2DN(nu=1, nx=2, nv=2, ny=1, hidden=(2,), key=jr.key(0))
    fitted = rc.fit(model, record, epochs=1, monitor=None, key=jr.key(1)).model
    assert (
        fitted.scaling.u_mean[2] == 0
        and fitted.scaling.u_std[2] == 1
        and rc.certify(fitted, prove=False).holds
    )
    np.testing.assert_allclose(fitted.scaling.u_std[:2], scaling.u_std[:2], rtol=0.3)
    with pytest.raises(InvalidModelError, match="flags"):
        problem = rc.train.Identification(record, scaling=rc.data.Scaling.fit(record))
        rc.train.train(problem, model, epochs=1, key=jr.key(1))


def test_a_predictor_in_bfloat16_is_certified_for_the_products_that_it_steps_with():
    """A - K C2 of bfloat16 numbers is no bfloat16 number: proven is what rational arithmetic gives."""
    model = rc.nn.InnovationR2DN(nu=1, nx=2, nv=1, ny=1, hidden=(2,), key=jr.key(0), dtype=jnp.float32)
    cast = jax.tree.map(lambda a: a.astype(jnp.bfloat16) if eqx.is_inexact_array(a) else a, model.explicit())
    form = cast.modes()[1].lft()
    A, K, C2 = (rational(M) for M in (cast.A, cast.K, cast.C2))
    np.testing.assert_allclose(form.A, (A - K @ C2[:1]).astype(float), rtol=1e-14)
    assert not np.array_equal(np.asarray(cast.under([1.0]).A, float), form.A)


# Rates and metrics


@pytest.mark.parametrize("condition", [1e2, 1e5, 1e8])
def test_the_rate_found_is_proven_exactly_at_any_condition_number(condition):
    """A is 0.9 times a rotation in coordinates that P measures: its smallest rate is 0.9, and rounding must not go below it."""
    rng = np.random.default_rng(0)
    T = np.diag(np.sqrt(np.geomspace(1.0, condition, 3)))
    A = np.linalg.solve(T, 0.9 * np.linalg.qr(rng.normal(size=(3, 3)))[0] @ T)

    class Rotating(rc.StateSpace):
        @property
        def claim(self):
            return rc.lft.Claim(P=T @ T)

    found = rc.certify(Rotating(A, np.ones((3, 1)), np.ones((1, 3)), [[0.0]], dt=1.0), prove=False)
    assert found.holds and found.rate_found is not None and found.P is not None
    exact_A, exact_P, rate = rational(A), rational(found.P), rational(found.rate_found)[()]
    assert positive_definite(rate**2 * exact_P - exact_A.T @ exact_P @ exact_A)
    assert 0.9 * (1 - 1e-6) <= found.rate_found < 0.95


def test_a_metric_found_for_a_linear_system_has_a_size_near_one():
    found = rc.certify(
        rc.StateSpace([[0.5, 1.0], [0.0, 0.7]], [[1.0], [0.0]], [[1.0, 0.0]], [[0.0]], dt=1.0), prove=False
    )
    assert found.holds and 0.5 < np.abs(found.P).max() < 2


def test_a_metric_so_small_that_products_underflow_proves_nothing():
    f = inequality(rc.StateSpace([[0.5]], [[1.0]], [[1.0]], [[0.0]], dt=1.0))
    assert f is not None
    assert margin(f, np.eye(1)) < 0 and margin(f, np.eye(1) * 1e-297) == np.inf


# A certificate belongs to its model


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"gamma": 2.0}, {"gamma": 100.0}),
        ({"activation": jax.nn.relu}, {"activation": jnp.tanh}),
        ({"hidden": (2,)}, {"hidden": (2, 2)}),
    ],
)
def test_another_models_certificate_is_refused(tmp_path, one, other):
    common = {"nu": 1, "ny": 1, "gamma": 2.0, "hidden": (2,), "key": jr.key(0)}
    a, b = (rc.nn.LipschitzStatic(**common | given) for given in (one, other))
    rc.save(tmp_path / "a", a, certificate=rc.certify(a, prove=False))
    with pytest.raises(InvalidModelError, match="must be of this model's weights"):
        rc.save(tmp_path / "b", b, certificate=rc.certify(a, prove=False))
    assert not (tmp_path / "b").exists()


def test_a_fingerprint_sees_static_fields_and_the_code_of_functions(system):
    def made(text):
        space: dict = {}
        exec(text, space)
        return space["f"]

    one, two = made("f = lambda z: z / 2"), made("f = lambda z: z / 3")
    factors = [lambda z, k=k: k * z for k in (0.1, 0.2)]
    lags = [rc.StateSpace([[0.5]], [[1.0]], [[1.0]], [[0.0]], dt=dt) for dt in (0.1, 0.2)]
    rens = [
        dataclasses.replace(system, phi=dataclasses.replace(system.phi, activation=f))
        for f in (one, two, *factors)
    ]
    prints = [rc.certificates.fingerprint(s) for s in (*lags, *rens)]
    assert len(set(prints)) == len(prints)
    assert len({rc.certificates.weights_sha256(s) for s in rens}) == 1
    assert rc.certificates.fingerprint(lags[0]) == prints[0]


# Performance outputs


def test_affine_functions_are_shown_to_be_and_others_are_not():
    x, u, M = jnp.zeros(3), jnp.zeros(2), jnp.ones((2, 3))
    affine = [
        lambda x, u: jnp.concatenate([x, u]),
        lambda x, u: 2 * (M @ x) + u / 3 - 1,
        lambda x, u: jnp.stack([x[0], u[1]]),
        lambda x, u: x[jnp.asarray([0, 2])] - x.mean(),
        lambda x, u: jnp.where(jnp.asarray([True, False, True]), x, 1.0),
    ]
    others = [
        lambda x, u: x**3,
        lambda x, u: x * u[0],
        lambda x, u: jnp.where(x > 0, x, 0.0),
        lambda x, u: jnp.maximum(x, 0),
        lambda x, u: x.astype(int).astype(x.dtype),
        lambda x, u: jax.lax.stop_gradient(x),
        lambda x, u: x.astype(jnp.bfloat16).astype(x.dtype),
        lambda x, u: np.asarray(x),
    ]
    assert all(is_affine(f, x, u) for f in affine) and not any(is_affine(f, x, u) for f in others)


# Files


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes are of POSIX")
def test_a_pipe_is_refused_and_left_there(tmp_path):
    pipe, model = tmp_path / "pipe", rc.nn.StableLinear(nu=1, nx=2, ny=1, key=jr.key(0))
    os.mkfifo(pipe)
    with pytest.raises(FileExistsError, match="device, pipe or socket"):
        rc.save(pipe, model)
    assert stat.S_ISFIFO(pipe.stat().st_mode) and list(tmp_path.iterdir()) == [pipe]


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_is_followed_and_stays(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    link.symlink_to(target)
    for seed in range(2):  # first the link points to nothing
        model = rc.nn.StableLinear(nu=1, nx=2, ny=1, key=jr.key(seed))
        rc.save(link, model)
        assert link.is_symlink() and eqx.tree_equal(rc.load(target), model)


def inverse(M):
    """The inverse in fractions, by elimination."""
    n = len(M)
    whole = np.hstack([M, rational(np.eye(n))])
    for k in range(n):
        whole[k] = whole[k] / whole[k, k]
        for i in set(range(n)) - {k}:
            whole[i] = whole[i] - whole[i, k] * whole[k]
    return whole[:, n:]


@pytest.mark.parametrize("decades", [0, 3, 6])
def test_an_observer_s_bound_is_rounded_up_where_the_metric_is_ill_conditioned(decades):
    """States in units so many decades apart, and a correlation of 1 - 1e-7 between two of them."""
    t = np.geomspace(1, 10.0**decades, 3)
    correlations = np.array([[1, 1 - 1e-7, 0.3], [1 - 1e-7, 1, 0.3], [0.3, 0.3, 1]])
    P = t[:, None] * correlations * t
    bound, exact = inverse_diagonal((P + P.T) / 2), np.diagonal(inverse(rational((P + P.T) / 2)))
    assert all(Fraction(float(b)) >= e for b, e in zip(bound, exact, strict=True))
    np.testing.assert_allclose(bound, exact.astype(float), rtol=1e-5)


@pytest.mark.parametrize("where", ["system", "network"])
def test_a_method_set_on_an_object_is_covered_by_no_certificate(where):
    model = rc.nn.ContractingR2DN(nu=1, nx=2, nv=2, ny=1, hidden=(3,), key=jr.key(0)).explicit()
    assert rc.certify(model).holds
    if where == "system":
        object.__setattr__(model, "step", lambda x, u: (3 * x, u))
        hidden = "step"
    else:
        object.__setattr__(model.phi, "__call__", lambda v: 5 * v)
        hidden = "__call__"
    found = rc.certify(model)
    assert not found.holds and f"{hidden} was set on the object" in found.reason
    assert found.gamma is None and found.rate is None and not found.gains
    with pytest.raises(InvalidModelError, match="was set on the object"):
        rc.certificates.peak_bounds(model, [1.0] * model.nu)


# All of it, at random


@pytest.mark.slow
def test_no_certificate_of_an_edited_model_is_false():
    from benchmarks.certificate_oracle import run

    counts = run(26, seed=1)["counts"]
    assert not {"FALSE", "error"} & counts.keys() and counts["true"] > 8


def test_a_limit_that_is_not_there_is_no_fault_and_any_other_infinity_is_one():
    free = rc.classical.PID(1.0, 1.0, dt=0.1)
    assert array_fault(free) == ""
    for name, wrong in (("low", jnp.inf), ("high", -jnp.inf), ("high", jnp.nan), ("y0", jnp.inf)):
        broken = eqx.tree_at(lambda p, name=name: getattr(p, name), free, jnp.full(1, wrong))
        assert array_fault(broken).startswith(f"{name} must be finite, got {wrong}")
    law = rc.loops.Gain(-jnp.ones((1, 2)), jnp.zeros(2), jnp.zeros(1))
    guarded = rc.loops.Guarded(law, rc.loops.Limits([-1.0], [1.0]), law)
    assert rc.certify(guarded, prove=False).reason.startswith("Guarded makes no claim")
