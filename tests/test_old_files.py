"""Model files of earlier versions still load, to the same numbers and the same guarantee."""

import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import robustctl as rc

FORMAT1 = Path(__file__).parent / "fixtures" / "format1"
EXPECTED = json.loads((FORMAT1 / "expected.json").read_text("utf-8"))
FILES = sorted(FORMAT1.glob("*.safetensors"))

# A few roundings of the dtype, and no more: XLA and LAPACK may order a sum otherwise on another machine or in another
# version, and the slowest mode here, 0.9 a sample, sums up ten of them.
TOLERANCE = {"float32": 1e-6, "float64": 1e-12}
TRAINING_EXPERIMENT = 2


@functools.cache
def loaded(path: Path):
    return rc.load(path)


def certificate(model):
    return rc.certify(model, prove=False)


def start(model, window, zero):
    """The state that a fitted model starts from after the window; any other starts at its own."""
    if window is None:
        return zero
    return model.initial(*window, jnp.asarray(TRAINING_EXPERIMENT), zero)


def window_of(expected, dtype):
    """The samples before the inputs, `(u, y)`, for a fitted model; None for any other."""
    if "window_inputs" not in expected:
        return None
    nu, ny = (np.shape(expected[name])[1] for name in ("inputs", "outputs"))
    u, y = (jnp.asarray(expected[f"window_{name}"], dtype) for name in ("inputs", "outputs"))
    return u.reshape(-1, nu), y.reshape(-1, ny)


def dtype_name(path: Path) -> str:
    return "float64" if path.stem.endswith("_float64") else "float32"


def assert_close(found, expected, tolerance):
    """Equal within `tolerance` of the largest entry of each channel."""
    expected = np.asarray(expected)
    assert found.shape == expected.shape
    size = np.abs(expected).max(axis=0, initial=0.0)
    assert np.all(np.abs(np.asarray(found, np.float64) - expected) <= tolerance * size)


def test_every_file_has_expected_numbers():
    assert {path.stem for path in FILES} == set(EXPECTED)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_old_file_loads_to_the_same_numbers(path):
    expected, dtype = EXPECTED[path.stem], dtype_name(path)
    tolerance = TOLERANCE[dtype]
    model = loaded(path)
    system, us = model.explicit(), jnp.asarray(expected["inputs"], dtype)
    if expected["certificate"] is None:
        ys = jax.jit(jax.vmap(system))(us)
    else:
        x0 = start(model, window_of(expected, dtype), system.init_state())
        run = rc.rollout(system, us, x0)
        ys, x_final = run.ys, np.asarray(run.x_final)
        assert_close(x_final, expected["final_state"], tolerance)
    assert ys.dtype == dtype
    assert_close(ys, expected["outputs"], tolerance)


@pytest.mark.parametrize(
    "path", [path for path in FILES if EXPECTED[path.stem]["certificate"]], ids=lambda path: path.stem
)
def test_an_old_file_keeps_its_guarantee(path):
    expected, found = EXPECTED[path.stem]["certificate"], certificate(loaded(path))
    assert found.holds == expected["holds"]
    for name in ("rate", "gamma"):
        got, number = getattr(found, name), expected[name]
        assert (got is None) == (number is None)
        if number is not None:
            assert got == pytest.approx(number, rel=TOLERANCE[dtype_name(path)], abs=0)
