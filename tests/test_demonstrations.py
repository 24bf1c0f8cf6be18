"""Policies from demonstrations: logs of an expert, how far its imitation can be from it, and the best fit of any Lipschitz map."""

import itertools
import sys

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import robustctl as rc
from robustctl.errors import DataError, InvalidModelError, RobustctlError
from robustctl.train import (
    Constant,
    ContractingLoop,
    Demonstrations,
    DeviationBound,
    contradiction,
    lipschitz_optimum,
)
from robustctl.train.demonstrations import check_consistent, stateless

A, B, K = np.array([[1.0, 0.1], [0.2, 0.95]]), np.array([[0.005], [0.1]]), np.array([[8.0, 6.0]])
ADAM = optax.adam(2e-2)


def gain(K, offset=0.0):
    return rc.loops.Gain(-jnp.asarray(K), jnp.zeros(np.shape(K)[1]), jnp.full(np.shape(K)[0], offset))


def imitated(student, demonstrations):
    return rc.train.imitate(student, demonstrations, epochs=400, optimizer=ADAM, monitor=None, key=jr.key(1))


# The bound on the deviation


@pytest.fixture(scope="module")
def lqr():
    """A linear expert on an ellipsoid, and a network that imitates it there."""
    loop = ContractingLoop.linear(A, B, K)
    radius = 20.0
    answers = rc.train.ask(gain(K), rc.loops.Ellipsoid(loop.P / radius**2), cells=60)
    student = rc.nn.LipschitzStatic(nu=2, ny=1, gamma=1.6, hidden=(8,), key=jr.key(0))
    return (
        loop,
        radius,
        answers,
        imitated(student, answers.demonstrations(0.1)).model.explicit(),
    )


def test_the_deviation_from_an_lqr_is_never_above_its_bound(lqr):
    loop, radius, answers, policy = lqr
    noise, samples = np.array([0.02, 0.05]), 80
    error = answers.error(policy)
    bound = rc.train.deviation_bound(policy, loop, error, noise=noise, radius=radius)
    assert loop.rate.standing == error.standing == bound.alpha.standing == "proven"
    # Where the error holds is proven to be kept; that it holds there, and that nothing else acts, is not.
    assert not any("stay where" in text for text in bound.assumptions)
    assert any("|x|_P <= 20" in text and "nothing disturbs" in text for text in bound.assumptions)
    without = rc.train.deviation_bound(policy, loop, error, noise=noise)
    assert any("both loops stay where" in text for text in without.assumptions)

    @jax.jit
    @jax.vmap
    def both(x0, n):
        def step(carry, n):
            x, e = carry
            u, v = policy.step((), x + n)[1], -jnp.asarray(K) @ e
            return (A @ x + B @ u, A @ e + B @ v), (x, e, u, v)

        return jax.lax.scan(step, (x0, x0), n)[1]

    z = jr.normal(jr.key(2), (1000, 2))
    inside = z / jnp.linalg.norm(z, axis=1, keepdims=True) * radius
    signs = jnp.sign(jr.normal(jr.key(3), (1000, samples, 2)) + jr.normal(jr.key(4), (1000, 1, 2)))
    x, e, u, v = map(np.asarray, both(inside @ np.linalg.inv(loop.root).T, np.asarray(signs) * noise))
    apart = np.linalg.norm((x - e) @ loop.root.T, axis=2)
    assert (apart <= bound.over_time(samples)).all() and apart.max() > 0.03 * bound.total
    assert (np.abs(x - e).max((0, 1)) <= bound.states).all() and np.abs(u - v).max() <= bound.action
    assert np.linalg.norm(x @ loop.root.T, axis=2).max() <= radius * (1 + 1e-9)
    # The mean cost of every episode.
    Q, R = np.diag([2.0, 1.0]), np.array([[0.1]])
    costs = [
        np.einsum("eti,ij,etj->e", s, Q, s) + np.einsum("eti,ij,etj->e", c, R, c) for s, c in ((x, u), (e, v))
    ]
    own, experts = (cost / samples for cost in costs)
    assert all(own[k] <= bound.cost_at_most(float(experts[k]), Q, R) for k in range(0, 1000, 10))


