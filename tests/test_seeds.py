"""Many seeds as one vmapped training: each ends as it would alone."""

import re

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import robustctl as rc
from robustctl.errors import RobustctlError, RobustctlWarning
from robustctl.problems.youla_feedback import YoulaScenario

from .compilations import count_compilations
from .trainings import fit, fit_seeds

KEYS = jr.split(jr.key(4), 3)


def record(seed=0):
    u = np.random.default_rng(seed).normal(size=(4, 20))
    y = [np.convolve(e, [0.0, 1.0, 0.5])[:20] for e in u]
    return rc.data.from_arrays(list(u), y, 0.1)


def build(key, nx=2):
    return rc.nn.ContractingR2DN(nu=1, nx=nx, nv=3, ny=1, hidden=(4,), init=rc.nn.long_memory, key=key)


SETTINGS = dict(
    validation=record(1), segment=8, batch_size=1, patience=2, epochs=12,
    optimizer=optax.adam(0.1), progress=False,
)  # fmt: skip


@pytest.fixture(scope="module")
def together():
    return fit_seeds(build, record(), keys=KEYS, **SETTINGS)


def alone(k):
    begin, key = jr.split(KEYS[k])
    return fit(build(begin), record(), key=key, **SETTINGS)


def numbers(fitted):
    model = fitted.model if isinstance(fitted, rc.train.Fit) else fitted.policy
    return jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array))


