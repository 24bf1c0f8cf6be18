"""Sets that are kept: invariant polytopes, predicted trajectories, governed set points; each against its definition."""

import itertools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.optimize import nnls
from scipy.spatial import HalfspaceIntersection

import robustctl as rc
from robustctl import classical, loops
from robustctl.errors import InvalidModelError, RobustctlError
from robustctl.loops import (
    AllOf,
    Ellipsoid,
    Gain,
    Guarded,
    InvariantSet,
    Limits,
    Predicted,
    ReferenceGovernor,
    StateLimits,
    Tube,
    maximal_invariant_set,
)  # fmt: skip
from robustctl.loops.segment import furthest
from robustctl.nn.average import AverageSystem

from .controllers import CONTROLLERS

DT = 0.1
A, B, E = np.array([[1.0, 0.1], [0.0, 1.0]]), np.array([[0.005], [0.1]]), np.array([[0.0], [0.02]])
K = np.array([[1.0, 1.5]])
AK = A - B @ K
LIMITS = StateLimits(np.vstack([np.eye(2), -np.eye(2), -K, K]), [1.0, 0.5, 1.0, 0.5, 1.0, 1.0])
BOX: dict[str, Any] = dict(low=[-1.0], high=[1.0])


def mass():
    """A double integrator whose state is measured."""
    return rc.StateSpace(A, B, np.eye(2), np.zeros((2, 1)), dt=DT)


def law(gain: Any = K, target: float = 0.0):
    return Gain(-jnp.asarray(gain, float), jnp.array([target, 0.0]), jnp.zeros(1))


def kept():
    return maximal_invariant_set(AK, LIMITS, E)


def left_of_definition(x, C, limit, matrix=AK, disturbance=E, samples=300):
    """The least distance from a limit at any later sample under the worst disturbance, from the definition of the set."""
    least, reach = np.inf, np.zeros(len(C))
    for _ in range(samples):
        least = min(least, float(np.min(limit - reach - C @ x)))
        reach, C = reach + np.abs(C @ disturbance).sum(1), C @ matrix
    return least


def inside(limits, x):
    return float(np.min(np.asarray(limits.limit, float) - np.asarray(limits.C, float) @ x))


def test_a_turning_system_has_the_set_of_its_closed_form():
    """x turns by a quarter and shrinks by 0.8: |x0| <= 1 now, |0.8 x1| <= 1 in the next sample, then both follow."""
    turn = 0.8 * np.array([[0.0, 1.0], [-1.0, 0.0]])
    limits = StateLimits([[1.0, 0.0], [-1.0, 0.0]], [1.0, 1.0])
    for disturbance in (None, [0.0, 0.3]):
        found = maximal_invariant_set(turn, limits, disturbance)
        rows = np.asarray(found.C) / np.asarray(found.limit)[:, None]
        expected = [[-1.0, 0.0], [0.0, -0.8], [0.0, 0.8], [1.0, 0.0]]
        np.testing.assert_allclose(rows[np.lexsort(rows.T[::-1])], expected, atol=1e-6)
    # 0.24 in each other sample, 0.24 / (1 - 0.64) = 0.67 in all; 0.4 / 0.36 exceeds the limit of 1.
    with pytest.raises(InvalidModelError, match="disturbance alone must keep the limits"):
        maximal_invariant_set(turn, limits, [0.0, 0.5])


def test_the_set_is_all_states_from_which_limits_are_kept_and_no_disturbance_leads_out():
    found = kept()
    C, limit = np.asarray(LIMITS.C, float), np.asarray(LIMITS.limit, float)
    for x in np.random.default_rng(0).uniform(-1.2, 1.2, (400, 2)):
        true = left_of_definition(x, C, limit)
        if abs(true) > 1e-5:
            assert (inside(found, x) >= 0) == (true > 0)
    H, h = np.asarray(found.C, float), np.asarray(found.limit, float)
    corners = HalfspaceIntersection(np.hstack([H, -h[:, None]]), np.zeros(2)).intersections
    assert len(corners) == len(H)
    for corner, d in itertools.product(corners, (-1.0, 1.0)):
        assert inside(found, AK @ corner + E[:, 0] * d) > -1e-5
        assert left_of_definition(1.01 * corner, C, limit) < 0


