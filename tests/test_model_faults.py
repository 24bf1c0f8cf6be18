"""Edited, cast and stacked models, and activations that are none: refused by name, and never certified for another model."""

import dataclasses
import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import robustctl as rc
from robustctl.errors import InvalidModelError, RobustctlError
from robustctl.nn.activations import fault

pytestmark = pytest.mark.usefixtures("as_installed")
KEY = jr.key(0)
MODELS = {
    "R2DN": functools.partial(rc.nn.LipschitzR2DN, nu=1, nx=2, nv=2, ny=1, hidden=(2,), gamma=2.0),
    "REN": functools.partial(rc.nn.ContractingREN, nu=1, nx=2, nv=2, ny=1, rate=0.95),
    "StableLinear": functools.partial(rc.nn.StableLinear, nu=1, nx=2, ny=1),
    "LipschitzStatic": functools.partial(rc.nn.LipschitzStatic, nu=1, ny=1, gamma=2.0, hidden=(2,)),
    "InnovationR2DN": functools.partial(rc.nn.InnovationR2DN, nu=1, nx=2, nv=2, ny=1, hidden=(2,)),
    "GRU": functools.partial(rc.nn.GRU, nu=1, nx=2, ny=1),
    "LSTM": functools.partial(rc.nn.LSTM, nu=1, nx=2, ny=1),
    "LBDN": functools.partial(rc.nn.LBDN, 2, 2, (2,)),
}


@functools.cache
def explicit(name):
    return MODELS[name](key=KEY).explicit()


def softplus(v):
    """Right in exact arithmetic, infinite from 89 on in float32 and from 710 on in float64."""
    return jnp.log1p(jnp.exp(v))


def steep_in_float32(v):
    return v if v.dtype == jnp.float64 else 2 * v


def with_activation(name, activation):
    system = explicit(name)
    if name == "REN":
        return dataclasses.replace(system, activation=activation)
    return dataclasses.replace(system, phi=dataclasses.replace(system.phi, activation=activation))


@pytest.mark.parametrize("name", ["REN", "R2DN", "LipschitzStatic"])
def test_a_replaced_activation_is_certified_for_what_it_does(name):
    assert (
        rc.certify(explicit(name), prove=False).holds
        and not rc.certify(explicit(name), prove=False).assumptions
    )
    for activation, message in ((lambda v: 20 * v, "slopes from 20 to 20"), (softplus, "finite")):
        found = rc.certify(with_activation(name, activation), prove=False)
        assert not found.holds and message in found.reason
    found = rc.certify(with_activation(name, jnp.arctan), prove=False)
    assert found.holds and "slope of the activation arctan" in str(found)


def test_an_activation_is_tried_in_the_dtypes_of_the_model():
    assert fault(steep_in_float32, jnp.float64) is None
    assert "slopes from 2 to 2" in str(fault(steep_in_float32, jnp.float32))
    system = with_activation("REN", steep_in_float32)
    single = jax.tree.map(lambda a: a.astype(jnp.float32), system)
    assert rc.certify(system, prove=False).holds and not rc.certify(single, prove=False).holds


@pytest.mark.parametrize(
    ("activation", "message"),
    [
        (eqx.nn.PReLU(), "without arrays"),
        (jax.nn.softmax, "single number"),
        (lambda v: v * jnp.arange(v.size) / max(v.size, 1), "itself"),
        (lambda v: v - jnp.mean(v), "itself"),
        (jax.nn.silu, "slopes from -0.0998. to 1.1"),  # its slope is in [-0.0998, 1.0998]
        (lambda v: v.astype(jnp.int32), "dtype"),
        (softplus, "finite"),
        (np.tanh, "JAX array"),
        ("relu", "jax.nn.relu"),
    ],
)
def test_what_is_no_activation_is_refused(activation, message):
    for make in (MODELS["REN"], MODELS["R2DN"]):
        with pytest.raises(InvalidModelError, match=message):
            make(key=KEY, activation=activation)


def test_a_constant_in_place_of_an_array_makes_an_activation():
    leaky = functools.partial(jax.nn.leaky_relu, negative_slope=0.25)
    assert rc.certify(MODELS["REN"](key=KEY, activation=leaky), prove=False).holds


def test_a_model_with_an_own_activation_is_built_inside_of_jit():
    built = eqx.filter_jit(lambda key: MODELS["REN"](key=key, activation=lambda v: jnp.tanh(v)).core.X)(KEY)
    assert built.shape == (6, 6)


