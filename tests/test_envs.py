"""Environments: Gymnasium's own checks, the same dynamics as the plant, hostile actions, a baseline that learns."""

import gymnasium as gym
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import robustctl as rc
import robustctl_envs as envs
from robustctl.classical import linear_base
from robustctl.errors import ModelError, RobustctlError
from robustctl.loops import Youla, zero_gain
from robustctl.plants import Imperfections, LinearPlant, Sampled, Task
from robustctl_envs.ppo import PPO, Agent, _Transitions, advantages, loss, train_ppo

NAMES = list(envs.ENVIRONMENTS)


def make(name, **settings):
    return gym.make(f"robustctl_envs:robustctl/{name}-v0", **settings)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore::UserWarning")  # unbounded sensors, and no display here
def test_gymnasium_finds_nothing_wrong_and_there_is_a_picture(name):
    env = make(name, render_mode="rgb_array")
    check_env(env.unwrapped)
    env.reset(seed=0)
    env.step(env.action_space.sample())
    picture = env.render()
    assert picture.dtype == np.uint8 and picture.shape[2] == 3 and picture.std() > 5


@pytest.fixture(scope="module")
def cart():
    return make("CartPole", horizon=30).unwrapped


def test_the_environment_is_the_sampled_plant(cart):
    y, info = cart.reset(seed=4)
    env, state = cart.functional, cart._state
    actions = np.random.default_rng(0).uniform(-1, 1, (20, 1)).astype(np.float32)
    us = jax.vmap(env.control)(jnp.asarray(actions, state.plant.x.dtype))
    ws = jax.tree.map(lambda a: a[:20], state.ws)
    run = rc.rollout(env.sampled, (us, ws), state.plant)
    for t in range(20):
        np.testing.assert_array_equal(y, np.asarray(run.ys[t], np.float32))
        y, reward, terminated, truncated, info = cart.step(actions[t])
        np.testing.assert_allclose(reward, -env.task.cost(run.xs.x[t], us[t], ws.r[t]), rtol=1e-12)
        np.testing.assert_allclose(info["control"], us[t])
        assert not terminated and not truncated and info["time_s"] == pytest.approx(0.02 * (t + 1))


def test_seeds_give_the_same_episode_bit_for_bit(cart):
    def episode(seed):
        seen = [cart.reset(seed=seed)[0]]
        return np.array(seen + [cart.step(np.array([0.3], np.float32))[0] for _ in range(5)])

    np.testing.assert_array_equal(episode(7), episode(7))
    assert not np.array_equal(episode(7), episode(8))


def test_episodes_end_by_failure_or_by_the_horizon(cart):
    cart.reset(seed=0)
    for t in range(30):
        *_, reward, terminated, truncated, _ = cart.step(np.array([0.0], np.float32))
        assert (terminated, truncated) == (False, t == 29)
    cart.reset(seed=0, options={"x0": [0.0, 0.2, 0.0, 2.0]})
    for _ in range(5):
        *_, reward, terminated, truncated, _ = cart.step(np.array([0.0], np.float32))
        if terminated:
            break
    assert terminated and not truncated and reward < -400
    with pytest.raises(gym.error.ResetNeeded, match="after the end"):
        cart.step(np.array([0.0], np.float32))


def test_a_step_before_the_reset_is_refused():
    with pytest.raises(gym.error.ResetNeeded):
        make("CartPole").unwrapped.step(np.zeros(1, np.float32))
    with pytest.raises(gym.error.ResetNeeded):
        gym.make_vec("robustctl_envs:robustctl/CartPole-v0", num_envs=2).step(np.zeros((2, 1), np.float32))


