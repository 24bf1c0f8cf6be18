"""The predictor in innovation form: contracting whatever is lost, for any weights, and a predictor that is worth having."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import robustctl as rc
from robustctl.errors import DataError, InvalidModelError
from robustctl.observers import Stream, for_prediction, simulate_log, with_derivative
from robustctl.plants import Imperfections, LinearPlant, Sampled

from . import trainings
from .models import draw, rounded_down

DT = 0.1
PLANT = LinearPlant(
    [[0.0, 1.0], [-2.0, -0.8]], [[0.0], [1.0]], [[1.0, 0.0], [0.0, 1.0]], outputs=("place", "speed")
)


def make(rate=1.0, dtype=jnp.float64, ny=2, nz=0):
    return rc.nn.InnovationR2DN(
        nu=1, nx=4, nv=5, ny=ny, nz=nz, hidden=(6,), rate=rate, key=jr.key(0), dtype=dtype
    )


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("scale", [None, 0.3, 1.0, 10.0, 100.0])
@pytest.mark.parametrize(("rate", "nz"), [(1.0, 0), (0.9, 0), (0.9, 2)])
def test_every_weight_is_certified_under_every_pattern(scale, rate, nz, dtype):
    model = make(rate, dtype, nz=nz)
    model = model if scale is None else draw(model, jr.key(1), scale)
    found = rc.certify(model, prove=False)
    assert found.holds and found.rate == rounded_down(rate, dtype) and found.rate_found <= rate
    np.testing.assert_array_equal(found.P, np.eye(4))


def test_two_estimates_approach_each_other_whatever_is_lost():
    system = draw(make(0.9), jr.key(2), 1.0).explicit()
    u = jnp.concatenate(
        [jr.normal(jr.key(3), (60, 3)), jr.bernoulli(jr.key(4), 0.5, (60, 2)).astype(float)], axis=1
    )
    start = jr.normal(jr.key(5), (2, 4))
    runs = [rc.rollout(system, u, x).xs for x in start]
    apart = np.linalg.norm(np.asarray(runs[0] - runs[1]), axis=1)
    assert (apart <= 0.9 ** np.arange(60) * np.linalg.norm(start[0] - start[1]) * (1 + 1e-9)).all()


@pytest.mark.parametrize("nz", [0, 1])
def test_the_model_under_a_pattern_is_the_predictor_there(nz):
    system = draw(make(nz=nz), jr.key(6), 1.0).explicit()
    x, u, y = jr.normal(jr.key(7), (4,)), jr.normal(jr.key(8), (1,)), jr.normal(jr.key(9), (2,))
    for seen in itertools.product((0.0, 1.0), repeat=2):
        ours = system.step(x, jnp.concatenate([u, y, jnp.asarray(seen)]))
        theirs = system.under(seen).step(x, jnp.concatenate([u, y]))
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-12)


def test_a_gain_too_large_for_one_pattern_is_found_out():
    system = make().explicit()
    broken = jax.tree.map(lambda a: a, system)
    broken = rc.nn.InnovationSystem(**{**vars(broken), "K": 100 * system.K})
    found = rc.certify(broken, prove=False)
    assert not found.holds and found.reason


def test_every_free_array_has_a_gradient():
    model = draw(make(), jr.key(1), 0.5)
    u = jnp.concatenate(
        [jr.normal(jr.key(3), (20, 3)), jr.bernoulli(jr.key(4), 0.5, (20, 2)).astype(float)], axis=1
    )
    slopes = eqx.filter_jit(eqx.filter_grad(lambda m: jnp.sum(rc.rollout(m.explicit(), u).ys ** 2)))(model)
    for path, leaf in jax.tree_util.tree_leaves_with_path(slopes):
        assert np.isfinite(leaf).all() and np.any(leaf != 0), jax.tree_util.keystr(path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ny": 9}, "ny must be at most 8"),
        ({"nz": -1}, "nz must be at least 0"),
        ({"rate": 1.5}, "rate must be"),
        ({"nx": 0}, "nx"),
    ],
)
def test_what_makes_no_predictor_is_refused(changes, said):
    with pytest.raises(InvalidModelError, match=said):
        rc.nn.InnovationR2DN(**{"nu": 1, "nx": 3, "nv": 3, "ny": 1, "key": jr.key(0), **changes})


# Trained


@pytest.fixture(scope="module")
def trained():
    log = simulate_log(
        Sampled(PLANT, DT, Imperfections(noise=0.02)),
        [rc.data.multisine(300, seed=k) for k in range(4)],
        missing=0.2,
        key=jr.key(0),
    )
    log = rc.data.select(log, outputs=("place", "speed"))
    made, scaling = for_prediction(log, hidden=0.3, longest=8)
    model = rc.nn.InnovationR2DN(nu=1, nx=4, nv=3, ny=2, hidden=(4,), key=jr.key(1))
    fitted = trainings.fit(
        model, made, scaling=scaling, washout=20, epochs=300, progress=False, key=jr.key(2),
        optimizer=optax.adam(optax.cosine_decay_schedule(1e-2, 300)),
    )  # fmt: skip
    return fitted.model, made


def test_a_predictor_is_near_the_noise_and_goes_on_without_readings(trained):
    model, _ = trained
    fresh = simulate_log(
        Sampled(PLANT, DT, Imperfections(noise=0.02)), [rc.data.multisine(400, seed=70)], key=jr.key(9)
    )
    fresh = rc.data.select(fresh, outputs=("place", "speed"))
    for hidden, most in ((0.0, 0.35), (0.7, 0.6)):
        made, _ = for_prediction(fresh, hidden=hidden, longest=8)
        scores = rc.simulate(model, made).scores()
        assert (scores.nrmse < most).all(), (hidden, scores.nrmse)
    assert rc.certify(model, prove=False).holds


def test_a_stream_tells_the_predictor_what_is_lost(trained):
    model, made = trained
    stream, whole = Stream(model, ("place", "speed")), rc.simulate(model, made).y_hat[0]
    e = made.experiments[0]
    for t in range(30):
        y = np.where(e.u[t, 3:] > 0, e.u[t, 1:3], np.nan)
        np.testing.assert_allclose(stream(e.u[t, :1], y).values, whole[t], rtol=1e-4, atol=1e-5)


def test_a_speed_that_nobody_logged_is_estimated_from_places(tmp_path):
    def log(seeds, key):
        runs = [rc.data.multisine(300, highest=0.1, seed=k) for k in seeds]
        return simulate_log(Sampled(PLANT, DT, Imperfections(noise=0.01)), runs, missing=0.2, key=key)

    logged = with_derivative(log(range(4), jr.key(0)), "place", half_width=5, name="rate")
    made, scaling = for_prediction(rc.data.select(logged, outputs=("rate", "place")), "place")
    assert made.outputs == ("place predicted", "rate") and made.output_units == ("", "")
    assert made.inputs == ("u[0]", "place", "place is measured")
    model = rc.nn.InnovationR2DN(nu=1, nx=3, nv=3, ny=1, nz=1, hidden=(4,), key=jr.key(1))
    fitted = trainings.fit(
        model, made, scaling=scaling, washout=20, epochs=400, progress=False, key=jr.key(2),
        optimizer=optax.adam(optax.cosine_decay_schedule(2e-2, 400)),
    )  # fmt: skip
    fresh = log((70, 71), jr.key(9))
    made, _ = for_prediction(
        rc.data.select(with_derivative(fresh, "place", half_width=5, name="rate"), outputs=("place", "rate")),
        "place",
    )
    estimate = np.concatenate([y[20:, 1] for y in rc.simulate(fitted.model, made).y_hat])
    truth = np.concatenate([e.y[20:, -1] for e in fresh.experiments])
    error = np.sqrt(np.mean((estimate - truth) ** 2)) / np.std(truth)
    print(error)
    assert error < 0.15
    assert rc.certify(fitted.model, prove=False).holds
    rc.save(tmp_path / "speed.safetensors", fitted.model)
    again = rc.simulate(rc.load(tmp_path / "speed.safetensors"), made).y_hat
    np.testing.assert_array_equal(np.concatenate([y[20:, 1] for y in again]), estimate)


def test_predictions_that_mean_nothing_are_refused(trained):
    _, made = trained
    for hidden, longest in ((1.0, 5), (0.5, 0)):
        with pytest.raises(DataError, match=r"hidden must be in \[0, 1\)"):
            for_prediction(made, hidden=hidden, longest=longest)
    with pytest.raises(DataError, match="'height' must be an output"):
        for_prediction(made, "height")
