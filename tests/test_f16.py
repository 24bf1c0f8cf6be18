"""Benchmark problem 1: its records, its scores, its archive, and a training on small stand-ins."""

import builtins
import json
import os
import zipfile
from pathlib import Path

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
import pytest

import robustctl as rc
from benchmarks import f16 as f16_run
from benchmarks import f16_ours
from benchmarks.__main__ import main
from robustctl.errors import DataError, RobustctlError
from robustctl.identify.modal import modal_prior
from robustctl.problems import f16, f16_download

REAL = Path(os.environ.get("ROBUSTCTL_F16_DATA", Path(__file__).parent.parent.parent / "shared/data/f16"))
COLUMNS = (*f16.INPUTS, *f16.OUTPUTS, "Fs", "")


def records(samples=64):
    """Seven levels of a linear plant, short."""
    rng = np.random.default_rng(0)
    u = rng.normal(size=(samples, 2))
    y = np.stack(
        [np.convolve(u[:, 0], taps)[:samples] for taps in ([0, 1.0], [0, 0.5, 0.5], [0, 1, -1])], axis=1
    )
    made = {}
    for level in range(1, 8):
        made[level] = rc.data.from_arrays(
            level * u, level * y + 1, 1 / f16.RATE, inputs=list(f16.INPUTS), outputs=list(f16.OUTPUTS)
        )
    return made


def write(folder, samples):
    folder.mkdir(parents=True, exist_ok=True)
    text = ",".join(COLUMNS) + "\n" + "1.0,2.0,3.0,4.0,5.0,400,\n" + "1.5,2.0,3.0,4.0,5.0,,\n" * (samples - 1)
    for level in range(1, 8):
        (folder / f"F16Data_FullMSine_Level{level}{'' if level % 2 else '_Validation'}.csv").write_text(text)
    return folder


def test_a_folder_without_the_records_says_how_to_get_them(tmp_path):
    with pytest.raises(DataError, match=r"10\.4121/12954911.*download"):
        f16.load(tmp_path)


def test_a_missing_level_is_named(tmp_path):
    place = write(tmp_path / "F16GVT_Files" / "BenchmarkData", 3)
    (place / "F16Data_FullMSine_Level4_Validation.csv").unlink()
    with pytest.raises(DataError, match="missing: F16Data_FullMSine_Level4_Validation"):
        f16.load(tmp_path)


def test_a_record_that_is_cut_off_is_refused(tmp_path):
    write(tmp_path, 3)
    with pytest.raises(DataError, match="73728 samples, got 3"):
        f16.load(tmp_path)


def test_the_score_is_the_published_one():
    made = records(300)
    half = {level: 0.5 * made[level].experiments[0].y for level in f16.TEST}
    found = f16.test_scores(half, made)
    reference = made[f16.REFERENCE].experiments[0].y
    mean, std = reference.mean(axis=0), reference.std(axis=0)
    y = np.stack([made[level].experiments[0].y[100:] for level in f16.TEST])
    by_hand = np.sqrt(np.mean((0.5 * y / std) ** 2) / np.mean(((y - mean) / std) ** 2))
    np.testing.assert_allclose(found["nrmse"], by_hand, rtol=1e-12)
    np.testing.assert_allclose(found["rmse"]["2"], np.sqrt(np.mean((0.5 * y[0]) ** 2, axis=0)), rtol=1e-12)
    exact = {level: made[level].experiments[0].y for level in f16.TEST}
    assert f16.test_scores(exact, made)["nrmse"] == 0


def test_the_sizes_are_the_published_ones():
    sizes = [
        sum(
            leaf.size
            for leaf in jax.tree.leaves(
                eqx.filter(f16.model(f16.F16Protocol(model=name), jr.key(0)), eqx.is_array)
            )
        )
        for name in ("r2dn", "ren")
    ]
    lipschitz = f16.model(f16.F16Protocol(model="lipschitz"), jr.key(0)).explicit()
    assert float(lipschitz.supply.R[0, 0]) == f16.LIPSCHITZ
    np.testing.assert_allclose(
        sizes, [f16.PUBLISHED[name]["parameters"] for name in ("r2dn", "ren")], rtol=1e-3
    )
    with pytest.raises(RobustctlError, match="model must be one of"):
        f16.F16Protocol(model="rnn")


@pytest.fixture
def small(monkeypatch):
    """A model of the problem's inputs and outputs that compiles at once."""
    tiny = rc.nn.ContractingR2DN(nu=2, nx=2, nv=2, ny=3, hidden=(3,), key=jr.key(0))
    monkeypatch.setattr(f16, "model", lambda protocol, key: tiny)


@pytest.mark.slow
def test_the_benchmark_trains_scores_certifies_and_goes_on(small, tmp_path):
    made, protocol = records(300), f16.F16Protocol(epochs=3, segment=50)
    results = f16_run.benchmark(protocol, range(1), made, tmp_path, progress=False)
    written = json.loads((tmp_path / "f16_r2dn.json").read_text())
    run = written["runs"][0]
    assert run["certificate_holds"] and len(run["training_loss"]) == 3 and written["commit"]
    assert run["test"]["nrmse"] > 0 and run["training_loss"][-1] < run["training_loss"][0]
    assert (tmp_path / "f16_r2dn.png").stat().st_size > 1000
    log = tmp_path / "f16_r2dn_seed_0" / "training.jsonl"
    before = log.read_bytes()
    again = f16_run.benchmark(protocol, range(1), made, tmp_path, progress=False)
    assert again["runs"] == results["runs"] and log.read_bytes() == before


PERIOD = 256