def test_hostile_actions_raise_nothing_but_what_is_documented(cart):
    rng = np.random.default_rng(0)
    hostile = [
        np.nan, np.array([np.inf]), np.zeros(3), "left", None, [], {}, np.array(["a"]), 1e30, np.array([1e30]),
        np.array([2], int), np.array([True]), [[0.0]], np.array([-5.0]), np.float64(0.3), [0.1], object(),
    ]  # fmt: skip
    refused = stepped = 0
    for k in range(1000):
        if k % 20 == 0:
            cart.reset(seed=int(rng.integers(100)))
        action = hostile[rng.integers(len(hostile))] if rng.random() < 0.7 else rng.normal(size=1) * 10
        try:
            y, reward, *_ = cart.step(action)
            stepped += 1
            assert cart.observation_space.contains(y) and np.isfinite(reward)
        except gym.error.InvalidAction:
            refused += 1
        except gym.error.ResetNeeded:
            cart.reset()
    assert refused > 100 and stepped > 100


@pytest.mark.parametrize("x0", [[0.0], [np.nan] * 4, "upright"])
def test_a_start_that_is_no_state_is_refused(cart, x0):
    with pytest.raises(ValueError, match=r"x0|could not convert"):
        cart.reset(options={"x0": x0})


def test_the_vector_environment_plays_the_single_ones():
    """Resets included: each restarts alone, and the others lose nothing."""
    vector = gym.make_vec("robustctl_envs:robustctl/CartPole-v0", num_envs=3, horizon=12)
    singles = [make("CartPole", horizon=12).unwrapped for _ in range(3)]
    y, _ = vector.reset(seed=5)
    np.testing.assert_array_equal(y, [env.reset(seed=5 + i)[0] for i, env in enumerate(singles)])
    rng, done, alive = np.random.default_rng(1), np.zeros(3, bool), np.ones(3, bool)
    for _ in range(20):
        actions = rng.uniform(-1, 1, (3, 1)).astype(np.float32) * (1 + 3 * (np.arange(3)[:, None] == 1))
        y, reward, terminated, truncated, _ = vector.step(actions)
        for i, env in enumerate(singles):
            if done[i]:
                assert reward[i] == 0 and not terminated[i] and not truncated[i]
                alive[i] = False  # a new episode, of a key of its own
            elif alive[i]:
                expected = env.step(actions[i])
                np.testing.assert_allclose(y[i], expected[0], rtol=1e-6, atol=1e-7)
                np.testing.assert_allclose(reward[i], expected[1], rtol=1e-6)
                assert (terminated[i], truncated[i]) == expected[2:4]
        done = terminated | truncated
    assert not alive.any()


def test_vector_seeds_may_be_listed_and_must_fit():
    vector = gym.make_vec("robustctl_envs:robustctl/TwoTanks-v0", num_envs=2)
    first, _ = vector.reset(seed=[3, 9])
    again, _ = vector.reset(seed=[9, 3])
    np.testing.assert_array_equal(first, again[::-1])
    with pytest.raises(ValueError, match="2 seeds"):
        vector.reset(seed=[1])
    with pytest.raises(ValueError, match="num_envs"):
        envs.VectorPlantEnv(0, "CartPole")


def test_gradients_pass_through_the_functions():
    env = envs.functional("TwoTanks")
    state, _ = env.reset(jr.key(0))

    @jax.jit
    @jax.grad
    def slope(action):
        after, out = env.step(state, action)
        return out.reward + env.step(after, action)[1].reward

    assert jnp.abs(slope(jnp.array([0.1]))[0]) > 0


def test_details_and_sample_time_reach_the_plant():
    env = make("CartPole", imperfections=Imperfections(delay=3), dt=0.05).unwrapped
    assert env.functional.sampled.imperfections.delay == 3 and env.functional.sampled.dt == 0.05
    with pytest.raises(ModelError, match="name must be one of"):
        envs.functional("Rocket")
    endless = LinearPlant([[0.0]], [[1.0]], [[1.0]])
    with pytest.raises(ModelError, match="finite limits"):
        envs.FunctionalEnv(Sampled(endless, 0.1), Task(endless))


