"""One sample in NumPy is one sample in JAX."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import robustctl as rc
from robustctl.errors import InvalidModelError

from .models import draw


@pytest.mark.parametrize("name", rc.nn.ACTIVATIONS)
def test_numpy_and_jax_agree_for_every_activation(name):
    model = rc.nn.LipschitzR2DN(
        nu=2, nx=4, nv=5, ny=3, gamma=2.0, hidden=(6, 5), activation=rc.nn.ACTIVATIONS[name], key=jr.key(0), dtype=jnp.float64
    )  # fmt: skip
    system = draw(model, jr.key(1), 1.0).explicit()
    us = np.asarray(jr.normal(jr.key(2), (30, 2)))
    for each in (
        system,
        rc.Scaled(system, *(jnp.asarray(a) for a in ([1.0, 2.0], [3.0, 0.5], [1.0, 0, 0], [2.0, 1, 4]))),
    ):
        (step, x), run, ys = rc.nn.numpy_step(each), rc.rollout(each, us), []
        for u in us:
            x, y = step(x, u)
            ys.append(y)
        np.testing.assert_allclose(ys, run.ys, atol=1e-12)
        np.testing.assert_allclose(x, run.x_final, atol=1e-12)


def test_it_keeps_single_precision():
    model = rc.nn.ContractingR2DN(nu=1, nx=2, nv=3, ny=1, hidden=(4,), key=jr.key(0), dtype=jnp.float32)
    step, x = rc.nn.numpy_step(model.explicit())
    x, y = step(x, np.ones(1, np.float32))
    assert x.dtype == y.dtype == np.float32


def test_too_few_inputs_are_not_repeated():
    model = rc.Rescaled(
        rc.nn.ContractingR2DN(nu=2, nx=2, nv=2, ny=1, hidden=(3,), key=jr.key(0)), (1.0, 2.0), (1.0,)
    )
    step, x = rc.nn.numpy_step(model.explicit())
    with pytest.raises(InvalidModelError, match=r"an array of shape \(2,\), got shape \(1,\)"):
        step(x, np.ones(1))


def test_what_numpy_cannot_step_is_refused():
    with pytest.raises(InvalidModelError, match="explicit R2DN with a hidden layer, got GatedSystem"):
        rc.nn.numpy_step(rc.nn.GRU(nu=1, nx=2, ny=1, key=jr.key(0)).explicit())
    model = rc.nn.ContractingR2DN(
        nu=1, nx=2, nv=3, ny=1, hidden=(4,), activation=lambda z: jax.nn.relu(z) / 2, key=jr.key(0)
    )
    with pytest.raises(InvalidModelError, match="activation must be one of relu"):
        rc.nn.numpy_step(model.explicit())
