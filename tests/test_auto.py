"""Identification without settings: never worse than the linear model, told what it did, within its time."""

import dataclasses
import json
from pathlib import Path

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import robustctl as rc
from robustctl.cli import main
from robustctl.data import from_arrays
from robustctl.errors import DataError, RobustctlError
from robustctl.identify.auto import auto
from robustctl.identify.pieces import cut_record, is_held, spans
from robustctl.identify.recipe import delays, identify, without_held
from robustctl.identify.search import Begin, Clock, Tried, _higher, _last, _other_orders, choose
from robustctl.recipe import Recipe
from robustctl.reports import fit_report
from robustctl.runs.repetition import compared
from robustctl.train.optimizer import rate_share

pytestmark = pytest.mark.filterwarnings("ignore:.*outside of the trained range")
"""Short logs leave each other's range; the reports say so."""
SMALL = Recipe(init="linear", order=1, nv=2, hidden=(3,), seeds=2, epochs=60, warm_up=10)


def hammerstein(samples=260, seed=0, delay=0):
    """A saturated input before a lag of first order."""
    rng = np.random.default_rng(seed)
    u = np.repeat(rng.uniform(-2, 2, samples // 5 + 1), 5)[:samples]
    v, y = np.tanh(1.5 * np.roll(u, delay)), np.zeros(samples)
    for t in range(1, samples):
        y[t] = 0.8 * y[t - 1] + v[t - 1]
    return from_arrays(u, y + 0.01 * rng.normal(size=samples), 0.5, inputs=["u"], outputs=["y"])


@pytest.fixture(scope="module")
def found():
    return auto(
        hammerstein(), test=hammerstein(seed=1), recipe=SMALL, minutes=10.0, monitor=None, key=jr.key(0)
    )


def test_it_predicts_the_part_held_out_better_than_the_linear_model(found):
    fitted = found
    (tried,) = fitted.choice.tried
    assert not fitted.is_linear and tried.nrmse < fitted.choice.linear_nrmse
    assert rc.certify(fitted.model, prove=False).holds


def test_its_scores_are_those_of_simulations(found):
    fitted = found
    run = rc.simulate(fitted.model, hammerstein(seed=1)).scores()
    assert fitted.scores["model"]["test"]["pooled_nrmse"] == pytest.approx(run.pooled_nrmse())
    y_hat, y = rc.simulate(fitted.model, hammerstein()).y_hat[0][195:], hammerstein().experiments[0].y[195:]
    nrmse = np.sqrt(np.mean((y - y_hat) ** 2)) / np.std(y)
    validation = fitted.scores["model"]["validation"]["outputs"]["y"]
    assert validation["nrmse"] == pytest.approx(nrmse) and validation["fit_percent"] == pytest.approx(
        100 * (1 - nrmse)
    )
    assert (
        fitted.scores["chosen"]["nv"] == 2
        and fitted.scores["held_out"] == 0.25
        and fitted.scores["seconds"] > 0
    )


def test_a_second_time_it_gives_the_same_numbers(found):
    fitted = found
    again = auto(hammerstein(), recipe=SMALL, minutes=10.0, monitor=None, key=jr.key(0))
    np.testing.assert_array_equal(again.history["loss"], fitted.history["loss"])


def test_where_no_network_is_better_the_linear_model_is_returned_and_that_is_said(found, capsys):
    wild = dataclasses.replace(SMALL, learning_rate=30.0)
    fitted = auto(hammerstein(), recipe=wild, minutes=10.0, key=jr.key(0))
    assert fitted.is_linear and "so this is the linear model" in fitted.choice.note
    assert fitted.choice.note in capsys.readouterr().err, "where there is no terminal, too"
    assert fitted.scores["model"] == fitted.scores["linear"]


def test_the_time_limit_is_said_where_it_cuts(found):
    fitted = auto(
        hammerstein(),
        recipe=dataclasses.replace(SMALL, epochs=500),
        minutes=1e-3,
        monitor=None,
        key=jr.key(0),
    )
    assert "the time limit of 0.001 minutes cut: the search trained 10 of 500 epochs" in fitted.choice.note


def test_a_linear_plant_is_left_to_the_linear_model():
    fitted = auto(
        hammerstein(), recipe=Recipe(model="linear"), test=hammerstein(seed=1), monitor=None, key=jr.key(0)
    )
    assert fitted.is_linear and not len(fitted.history["loss"])
    assert fitted.scores["model"]["test"] == fitted.scores["linear"]["test"]


@pytest.mark.parametrize("init", ["linear", "memory"])
def test_a_network_reads_the_inputs_as_late_as_the_linear_model(init):
    record = hammerstein(delay=4)
    linear = rc.identify.subspace(record, order=2, delay=4)
    recipe = dataclasses.replace(SMALL, init=init, nx=4, epochs=1)
    fitted = identify(record, recipe, linear=linear, monitor=None)
    assert fitted.model.delay == (4,)
    report = fit_report(fitted.model, record, trained_on=record, linear=linear.model)
    assert "the subspace model, 2 states" in str(report)
    if init == "linear":
        own, its = (rc.simulate(m, record).scores().pooled_nrmse() for m in (fitted.model, linear.model))
        assert own < its + 0.1


def test_without_a_linear_model_the_delay_is_that_of_the_recipe():
    recipe = Recipe(init="memory", nx=4, nv=2, hidden=(3,), seeds=1, epochs=1, delay=(4,))
    assert identify(hammerstein(delay=4), recipe, monitor=None).model.delay == (4,)


def test_one_delay_is_that_of_all_inputs():
    assert delays(Recipe(delay=(3,)), 2) == (3, 3) and delays(Recipe(delay=(3, 1)), 2) == (3, 1)
    assert delays(Recipe(), 2) is None


def test_a_record_no_longer_than_warm_up_and_delay_is_refused():
    with pytest.raises(DataError, match="warm_up = 10 samples and the delay of 250, got 260"):
        recipe = dataclasses.replace(SMALL, init="memory", nx=4, delay=(250,), validation=0.0, window=0)
        identify(hammerstein(), recipe, monitor=None)


def dead(record, part):
    """The record without measured outputs in a part."""
    e = record.experiments[0]
    mask = e.y_mask.copy()
    mask[part] = False
    return dataclasses.replace(record, experiments=(dataclasses.replace(e, y_mask=mask),))


def constant(channel):
    e = hammerstein().experiments[0]
    return from_arrays(
        0 * e.u + 3.0 if channel == "u" else e.u, 0 * e.y + 3.0 if channel == "y" else e.y, 0.5
    )


@pytest.mark.parametrize(
    ("record", "changes", "said"),
    [
        (
            lambda: dead(hammerstein(), slice(190, None)),
            {},
            "the validation record must have a measured sample of y that counts",
        ),
        (
            lambda: dead(hammerstein(), slice(0, 200)),
            {},
            "the training record must have a measured sample of y that counts",
        ),
        (
            lambda: dead(hammerstein(), slice(None)),
            {},
            "the training record must have a measured sample of y that counts",
        ),
        (lambda: constant("u"), {}, "input"),
        (lambda: constant("y"), {}, "output"),
        (lambda: hammerstein(samples=20), {"warm_up": 20}, "longer than warm_up = 20 samples, got 20"),
        (lambda: hammerstein(samples=40), {}, "use a longer record"),
    ],
    ids=["validation", "training", "all", "input", "output", "warm_up", "short"],
)
def test_a_record_that_cannot_be_identified_is_refused_in_words(record, changes, said):
    with pytest.raises(DataError, match=said):
        auto(record(), recipe=dataclasses.replace(SMALL, **changes), monitor=None, key=jr.key(0))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seeds": 0}, "seeds must be"), ({"minutes": 0.0}, "minutes must be"), ({"minutes": np.nan}, "minutes must be"),
        ({"init": "prior", "model": "lipschitz"}, "init = prior needs the model contracting"),
        ({"init": "linear", "model": "gru"}, "init = linear needs a model with a linear part"),
        ({"delay": (1, 2)}, "a delay must be a whole number"), ({"validation": -0.1}, "validation must be a share"),
    ],
    ids=range(7),
)  # fmt: skip
def test_settings_out_of_range_are_refused(changes, said):
    recipe = dataclasses.replace(SMALL, **changes)
    with pytest.raises(RobustctlError, match=said):
        auto(hammerstein(), recipe=recipe, minutes=recipe.minutes, monitor=None, key=jr.key(0))


