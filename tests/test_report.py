"""Scores and residual correlations against brute force, and the report made of them."""

import dataclasses
import json
import re

import jax
import jax.random as jr
import numpy as np
import pytest
import scipy.signal
from jaxtyping import TypeCheckError

import robustctl as rc
from robustctl import plot
from robustctl.certificates import Certificate, certify
from robustctl.data import from_arrays
from robustctl.errors import DataError, RobustctlError
from robustctl.identify import Simulation, residual_correlations
from robustctl.reports import FitReport, fit_report
from robustctl.reports.fit_report import FILES

from .simulations import NAN, OWN_START, broken, example, simulation

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning", "error::UserWarning")


def brute_force(a, b, lag):
    """corr(a[t], b[t + lag]) of lists of arrays (T,), NaN where missing, one pair at a time."""
    a, b = ([v - np.nanmean(np.concatenate(several)) for v in several] for several in (a, b))
    product = power_a = power_b = 0.0
    for x, z in zip(a, b, strict=True):
        for t in range(len(x)):
            if 0 <= t + lag < len(z) and not np.isnan(x[t] * z[t + lag]):
                product += x[t] * z[t + lag]
                power_a += x[t] ** 2
                power_b += z[t + lag] ** 2
    return product / np.sqrt(power_a * power_b)


def test_correlations_with_gaps_and_skipped_samples_against_brute_force():
    s = example(2, 3, 60, 3, skipped=5, gaps=True)
    found = residual_correlations(s, 8)
    errors, inputs = s.errors(), [e.u for e in s.record.experiments]
    assert found.lags.tolist() == list(range(9)) and found.cross_lags.tolist() == list(range(-8, 9))
    for i in range(2):
        e = [error[:, i] for error in errors]
        np.testing.assert_allclose(found.auto[i], [brute_force(e, e, k) for k in found.lags], atol=1e-12)
        for j in range(3):
            expected = [brute_force([u[:, j] for u in inputs], e, k) for k in found.cross_lags]
            np.testing.assert_allclose(found.cross[i, j], expected, atol=1e-12)


def test_an_unmeasured_input_makes_no_pair():
    s = example(samples=80)
    u = s.record.experiments[0].u.copy()
    u[::3] = NAN
    record = from_arrays(u, s.record.experiments[0].y, 0.02)
    found = residual_correlations(Simulation(record, s.y_hat, 0, OWN_START), 4)
    error = s.errors()[0][:, 0]
    expected = [brute_force([u[:, 0]], [error], k) for k in found.cross_lags]
    np.testing.assert_allclose(found.cross[0, 0], expected, atol=1e-12)


def test_one_percent_of_white_residuals_lies_outside():
    found = [residual_correlations(example(3, 2, 800, gaps=seed % 2 > 0, seed=seed)) for seed in range(20)]
    assert 0.004 < np.mean([f.auto_outside() for f in found]) < 0.02
    assert 0.004 < np.mean([f.cross_outside() for f in found]) < 0.02


def test_the_cross_band_allows_for_colored_signals():
    def fraction(seed):
        rng = np.random.default_rng(seed)
        u, e = scipy.signal.lfilter([1], [1, -0.8], rng.normal(size=(2, 2000)), axis=1)
        found = residual_correlations(simulation([u], [0 * u], [e]))
        white = np.mean(np.abs(found.cross[0, 0]) > 2.576 / np.sqrt(2000))
        return found.cross_outside()[0, 0], white

    outside, white = np.mean([fraction(seed) for seed in range(60)], axis=0)
    assert outside < 0.03 < 0.1 < white


@pytest.mark.parametrize("phi", [0.9, -0.6])
@pytest.mark.parametrize("gaps", [False, True])
def test_residuals_of_an_autoregression_correlate_as_its_powers(phi, gaps):
    rng = np.random.default_rng(1)
    e = scipy.signal.lfilter([1], [1, -phi], rng.normal(size=40_000))
    e[rng.random(e.size) < 0.3 * gaps] = NAN
    found = residual_correlations(simulation([rng.normal(size=e.size)], [np.zeros(e.size)], [e]), 10)
    np.testing.assert_allclose(found.auto[0], phi ** np.arange(11), atol=0.05)