def test_a_ren_steps_and_is_certified_without_the_upper_part_of_D11():
    """x+ = 0.5 x + 0.6 relu(3 x): twice as far apart at 2 and 1, whatever stands on the diagonal of D11."""
    one = MODELS["REN"](key=KEY, nx=1, nv=1).explicit()
    values = {"A": 0.5, "B1": 0.6, "C1": 3.0, "D11": -5.0, "P": 1.0}
    arrays = {name: jnp.full((1, 1), value) for name, value in values.items()}
    bad = dataclasses.replace(one, **arrays, Lambda=jnp.ones(1), bx=jnp.zeros(1), bv=jnp.zeros(1))
    after = [float(bad.step(jnp.full(1, x), jnp.zeros(1))[0][0]) for x in (1.0, 2.0)]
    np.testing.assert_allclose(after, [2.3, 4.6])
    assert not rc.certify(bad, prove=False).holds
    ren = explicit("REN")
    raised = dataclasses.replace(ren, D11=ren.D11 + 3 * jnp.triu(jnp.ones_like(ren.D11)))
    assert raised.response_gain() == ren.response_gain()
    assert rc.certify(raised, prove=False).rate_found == rc.certify(ren, prove=False).rate_found


def test_a_layer_without_a_proof_has_no_bound():
    ren = explicit("REN")
    assert with_activation("REN", lambda v: 20 * v).response_gain() == np.inf
    coupled = dataclasses.replace(ren, D11=jnp.tril(jnp.full((2, 2), -50.0), -1))
    assert coupled.response_gain() == np.inf


@pytest.mark.parametrize("field", ["by", "bx", "bv", "D22", "B1", "C1"])
@pytest.mark.parametrize("name", ["R2DN", "REN"])
def test_arrays_that_arithmetic_would_repeat_are_refused(name, field):
    system = explicit(name)
    shape = jnp.shape(getattr(system, field))
    other = jnp.zeros((3,)) if len(shape) == 1 else jnp.zeros((1, 3))
    with pytest.raises(InvalidModelError, match="must have shape"):
        rc.certify(dataclasses.replace(system, **{field: other}), prove=False)


@pytest.mark.parametrize(
    "where",
    [
        lambda s: s.phi.b,  # y = W h + b would have three equal entries and sqrt(3) times the gain
        lambda s: s.phi.layers[0].b,
        lambda s: s.phi.layers[0].psi,
    ],
)
def test_arrays_of_a_network_that_arithmetic_would_repeat_are_refused(where):
    with pytest.raises(InvalidModelError, match="must have shape"):
        rc.certify(eqx.tree_at(where, explicit("LipschitzStatic"), jnp.ones(3)), prove=False)


def test_a_network_of_equinox_that_repeats_its_output_has_no_bound():
    mlp = eqx.nn.MLP(2, 1, 3, 1, key=KEY)
    repeated = eqx.tree_at(lambda m: m.layers[-1].bias, mlp, jnp.zeros(3))
    assert repeated(jnp.ones(2)).shape == (3,) and rc.nn.lipschitz_bound(repeated) is None
    wanted = np.prod([np.linalg.norm(np.asarray(layer.weight), 2) for layer in mlp.layers])
    np.testing.assert_allclose(rc.nn.lipschitz_bound(mlp), wanted)


def test_a_bound_that_a_network_gives_itself_is_an_assumption():
    class Half(eqx.Module):
        bound: float

        def __call__(self, v):
            return v / 2

        def lipschitz_bound(self):
            return self.bound

    def certificate(bound):
        return rc.certify(dataclasses.replace(explicit("R2DN"), phi=Half(bound)), prove=False)

    assert certificate(0.5).holds and "Half is at most what its lipschitz_bound() returns" in str(
        certificate(0.5)
    )
    assert not certificate(np.nan).holds and not certificate(-0.5).holds


@pytest.mark.parametrize("rate", [0.0, -0.9, 1.2, np.nan, np.ones(3), 0.9 + 0j])
@pytest.mark.parametrize("name", ["REN", "R2DN", "StableLinear"])
def test_a_rate_that_is_none_is_refused(name, rate):
    with pytest.raises(InvalidModelError, match="rate"):
        rc.certify(dataclasses.replace(explicit(name), rate=rate), prove=False)