def test_the_error_of_the_action_holds_between_the_states_that_were_asked(lqr):
    loop, radius, answers, policy = lqr
    z = np.random.default_rng(0).normal(size=(4000, 2))
    z *= (np.random.default_rng(1).uniform(size=4000) ** 0.5 / np.linalg.norm(z, axis=1))[:, None]
    x = radius * z @ np.linalg.inv(loop.root).T
    apart = np.abs(np.asarray(jax.vmap(lambda x: policy.step((), x)[1])(jnp.asarray(x))) + x @ K.T)
    assert apart.max() <= answers.error(policy).value
    grid = (answers.x - answers.middle) @ np.linalg.inv(answers.widths).T
    assert all(np.linalg.norm(grid - one, axis=1).min() <= answers.cover for one in z[:500])


def test_a_constant_error_reaches_the_bound():
    """x+ = 0.9 x + 0.5 u with u = -0.8 x and an error of 0.3: b e / (1 - r) = 0.5 * 0.3 / 0.5, and the cost by hand."""
    loop = ContractingLoop.linear([[0.9]], [[0.5]], [[0.8]])
    bound = rc.train.deviation_bound(gain([[0.8]], 0.3), loop, 0.3)
    x = 0.0
    for limit in bound.over_time(200):
        assert abs(x) <= limit * np.sqrt(1 / loop.P[0, 0]) * (1 + 1e-9)
        x = 0.5 * x + 0.5 * 0.3
    np.testing.assert_allclose([x, bound.states[0]], 0.3, rtol=1e-6)
    assert bound.error.standing == "assumed" and "assumed" in str(bound)
    # alpha = 0.8: the actions differ by 0.3 + 0.8 * 0.3 at most.
    np.testing.assert_allclose(bound.action, 0.54, rtol=1e-6)
    np.testing.assert_allclose(bound.cost_at_most(0.0, 1.0, 2.0), 0.09 + 2 * 0.54**2, rtol=1e-6)
    started = bound.over_time(5, start=[2.0]) * np.sqrt(1 / loop.P[0, 0])
    np.testing.assert_allclose(
        started, 2 * 0.5 ** np.arange(5.0) + 0.3 * (1 - 0.5 ** np.arange(5.0)), rtol=1e-6
    )


def test_the_sum_of_both_terms_has_its_minimum_inside():
    """Of the best fits to a steep expert: the error falls, the effect of noise grows with the Lipschitz constant."""
    x = np.linspace(-1, 1, 41)[:, None]
    loop = ContractingLoop(np.eye(1), Constant(0.5, "assumed"), np.array([[0.2]]))
    bounds = {}
    for alpha in (0.5, 1.0, 2.0, 4.0, 6.0, 9.0):
        error = np.abs(lipschitz_optimum(x, np.tanh(5 * x), alpha).values - np.tanh(5 * x)).max()
        bounds[alpha] = DeviationBound(
            loop, Constant(error, "searched"), Constant(alpha, "proven"), Constant(0.05, "assumed")
        )
    errors, effects = ([getattr(b, name) for b in bounds.values()] for name in ("imitation", "measurement"))
    assert np.all(np.diff(errors) <= 1e-12) and np.all(np.diff(effects) > 0)
    totals = [b.total for b in bounds.values()]
    assert 0 < np.argmin(totals) < len(totals) - 1
    figure = rc.plot.deviation(bounds)
    lines = {line.get_label(): line.get_ydata() for line in figure.axes[0].lines}
    np.testing.assert_allclose(np.asarray(lines["both"]), totals)
    np.testing.assert_allclose(np.asarray(lines["by errors of the action"]), errors)
    with pytest.raises(RobustctlError, match="two or more"):
        rc.plot.deviation({1.0: bounds[1.0]})


def test_the_loop_of_a_saturating_expert_is_searched():
    class Clipped(rc.System):
        def init_state(self):
            return ()

        def step(self, x, u):
            return x, jnp.clip(-jnp.asarray([[0.8, 0.6]]) @ u, -0.5, 0.5)

    stable, B = np.array([[0.9, 0.1], [-0.1, 0.8]]), np.array([[0.0], [0.5]])
    answers = rc.train.ask(Clipped(), ([-1.0, -1.0], [1.0, 1.0]), cells=30)
    # Slopes between neighbors are means of the slopes 0 and K.
    assert answers.lipschitz.standing == "searched" and answers.lipschitz.value == pytest.approx(1.0)
    loop = ContractingLoop.searched(stable, B, answers)
    assert loop.rate.standing == "searched"
    for J in (stable, stable - B @ np.array([[0.8, 0.6]])):
        root = loop.root
        assert np.linalg.norm(root @ J @ np.linalg.inv(root), 2) <= loop.rate.value * (1 + 1e-9)
    with pytest.raises(RobustctlError, match="must be contracting on the set"):
        ContractingLoop.searched(1.2 * stable, B, answers)


