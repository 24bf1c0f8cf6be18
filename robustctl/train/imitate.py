"""Imitate an expert, for example an MPC or LQR, by a policy with a guarantee."""

import dataclasses
from pathlib import Path

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
import optax
from jaxtyping import PRNGKeyArray

from ..checks import check_whole, renamed
from ..data import Record, Scaling, from_arrays
from ..errors import RobustctlError
from ..runs.monitor import SHOWN, Monitor
from ..runs.run_folder import Run, inside
from ..scenario import Episode, Scenario
from ..system import Parameterization, System
from ..trajectory import rollout
from .demonstrations import Demonstrations, check_consistent, in_parallel, stateless
from .fit import IDENTIFICATION
from .identification import Fit, Identification
from .policy import draw_episodes
from .training import RENAMED, train


@renamed()
@dataclasses.dataclass(frozen=True)
class Imitation:
    """What `imitate` learns from: an expert's controls on episodes of a scenario, visited in rounds.

    **Arguments:**

    - `expert`: any system from outputs to controls.
    - `scenario`: its loops must give outputs with fields `y` and `u`, as `Feedback` does.
    - `horizon`: samples of an episode.
    - `episodes`: how many each round adds.
    - `rounds`: the first visits the expert's own loops, each further one those of the policy fitted so far.

    **Raises:** `RobustctlError` for `horizon`, `episodes` or `rounds` below 1.
    """

    expert: System
    scenario: Scenario
    horizon: int
    episodes: int = 32
    rounds: int = 3

    def __post_init__(self):
        """Refuse settings out of range."""
        check_whole(1, horizon=self.horizon, episodes=self.episodes, rounds=self.rounds)


@renamed(
    **RENAMED, **IDENTIFICATION,
    **{name: f"rc.train.Imitation(expert, scenario, {name}=..., ...)" for name in ("horizon", "episodes", "rounds")},
)  # fmt: skip
def imitate(
    parameterization: Parameterization,
    imitation: Imitation | Demonstrations,
    *,
    epochs: int = 500,
    optimizer: optax.GradientTransformation | None = None,
    run: Run | str | Path | None = None,
    monitor: Monitor | None = SHOWN,
    key: PRNGKeyArray,
) -> Fit:
    """Fit a policy to what an expert does from the same outputs, on episodes that the policy visits or on records of the expert.

    ::

        min over free arrays   mean |policy(y) - expert(y)|^2,    y from loops with the expert, then with the policy

    An expert that can be asked is an `Imitation`. The first round visits the expert's own loops; each further one adds loops of the
    policy fitted so far, labeled with what the expert would have done, so that the policy learns to return from its own errors.
    Source: Ross, Gordon, Bagnell, "A reduction of imitation learning and structured prediction to no-regret online learning"
    (DAgger), AISTATS 2011, Algorithm 3.1 with beta = 0 after the first round.

    An expert that cannot be asked, for example an operator, has left a log: `Demonstrations`. The policy is fitted to it once; on
    states that are not in the log nothing is known of the expert. How far the policy's loop can be from the expert's:
    `rc.train.deviation_bound`.

    **Arguments:**

    - `parameterization`: a policy, `LipschitzStatic` or a recurrent one, from outputs to controls.
    - `imitation`: expert, scenario and rounds, or the demonstrations of an expert.
    - `epochs`: of each round.
    - `run`: each round has a run folder in this one, `round_0` and so on.
    - `optimizer`: see `train`.
    - `monitor`: see `train`.
    - `key`: see `train`.

    **Raises:** `RobustctlError` for loops that leave finite numbers, and for demonstrations that contradict each other by more than a
    policy without state and with a Lipschitz constant can follow, with the two samples; what `train` raises.
    """
    if isinstance(imitation, Demonstrations):
        record = imitation.as_record()
        if stateless(parameterization):
            check_consistent(imitation, parameterization)
            record = in_parallel(record)
        problem = Identification(record)
        return train(
            problem, parameterization, epochs=epochs, optimizer=optimizer, run=run, monitor=monitor, key=key
        )
    draw_key, fit_key = jr.split(key)
    seen, done, driver = [], [], imitation.expert
    fitted: Fit | None = None
    for k in range(imitation.rounds):
        batch = draw_episodes(
            imitation.scenario, jr.fold_in(draw_key, k), imitation.episodes, imitation.horizon
        )
        y, u = _visit(imitation.scenario, driver, imitation.expert, batch)
        _check_finite(y, u, k)
        seen += list(np.asarray(y, float))
        done += list(np.asarray(u, float))
        folder = None if run is None else inside(run, f"round_{k}")
        record = from_arrays(seen, done, _sample_time(imitation, batch), name="expert")
        problem = Identification(
            _filled(record, imitation.episodes * imitation.rounds), scaling=Scaling.fit(record)
        )
        fitted = train(
            problem, parameterization, epochs=epochs, optimizer=optimizer, run=folder, monitor=monitor,
            key=jr.fold_in(fit_key, k),
        )  # fmt: skip
        # The range of a round's record is part of a compiled program, and would make each round another one.
        driver = dataclasses.replace(fitted.model, trained=None).explicit()
        parameterization = fitted.model.parameterization
    assert fitted is not None
    return fitted


@eqx.filter_jit
def _visit(scenario: Scenario, driver: System, expert: System, batch: Episode):
    """Return the outputs along loops that `driver` closes, and the expert's controls for them."""

    def one(episode: Episode):
        loop = scenario.loop(driver, episode.plant)
        y = rollout(loop, episode.ws, scenario.initial(loop, episode.x0)).ys.y
        return y, rollout(expert, y).ys

    return jax.vmap(one)(batch)


def _sample_time(imitation: Imitation, batch: Episode) -> float:
    """Return the sample time of the loops, 1 where they have none."""
    loop = eqx.filter_eval_shape(lambda e: imitation.scenario.loop(imitation.expert, e.plant), batch)
    return loop.dt or 1.0


def _filled(record: Record, count: int) -> Record:
    """Return the record with so many experiments: one that grew from round to round would compile again.

    Those added have no measured controls, so they do not count in the loss.
    """
    first = record.experiments[0]
    blank = dataclasses.replace(first, y_mask=np.zeros_like(first.y_mask))
    added = (blank,) * (count - len(record.experiments))
    return dataclasses.replace(record, experiments=record.experiments + added)


def _check_finite(y, u, k: int) -> None:
    if not (np.isfinite(y).all() and np.isfinite(u).all()):
        who = "the expert's" if k == 0 else f"the policy's (round {k})"
        raise RobustctlError(
            f"{who} loop must stay finite, got numbers that are not; use a shorter horizon, smaller initial states or "
            "more epochs a round"
        )
