"""A reinforcement-learning baseline: proximal policy optimization, compiled as one scan over updates.

[SWD17] Schulman, Wolski, Dhariwal, Radford, Klimov, "Proximal policy optimization algorithms", arXiv 1707.06347.
"""

import dataclasses
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from robustctl.errors import RobustctlError
from robustctl.system import System

from .functional import FunctionalEnv
from .vector import VectorState, reset_batch, step_batch


@dataclasses.dataclass(frozen=True)
class PPO:
    """Settings of `train_ppo`.

    **Arguments:**

    - `num_envs`: parallel environments.
    - `samples`: per environment and update.
    - `passes`: over the samples of an update.
    - `minibatches`: per pass.
    - `learning_rate`: at first; it falls linearly to zero.
    - `discount`: of rewards, per sample.
    - `trace`: lambda of generalized advantage estimation.
    - `clip`: eps of the clipped ratio.
    - `entropy`: weight c of the entropy.
    - `width`: of the two hidden layers of actor and critic.
    """

    num_envs: int = 256
    samples: int = 64
    passes: int = 4
    minibatches: int = 4
    learning_rate: float = 1e-3
    discount: float = 0.99
    trace: float = 0.95
    clip: float = 0.2
    entropy: float = 1e-3
    width: int = 64

    def __post_init__(self):
        """Refuse sizes that do not divide."""
        if (self.num_envs * self.samples) % self.minibatches:
            raise RobustctlError(
                f"minibatches must divide num_envs * samples = {self.num_envs * self.samples}, got {self.minibatches}"
            )


class Agent(eqx.Module):
    """A Gaussian policy and a value function on normalized observations; the environment clips actions to [-1, 1]."""

    actor: eqx.nn.MLP
    critic: eqx.nn.MLP
    log_std: Float[Array, " nu"]
    scale: Float[Array, " ny"]

    def normalized(self, y: Array) -> Array:
        """Return observations divided by `scale`, which is not trained."""
        return y / jax.lax.stop_gradient(self.scale)

    def log_probability(self, y: Array, action: Array) -> Array:
        """Return the log density of an action."""
        error = (action - self.actor(self.normalized(y))) / jnp.exp(self.log_std)
        return jnp.sum(-0.5 * error**2 - self.log_std - 0.5 * jnp.log(2 * jnp.pi))

    def value(self, y: Array) -> Array:
        """Return the value of an observation."""
        return self.critic(self.normalized(y))[0]


class AgentController(System):
    """The trained agent's mean action as a controller in the plant's units."""

    agent: Agent
    env: FunctionalEnv

    def init_state(self) -> tuple[()]:
        """Return the empty state."""
        return ()

    def step(self, x: tuple[()], u: Array) -> tuple[tuple[()], Array]:
        """Return the control for an observation."""
        return x, self.env.control(self.agent.actor(self.agent.normalized(u)))


class PPOResult(NamedTuple):
    """The controller, and the mean reward per sample of each update's rollouts."""

    controller: AgentController
    reward: np.ndarray


class _Transitions(NamedTuple):
    y: Array
    action: Array
    log_probability: Array
    value: Array
    reward: Array
    ended: Array
    begun: Array


def train_ppo(
    env: FunctionalEnv, *, updates: int, settings: PPO | None = None, key: PRNGKeyArray
) -> PPOResult:
    """Train a static Gaussian policy on an environment by PPO [SWD17].

    ::

        max  E min(r A, clip(r, 1 - eps, 1 + eps) A) - |V - R|^2 / 2 + c H,    r = pi(a|y) / pi_old(a|y)

    with generalized advantage estimates A. A baseline for comparison, with no guarantee.

    **Arguments:**

    - `env`: the environment.
    - `updates`: number of updates.
    - `settings`: default `PPO()`.
    - `key`: of initial weights, episodes and actions.

    **Raises:** `RobustctlError` for `updates` below 1 and for minibatches that do not divide the samples.
    """
    if updates < 1:
        raise RobustctlError(f"updates must be at least 1, got {updates}")
    s = settings or PPO()
    agent_key, reset_key, key = jr.split(key, 3)
    batch, y = eqx.filter_jit(reset_batch)(env, jr.split(reset_key, s.num_envs))
    agent = _agent(env, y, s, agent_key)
    steps = updates * s.passes * s.minibatches
    optimizer = optax.chain(
        optax.clip_by_global_norm(0.5), optax.adam(optax.linear_schedule(s.learning_rate, 0.0, steps))
    )
    free, fixed = eqx.partition(agent, eqx.is_inexact_array)

    @eqx.filter_jit
    def run(env, free, batch, y):
        def body(carry, key):
            free, opt_state, batch, y = carry
            roll_key, learn_key = jr.split(key)
            batch, y, seen = _rollout(env, eqx.combine(free, fixed), batch, y, s, roll_key)
            free, opt_state = _learn(free, fixed, opt_state, optimizer, seen, y, s, learn_key)
            return (free, opt_state, batch, y), jnp.mean(seen.reward)

        return jax.lax.scan(body, (free, optimizer.init(free), batch, y), jr.split(key, updates))

    (free, *_), reward = run(env, free, batch, y)
    return PPOResult(AgentController(eqx.combine(free, fixed), env), np.asarray(reward))


