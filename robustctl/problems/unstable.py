"""Youla policies on two unstable plants, the problems that preceded benchmark problem 3.

The magnetic suspension and the rotary-arm pendulum of [BWM23] Barbara, Wang, Manchester, "Learning over
contracting and Lipschitz closed-loops for partially-observed nonlinear systems", CDC 2023, which reports cost
relative to the base controller: suspension 0.659 (gamma 2000, 1000, 500, 250: 0.665, 0.718, 0.740, 0.765),
pendulum 0.620 (gamma 200, 100, 50, 25: 0.626, 0.649, 0.692, 0.766). Its plant parameters, base controllers and
costs are not given in full; this module and `robustctl.plants` define our own, so that figures compare only qualitatively.
"""

import dataclasses
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PRNGKeyArray

from .. import nn
from ..classical import linear_base
from ..loops import PlantScenario, zero_gain
from ..plants import (
    BalanceArm,
    HoldBall,
    Imperfections,
    MagneticSuspension,
    RotaryPendulum,
    Sampled,
    Task,
)
from ..scaled import Rescaled
from ..scenario import Episode
from ..system import Parameterization, System
from ..trajectory import rollout


@dataclasses.dataclass(frozen=True)
class Setting:
    """A plant with its base controller, the size of its signals, and the gains to try.

    **Arguments:**

    - `name`: of the plant.
    - `scenario`: the episodes, with the base controller.
    - `weights`: Q, R, W, V of the base controller's LQG design, as diagonals.
    - `u_scale`: typical innovations, in the outputs' units.
    - `y_scale`: typical controls that Q adds, in the controls' units.
    - `gammas`: gains from innovation to control in those units.
    - `published`: cost relative to the base controller.
    - `horizon`: samples per episode.
    - `segment`: samples per gradient step.
    """

    name: str
    scenario: PlantScenario
    weights: tuple[list[float], ...]
    u_scale: tuple[float, ...]
    y_scale: tuple[float, ...]
    gammas: tuple[float, ...]
    published: tuple[float, ...]
    horizon: int = 500
    segment: int = 100

    def q(self, gamma: float, key: PRNGKeyArray) -> Rescaled:
        """Return a Lipschitz R2DN of gain `gamma` (in the signals' units), with an output near zero at first."""
        # The scaled network has inputs u / u_scale and outputs y / y_scale: its gain is gamma u_scale / y_scale.
        inner = nn.LipschitzR2DN(
            nu=len(self.u_scale), nx=12, nv=24, ny=len(self.y_scale), gamma=gamma * self.u_scale[0] / self.y_scale[0],
            hidden=(48, 48), activation=jax.nn.tanh, init=nn.long_memory, key=key,
        )  # fmt: skip
        return nn.quiet(Rescaled(inner, self.u_scale, self.y_scale))

    def lstm(self, key: PRNGKeyArray) -> Rescaled:
        """Return an LSTM to use as Q, with no guarantee."""
        inner = nn.LSTM(nu=len(self.u_scale), nx=24, ny=len(self.y_scale), key=key)
        return nn.quiet(Rescaled(inner, self.u_scale, self.y_scale))


def magnetic_suspension() -> Setting:
    """Return the suspended ball, sampled at 100 Hz, its gap measured with 0.1 mm of noise."""
    plant = MagneticSuspension()
    sampled = Sampled(plant, 0.01, Imperfections(saturate=True, noise=1e-4))
    weights = [4e4, 0.4, 0.0], [1e-3], [1e-8, 1e-4, 1e-4], [1e-8]
    return Setting(
        "magnetic suspension", _scenario(HoldBall(plant), sampled, weights), weights, u_scale=(1e-3,), y_scale=(2.0,),
        gammas=(2000.0, 1000.0, 500.0, 250.0), published=(0.665, 0.718, 0.740, 0.765),
    )  # fmt: skip