def test_a_policy_s_own_loop_has_a_proven_rate():
    loop = ContractingLoop.of_policy(A, B, gain(K))
    spectral = np.abs(np.linalg.eigvals(A - B @ K)).max()
    assert loop.rate.standing == "proven" and spectral <= loop.rate.value < 1.01 * spectral
    root = loop.root
    assert np.linalg.norm(root @ (A - B @ K) @ np.linalg.inv(root), 2) <= loop.rate.value * (1 + 1e-9)
    with pytest.raises(RobustctlError, match="the policy's loop must be contracting"):
        ContractingLoop.of_policy(A, B, gain(0 * K))


# The best fit of any map


def brute_force(u, reach):
    """The nearest values that keep the constant, by all sets of active constraints."""
    n, best, cost = len(u), u, np.inf
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    for size in range(n):
        for active in itertools.combinations(pairs, size):
            G = np.zeros((size, n))
            for row, (i, j) in enumerate(active):
                G[row, i], G[row, j] = 1.0, -1.0
            if size and np.linalg.matrix_rank(G) < size:
                continue
            h = np.array([reach[pair] for pair in active])
            v = u - G.T @ np.linalg.solve(G @ G.T, G @ u - h) if size else u
            if (v[:, None] - v[None] <= reach + 1e-9).all() and np.sum((v - u) ** 2) < cost:
                best, cost = v, np.sum((v - u) ** 2)
    return best


@pytest.mark.parametrize("seed", range(6))
def test_the_best_fit_is_that_of_brute_force(seed):
    rng = np.random.default_rng(seed)
    x, u = rng.normal(size=(4, 2)), rng.normal(size=(4, 2))
    gamma = rng.uniform(0.1, 1.0)
    reach = gamma * np.linalg.norm(x[:, None] - x[None], axis=2)
    expected = np.stack([brute_force(column, reach) for column in u.T], axis=1)
    found = lipschitz_optimum(x, u, gamma)
    np.testing.assert_allclose(found.values, expected, atol=1e-8)
    np.testing.assert_allclose(found.rms, np.sqrt(np.mean((expected - u) ** 2)), atol=1e-8)
    np.testing.assert_allclose([found(one) for one in x], expected, atol=1e-8)


def test_the_continuation_of_the_best_fit_has_its_constant():
    rng = np.random.default_rng(0)
    x, u = rng.normal(size=(60, 3)), rng.normal(size=(60, 1))
    found = lipschitz_optimum(x, u, 0.3)
    points = rng.normal(size=(200, 3))
    values = np.array([found(p) for p in points])
    apart = np.abs(values - values[::-1])[:, 0]
    assert (apart <= 0.3 * np.linalg.norm(points - points[::-1], axis=1) + 1e-8).all()
    # A larger constant fits better, and one that the samples have fits them.
    assert lipschitz_optimum(x, u, 0.6).rms < found.rms < np.std(u) and lipschitz_optimum(x, u, 1e3).rms == 0
    assert lipschitz_optimum(
        np.zeros((3, 1)), np.array([[0.0], [3.0], [0.0]]), 1.0
    ).values.ravel() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("x", "u", "gamma", "message"),
    [
        (np.zeros((3, 1)), np.zeros((2, 1)), 1.0, "x and u must be"),
        (np.zeros((501, 1)), np.zeros((501, 1)), 1.0, "from 1 to 500"),
        (np.full((3, 1), np.nan), np.zeros((3, 1)), 1.0, "must be finite"),
        (np.zeros((3, 1)), np.zeros((3, 1)), 0.0, "gamma must be"),
    ],
)
def test_samples_that_cannot_be_fitted_are_refused(x, u, gamma, message):
    with pytest.raises(RobustctlError, match=message):
        lipschitz_optimum(x, u, gamma)


