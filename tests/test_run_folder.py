"""A training that is interrupted, killed, or meets a full disk, a damaged file, another model or numbers that are not finite."""

import errno
import itertools
import json
import math
import signal
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import robustctl as rc
from robustctl.errors import RobustctlError, RobustctlWarning
from robustctl.runs import checkpoint, run_folder, watchers
from robustctl.runs.checkpoint import checkpoints, latest
from robustctl.runs.watchers import read_log
from robustctl.train import engine
from robustctl.train.health import LIMIT

from . import trainings

ROOT = Path(__file__).parent.parent
EPOCHS = 12


def record(seed=0):
    u = np.random.default_rng(seed).normal(size=(4, 20))
    y = [np.convolve(e, [0.0, 1.0, 0.5])[:20] for e in u]
    return rc.data.from_arrays(list(u), y, 0.1)


def model(nx=2, **settings):
    return rc.nn.ContractingR2DN(nu=1, nx=nx, nv=2, ny=1, hidden=(3,), key=jr.key(0), **settings)


class StopAt:
    """Asks for an end, or raises, at an epoch."""

    def __init__(self, number, action):
        self.number, self.action, self.closed = number, action, None

    def epoch(self, number, row):
        if number == self.number:
            self.action()

    def close(self, stopped):
        self.closed = stopped


OPTIMIZER = rc.train.clipped_adam(1e-2)


def fit(
    folder=None, *, epochs=EPOCHS, data=None, start=None, key=1, between=4, keep=3, resume=False, **settings
):
    run = None if folder is None else rc.runs.Run(folder, resume, checkpoint_epochs=between, keep=keep)
    settings = dict(optimizer=OPTIMIZER, batch_size=2, progress=False) | settings
    return trainings.fit(
        start or model(), data or record(), epochs=epochs, run=run, key=jr.key(key), **settings
    )


def bits(fitted):
    arrays = jax.tree.leaves(eqx.filter(fitted.model, eqx.is_array)) + list(fitted.history.values())
    return b"".join(np.asarray(a).tobytes() for a in arrays)


@pytest.fixture(scope="module")
def whole():
    """A training that nothing interrupted."""
    return fit()


@pytest.fixture
def part(tmp_path):
    """The folder of a run that was interrupted in the middle."""
    stop = StopAt(6, lambda: signal.raise_signal(signal.SIGINT))
    assert fit(tmp_path / "run", watchers=[stop]).stopped == "interrupted"
    return tmp_path / "run"


def test_a_resumed_run_ends_with_the_same_bits(part, whole):
    resumed = fit(part, resume=True)
    assert resumed.stopped == "finished" and len(resumed.history["loss"]) == EPOCHS
    assert bits(resumed) == bits(whole)
    rows = [json.loads(line) for line in (part / "training.jsonl").read_text().splitlines()]
    assert [row.get("epoch") for row in rows] == [*range(EPOCHS), None] and rows[-1] == {
        "stopped": "finished"
    }
    assert bits(fit(part, resume=True)) == bits(whole)  # of a finished run: what it found
    assert read_log(part / "training.jsonl") == (rows[:-1], "finished")


def test_a_run_that_goes_on_has_not_ended_until_it_says_so(part, monkeypatch):
    """Whoever watches it would leave at the word of the run before, while the first epochs are on their way."""
    log, seen = part / "training.jsonl", []
    rows, stopped = read_log(log)
    assert stopped == "interrupted"

    def first_epochs(*_):
        seen.append(read_log(log))
        raise RuntimeError("seen")

    monkeypatch.setattr(engine, "run_epochs", first_epochs)
    with pytest.raises(RuntimeError, match="seen"):
        fit(part, resume=True)
    assert seen == [(rows, "")]
    assert read_log(log)[1] == "failed"


def test_more_epochs_go_on_where_it_ended_and_fewer_are_refused(part):
    longer = fit(part, resume=True, epochs=EPOCHS + 3)
    assert bits(longer) == bits(fit(epochs=EPOCHS + 3))
    with pytest.raises(RobustctlError, match=f"{EPOCHS + 3} epochs, so at least as many"):
        fit(part, resume=True)