@pytest.mark.parametrize("delay", [3, -3])
def test_a_residual_after_its_input_shows_at_a_positive_lag(delay):
    u = np.random.default_rng(2).normal(size=500)
    found = residual_correlations(simulation([u], [np.zeros(500)], [np.roll(u, delay)]), 10)
    assert found.cross_lags[np.argmax(found.cross[0, 0])] == delay
    assert found.cross_outside()[0, 0] >= (1 / 11 if delay > 0 else 0)
    assert (np.abs(found.cross) > found.cross_band)[0, 0, 10 + delay]


def test_constant_signals_have_no_correlation():
    u = np.column_stack([np.full(100, 0.1), np.random.default_rng(0).normal(size=100)])
    found = residual_correlations(simulation([u], [np.zeros(100)], [np.full(100, 0.3)]), 5)
    assert np.isnan(found.auto).all() and np.isnan(found.cross).all() and np.isnan(found.auto_band).all()
    assert np.isnan(found.auto_outside()).all() and np.isnan(found.cross_outside()).all()


def test_lags_that_no_pair_was_measured_at_are_undefined():
    e = np.random.default_rng(0).normal(size=200)
    e[1::2] = NAN
    found = residual_correlations(simulation([np.arange(200.0)], [np.zeros(200)], [e]), 4)
    assert np.isnan(found.auto[0]).tolist() == [False, True, False, True, False]


def test_max_lag_too_long_names_one_that_works():
    s = example(samples=30, skipped=4)
    with pytest.raises(DataError, match=r"at least 10 pairs.*got 25.*26 samples.*choose max_lag <= 16"):
        residual_correlations(s)
    residual_correlations(s, 16)
    with pytest.raises(DataError, match="choose max_lag <= 16"):
        residual_correlations(s, 17)
    with pytest.raises(DataError, match="use a longer record"):
        residual_correlations(example(samples=8), 5)
    with pytest.raises(DataError, match="at least 1, got 0"):
        residual_correlations(s, 0)


def test_simulations_with_nothing_to_score_are_refused():
    s = example(samples=20)
    for skipped in (20, 30):
        empty = Simulation(s.record, (np.full((20, 1), NAN),), skipped, "")
        for function in (Simulation.scores, residual_correlations, plot.compare, plot.residuals):
            with pytest.raises(DataError, match="measured output after"):
                function(empty)
    with pytest.raises(DataError, match="shapes of the measured outputs"):
        Simulation(s.record, (np.zeros((19, 1)),), 0, "").scores()


def test_scores_are_what_they_are_called():
    s = example(3, 2, 100, 2, skipped=7, gaps=True)
    scores = s.scores()
    e = np.concatenate(
        [np.where(x.y_mask, x.y - y, NAN)[7:] for x, y in zip(s.record.experiments, s.y_hat, strict=True)]
    )
    y = np.concatenate([np.where(x.y_mask, x.y, NAN)[7:] for x in s.record.experiments])
    rmse = np.sqrt(np.nanmean(e**2, axis=0))
    np.testing.assert_allclose(scores.rmse, rmse)
    np.testing.assert_allclose(scores.nrmse, rmse / np.nanstd(y, axis=0))
    np.testing.assert_allclose(scores.fit_percent, 100 * (1 - scores.nrmse))
    np.testing.assert_allclose(scores.pooled_nrmse(), np.sqrt(np.mean(scores.nrmse**2)))
    np.testing.assert_allclose(scores.mean_error, np.nanmean(e, axis=0))
    assert scores.samples.tolist() == (~np.isnan(e)).sum(axis=0).tolist() and scores.notes == ("", "", "")