@pytest.mark.parametrize("gamma", [0.0, -2.0, np.nan, np.inf, np.ones(3)])
def test_a_gain_that_is_none_is_refused(gamma):
    with pytest.raises(InvalidModelError, match="gamma"):
        rc.certify(dataclasses.replace(explicit("LipschitzStatic"), gamma=gamma), prove=False)


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_free_arrays_in_half_precision_are_refused(make):
    for dtype in (jnp.float16, jnp.bfloat16, jnp.int32):
        with pytest.raises(InvalidModelError, match=f"float32 or float64, got {jnp.dtype(dtype)}"):
            make(key=KEY, dtype=dtype)
    half = jax.tree.map(lambda a: a.astype(jnp.float16) if eqx.is_inexact_array(a) else a, make(key=KEY))
    with pytest.raises(InvalidModelError, match="float32 or float64, got float16"):
        half.explicit()


@pytest.mark.parametrize("name", MODELS)
def test_a_stack_of_models_is_refused_with_how_to_map_over_it(name, tmp_path):
    def stacked(one):
        return jax.tree.map(lambda a: jnp.stack([a, a]) if eqx.is_array(a) else a, one)

    models, systems, u = stacked(MODELS[name](key=KEY)), stacked(explicit(name)), jnp.ones(3)
    calls = [
        models.explicit,
        lambda: rc.certify(models, prove=False),
        lambda: rc.save(tmp_path / "model.safetensors", models),
    ]
    if name == "LBDN":
        calls += [lambda: systems(u)]
    else:
        calls += [
            lambda: systems.step(systems.init_state(), u),
            lambda: rc.rollout(systems, jnp.ones((4, 3))),
        ]
        calls += [] if name in ("GRU", "LSTM") else [lambda: rc.certify(systems, prove=False)]
    for call in calls:
        with pytest.raises(RobustctlError, match=r"must be one model.*filter_vmap"):
            call()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("sizes", [(0, 2, 1, 1), (2, 0, 1, 1), (2, 2, 0, 1), (2, 2, 1, 0)])
def test_a_ren_without_states_neurons_inputs_or_outputs_steps_and_is_certified(sizes):
    """All matrices zero: x+ = 0 and y = 0, so that any rate holds where there is a state."""
    nx, nv, nu, ny = sizes
    shapes = {
        "A": (nx, nx), "B1": (nx, nv), "B2": (nx, nu), "C1": (nv, nx), "C2": (ny, nx), "D11": (nv, nv), "D12": (nv, nu),
        "D21": (ny, nv), "D22": (ny, nu), "bx": (nx,), "bv": (nv,), "by": (ny,),
    }  # fmt: skip
    arrays = {name: jnp.zeros(shape) for name, shape in shapes.items()}
    ren = rc.nn.ExplicitREN(
        **arrays, P=jnp.eye(nx), Lambda=jnp.ones(nv), supply=None, rate=0.9, activation=jax.nn.relu
    )
    assert rc.rollout(ren, jnp.ones((3, nu))).ys.shape == (3, ny)
    assert rc.certify(ren, prove=False).holds == (nx > 0)


@pytest.mark.parametrize("name", ["R2DN", "REN", "StableLinear", "GRU", "LSTM"])
@pytest.mark.parametrize("size", ["nu", "nx", "ny"])
def test_a_model_of_size_zero_is_refused(name, size):
    with pytest.raises(InvalidModelError, match=f"{size} must be a whole number of at least 1, got 0"):
        MODELS[name](key=KEY, **{size: 0})


def test_designs_name_a_size_of_zero():
    def system(nx, nu):
        return rc.StateSpace(
            np.zeros((nx, nx)), np.zeros((nx, nu)), np.zeros((1, nx)), np.zeros((1, nu)), 0.1
        )

    with pytest.raises(InvalidModelError, match="at least one state"):
        rc.classical.lqr(system(0, 1), np.zeros((0, 0)), 1.0)
    with pytest.raises(InvalidModelError, match="at least one input"):
        rc.classical.to_control(system(2, 0))


def test_the_old_name_of_the_error_names_the_new_one():
    with pytest.raises(AttributeError, match=r"rc\.errors\.InvalidModelError now"):
        rc.errors.ModelError  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'Missing'"):
        rc.errors.Missing  # noqa: B018