def test_a_best_fit_that_was_not_found_is_no_answer(monkeypatch):
    x = np.linspace(0, 1, 12)[:, None]
    monkeypatch.setattr(sys.modules["robustctl.train.lipschitz_optimum"], "_ROUNDS", 1)
    with pytest.raises(RobustctlError, match=r"within 1 rounds.*exceeded by .* fewer than the 12 samples"):
        lipschitz_optimum(x, np.sin(20 * x), 1.0)


# Logs of an expert


def operator(episodes, seed, samples=60):
    """Logs of a tank whose operator acts on level and flow, with noise of the hand and gaps in the measurement."""
    rng, levels, valves = np.random.default_rng(seed), [], []
    for _ in range(episodes):
        x, level, valve = rng.uniform(-1, 1, 2), [], []
        for _ in range(samples):
            u = np.clip(-1.5 * x[0] - 0.5 * x[1], -0.8, 0.8)
            level.append(x)
            valve.append(u + 0.01 * rng.normal())
            x = np.array([0.9 * x[0] + 0.1 * x[1], 0.7 * x[1] + 0.3 * u]) + 0.1 * rng.normal(size=2)
        levels.append(np.array(level))
        valves.append(np.array(valve))
    levels[0][5, 0] = np.nan
    return rc.data.from_arrays(
        valves,
        levels,
        1.0,
        inputs="valve",
        outputs=["level", "flow"],
        input_units="%",
        output_units=["m", "m/s"],
    )


@pytest.fixture(scope="module")
def copied():
    student = rc.nn.LipschitzStatic(nu=2, ny=1, gamma=3.0, hidden=(8, 8), key=jr.key(0))
    return imitated(student, Demonstrations(operator(12, 0))).model


def test_a_policy_is_learned_from_an_operator_s_log(copied):
    assert (copied.inputs, copied.outputs, copied.output_units, copied.dt) == (
        ("level", "flow"),
        ("valve",),
        ("%",),
        1.0,
    )
    x = np.random.default_rng(5).uniform(-0.8, 0.8, (300, 2))
    wanted = np.clip(x @ np.array([-1.5, -0.5]), -0.8, 0.8)
    got = np.asarray(rc.rollout(copied.explicit(), jnp.asarray(x)).ys)[:, 0]
    assert np.sqrt(np.mean((got - wanted) ** 2)) < 0.1 * np.std(wanted)


def test_the_error_on_held_out_episodes_is_their_largest(copied):
    log = Demonstrations(operator(20, 1))
    found = rc.train.held_out_error(copied, log)
    record = log.as_record()
    expected = 0.0
    for e in record.experiments:
        y = np.asarray(rc.rollout(copied.explicit(), jnp.asarray(e.u)).ys)
        expected = max(expected, np.abs(y - e.y)[e.y_mask].max())
    np.testing.assert_allclose(found.value, expected, rtol=1e-9)
    # 0.05 = (1 - share)^20: the largest of 20 was exceeded by more of all episodes with a probability of 0.05.
    assert found.standing == "statistical" and f"{100 * (1 - 0.05 ** (1 / 20)):.2g} %" in found.how
    with pytest.raises(RobustctlError, match="confidence must be"):
        rc.train.held_out_error(copied, log, 1.0)
    with pytest.raises(RobustctlError, match="actions of the record"):
        rc.train.held_out_error(gain(np.ones((2, 2))), log)


def test_an_episode_without_an_action_is_no_evidence(copied):
    """Its one action is of a sample whose level was not measured."""
    log = operator(4, 1)
    gone, level = np.full((60, 1), np.nan), np.zeros((60, 2))
    gone[0], level[0] = 0.0, np.nan
    more = rc.data.from_arrays(
        [*(e.u for e in log.experiments), gone],
        [*(e.y for e in log.experiments), level],
        1.0, inputs="valve", outputs=["level", "flow"],
    )  # fmt: skip
    found = rc.train.held_out_error(copied, Demonstrations(more))
    assert found.how.startswith("largest of 4 episodes")


def test_a_policy_whose_actions_overflow_has_no_error():
    """NaN is larger than no number, so that the largest error was zero."""

    class Overflows(rc.System):
        def init_state(self):
            return jnp.ones(1)

        def step(self, x, u):
            return 1e300 * x, 0 * u + 0 * x

    level = np.linspace(-1, 1, 20)
    log = rc.data.from_arrays(level, level, 1.0, inputs="valve", outputs="level")
    with pytest.raises(RobustctlError, match="must be finite on all episodes"):
        rc.train.held_out_error(Overflows(), Demonstrations(log))