def test_pieces_hold_every_sample_once_and_in_order():
    record = hammerstein(250)
    pieces = cut_record(record, spans(0.2, 1), 0, 100, np.float64)
    assert pieces.u.shape == (3, 84, 1) and pieces.first.tolist() == [True, False, False]
    e = record.experiments[0]
    np.testing.assert_array_equal(np.asarray(pieces.y).reshape(-1)[:250], e.y[:, 0])
    fit, held = (np.asarray(m).reshape(-1)[:250] for m in (pieces.fit, pieces.held))
    assert fit[:200].all() and not fit[200:].any() and np.array_equal(held, ~fit)
    assert pieces.fit_pieces.tolist() == [0, 1, 2] and pieces.held_pieces.tolist() == [2]


def test_what_is_held_out_of_the_members_covers_all_but_the_first_part_once():
    record = hammerstein(250)
    pieces = cut_record(record, spans(0.25, 3), 0, 100, np.float64)
    held = np.asarray(pieces.held).reshape(3, -1)[:, :250]
    assert held.sum(axis=1).tolist() == [62, 63, 62] and held.sum(axis=0).tolist() == [0] * 63 + [1] * 187
    np.testing.assert_array_equal(np.asarray(pieces.fit).reshape(3, -1)[:, :250], ~held)
    assert spans(0.25, 5)[3:] == spans(0.25, 2) and spans(0.5, 2) == ((0.5, 0.0),) * 2


