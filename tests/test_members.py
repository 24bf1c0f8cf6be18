"""What an ensemble trains: its models' arrays as matrices and back, and the rates at which they learn."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import robustctl as rc
from robustctl.identify.ensemble import separate_rates
from robustctl.identify.members import arrays_of, flattened, members_of, stacked


def models():
    return [rc.nn.ContractingR2DN(nu=1, nx=2, nv=3, ny=1, hidden=(4,), key=jr.key(k)) for k in range(2)]


def test_matrices_hold_every_array_once_and_give_them_back():
    made = models()
    arrays, fixed = eqx.partition(stacked(made), eqx.is_inexact_array)
    trained, places = flattened(arrays, jnp.zeros((2, 1, 2)))
    size = sum(a.size for a in jax.tree.leaves(eqx.filter(made[0], eqx.is_inexact_array)))
    assert trained.linear.shape[1] + trained.network.shape[1] == size
    core = made[1].core
    linear = ("X", "p", "Y", "B2", "C2", "D22")
    assert trained.linear.shape[1] == sum(getattr(core, name).size for name in linear)
    for given, back in zip(made, members_of(eqx.combine(arrays_of(trained, places), fixed)), strict=True):
        assert eqx.tree_equal(given, back)
    assert flattened(arrays, jnp.zeros((2, 1, 2)))[1] == places, "equal places compile once"


def test_linear_arrays_take_a_share_of_each_step():
    arrays = eqx.filter(stacked(models()), eqx.is_inexact_array)
    trained, _ = flattened(arrays, jnp.zeros((2, 1, 2)))
    rates = separate_rates(0.1)
    with jax.numpy_dtype_promotion("standard"):
        step, _ = rates.update(jax.tree.map(jnp.ones_like, trained), rates.init(trained), trained)
    np.testing.assert_allclose(step.linear, 0.1 * step.network[0, 0], rtol=1e-6)
    np.testing.assert_allclose(step.x0, step.network[0, 0], rtol=1e-6)
