"""Environments: Gymnasium's own checks, the same dynamics as the plant, hostile actions, a baseline that learns."""

import os

import gymnasium as gym
import gymnasium.wrappers.vector as wrappers
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.integrate
from gymnasium.utils.env_checker import check_env

import robustctl as rc
import robustctl_envs as envs
from robustctl.classical import linear_base
from robustctl.errors import InvalidModelError, RobustctlError
from robustctl.loops import Youla, zero_gain
from robustctl.plants import Imperfections, LinearPlant, Sampled, Task
from robustctl_envs.ppo import PPO, Agent, _Transitions, advantages, loss, train_ppo

NAMES = list(envs.ENVIRONMENTS)


def make(name, **settings):
    return gym.make(f"robustctl_envs:robustctl/{name}-v0", **settings)


def make_vec(name, num_envs=3, **settings):
    return gym.make_vec(f"robustctl_envs:robustctl/{name}-v0", num_envs=num_envs, **settings)


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
        make_vec("CartPole").step(np.zeros((3, 1), np.float32))


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


WRAPPERS = {
    "flat": wrappers.FlattenObservation,
    "dtype": lambda env: wrappers.DtypeObservation(env, np.float64),
    "shifted": lambda env: wrappers.TransformObservation(env, lambda y: np.subtract(y, 1, out=y)),
    "normalized": wrappers.NormalizeObservation,
    "reward": wrappers.NormalizeReward,
    "clipped reward": lambda env: wrappers.ClipReward(env, -1.0, 0.0),
    "action": wrappers.ClipAction,
    "rescaled action": lambda env: wrappers.RescaleAction(env, -2.0, 2.0),
    "statistics": wrappers.RecordEpisodeStatistics,
    "list": wrappers.DictInfoToList,
}
SPAWN = {"vectorization_mode": "async", "vector_kwargs": {"context": "spawn"}}
MODES = {"native": {}, "sync": {"vectorization_mode": "sync"}, "spawn": SPAWN}
TRIED = [("TwoTanks", "native"), ("TwoTanks", "sync")]
SLOW = [(name, mode) for name in NAMES for mode in MODES if (name, mode) not in TRIED]


@pytest.mark.parametrize(
    ("name", "mode"), [*TRIED, *(pytest.param(*pair, marks=pytest.mark.slow) for pair in SLOW)]
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # unbounded sensors
def test_gymnasium_s_own_wrappers_work_on_every_vector_environment(name, mode):
    env = make_vec(name, 1 if mode == "spawn" else 3, **MODES[mode])
    for what, wrap in WRAPPERS.items():
        wrapped = wrap(env)
        y, _ = wrapped.reset(seed=3)
        for _ in range(3):
            y, reward, *_, info = wrapped.step(wrapped.action_space.sample())
        assert np.isfinite(y).all() and np.isfinite(reward).all(), what
        assert y.dtype == wrapped.observation_space.dtype and len(info) > 0, what
    env.close()


@pytest.fixture(scope="module")
def tanks():
    """Native and Gymnasium's own vector environment of the same plant."""
    return make_vec("TwoTanks"), make_vec("TwoTanks", vectorization_mode="sync")


@pytest.mark.parametrize(
    "settings",
    [
        dict(seed=5),
        dict(seed=np.int64(5)),
        dict(seed=[3, 2**63, 9]),
        dict(seed=2**31 - 1),
        dict(seed=1, options={"x0": [4.0, 5.0]}),
        dict(seed=2, options={"reset_mask": np.array([True, False, True])}),
        dict(seed=2, options={"reset_mask": np.array([False, True, False]), "x0": [4.0, 5.0]}),
    ],
)
def test_resets_are_those_of_gymnasium_s_own_vector_environment(tanks, settings):
    seen = []
    for env in tanks:
        env.reset(seed=0)
        env.step(np.full((3, 1), 0.5, np.float32))
        options = dict(settings.get("options", {}))
        seed = settings["seed"]  # its list of environments takes no NumPy integers
        seed = int(seed) if env is tanks[1] and not isinstance(seed, list) else seed
        first, info = env.reset(seed=seed, options=options)
        second = env.step(np.full((3, 1), -0.5, np.float32))[0]
        seen.append((first, second))
        assert info["state"].shape == (3, 2)
    np.testing.assert_allclose(*(first for first, _ in seen), rtol=1e-6)
    np.testing.assert_allclose(*(second for _, second in seen), rtol=1e-6)


def test_seeds_of_none_differ_and_what_is_no_seed_is_refused(tanks, cart):
    native, _ = tanks
    starts = native.reset(seed=[None, 4, None])[0]
    assert len(np.unique(starts)) == 3 and native.reset(seed=[None, 4, None])[0][1] == starts[1]
    each = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
    np.testing.assert_allclose(native.reset(options={"x0": each})[0][:, 0], [2.0, 4.0, 6.0])
    assert not np.array_equal(cart.reset(seed=2**63)[0], cart.reset(seed=2**63 + 1)[0])
    for env, seed in ((cart, -1), (cart, 1.5), (native, "a"), (native, [1, 2, -3]), (native, -1)):
        with pytest.raises(gym.error.Error, match="a seed must be a whole number of at least 0"):
            env.reset(seed=seed)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (dict(reset_mask=[True, False, True]), TypeError, "array of booleans"),
        (dict(reset_mask=np.array([True])), ValueError, "must have shape"),
        (dict(reset_mask=np.zeros(3, bool)), ValueError, "True at least once"),
        (dict(x0=[1.0]), ValueError, "x0"),
        (dict(x0=[[1.0, np.nan]] * 3), ValueError, "x0"),
    ],
)
def test_options_that_fit_no_environment_are_refused(tanks, options, error, message):
    with pytest.raises(error, match=message):
        tanks[0].reset(options=options)


