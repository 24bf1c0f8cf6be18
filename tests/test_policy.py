"""Policies trained in closed loop: the cost falls, the guarantee stays, hostile settings are refused."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from jaxtyping import Array

import robustctl as rc
from robustctl.errors import RobustctlError, RobustctlWarning
from robustctl.loops import PlantScenario
from robustctl.plants import Imperfections, Plant, Sampled, Signal, Task, parameter
from robustctl.problems.youla_feedback import YoulaProtocol, YoulaScenario, resonance
from robustctl.train import Adversary, Imitation, imitate

from .compilations import count_compilations
from .trainings import fit_policy


class Mass(Plant):
    states: ClassVar = (Signal("position", "m"), Signal("speed", "m/s"))
    controls: ClassVar = (Signal("force", "N", -3.0, 3.0),)
    disturbances: ClassVar = (Signal("push", "N"),)
    outputs: ClassVar = (Signal("position", "m"), Signal("speed", "m/s"))
    mass: Array = parameter(1.0, "kg")

    def rates(self, x, u, d):
        return jnp.stack([x[1], (u[0] + d[0]) / self.mass - 0.3 * x[0] - 0.2 * x[1]])


class Regulate(Task):
    def initial_state(self, key):
        return jr.uniform(key, (2,), minval=-1.0, maxval=1.0)

    def disturbance(self, key, samples):
        return 0.2 * jr.normal(key, (samples, 1))

    def cost(self, x, u, r):
        return jnp.sum(x**2) + 0.01 * jnp.sum(u**2)


SETTINGS = dict(horizon=40, segment=20, batch=16, progress=False, key=jr.key(0))
# One object: its functions are part of a compiled training.
ADAM = optax.adam(1e-2)


def make_scenario():
    plant = Mass()
    return PlantScenario(
        Regulate(plant), Sampled(plant, 0.1, Imperfections(saturate=True)), spread={"mass": 0.2}
    )


@pytest.fixture(scope="module")
def scenario():
    return make_scenario()


@pytest.fixture(scope="module")
def policy():
    return rc.nn.LipschitzR2DN(nu=2, nx=2, nv=4, ny=1, gamma=3.0, hidden=(6,), key=jr.key(1))


@pytest.fixture(scope="module")
def trained(scenario, policy):
    """One training shared by the tests, with what was seen at every tenth epoch."""
    seen = []
    fitted = fit_policy(
        policy, scenario, epochs=25, optimizer=ADAM, **SETTINGS,
        callback=lambda epoch, p: seen.append((epoch, rc.certify(p, prove=False).holds)),
    )  # fmt: skip
    return fitted, seen


def test_the_cost_of_new_episodes_falls(trained):
    fitted, _ = trained
    cost = fitted.history["validation"]
    assert fitted.stopped == "finished" and len(cost) == 25
    assert cost[fitted.best_epoch] == np.nanmin(cost) < 0.8 * cost[0]


def test_the_policy_is_certified_all_the_way(trained):
    assert trained[1] == [(0, True), (10, True), (20, True), (25, True)]


def test_the_same_key_trains_the_same_policy(trained, policy, scenario):
    again = fit_policy(policy, scenario, epochs=25, optimizer=ADAM, **SETTINGS)
    for a, b in zip(
        *(jax.tree.leaves(eqx.filter(p, eqx.is_array)) for p in (trained[0].policy, again.policy)),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("problem", ["plant", "youla"])
def test_an_adversary_makes_episodes_harder(policy, scenario, problem):
    if problem == "youla":  # whose disturbance is all that acts, not a part of it
        scenario = YoulaScenario()
        policy = rc.nn.ContractingR2DN(nu=1, nx=3, nv=4, ny=1, hidden=(5,), key=jr.key(0))
    costs = {}
    for name, adversary in (("none", None), ("some", Adversary(0.5, steps=2))):
        fitted = fit_policy(policy, scenario, epochs=1, adversary=adversary, **SETTINGS)
        costs[name] = fitted.history["loss"][0]
    assert costs["some"] > 1.05 * costs["none"]


def test_a_second_training_compiles_nothing():
    """With the default optimizer, whatever the numbers."""
    given = {name: value for name, value in SETTINGS.items() if name not in ("progress", "key")}
    for seed in range(2):
        own = rc.nn.LipschitzR2DN(nu=2, nx=2, nv=4, ny=1, gamma=3.0 + seed, hidden=(6,), key=jr.key(seed))
        with count_compilations() as compiled:
            rc.fit_policy(own, make_scenario(), epochs=1, monitor=None, key=jr.key(seed), **given)
    assert compiled == []


def test_a_cost_that_is_not_finite_keeps_the_last_good_policy(policy, scenario):
    broken = eqx.tree_at(lambda s: s.task, scenario, Broken(scenario.task.plant))
    with pytest.warns(RobustctlWarning, match="gradient step 0"):
        fitted = fit_policy(policy, broken, epochs=20, **SETTINGS)
    assert (fitted.stopped, fitted.trouble.step, fitted.trouble.array) == ("not finite", 0, "the loss")
    for a, b in zip(
        *(jax.tree.leaves(eqx.filter(p, eqx.is_array)) for p in (fitted.policy, policy)), strict=True
    ):
        np.testing.assert_array_equal(a, b)


class Broken(Regulate):
    def cost(self, x, u, r):
        return jnp.sum(jnp.log(x - 1e3))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(horizon=0), "horizon must be"),
        (dict(segment=7), "segment must divide"),
        (dict(batch=0), "batch must be"),
        (dict(epochs=-1), "epochs must be"),
    ],
)
def test_settings_out_of_range_are_refused(wrong, message, policy, scenario):
    with pytest.raises(RobustctlError, match=message):
        fit_policy(policy, scenario, **(dict(epochs=2) | SETTINGS | wrong))


def test_a_policy_of_the_wrong_width_is_refused(scenario):
    narrow = rc.nn.ContractingR2DN(nu=1, nx=2, nv=2, ny=1, hidden=(3,), key=jr.key(0))
    with pytest.raises(RobustctlError, match="must fit the scenario's loop"):
        fit_policy(narrow, scenario, epochs=1, **SETTINGS)


def test_a_lipschitz_policy_imitates_a_saturating_expert(scenario, tmp_path):
    class Expert(rc.System):
        def init_state(self):
            return ()

        def step(self, x, u):
            return x, jnp.clip(jnp.array([[-1.0, -1.5]]) @ u, -0.8, 0.8)

    student = rc.nn.LipschitzStatic(nu=2, ny=1, gamma=5.0, hidden=(16, 16), key=jr.key(4))
    settings = dict(epochs=300, optimizer=ADAM, monitor=None, key=jr.key(5))
    fitted = imitate(
        student, Imitation(Expert(), scenario, 40, episodes=8, rounds=2), run=tmp_path, **settings
    )
    assert {path.name for path in tmp_path.iterdir()} == {"round_0", "round_1"}
    found = rc.certify(fitted.model, prove=False)
    assert found.holds and np.isfinite(found.gamma)
    # A feedback loop takes no policy with another sample time than its plant's.
    assert fitted.model.dt == 0.1
    ys = jr.uniform(jr.key(6), (200, 2), minval=-1.0, maxval=1.0)
    wanted, got = rc.rollout(Expert(), ys).ys, rc.rollout(fitted.model.explicit(), ys).ys
    assert jnp.sqrt(jnp.mean((got - wanted) ** 2)) < 0.2 * jnp.std(wanted)
    with pytest.raises(RobustctlError, match="rounds must be"):
        Imitation(Expert(), scenario, horizon=40, rounds=0)


def test_the_benchmark_loop_is_its_difference_equation():
    """z, u and cost of problem 3 in a few lines of NumPy."""
    scenario = YoulaScenario()
    q = rc.nn.ContractingR2DN(nu=1, nx=2, nv=3, ny=1, hidden=(4,), key=jr.key(2)).explicit()
    d = np.asarray(scenario.draw(jr.key(1), 120).ws)
    assert d.shape == (120, 1) and np.abs(d).max() <= 10 and len(np.unique(d)) == 3
    run = rc.rollout(scenario.loop(q, ()), jnp.asarray(d)).ys

    def resonate(u):
        y = np.zeros(len(u) + 2)
        for t in range(len(u)):
            y[t + 2] = 1.6 * np.cos(0.2 * np.pi) * y[t + 1] - 0.64 * y[t] + 0.3 * u[t]
        return y[: len(u)]

    innovation = -resonate(d[:, 0])
    u = np.clip(np.asarray(rc.rollout(q, jnp.asarray(innovation[:, None])).ys)[:, 0], -5, 5)
    np.testing.assert_allclose(run.u[:, 0], u, atol=1e-9)
    np.testing.assert_allclose(run.z[:, 0], resonate(d[:, 0]) + resonate(u), atol=1e-9)
    cost = np.mean(np.abs(run.z) + 1e-4 * np.asarray(run.u) ** 2)
    np.testing.assert_allclose(jnp.mean(jax.vmap(scenario.cost)(run, jnp.asarray(d))), cost, rtol=1e-12)


def test_the_benchmark_plant_has_the_published_poles():
    poles = np.linalg.eigvals(np.asarray(resonance(1.0).A))
    np.testing.assert_allclose(sorted(np.angle(poles)), [-0.2 * np.pi, 0.2 * np.pi])
    np.testing.assert_allclose(np.abs(poles), 0.8)


def test_the_benchmark_schedule_falls_at_sixty_epochs():
    optimizer = YoulaProtocol().optimizer()
    free = {"a": jnp.ones(1)}
    state = optimizer.init(free)
    sizes = []
    with jax.numpy_dtype_promotion("standard"):
        for step in range(242):
            updates, state = optimizer.update({"a": jnp.ones(1)}, state, free)
            if step in (239, 240):
                sizes.append(abs(float(updates["a"][0])))
    np.testing.assert_allclose(sizes, [5e-3, 5e-4], rtol=1e-4)
