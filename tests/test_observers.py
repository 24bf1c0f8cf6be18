"""Observers: logs made and rearranged, the certified error bound, and a stream with everything going wrong."""

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
from robustctl.observers import (
    Stream,
    error_bound,
    for_observer,
    one_step_penalty,
    simulate_log,
    with_derivative,
)
from robustctl.plants import HoldLevels, Imperfections, LinearPlant, MagneticSuspension, Sampled, TwoTanks

from . import trainings

DT = 0.1
PLANT = LinearPlant(
    [[0.0, 1.0], [-2.0, -0.8]], [[0.0], [1.0]], [[1.0, 0.0]], states=("place", "speed"), outputs=("place",)
)


# Excitations


@pytest.mark.parametrize(
    "make",
    [
        lambda: rc.data.multisine(400, rms=2.0, channels=2),
        lambda: rc.data.chirp(400, rms=2.0),
        lambda: rc.data.random_walk(400, channels=2),
        lambda: rc.data.prbs(400, amplitude=2.0, hold=7, channels=2),
        lambda: rc.data.steps(400, hold=30, channels=2),
    ],
)
def test_excitations_are_time_first_and_repeatable(make):
    u = make()
    assert u.ndim == 2 and len(u) == 400 and np.isfinite(u).all()
    np.testing.assert_array_equal(u, make())


def test_excitations_have_the_size_and_band_asked_for():
    u = rc.data.multisine(1000, rms=3.0, highest=0.2)
    np.testing.assert_allclose(np.sqrt(np.mean(u**2)), 3.0)
    power = np.abs(np.fft.rfft(u[:, 0])) ** 2
    assert power[101:].max() < 1e-12 * power[1:101].min() and power[0] < 1e-12 * power[1]
    walk = rc.data.random_walk(5000, step=0.5, low=-1.0, high=2.0)
    assert walk.min() >= -1 and walk.max() <= 2 and np.abs(np.diff(walk[:, 0])).max() < 3
    bits = rc.data.prbs(300, amplitude=2.0, hold=5)
    assert set(np.unique(bits)) == {-2.0, 2.0} and (bits[:300].reshape(60, 5).std(axis=1) == 0).all()
    slow, fast = (
        np.abs(np.diff(np.sign(rc.data.chirp(2000)[:, 0]))).reshape(-1)[:-1].reshape(2, -1).sum(axis=1)
    )
    assert fast > 5 * slow


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: rc.data.multisine(0), "samples and channels"),
        (lambda: rc.data.multisine(100, highest=0.0), "highest must be"),
        (lambda: rc.data.multisine(100, rms=-1.0), "size of a signal"),
        (lambda: rc.data.chirp(100, lowest=0.5, highest=0.1), "lowest < highest"),
        (lambda: rc.data.random_walk(100, low=1.0, high=0.0), "low must be below"),
        (lambda: rc.data.prbs(100, hold=0), "hold must be"),
        (lambda: rc.data.steps(100, low=1.0, high=1.0), "low below high"),
    ],
)
def test_excitations_out_of_range_are_refused(make, said):
    with pytest.raises(DataError, match=said):
        make()


# Logs


def test_a_simulated_log_holds_readings_and_the_truth():
    sampled = Sampled(PLANT, DT, Imperfections(noise=0.05))
    record = simulate_log(sampled, [rc.data.multisine(500), rc.data.prbs(300)], missing=0.2, key=jr.key(0))
    assert record.outputs == ("place", "true place", "true speed") and record.inputs == ("u[0]",)
    e = record.experiments[0]
    np.testing.assert_allclose(e.u, rc.data.multisine(500), rtol=1e-6)
    assert abs(np.mean(~e.y_mask[:, 0]) - 0.2) < 0.06 and e.y_mask[:, 1:].all()
    noise = (e.y[:, 0] - e.y[:, 1])[e.y_mask[:, 0]]
    assert abs(np.std(noise) - 0.05) < 0.01
    exact = rc.classical.linear_model(sampled).system
    x = np.zeros(2)
    for t in range(20):
        np.testing.assert_allclose(e.y[t, 1:], x, atol=1e-5)
        x = exact.A @ x + exact.B[:, 0] * e.u[t, 0]