def test_about_another_equilibrium_the_set_is_moved():
    middle = np.array([0.3, 0.0])
    moved = StateLimits(LIMITS.C, np.asarray(LIMITS.limit, float) + np.asarray(LIMITS.C, float) @ middle)
    found, expected = maximal_invariant_set(AK, moved, E, middle=middle), kept()
    np.testing.assert_allclose(found.C, expected.C, atol=1e-6)
    np.testing.assert_allclose(
        found.limit, np.asarray(expected.limit) + np.asarray(expected.C) @ middle, atol=1e-6
    )


def worst(guarded, x0, directions, scale=1.0):
    """The states of a loop whose disturbance goes, in each sample, to the corner that lowers the row of a limit."""

    @eqx.filter_jit
    def one(direction):
        def body(carry, row):
            x, state = carry
            state, u = guarded.step(state, x)
            d = scale * jnp.sign(row @ E)
            return (A @ x + B @ u + E @ d, state), (x, u)

        x0_ = jnp.asarray(x0, float)
        (_, state), (xs, us) = jax.lax.scan(body, (x0_, guarded.init_state()), direction)
        return xs, us, state.counts

    return jax.vmap(one)(directions)


def directions(samples=150):
    """Rows of limits that the disturbance pushes against: always the same, or drawn anew in each sample."""
    rows = jnp.asarray(LIMITS.C[:4])
    drawn = rows[jr.randint(jr.key(0), (4, samples), 0, 4)]
    return jnp.concatenate([jnp.broadcast_to(rows[:, None], (4, samples, 2)), drawn])


def ellipse():
    """A tube with an ellipsoid for the end of its prediction, and the limits of the states."""
    tube = Tube.linear(AK, E)
    return tube, tube.ellipsoid(LIMITS)


def filters():
    tube, terminal = ellipse()
    states = StateLimits(LIMITS.C[:4], LIMITS.limit[:4])
    return {
        "polytope": InvariantSet(mass(), kept(), E, **BOX),
        "ellipsoid": Predicted(mass(), terminal, 1, tube=tube, **BOX),
        "prediction": Predicted(mass(), states, 20, tube=tube, terminal=terminal, **BOX),
    }


@pytest.mark.parametrize("name", ["polytope", "ellipsoid", "prediction"])
def test_no_disturbance_leads_a_guarded_loop_out_and_a_control_is_always_found(name):
    with jax.enable_x64(True):
        bold = law([[8.0, 1.0]], 3.0)
        guarded = Guarded(bold, filters()[name], law(), plant=rc.loops.ModelPlant(mass()))
        xs, us, counts = worst(guarded, [0.0, 0.0], directions())
        worse, _, _ = worst(Guarded(bold, Limits(**BOX), law()), [0.0, 0.0], directions())
    C, limit = np.asarray(LIMITS.C[:4], float), np.asarray(LIMITS.limit[:4], float)
    assert np.max(np.asarray(xs) @ C.T - limit) < 1e-6 and np.abs(us).max() <= 1
    assert np.max(np.asarray(worse) @ C.T - limit) > 0.5
    assert counts[:, 2].sum() == 0 and (counts[:, 1] > 5).all()


