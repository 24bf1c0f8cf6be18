"""Linear models of 20 random systems against those that packages of others found in the same records."""

import json
from pathlib import Path

import numpy as np
import pytest

import robustctl as rc
from benchmarks.linear_published import case, errors

PUBLISHED = json.loads((Path(__file__).parent / "fixtures" / "linear_published.json").read_text())


@pytest.fixture(scope="module")
def ours():
    """Errors of our models, by the measures of the script that wrote the others'."""
    found = []
    for seed in range(20):
        true, u, y, fresh = case(seed)
        s = rc.identify.subspace(rc.data.from_arrays(u, y, 1.0), order=len(true[0]), delay=0).state_space()
        model = tuple(np.asarray(M, np.float64) for M in (s.A, s.B, s.C, s.D))
        found.append(errors(true, model, fresh))
    return found


@pytest.mark.parametrize("package, version", [("nfoursid", "1.0.2"), ("sippy-unipi", "1.0.1")])
def test_poles_and_simulations_are_at_least_as_good(ours, package, version):
    theirs = PUBLISHED["packages"][package]
    assert theirs["version"] == version and len(theirs["systems"]) == 20
    nrmse, other = (np.array([r["nrmse"] for r in rows]) for rows in (ours, theirs["systems"]))
    # One record favors the one or the other by a tenth.
    assert np.all(nrmse < 1.1 * other) and np.median(nrmse / other) < 1
    poles, of = (np.array([r["pole_error"] for r in rows]) for rows in (ours, theirs["systems"]))
    assert np.median(poles / of) < 1 and poles.max() < of.max()
    # Both are near the truth, so near each other: by the sum of both errors at most.
    for mine, row in zip(ours, theirs["systems"], strict=True):
        a, b = (np.array(p) @ [1, 1j] for p in (mine["poles"], row["poles"]))
        apart = np.max(np.min(np.abs(a[:, None] - b), axis=1))
        assert apart <= 2 * (mine["pole_error"] + row["pole_error"])


def test_values_of_the_packages():
    """By value, so that a file that is written anew shows where a package or the records changed."""
    first = {name: p["systems"][0] for name, p in PUBLISHED["packages"].items()}
    np.testing.assert_allclose(
        [[first[n]["nrmse"], first[n]["pole_error"]] for n in ("nfoursid", "sippy-unipi")],
        [[0.0128, 0.0038], [0.0133, 0.0038]],
        atol=6e-5,
    )
