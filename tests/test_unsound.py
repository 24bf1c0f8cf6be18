"""Trainings that could end quietly with a model that is not what the words promise."""

import dataclasses
import warnings
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import robustctl as rc
from robustctl.cli import main
from robustctl.errors import DataError, RobustctlError, RobustctlWarning
from robustctl.identify.recipe import identify
from robustctl.recipe import Recipe

from .test_run_folder import model, record

SLOW = 0.25  # a gradient step halves w: w - 0.25 * 2 w
FAST = 1e3  # a gradient step leaves the range in which the loss is finite


class Square(rc.train.Objective):
    """The loss w^2, not a number beyond 10 and for a batch that is none."""

    fixed: Any
    batches: jax.Array
    mesh: None = None

    def epoch(self, state, descend):
        def loss(trained, carry, batch):
            w = self.whole(trained)
            return jnp.where(jnp.abs(w) > 10, jnp.nan, w**2) + batch, carry

        return descend(state, loss, None, self.batches)


@dataclasses.dataclass(frozen=True)
class Squares(rc.train.Problem):
    batches: jax.Array

    def prepare(self, model, key):
        trained, fixed = eqx.partition(model, eqx.is_inexact_array)
        return trained, Square(fixed, self.batches)  # pyright: ignore

    def fingerprint(self, whole):
        return {"data": rc.runs.array_hash(self.batches)}


def rates(*steps):
    """Plain gradient descent with the rate of each step, the last one for all later steps."""
    table = jnp.asarray(steps)
    return optax.sgd(lambda count: table[jnp.minimum(count, len(steps) - 1)])


def train(optimizer, epochs, batches=(0.0,), **settings):
    problem = Squares(jnp.asarray(batches))
    return rc.train.train(
        problem, jnp.ones(()), epochs=epochs, optimizer=optimizer, monitor=None, key=jr.key(0), **settings
    )