def test_samples_without_a_measurement_do_not_count():
    record = Demonstrations(operator(2, 0)).as_record()
    assert not record.experiments[0].y_mask[5, 0] and record.experiments[0].y_mask.sum() == 59
    flow = Demonstrations(operator(2, 0), measurements="flow", actions=["valve"]).as_record()
    assert flow.inputs == ("flow",) and flow.input_units == ("m/s",) and flow.experiments[0].y_mask.all()
    as_policy = Demonstrations(record, measurements=record.inputs, actions=record.outputs).as_record()
    assert as_policy.inputs == record.inputs and not as_policy.experiments[0].y_mask[5, 0]


def planted(apart=0.01):
    """A log whose samples 17 and 3 of two experiments have nearly one level, and valves that are opposite."""
    level = [np.linspace(-1, 1, 30), np.linspace(-0.9, 0.95, 20)]
    valve = [-v for v in level]
    level[1][3], valve[1][3], valve[0][17] = level[0][17] + apart, -5.0, 5.0
    return rc.data.from_arrays(valve, level, 1.0, inputs="valve", outputs="level", name="shift")


def test_a_contradiction_is_found_where_it_is():
    found = contradiction(Demonstrations(planted()), 2.0)
    assert found is not None and (found.first, found.second) == (("shift[0]", 17), ("shift[1]", 3))
    levels, valves = (
        np.concatenate(s) for s in zip(*[(e.y, e.u) for e in planted().experiments], strict=True)
    )
    np.testing.assert_allclose(found.distance, 0.01 / levels.std(), rtol=1e-6)
    np.testing.assert_allclose(found.error, (10 / valves.std() - 2 * 0.01 / levels.std()) / 2, rtol=1e-6)
    assert found.actions == ([5.0], [-5.0])
    # A constant that the log has leaves none.
    assert contradiction(Demonstrations(planted()), 1e6) is None


def test_contradicting_demonstrations_are_refused_and_named():
    student = rc.nn.LipschitzStatic(nu=1, ny=1, gamma=2.0, hidden=(4,), key=jr.key(0))
    with pytest.raises(
        RobustctlError, match=r"sample 17 of 'shift\[0\]' and sample 3 of 'shift\[1\]'.*\[5.0\] and \[-5.0\]"
    ):
        imitated(student, Demonstrations(planted()))
    # What a policy remembers can distinguish them, and what is tolerated is no fault.
    check_consistent(Demonstrations(planted(), tolerance=10.0), student)
    assert stateless(student)
    assert not stateless(rc.nn.LipschitzR2DN(nu=1, nx=1, nv=1, ny=1, hidden=(2,), gamma=2.0, key=jr.key(0)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            dict(actions="pump"),
            r"actions must name channels of the record, \['valve', 'level'\], got \['pump'\]",
        ),
        (dict(measurements=()), "measurements must name channels"),
        (dict(actions="level"), "must be a measurement or an action"),
        (dict(tolerance=0.0), "tolerance must be"),
        (dict(tolerance=float("nan")), "tolerance must be"),
    ],
)
def test_logs_that_do_not_show_the_expert_are_refused(settings, message):
    with pytest.raises(DataError, match=message):
        Demonstrations(planted(), **settings)


def test_a_log_without_actions_is_refused():
    level, valve = np.arange(20.0), np.full(20, np.nan)
    level[5:], valve[7:] = np.nan, 1.0
    log = rc.data.from_arrays(valve, level, 1.0, inputs="valve", outputs="level")
    with pytest.raises(DataError, match="without the expert's action there is nothing to imitate"):
        Demonstrations(log)