def test_scores_that_are_not_defined_are_explained():
    scores = broken().scores()
    assert np.isnan(scores.nrmse).tolist() == [True, True, False, False] and scores.rmse[0] == pytest.approx(
        0.05
    )
    assert scores.nrmse[2] == np.inf and scores.fit_percent[2] == -np.inf
    assert "constant" in scores.notes[0] and "no measured sample" in scores.notes[1]
    assert scores.notes[2] == "the simulation is not finite from sample 40 of 'experiment' on"
    assert scores.notes[3] == "" and scores.samples[:2].tolist() == [55, 0]
    with pytest.raises(DataError, match="'wild' the simulation is not finite from sample 40"):
        residual_correlations(broken())


@pytest.fixture(scope="module")
def trained():
    """A model of three epochs, its record of two outputs and its fit."""
    rng = np.random.default_rng(0)
    u = [rng.normal(size=(120, 2)) for _ in range(2)]
    y = [scipy.signal.lfilter([0.5], [1, -0.8], a, axis=0) + 3 + 0.1 * rng.normal(size=a.shape) for a in u]
    y[0][30:40, 0] = NAN
    names = dict(inputs=["valve", "pump"], outputs=["level", "flow"], output_units=["m", "m^3/s"])
    record = from_arrays(u, y, 0.5, **names)
    model = rc.nn.ContractingR2DN(nu=2, nx=3, nv=4, ny=2, hidden=(5,), rate=0.95, key=jr.key(0))
    with jax.numpy_dtype_promotion("standard"):  # Optax raises its decay rates to an int32 count
        fit = rc.fit(model, record, validation=record, epochs=3, monitor=None, key=jr.key(1))
    return fit, record, certify(model, prove=False), certify(fit.model.parameterization, prove=False)


def test_the_text_holds_every_number(trained):
    fit, record, _, proof = trained
    r = fit_report(fit.model, record, fit=fit, certificate=proof)
    text, s = str(r), rc.simulate(fit.model, record)
    shown = [
        "2 experiments (experiment[0], experiment[1]), 240 samples, dt = 0.5 s",
        "inputs        valve, pump",
        "free run",
        s.initial,
        "no samples",
        "ContractingR2DN",
    ]
    shown += [f"{s.scores().rmse[i]:.4g}" for i in (0, 1)] + [f"{s.scores().nrmse[i]:.4g}" for i in (0, 1)]
    shown += [f"{s.scores().fit_percent[i]:.2f}" for i in (0, 1)] + [
        "m^3/s",
        " 230 ",
        " 240 ",
        f"{s.scores().pooled_nrmse():.4g}",
    ]
    outside = residual_correlations(s)
    shown += [f"{100 * a:.1f} %" for a in (*outside.auto_outside(), *outside.cross_outside().max(axis=1))]
    shown += [str(fit), f"{fit.history['validation'][fit.best_epoch]:.4g}", *str(proof).splitlines()]
    assert [part for part in shown if part not in text] == []
    assert max(len(each) for each in text.splitlines()) <= 100 and "WARNING" not in text


def test_the_record_trained_on_and_a_linear_model_stand_beside(trained):
    fit, record, *_ = trained
    test = rc.data.split(record, (0.5, 0.5))[1]
    r = fit_report(fit.model, test, trained_on=record)
    outputs, compared = r.to_dict()["outputs"], r.comparison
    assert [o["fit_percent_trained"] for o in outputs] == pytest.approx(
        rc.simulate(fit.model, record).scores().fit_percent
    )
    linear = [o["fit_percent_linear"] for o in outputs]
    noise = [100 * (1 - 0.1 / np.std(np.concatenate([e.y[:, i] for e in test.experiments]))) for i in (0, 1)]
    assert linear == pytest.approx(noise, abs=8) and compared.kind == "ARX models of orders 1, 1"
    text = str(r)
    assert "WARNING" not in text and all(f"{value:.2f}" in text for value in linear)
    assert "level: the linear model is no worse here" in text  # three epochs are few
    assert "WARNING       the model was trained on this record" in str(
        fit_report(fit.model, test, trained_on=test)
    )
    assert "trained on" not in str(fit_report(fit.model, test))