def same(ours, theirs, rtol=1e-9):
    assert (ours.stopped, ours.best_epoch) == (theirs.stopped, theirs.best_epoch)
    for name, column in theirs.history.items():
        np.testing.assert_allclose(ours.history[name], column, rtol=rtol, err_msg=name)
    for a, b in zip(numbers(ours), numbers(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max())


@pytest.mark.parametrize("k", range(len(KEYS)))
def test_each_seed_ends_as_it_would_alone(together, k):
    same(together[k], alone(k))


def test_seeds_stop_at_epochs_of_their_own(together):
    """Without it the test above would not see a stopped seed that goes on."""
    assert len({len(fitted.history["loss"]) for fitted in together}) > 1
    assert "patience" in {fitted.stopped for fitted in together}


def test_seeds_differ(together):
    first, second = together[:2]
    assert not np.isclose(first.history["loss"][0], second.history["loss"][0])


def is_first(key):
    return bool(np.array_equal(jr.key_data(key), jr.key_data(jr.split(KEYS[0])[0])))


def spoilt(key):
    """The first seed's model has a number that is not one."""
    model = build(key)
    return eqx.tree_at(lambda m: m.core.by, model, jnp.where(is_first(key), jnp.nan, model.core.by))


def test_a_seed_that_blows_up_does_not_touch_the_others(together, monkeypatch):
    monkeypatch.setattr(rc.train.Fit, "caution", property(lambda fitted: f"kept {fitted.best_epoch}"))
    with pytest.warns(RobustctlWarning) as told:
        fits = fit_seeds(spoilt, record(), keys=KEYS, **SETTINGS)
    texts = [str(warning.message) for warning in told]
    assert re.search("seed 0: .*gradient step 0", "\n".join(texts))
    assert all(f"seed {k}: kept {fitted.best_epoch}" in texts for k, fitted in enumerate(fits))
    assert (fits[0].stopped, fits[0].trouble.fatal) == ("not finite", True)
    assert [fitted.trouble for fitted in fits[1:]] == [None, None]
    for k in (1, 2):
        same(fits[k], together[k], rtol=1e-12)


def test_policies_too():
    def build(key):
        return rc.nn.StableLinear(nu=1, nx=2, ny=1, key=key)

    settings = dict(horizon=20, segment=10, batch=3, epochs=3, monitor=None)
    fits = rc.train.fit_policy_seeds(build, YoulaScenario(hold=5), keys=KEYS[:2], **settings)
    for key, fitted in zip(KEYS, fits, strict=False):
        begin, key = jr.split(key)
        same(fitted, rc.fit_policy(build(begin), YoulaScenario(hold=5), key=key, **settings))
    with count_compilations() as compiled:
        others = jr.split(jr.key(5), 2)
        rc.train.fit_policy_seeds(build, YoulaScenario(hold=5), keys=others, **settings)
    assert compiled == [], "a second training of equal shapes and settings"


def test_side_by_side_as_on_an_accelerator(together, monkeypatch):
    """There the seeds are vmapped; the function is traced anew, since the backend is no part of its cache's key."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    eqx.clear_caches()
    try:
        fits = fit_seeds(build, record(), keys=KEYS, **SETTINGS)
    finally:
        eqx.clear_caches()
    for k in range(len(KEYS)):
        same(fits[k], together[k])


def test_gradients_of_many_models_are_those_of_each():
    """Weights mapped over outside the batch of sequences, inside it, and a sequence for each model."""
    models = [build(key) for key in KEYS]
    stacked = jax.tree.map(lambda *a: jnp.stack(a) if eqx.is_inexact_array(a[0]) else a[0], *models)
    free, fixed = eqx.partition(stacked, eqx.is_inexact_array)
    us = jr.normal(jr.key(0), (3, 9, 1))

    def loss(free, u):
        return jnp.mean(rc.rollout(eqx.combine(free, fixed).explicit(), u).ys ** 2)

    def batch(free):
        return jnp.mean(jax.vmap(lambda u: loss(free, u))(us))

    inside = jax.grad(lambda f: jnp.mean(jax.vmap(lambda u: jnp.sum(jax.vmap(lambda f: loss(f, u))(f)))(us)))
    found = {"outside": jax.jit(jax.vmap(jax.grad(batch)))(free), "inside": jax.jit(inside)(free)}
    single, of_all, of_one = (
        jax.jit(jax.vmap(jax.grad(loss)))(free, us),
        jax.jit(jax.grad(batch)),
        jax.jit(jax.grad(loss)),
    )
    for k in range(len(models)):
        one = jax.tree.map(lambda a, k=k: a[k], free)
        for slope in found.values():
            close(jax.tree.map(lambda a, k=k: a[k], slope), of_all(one))
        close(jax.tree.map(lambda a, k=k: a[k], single), of_one(one, us[k]))


def close(ours, theirs):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-11 * (1 + np.abs(b).max()))


def test_watchers_see_the_mean_of_those_that_train(together):
    class Rows(list):
        def epoch(self, number, row):
            self.append((number, row["validation"]))

        def close(self, stopped):
            self.closed = stopped

    rows = Rows()
    fit_seeds(build, record(), keys=KEYS, watchers=[rows], **SETTINGS)
    longest = max(len(fitted.history["loss"]) for fitted in together)
    assert [number for number, _ in rows] == list(range(longest))
    for number, seen in rows:
        left = [f.history["validation"][number] for f in together if len(f.history["loss"]) > number]
        np.testing.assert_allclose(seen, np.mean(left))
    assert "patience" in rows.closed


@pytest.mark.parametrize("keys", [[], jr.split(jr.key(0), 0), jr.key(0)])
def test_keys_are_one_a_seed(keys, as_installed):
    with pytest.raises(RobustctlError, match="one key per seed"):
        fit_seeds(build, record(), keys=keys, **SETTINGS)


def sizes(key):
    return build(key, nx=2 + is_first(key))


def functions(key):
    return rc.nn.ContractingR2DN(nu=1, nx=2, nv=3, ny=1, activation=lambda x: jax.nn.relu(x), key=key)


@pytest.mark.parametrize("wrong", [sizes, functions])
def test_models_of_other_shapes_are_refused(wrong):
    with pytest.raises(RobustctlError, match="same model for every key"):
        fit_seeds(wrong, record(), keys=KEYS[:2], **SETTINGS)


def test_devices_divide_the_seeds():
    with pytest.raises(RobustctlError, match="the number of keys must be a multiple of the 2 devices"):
        fit_seeds(build, record(), keys=KEYS, devices=2, **SETTINGS)


def test_settings_are_checked_as_for_one():
    with pytest.raises(RobustctlError, match="segment"):
        fit_seeds(build, record(), keys=KEYS, **(SETTINGS | dict(segment=0)))
    with pytest.raises(TypeError, match="run"):
        rc.train.fit_seeds(build, record(), keys=KEYS, run="folder")