def test_only_the_newest_checkpoints_stay(tmp_path):
    fit(tmp_path, keep=2)
    names = [path.name for path in checkpoints(tmp_path / "checkpoints")]
    assert names == ["epoch_0000012.safetensors", "epoch_0000008.safetensors"]


@pytest.mark.parametrize("damage", ["truncated", "zeroed", "empty", "no checkpoint"])
def test_a_damaged_checkpoint_is_skipped_for_the_one_before(part, whole, damage, tmp_path):
    newest, before = checkpoints(part / "checkpoints")[:2]
    raw = newest.read_bytes()
    rc.save(tmp_path / "m.safetensors", model())
    spoilt = {
        "truncated": raw[: len(raw) // 2], "zeroed": bytes(len(raw)), "empty": b"",
        "no checkpoint": (tmp_path / "m.safetensors").read_bytes(),
    }  # fmt: skip
    newest.write_bytes(spoilt[damage])
    with pytest.warns(RobustctlWarning, match=f"{newest.name} cannot be read and the one before"):
        resumed = fit(part, resume=True)
    assert before.name < newest.name and bits(resumed) == bits(whole)


def test_where_all_checkpoints_are_damaged_it_begins_again(part, whole):
    for path in checkpoints(part / "checkpoints"):
        path.write_bytes(b"")
    with pytest.warns(RobustctlWarning, match="cannot be read"):
        assert bits(fit(part, resume=True)) == bits(whole)


@pytest.mark.parametrize(
    "wrong, message",
    [
        (dict(start=model(nx=3)), "of the model and optimizer that are trained.*float"),
        (
            dict(optimizer=optax.sgd(0.1)),
            "of the model and optimizer that are trained.*only in the checkpoint",
        ),
        (dict(start=model(activation=jax.nn.tanh)), "the model that"),
        (dict(start=model(rate=0.9)), "the model that"),
        (dict(data=record(1)), "resumed with the data that it was begun with"),
        (dict(validation=record(1)), "the validation that"),
        (dict(key=2), "the key that"),
        (dict(segment=10), "the settings that"),
        (dict(resume=False), "holds a run already"),
    ],
    ids=["size", "optimizer", "activation", "rate", "data", "validation", "key", "settings", "not resumed"],
)
def test_a_run_that_was_begun_otherwise_is_refused_and_nothing_is_lost(part, wrong, message):
    before = {path: path.read_bytes() for path in part.rglob("*") if path.is_file()}
    with pytest.raises(RobustctlError, match=message):
        fit(part, **({"resume": True} | wrong))
    assert {path: path.read_bytes() for path in part.rglob("*") if path.is_file()} == before


def test_packages_that_changed_since_are_told_of(part):
    text = json.loads((part / "run.json").read_text())
    assert {"identity", "versions", "machine", "commit", "commit_of_folder", "command"} <= text.keys()
    text["versions"]["optax"] = "0.0.1"
    (part / "run.json").write_text(json.dumps(text))
    with pytest.warns(RobustctlWarning, match=r"optax 0\.0\.1 -> "):
        fit(part, resume=True)


def test_a_full_disk_costs_checkpoints_and_log_but_not_the_training(tmp_path, whole, monkeypatch):
    def full(path, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_atomic", full)
        with pytest.warns(
            RobustctlWarning, match="checkpoint of epoch .* could not be written .*No space left"
        ):
            assert bits(fit(tmp_path)) == bits(whole)
    assert not list((tmp_path / "checkpoints").iterdir())
    monkeypatch.setattr(watchers, "write_atomic", full)
    with pytest.warns(RobustctlWarning, match="log .* could not be written .*No space left"):
        assert bits(fit(tmp_path, resume=True)) == bits(whole)


def test_a_full_disk_at_the_start_is_an_error(tmp_path, monkeypatch):
    def full(path, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(run_folder, "write_json", full)
    with pytest.raises(OSError, match="No space left"):
        fit(tmp_path)


def test_a_spent_budget_ends_it_and_resume_goes_on(tmp_path, whole):
    run = rc.runs.Run(tmp_path, budget_minutes=1e-9)
    short = trainings.fit(
        model(), record(), epochs=EPOCHS, run=run, key=jr.key(1), optimizer=OPTIMIZER, batch_size=2, progress=False
    )  # fmt: skip
    assert short.stopped == "time budget" and len(short.history["loss"]) == 0
    assert bits(fit(tmp_path, resume=True)) == bits(whole)


def test_a_watcher_that_fails_leaves_the_others_closed(tmp_path):
    def fail():
        raise RuntimeError("broken watcher")

    other = StopAt(-1, None)
    with pytest.raises(RuntimeError, match="broken watcher"):
        fit(tmp_path, watchers=[StopAt(2, fail), other])
    assert other.closed == "failed"
    assert (tmp_path / "training.jsonl").read_text().splitlines()[-1] == '{"stopped": "failed"}'


def test_a_second_ctrl_c_ends_it_at_once(tmp_path):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    stop = StopAt(2, lambda: [signal.raise_signal(signal.SIGINT) for _ in range(2)])
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, watchers=[stop])
    assert stop.closed == "failed" and signal.signal(signal.SIGINT, before) is signal.default_int_handler


@pytest.mark.parametrize(
    "wrong",
    [dict(checkpoint_minutes=0.0), dict(checkpoint_epochs=0), dict(keep=0), dict(budget_minutes=-1.0)],
    ids=str,
)
def test_settings_of_a_run_are_checked(wrong, tmp_path):
    with pytest.raises(RobustctlError, match=next(iter(wrong))):
        rc.fit(model(), record(), run=rc.runs.Run(tmp_path / "run", **wrong), key=jr.key(0))
    assert not (tmp_path / "run").exists()


def test_resume_needs_a_folder():
    with pytest.raises(RobustctlError, match=r"resume; give run=rc\.runs\.Run\(folder, resume=True\)"):
        rc.fit(model(), record(), key=jr.key(0), resume=True)


def not_finite_below(threshold):
    """A loss that is not a number where an experiment of the batch has its second output below a threshold."""

    def loss(y_hat, y, mask):
        error = rc.train.mean_squared_error(y_hat, y, mask)
        return jnp.where(jnp.min(y[:, 1, 0]) < threshold, jnp.nan, error)

    return loss


def test_steps_that_are_not_finite_are_skipped_and_named():
    data = record()
    lowest = sorted(e.y[1, 0] for e in rc.data.Scaling.fit(data).apply(data).experiments)[:2]
    with pytest.warns(RobustctlWarning, match="the loss was not finite at gradient step"):
        fitted = fit(loss=not_finite_below(np.mean(lowest)), epochs=8)
    assert fitted.stopped == "finished" and not fitted.trouble.fatal
    assert (
        fitted.trouble.skipped == fitted.history["skipped"].sum() == 8
    )  # one of the two batches of each epoch
    assert np.isfinite(fitted.history["loss"]).all()
    rate = fitted.history["learning_rate"]
    assert rate[0] < 1e-2 and np.all(np.diff(rate) < 0)
    leaves = jax.tree.leaves(eqx.filter(fitted.model.parameterization, eqx.is_inexact_array))
    assert all(np.isfinite(leaf).all() for leaf in leaves)


def test_the_rate_grows_back():
    """A spike that comes once costs one step; a hundred good steps later the rate is what it was."""
    health = rc.train.health.healthy(jnp.float32)
    step = jnp.zeros((), jnp.int32)
    bad, good = ({"a": jnp.full((2,), value)} for value in (jnp.nan, 1.0))
    take, health = rc.train.health.learn(health, step, step, jnp.ones(()), bad, good)
    assert not take and float(health.scale) == 0.5
    for _ in range(40):
        take, health = rc.train.health.learn(health, step, step, jnp.ones(()), good, good)
        assert take
    assert float(health.scale) == 1.0 and int(health.in_a_row) == 0 and int(health.skipped) == 1
    assert rc.train.health.diagnosis(health, good).array == "the gradient of a"
    for _ in range(LIMIT):
        take, health = rc.train.health.learn(health, step, step, jnp.ones(()), bad, good)
    assert bool(health.hopeless)
    assert not rc.train.health.learn(health, step, step, jnp.ones(()), good, good)[0]


def test_the_margin_of_the_certificate_is_logged(tmp_path):
    fitted = fit(tmp_path, callback=rc.certificates.certificate_margin, every=5)
    margin = fitted.history["certificate_margin"]
    assert np.flatnonzero(~np.isnan(margin)).tolist() == [4, 9, EPOCHS - 1] and np.nanmax(margin) < 0
    expected = rc.certify(fitted.model.parameterization, prove=False).margin
    np.testing.assert_allclose(margin[-1], expected, rtol=1e-6)


def test_the_log_tells_no_certificate_from_one_that_was_not_looked_at(tmp_path):
    """An infinite margin is null, for JSON has no infinity; an epoch without one has no margin at all."""
    fit(tmp_path, callback=lambda done, model: math.inf, every=5)
    rows, _ = read_log(tmp_path / "training.jsonl")
    assert [row["epoch"] for row in rows if "certificate_margin" in row] == [4, 9, EPOCHS - 1]
    assert {row["certificate_margin"] for row in rows if "certificate_margin" in row} == {None}


def test_a_plateau_lowers_the_rate_by_optax():
    """`reduce_on_plateau` in a chain is told the loss: with weights that stand still it lowers its scale."""
    plateau = optax.contrib.reduce_on_plateau(factor=0.5, patience=2)
    seen = []

    def keep(epoch, trained):
        seen.append(trained)

    chained = optax.chain(optax.sgd(1e-9), plateau)
    fitted = fit(optimizer=chained, callback=keep, every=1, batch_size=4)
    moved = [
        float(optax.tree.norm(optax.tree.sub(*(eqx.filter(m, eqx.is_inexact_array) for m in (b, a)))))
        for a, b in itertools.pairwise(seen)
    ]
    assert len(moved) == EPOCHS and fitted.stopped == "finished"
    assert moved[-1] < 0.3 * moved[0]


def test_a_policy_is_resumed_with_the_same_bits(tmp_path):
    from robustctl.problems.youla_feedback import YoulaScenario

    def train(folder, resume=False, **settings):
        run = None if folder is None else rc.runs.Run(folder, resume, checkpoint_epochs=1)
        q = rc.nn.ContractingR2DN(nu=1, nx=2, nv=2, ny=1, hidden=(3,), key=jr.key(0))
        return trainings.fit_policy(
            q, YoulaScenario(), horizon=20, batch=2, epochs=4, optimizer=OPTIMIZER, run=run, progress=False,
            key=jr.key(3), **settings,
        )  # fmt: skip

    whole = train(None)
    train(tmp_path, watchers=[StopAt(1, lambda: signal.raise_signal(signal.SIGINT))])
    resumed = train(tmp_path, resume=True)
    for a, b in zip(
        *(jax.tree.leaves(eqx.filter(f.policy, eqx.is_array)) for f in (whole, resumed)), strict=True
    ):
        assert np.array_equal(a, b)
    np.testing.assert_array_equal(resumed.history["validation"], whole.history["validation"])


def test_a_request_to_terminate_saves_first(tmp_path):
    code = (
        "import os, signal, sys; import tests.test_run_folder as t\n"
        "t.fit(sys.argv[1], between=1000, epochs=100_000, watchers=[t.StopAt(6, lambda: os.kill(os.getpid(), signal.SIGTERM))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGTERM, done.stderr
    found = latest(tmp_path / "checkpoints")
    assert found is not None and found[1]["checkpoint"] >= 7
    assert (tmp_path / "training.jsonl").read_text().splitlines()[-1] == '{"stopped": "terminated"}'


@pytest.mark.slow
def test_kills_at_random_moments_cost_no_more_than_an_interval(tmp_path):
    """The short version of `benchmarks/kill_training.py`, which exits with 1 where anything was lost."""
    out = tmp_path / "kills.json"
    command = [sys.executable, "-m", "benchmarks.kill_training", "--kills", "3", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    found = json.loads(out.read_text())
    assert found["kills"] == 3 and found["runs"] == found["equal"] >= 1
    assert found["second_refused"] == found["second_processes"]
