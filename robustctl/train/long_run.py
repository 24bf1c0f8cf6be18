"""A trained policy in runs longer than its episodes, where a slow instability shows."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from ..certificates.separation import Separation, separation
from ..checks import check_whole
from ..scenario import Scenario
from ..system import Parameterization, System, explicit_of

_REMEMBERED = 1e-2
"""Part of the first distance that counts as an initial state remembered: quantization and friction leave less."""


def long_run(
    policy: Parameterization | System,
    scenario: Scenario,
    *,
    horizon: int,
    samples: int = 5000,
    episodes: int = 4,
    key: PRNGKeyArray,
) -> str:
    """Run drawn episodes on, each from two initial states, and return in words what is wrong, empty where nothing is.

    ::

        fault = rc.train.long_run(fitted.policy, scenario, horizon=200, key=jr.key(1))

    Disturbances and references of an episode repeat from its end. A loop with a slow unstable mode tracks well in short episodes; here
    it diverges, or two trajectories under one input do not approach each other. It is a search: it proves nothing where it finds nothing.

    **Arguments:**

    - `policy`: what closes the loop.
    - `scenario`: draws the episodes.
    - `horizon`: samples of an episode.
    - `samples`: of a run.
    - `episodes`: number of runs, at least 2: each takes the initial state of the next as its second one.
    - `key`: of the draws.

    **Raises:** `RobustctlError` for counts that are not whole numbers in range.
    """
    check_whole(2, episodes=episodes)
    check_whole(8, samples=samples)
    check_whole(1, horizon=horizon)
    run = _runs(explicit_of(policy), scenario, horizon, samples, episodes, key)
    run = jax.tree.map(np.asarray, run)
    far, size, diverging = run.far[..., 1], run.size.max(axis=-1), run.diverging.any(axis=1)
    apart = run.apart[:, 1] & (far[:, 3] > _REMEMBERED * far[:, 0])
    if diverging.any():
        return (
            f"in {diverging.sum()} of {episodes} episodes of {samples} samples the states grow, to "
            f"{np.max(size[diverging, 3]):.3g}; the loop is unstable beyond the horizon of {horizon} samples that it was trained on: train "
            "with a longer horizon, or about a base controller"
        )
    if apart.any():
        return (
            f"in {apart.sum()} of {episodes} episodes of {samples} samples two initial states under one input stay "
            f"{np.max(far[apart, 3]):.3g} apart; the loop may be unstable, or has a state that is neither stable nor controlled"
        )
    return ""


@eqx.filter_jit
def _runs(system, scenario, horizon, samples, episodes, key) -> Separation:
    drawn = scenario.draw_batch(key, episodes, horizon)
    prepared = system.prepare()

    def one(episode, other):
        loop = scenario.loop(prepared, episode.plant)
        states = [scenario.initial(loop, x0) for x0 in (episode.x0, other)]
        x0s = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
        return separation(loop, episode.ws, x0s, samples)

    return jax.vmap(one)(drawn, jax.tree.map(lambda a: jnp.roll(a, -1, axis=0), drawn.x0))