def test_a_fallback_with_memory_is_predicted_from_its_own_state():
    """From every control that is let through, the fallback's trajectory, computed here by NumPy from all it has read, keeps the limits."""
    Ac, Bc, Cc, Dc = np.array([[0.9]]), np.array([[0.1, 0.1]]), np.array([[-0.4]]), -K
    states = StateLimits(LIMITS.C[:4], LIMITS.limit[:4])
    with jax.enable_x64(True):
        fallback = rc.StateSpace(Ac, Bc, Cc, Dc, dt=DT)
        filter = Predicted(mass(), states, 25, **BOX)
        guarded = Guarded(law([[8.0, 1.0]], 3.0), filter, fallback)
        step, state = eqx.filter_jit(lambda x, y: guarded.step(x, y)), guarded.init_state()
        x, memory, least, without = np.zeros(2), np.zeros(1), [], []
        for _ in range(40):
            state, u = step(state, jnp.asarray(x))
            after, memory = A @ x + B @ np.asarray(u), Ac @ memory + Bc @ x
            x = after
            if state.outcome == loops.Outcome.FALLBACK:
                continue
            for found, c in ((least, memory), (without, 0 * memory)):
                z, room = x, []
                for _ in range(25):
                    room.append(inside(states, z))
                    control = np.clip(Cc @ c + Dc @ z, -1, 1)
                    z, c = A @ z + B @ control, Ac @ c + Bc @ z
                found.append(min(room))
    assert len(least) > 20 and state.counts[1] > 5
    # At the limit, which is where another state of the fallback would not have led.
    assert -1e-6 < min(least) < 1e-3
    assert np.abs(np.subtract(least, without)).max() > 1e-2


def braked(states, x, before, rate, samples):
    """The least distance from a limit of the fallback's trajectory, with a control that may change by `rate` a sample."""
    room = []
    for _ in range(samples):
        room.append(inside(states, x))
        before = np.clip(np.clip(-K @ x, before - rate, before + rate), -1, 1)
        x = A @ x + B @ before
    return min(room)


@pytest.mark.parametrize("rate", [0.05, 0.1])
def test_a_fallback_with_a_rate_limit_is_predicted_with_it(rate):
    """The guard slows its fallback down, too: every control let through leaves it room to brake at that rate, by NumPy."""
    states = StateLimits(LIMITS.C[:4], LIMITS.limit[:4])
    change = K @ (AK - np.eye(2))
    slow = StateLimits(np.vstack([LIMITS.C, change, -change]), np.concatenate([LIMITS.limit, [rate, rate]]))
    with jax.enable_x64(True):
        predicted = Predicted(mass(), states, 60, terminal=Tube.linear(AK).ellipsoid(slow), **BOX)
        guarded = Guarded(law([[8.0, 1.0]], 3.0), AllOf((loops.RateLimit([rate]), predicted)), law())

        @jax.jit
        def run():
            def body(carry, _):
                x, state = carry
                state, u = guarded.step(state, x)
                return (A @ x + B @ u, state), (x, u, state.outcome)

            return jax.lax.scan(body, (jnp.zeros(2), guarded.init_state()), length=80)[1]

        xs, us, outcome = map(np.asarray, run())
    assert np.abs(np.diff(us[:, 0], prepend=0.0)).max() < rate + 1e-9
    assert min(inside(states, x) for x in xs) > -1e-6 and (outcome == loops.Outcome.CHANGED).sum() > 20
    later = [(xs[t + 1], us[t]) for t in range(79) if outcome[t] != loops.Outcome.FALLBACK]
    left = np.array([[braked(states, x, u, r, 200) for r in (rate, 9.0)] for x, u in later])
    assert left[:, 0].min() > -1e-6
    # Where the rate limit leaves nothing, a fallback without it would have room.
    assert left[left[:, 0] < 1e-3, 1].max() > 0.02


def test_limits_of_another_filter_are_those_of_the_predicted_fallback():
    """x+ = 1.2 x + u with |u| <= 0.1 from another filter: beyond 0.5 no fallback brings it back."""
    predicted = Predicted(line(1.2), StateLimits([[1.0]], [1.0]), 30)
    guarded = Guarded(scalar(-5.0), AllOf((Limits([-0.1], [0.1]), predicted)), scalar(1.0))
    state, u = guarded.step(guarded.init_state(), jnp.array([0.4]))
    assert state.outcome == loops.Outcome.CHANGED
    # x[1] = 0.5 + 0.5 / 1.2^29: from there 0.1 less in each sample reaches 1 after 30.
    np.testing.assert_allclose(0.48 + u, 0.5 + 0.5 / 1.2**29, atol=1e-5)