def test_beside_a_record_with_dead_time_stands_a_linear_model_with_that_delay():
    u = np.random.default_rng(0).standard_normal(400)
    y = scipy.signal.lfilter([0, 0, 0, 0, 0, 0, 0.2], [1.0, -0.8], u)
    record = from_arrays(u, y + 0.01 * np.random.default_rng(1).standard_normal(400), 0.1)
    linear = rc.identify.subspace(record, order=1, delay=5).model
    r = fit_report(linear, record, trained_on=record, linear=linear)
    assert linear.delay == (5,) and r.comparison.kind == "the subspace model, 1 state"
    assert r.comparison.linear == pytest.approx(r.scores.fit_percent)


@pytest.mark.parametrize("still", ["inputs", "outputs"])
def test_without_a_linear_model_there_is_nothing_beside(trained, still):
    fit, record, *_ = trained
    u, y = [e.u for e in record.experiments], [e.y for e in record.experiments]
    if still == "inputs":
        u = [np.zeros_like(a) for a in u]
    else:
        y = [np.ones_like(a) for a in y]
    names = {name: getattr(record, name) for name in ("inputs", "outputs", "output_units")}
    r = fit_report(fit.model, record, trained_on=from_arrays(u, y, 0.5, **names))
    assert r.comparison.kind == "" and "ARX" not in str(r)
    assert [o["fit_percent_linear"] for o in r.to_dict()["outputs"]] == [None, None]


@pytest.mark.parametrize(
    ("best", "losses", "said"),
    [
        (3, (1.0, 0.1), "chose epoch 3 of 100"),
        (60, (1.0, 0.1), ""),
        (3, (1.0, 0.8), ""),
        (-1, (1.0, 0.1), "the model is the untrained one"),
    ],
)
def test_an_epoch_chosen_early_against_the_training_loss_is_told(trained, best, losses, said):
    history = {"loss": np.geomspace(*losses, 100), "validation": np.ones(100)}
    fit = dataclasses.replace(trained[0], history=history, best_epoch=best)
    assert said in fit.caution and bool(fit.caution) == bool(said)
    # Without validation the last epoch is the best one, and an earlier one means that the last step spoiled the model.
    without = dataclasses.replace(fit, history=history | {"validation": np.full(100, NAN)}, best_epoch=99)
    assert without.caution == ""
    assert "not finite" in dataclasses.replace(without, best_epoch=98).caution


def test_the_table_is_aligned(trained):
    fit, record, *_ = trained
    lines = str(fit_report(fit.model, record)).splitlines()
    head = next(k for k, text in enumerate(lines) if text.startswith("output"))
    ends = [
        [match.end() for match in re.finditer(r"\S(?= {2}|$)", text)][-5:] for text in lines[head : head + 3]
    ]
    assert ends[0] == ends[1] == ends[2] and lines[head + 1].startswith("level ")


def test_the_dictionary_is_json_and_agrees(trained):
    fit, record, _, proof = trained
    r = fit_report(fit.model, record, fit=fit, certificate=proof, max_lag=10)
    numbers = json.loads(json.dumps(r.to_dict(), allow_nan=False))
    assert numbers == r.to_dict()
    assert [o["name"] for o in numbers["outputs"]] == ["level", "flow"] and numbers["outputs"][0][
        "unit"
    ] == "m"
    assert [o["nrmse"] for o in numbers["outputs"]] == pytest.approx(r.simulation.scores().nrmse)
    assert set(numbers["outputs"][1]["residual_lags_outside"]["with_input"]) == {"valve", "pump"}
    assert numbers["residuals"]["max_lag"] == 10 and numbers["pooled_nrmse"] == pytest.approx(
        r.simulation.scores().pooled_nrmse()
    )
    assert numbers["training"]["epochs"] == 3 and numbers["training"]["stopped"] == "finished"
    assert numbers["certificate"]["holds"] is True and "P" not in numbers["certificate"]
    bare = fit_report(fit.model, record).to_dict()
    assert bare["training"] is None and bare["certificate"] is None