def test_a_log_of_an_unstable_plant_needs_its_controller():
    plant = MagneticSuspension()
    sampled = Sampled(plant, 0.01, Imperfections(saturate=True))
    kick = [rc.data.multisine(300, rms=0.5)]
    lqg = rc.classical.lqg(sampled, [4e4, 0.4, 0.0], [1e-3], [1e-8, 1e-4, 1e-4], [1e-8]).controller
    held = simulate_log(sampled, kick, controller=lqg, key=jr.key(0))
    assert np.abs(held.experiments[0].y[:, 0] - 0.05).max() < 0.01
    with pytest.raises(DataError, match=r"must stay finite, .* after .* s; give a smaller"):
        simulate_log(Sampled(LinearPlant([[5.0]], [[1.0]], [[1.0]]), DT), [np.ones((2000, 1))], key=jr.key(0))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"missing": 1.0}, "missing must be"),
        ({"excitations": [np.zeros(5)]}, r"shape \(T, 1\)"),
        ({"excitations": [np.zeros((5, 2))]}, "shape"),
    ],
)
def test_logs_that_mean_nothing_are_refused(changes, said):
    with pytest.raises(DataError, match=said):
        simulate_log(
            **({"sampled": Sampled(PLANT, DT), "excitations": [np.zeros((5, 1))], "key": jr.key(0)} | changes)
        )


# Records for observers


@pytest.fixture(scope="module")
def record():
    sampled = Sampled(PLANT, DT, Imperfections(noise=0.01))
    excitations = [rc.data.multisine(300, seed=k) for k in range(4)]
    return simulate_log(sampled, excitations, missing=0.2, key=jr.key(1))


def test_what_an_observer_reads_holds_the_last_measurement_and_says_so(record):
    made = for_observer(record, "place", ("true place", "true speed"), flags=True)
    assert made.inputs == ("u[0]", "place", "place is measured") and made.outputs == (
        "true place",
        "true speed",
    )
    e, before = made.experiments[0], record.experiments[0]
    lost = ~before.y_mask[:, 0]
    np.testing.assert_array_equal(e.u[:, 2], ~lost)
    k = np.flatnonzero(lost[5:])[0] + 5
    assert e.u[k, 1] == e.u[k - 1, 1] and e.u_mask.all()


def test_a_derivative_is_exact_on_polynomials_with_gaps():
    t = np.arange(200) * 0.05
    y = 1 + 2 * t - 0.5 * t**2 + 0.1 * t**3
    y[[20, 21, 50, 51, 52, 90]] = np.nan
    made = with_derivative(rc.data.from_arrays(t, y, 0.05, output_units="m"), "y[0]", half_width=5)
    e = made.experiments[0]
    assert made.outputs == ("y[0]", "y[0] rate") and made.output_units == ("m", "m/s")
    known = e.y_mask[:, 1]
    assert known.mean() > 0.97
    np.testing.assert_allclose(e.y[known, 1], (2 - t + 0.3 * t**2)[known], rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda r: for_observer(r, "speed", "true speed"), "'speed' must be an output"),
        (lambda r: for_observer(r, "true place", "true speed", flags=True), "miss none"),
        (lambda r: with_derivative(r, "nothing", half_width=3), "'nothing' must be an output"),
        (lambda r: with_derivative(r, "place", half_width=2, order=5), "order must be from 1 to 4"),
    ],
)
def test_records_that_observers_cannot_use_are_refused(record, make, said):
    with pytest.raises(DataError, match=said):
        make(record)


def from_the_speed(spring):
    """Advice on the place of a cart whose speed alone is measured."""
    cart = LinearPlant(
        [[0.0, 1.0], [-spring, -0.8]],
        [[0.0], [1.0]],
        [[0.0, 1.0]],
        states=("place", "speed"),
        outputs=("speed",),
    )
    excitations = [rc.data.multisine(300, seed=k) for k in range(4)]
    log = simulate_log(Sampled(cart, DT, Imperfections(noise=0.02)), excitations, missing=0.02, key=jr.key(0))
    return rc.advice.advise(for_observer(log, "speed", "true place"))


def test_advice_says_what_the_readings_cannot_tell():
    assert not from_the_speed(spring=2.0).findings
    (finding,) = from_the_speed(spring=0.0).findings
    assert (finding.kind, finding.channel) == ("integrator", "true place")
    assert (
        "these data do not determine its level" in finding.text and "an observer must measure" in finding.text
    )