def test_beyond_the_assumed_size_it_is_counted():
    with jax.enable_x64(True):
        guarded = Guarded(law([[8.0, 1.0]], 3.0), filters()["polytope"], law())
        _, us, counts = worst(guarded, [0.0, 0.0], directions(), scale=5.0)
    assert counts[:, 2].sum() > 0 and (counts.sum(1) == 150).all() and np.abs(us).max() <= 1


def line(a=0.9):
    """x+ = a x + u."""
    return rc.StateSpace([[a]], [[1.0]], [[1.0]], [[0.0]], dt=DT)


def scalar(k):
    return Gain(jnp.array([[-k]]), jnp.zeros(1), jnp.zeros(1))


def test_a_prediction_leaves_what_its_tube_does_not_need():
    """x+ = 0.9 x + u + 0.1 d with the fallback u = -0.4 x: 0.5^(k-1) |x[1]| <= 1 - 0.1 (1 - 0.5^k) / 0.5 - 0.5^(k-1) e."""
    tube, limits = Tube([[1.0]], 0.5, [0.1]), StateLimits([[1.0], [-1.0]], [1.0, 1.0])
    powers = 0.5 ** np.arange(4)
    for error in (None, [0.2]):
        filter = Predicted(line(), limits, 4, tube=tube, error=error, low=[-9.0], high=[9.0])
        e = 0.0 if error is None else 0.9 * 0.2
        most = np.min((1 - 0.1 * np.cumsum(powers) - powers * e) / powers)
        guarded = Guarded(scalar(-5.0), filter, scalar(0.4))
        state, u = guarded.step(guarded.init_state(), jnp.array([0.5]))
        assert state.outcome == loops.Outcome.CHANGED
        np.testing.assert_allclose(0.45 + u, most, atol=1e-5)
        state, u = guarded.step(guarded.init_state(), jnp.array([0.05]))
        assert state.outcome == loops.Outcome.PASSED and u == 0.25


def test_a_barrier_takes_the_bound_of_an_estimate():
    """h = 1 - x: 1 - 0.9 x - u >= 0.8 (1 - x) for every x within 0.2 of the estimate: 0.1 of 0.2 is kept."""
    limit = StateLimits([[1.0]], [1.0])
    for error, margin in ((None, 0.0), ([0.2], 0.1 * 0.2)):
        allowed = loops.Barrier(line(), limit, 0.2, error=error).allowed(jnp.array([0.5]), jnp.zeros(1))
        u, _ = rc.loops.half_spaces.nearest(jnp.array([9.0]), allowed)
        np.testing.assert_allclose(u, 1 - 0.45 - 0.8 * 0.5 - margin, atol=1e-6)


def test_an_observer_without_a_bound_is_refused():
    sampled = rc.plants.Sampled(rc.plants.LinearPlant([[-1.0]], [[1.0]], [[1.0]]), DT)
    estimator, limit = classical.kalman(sampled, [1.0], [0.1]).estimator, StateLimits([[1.0]], [1.0])
    assert estimator is not None

    def made(error, inside=lambda guard: guard):
        filter = AllOf((Limits([-1.0], [1.0]), loops.Barrier(sampled, limit, 0.2, error=error)))
        return classical.EstimateFeedback(estimator, inside(Guarded(scalar(3.0), filter, scalar(0.5))))

    for inside in (
        lambda guard: guard,
        lambda guard: loops.Series(guard, scalar(1.0)),
        lambda guard: rc.Delayed(guard, (1,)),
        lambda guard: AverageSystem((scalar(1.0), guard)),
    ):
        assert isinstance(made([0.1], inside), rc.System)
        with pytest.raises(InvalidModelError, match="must have a bound of its error"):
            made(None, inside)
    with pytest.raises(InvalidModelError, match="must have a bound, finite"):
        made([np.inf])


