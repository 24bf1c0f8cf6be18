"""The average of models: its parts' mean, with the guarantee that follows from theirs."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import robustctl as rc
from robustctl.errors import InvalidModelError

from .exact import proves
from .models import draw


def lipschitz(seed, gamma=2.0, nx=2, cls=rc.nn.LipschitzR2DN, dtype=jnp.float64, **kw):
    kw = {"hidden": (4,)} | kw if cls is rc.nn.LipschitzR2DN else kw
    model = cls(nu=2, nx=nx, nv=3, ny=2, gamma=gamma, key=jr.key(seed), dtype=dtype, **kw)
    return draw(model, jr.key(seed), 1.0)


@pytest.fixture(scope="module")
def average():
    """Two R2DN of unlike sizes and a REN."""
    return rc.nn.Average([lipschitz(0), lipschitz(1, nx=3, rate=0.9), lipschitz(2, cls=rc.nn.LipschitzREN)])


def test_its_output_is_the_mean_of_its_members(average):
    us = jr.normal(jr.key(9), (20, 2))
    each = [np.asarray(rc.rollout(member.explicit(), us).ys) for member in average.members]
    np.testing.assert_allclose(rc.rollout(average.explicit(), us).ys, np.mean(each, axis=0), atol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_it_promises_the_slowest_rate_and_the_common_gain(dtype):
    members = [lipschitz(k, rate=rate, dtype=dtype) for k, rate in enumerate((0.5, 0.75))]
    found = rc.certify(rc.nn.Average(members), prove=False)
    assert found.holds and found.gamma == pytest.approx(2.0, rel=1e-6) and found.rate == 0.75
    systems = [member.explicit() for member in members]
    assert all(proves(system, rc.certify(system, prove=False)) for system in systems)


def test_of_unlike_gains_contraction_alone_is_promised_and_a_gain_is_found():
    members = [lipschitz(0, gamma=1.0), lipschitz(1, gamma=3.0)]
    found = rc.certify(rc.nn.Average(members), seconds=20.0)
    assert found.holds and found.promised_gamma is None
    # |mean| <= mean of the gains
    assert found.gamma is not None and found.gamma <= 2.0 * 1.01


def test_with_a_member_without_a_guarantee_it_has_none(average):
    gated = rc.nn.LSTM(nu=2, nx=2, ny=2, key=jr.key(0))
    both = rc.nn.Average([average.members[0], gated])
    assert both.explicit().lft() is None and not rc.certify(both, prove=False).holds
    us = jnp.ones((5, 2))
    each = [rc.rollout(member.explicit(), us).ys for member in both.members]
    np.testing.assert_allclose(rc.rollout(both.explicit(), us).ys, (each[0] + each[1]) / 2, atol=1e-12)


def test_it_is_saved_and_loaded_with_its_certificate(average, tmp_path):
    rc.save(tmp_path / "average.safetensors", average)
    again = rc.load(tmp_path / "average.safetensors")
    assert jax.tree.all(jax.tree.map(np.array_equal, average, again)) and "3 LipschitzR2DN" in again.label


def test_its_step_in_numpy_is_its_step(average):
    pair = rc.nn.Average(average.members[:2]).explicit()
    (step, x), us = rc.nn.numpy_step(pair), np.asarray(jr.normal(jr.key(3), (10, 2)))
    ys = []
    for u in us:
        x, y = step(x, u)
        ys.append(y)
    run = rc.rollout(pair, us)
    np.testing.assert_allclose(ys, run.ys, atol=1e-12)
    np.testing.assert_allclose(x, run.x_final, atol=1e-12)


def test_a_quiet_average_is_that_of_quiet_members(average):
    us, members = jnp.ones((8, 2)), average.members[:2]
    quiet = rc.rollout(rc.nn.quiet(rc.nn.Average(members), 1e-3).explicit(), us).ys
    each = [rc.rollout(rc.nn.quiet(member, 1e-3).explicit(), us).ys for member in members]
    np.testing.assert_allclose(quiet, (each[0] + each[1]) / 2, atol=1e-12)


@pytest.mark.usefixtures("as_installed")
@pytest.mark.parametrize(
    "members",
    [
        [],
        [rc.nn.LBDN(2, 2, (3,), key=jr.key(0))],
        ["model"],
        [rc.nn.GRU(nu=n, nx=2, ny=2, key=jr.key(0)) for n in (1, 2)],
        [lipschitz(0).explicit()],
    ],
    ids=["none", "network", "text", "unlike", "explicit"],
)
def test_members_that_do_not_fit_are_refused(members):
    with pytest.raises(
        InvalidModelError, match="members of an average must be one or more parameterizations of systems"
    ):
        rc.nn.Average(members)