def test_a_mask_needs_a_reset_of_all_before():
    with pytest.raises(gym.error.ResetNeeded, match="without reset_mask"):
        make_vec("TwoTanks").reset(options={"reset_mask": np.ones(3, bool)})


def test_what_an_environment_returns_may_be_written_to(tanks, cart):
    for env, action in ((cart, np.zeros(1, np.float32)), (tanks[0], np.zeros((3, 1), np.float32))):
        y, info = env.reset(seed=0)
        y -= 1
        first = env.step(action)[0]
        env.reset(seed=0)
        y, *ends, info = env.step(action)
        np.testing.assert_array_equal(y, first)
        arrays = [a for a in (y, *ends, *info.values()) if isinstance(a, np.ndarray)]
        assert len(arrays) >= 3 and all(a.flags.writeable for a in arrays)
        for a in arrays:
            a[...] = 0
        assert env.step(action)[0].all()


@pytest.mark.parametrize("mode", ["native", "sync"])
def test_episodes_end_after_max_episode_steps(mode):
    env = make_vec("TwoTanks", max_episode_steps=4, **MODES[mode])
    env.reset(seed=0)
    ends = [env.step(np.zeros((3, 1), np.float32))[3].tolist() for _ in range(5)]
    assert ends == [[False] * 3] * 3 + [[True] * 3, [False] * 3]
    with pytest.raises(
        ValueError, match="horizon must be at most max_episode_steps, 4, got 9; give max_epis"
    ):
        envs.VectorPlantEnv(2, "TwoTanks", max_episode_steps=4, horizon=9)
    with pytest.raises(ValueError, match="at most max_episode_steps, 300, got 301"):
        make("TwoTanks", horizon=301)
    with pytest.raises(RobustctlError, match="horizon must be a whole number of at least 1"):
        make("TwoTanks", horizon=0)