# The state observer and its bound


@pytest.fixture(scope="module")
def observer():
    """A contracting observer of both states from the noisy place, briefly trained."""
    record = simulate_log(
        Sampled(PLANT, DT, Imperfections(noise=0.01)),
        [rc.data.multisine(300, seed=k) for k in range(4)],
        key=jr.key(1),
    )
    made = for_observer(record, "place", ("true place", "true speed"))
    core = rc.nn.ContractingR2DN(nu=2, nx=2, nv=4, ny=2, hidden=(6,), rate=0.8, key=jr.key(0))
    fitted = trainings.fit(
        rc.nn.StateObserver(core), made, washout=30, regularizer=one_step_penalty(made, weight=10.0), epochs=300,
        optimizer=optax.adam(optax.cosine_decay_schedule(2e-2, 300)), progress=False, key=jr.key(1),
    )  # fmt: skip
    return fitted.model, made


@pytest.mark.parametrize(
    ("force", "missing", "most"),
    [(rc.data.multisine(400, seed=50), 0.0, 0.2), (rc.data.prbs(400, hold=8), 0.2, 0.3)],
    ids=["another of its kind", "binary, samples lost"],
)
@pytest.mark.filterwarnings("ignore:.*the model extrapolates")  # a binary input moves the plant farther
def test_an_observer_estimates_what_is_not_measured(force, missing, most, observer):
    model, _ = observer
    rig = Sampled(PLANT, DT, Imperfections(noise=0.01))
    fresh = simulate_log(rig, [force], missing=missing, key=jr.key(9))
    scores = rc.simulate(model, for_observer(fresh, "place", ("true place", "true speed"))).scores()
    assert (scores.nrmse < most).all(), scores.nrmse
    assert rc.certify(model, prove=False).holds


def test_the_one_step_penalty_is_the_mean_one_step_error(observer):
    model, made = observer
    e, system = model.scaling.apply(made).experiments, model.parameterization.explicit()
    errors = [
        np.asarray(e[k].y[t + 1] - system.step(jnp.asarray(e[k].y[t]), jnp.asarray(e[k].u[t]))[0])
        for k, t in ((0, 3), (3, 200))
    ]
    two = rc.data.merge(*(pair(made, k, t) for k, t in ((0, 3), (3, 200))))
    penalty = one_step_penalty(two, weight=2.0, scaling=model.scaling)(model.parameterization)
    np.testing.assert_allclose(penalty, 2 * np.mean(np.square(errors)), rtol=1e-9)
    assert penalty < 0.02
    for wrong, said in (
        ({"weight": 0.0}, "weight must be positive"),
        ({"record": blind(two)}, "it has none"),
    ):
        with pytest.raises(DataError, match=said):
            one_step_penalty(**({"record": two, "scaling": model.scaling} | wrong))


def pair(record, k, t):
    """Two samples of an experiment."""
    e = record.experiments[k]
    part = slice(t, t + 2)
    return dataclasses.replace(
        record, experiments=(rc.data.Experiment(e.u[part], e.y[part], e.u_mask[part], e.y_mask[part]),)
    )


def blind(record):
    lost = [dataclasses.replace(e, y_mask=np.zeros_like(e.y_mask)) for e in record.experiments]
    return dataclasses.replace(record, experiments=tuple(lost))


@pytest.mark.parametrize("make", [rc.nn.ContractingR2DN, rc.nn.ContractingREN])
def test_a_state_observer_keeps_its_cores_state_map(make):
    core = make(nu=2, nx=3, nv=4, ny=1, rate=0.9, key=jr.key(0))
    system, inner = rc.nn.StateObserver(core).explicit(), core.explicit()
    x, u = jnp.asarray([1.0, -2.0, 3.0]), jnp.asarray([0.5, 1.0])
    x_next, y = system.step(x, u)
    np.testing.assert_array_equal(y, x)
    np.testing.assert_allclose(x_next, inner.step(x, u)[0], atol=1e-12)
    found = rc.certify(system, prove=False)
    assert found.holds and found.rate == 0.9


