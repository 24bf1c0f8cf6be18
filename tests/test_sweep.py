"""Sweeps by Optuna: kept, gone on with, pruned."""

import json
import signal
import sys

import jax.random as jr
import numpy as np
import optuna
import pytest

import robustctl as rc
from robustctl.errors import RobustctlError
from robustctl.train import sweep


def record(seed=0):
    u = np.random.default_rng(seed).normal(size=(2, 20))
    y = [np.convolve(e, [0.0, 1.0, 0.5])[:20] for e in u]
    return rc.data.from_arrays(list(u), y, 0.1)


def train(trial, run_folder, watchers, epochs=4):
    rate = trial.suggest_float("rate", 1e-4, 1e-1, log=True)
    model = rc.nn.StableLinear(nu=1, nx=2, ny=1, key=jr.key(0))
    fitted = rc.fit(
        model, record(), validation=record(1), optimizer=rc.train.clipped_adam(rate), epochs=epochs, run=run_folder,
        monitor=rc.runs.Monitor(watchers, progress=False), key=jr.key(1),
    )  # fmt: skip
    return float(fitted.history["validation"].min())


def cheap(trial, run_folder, watchers):
    return trial.suggest_float("x", -1.0, 1.0) ** 2


def log(folder, number):
    lines = (folder / f"trial_{number:04d}" / "training.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def tried(study):
    return [trial.params for trial in study.trials]


def test_trials_are_trained_in_folders_of_their_own_and_gone_on_with(tmp_path):
    study = sweep(train, tmp_path, trials=1)
    assert [len(trial.intermediate_values) for trial in study.trials] == [4]
    study = sweep(train, tmp_path, trials=2)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 2
    rows = log(tmp_path, 1)
    assert rows[-1] == {"stopped": "finished"}
    np.testing.assert_allclose(study.trials[1].value, min(row["validation"] for row in rows[:-1]))
    assert len(sweep(train, tmp_path, trials=2).trials) == 2
    assert sorted(path.name for path in tmp_path.glob("trial_*")) == [f"trial_{k:04d}" for k in range(2)]


def test_two_calls_try_the_same_as_one(tmp_path):
    sweep(cheap, tmp_path / "two", trials=8)
    two, one = (sweep(cheap, tmp_path / name, trials=14) for name in ("two", "one"))
    other = sweep(cheap, tmp_path / "other", trials=2, seed=100)
    assert tried(two) == tried(one) and len({params["x"] for params in tried(one)}) == 14
    assert tried(other) != tried(one)[:2]


def test_a_trial_that_is_given_up_is_pruned_and_its_log_says_how_far_it_came(tmp_path):
    pruner = optuna.pruners.ThresholdPruner(upper=1e-9, n_warmup_steps=2)
    study = sweep(train, tmp_path, trials=1, pruner=pruner)
    assert [trial.state.name for trial in study.trials] == ["PRUNED"]
    assert list(study.trials[0].intermediate_values) == [0, 1, 2]
    rows = log(tmp_path, 0)
    assert [row.get("epoch") for row in rows] == [0, 1, 2, None] and rows[-1]["stopped"] == "failed"


def test_without_a_validation_record_nothing_is_reported(tmp_path):
    def unjudged(trial, run_folder, watchers):
        model = rc.nn.StableLinear(nu=1, nx=2, ny=1, key=jr.key(0))
        settings = dict(epochs=2, monitor=rc.runs.Monitor(watchers, progress=False), key=jr.key(1))
        return float(rc.fit(model, record(), **settings).history["loss"][-1])

    study = sweep(unjudged, tmp_path, trials=1, pruner=optuna.pruners.ThresholdPruner(upper=1e-9))
    assert study.trials[0].state.name == "COMPLETE" and not study.trials[0].intermediate_values


def test_an_interrupt_ends_the_sweep_and_its_trial_is_replaced(tmp_path):
    class Stop:
        def epoch(self, number, row):
            signal.raise_signal(signal.SIGINT)

        def close(self, stopped):
            pass

    def interrupted(trial, run_folder, watchers):
        return train(trial, run_folder, [*watchers, *([Stop()] if trial.number == 0 else [])], epochs=10)

    with pytest.raises(KeyboardInterrupt):
        sweep(interrupted, tmp_path, trials=1)
    study = sweep(interrupted, tmp_path, trials=1)
    assert [trial.state.name for trial in study.trials] == ["FAIL", "COMPLETE"]
    assert log(tmp_path, 0)[-1] == {"stopped": "interrupted"}


def test_an_error_of_the_objective_reaches_the_user(tmp_path):
    with pytest.raises(ZeroDivisionError):
        sweep(lambda trial, run_folder, watchers: 1 / 0, tmp_path, trials=2)


def test_optuna_says_no_more_than_before(tmp_path, capfd):
    optuna.logging.set_verbosity(optuna.logging.INFO)
    try:
        sweep(cheap, tmp_path, trials=1, sampler=optuna.samplers.RandomSampler(seed=0))
        assert optuna.logging.get_verbosity() == optuna.logging.INFO
    finally:
        optuna.logging.set_verbosity(optuna.logging.INFO)
    assert capfd.readouterr() == ("", "")


def test_without_optuna_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(RobustctlError, match=r'pip install "robustctl\[sweep\]"'):
        sweep(cheap, tmp_path / "new", trials=1)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(trials=0), "trials"),
        (dict(trials=2.5), "trials"),
        (dict(seed=-1), "seed"),
        (
            dict(sampler="tpe"),
            r"sampler must be one of Optuna's, for example optuna.samplers.TPESampler\(\), got 'tpe'",
        ),
        (dict(pruner=optuna.samplers.RandomSampler()), "pruner must be one of Optuna's"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_written(wrong, message, tmp_path, as_installed):
    with pytest.raises(RobustctlError, match=message):
        sweep(cheap, tmp_path / "new", **(dict(trials=1) | wrong))
    assert not (tmp_path / "new").exists()