def test_a_controller_becomes_a_policy_with_its_state_inside():
    env = make("MagneticSuspension", horizon=100).unwrapped
    sampled = env.functional.sampled
    base = linear_base(sampled, [4e4, 0.4, 0.0], [1e-3], [1e-8, 1e-4, 1e-4], [1e-8])
    policy = envs.Policy(Youla(base, zero_gain(nu=1, ny=1)), env)
    rewards = []
    for _ in range(2):  # the second episode must not remember the first
        y, _ = env.reset(seed=1)
        policy.reset()
        rewards.append([])
        for _ in range(100):
            y, reward, terminated, truncated, _ = env.step(policy(y))
            rewards[-1].append(reward)
            assert not terminated
    assert truncated
    np.testing.assert_array_equal(*rewards)
    wide = rc.nn.ContractingR2DN(nu=2, nx=2, nv=2, ny=1, hidden=(3,), key=jr.key(0))
    with pytest.raises(ModelError, match="must have 1 inputs \(observations\) and 1 outputs \(controls\)"):
        envs.Policy(wide, env)


def test_a_policy_of_many_environments_keeps_a_state_for_each():
    vector = gym.make_vec("robustctl_envs:robustctl/TwoTanks-v0", num_envs=3)
    q = rc.nn.ContractingR2DN(nu=1, nx=2, nv=3, ny=1, hidden=(4,), key=jr.key(0))
    policy, single = envs.Policy(q, vector), envs.Policy(q, make("TwoTanks"))
    ys = np.random.default_rng(0).uniform(0, 20, (4, 3, 1)).astype(np.float32)
    batched = np.array([policy(y) for y in ys])
    np.testing.assert_allclose(batched[:, 1], [single(y[1]) for y in ys], rtol=1e-6)
    policy.reset(ended=np.array([True, False, False]))
    single.reset()
    np.testing.assert_allclose(policy(ys[0])[0], single(ys[0, 0]), rtol=1e-6)


def test_advantages_are_their_definition():
    rng = np.random.default_rng(0)
    T, B, discount, trace = 6, 2, 0.9, 0.8
    value, reward = rng.normal(size=(2, T, B))
    last, ended = rng.normal(size=B), rng.random((T, B)) < 0.3
    expected = np.zeros((T + 1, B))
    after = np.vstack([value[1:], last])
    for t in reversed(range(T)):
        delta = reward[t] + discount * (1 - ended[t]) * after[t] - value[t]
        expected[t] = delta + discount * trace * (1 - ended[t]) * expected[t + 1]
    seen = _Transitions(*(jnp.asarray(a) for a in (value, value, value, value, reward, ended, ended)))
    np.testing.assert_allclose(advantages(seen, jnp.asarray(last), discount, trace), expected[:T], rtol=1e-12)


def test_the_surrogate_stops_where_the_ratio_is_clipped():
    import equinox as eqx

    mlp = [eqx.nn.MLP(1, 1, 4, 1, key=jr.key(k)) for k in (0, 1)]
    agent = Agent(*mlp, jnp.zeros(1), jnp.ones(1))
    y, action = jnp.ones((2, 1)), jnp.array([[0.3], [-0.2]])
    log_probability = jax.vmap(agent.log_probability)(y, action)
    gain, settings = jnp.array([1.0, -1.0]), PPO(entropy=0.0)
    values = jax.vmap(agent.value)(y)

    def at(shift):
        none = jnp.zeros(2)
        seen = _Transitions(y, action, log_probability - shift, none, none, none, none)
        return loss(agent, seen, gain, values, jnp.ones(2), settings)

    np.testing.assert_allclose(at(0.0), 0.0, atol=1e-9)
    # Both ratios at e: the gain of the good action is clipped at 1.2, the loss of the bad one is not.
    np.testing.assert_allclose(at(1.0), -(1.2 - np.e) / 2, rtol=1e-6)


def test_the_baseline_learns_to_hold_levels():
    env = envs.functional("TwoTanks", horizon=100)
    trained = train_ppo(env, updates=25, settings=PPO(num_envs=32, samples=50, width=32), key=jr.key(0))
    assert trained.reward[-5:].mean() > 0.5 * trained.reward[:3].mean()
    with pytest.raises(RobustctlError, match="minibatches must divide"):
        PPO(num_envs=3, samples=5, minibatches=4)
    with pytest.raises(RobustctlError, match="updates must be"):
        train_ppo(env, updates=0, key=jr.key(0))