def _agent(env: FunctionalEnv, y: Array, s: PPO, key: PRNGKeyArray) -> Agent:
    actor_key, critic_key = jr.split(key)
    ny, nu = y.shape[1], len(env.sampled.plant.controls)

    def mlp(n, key):
        return eqx.nn.MLP(ny, n, width_size=s.width, depth=2, activation=jnp.tanh, dtype=y.dtype, key=key)

    actor, critic = mlp(nu, actor_key), mlp(1, critic_key)
    # Initial actions near zero, and observations of about unit size: choices that PPO is known to be sensitive to.
    small = 0.01 * actor.layers[-1].weight
    actor = eqx.tree_at(lambda m: m.layers[-1].weight, actor, small)
    scale = jnp.maximum(jnp.std(y, axis=0) + jnp.abs(jnp.mean(y, axis=0)), 1e-3)
    return Agent(actor, critic, jnp.full(nu, -0.5, y.dtype), scale)


def _rollout(env: FunctionalEnv, agent: Agent, batch: VectorState, y: Array, s: PPO, key: PRNGKeyArray):
    def body(carry, key):
        batch, y = carry
        mean = jax.vmap(lambda y: agent.actor(agent.normalized(y)))(y)
        action = mean + jnp.exp(agent.log_std)[None] * jr.normal(key, mean.shape, mean.dtype)
        begun = batch.done  # this step only starts a new episode
        after, out = step_batch(env, batch, action)
        log_probability = jax.vmap(agent.log_probability)(y, action)
        seen = _Transitions(
            y,
            action,
            log_probability,
            jax.vmap(agent.value)(y),
            out.reward,
            out.terminated | out.truncated,
            begun,
        )
        return (after, out.observation), seen

    (batch, y), seen = jax.lax.scan(body, (batch, y), jr.split(key, s.samples))
    return batch, y, seen


def advantages(seen: _Transitions, last: Array, discount: float, trace: float) -> Array:
    """Return generalized advantage estimates, time first (T, B).

    ::

        A[t] = delta[t] + discount trace (1 - ended[t]) A[t+1],   delta[t] = r[t] + discount (1 - ended[t]) V[t+1] - V[t]

    Source: Schulman et al., "High-dimensional continuous control using generalized advantage estimation", 2016.
    """
    after = jnp.concatenate([seen.value[1:], last[None]])
    alive = 1.0 - seen.ended.astype(last.dtype)
    delta = seen.reward + discount * alive * after - seen.value

    def body(carry, t):
        delta, alive = t
        carry = delta + discount * trace * alive * carry
        return carry, carry

    return jax.lax.scan(body, jnp.zeros_like(last), (delta, alive), reverse=True)[1]


def _learn(free, fixed, opt_state, optimizer, seen: _Transitions, y: Array, s: PPO, key: PRNGKeyArray):
    last = jax.vmap(eqx.combine(free, fixed).value)(y)
    gain = advantages(seen, last, s.discount, s.trace)
    used = 1.0 - seen.begun.astype(gain.dtype)
    data = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), (seen, gain, gain + seen.value, used))
    total = s.num_envs * s.samples

    def minibatch(carry, chosen):
        free, opt_state = carry
        part = jax.tree.map(lambda a: a[chosen], data)
        slope = jax.grad(lambda f: loss(eqx.combine(f, fixed), part[0], part[1], part[2], part[3], s))(free)
        with jax.numpy_dtype_promotion("standard"):  # Optax counts in integers
            updates, opt_state = optimizer.update(slope, opt_state, free)
        return (optax.apply_updates(free, updates), opt_state), None

    orders = jax.vmap(lambda k: jr.permutation(k, total))(jr.split(key, s.passes))
    (free, opt_state), _ = jax.lax.scan(
        minibatch, (free, opt_state), orders.reshape(s.passes * s.minibatches, -1)
    )
    return free, opt_state


def loss(agent: Agent, seen: _Transitions, gain: Array, target: Array, used: Array, s: PPO) -> Array:
    """Return the clipped surrogate loss [SWD17, eqs. (7) and (9)] over samples (n,).

    **Arguments:**

    - `agent`: policy and value function.
    - `seen`: transitions of the old policy.
    - `gain`: advantages A.
    - `target`: returns R.
    - `used`: zero for steps that only reset an environment.
    - `s`: the settings.
    """
    count = jnp.maximum(jnp.sum(used), 1.0)
    mean = jnp.sum(used * gain) / count
    # Advantages are normalized over a minibatch, so that the learning rate does not depend on the size of the reward.
    spread = jnp.sqrt(jnp.sum(used * (gain - mean) ** 2) / count) + 1e-8
    gain = (gain - mean) / spread
    ratio = jnp.exp(jax.vmap(agent.log_probability)(seen.y, seen.action) - seen.log_probability)
    surrogate = jnp.minimum(ratio * gain, jnp.clip(ratio, 1 - s.clip, 1 + s.clip) * gain)
    error = (jax.vmap(agent.value)(seen.y) - target) ** 2
    entropy = jnp.sum(agent.log_std)  # of a Gaussian, up to a constant
    return -jnp.sum(used * surrogate) / count + 0.5 * jnp.sum(used * error) / count - s.entropy * entropy