def test_the_way_to_a_control_ends_at_the_limit_with_its_derivative():
    def end(z):
        return furthest(lambda u: z[0] - u[0] ** 2 - z[1] * u[1], jnp.zeros(2), jnp.array([2.0, 1.0]))

    with jax.enable_x64(True):
        z = jnp.array([1.0, 0.5])
        u, found = end(z)
        # 4 t^2 + t / 2 = 1
        t = (-0.5 + np.sqrt(0.25 + 16)) / 8
        np.testing.assert_allclose(u, [2 * t, t], atol=3e-6)
        assert found and not end(jnp.array([-1.0, 0.5]))[1]
        slope = jax.jacfwd(lambda z: end(z)[0])(z)
        back = jax.jacrev(lambda z: end(z)[0])(z)
    per_t = 8 * t + 0.5
    np.testing.assert_allclose(slope, np.outer([2.0, 1.0], [1 / per_t, -t / per_t]), atol=1e-5)
    np.testing.assert_allclose(back, slope, atol=1e-12)


def test_gradients_through_a_prediction_are_those_of_finite_differences():
    with jax.enable_x64(True):
        whole = Guarded(law([[8.0, 1.0]], 3.0), filters()["prediction"], law())

        @eqx.filter_jit
        def loss(z):
            guarded = eqx.tree_at(
                lambda g: (g.controller.D, g.fallback.D), whole, (-z[None, :2], -z[None, 2:])
            )

            def body(carry, _):
                x, state = carry
                state, u = guarded.step(state, x)
                return (A @ x + B @ u, state), u

            (x, state), us = jax.lax.scan(body, (jnp.zeros(2), guarded.init_state()), length=8)
            return jnp.sum(us**2) + jnp.sum(x**2), state.counts

        z = jnp.array([8.0, 1.0, 1.0, 1.5])
        slope, counts = eqx.filter_jit(jax.grad(loss, has_aux=True))(z)
        assert counts[1] > 1
        e = 1e-3
        expected = [(loss(z + e * d)[0] - loss(z - e * d)[0]) / (2 * e) for d in jnp.eye(4)]
    # Bisection to 1e-6 of the way limits the accuracy of the differences.
    np.testing.assert_allclose(slope, expected, rtol=1e-2, atol=2e-2)


SERVO = np.array([[4.0, 3.0]])
REACH = StateLimits([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]], [1.0, 1.0, 0.5])


def servo():
    """u = 4 (r - x0) - 3 x1."""
    return Gain(jnp.array([[-4.0, -3.0, 4.0]]), jnp.zeros(3), jnp.zeros(1))


def test_a_governor_goes_as_far_as_the_limits_allow_and_keeps_them():
    governed = ReferenceGovernor(mass(), servo(), REACH, E, **BOX)
    with jax.enable_x64(True):
        governed = jax.tree.map(lambda a: a.astype(float) if eqx.is_inexact_array(a) else a, governed)

        @jax.vmap
        def run(key):
            rs = jnp.repeat(jr.uniform(key, (12,), minval=-3.0, maxval=3.0), 20)
            ds = jnp.sign(jr.normal(jr.fold_in(key, 1), (240, 1)))

            def body(carry, rd):
                x, state = carry
                r, d = rd
                state, u = governed.step(state, jnp.concatenate([x, r[None]]))
                return (A @ x + B @ u + E @ d, state), (x, u, state.v, r)

            return jax.lax.scan(body, (jnp.zeros(2), governed.init_state()), (rs, ds))[1]

        xs, us, after, rs = map(np.asarray, jax.jit(run)(jr.split(jr.key(0), 8)))
    C, limit = np.asarray(REACH.C, float), np.asarray(REACH.limit, float)
    assert np.max(xs @ C.T - limit) < 1e-6 and np.abs(us).max() < 1 + 1e-6
    # As far as possible: a thousandth further on the way, the definition of the set is violated.
    loop, rows = A - B @ SERVO, np.vstack([C, -SERVO, SERVO])
    for t in range(0, 240, 7):
        x, v, r = xs[0, t], after[0, t, 0], rs[0, t]
        stopped = abs(r - v) > 1e-3
        for further, sign in ((0.0, 1), (2e-3 * np.sign(r - v), -1)):
            target = v + further
            bounds = np.concatenate([limit, 1 - 4 * np.array([target, -target])])
            equilibrium = np.array([target, 0.0])
            margin = left_of_definition(x - equilibrium, rows, bounds - rows @ equilibrium, loop, samples=200)
            rest = 0.99 * (1 - reach_of(loop)) - abs(target)
            assert sign > 0 or not stopped or min(margin, rest) < 1e-6
            assert sign < 0 or margin > -1e-6