def test_a_certificate_of_other_weights_is_named(trained):
    fit, record, before, _ = trained
    r = fit_report(fit.model, record, certificate=before)
    assert "WARNING" in str(r) and "another model" in r.to_dict()["certificate"]["note"]


def test_save_writes_overwrites_and_removes_what_is_stale(trained, tmp_path):
    fit, record, _, proof = trained
    folder = tmp_path / "a" / "report"
    full = fit_report(fit.model, record, fit=fit, certificate=proof)
    written = full.save(folder)
    assert {p.name for p in written} == {p.name for p in folder.iterdir()} == set(FILES)
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in written if p.suffix == ".png")
    assert (folder / "report.txt").read_text(encoding="utf-8") == f"{full}\n"
    assert json.loads((folder / "report.json").read_text()) == full.to_dict()
    assert (
        Certificate.from_json((folder / "certificate.json").read_text()).weights_sha256
        == proof.weights_sha256
    )
    (folder / "notes.md").write_text("mine")
    written = fit_report(fit.model, record).save(str(folder))
    names = {"report.txt", "report.json", "compare.png", "residuals.png"}
    assert {p.name for p in written} == names
    assert {p.name for p in folder.iterdir()} == names | {"notes.md"}


def test_save_refuses_a_file_and_leaves_it(trained, tmp_path):
    fit, record, *_ = trained
    (tmp_path / "x").write_text("mine")
    with pytest.raises(RobustctlError, match="must be a folder"):
        fit_report(fit.model, record).save(tmp_path / "x")
    assert (tmp_path / "x").read_text() == "mine"


def test_a_record_too_short_for_correlations_is_reported_without(trained, tmp_path):
    fit, record, *_ = trained
    r = fit_report(fit.model, rc.data.windows(record, 12, 12), max_lag=30)
    assert r.correlations is None and "not computed; max_lag must leave" in str(r)
    assert {p.name for p in r.save(tmp_path)} == {"report.txt", "report.json", "compare.png"}


def test_undefined_scores_are_in_words_in_text_and_null_in_json(tmp_path):
    s = broken()
    r = FitReport(s, s.scores(), None, "the simulated outputs are not finite", "Some model", None, None, "")
    text, outputs = str(r), r.to_dict()["outputs"]
    for word in (
        "constant",
        "no measured sample",
        "not finite from sample 40",
        "pooled NRMSE over 2 of 4",
        "5 samples",
    ):
        assert word in text
    assert [o["nrmse"] is None for o in outputs] == [True, True, True, False]
    r.save(tmp_path)


def test_long_names_and_notes_stay_within_the_columns():
    name = "the position of the second joint of the arm, in the frame of the base, filtered"
    s = example(
        2, 2, outputs=[name, f"{name} two"], inputs=[f"{name} u", f"{name} v"], output_units=["rad " * 9, ""]
    )
    c = residual_correlations(s)
    text = str(FitReport(s, s.scores(), c, "", "a model " * 30, None, None, ""))
    assert max(len(each) for each in text.splitlines()) <= 100


def test_a_bare_parameterization_is_refused(trained):
    fit, record, *_ = trained
    with pytest.raises((RobustctlError, TypeCheckError), match=r"what fit returns as .model|FittedModel"):
        fit_report(fit.model.parameterization, record)
    with pytest.raises(DataError, match="resample"):
        fit_report(fit.model, from_arrays(np.zeros((50, 2)), np.zeros((50, 2)), 0.1))


def test_a_simulation_that_grows_without_bound_is_scored_and_drawn():
    y = np.random.default_rng(0).normal(size=50)
    s = Simulation(from_arrays(np.ones(50), y, 0.1), (np.geomspace(1, 1e200, 50)[:, None],), 0, OWN_START)
    assert s.scores().nrmse[0] == np.inf and s.scores().notes == ("",)
    assert np.isnan(residual_correlations(s, 5).auto).all()
    for figure in (plot.compare(s), plot.residuals(s, 5)):
        figure.draw_without_rendering()