def test_an_episode_may_be_longer_than_gymnasium_makes_it():
    """Beyond its number of samples the inflows are drawn anew; without noise, they are the only change of the balance."""
    env = make("TwoTanks", max_episode_steps=420)
    assert (gym.spec("robustctl/TwoTanks-v0").max_episode_steps, env.spec.max_episode_steps) == (300, 420)
    env.reset(seed=0)
    plant, states = env.unwrapped.functional.sampled.plant, []
    still = np.asarray(env.unwrapped.functional.action(plant.operating_point()[1]), np.float32)
    for t in range(1, 421):
        *_, truncated, info = env.step(still)
        assert truncated == (t == 420) and info["time_s"] == pytest.approx(2.0 * t)
        states.append(info["state"])
    h = np.array(states)[:, 0]
    # A h' = k u - a sqrt(2 g h) + d, with the square root at the middle of the sample
    out = float(plant.outlet) * np.sqrt(2 * 981.0 * (h[1:] + h[:-1]) / 2)
    inflow = 28.0 * np.diff(h) / 2.0 + out - 3.33 * info["control"][0]
    blocks = inflow[[20, 120, 220, 320, 370]]
    assert np.abs(blocks).max() < 2.05 and np.abs(np.diff(blocks)).min() > 0.05
    np.testing.assert_allclose(inflow[320:340], inflow[320], atol=0.01)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore")  # of JAX about the fork, and of Gymnasium with the error
def test_a_forked_process_is_refused_and_does_not_wait_for_ever():
    env = make_vec("TwoTanks", 1, vectorization_mode="async", vector_kwargs={"context": "fork"})
    with pytest.raises(gym.error.Error, match="'context': 'spawn'"):
        env.reset(seed=0)
    env.close(terminate=True)


def test_a_failed_episode_ends_where_the_task_failed():
    """A ball that hits the coil does so at a gap of zero, with the speed that an independent solver finds."""
    single = make("MagneticSuspension").unwrapped
    x0, action = [0.01, -3.0, 20.0], np.ones(1, np.float32)
    single.reset(seed=4, options={"x0": x0})
    d = np.asarray(single._state.ws.d[0])
    y, _, terminated, _, info = single.step(action)
    plant = single.functional.sampled.plant
    rates = jax.jit(lambda x: plant.rates(x, jnp.asarray(info["control"]), jnp.asarray(d)))

    def touched(t, x):
        return x[0]

    touched.terminal = True
    found = scipy.integrate.solve_ivp(
        lambda t, x: np.asarray(rates(jnp.asarray(x))), (0.0, 0.01), x0, events=touched, rtol=1e-9
    )
    assert terminated and y[0] == 0.0
    np.testing.assert_allclose(info["state"], found.y[:, -1], rtol=0.01, atol=1e-5)


@pytest.mark.parametrize("x0", [[0.0], [np.nan] * 4, "upright"])
def test_a_start_that_is_no_state_is_refused(cart, x0):
    with pytest.raises(ValueError, match=r"x0|could not convert"):
        cart.reset(options={"x0": x0})


def test_the_vector_environment_plays_the_single_ones():
    """Resets included: each restarts alone, and the others lose nothing."""
    vector = make_vec("CartPole", horizon=30)
    singles = [make("CartPole", horizon=30).unwrapped for _ in range(3)]
    y, _ = vector.reset(seed=5)
    np.testing.assert_array_equal(y, [env.reset(seed=5 + i)[0] for i, env in enumerate(singles)])
    rng, done, alive = np.random.default_rng(1), np.zeros(3, bool), np.ones(3, bool)
    for _ in range(40):
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
    vector = make_vec("TwoTanks")
    first, _ = vector.reset(seed=[3, 9, 4])
    again, _ = vector.reset(seed=[4, 9, 3])
    np.testing.assert_array_equal(first, again[::-1])
    with pytest.raises(ValueError, match="3 seeds"):
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
    with pytest.raises(InvalidModelError, match="name must be one of"):
        envs.functional("Rocket")
    endless = LinearPlant([[0.0]], [[1.0]], [[1.0]])
    with pytest.raises(InvalidModelError, match="finite limits"):
        envs.FunctionalEnv(Sampled(endless, 0.1), Task(endless))


def test_a_controller_becomes_a_policy_with_its_state_inside():
    env = make("MagneticSuspension", max_episode_steps=100)
    sampled = env.unwrapped.functional.sampled
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
    with pytest.raises(
        InvalidModelError, match=r"must have 1 inputs \(observations\) and 1 outputs \(controls\)"
    ):
        envs.Policy(wide, env)


def test_a_policy_of_many_environments_keeps_a_state_for_each():
    vector = make_vec("TwoTanks")
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