@pytest.mark.parametrize(
    ("epochs", "best", "w", "skipped", "stopped"),
    [
        (3, 2, 0.125, 0, "finished"),
        (4, 2, 0.125, 0, "finished"),
        (5, 2, 0.125, 1, "finished"),
        (20, 2, 0.125, 10, "not finite"),
    ],
)
def test_the_last_model_that_could_be_evaluated_is_returned(epochs, best, w, skipped, stopped):
    """Three steps that halve w, then one that goes too far; the step after it is the first to know."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", RobustctlWarning)
        found = train(rates(SLOW, SLOW, SLOW, FAST), epochs)
    assert (float(found.model), found.best_epoch, found.stopped) == (w, best, stopped)
    assert (0 if found.trouble is None else found.trouble.skipped) == skipped
    texts = [str(one.message) for one in said]
    assert any("of the model after the last step was not finite" in text for text in texts) == (epochs == 4)
    assert any("10 in a row ended the training" in text for text in texts) == (epochs == 20)


@pytest.mark.parametrize("epochs", [1, 2, 20])
def test_where_the_first_step_goes_too_far_the_model_is_the_untrained_one(epochs):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", RobustctlWarning)
        found = train(rates(FAST), epochs)
    assert (float(found.model), found.best_epoch) == (1.0, -1)
    expected = "no epoch gave a model with a finite" if epochs == 1 else "not finite at gradient step 1"
    assert len(said) == 1 and expected in str(said[0].message)


def test_a_batch_that_is_never_finite_costs_no_other_step():
    """Each bad step halves the rate, each good one raises it by 2 %."""
    nan = float("nan")
    with pytest.warns(RobustctlWarning, match="the loss was not finite"):
        first, last = (train(rates(SLOW), 3, batches) for batches in ((nan, 0.0), (0.0, nan)))
    assert first.history["skipped"].tolist() == last.history["skipped"].tolist() == [1, 1, 1]
    w = np.cumprod([1 - 0.5 * scale for scale in (0.5, 0.255, 0.13005)])
    np.testing.assert_allclose(first.history["loss"], [1.0, *w[:2] ** 2], rtol=1e-6)
    np.testing.assert_allclose(float(first.model), w[2], rtol=1e-6)
    assert first.best_epoch == 2
    # Where the bad batch comes last, nothing has evaluated what the step before it gave.
    np.testing.assert_allclose(float(last.model) ** 2, last.history["loss"][2], rtol=1e-6)
    assert last.best_epoch == 1


def test_each_of_many_seeds_returns_its_last_sound_model():
    """The second one starts so near to zero that the long step leaves it where the loss is finite."""
    starts = iter([1.0, 1e-3])

    def build(key) -> Any:
        return jnp.asarray(next(starts))

    with pytest.warns(RobustctlWarning, match="seed 0: .* after the last step was not finite"):
        fits = rc.train.train_seeds(
            Squares(jnp.zeros(1)),
            build,
            keys=jr.split(jr.key(0)),
            epochs=2,
            optimizer=rates(SLOW, FAST),
            monitor=None,
        )
    assert [fitted.best_epoch for fitted in fits] == [0, 1]
    np.testing.assert_allclose([float(fitted.model) for fitted in fits], [0.5, 5e-4 * (1 - 2 * FAST)])


def test_a_run_that_was_settled_is_resumed_as_if_it_was_not(tmp_path):
    optimizer = rates(SLOW, SLOW, FAST, SLOW)
    with pytest.warns(RobustctlWarning, match="after the last step was not finite"):
        train(optimizer, 3, run=tmp_path)
        again = train(optimizer, 3, run=rc.runs.Run(tmp_path, resume=True))
    assert (float(again.model), again.best_epoch) == (0.25, 1)
    with pytest.warns(RobustctlWarning, match="was not finite at gradient step 3"):
        longer, whole = train(optimizer, 6, run=rc.runs.Run(tmp_path, resume=True)), train(optimizer, 6)
    assert longer.trouble == whole.trouble and float(longer.model) == float(whole.model) == 0.25


def gaps(inputs=slice(0), outputs=slice(0), ny=1):
    """60 samples, cut from a log with measurements before them."""
    u = np.random.default_rng(0).normal(size=(120, 2))
    y = np.cumsum(u, axis=0)[:, :ny].copy()
    u[60:][inputs, 0], y[60:][outputs, 0] = np.nan, np.nan
    return rc.data.split(rc.data.from_arrays(u, y, 0.1), (0.5, 0.5))[1]


def two(ny=1):
    return rc.nn.StableLinear(nu=2, nx=2, ny=ny, key=jr.key(0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(record=gaps(outputs=slice(20, None)), washout=20), r"record trained on must .* y\[0\]"),
        (dict(record=gaps(outputs=slice(20, None), ny=2), washout=20), r"record trained on must .* y\[0\]"),
        (dict(record=gaps(outputs=slice(20, None)), initial=rc.train.warm_up(20)), r"record trained on must .* y\[0\]"),
        (dict(record=gaps(), validation=gaps(outputs=slice(None))), r"validation record must .* y\[0\]"),
        (dict(record=gaps(), validation=gaps(outputs=slice(9, None)), washout=9), r"validation record must .* y\[0\]"),
        (dict(record=gaps(), validation=gaps(inputs=slice(None))), r"validation record must .* u\[0\]"),
        (dict(record=gaps(inputs=slice(None))), r"'u\[0\]' must have a measured sample"),
    ],
    ids=range(7),
)  # fmt: skip
def test_what_was_never_measured_is_refused(settings, message):
    with pytest.raises(DataError, match=message):
        rc.fit(two(settings["record"].ny), epochs=2, monitor=None, key=jr.key(0), **settings)


def test_a_dead_output_of_the_validation_record_is_reported():
    problem = rc.train.Identification(gaps(ny=2), validation=gaps(outputs=slice(None), ny=2))
    with pytest.warns(RobustctlWarning, match=r"validation record has no measured sample of y\[0\]"):
        problem.prepare(two(2), jr.key(0))


RATES = [-1e-3, 0.0, 0, float("nan"), float("inf"), "1e-3", True, np.float32(-1), -jnp.ones(())]


@pytest.mark.parametrize("rate", RATES, ids=range(len(RATES)))
def test_a_learning_rate_is_positive(rate, as_installed):
    with pytest.raises(RobustctlError, match="learning_rate must be a positive, finite number"):
        rc.train.clipped_adam(rate)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(learning_rate=-1.0), "learning_rate"), (dict(learning_rate=float("nan")), "learning_rate"),
        (dict(epochs=0), "epochs must be a whole number of at least 1"), (dict(epochs=10**9), "epochs must be at most"),
        (dict(batch=0), "batch"), (dict(batch=-1), "batch"), (dict(seeds=0), "seeds"), (dict(window=-1), "window"),
        (dict(warm_up=0), "warm_up"), (dict(nx=0), "nx"), (dict(nx=10**9), "nx must be at most"),
        (dict(hidden=(3, 0)), r"hidden\[1\]"), (dict(hidden=(10**9,)), r"hidden\[0\] must be at most"),
        (dict(validation=1.0, window=9), "validation must be a share"), (dict(validation=-0.1, window=9), "validation"),
        (dict(validation=float("nan"), window=9), "validation"), (dict(seed=-1), "seed"), (dict(seed=2**32), "seed"),
    ],
    ids=range(18),
)  # fmt: skip
def test_a_recipe_out_of_range_is_refused_before_anything_is_written(wrong, message, tmp_path):
    with pytest.raises(RobustctlError, match=message):
        identify(
            record(),
            Recipe(**({"nx": 2, "nv": 2, "hidden": (3,), "warm_up": 3} | wrong)),
            run=tmp_path / "run",
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "message"),
    [(dict(epochs=0), "epochs must be"), (dict(epochs=10**9), "epochs must be at most 10,000,000")],
    ids=["none", "huge"],
)
def test_epochs_out_of_range_are_refused(settings, message):
    with pytest.raises(RobustctlError, match=message):
        rc.fit(model(), record(), monitor=None, key=jr.key(0), **settings)
    with pytest.raises(
        RobustctlError, match="batch_size must be at most the number of experiments, 4, got 5"
    ):
        rc.train.Identification(record(), batch_size=5)


def test_a_sensor_that_died_in_the_validation_part_is_refused_by_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    u = np.repeat(np.random.default_rng(0).uniform(-1, 1, 30), 10)
    rows = [f"{v:.5g},{'' if k >= 225 else f'{np.sin(k / 9):.5g}'}" for k, v in enumerate(u)]
    (tmp_path / "log.csv").write_text("\n".join(["u,y", *rows]))
    command = [
        "fit",
        "log.csv",
        "--inputs",
        "u",
        "--outputs",
        "y",
        "--dt",
        "0.1",
        "--model",
        "linear",
        "--nx",
        "2",
    ]
    command += ["--warm-up", "10", "--window", "30", "--validation", "0.25"]
    assert main(command) == 2
    assert "validation record must have a measured sample of y that counts" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["log.csv"]
