"""A known model corrected: certified whatever the weights, the prior itself at first, better than it once trained."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import robustctl as rc
from robustctl.errors import DataError, InvalidModelError
from robustctl.observers import for_observer, kalman_prior, simulate_log
from robustctl.plants import Imperfections, Sampled, TwoTanks

from .models import draw, rounded_down

DT = 5.0
STATES = ("true upper", "true lower")


def prior(rate=0.8, n=3, nu=2, ny=2):
    rng = np.random.default_rng(0)
    A = rng.normal(size=(n, n))
    return {
        "A": rate * A / np.abs(np.linalg.eigvals(A)).max(), "B": rng.normal(size=(n, nu)), "C": rng.normal(size=(ny, n)),
        "D": rng.normal(size=(ny, nu)), "a": rng.normal(size=n), "d": rng.normal(size=ny),
    }  # fmt: skip


def core(rate=1.0, dtype=jnp.float64):
    return rc.nn.ContractingR2DN(nu=5, nx=4, nv=5, ny=2, hidden=(6,), rate=rate, key=jr.key(0), dtype=dtype)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("scale", [None, 0.3, 1.0, 10.0, 100.0])
@pytest.mark.parametrize("rate", [1.0, 0.9])
def test_every_weight_is_certified_with_the_metric_that_comes_along(scale, rate, dtype):
    inner = core(rate, dtype)
    model = rc.nn.CorrectedR2DN(**prior(), core=inner if scale is None else draw(inner, jr.key(1), scale))
    found = rc.certify(model, prove=False)
    assert found.holds and found.rate == rounded_down(rate, dtype)
    np.testing.assert_array_equal(found.P, np.asarray(model.explicit().P, float))


def test_it_is_the_prior_and_the_core_one_after_the_other():
    given, inner = prior(), draw(core(), jr.key(2), 1.0)
    whole = rc.nn.CorrectedR2DN(**given, core=inner).explicit()
    us = jr.normal(jr.key(3), (30, 2))
    p, ps, zs = np.zeros(3), [], []
    for u in np.asarray(us):
        ps.append(p)
        zs.append(given["C"] @ p + given["D"] @ u + given["d"])
        p = given["A"] @ p + given["B"] @ u + given["a"]
    added = rc.rollout(inner.explicit(), jnp.concatenate([us, jnp.asarray(ps)], axis=1)).ys
    np.testing.assert_allclose(rc.rollout(whole, us).ys, np.asarray(zs) + np.asarray(added), rtol=1e-9)


def test_training_leaves_the_prior_alone():
    model = rc.nn.CorrectedR2DN(**prior(), core=core())
    slope = eqx.filter_jit(
        eqx.filter_grad(lambda m: jnp.sum(rc.rollout(m.explicit(), jnp.ones((9, 2))).ys ** 2))
    )
    slopes = slope(draw(model, jr.key(1), 0.5))
    assert not jax.tree.leaves([slopes.A, slopes.B, slopes.C, slopes.D, slopes.a, slopes.d, slopes.P])
    for path, leaf in jax.tree_util.tree_leaves_with_path(slopes):
        assert np.isfinite(leaf).all() and np.any(leaf != 0), jax.tree_util.keystr(path)


@pytest.mark.usefixtures("as_installed")
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"A": np.eye(3)}, "must forget faster than the core's rate 1"),
        ({"B": np.ones((3, 1))}, r"B must be finite and of shape \(3, 2\)"),
        ({"d": [np.nan, 0.0]}, "d must be finite"),
        ({"core": rc.nn.GRU(nu=5, nx=4, ny=2, key=jr.key(0))}, "must be a ContractingR2DN, got GRU"),
    ],
)
def test_a_prior_that_does_not_fit_is_refused(changes, said):
    with pytest.raises(InvalidModelError, match=said):
        rc.nn.CorrectedR2DN(**{**prior(), "core": core(), **changes})


# Two tanks whose upper level is not measured; the filter believes a larger outlet and a linear plant


@pytest.fixture(scope="module")
def tanks():
    def log(seeds, key):
        runs = [2.0 * rc.data.random_walk(250, step=0.15, low=-1.0, high=1.0, seed=k) for k in seeds]
        rig = Sampled(TwoTanks(), DT, Imperfections(noise=0.05))
        return for_observer(simulate_log(rig, runs, key=key), "lower", STATES)

    wrong = Sampled(TwoTanks(outlet=0.08), DT)
    filter = rc.classical.kalman(wrong, [0.05, 0.05], [0.05**2]).estimator
    return log(range(6), jr.key(0)), log((70, 71), jr.key(1)), filter


def score(parameterization, train, test):
    fitted = rc.train.FittedModel(
        parameterization, rc.train.ZeroState(), rc.data.Scaling.fit(train), train.dt, train.inputs, train.outputs,
        train.input_units, train.output_units,
    )  # fmt: skip
    return rc.simulate(fitted, test)


def test_a_quiet_correction_is_the_filter_itself(tanks):
    train, test, filter = tanks
    inner = rc.nn.quiet(rc.nn.ContractingR2DN(nu=4, nx=3, nv=4, ny=2, hidden=(6,), key=jr.key(0)), 1e-9)
    ours = score(rc.nn.CorrectedR2DN(**kalman_prior(filter, train), core=inner), train, test).y_hat[0]
    u, y = test.experiments[0].u[:, :1], test.experiments[0].u[:, 1:]
    x, theirs = filter.init_state(), []
    for t in range(40):
        x, z = filter.step(x, (jnp.asarray(u[t]), jnp.asarray(y[t])))
        theirs.append(z)
    np.testing.assert_allclose(ours[:40], theirs, rtol=1e-4)


def test_the_correction_makes_a_wrong_filter_right_and_keeps_the_certificate(tanks):
    train, test, filter = tanks
    inner = rc.nn.quiet(rc.nn.ContractingR2DN(nu=4, nx=3, nv=4, ny=2, hidden=(6,), rate=0.98, key=jr.key(0)))
    model = rc.nn.CorrectedR2DN(**kalman_prior(filter, train), core=inner)
    before = score(model, train, test).scores().nrmse
    fitted = rc.fit(
        model, train, washout=20, epochs=500, monitor=None, key=jr.key(1),
        optimizer=optax.adam(optax.cosine_decay_schedule(1e-2, 500)),
    )  # fmt: skip
    after = rc.simulate(fitted.model, test).scores().nrmse
    assert after[0] < before[0] / 3 and after[1] < before[1]
    assert rc.certify(fitted.model, prove=False).holds


def test_a_filter_of_another_plant_is_refused(tanks):
    train, _, filter = tanks
    with pytest.raises(DataError, match="states must name one of the filter's 2"):
        kalman_prior(filter, train, [0, 5])
    with pytest.raises(DataError, match="inputs must be 1 controls and 1 measured outputs"):
        kalman_prior(filter, rc.data.select(train, inputs=("pump",)))
