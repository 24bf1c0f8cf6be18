"""Delays of inputs: shifted records, systems behind shift registers, fitted models that carry them."""

import dataclasses

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jaxtyping import TypeCheckError

import robustctl as rc
from robustctl.errors import DataError, ModelFileError, RobustctlError
from robustctl.nn.stable_linear import stable_linear_at
from robustctl.store.container import pack, unpack
from robustctl.train import FittedModel, LearnedState, ZeroState
from robustctl.train.identification import Identification, Learned

DELAY = (3, 0)


def linear(dtype=np.float64):
    """A stable linear parameterization of two inputs and one output."""
    A, B = np.array([[0.8, 0.1], [-0.1, 0.7]]), np.array([[1.0, 0.2], [0.0, 0.5]])
    return stable_linear_at(A, B, np.array([[0.3, 1.0]]), np.array([[0.4, 0.1]]), np.array([0.2]))


def fitted(delay=DELAY, initial=None):
    """A model of two inputs in their own units."""
    scaling = rc.data.Scaling(np.array([1.0, -2.0]), np.array([2.0, 0.5]), np.array([10.0]), np.array([3.0]))
    names = ("a", "b"), ("y",), ("V", "A"), ("m",)
    return FittedModel(linear(), ZeroState() if initial is None else initial, scaling, 0.1, *names, delay)


def shifted(u, delay=DELAY):
    """Inputs as the plant reads them, NaN where they are from before the record."""
    late = np.full(u.shape, np.nan)
    for j, d in enumerate(delay):
        late[d:, j] = u[: len(u) - d, j]
    return late


def logged(samples=60, seed=0):
    """A record that the delayed model generates, from its own initial state at the first sample where all is known."""
    u = np.random.default_rng(seed).normal(size=(samples, 2)) + np.array([1.0, -2.0])
    inner = dataclasses.replace(fitted(), delay=()).explicit()
    y = np.zeros((samples, 1))
    y[3:] = np.asarray(rc.rollout(inner, jnp.asarray(shifted(u)[3:])).ys)
    units = {"input_units": ["V", "A"], "output_units": ["m"]}
    return rc.data.from_arrays(u, y, 0.1, inputs=["a", "b"], outputs=["y"], **units)


def test_a_record_is_shifted_and_loses_what_it_does_not_know():
    u, y = np.arange(20.0).reshape(10, 2), np.arange(10.0)
    u[4, 0] = np.nan
    record = rc.data.delay(rc.data.from_arrays(u, y, 0.5, t0=1.0), DELAY)
    (e,) = record.experiments
    np.testing.assert_array_equal(e.u[:, 0], [0, 2, 4, 6, 8, 10, 12])
    np.testing.assert_array_equal(e.u[:, 1], u[3:, 1])
    np.testing.assert_array_equal(e.y[:, 0], y[3:])
    np.testing.assert_array_equal(np.flatnonzero(~e.u_mask[:, 0]), [4])
    assert e.t0 == 2.5
    assert rc.data.delay(record, 0).experiments == record.experiments


@pytest.mark.parametrize("delay", [-1, 1.0, True, (1,), (1, 2, 3), "2", (1, None), np.array([0.5, 1.0])])
def test_delays_that_are_none_are_refused(delay):
    record = logged()
    with pytest.raises(RobustctlError, match="delay must be a whole number"):
        rc.data.delay(record, delay)
    # The tests' type checks may refuse it first.
    for refused in (Identification, rc.identify.subspace):
        with pytest.raises(
            (RobustctlError, TypeCheckError), match=r"delay must be a whole number|annotations"
        ):
            refused(record, delay=delay)


@pytest.mark.parametrize("delay", [59, 60, 1000])
def test_a_record_shorter_than_the_delay_is_refused(delay):
    with pytest.raises(DataError, match="a delay must leave at least 2 samples"):
        rc.data.delay(logged(), delay)
    with pytest.raises(DataError, match="a delay must leave at least 2 samples"):
        rc.simulate(fitted((delay, 0)), logged())


def test_a_delayed_system_is_the_system_on_shifted_inputs():
    inner, u = linear().explicit(), np.random.default_rng(0).normal(size=(12, 2))
    whole = rc.Delayed(inner, DELAY)
    run = rc.rollout(whole, jnp.asarray(u))
    expected = rc.rollout(inner, jnp.asarray(np.nan_to_num(shifted(u)))).ys
    np.testing.assert_allclose(run.ys, expected, rtol=1e-12)
    # Stepping, the queue on the way and a start in the middle are the same as the scan.
    x = whole.init_state()
    for t in range(12):
        assert jnp.allclose(run.xs.queue[t], x.queue) and jnp.allclose(run.xs.system[t], x.system)
        x, y = whole.step(x, jnp.asarray(u[t]))
        np.testing.assert_allclose(y, run.ys[t], rtol=1e-12)
    np.testing.assert_array_equal(run.x_final.queue, x.queue)
    again = rc.rollout(whole, jnp.asarray(u[5:]), jax.tree.map(lambda a: a[5], run.xs))
    np.testing.assert_allclose(again.ys, run.ys[5:], rtol=1e-12)