def reach_of(loop):
    """What disturbances can do to the position in all."""
    return sum(abs((np.linalg.matrix_power(loop, j) @ E)[0, 0]) for j in range(400))


def test_two_set_points_are_followed_each_as_far_as_it_can():
    """Two axes apart: the one at its limit does not stop the other."""
    plant = rc.StateSpace(0.5 * np.eye(2), np.eye(2), np.eye(2), np.zeros((2, 2)), dt=DT)
    feedforward = Gain(jnp.array([[0.0, 0.0, 0.5, 0.0], [0.0, 0.0, 0.0, 0.5]]), jnp.zeros(4), jnp.zeros(2))
    governed = ReferenceGovernor(plant, feedforward, StateLimits([[1.0, 0.0]], [1.0]))
    state, u = governed.step(governed.init_state(), jnp.array([0.0, 0.0, 4.0, 3.0]))
    np.testing.assert_allclose(state.v, [0.99, 3.0], rtol=1e-6)
    np.testing.assert_allclose(u, state.v / 2, rtol=1e-6)


def test_tube_mpc_keeps_limits_that_mpc_breaks_and_is_the_lqr_inside():
    pytest.importorskip("qpax")
    bounds: dict[str, Any] = dict(
        horizon=8, u_low=[-1.0], u_high=[1.0], x_low=[-1.0, -0.5], x_high=[1.0, 0.5]
    )
    Q, R = [10.0, 1.0], [0.05]
    with jax.enable_x64(True):
        tube = classical.tube_mpc(mass(), Q, R, E, **bounds)
        plain = classical.mpc(mass(), Q, R, **bounds)

        def run(controller, row):
            def body(x, _):
                u = controller.step((), x)[1]
                return A @ x + B @ u + E @ jnp.sign(row @ E), x

            return jax.lax.scan(body, jnp.array([-0.9, 0.0]), length=40)[1]

        rows = jnp.asarray([[0.0, 1.0], [0.0, -1.0]])
        kept, broken = (
            jax.jit(jax.vmap(lambda row, c=c: run(c, row)))(rows) for c in (tube.controller, plain.controller)
        )
        near = tube.controller.step((), jnp.array([0.02, -0.01]))[1]
    most = np.array([1.0, 0.5])
    assert np.max(np.abs(kept) - most) < 1e-5 and np.max(np.abs(broken) - most) > 5e-3
    np.testing.assert_allclose(near, -tube.K @ [0.02, -0.01], atol=1e-6)
    with pytest.raises(InvalidModelError, match="disturbance alone must keep"):
        classical.tube_mpc(mass(), Q, R, 20 * E, **bounds)