def repeated(seed=0):
    """Four periods of a vibrating system with a resonance at 30 Hz, at three amplitudes."""
    rng = np.random.default_rng(seed)
    a, r = 2 * np.pi * 30 / f16.RATE, 0.95
    A = r * np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    B, C = rng.normal(size=(2, 2)), rng.normal(size=(3, 2))
    u, x, y = np.tile(rng.normal(size=(PERIOD, 2)), (4, 1)), np.zeros(2), []
    for sample in u:
        y.append(C @ x)
        x = A @ x + B @ sample
    scales = (1.0, 2.0, 3.0)
    return rc.data.from_arrays(
        [k * u for k in scales], [k * np.array(y) for k in scales], 1 / f16.RATE,
        inputs=f16.INPUTS, outputs=f16.OUTPUTS,
    )  # fmt: skip


def test_the_spectra_give_back_a_linear_system():
    record = rc.data.average_periods(repeated(), PERIOD)
    prior = modal_prior(record, 2, (10.0, 100.0), rounds=40)
    modes = np.linalg.eigvals(prior["A"])
    nearest = np.min(abs(modes - 0.95 * np.exp(2j * np.pi * 30 / f16.RATE)))
    assert nearest < 0.01 and np.abs(modes).max() < 1
    system = rc.StateSpace(prior["A"], prior["B"], prior["C"], prior["D"], record.dt)
    u, y = repeated().experiments[0].u, repeated().experiments[0].y
    found = rc.rollout(system, u)
    assert np.sqrt(np.mean((np.asarray(found.ys) - y)[PERIOD:] ** 2) / np.mean(y**2)) < 0.05
    assert np.all(np.abs(np.var(found.xs[PERIOD:], axis=0) - 1) < 0.5), "states of size one"


def test_spectra_that_cannot_be_are_refused():
    record = rc.data.average_periods(repeated(), PERIOD)
    with pytest.raises(DataError, match="0 < low < high < 200 Hz"):
        modal_prior(record, 2, (10.0, 300.0))
    short = rc.data.average_periods(repeated(1), PERIOD // 2)
    with pytest.raises(DataError, match="one period without missing samples"):
        modal_prior(rc.data.merge(record, short), 2, (10.0, 100.0))


def test_our_recipe_trains_scores_and_certifies(tmp_path, monkeypatch):
    levels = repeated().experiments
    made = {
        level: rc.data.Record(
            (levels[level % 3],), 1 / f16.RATE, f16.INPUTS, f16.OUTPUTS, ("N", "V"), ("m/s^2",) * 3
        )
        for level in range(1, 8)
    }
    small = dict(
        modes=2, nx=4, nv=3, hidden=(4,), epochs=3, window=64, washout=32, stride=100, batch=8, period=PERIOD
    )
    f16_run.benchmark(f16_ours.F16Settings(**small), range(2), made, tmp_path, progress=False)
    written = json.loads((tmp_path / "f16_ours.json").read_text())
    run = written["runs"][0]
    assert run["certificate_holds"] and written["published"] is None and written["protocol"]["modes"] == 2
    assert 0 < run["test"]["nrmse"] < 0.5, "the linear part alone explains a linear plant"
    each, average = [own["test"]["nrmse"] for own in written["runs"]], written["average"]
    # The square is convex, and two seeds differ.
    assert average["seeds"] == [0, 1] and 0 < average["test"]["nrmse"] < np.sqrt(np.mean(np.square(each)))
    assert (tmp_path / "f16_ours.png").stat().st_size > 1000


def test_an_archive_of_another_version_is_refused_and_removed(tmp_path):
    archive = tmp_path / "F16GVT_Files.zip"
    archive.write_bytes(b"something else")
    with pytest.raises(DataError, match=r"148455295 bytes .* got 14"):
        f16_download.check_archive(archive)
    assert not archive.exists()


def test_only_the_records_that_are_needed_are_unpacked(tmp_path):
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("F16GVT_Files/BenchmarkData/F16Data_FullMSine_Level1.csv", "a")
        file.writestr("F16GVT_Files/BenchmarkData/F16Data_SineSw_Level1.csv", "b")
        file.writestr("../F16Data_FullMSine_outside.csv", "c")
    place = f16_download.unpack(archive, tmp_path / "data")
    found = sorted(path.name for path in place.rglob("*.csv"))
    assert found == ["F16Data_FullMSine_Level1.csv", "F16Data_FullMSine_outside.csv"]
    assert not list(tmp_path.glob("*.csv"))


def test_without_a_network_it_says_what_to_do(tmp_path, monkeypatch):
    pooch = pytest.importorskip("pooch")

    def unreachable(*args, **settings):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(pooch, "retrieve", unreachable)
    with pytest.raises(RobustctlError, match=r"reachable .* no route to host.* name the folder"):
        f16_download.download(tmp_path)


def test_without_pooch_it_names_the_extra(monkeypatch):
    real = builtins.__import__

    def missing(name, *args, **settings):
        if name == "pooch":
            raise ImportError(name)
        return real(name, *args, **settings)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(RobustctlError, match=r"robustctl\[benchmarks\]"):
        f16_download.download()


def test_the_command_refuses_a_wrong_folder(tmp_path, capsys):
    assert main(["f16", "--data", str(tmp_path)]) == 2
    assert "10.4121/12954911" in capsys.readouterr().err


@pytest.mark.skipif(
    not REAL.exists(), reason="the F-16 archive is not there; set ROBUSTCTL_F16_DATA to its folder"
)
def test_neighboring_levels_interpolate_as_measured():
    made = f16.load(REAL)
    y = {level: record.experiments[0].y for level, record in made.items()}
    found = f16.test_scores({level: (y[level - 1] + y[level + 1]) / 2 for level in f16.TEST}, made)
    assert 0.15 < found["nrmse"] < 0.3
