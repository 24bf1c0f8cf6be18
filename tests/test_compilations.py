"""Nothing is compiled twice: a model is built without compiling, and a second call finds its program."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import robustctl as rc
from robustctl.errors import InvalidModelError
from robustctl.nn.initializers import key_bits, lecun_normals, split
from robustctl.nn.numpy_maps import first_feedthrough
from robustctl.problems import two_tanks

from .compilations import count_compilations

SIZES = {"nu": 2, "nx": 7, "nv": 9, "ny": 3}
SLOW = rc.nn.long_memory
VIBRATING = rc.nn.resonances(0.5, 3.0, dt=0.05)
AT_LINEAR = rc.nn.at_linear(np.diag([0.9, 0.5]), np.ones((2, 2)), np.ones((3, 2)), np.zeros((3, 2)))

BUILDERS = {
    "ContractingR2DN": lambda key: rc.nn.ContractingR2DN(**SIZES, key=key),
    "ContractingR2DN long_memory": lambda key: rc.nn.ContractingR2DN(**SIZES, init=SLOW, key=key),
    "ContractingR2DN resonances": lambda key: rc.nn.ContractingR2DN(**SIZES, init=VIBRATING, key=key),
    "ContractingR2DN at_linear": lambda key: rc.nn.ContractingR2DN(**SIZES, init=AT_LINEAR, key=key),
    "LipschitzR2DN at_linear": lambda key: rc.nn.LipschitzR2DN(
        **SIZES, gamma=99.0, init=AT_LINEAR, key=key
    ),
    "LipschitzREN at_linear": lambda key: rc.nn.LipschitzREN(**SIZES, gamma=99.0, init=AT_LINEAR, key=key),
    "LipschitzR2DN": lambda key: rc.nn.LipschitzR2DN(**SIZES, gamma=3.0, train_gamma=True, key=key),
    "LipschitzR2DN long_memory": lambda key: rc.nn.LipschitzR2DN(**SIZES, gamma=3.0, init=SLOW, key=key),
    "DissipativeR2DN": lambda key: rc.nn.DissipativeR2DN(
        nu=2, nx=7, nv=9, ny=2, **rc.nn.passive(2), key=key
    ),
    "ContractingREN": lambda key: rc.nn.ContractingREN(**SIZES, key=key),
    "ContractingREN long_memory": lambda key: rc.nn.ContractingREN(**SIZES, init=SLOW, key=key),
    "LipschitzREN": lambda key: rc.nn.LipschitzREN(**SIZES, gamma=3.0, train_gamma=True, key=key),
    "LipschitzREN resonances": lambda key: rc.nn.LipschitzREN(**SIZES, gamma=3.0, init=VIBRATING, key=key),
    "DissipativeREN": lambda key: rc.nn.DissipativeREN(nu=2, nx=7, nv=9, ny=2, **rc.nn.passive(2), key=key),
    "StableLinear": lambda key: rc.nn.StableLinear(nu=2, nx=7, ny=3, init=SLOW, key=key),
    "LBDN": lambda key: rc.nn.LBDN(5, 4, (6, 7), key=key),
    "LipschitzStatic": lambda key: rc.nn.LipschitzStatic(nu=2, ny=3, gamma=2.0, key=key),
    "InnovationR2DN": lambda key: rc.nn.InnovationR2DN(**SIZES, nz=1, key=key),
    "CorrectedR2DN": lambda key: rc.nn.CorrectedR2DN(
        [[0.5]], [[1.0, 0.0]], [[1.0]] * 3, [[0.0] * 2] * 3, [[0.0]], [[0.0] * 3],
        core=rc.nn.ContractingR2DN(nu=3, nx=7, nv=9, ny=3, key=key),
    ),
    "StateObserver": lambda key: rc.nn.StateObserver(rc.nn.ContractingR2DN(**SIZES, key=key)),
    "GRU": lambda key: rc.nn.GRU(nu=2, nx=7, ny=3, key=key),
    "ParaGRU": lambda key: rc.nn.ParaGRU(nu=2, nx=7, ny=3, key=key),
    "LSTM": lambda key: rc.nn.LSTM(nu=2, nx=7, ny=3, key=key),
}  # fmt: skip


@pytest.mark.parametrize("name", BUILDERS)
def test_building_a_model_compiles_nothing(name):
    key = jr.key(0)
    with count_compilations() as compiled:
        BUILDERS[name](key)
    assert compiled == []


@pytest.mark.parametrize("name", BUILDERS)
def test_a_model_built_under_vmap_is_the_one_built_alone(name):
    keys = jr.split(jr.key(3), 2)
    together = jax.jit(jax.vmap(lambda key: jax.tree.leaves(BUILDERS[name](key))))(keys)
    for k, key in enumerate(keys):
        for mine, leaf in zip(together, jax.tree.leaves(BUILDERS[name](key)), strict=True):
            assert leaf.dtype == mine.dtype
            assert (leaf == mine[k]).all()


def second_call(call):
    """Return what a call compiles when the same was called once before."""
    call()
    with count_compilations() as compiled:
        call()
    return compiled


RECORD, OTHER = (two_tanks(100, seed=seed) for seed in range(2))
STARTS = {
    "zero": rc.train.zero_state(),
    "learned": rc.train.learned_state(horizon=10),
    "warm-up": rc.train.warm_up(5),
}


def fitted(initial):
    """A model as `fit` returns one, untrained."""
    inner = rc.nn.LipschitzR2DN(nu=1, nx=3, nv=4, ny=1, hidden=(5,), gamma=5.0, init=SLOW, key=jr.key(0))
    start = initial(inner.explicit(), 1, 1, 1, jr.key(1))
    return rc.train.FittedModel(
        inner, start, rc.data.Scaling.fit(RECORD), RECORD.dt, RECORD.inputs, RECORD.outputs, RECORD.input_units,
        RECORD.output_units,
    )  # fmt: skip


@pytest.mark.parametrize("start", STARTS)
def test_a_second_simulation_and_fit_report_compile_nothing(start):
    model = fitted(STARTS[start])
    rc.fit_report(model, RECORD, trained_on=RECORD)
    with count_compilations() as compiled:
        rc.simulate(model, OTHER)
        print(rc.fit_report(model, OTHER, trained_on=RECORD))
    assert compiled == []


@pytest.mark.parametrize(
    "name", [name for name in BUILDERS if name not in ("LBDN", "GRU", "ParaGRU", "LSTM")]
)
def test_a_second_certificate_compiles_nothing(name):
    rc.certify(BUILDERS[name](jr.key(0)), prove=False)
    other = BUILDERS[name](jr.key(1))
    with count_compilations() as compiled:
        rc.certify(other, prove=False)
    assert compiled == []


def test_a_second_error_bound_compiles_nothing():
    u = np.random.default_rng(0).normal(size=(60, 3))
    record = rc.data.from_arrays(u, u[:, :2], 0.1, inputs=["u", "y1", "y2"], outputs=["x1", "x2"])
    core = rc.nn.ContractingR2DN(nu=3, nx=2, nv=3, ny=2, hidden=(4,), rate=0.9, key=jr.key(0))
    model = rc.train.FittedModel(
        rc.nn.StateObserver(core), rc.train.zero_state()(None, 3, 2, 1, None), rc.data.Scaling.fit(record), 0.1,
        record.inputs, record.outputs, record.input_units, record.output_units,
    )  # fmt: skip
    assert second_call(lambda: rc.observers.error_bound(model, record, {"y1": 0.1})) == []


def test_a_second_lower_bound_compiles_nothing():
    system = BUILDERS["LipschitzR2DN"](jr.key(0)).explicit()
    search = {"key": jr.key(0), "horizon": 5, "steps": 3, "starts": 2}
    assert second_call(lambda: rc.certificates.gain_lower_bound(system, 2, **search)) == []
    assert second_call(lambda: rc.certificates.contraction_lower_bound(system, 2, system.P, **search)) == []


SUSPENSION = rc.plants.MagneticSuspension()
WEIGHTS = [4e4, 0.4, 0.0], [1e-3], [1e-8, 1e-4, 1e-4], [1e-8]


def suspended(**imperfections):
    return rc.plants.Sampled(SUSPENSION, 0.01, rc.plants.Imperfections(**imperfections))


def youla():
    sampled = suspended(saturate=True, noise=1e-4)
    q = rc.nn.LipschitzR2DN(nu=1, nx=3, nv=4, ny=1, hidden=(5,), gamma=200.0, key=jr.key(0)).explicit()
    still = jax.tree.map(lambda a: a[0], rc.plants.undisturbed(sampled, 1))
    return rc.loops.feedback(sampled, rc.loops.Youla(rc.classical.linear_base(sampled, *WEIGHTS), q), still)


LINEARIZED = {
    "plant": lambda: rc.classical.linearize(rc.plants.MagneticSuspension()),
    "sampled": lambda: rc.classical.linearize(suspended(delay=1, rate_limit=9.0)),
    "loop": lambda: rc.classical.linearize(youla()),
    "policy": lambda: rc.classical.linearize(BUILDERS["LipschitzREN"](jr.key(0)).explicit(), u0=2, dt=0.1),
    "network": lambda: rc.classical.linearize(
        BUILDERS["LipschitzStatic"](jr.key(0)).explicit(), u0=2, dt=0.1
    ),
    "along": lambda: rc.classical.linearize_along(suspended(), np.zeros((5, 2))),
    "equilibrium": lambda: rc.classical.equilibrium(youla(), settle=20),
    "python-control": lambda: rc.classical.to_nonlinear_io(suspended()).dynamics(0, np.zeros(3), np.zeros(2)),
}


@pytest.mark.parametrize("name", LINEARIZED)
def test_a_second_linearization_compiles_nothing(name):
    assert second_call(LINEARIZED[name]) == []


def test_a_second_robustness_report_compiles_nothing():
    task = rc.plants.HoldBall(SUSPENSION)

    def call():
        rc.robustness.report(youla(), task, horizon=30, count=2, search=2)

    assert second_call(call) == []


def test_a_start_is_planned_with_the_feedthrough_that_the_map_gives():
    core = BUILDERS["LipschitzR2DN"](jr.key(0)).core
    planned = first_feedthrough(core.G12, core.G21, core.G22, (2, 9, 3))
    rounding = 10 * float(jnp.finfo(planned.dtype).eps)
    np.testing.assert_allclose(planned, core.feedthrough(), rtol=0, atol=rounding)


def test_keys_split_and_drawn_from_are_independent_and_never_a_batch():
    key = jr.key(0)
    keys = [key, *split(key, 3)]
    drawn = np.stack([np.asarray(lecun_normals(k, [(4, 1000)], jnp.float32)[0]).ravel() for k in keys])
    np.testing.assert_allclose(np.corrcoef(drawn), np.eye(4), atol=5 / np.sqrt(4000))
    np.testing.assert_allclose(1000 * drawn.var(axis=1), 1, atol=5 * np.sqrt(2 / 4000))
    with pytest.raises(InvalidModelError, match=r"single key.*shape \(2,\)"):
        key_bits(jr.split(key, 2))


def test_cells_start_uniform_as_equinox_draws_them():
    ours = rc.nn.LSTM(nu=2, nx=100, ny=1, key=jr.key(0)).system.cell
    theirs = eqx.nn.LSTMCell(2, 100, key=jr.key(0), dtype=ours.bias.dtype)
    assert jax.tree.map(jnp.shape, ours) == jax.tree.map(jnp.shape, theirs)
    weights = np.asarray(ours.weight_hh)
    assert np.abs(weights).max() <= 0.1
    np.testing.assert_allclose(weights.std(), 0.1 / np.sqrt(3), rtol=0.02)