def test_a_linear_model_for_each_member_does_not_know_what_is_held_out_of_it():
    record, recipe = hammerstein(), Recipe(seeds=4)
    linear = rc.identify.subspace(record, order=1)
    e = record.experiments[0]
    fits = without_held(record, recipe, linear)
    for fit, span in zip(fits, spans(0.25, 4), strict=True):
        spoiled = dataclasses.replace(e, y=np.where(is_held(e.samples, span)[:, None], 100.0, e.y))
        other = dataclasses.replace(record, experiments=(spoiled,))
        again = without_held(other, recipe, linear)[fits.index(fit)]
        A, same = (f.model.parameterization.explicit().A for f in (fit, again))
        np.testing.assert_array_equal(A, same)
    assert fits[0] is fits[3] and fits[0].order == 1


def test_a_start_is_of_a_lower_order_where_that_is_nearly_as_good():
    record, clock = hammerstein(), Clock(1e-3)
    linear = rc.identify.subspace(record, order=4)
    known = dataclasses.replace(linear, validation={1: 0.12, 2: 0.105, 3: 0.2, 4: 0.1})
    free = dataclasses.replace(SMALL, order=None)
    assert [b.linear.order for b in _other_orders(record, free, known)] == [2, 1]
    assert not _other_orders(record, SMALL, known)
    choice = choose(record, dataclasses.replace(SMALL, order=2), clock, lambda text: None)
    assert choice.start is not None and choice.start.order == choice.recipe.order == 2
    only = choose(record, Recipe(model="linear", order=3), clock, lambda text: None)
    assert only.linear is not None and only.linear.order == 3


def test_a_start_is_of_a_higher_order_where_that_is_better_by_more_than_chance():
    """Of N validation samples two errors differ by less than 2 / sqrt(N) of themselves by chance: 1.4 % of 20,000, 14 % of 200."""
    linear = rc.identify.subspace(hammerstein(), order=3)
    known = dataclasses.replace(linear, validation={3: 0.1846, 5: 0.1819, 6: 0.1814, 8: 0.1819})
    assert _higher(known, 80_000) == [6] and _higher(known, 600) == []
    flat = dataclasses.replace(linear, validation={3: 0.1846, 6: 0.1830})
    assert _higher(flat, 80_000) == []


