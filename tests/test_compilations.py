"""Nothing is compiled twice: a model is built without compiling, and a second call finds its program."""

import jax
import jax.random as jr
import pytest

import robustctl as rc

from .compilations import count_compilations

SIZES = {"nu": 2, "nx": 7, "nv": 9, "ny": 3}
SLOW = rc.nn.long_memory
VIBRATING = rc.nn.resonances(0.5, 3.0, dt=0.05)

BUILDERS = {
    "ContractingR2DN": lambda key: rc.nn.ContractingR2DN(**SIZES, key=key),
    "ContractingR2DN long_memory": lambda key: rc.nn.ContractingR2DN(**SIZES, init=SLOW, key=key),
    "ContractingR2DN resonances": lambda key: rc.nn.ContractingR2DN(**SIZES, init=VIBRATING, key=key),
    "LipschitzR2DN": lambda key: rc.nn.LipschitzR2DN(**SIZES, gamma=3.0, train_gamma=True, key=key),
    "LipschitzR2DN long_memory": lambda key: rc.nn.LipschitzR2DN(**SIZES, gamma=3.0, init=SLOW, key=key),
    "DissipativeR2DN": lambda key: rc.nn.DissipativeR2DN(
        nu=2, nx=7, nv=9, ny=2, **rc.nn.passive(2), key=key
    ),
    "ContractingREN": lambda key: rc.nn.ContractingREN(**SIZES, key=key),
    "ContractingREN long_memory": lambda key: rc.nn.ContractingREN(**SIZES, init=SLOW, key=key),
    "LipschitzREN": lambda key: rc.nn.LipschitzREN(**SIZES, gamma=3.0, train_gamma=True, key=key),
    "LipschitzREN resonances": lambda key: rc.nn.LipschitzREN(**SIZES, gamma=3.0, init=VIBRATING, key=key),
    "DissipativeREN": lambda key: rc.nn.DissipativeREN(nu=2, nx=7, nv=9, ny=2, **rc.nn.passive(2), key=key),
    "StableLinear": lambda key: rc.nn.StableLinear(nu=2, nx=7, ny=3, init=SLOW, key=key),
    "LBDN": lambda key: rc.nn.LBDN(5, 4, (6, 7), key=key),
    "LipschitzStatic": lambda key: rc.nn.LipschitzStatic(nu=2, ny=3, gamma=2.0, key=key),
    "InnovationR2DN": lambda key: rc.nn.InnovationR2DN(**SIZES, nz=1, key=key),
    "CorrectedR2DN": lambda key: rc.nn.CorrectedR2DN(
        [[0.5]], [[1.0, 0.0]], [[1.0]] * 3, [[0.0] * 2] * 3, [[0.0]], [[0.0] * 3],
        core=rc.nn.ContractingR2DN(nu=3, nx=7, nv=9, ny=3, key=key),
    ),
    "StateObserver": lambda key: rc.nn.StateObserver(rc.nn.ContractingR2DN(**SIZES, key=key)),
    "GRU": lambda key: rc.nn.GRU(nu=2, nx=7, ny=3, key=key),
    "LSTM": lambda key: rc.nn.LSTM(nu=2, nx=7, ny=3, key=key),
}  # fmt: skip


@pytest.mark.parametrize("name", BUILDERS)
def test_building_a_model_compiles_nothing(name):
    key = jr.key(0)
    with count_compilations() as compiled:
        BUILDERS[name](key)
    assert compiled == []


@pytest.mark.parametrize("name", BUILDERS)
def test_a_model_built_under_vmap_is_the_one_built_alone(name):
    keys = jr.split(jr.key(3), 2)
    together = jax.vmap(lambda key: jax.tree.leaves(BUILDERS[name](key)))(keys)
    for k, key in enumerate(keys):
        for mine, leaf in zip(together, jax.tree.leaves(BUILDERS[name](key)), strict=True):
            assert leaf.dtype == mine.dtype
            assert (leaf == mine[k]).all()