def test_questions_that_have_no_answer_are_refused():
    box = ([-1.0, -1.0], [1.0, 1.0])
    for states, cells, message in (
        (([1.0, 0.0], [0.0, 1.0]), 10, "low < high"),
        (([-1.0, -1.0], [1.0, np.nan]), 10, "low < high"),
        (3.0, 10, "must be a box"),
        (box, 1, "cells must be"),
        (([-1.0] * 8, [1.0] * 8), 10, "at most 1,000,000"),
    ):
        with pytest.raises(RobustctlError, match=message):
            rc.train.ask(gain(K), states, cells=cells)
    with pytest.raises(RobustctlError, match="actions must be finite"):
        rc.train.ask(gain(K, np.nan), box, cells=3)
    remembers = rc.nn.ContractingR2DN(nu=2, nx=1, nv=1, ny=1, hidden=(2,), key=jr.key(0))
    with pytest.raises(RobustctlError, match="must have no state"):
        rc.train.ask(remembers.explicit(), box)
    answers = rc.train.ask(gain(K), box, cells=4)
    with pytest.raises(RobustctlError, match="expert's 1 actions"):
        answers.error(gain(np.ones((2, 2))))


def test_bounds_that_cannot_hold_are_refused():
    loop = ContractingLoop.linear(A, B, K)
    with pytest.raises(InvalidModelError, match="must be stable"):
        ContractingLoop.linear(A, B, 0 * K)
    with pytest.raises(RobustctlError, match="a rate below 1"):
        ContractingLoop(np.eye(2), Constant(1.0, "searched"), B)
    with pytest.raises(RobustctlError, match="a row for each of 2 states"):
        ContractingLoop(np.eye(2), Constant(0.5, "searched"), np.ones((3, 1)))
    for wrong in (-1.0, np.nan, Constant(1.0, "hoped")):
        with pytest.raises(RobustctlError, match="error must be a finite number"):
            rc.train.deviation_bound(gain(K), loop, wrong)
    with pytest.raises(RobustctlError, match="noise must have a finite bound"):
        rc.train.deviation_bound(gain(K), loop, 0.1, noise=[0.1])
    with pytest.raises(RobustctlError, match="train the policy until its error is at most"):
        rc.train.deviation_bound(gain(K), loop, 10.0, radius=1.0)
    with pytest.raises(RobustctlError, match="errors of the measurement alone reach"):
        rc.train.deviation_bound(gain(K), loop, 0.0, noise=[100.0, 100.0], radius=1.0)
    bound = rc.train.deviation_bound(gain(K), loop, 0.1)
    with pytest.raises(RobustctlError, match="positive semidefinite"):
        bound.cost_at_most(1.0, [1.0, -1.0], 1.0)
    with pytest.raises(RobustctlError, match="cost must be"):
        bound.cost_at_most(-1.0, 1.0, 1.0)
    with pytest.raises(RobustctlError, match="Q must be 2 by 2"):
        bound.cost_at_most(1.0, np.eye(3), 1.0)


def test_matrices_of_other_sizes_are_refused():
    """Two actions through one column of B would be bounded by a gain that is not theirs."""
    loop, two = ContractingLoop.linear(A, B, K), gain(np.ones((2, 2)))
    for policy in (two, gain(np.ones((1, 3)))):
        with pytest.raises(RobustctlError, match="must read the loop's 2 states and have its 1 actions"):
            rc.train.deviation_bound(policy, loop, 0.1)
    answers = rc.train.ask(two, ([-1.0, -1.0], [1.0, 1.0]), cells=3)
    for made in (
        lambda: ContractingLoop.of_policy(A, B, two),
        lambda: ContractingLoop.searched(A, B, answers),
        lambda: ContractingLoop.linear(A, B, [8.0]),
        lambda: ContractingLoop.linear(A, B[:, 0], K),
        lambda: ContractingLoop.linear(np.nan * A, B, K),
    ):
        with pytest.raises(RobustctlError, match="must"):
            made()


def test_only_states_of_the_set_are_asked():
    """An MPC may have no action in the corners of the box around an ellipsoid."""

    class Infeasible(rc.System):
        def init_state(self):
            return ()

        def step(self, x, u):
            return x, jnp.where(jnp.sum(u**2) > 1.6, jnp.nan, -jnp.asarray(K) @ u)

    answers = rc.train.ask(Infeasible(), rc.loops.Ellipsoid(jnp.eye(2)), cells=20)
    assert np.isfinite(answers.u).all() and answers.lipschitz.value == pytest.approx(10.0)
    with pytest.raises(RobustctlError, match="actions must be finite"):
        rc.train.ask(Infeasible(), ([-1.0, -1.0], [1.0, 1.0]), cells=20)
