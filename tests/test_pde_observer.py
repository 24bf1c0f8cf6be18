"""Benchmark problem 2, small: its data, its training, its guarantee. The figures of the full runs are in results/."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import robustctl as rc
from benchmarks.__main__ import main
from benchmarks.pde_observer import convergence, one_step_optimizer, train
from robustctl.errors import RobustctlError
from robustctl.problems import pde_observer as pde

QUICK = dict(epochs=5, batches=4, batch=50, test_samples=100, patience=1)


def by_hand(xi, b, noise, substeps):
    """The scheme in loops."""
    dz = 10.0 / 50
    dt = 0.1 * dz**2
    xs, bs = [xi.copy()], [b]
    for w in noise:
        for _ in range(substeps):
            old = xi.copy()
            for k in range(1, 50):
                reaction = old[k] * (1 - old[k]) * (old[k] - 0.5)
                xi[k] = old[k] + dt * ((old[k - 1] - 2 * old[k] + old[k + 1]) / dz**2 + reaction / 2)
            xi[0] = xi[50] = b
        b = min(max(b + w, 0.0), 1.0)
        xs.append(xi.copy())
        bs.append(b)
    return np.array(xs), np.array(bs)


@pytest.mark.parametrize(("generator", "substeps"), [("parity", 4), ("corrected", 5)])
def test_the_generator_is_the_scheme_in_loops(generator, substeps):
    rng = np.random.default_rng(0)
    start, noise = rng.uniform(size=51), rng.normal(size=12)  # large, so that b is clipped at both ends
    field = pde.simulate(jnp.asarray(start), jnp.asarray(0.5), jnp.asarray(noise), generator)
    xs, bs = by_hand(start.copy(), 0.5, noise, substeps)
    assert bs.min() == 0 and bs.max() == 1
    np.testing.assert_allclose(field.xs, xs, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(field.ys, np.stack([bs, xs[:, 25]], axis=1), rtol=1e-12, atol=1e-14)


def test_the_published_data_lack_exactly_one_substep():
    xi, b = jr.uniform(jr.key(0), (51,)), jnp.asarray(0.3)
    published, corrected = (pde.sample(xi, b, generator) for generator in ("parity", "corrected"))
    np.testing.assert_array_equal(corrected, pde.euler(published, b))
    assert np.abs(corrected - published).max() > 1e-3


def test_training_data_are_shuffled_batches_of_one_trajectory():
    protocol = pde.ObserverProtocol(**QUICK)
    pairs = pde.training_pairs(protocol, jr.key(1))
    assert [a.shape for a in pairs] == [(4, 50, 51), (4, 50, 51), (4, 50, 2)]
    np.testing.assert_array_equal(pairs.x[:, 1:], pairs.x_next[:, :-1])
    np.testing.assert_array_equal(pairs.x[:, :, 25], pairs.y[:, :, 1])
    np.testing.assert_array_equal(
        pairs.x_next[:, :, 0], pairs.y[:, :, 0]
    )  # what is measured acts at the ends
    np.testing.assert_allclose(pairs.x, pairs.x[:, :, ::-1], rtol=1e-12)  # symmetric, as the module says
    assert pairs.y[:, :, 0].min() >= 0 and pairs.y[:, :, 0].max() <= 1
    firsts, lasts = np.asarray(pairs.x[:, 0]), np.asarray(pairs.x_next[:, -1])
    follows = [[np.array_equal(first, last) for first in firsts] for last in lasts]
    assert np.sum(follows) == 3 and sum(not first.any() for first in firsts) == 1


def test_the_published_test_starts_far_from_the_estimate():
    test = pde.published_test(pde.ObserverProtocol())
    assert test.xs.shape == (2001, 51) and test.ys.shape == (2001, 2)
    assert np.all(test.xs[0] == 1) and test.ys[0, 0] == 0.5
    errors = pde.test_errors(np.asarray(test.xs), np.zeros((2001, 51)))
    assert errors == {"test_nrmse": 1, "test_nrmse_last_half": 1}


@pytest.mark.parametrize(("name", "not_trained"), [("r2dn", 50), ("ren", 106)])
def test_the_models_have_the_published_size_and_give_their_state(name, not_trained):
    model = pde.observer(pde.ObserverProtocol(model=name), jr.key(0))
    free = pde.split(model)[0]
    assert sum(a.size for a in jax.tree.leaves(free)) == pde.PUBLISHED[name]["parameters"] - not_trained
    system, x = model.explicit(), jr.uniform(jr.key(1), (51,))
    np.testing.assert_array_equal(system.step(x, jnp.ones(2))[1], x)
    slow = np.linalg.eigvals(np.asarray(system.A))
    assert np.abs(slow.imag).max() < 1e-6 and slow.real.min() > 0.94 and slow.real.max() < 1


def reduced(protocol, losses):
    """The learning rate after these epochs, by the rule in words."""
    rate, best, waited = protocol.learning_rate, np.inf, 0
    for loss in losses:
        waited = 0 if loss < (1 - 1e-4) * best else waited + 1
        best = min(best, loss) if waited == 0 else best
        if waited == protocol.patience:
            rate, waited = max(protocol.factor * rate, protocol.least_rate), 0
    return rate


@pytest.mark.parametrize("name", ["r2dn", "ren"])
def test_a_short_training_lowers_the_loss_and_keeps_the_guarantee(name, tmp_path):
    protocol = pde.ObserverProtocol(model=name, **QUICK)
    model, scores = train(protocol, 0, tmp_path / "run", progress=False)
    losses = scores["training_loss"]
    assert len(losses) == 5 and losses[-1] < 0.5 * losses[0]
    assert scores["final_learning_rate"] == pytest.approx(reduced(protocol, losses))
    assert scores["certificate"]["holds"] and all(check["holds"] for check in scores["certificates"])
    assert scores["convergence"]["within_bound"] and 0 < scores["convergence"]["worst_ratio"] <= 1
    np.testing.assert_array_equal(model.core.C2, np.eye(51))
    # A finished run is read, not repeated.
    assert train(protocol, 0, tmp_path / "run", progress=False)[1] == scores
    with pytest.raises(RobustctlError, match="resumed with the settings"):
        train(dataclasses.replace(protocol, learning_rate=1e-4), 0, tmp_path / "run", progress=False)
    # The measure can fail: a rate that nothing proves is not kept.
    system, found, test = model.explicit(), rc.certify(model, prove=False), pde.published_test(protocol)
    false = dataclasses.replace(found, rate_found=0.5)
    assert not convergence(system, false, test, jr.key(0))["within_bound"]


def test_steps_are_scaled_as_the_plateau_says():
    protocol = pde.ObserverProtocol(**QUICK)
    optimizer = one_step_optimizer(protocol)
    params, slope = {"a": jnp.ones(3)}, {"a": jnp.asarray([1.0, -2.0, 3.0])}
    adam, plateau = optimizer.init(params)
    with jax.numpy_dtype_promotion("standard"):
        full, _ = optimizer.update(slope, (adam, plateau), params, value=jnp.ones(()))
        tenth, _ = optimizer.update(
            slope, (adam, plateau._replace(scale=jnp.asarray(0.1))), params, value=jnp.ones(())
        )
    np.testing.assert_allclose(full["a"], [-2e-3, 2e-3, -2e-3], rtol=1e-6)
    np.testing.assert_allclose(tenth["a"], 0.1 * full["a"], rtol=1e-12)


@pytest.mark.parametrize("name", ["model", "generator"])
def test_unknown_names_are_refused(name):
    with pytest.raises(rc.errors.RobustctlError, match=f"{name} must be one of .*, got 'none'"):
        pde.ObserverProtocol(**{name: "none"})


@pytest.mark.slow
def test_the_command_leaves_results_and_figures(tmp_path, capsys):
    command = [
        "pde",
        "--quick",
        "--seeds",
        "1",
        "--generator",
        "corrected",
        "--out",
        str(tmp_path),
    ]
    assert main(command) == 0
    assert str(tmp_path) in capsys.readouterr().out
    results = json.loads((tmp_path / "pde_r2dn_corrected.json").read_text())
    assert {"seed", "versions", "commit", "machine", "protocol", "published", "runs"} <= results.keys()
    assert results["runs"][0]["references"]["affine_fit"]["loss"] < results["runs"][0]["final_training_loss"]
    for figure in ("pde_r2dn_corrected.png", "pde_r2dn_corrected_field.png"):
        assert (tmp_path / figure).read_bytes().startswith(b"\x89PNG")
