"""Identification on small synthetic records."""

import json
import signal
import threading

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import robustctl as rc
from robustctl.errors import DataError, RobustctlError, RobustctlWarning
from robustctl.train.batches import pack

from .trainings import fit


def plant(samples=200, seed=0, x0=0.0, dt=0.1):
    """A first-order lag with a saturating sensor."""
    rng = np.random.default_rng(seed)
    u = np.repeat(rng.normal(size=samples // 5), 5)
    x, y = x0, []
    for u_k in u:
        y.append(np.tanh(x))
        x = 0.9 * x + 0.3 * u_k
    return rc.data.from_arrays(u, np.array(y) * 4 + 10, dt)


def small(seed=0, dtype=None, **kw):
    return rc.nn.ContractingR2DN(
        nu=1, nx=2, nv=3, ny=1, hidden=(4,), init=rc.nn.long_memory, key=jr.key(seed), dtype=dtype, **kw
    )


# One optimizer each: its functions are part of a compiled training.
FAST = dict(optimizer=optax.adam(1e-2), progress=False, key=jr.key(1))
STILL = dict(optimizer=optax.sgd(0.0), progress=False, key=jr.key(1))


@pytest.fixture(scope="module")
def fitted():
    short = dict(optimizer=optax.adam(1e-2), monitor=None, key=jr.key(1))
    return rc.fit(small(3), plant(), validation=plant(seed=1), epochs=150, **short)


def test_fit_finds_the_plant_and_the_certificate_holds(fitted):
    run = rc.simulate(fitted.model, plant(seed=2))
    assert run.scores().pooled_nrmse() < 0.25
    assert rc.certify(fitted.model.parameterization, prove=False).holds
    assert fitted.history["loss"][-1] < 0.1 * fitted.history["loss"][0]
    assert fitted.stopped == "finished" and "(finished) after 150 epochs" in str(fitted)


@pytest.mark.filterwarnings("ignore:.*the model extrapolates")  # 7.5 % of its input go farther
def test_the_best_epoch_is_kept(fitted):
    validation = fitted.history["validation"]
    assert fitted.best_epoch == int(np.argmin(validation))
    run = rc.simulate(fitted.model, plant(seed=1))
    error = run.errors()[0] / fitted.model.scaling.y_std
    np.testing.assert_allclose(np.mean(error**2), validation.min(), rtol=1e-6)


def test_explicit_works_in_the_units_of_the_log(fitted):
    record = plant(seed=2)
    ys = rc.rollout(fitted.model.explicit(), jnp.asarray(record.experiments[0].u)).ys
    np.testing.assert_allclose(ys, rc.simulate(fitted.model, record).y_hat[0], rtol=1e-9)


def test_the_same_key_gives_the_same_numbers():
    a, b = (fit(small(), plant(), epochs=7, **FAST) for _ in range(2))
    assert np.array_equal(a.history["loss"], b.history["loss"]) and eqx.tree_equal(
        a.model.parameterization, b.model.parameterization
    )


def test_scores_are_what_matlab_calls_them(fitted):
    record = plant(seed=2)
    run = rc.simulate(fitted.model, record)
    y, y_hat = record.experiments[0].y[:, 0], run.y_hat[0][:, 0]
    by_hand = 100 * (1 - np.linalg.norm(y - y_hat) / np.linalg.norm(y - y.mean()))
    np.testing.assert_allclose(run.scores().fit_percent, [by_hand])
    np.testing.assert_allclose(run.scores().rmse, [np.sqrt(np.mean((y - y_hat) ** 2))])


@pytest.mark.usefixtures("as_installed")
def test_arguments_of_another_kind_are_named():
    model, record = small(), plant()
    for wrong, message in (
        (lambda: rc.fit(model.explicit(), record, key=jr.key(0)), "give what explicit\\(\\) is called on, got ExplicitR2DN"),
        (lambda: rc.fit(model, record.experiments[0].y, key=jr.key(0)), "must be a rc.data.Record.*got ndarray"),
        (lambda: rc.fit(model, record, validation=0.2, key=jr.key(0)), "must be a rc.data.Record.*got float"),
        (lambda: rc.fit(model, record, optimizer=1e-2, key=jr.key(0)), "must be an Optax transformation.*got float"),
        (lambda: rc.simulate(model.explicit(), record), "what fit returns as .model, got ExplicitR2DN"),
        (lambda: rc.certify(record, prove=False), "of what fit returns give .model"),
    ):  # fmt: skip
        with pytest.raises(RobustctlError, match=message):
            wrong()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_truncated_segments_carry_the_state(dtype):
    """With a step of zero, segments see the same simulation as the whole: the mean of their losses is its loss."""
    model = small(dtype=dtype)
    whole = fit(model, plant(), epochs=1, **STILL)
    parts = fit(model, plant(), segment=40, epochs=1, **STILL)
    np.testing.assert_allclose(parts.history["loss"], whole.history["loss"], rtol=1e-5)
    assert parts.history["loss"].dtype == dtype


def test_a_last_segment_that_is_short_counts_only_what_was_measured():
    whole = fit(small(), plant(), epochs=1, **STILL)
    padded = fit(small(), plant(), segment=150, epochs=1, **STILL)
    error = [rc.simulate(f.model, plant()).errors()[0] for f in (whole, padded)]
    np.testing.assert_allclose(*error)
    assert np.isfinite(padded.history["loss"]).all()


def test_missing_samples_and_unequal_lengths_do_not_count():
    first, second = plant(), plant(100, seed=3)
    u, y = ([e.experiments[0].u, e.experiments[0].y] for e in (first, second))
    gaps = u[1].copy()
    gaps[30:50] = np.nan
    record = rc.data.from_arrays([u[0], y[0]], [gaps, y[1]], 0.1)
    f = fit(small(), record, epochs=5, **FAST)
    batch = pack(record, dtype=jnp.float64)
    assert batch.mask.sum() == 200 - 20 + 100
    assert np.isfinite(f.history["loss"]).all()
    assert np.isnan(rc.simulate(f.model, record).errors()[0][30:50]).all()


def test_washout_leaves_the_start_out():
    batch = pack(plant(), window=10, washout=20, multiple=64, dtype=jnp.float32)
    assert batch.u.shape == (1, 192, 1) and batch.head_u.shape == (1, 10, 1)
    assert not batch.mask[0, :20].any() and batch.mask[0, 20:190].all() and not batch.mask[0, 190:].any()


def test_warm_up_finds_the_state_of_a_record_that_starts_elsewhere():
    windows = rc.data.windows(plant(300, x0=2.0), 60, 10)
    f = fit(small(), windows, initial=rc.train.warm_up(8, width=8), batch_size=10, epochs=60, **FAST)
    run = rc.simulate(f.model, plant(seed=4, x0=-2.0))
    assert run.skipped == 8 and np.isnan(run.y_hat[0][:8]).all() and not np.isnan(run.y_hat[0][8:]).any()
    assert run.scores().pooled_nrmse() < 0.5 and "warm-up" in run.initial


def test_learned_states_are_estimated_on_a_new_record():
    f = fit(small(), plant(x0=2.0), initial=rc.train.learned_state(horizon=15), epochs=150, **FAST)
    assert np.any(np.asarray(f.model.initial.x0) != 0)
    run = rc.simulate(f.model, plant(seed=4, x0=-2.0))
    assert run.skipped == 15 and np.isnan(run.y_hat[0][:15]).all()
    zero = eqx.tree_at(
        lambda m: m.initial, f.model, rc.train.ZeroState(), is_leaf=lambda x: x is f.model.initial
    )
    early = slice(15, 25)
    error = [
        np.abs(rc.simulate(m, plant(seed=4, x0=-2.0)).errors()[0][early]).mean() for m in (f.model, zero)
    ]
    assert error[0] < error[1]


def test_a_nan_gradient_keeps_the_last_good_model_and_names_the_step():
    calls = 4

    def explode(count):
        return optax.GradientTransformation(
            lambda params: jnp.zeros((), jnp.int32),
            lambda g, n, params=None: (
                jax.tree.map(lambda a: jnp.where(n == count, jnp.nan, -1e-2 * a), g),
                n + 1,
            ),
        )

    with pytest.warns(
        RobustctlWarning, match=rf"model\.core\.X after the step .* gradient step {calls} \(epoch 0\)"
    ):
        f = fit(
            small(), plant(), epochs=20, segment=40, optimizer=explode(calls), progress=False, key=jr.key(0)
        )
    assert (f.stopped, f.trouble.step, f.trouble.skipped, f.trouble.fatal) == ("not finite", calls, 10, True)
    leaves = jax.tree.leaves(eqx.filter(f.model.parameterization, eqx.is_inexact_array))
    assert all(np.isfinite(leaf).all() for leaf in leaves)
    assert f"step {calls}" in str(f) and len(f.history["loss"]) == 3 and f.history["skipped"].sum() == 10


def test_patience_stops_at_an_epoch_that_does_not_depend_on_the_clock():
    f = fit(small(), plant(), validation=plant(seed=1), epochs=400, patience=6, **STILL)
    assert f.stopped == "patience" and len(f.history["loss"]) == 7 and f.best_epoch == 0


def test_ctrl_c_keeps_the_best(monkeypatch):
    class Stop:
        def epoch(self, number, row):
            if number == 3:
                signal.raise_signal(signal.SIGINT)

        def close(self, stopped):
            self.stopped = stopped

    watcher = Stop()
    assert threading.current_thread() is threading.main_thread()
    f = fit(small(), plant(), epochs=10**6, watchers=[watcher], **FAST)
    assert f.stopped == watcher.stopped == "interrupted" and len(f.history["loss"]) >= 4


def test_json_lines_hold_every_epoch(tmp_path):
    folder = tmp_path / "runs" / "a"
    f = fit(small(), plant(), epochs=6, run=folder, **FAST)
    *rows, end = [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == list(range(6)) and end == {"stopped": "finished"}
    np.testing.assert_allclose([row["loss"] for row in rows], f.history["loss"])
    assert all(row["validation"] is None for row in rows)


def test_regularizer_moves_a_trained_gamma():
    model = rc.nn.LipschitzR2DN(
        nu=1, nx=2, nv=2, ny=1, hidden=(3,), gamma=9.0, train_gamma=True, key=jr.key(0)
    )
    f = fit(model, plant(), regularizer=lambda m: 10 * m.gamma, epochs=30, **FAST)
    assert float(f.model.parameterization.gamma) < 8.0


@pytest.mark.parametrize("model", ["GRU", "LSTM", "StableLinear"])
def test_baselines_are_fitted_the_same_way(model):
    f = fit(getattr(rc.nn, model)(nu=1, nx=3, ny=1, key=jr.key(0)), plant(), epochs=40, **FAST)
    assert f.history["loss"][-1] < f.history["loss"][0]


REFUSED = [
    (dict(washout=-1), RobustctlError, "washout"),
    (dict(washout=500), DataError, "longer than"),
    (dict(segment=0), RobustctlError, "segment"),
    (dict(batch_size=2), RobustctlError, "batch_size"),
    (dict(epochs=0), RobustctlError, "epochs"),
    (dict(patience=3), RobustctlError, "validation"),
    (
        dict(validation=plant(), initial=rc.train.learned_state(horizon=9)),
        RobustctlError,
        "its own initial state",
    ),
    (dict(initial=rc.train.warm_up(300)), DataError, "longer than"),
    (dict(validation=plant(dt=0.2)), DataError, "sample time"),
    (
        dict(validation=rc.data.from_arrays(np.ones(9), np.ones(9), 0.1, outputs=["level"])),
        DataError,
        "outputs",
    ),
]


@pytest.mark.parametrize(("wrong", "error", "message"), REFUSED)
def test_bad_settings_are_refused_before_anything_is_written(wrong, error, message, tmp_path):
    with pytest.raises(error, match=message):
        fit(small(), plant(), run=tmp_path / "run", **(FAST | dict(epochs=2) | wrong))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("sizes", [dict(nu=2, ny=1), dict(nu=1, ny=2)])
def test_a_model_of_other_sizes_is_refused(sizes):
    model = rc.nn.ContractingR2DN(nx=2, nv=2, **sizes, key=jr.key(0))
    with pytest.raises(DataError, match="build it with"):
        fit(model, plant(), **FAST)


@pytest.mark.parametrize("build", [rc.train.warm_up, lambda n: rc.train.learned_state(horizon=n)])
def test_windows_are_whole_numbers(build):
    with pytest.raises(RobustctlError, match="whole number of samples"):
        build(0)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (plant(dt=0.2), "sample time 0.1 s, got 0.2 s"),
        (rc.data.from_arrays(np.ones((9, 2)), np.ones(9), 0.1), "inputs"),
        (rc.data.from_arrays(np.ones(9), np.ones(9), 0.1, output_units=["V"]), "output_units"),
        (plant(samples=5), "longer than window [+] washout = 0 [+] 20 samples, got 5"),
    ],
)
def test_a_record_that_does_not_fit_the_model_is_not_simulated(fitted, record, message):
    initial = rc.train.LearnedState(x0=jnp.zeros((1, 2)), horizon=20)
    model = eqx.tree_at(lambda m: m.initial, fitted.model, initial)
    with pytest.raises(DataError, match=message):
        rc.simulate(model, record)