def least_distance(H, f, G, h):
    """The optimum of `z' H z / 2 + f' z` with `G z <= h` by SciPy's nonnegative least squares (Lawson, Hanson, chapter 23)."""
    L = np.linalg.cholesky(H)
    rows = -np.linalg.solve(L, G.T).T  # of w = L' z + L^-1 f, as rows w >= values
    values = -h - G @ np.linalg.solve(H, f)
    lam, _ = nnls(np.vstack([rows.T, values]), np.eye(len(f) + 1)[-1])
    left = np.vstack([rows.T, values]) @ lam - np.eye(len(f) + 1)[-1]
    return np.linalg.solve(L.T, -left[:-1] / left[-1] - np.linalg.solve(L, f))


def test_the_plans_of_a_tube_mpc_are_optimal_in_float32_too():
    """Where limits are active: the penalty of the slacks must not take the accuracy of the plan."""
    pytest.importorskip("qpax")
    bounds: dict[str, Any] = dict(u_low=-1.0, u_high=1.0, x_low=[-1.5, -1.0], x_high=[1.5, 1.0])
    c: Any = classical.tube_mpc(mass(), [1.0, 0.1], [0.5], E, horizon=8, **bounds).controller
    states = np.random.default_rng(0).uniform(-1, 1, (40, 2)) * [1.4, 0.9]
    small = jax.tree.map(lambda a: a.astype(jnp.float32), c)
    found = np.asarray(jax.jit(jax.vmap(lambda x: small.step((), x)[1]))(jnp.asarray(states, jnp.float32)))
    H, f, G, h, Ex, gain = (np.asarray(a, np.float64) for a in (c.H, c.f, c.G, c.h, c.E, c.K))
    plans = np.array([least_distance(H, f, G, h - Ex @ x) for x in states])
    assert (np.abs(plans[:, 0]) > 0.01).sum() > 5 and (plans[:, 8:].max(1) > 1e-3).sum() > 1
    np.testing.assert_allclose(found, np.clip(plans[:, :1] - states @ gain.T, -1, 1), atol=1e-3)


@pytest.mark.parametrize("name", ["MPC", "tube MPC", "nonlinear MPC", "convex MPC"])
def test_no_plan_hides_a_measurement_that_is_not_finite(name):
    """The control is NaN, so that what runs the controller sees the fault; and in a guard that sample is a fallback, with its reason."""
    pytest.importorskip("qpax")
    system = CONTROLLERS[name]()
    y = system.undisturbed()
    bad = jnp.stack([y, y.at[0].set(jnp.nan), y.at[1].set(jnp.inf), jnp.full_like(y, -jnp.inf)])
    base = Gain(jnp.zeros((1, 2)), jnp.zeros(2), 0.5 * jnp.ones(1))
    guarded = Guarded(Hidden(system), Limits([0.0], [2.0]), base, back=0, u0=[0.5])

    @eqx.filter_jit
    def run(ys):
        alone = jax.vmap(lambda y: system.step(system.init_state(), y)[1])(ys)
        return alone, jax.vmap(lambda y: guarded.step(guarded.init_state(), y))(jnp.stack([y, y + 900.0]))

    controls, (state, control) = run(bad)
    assert np.isfinite(controls[0]).all() and np.isnan(controls[1:]).all()
    assert int(state.reason[0]) == loops.Reason.NONE
    assert int(state.reason[1]) == loops.Reason.OUTPUT_NOT_FINITE and float(control[1, 0]) == 0.5


class Hidden(rc.System):
    """A controller whose own conversion of a measurement fails for large ones, which a guard does not see at the input."""

    inner: rc.System
    nu, ny = 2, 1

    def init_state(self):
        return self.inner.init_state()

    def step(self, x, u):
        return self.inner.step(x, jnp.where(u > 800, jnp.nan, u))