def test_a_core_without_a_guarantee_on_its_state_is_refused(as_installed):
    with pytest.raises(InvalidModelError, match="core must be a ContractingR2DN"):
        rc.nn.StateObserver(rc.nn.GRU(nu=2, nx=3, ny=1, key=jr.key(0)))


def test_the_certified_bound_holds_from_ten_initial_states(observer):
    """On the trajectory whose one-step errors the bound was given, at every sample, from anywhere."""
    model, made = observer
    bound = error_bound(model, made)
    e, system = made.experiments[0], model.explicit()
    starts = np.asarray(jr.normal(jr.key(3), (10, 2))) * 3
    scaled = (starts - model.scaling.y_mean) / model.scaling.y_std
    run = jax.jit(jax.vmap(lambda x0: rc.rollout(system, jnp.asarray(e.u), x0).ys))
    errors = np.abs(np.asarray(run(jnp.asarray(scaled, model.dtype))) - e.y)
    for error, start in zip(errors, starts, strict=True):
        allowed = bound.at(np.arange(len(e.y)), start - e.y[0])
        assert (error <= allowed * (1 + 1e-6)).all()
    assert (bound.ultimate() < np.inf).all() and "halved every" in str(bound) and "model" in str(bound)


@pytest.mark.parametrize("cls", [rc.nn.ContractingR2DN, rc.nn.ContractingREN])
def test_the_bound_counts_measurement_noise(cls, record):
    """The share of the noise bounds what a shifted reading does to a step, at any state, for any network."""
    made = for_observer(record, "place", ("true place", "true speed"))
    core = cls(nu=2, nx=2, nv=3, ny=2, rate=0.9, key=jr.key(5))
    model = rc.train.FittedModel(
        rc.nn.StateObserver(core), rc.train.ZeroState(), rc.data.Scaling.fit(made), made.dt, made.inputs, made.outputs,
        made.input_units, made.output_units,
    )  # fmt: skip
    bound = error_bound(model, made, {"place": 0.1})
    system, L = model.parameterization.explicit(), np.linalg.cholesky(bound.P)
    d = np.asarray([0.0, 0.1 / model.scaling.u_std[1]])
    x, u = 3 * jr.normal(jr.key(6), (2, 50, 2))
    step = jax.jit(jax.vmap(lambda x, u: system.step(x, u)[0]))
    moved = np.asarray(step(x, u + d[None]) - step(x, u))
    assert np.linalg.norm(moved @ L, axis=1).max() <= bound.noise
    assert bound.noise > 0 == error_bound(model, made).noise


def test_bounds_that_cannot_be_given_are_refused(observer, record):
    model, made = observer
    with pytest.raises(RobustctlError, match="'speed' must be a channel that the observer reads"):
        error_bound(model, made, {"speed": 1.0})
    for noise in (-0.1, float("nan"), float("inf")):
        with pytest.raises(
            RobustctlError, match="the noise of 'place' must be its largest error, at least 0 and finite"
        ):
            error_bound(model, made, {"place": noise})
    for wrong, said in (
        (blind(made), "it has none"),
        (dataclasses.replace(made, output_units=("mm", "mm/s")), "must have the model's output_units"),
    ):
        with pytest.raises(DataError, match=said):
            error_bound(model, wrong)
    plain = eqx.tree_at(lambda m: m.parameterization, model, model.parameterization.core)
    with pytest.raises(RobustctlError, match="must be a fitted StateObserver, got R2DN"):
        error_bound(plain, made)


# Streaming


def test_a_stream_is_the_simulation_sample_by_sample(observer):
    model, made = observer
    stream = Stream(model, "place")
    e = made.experiments[0]
    whole = rc.simulate(model, made).y_hat[0]
    for t in range(60):
        np.testing.assert_allclose(stream(e.u[t, :1], e.u[t, 1:]).values, whole[t], rtol=1e-5, atol=1e-6)
    stream.reset()
    np.testing.assert_allclose(stream(e.u[0, :1], e.u[0, 1:]).values, whole[0], rtol=1e-5, atol=1e-6)


