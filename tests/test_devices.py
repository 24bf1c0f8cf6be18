"""Training spread over devices and processes: the same numbers, one run folder, hostile settings refused."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jaxlib
import numpy as np
import pytest

from robustctl.errors import RobustctlError
from robustctl.runs.devices import mesh_of
from robustctl.runs.watchers import read_log

from . import small_trainings as small

ROOT = Path(__file__).parent.parent


def process(devices, *args):
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    command = [sys.executable, "-m", "tests.small_trainings", *map(str, args)]
    return subprocess.Popen(
        command, cwd=ROOT, env=os.environ | {"XLA_FLAGS": flags}, text=True, stderr=subprocess.PIPE
    )


def results(started, files):
    for each in started:
        assert each.communicate(timeout=300)[1] is not None and each.returncode == 0, each
    return [json.loads(file.read_text()) for file in files]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Trainings on one and on eight devices of one process."""
    out = tmp_path_factory.mktemp("alone") / "out.json"
    return results([process(8, out)], [out])[0]


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """The same trainings on the four devices of two processes, and their folder."""
    if not hasattr(jaxlib._jax, "make_gloo_tcp_collectives"):
        pytest.skip("this JAX has no gloo, which processes on CPUs speak to each other through")
    folder = tmp_path_factory.mktemp("together")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    outs = [folder / f"out {k}.json" for k in range(2)]
    started = [process(2, out, port, k) for k, out in enumerate(outs)]
    return results(started, outs), folder


TRAININGS = ("fit", "fit_policy")
other_processes = pytest.mark.slow  # each starts Python and compiles for devices of its own


@other_processes
@pytest.mark.parametrize("training", TRAININGS)
def test_eight_devices_train_to_the_same_numbers(training, alone):
    one, eight = alone[f"{training} 1"], alone[f"{training} 8"]
    for name, values in one.items():
        assert len(values) == small.EPOCHS
        np.testing.assert_allclose(eight[name], values, rtol=1e-9)


@other_processes
@pytest.mark.parametrize("training", TRAININGS)
def test_each_of_eight_devices_holds_the_state_and_one_of_eight_experiments(training, alone):
    assert alone[f"{training} 1 arrays"] == {"devices": [1], "parts": []}
    found = alone[f"{training} 8 arrays"]
    assert found["devices"] == [8] and set(found["parts"]) == {1}


@other_processes
def test_seeds_on_eight_devices_end_as_on_one(alone):
    assert len(set(alone["fit_seeds 1"])) == 8
    np.testing.assert_allclose(alone["fit_seeds 8"], alone["fit_seeds 1"], rtol=1e-9)


@other_processes
@pytest.mark.parametrize("training", TRAININGS)
def test_two_processes_train_to_the_same_numbers(training, alone, together):
    for found in together[0]:
        for name, values in alone[f"{training} 1"].items():
            np.testing.assert_allclose(found[training][name], values, rtol=1e-9)


@other_processes
def test_the_first_process_alone_writes(together):
    (first, _), folder = together
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["fit of 0", "policy"]
    rows, stopped = read_log(folder / "fit of 0" / "training.jsonl")
    assert [row["loss"] for row in rows] == first["fit"]["loss"] and stopped == "finished"
    assert len(list((folder / "policy" / "checkpoints").iterdir())) == 2


@other_processes
def test_all_processes_stop_where_one_is_interrupted_and_go_on_from_there(together):
    first, second = (found["stopped"] for found in together[0])
    assert first == second and first[0] == "interrupted" and 4 <= first[1] < small.EPOCHS


@other_processes
@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("other keys", "every process must train the same model with the same data, key and settings, got 2"),
        ("other folders", "holds a run already"),
        ("too few", "2 processes must train on all 4 devices of jax.devices(), got devices=2"),
        ("seeds", "seeds are spread over the devices of one process, got 2 processes"),
    ],
)
def test_processes_that_do_not_fit_together_are_all_refused(case, message, together):
    for found in together[0]:
        assert message in found[case]


REFUSED = [
    (dict(devices=0), "devices must be a whole number of at least 1, got 0"),
    (dict(devices=True), "got True"),
    (dict(devices=2.0), "got 2.0"),
    (dict(devices=3), "a multiple of the 3 devices that it is spread over, got 8"),
    (
        dict(devices=8),
        r"at most the 1 of jax.devices\(\), got 8; .*--xla_force_host_platform_device_count=8",
    ),
]


@pytest.mark.skipif(len(jax.devices()) > 1, reason="this process has several devices")
@pytest.mark.parametrize(("wrong", "message"), REFUSED)
@pytest.mark.parametrize("train", [small.fit, small.fit_policy])
def test_devices_that_cannot_be_are_refused_before_anything_is_written(
    train, wrong, message, tmp_path, as_installed
):
    with pytest.raises(RobustctlError, match=message):
        train(**wrong, run=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_test_episodes_are_divided_too(tmp_path):
    test = small.YoulaScenario().draw_batch(jax.random.key(0), 3, 40)
    with pytest.raises(
        RobustctlError, match="the number of test episodes must be a multiple of the 2 devices"
    ):
        small.fit_policy(devices=2, test=test)


def test_one_device_needs_no_mesh():
    assert mesh_of(1, {"batch": 7}) is None