def test_numpy_steps_the_same():
    model = rc.nn.ContractingR2DN(nu=2, nx=2, nv=2, ny=1, hidden=(3,), key=jr.key(0))
    system = rc.Delayed(model.explicit(), (2, 1))
    step, x = rc.nn.numpy_step(system)
    u = np.random.default_rng(0).normal(size=(8, 2))
    expected = rc.rollout(system, jnp.asarray(u)).ys
    for t in range(8):
        x, y = step(x, u[t])
        np.testing.assert_allclose(y, expected[t], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_form_is_what_steps(dtype):
    core = rc.nn.StableLinear(nu=3, nx=2, ny=2, key=jr.key(0), dtype=dtype)
    whole = rc.Delayed(core.explicit(), (2, 0, 1))
    form = whole.lft()
    u, x = np.eye(3, dtype=dtype), np.zeros(form.nx)
    state = whole.init_state()
    for t in range(6):
        v = u[0] if t == 0 else 2 * u[2] - u[1] if t == 1 else 0 * u[0]
        state, y = whole.step(state, jnp.asarray(v))
        np.testing.assert_allclose(form.C2 @ x + form.D22 @ v, y, atol=1e-6)
        x = form.A @ x + form.B2 @ v


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("delay", [(1, 0), (3, 12)])
def test_a_delay_keeps_gain_and_contraction(delay, dtype):
    sizes = {"nu": 2, "nx": 3, "nv": 3, "ny": 2, "key": jr.key(0), "dtype": dtype}
    gained = rc.certify(rc.Delayed(rc.nn.LipschitzR2DN(gamma=3.0, **sizes).explicit(), delay), prove=False)
    assert gained.holds and gained.gamma == pytest.approx(3.0, rel=1e-6)
    slow = rc.nn.ContractingREN(rate=0.9, **sizes).explicit()
    contracting = rc.certify(rc.Delayed(slow, delay), prove=False)
    assert contracting.holds and contracting.rate == pytest.approx(0.9, rel=1e-6)
    # A supply rate with products of input and output is not that of the late inputs.
    passive = rc.nn.DissipativeR2DN(**sizes, **rc.nn.passive(2)).explicit()
    lost = rc.certify(rc.Delayed(passive, delay), prove=False)
    assert lost.holds and lost.supply is None


def test_a_gain_that_the_system_exceeds_is_not_proven():
    core = rc.nn.LipschitzR2DN(nu=1, nx=2, nv=2, ny=1, gamma=2.0, key=jr.key(0)).explicit()
    worse = dataclasses.replace(core, C2=3 * core.C2, D21=3 * core.D21, D22=3 * core.D22)
    assert not rc.certify(rc.Delayed(worse, (2,)), prove=False).holds


def test_a_predictor_with_a_delay_holds_under_every_pattern():
    model = rc.nn.InnovationR2DN(nu=1, nx=2, nv=2, ny=1, hidden=(2,), key=jr.key(0))
    found = rc.certify(rc.Delayed(model.explicit(), (3, 0, 0)), prove=False)
    assert found.holds and found.rate == 1.0


def test_a_fitted_model_takes_undelayed_inputs():
    model, record = fitted(), logged()
    simulated = rc.simulate(model, record)
    assert simulated.skipped == 3 and np.isnan(simulated.y_hat[0][:3]).all()
    np.testing.assert_allclose(simulated.y_hat[0][3:], record.experiments[0].y[3:], rtol=1e-6)
    system = model.explicit()
    # Outside, the registers begin at the mean of the training record.
    u = np.vstack([np.tile([1.0, -2.0], (3, 1)), record.experiments[0].u[:20]]).astype(model.dtype)
    late = rc.rollout(system, jnp.asarray(u)).ys
    inner = dataclasses.replace(model, delay=()).explicit()
    direct = rc.rollout(inner, jnp.asarray(np.column_stack([np.r_[[1.0] * 3, u[:-3, 0]], u[:, 1]]))).ys
    np.testing.assert_allclose(late, direct, rtol=1e-6)
    middle, size = rc.Delayed(system, DELAY).input_range()
    assert middle.tolist() == [1.0, -2.0] and size.tolist() == [2.0, 0.5]
    assert system.inputs == ("a", "b") and rc.certify(model, prove=False).model == "LinearSystem"
    assert rc.certify(model, prove=False).holds


def test_a_state_is_fitted_behind_the_delay():
    initial = LearnedState(x0=jnp.zeros((1, 2)), horizon=10)
    simulated = rc.simulate(fitted(initial=initial), logged())
    assert simulated.skipped == 13
    assert simulated.scores().nrmse[0] < 1e-5


@pytest.mark.parametrize("initial", [None, LearnedState(x0=jnp.zeros((1, 2)), horizon=10)])
@pytest.mark.parametrize("gain", [None, jnp.zeros((2, 1))])
def test_files_keep_the_delay(tmp_path, initial, gain):
    model = dataclasses.replace(fitted(initial=initial), innovation_gain=gain)
    rc.save(tmp_path / "model.safetensors", model)
    loaded = rc.load(tmp_path / "model.safetensors")
    assert loaded.delay == DELAY
    (one,), (other,) = (rc.simulate(m, logged()).y_hat for m in (model, loaded))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("gain", [None, 0.1], ids=["simulates", "predicts"])
def test_files_hold_states_of_the_model_behind_the_delay(tmp_path, gain):
    model = fitted(initial=LearnedState(x0=jnp.zeros((1, 2)), horizon=10))
    if gain is not None:
        model = dataclasses.replace(model, innovation_gain=jnp.full((2, 1), gain))
    rc.save(tmp_path / "model.safetensors", model)
    loaded = rc.load(tmp_path / "model.safetensors")
    of = rc.simulate if gain is None else rc.identify.predict
    (one,), (other,) = (of(m, logged()).y_hat for m in (model, loaded))
    np.testing.assert_array_equal(one, other)


def test_training_reads_delayed_inputs_and_returns_a_model_of_undelayed_ones():
    record = logged()
    problem = Identification(record, delay=DELAY, validation=record, scaling=fitted().scaling)
    trained, objective = problem.prepare(linear(), jr.key(0))
    assert float(objective.validate(trained)) == pytest.approx(0.0, abs=1e-9)
    assert objective.data.u.shape[1] == 57
    model = problem._fitted(Learned(linear(), ZeroState()))
    assert model.delay == DELAY and rc.simulate(model, record).scores().nrmse[0] < 1e-5
    result = rc.train.train(problem, linear(), epochs=1, monitor=None, key=jr.key(0))
    assert result.model.delay == DELAY


def test_advice_tells_the_delay_of_each_input():
    rng = np.random.default_rng(0)
    u = rng.normal(size=(800, 2))
    v, y = np.nan_to_num(shifted(u, (12, 0))), np.zeros(800)
    for t in range(799):
        y[t + 1] = 0.8 * y[t] + v[t] @ [1.0, 0.7]
    record = rc.data.from_arrays(u, y + 0.1 * rng.normal(size=800), 0.5)
    advice = rc.advice.advise(record)
    assert [channel.delay for channel in advice.inputs] == [12, 0]
    assert "begins 12 samples (6 s) late" in str(advice)
    assert rc.identify.subspace(record, order=1).model.delay == (12, 0)


def test_a_network_starts_at_a_delayed_linear_model():
    record = logged(400)
    linear = rc.identify.subspace(record, order=2, delay=DELAY)
    begin = rc.identify.start(record, linear, nv=2, hidden=(3,), key=jr.key(0))
    assert begin.delay == DELAY and begin.model.explicit().A.shape[0] == 4
    error = []
    for delay in (begin.delay, (0, 0)):
        problem = Identification(record, scaling=begin.scaling, initial=begin.initial, delay=delay)
        trained, objective = problem.prepare(begin.model, jr.key(1))
        run = rc.rollout(
            objective.whole(trained).model.explicit(), objective.data.u[0], begin.initial.x0[0]
        ).ys
        error.append(float(jnp.sqrt(jnp.mean((run - objective.data.y[0]) ** 2))))
    # The plant is linear and without noise: the start already simulates it, but not without the delay.
    assert error[0] < 0.02 and error[1] > 0.3


def test_files_from_before_delays_load_as_undelayed(tmp_path):
    model = fitted(())
    rc.save(tmp_path / "model.safetensors", model)
    header, arrays = unpack((tmp_path / "model.safetensors").read_bytes())
    for added in ("delay", "trained", "innovation_gain"):
        header["structure"]["fields"].pop(added)
    older = {name: header[name] for name in ("versions", "structure", "certificate")}
    (tmp_path / "older.safetensors").write_bytes(pack(older, arrays))
    loaded = rc.load(tmp_path / "older.safetensors")
    assert (loaded.delay, loaded.trained, loaded.innovation_gain) == ((), None, None)
    (one,), (other,) = (rc.simulate(m, logged()).y_hat for m in (model, loaded))
    np.testing.assert_array_equal(one, other)
    header["structure"]["fields"].pop("dt")
    (tmp_path / "older.safetensors").write_bytes(pack(older, arrays))
    with pytest.raises(ModelFileError, match="must have exactly the fields"):
        rc.load(tmp_path / "older.safetensors")
