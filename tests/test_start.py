"""A network at the linear model of a record: it runs like it, keeps it in training, and comes with initial states."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import robustctl as rc
from robustctl.errors import DataError, InvalidModelError, RobustctlError
from robustctl.train.identification import simulate_batch
from robustctl.train.initial_state import observer
from robustctl.train.optimizer import flat_then_cosine

from .compilations import count_compilations


def record(seed=0, delay=0, noise=0.01, lengths=(250, 200)):
    """Two inputs, two outputs, offsets, several units; the second input late; a slight saturation."""
    rng = np.random.default_rng(seed)
    A = np.array([[0.8, 0.3], [-0.3, 0.8]])
    B, C = rng.normal(size=(2, 2)), rng.normal(size=(2, 2))
    us, ys = [], []
    for n in lengths:
        u, x, y = rng.normal(size=(n, 2)), rng.normal(size=2), []
        late = np.stack([u[:, 0], np.concatenate([np.full(delay, u[0, 1]), u[: n - delay, 1]])], axis=1)
        for now in late:
            y.append(C @ x)
            x = A @ x + B @ np.tanh(0.3 * now) / 0.3
        us.append(u * [1.0, 100.0] + 3)
        ys.append((np.array(y) + noise * rng.normal(size=(n, 2))) * [1e-2, 1.0] - 7)
    return rc.data.from_arrays(us, ys, 0.1)


RECORD = record()
LINEAR = rc.identify.subspace(RECORD, order=2, delay=0)


def rms(start, data, **settings):
    """The training error before the first step."""
    problem = rc.train.Identification(data, scaling=start.scaling, **({"initial": start.initial} | settings))
    trained, objective = problem.prepare(start.model, jr.key(0))
    states = jax.jit(lambda t: simulate_batch(t, objective.fixed, objective.data))(trained)
    errors = np.asarray(states - objective.data.y)[np.asarray(objective.data.mask)]
    return float(np.sqrt(np.mean(errors**2)))


def linear_rms(linear, data):
    return rc.simulate(linear.model, data).scores().pooled_nrmse()


STARTS = {
    "contracting": lambda **kw: rc.identify.start(key=jr.key(0), **kw),
    "lipschitz": lambda **kw: rc.identify.start(guarantee=rc.nn.Lipschitz(30.0), key=jr.key(0), **kw),
    "REN": lambda **kw: rc.identify.start(hidden=None, key=jr.key(0), **kw),
    "prior": lambda **kw: rc.identify.prior(key=jr.key(0), **kw),
}


@pytest.mark.parametrize("name", STARTS)
def test_a_start_runs_like_the_linear_model(name):
    begin = STARTS[name](record=RECORD, linear=LINEAR)
    linear = linear_rms(LINEAR, RECORD)
    assert 0.02 < linear < 0.5
    assert rms(begin, RECORD) < linear + 0.1
    assert begin.given_up < 1e-6
    assert rc.certify(begin.model, prove=False).holds


def test_a_start_has_the_delays_of_the_linear_model():
    late = record(1, delay=3)
    linear = rc.identify.subspace(late, order=2, delay=(0, 3))
    begin = rc.identify.start(late, linear, key=jr.key(0))
    assert begin.model.explicit().A.shape == (4, 4) and begin.delay == (0, 3)
    assert rms(begin, late, delay=begin.delay) < linear_rms(linear, late) + 0.1
    with pytest.raises(InvalidModelError, match="nx must be at least the order 2"):
        rc.identify.start(late, linear, nx=1, key=jr.key(0))


def test_initial_states_are_those_of_the_record():
    """From zero states the same start runs worse: the experiments begin elsewhere."""
    short = record(2, lengths=(40, 30, 30), noise=1e-4)
    linear = rc.identify.subspace(record(2, noise=1e-4), order=2, delay=0)
    begin = rc.identify.start(short, linear, key=jr.key(0))
    assert begin.initial.x0.shape == (3, 4)
    assert rms(begin, short) < 0.8 * rms(begin, short, initial=rc.train.zero_state())


def test_a_linear_warm_up_sees_the_state():
    """Without network and noise the state after a window is exact."""
    rng = np.random.default_rng(0)
    A, B, C, D = (
        np.diag([0.9, 0.5]),
        rng.normal(size=(2, 1)),
        rng.normal(size=(1, 2)),
        rng.normal(size=(1, 1)),
    )
    bx, by, x, seen = rng.normal(size=2), rng.normal(size=1), rng.normal(size=2), []
    for u in rng.normal(size=(6, 1)):
        seen += [*u, *(C @ x + D @ u + by)]
        x = A @ x + B @ u + bx
    K, b = observer(A, B, C, D, bx, by, window=6)
    np.testing.assert_allclose(K @ np.array(seen) + b, x, rtol=1e-2)
    begin = rc.identify.start(RECORD, LINEAR, key=jr.key(0))
    parts = rc.data.windows(RECORD, 60, 30)
    warm = rms(begin, parts, initial=rc.train.linear_warm_up(10))
    assert warm < 0.5 * rms(begin, parts, initial=rc.train.zero_state())


def test_two_rates_keep_the_start():
    """In the first tenth of the training the error stays below that of the start, and at the end it is lower."""
    begin = rc.identify.start(RECORD, LINEAR, key=jr.key(0))
    problem = rc.train.Identification(RECORD, scaling=begin.scaling, initial=begin.initial)
    optimizer = rc.train.two_rate_adam(300)
    fitted = rc.train.train(
        problem, begin.model, epochs=300, optimizer=optimizer, monitor=None, key=jr.key(1)
    )
    losses = fitted.history["loss"]
    assert losses[29] < losses[0] and losses[-1] < 0.5 * losses[0]
    assert rc.certify(fitted.model, prove=False).holds


def test_two_rates_move_linear_and_network_arrays_differently():
    model = rc.identify.start(RECORD, LINEAR, key=jr.key(0)).model
    free, fixed = eqx.partition(model, eqx.is_inexact_array)
    optimizer = rc.train.two_rate_adam(1000, 1e-4, 1e-2)
    with jax.numpy_dtype_promotion("standard"):
        updates, _ = optimizer.update(jax.tree.map(jnp.ones_like, free), optimizer.init(free), free)
    moved = eqx.combine(updates, fixed).core
    ramp = 100
    for name, rate in {"X": 1e-4, "B2": 1e-4, "D22": 1e-4, "B1_imp": 1e-2, "C1": 1e-2, "bx": 1e-2}.items():
        np.testing.assert_allclose(getattr(moved, name), -rate / ramp, rtol=1e-3)
    np.testing.assert_allclose(moved.phi.layers[0].XY, -1e-2 / ramp, rtol=1e-3)


def test_the_schedule_grows_stays_and_falls():
    schedule = flat_then_cosine(1e-2, 1000)
    values = np.array([float(schedule(k)) for k in (0, 100, 499, 750, 999)])
    np.testing.assert_allclose(values[:3], [1e-4, 1e-2, 1e-2])
    assert values[3] == pytest.approx(5e-3) and values[4] < 1e-6


def test_a_second_training_from_a_start_compiles_nothing():
    def once(seed):
        begin = rc.identify.start(RECORD, LINEAR, key=jr.key(seed))
        problem = rc.train.Identification(RECORD, scaling=begin.scaling, initial=begin.initial)
        optimizer = rc.train.two_rate_adam(4, 1e-3, 1e-2)
        rc.train.train(problem, begin.model, epochs=4, optimizer=optimizer, monitor=None, key=jr.key(seed))

    once(0)
    with count_compilations() as compiled:
        once(1)
    assert compiled == []


def test_weight_decay_shrinks_the_network_alone():
    free, _ = eqx.partition(rc.identify.start(RECORD, LINEAR, key=jr.key(0)).model, eqx.is_inexact_array)
    optimizer = rc.train.two_rate_adam(10, 1e-3, 1e-2, weight_decay=0.1)
    with jax.numpy_dtype_promotion("standard"):
        updates, _ = optimizer.update(jax.tree.map(jnp.zeros_like, free), optimizer.init(free), free)
    moved = optax.apply_updates(free, updates)
    assert np.array_equal(moved.core.X, free.core.X)
    assert np.linalg.norm(moved.core.C1) < np.linalg.norm(free.core.C1)


def test_bad_input_is_refused(as_installed):
    with pytest.raises(RobustctlError, match=r"what rc.identify.subspace returns, got FittedModel"):
        rc.identify.start(RECORD, LINEAR.model, key=jr.key(0))
    with pytest.raises(DataError, match="inputs"):
        rc.identify.start(dataclasses.replace(RECORD, inputs=("a", "b")), LINEAR, key=jr.key(0))
    with pytest.raises(RobustctlError, match="steps must be a whole number"):
        rc.train.two_rate_adam(0)
    with pytest.raises(RobustctlError, match="learning_rate must be"):
        rc.train.two_rate_adam(10, -1.0)
    with pytest.raises(RobustctlError, match="window must be a whole number"):
        rc.train.linear_warm_up(0)