@pytest.mark.parametrize("name", ["guarded by sets", "reference governor", "tube MPC"])
def test_they_step_the_same_in_c(name):
    system: Any = CONTROLLERS[name]()
    about, size = (np.asarray(system.undisturbed()), 2.0) if name == "tube MPC" else (np.zeros(2), 0.5)
    ys = about + size * np.asarray(jr.normal(jr.key(4), (40, 2)))
    try:
        step = rc.export.compile(system, u=np.zeros(2))
    except RobustctlError as error:
        pytest.skip(str(error))
    found = eqx.filter_jit(rc.rollout)(system, jnp.asarray(ys))
    if name == "guarded by sets":
        assert found.x_final.counts.min() > 0
    if name == "tube MPC":
        # Samples whose plan a limit changes, and one whose measurement is missing.
        plain = np.asarray(system.u0) - (ys - about) @ np.asarray(system.K).T
        assert (
            5 < np.sum(np.abs(found.ys - plain) > 1e-3) < 40 and np.isnan(step((), ys[0] * np.nan)[1]).all()
        )
    x = step.init_state()
    for y, u in zip(ys, found.ys, strict=True):
        x, own = step(x, y)
        np.testing.assert_allclose(own, u, atol=1e-6)


STATES = StateLimits([[1.0, 0.0]], [1.0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: maximal_invariant_set(A, LIMITS), r"must be stable, got one with the poles 1, 1"),
        (lambda: maximal_invariant_set(AK, StateLimits([[1.0, 0.0]], [-1.0])), "equilibrium must be inside"),
        (lambda: maximal_invariant_set(AK, LIMITS, E, steps=2), "determined within 2 samples"),
        (lambda: maximal_invariant_set(np.eye(3), LIMITS), r"A must be \(nx, nx\)"),
        (lambda: maximal_invariant_set(AK, LIMITS, np.ones((3, 1))), "a row for each of 2 states"),
        (lambda: maximal_invariant_set(AK, LIMITS, E, steps=0), "steps must be"),
        (lambda: InvariantSet(mass(), Ellipsoid(np.eye(2)), E), "half-spaces"),  # pyright: ignore[reportArgumentType]
        (lambda: Ellipsoid([[1.0, 0.0], [0.0, -1.0]]), "positive definite"),
        (lambda: Ellipsoid(np.eye(2), [0.0]), "for a middle"),
        (lambda: Tube(np.eye(2), 1.0), r"in \(0, 1\)"),
        (lambda: Tube.linear(A), "poles 1, 1"),
        (lambda: Tube.linear(AK, 20 * E).ellipsoid(LIMITS), "wide enough for the disturbance"),
        (lambda: Predicted(mass(), STATES, 0), "horizon must be at least 1"),
        (lambda: Predicted(mass(), StateLimits([[1.0]], [1.0]), 3), "of the model's 2 states"),
        (lambda: Predicted(mass(), STATES, 3, error=[0.1, 0.1]), "must have a tube"),
        (lambda: Predicted(mass(), STATES, 3, tube=Tube([[1.0]], 0.5)), "tube must be of the model's 2 states"),
        (lambda: Predicted(mass(), STATES, 3, low=[1.0], high=[1.0]), "low must be below high"),
        (lambda: Guarded(law(), Predicted(mass(), STATES, 3, **BOX), law(), y0=[1.5, 0.0]), "fallback's predicted trajectory"),
        (lambda: Guarded(law(), Predicted(line(), StateLimits([[1.0]], [1.0]), 3), rc.classical.PID(1.0, dt=0.2)), "sample time"),
        (lambda: ReferenceGovernor(mass(), law(), REACH), "at least one reference"),
        (lambda: ReferenceGovernor(mass(), Gain(jnp.zeros((1, 3)), jnp.zeros(3), jnp.zeros(1)), REACH), "poles 1, 1"),
        (lambda: ReferenceGovernor(mass(), servo(), REACH, v0=[2.0]), "first set point must be possible"),
        (lambda: ReferenceGovernor(mass(), servo(), REACH, v0=[0.0, 0.0]), "v0 must have one number"),
        (lambda: ReferenceGovernor(mass(), rc.classical.PID(1.0, dt=DT, reads=[[1.0, 0.0]], low=-1.0, high=1.0), REACH), "linear"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(InvalidModelError, match=message):
        make()
