"""A second training with equal shapes and settings compiles nothing, whatever its numbers.

The same of policies is asked where these are trained anyhow: `test_policy.py` and `test_seeds.py`.
"""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import robustctl as rc
from robustctl.identify.recipe import Recipe, identify
from robustctl.loops import PlantScenario
from robustctl.plants import Sampled

from .compilations import count_compilations
from .test_policy import Mass, Regulate


def record(seed):
    u = np.random.default_rng(seed).normal(size=(4, 20))
    y = [np.convolve(e, [0.0, 1.0, 0.5])[:20] for e in u]
    return rc.data.from_arrays(list(u), y, 0.1)


def model(key):
    return rc.nn.ContractingR2DN(nu=1, nx=2, nv=2, ny=1, hidden=(3,), key=key)


def policy(key):
    return rc.nn.ContractingR2DN(nu=2, nx=2, nv=2, ny=1, hidden=(3,), key=key)


def scenario():
    plant = Mass()
    return PlantScenario(Regulate(plant), Sampled(plant, 0.1), spread={"mass": 0.2})


class Expert(rc.System):
    K: jax.Array

    def init_state(self):
        return ()

    def step(self, x, u):
        return x, self.K @ u


def fit(seed):
    rc.fit(model(jr.key(seed)), record(seed), epochs=5, monitor=None, key=jr.key(seed))


def fit_with_all_settings(seed, folder=None):
    problem = rc.train.Identification(
        record(seed), validation=record(seed + 1), initial=rc.train.warm_up(2, width=3), washout=1, segment=9, batch_size=2
    )  # fmt: skip
    monitor = rc.runs.Monitor(progress=False, callback=lambda done, model: 0.1, every=2)
    rc.train.train(
        problem, model(jr.key(seed)), epochs=5, patience=3 + seed, monitor=monitor, key=jr.key(seed)
    )


def fit_seeds(seed):
    keys = jr.split(jr.key(seed), 2)
    rc.train.fit_seeds(model, record(seed), keys=keys, validation=record(9), epochs=4, monitor=None)


def test_rounds_of_imitation_after_the_second_compile_nothing():
    """The first two differ in who drives the loop: the expert, then the policy."""
    compiled = []

    class Rounds:
        """Counts what each round compiles; a watcher is closed once a round."""

        def epoch(self, number, metrics):
            pass

        def close(self, stopped):
            compiled.append(len(counted))

    expert, monitor = Expert(-jnp.ones((1, 2))), rc.runs.Monitor([Rounds()], progress=False)
    imitation = rc.train.Imitation(expert, scenario(), horizon=7, episodes=2, rounds=4)
    with count_compilations() as counted:
        rc.train.imitate(policy(jr.key(0)), imitation, epochs=2, monitor=monitor, key=jr.key(0))
    assert len(compiled) == 4 and compiled[1:] == [compiled[1]] * 3
    other = rc.train.Imitation(Expert(-2 * jnp.ones((1, 2))), scenario(), horizon=7, episodes=2, rounds=4)
    with count_compilations() as counted:
        rc.train.imitate(policy(jr.key(1)), other, epochs=2, monitor=monitor, key=jr.key(1))
    assert counted == [], "a second imitation of another expert"


def identify_by_recipe(seed):
    recipe = Recipe(nx=2, nv=2, hidden=(3,), warm_up=3, epochs=4, seed=seed)
    identify(record(seed), recipe, monitor=None)


TRAININGS = [fit, fit_with_all_settings, fit_seeds, identify_by_recipe]


@pytest.mark.parametrize("train", TRAININGS, ids=lambda train: train.__name__)
def test_a_second_training_compiles_nothing(train):
    train(0)
    with count_compilations() as compiled:
        train(1)
    assert compiled == []


def test_another_number_of_epochs_compiles_nothing():
    """The history's length is part of the program, so it is one for all but very long trainings."""
    problem = rc.train.Identification(record(0), validation=record(9))

    def train(epochs):
        rc.train.train(problem, model(jr.key(0)), epochs=epochs, monitor=None, key=jr.key(0))
        rc.train.train_seeds(problem, model, keys=jr.split(jr.key(0)), epochs=epochs, monitor=None)

    train(3)
    with count_compilations() as compiled:
        train(5)
    assert compiled == []


def test_checkpoints_and_resuming_compile_nothing_for_other_numbers_of_epochs(tmp_path):
    """What is cut out of a history is cut by NumPy: JAX would compile a slice for each length."""

    def train(folder, first):
        for epochs in (first, 7):
            run = rc.runs.Run(folder, resume=True, checkpoint_epochs=first)
            rc.fit(model(jr.key(0)), record(0), epochs=epochs, run=run, monitor=None, key=jr.key(0))

    train(tmp_path / "a", 2)
    rc.fit(model(jr.key(0)), record(0), epochs=5, monitor=None, key=jr.key(0))
    with count_compilations() as compiled:
        train(tmp_path / "b", 5)
    assert compiled == []