@pytest.mark.parametrize(
    ("best_epoch", "pace", "epochs", "seeds", "said"),
    [(240, 0.01, 1000, 3, ""), (100, 0.01, 250, 6, ""), (100, 0.6, 250, 3, ""), (240, 1.0, 259, 3, "has 259 of 1000 epochs")],
    ids=["late", "early", "no time for more networks", "no time for all epochs"],
)  # fmt: skip
def test_the_last_training_is_longer_or_of_more_networks(best_epoch, pace, epochs, seeds, said):
    linear = rc.identify.subspace(hammerstein(), order=1)
    tried = Tried(Recipe(epochs=250, seeds=3), Begin(linear, [linear] * 3), 0.1, best_epoch, 250, pace, 1.5)
    recipe, note = _last(tried, Recipe(), Clock(5.0))
    assert (recipe.epochs, recipe.seeds) == (epochs, seeds) and said in note and bool(said) == bool(note)


def test_the_rate_rises_stays_and_falls_to_zero():
    shares = [float(rate_share(jnp.int32(k), jnp.int32(100), 10)) for k in range(100)]
    assert shares[0] == pytest.approx(0.1) and np.allclose(shares[10:51], 1) and shares[-1] < 2e-3
    assert np.all(np.diff(shares[50:]) < 0)


def log(path, seed=0):
    e = hammerstein(seed=seed).experiments[0]
    path.write_text(
        "u,y\n" + "\n".join(f"{u:.6g},{y:.6g}" for u, y in zip(e.u[:, 0], e.y[:, 0], strict=True))
    )
    return str(path)


def test_the_command_chooses_reports_and_is_repeated(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["fit", log(tmp_path / "log.csv"), "--inputs", "u", "--outputs", "y", "--dt", "0.5"]
    words += [
        "--test",
        log(tmp_path / "test.csv", 1),
        "--init",
        "linear",
        "--nv",
        "2",
        "--hidden",
        "3",
        "--seeds",
        "2",
    ]
    words += ["--warm-up", "10", "--minutes", "0.01"]
    assert main(words) == 0
    said, run = capsys.readouterr(), tmp_path / "log"
    assert "linear: the subspace model" in said.out and "the time limit" in said.err
    scores = json.loads((run / "scores.json").read_text())
    assert {"training", "validation", "test"} == set(scores["model"]) == set(scores["linear"])
    assert scores["search"]["tried"][0]["nv"] == 2 and scores["chosen"]["epochs"] == 10
    assert main(["rerun", "log", "--out", "again"]) == 0
    assert "to the last bit" in capsys.readouterr().out
    assert main([*words, "--resume"]) == 0
    assert (run / "model.safetensors").exists() is False and (tmp_path / "log.safetensors").exists()


def test_the_linear_model_is_a_model_of_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [
        "fit",
        log(tmp_path / "log.csv"),
        "--inputs",
        "u",
        "--outputs",
        "y",
        "--dt",
        "0.5",
        "--model",
        "linear",
    ]
    assert main(words) == 0
    assert isinstance(rc.load("log.safetensors").parameterization, rc.nn.StableLinear)
    assert main(words) == 2 and "holds a run already" in capsys.readouterr().err
    assert main(["rerun", "log", "--out", "again"]) == 0
    assert "no training; the same scores" in capsys.readouterr().out
    scores = Path("again/scores.json")
    mine = scores.read_text()
    scores.write_text(Path("log/scores.json").read_text())
    same, text = compared(Path("log"), Path("again"))
    assert not same and "again is a copy of the run and no repetition" in text
    scores.write_text(mine.replace("pooled_nrmse", "another"))
    same, text = compared(Path("log"), Path("again"))
    assert not same and "different scores" in text
    scores.unlink()
    same, text = compared(Path("log"), Path("again"))
    assert not same and "nothing to compare" in text
