"""The five commands of the docs, from a log to compiled C and a simulated FMU, as a new user types them."""

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import robustctl as rc

PAGE = Path(__file__).parent.parent / "docs" / "export.md"
DT = 2.0


def commands():
    """The first block of the page, without its comments."""
    block = re.search(r"```bash\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert block
    return [line.split("#")[0].strip() for line in block[1].strip().splitlines()]


def write_log(path, count=300):
    """Two tanks whose pump goes from level to level, with a little noise on the reading."""
    rng = np.random.default_rng(0)
    plant = rc.plants.Sampled(rc.plants.TwoTanks(), DT)
    pump = 3.0 + np.repeat(rng.uniform(-0.5, 0.5, count // 10), 10)
    x, nothing, levels = plant.init_state(), plant.undisturbed(), []
    for u in pump:
        levels.append(float(plant.output(x, nothing)[0]) + 0.02 * rng.normal())
        x = plant.advance(x, jnp.array([u]), nothing)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["pump", "level"])
        writer.writerows(zip(pump, levels, strict=True))
    return pump


def run(command, folder):
    scripts = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, cwd=folder, shell=True, capture_output=True, text=True, check=False,
        env={**os.environ, "PATH": scripts, "MPLBACKEND": "Agg"},
    )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
def test_five_commands_lead_from_a_log_to_c_and_a_running_fmu(tmp_path):
    fmpy = pytest.importorskip("fmpy")
    if not shutil.which("gcc"):
        pytest.skip("gcc was not found")
    pump = write_log(tmp_path / "log.csv")
    fit, to_c, compiled, to_fmu, simulated = commands()
    run(f"{fit} --minutes 0.7", tmp_path)
    assert "log-c" in run(to_c, tmp_path)
    run(compiled, tmp_path)
    assert b"log_step" in (tmp_path / "log.o").read_bytes()
    assert (tmp_path / "log-c" / "export.json").exists()
    run(f"{Path(sys.executable).parent}/robustctl export log-c --check", tmp_path)
    run(to_fmu, tmp_path)
    run(simulated, tmp_path)
    assert (tmp_path / "log-fmu.csv").read_text().startswith('"time"')
    # The FMU gives the numbers of the model, an output one sample after its inputs.
    model = rc.load(tmp_path / "log.safetensors").explicit()
    us = np.array(
        [(k * DT, u) for k, u in enumerate(pump[:50])], dtype=[("time", np.float64), ("pump", np.float64)]
    )
    found = fmpy.simulate_fmu(
        str(tmp_path / "log-fmu" / "log.fmu"), stop_time=50 * DT, step_size=DT, output_interval=DT, input=us, output=["level"]
    )  # fmt: skip
    expected = np.asarray(rc.rollout(model, jnp.asarray(pump[:49, None], jnp.float32)).ys)[:, 0]
    np.testing.assert_allclose(found["level"][1:50], expected, rtol=1e-4)