def test_a_stream_survives_bursts_gaps_and_spikes_and_comes_back_in_the_certified_time(observer, record):
    model, made = observer
    rng = np.random.default_rng(0)
    clean, faulty = Stream(model, "place"), Stream(model, "place", limits={"place": (-5.0, 5.0)})
    bound = error_bound(model, made)
    e = made.experiments[1]
    for t in range(100):
        u, y = e.u[t % 300, :1], e.u[t % 300, 1:]
        truth = clean(u, y)
        bad = [np.nan, np.inf, -np.inf, 1e30][rng.integers(4)] if 20 <= t < 60 else y[0]
        estimate = faulty(np.where(rng.random(1) < 0.3, np.nan, u) if 20 <= t < 60 else u, [bad])
        assert np.isfinite(estimate.values).all()
        if t == 59:
            assert estimate.stale[0] == pytest.approx(40 * DT)
        if t == 60:  # from here on both read the same
            apart = estimate.values - truth.values
        if t >= 60:
            allowed = bound._replace(model=0.0).at(t - 60, apart)
            assert (np.abs(estimate.values - truth.values) <= allowed + 1e-6).all()
    assert estimate.stale[0] == 0.0


@pytest.mark.parametrize("reading", [1e200, -1e300, 1.7e308])
def test_a_reading_too_large_for_the_dtype_counts_as_not_measured(observer, reading):
    model, _ = observer
    faulty, missing = (Stream(model, "place") for _ in range(2))
    for wrong, y in ((reading, np.nan), (0.1, 0.1)):
        assert np.array_equal(faulty([0.5], [wrong]).values, missing([0.5], [y]).values)


@pytest.mark.filterwarnings("ignore:.*the observer extrapolates")
def test_a_saturated_sensor_counts_as_not_measured_inside_its_limits(observer):
    model, _ = observer
    stream, held = (Stream(model, "place", limits={"place": (-0.99, 0.99)}) for _ in range(2))
    for y in (0.98, 1.0, 1.0):
        estimate, same = stream([0.3], [y]), held([0.3], [min(y, 0.98)])
        np.testing.assert_array_equal(estimate.values, same.values)
    assert estimate.stale[0] == pytest.approx(2 * DT)


def test_a_stream_goes_on_over_samples_that_never_came(observer):
    model, _ = observer
    one, other = Stream(model, "place"), Stream(model, "place")
    for stream in (one, other):
        stream([0.3], [0.1])
    np.testing.assert_array_equal(
        one.skip(5).values, [other([np.nan], [np.nan]) for _ in range(5)][-1].values
    )
    assert one.skip(1).stale[0] == pytest.approx(6 * DT)


def test_a_stream_tells_an_observer_with_flags_what_is_missing(record):
    made = for_observer(record, "place", "true speed", flags=True)
    model = rc.fit(
        rc.nn.LipschitzR2DN(nu=3, nx=2, nv=2, ny=1, hidden=(3,), gamma=5.0, key=jr.key(0)),
        made,
        epochs=2,
        monitor=None,
        key=jr.key(1),
    ).model
    stream, whole = Stream(model, "place"), rc.simulate(model, made).y_hat[0]
    e, raw = made.experiments[0], record.experiments[0]
    for t in range(40):
        y = raw.y[t, :1] if raw.y_mask[t, 0] else [np.nan]
        values = stream(e.u[t, :1], y).values
        if raw.y_mask[: t + 1, 0].any():
            np.testing.assert_allclose(values, whole[t], rtol=1e-4, atol=1e-5)


def test_what_a_stream_cannot_take_is_refused_and_nothing_is_lost(observer):
    model, _ = observer
    stream = Stream(model, "place")
    before = stream([0.3], [0.1])
    for u, y in (([0.3, 1.0], [0.1]), ([0.3], [])):
        with pytest.raises(DataError, match="one number for each"):
            stream(u, y)
    assert before.stale[0] == 0.0 and stream._stale[0] == 0.0
    with pytest.raises(DataError, match="samples must be at least 1"):
        stream.skip(0)
    with pytest.raises(DataError, match="'height' must be a channel"):
        Stream(model, "height")


def test_tanks_are_logged_at_work():
    plant = TwoTanks()
    made = simulate_log(
        Sampled(plant, 2.0),
        [rc.data.steps(50, low=-1.0, high=1.0, hold=10)],
        task=HoldLevels(plant),
        key=jr.key(0),
    )
    assert made.experiments[0].samples == 50 and "true " in made.outputs[-1]