def rotary_pendulum() -> Setting:
    """Return the rotary-arm pendulum, sampled at 100 Hz, both angles measured with 2 mrad of noise."""
    plant = RotaryPendulum()
    sampled = Sampled(plant, 0.01, Imperfections(saturate=True, noise=2e-3))
    weights = [4.0, 100.0, 0.0, 0.0], [4e-3], [1e-8, 1e-8, 1e-2, 1e-2], [4e-6, 4e-6]
    return Setting(
        "rotary pendulum", _scenario(BalanceArm(plant), sampled, weights), weights, u_scale=(1e-2, 1e-2), y_scale=(2.0,),
        gammas=(200.0, 100.0, 50.0, 25.0), published=(0.626, 0.649, 0.692, 0.766),
    )  # fmt: skip


def quick(setting: Setting) -> Setting:
    """Return the setting with one gain and short episodes, to check that it runs."""
    return dataclasses.replace(
        setting, gammas=setting.gammas[:1], published=setting.published[:1], horizon=100, segment=50
    )


def _scenario(task: Task, sampled: Sampled, weights) -> PlantScenario:
    return PlantScenario(task, sampled, linear_base(sampled, *weights))


def optimizer(epochs: int, steps: int) -> optax.GradientTransformation:
    """Return Adam with a cosine schedule from 5e-3 and the gradient's norm clipped at 1."""
    return optax.chain(
        optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(5e-3, epochs * steps))
    )


@eqx.filter_jit
def costs(scenario: PlantScenario, q: System, episodes: Episode) -> Array:
    """Return the mean cost of each episode (B,)."""

    def one(episode: Episode) -> Array:
        loop = scenario.loop(q, episode.plant)
        run = rollout(loop, episode.ws, scenario.initial(loop, episode.x0))
        return jnp.mean(jax.vmap(scenario.cost)(run.ys, episode.ws))

    return jax.vmap(one)(episodes)


FAULTS: dict[str, dict] = {
    "as trained": {},
    "three times the noise": {"noise": 3.0},
    "a sample's delay": {"delay": 1},
    "quantized outputs": {"resolution": 3.0},
    "20 % jitter": {"jitter": 0.2},
}
"""Imperfections that a trained loop is tested with; noise and resolution in multiples of the training noise's deviation."""


def with_fault(scenario: PlantScenario, fault: dict) -> PlantScenario:
    """Return the scenario with imperfections of the plant changed that the controller's model does not have."""
    imperfections = scenario.sampled.imperfections
    scaled = {k: v * imperfections.noise if k in ("noise", "resolution") else v for k, v in fault.items()}
    return eqx.tree_at(
        lambda s: s.sampled.imperfections, scenario, dataclasses.replace(imperfections, **scaled)
    )


def under_faults(
    scenario: PlantScenario, policies: dict[str, Parameterization], horizon: int, key: PRNGKeyArray
) -> dict:
    """Return, for each fault and policy, mean and worst cost of 64 episodes and the share that stayed bounded.

    **Arguments:**

    - `scenario`: of the training.
    - `policies`: parameterizations by name; the base controller is added.
    - `horizon`: samples per episode.
    - `key`: of the episodes, the same for all policies.
    """
    report: dict[str, dict] = {}
    for name, fault in FAULTS.items():
        changed = with_fault(scenario, fault)
        episodes = changed.draw_batch(key, 64, horizon)
        systems: dict[str, System] = {"base": zero_gain(scenario.sampled.ny, scenario.sampled.nu)}
        systems |= {policy: p.explicit() for policy, p in policies.items()}
        report[name] = {
            policy: _summary(costs(changed, system, episodes)) for policy, system in systems.items()
        }
    return report


def _summary(cost: Array, bound: float = 1e6) -> dict:
    """Count loops that diverged, and leave them out of the mean."""
    inside = jnp.isfinite(cost) & (cost < bound)
    bounded: Sequence[float] = [float(c) for c, good in zip(cost, inside, strict=True) if good]
    return {
        "mean": sum(bounded) / len(bounded) if bounded else None,
        "worst": max(bounded) if bounded else None,
        "stayed": len(bounded) / len(cost),
    }
