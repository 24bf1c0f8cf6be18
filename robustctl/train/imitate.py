"""Imitate an expert, an MPC or LQR say, by a policy with a guarantee."""

from pathlib import Path

import jax
import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray

from ..data import Record, from_arrays
from ..errors import RobustctlError
from ..runs.run_folder import Run, inside
from ..scenario import Episode, Scenario
from ..system import Parameterization, System
from ..trajectory import rollout
from .fit import Fit, fit


def imitate(
    parameterization: Parameterization,
    expert: System,
    scenario: Scenario,
    *,
    horizon: int,
    episodes: int = 32,
    rounds: int = 3,
    run: Run | str | Path | None = None,
    key: PRNGKeyArray,
    **settings,
) -> Fit:
    """Fit a policy to what an expert does from the same outputs, on episodes that the policy itself visits.

    ::

        min over free arrays   mean |policy(y) - expert(y)|^2,    y from loops with the expert, then with the policy

    The first round visits the expert's own loops; each further one adds loops of the policy fitted so far,
    labeled with what the expert would have done, so that the policy learns to come back from its own
    errors. Source: Ross, Gordon, Bagnell, "A reduction of imitation learning and structured prediction to
    no-regret online learning" (DAgger), AISTATS 2011, Algorithm 3.1 with beta = 0 after the first round.

    A log of measured outputs and an expert's controls needs no loop: `fit` takes it as a record with the outputs for
    inputs.

    **Arguments:** `parameterization`: a policy, `LipschitzStatic` or a recurrent one, from outputs to controls;
    `expert`: any system from outputs to controls; `scenario`: its loops must give outputs with fields `y` and
    `u`, as `Feedback` does; `run`: folder that each round has a run's folder in, `round_0` and so on; `settings`:
    of `fit`, such as `resume`.

    **Raises:** `RobustctlError` for `horizon`, `episodes` or `rounds` below 1 and for loops that leave finite
    numbers; what `fit` raises.
    """
    for name, value in (("horizon", horizon), ("episodes", episodes), ("rounds", rounds)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise RobustctlError(f"{name} must be a whole number of at least 1, got {value!r}")
    draw_key, fit_key = jr.split(key)
    seen, done, driver = [], [], expert
    fitted: Fit | None = None
    for k in range(rounds):
        batch = scenario.draw_batch(jr.fold_in(draw_key, k), episodes, horizon)
        y, u = jax.jit(lambda batch, driver: _visit(scenario, driver, expert, batch))(batch, driver)
        _check_finite(y, u, k)
        seen += list(np.asarray(y, float))
        done += list(np.asarray(u, float))
        kept = None if run is None else inside(run, f"round_{k}")
        fitted = fit(parameterization, _record(seen, done), run=kept, key=jr.fold_in(fit_key, k), **settings)
        driver = fitted.model.explicit()
        parameterization = fitted.model.parameterization
    assert fitted is not None
    return fitted


def _visit(scenario: Scenario, driver: System, expert: System, batch: Episode):
    """Outputs along loops that `driver` closes, and what the expert does when it reads them."""

    def one(episode: Episode):
        loop = scenario.loop(driver, episode.plant)
        y = rollout(loop, episode.ws, scenario.initial(loop, episode.x0)).ys.y
        return y, rollout(expert, y).ys

    return jax.vmap(one)(batch)


def _record(seen: list, done: list) -> Record:
    """One sample is one step: the time axis of a policy has no unit here."""
    return from_arrays(seen, done, 1.0, name="expert")


def _check_finite(y, u, k: int) -> None:
    if not (np.isfinite(y).all() and np.isfinite(u).all()):
        who = "the expert's" if k == 0 else f"the policy's (round {k})"
        raise RobustctlError(
            f"{who} loop must stay finite, got numbers that are not; use a shorter horizon, smaller initial states or "
            "more epochs a round"
        )
