"""Convex model-predictive control: one optimum from every start, that of other solvers, limits, and bad requests."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.optimize

import robustctl as rc
from robustctl.classical import ConvexCost, convex_mpc
from robustctl.classical.qp import solve_qp
from robustctl.classical.staged_qp import StagedQP, solve_staged
from robustctl.errors import InvalidModelError

from .models import draw

KEY = jr.key(0)


def network(**settings):
    given: dict[str, Any] = dict(
        nu=1, nx=4, ny=1, gamma=2.0, rate=0.9, directions=(1,), direct=False, key=KEY
    )
    return rc.nn.InputConvexRNN(**(given | settings))


COST = ConvexCost(y_price=0.3, y_weight=1.0, u_price=-0.5, u_weight=0.1, u_to=0.3)


def controller(model=None, cost=COST, **settings):
    given: dict[str, Any] = dict(u_low=-1.0, u_high=1.0, y_high=0.4, horizon=8)
    return convex_mpc(network() if model is None else model, cost, **(given | settings))


@pytest.mark.parametrize("activation", [jax.nn.relu, jax.nn.leaky_relu])
def test_a_hundred_starts_have_one_optimum_that_no_other_plan_reaches(activation):
    """Costs to 1e-6 of the least, plans to 1e-5 of the limits; 2,000 plans about it and anywhere cost more."""
    model = draw(network(nu=2, ny=2, directions=(1, 0), activation=activation), jr.key(1), 1.0)
    cost = ConvexCost([0.3, 0.0], [0.0, 1.0], [0.0, -1.0], u_price=[-1.0, 0.0], u_weight=0.1)
    c = controller(model, cost, y_high=[np.inf, 0.5])
    x, bias = c.start + 0.2, jnp.asarray([0.1, -0.2])
    starts = jr.uniform(jr.key(2), (100, 8, 2))
    noise = jr.normal(jr.key(3), (2000, 8, 2)) * jnp.logspace(-4, 0, 2000)[:, None, None]

    @jax.jit
    def solved(starts, noise):
        cost_of = jax.vmap(lambda us: c.predicted_cost(x, bias, us))
        plans = jax.vmap(lambda start: c.plan(x, bias, start))(starts)
        return plans, cost_of(plans), cost_of(jnp.clip(plans[:1] + noise, -1.0, 1.0))

    plans, costs, others = map(np.asarray, solved(starts, noise))
    assert np.ptp(costs) <= 1e-6 * abs(costs.min()) and np.ptp(plans, axis=0).max() <= 1e-5
    assert others.min() >= costs.min() - 1e-9 * abs(costs.min())
    assert np.all(np.abs(plans) <= 1)


def test_the_optimum_is_that_of_a_linear_program():
    """Prices alone and a limit: variables u, h and s of all samples in scipy's HiGHS, from the model's equations."""
    c = controller(draw(network(), jr.key(1), 1.0), ConvexCost(y_price=0.3, u_price=-0.5))
    x, m, N, nx = np.asarray(c.start), c.model, c.horizon, 4
    U, W, b, C = (np.asarray(a) for a in (m.U, m.W, m.b, m.C))
    width = 1 + nx + 1
    price = np.concatenate([[-0.5], 0.3 * C[0], [0.0]])
    rows, right = [], []
    for k in range(N):
        own = np.zeros((nx, N * width))
        own[:, k * width : k * width + 1], own[:, k * width + 1 : k * width + 1 + nx] = W, -np.eye(nx)
        if k:
            own[:, (k - 1) * width + 1 : (k - 1) * width + 1 + nx] = U
        limit = np.zeros(N * width)
        limit[k * width + 1 : (k + 1) * width] = [*C[0], -1.0]
        rows += [own, limit[None]]
        right += [-b - (0 if k else U @ x), [0.4 - float(m.by[0])]]
    bounds = ([(-1, 1)] + [(0, None)] * (nx + 1)) * N
    # The penalty of the slack is exact where it is above the multipliers; with its square it is no linear program.
    penalty = float(c.cost.penalty)
    price[-1] = penalty
    found = scipy.optimize.linprog(
        np.tile(price, N), np.vstack(rows), np.concatenate(right), bounds=bounds, method="highs"
    )
    plan = c.plan(c.start, jnp.zeros(1), jnp.full((N, 1), 0.5))
    offset = 0.3 * N * float(m.by[0])
    assert found.success and found.x.reshape(N, width)[:, -1].max() < 1e-9
    ours = float(c.predicted_cost(c.start, jnp.zeros(1), plan))
    np.testing.assert_allclose(ours, found.fun + offset, rtol=1e-6, atol=1e-7)


def test_a_linear_model_without_active_limits_has_the_plan_of_its_equations():
    """y = sum of C U^j W u: with a price p of y the optimum is u_to - (p times the response yet to come + c) / (2 R)."""
    c = controller(
        network(activation=jax.nn.identity),
        ConvexCost(y_price=0.3, u_price=0.05, u_weight=2.0, u_to=0.1),
        y_high=None,
    )
    U, W, C = (np.asarray(a) for a in (c.model.U, c.model.W, c.model.C))
    markov = [float((C @ np.linalg.matrix_power(U, j) @ W).item()) for j in range(8)]
    expected = [0.1 - (0.3 * sum(markov[: 8 - k]) + 0.05) / 4 for k in range(8)]
    plan = c.plan(c.start, jnp.zeros(1), jnp.full((8, 1), 0.5))
    np.testing.assert_allclose(plan[:, 0], expected, atol=1e-7)


def test_staged_programs_are_those_written_out():
    rng, N, m, n = np.random.default_rng(0), 5, 4, 2
    root, G = rng.normal(size=(m, m)), np.vstack([rng.normal(size=(3, m)), np.eye(m), -np.eye(m)])
    B, f = 0.3 * rng.normal(size=(len(G), n)), rng.normal(size=(N, m))
    program = StagedQP(*map(jnp.asarray, (0.1 * root @ root.T, f, G, B, np.ones((N, len(G))))))
    wide = np.kron(np.eye(N), G)
    for k in range(1, N):
        wide[k * len(G) : (k + 1) * len(G), k * m - n : k * m] += B
    H = jnp.asarray(np.kron(np.eye(N), program.H))
    expected = solve_qp(H, jnp.asarray(f.ravel()), jnp.asarray(wide), jnp.ones(len(wide)), 60)
    found = solve_staged(program, jnp.zeros((N, m)), 60)
    np.testing.assert_allclose(found.ravel(), expected, atol=1e-6)
    z = rng.normal(size=(N, m))
    np.testing.assert_allclose(program.rows(jnp.asarray(z)).ravel(), wide @ z.ravel(), atol=1e-12)
    weights = rng.normal(size=(N, len(G)))
    np.testing.assert_allclose(
        program.columns(jnp.asarray(weights)).ravel(), wide.T @ weights.ravel(), atol=1e-12
    )


def test_the_loop_stays_below_a_limit_although_the_plant_is_not_the_model():
    """The plant's output is 0.3 higher than the model's, in other units: the bias leaves no offset at the limit."""
    system = network(gamma=5.0).explicit()
    scales = [jnp.asarray(a) for a in ([10.0], [2.0], [300.0], [5.0])]
    plant = rc.Scaled(system, *scales, dt=0.5)
    high, cost = 301.0, ConvexCost(u_price=-1.0, u_weight=0.01)
    c = convex_mpc(plant, cost, u_low=8.0, u_high=14.0, y_high=high, horizon=10)

    @jax.jit
    def run():
        def body(at, _):
            h, x = at
            y = plant.y_std * (system.C @ h + system.by) + plant.y_mean + 0.3
            x, u = c.step(x, y)
            return (plant.step(h, u)[0], x), (y, u)

        return jax.lax.scan(body, (c.start, c.init_state()), None, length=80)[1]

    ys, us = (np.asarray(a) for a in run())
    assert ys.max() <= high + 0.02 and abs(ys[-1, 0] - high) < 1e-3
    assert np.all((us >= 8) & (us <= 14)) and c.dt == 0.5
    np.testing.assert_allclose(c.undisturbed(), plant.step(c.start, jnp.asarray([11.0]))[1])


def test_states_of_the_plan_move_with_every_sample(tmp_path):
    c = controller()
    rc.save(tmp_path / "c", c)
    loaded = rc.load(tmp_path / "c")
    assert eqx.tree_equal(loaded, c)
    step = eqx.filter_jit(lambda c, x, y: c.step(x, y))
    (x, u), (same, again) = (step(each, c.init_state(), jnp.asarray([0.2])) for each in (c, loaded))
    assert np.array_equal(u, again) and np.array_equal(x, same)
    np.testing.assert_allclose(x, c.model.step(c.init_state(), u)[0])


BAD = {
    "needs an input-convex model": lambda: controller(
        rc.nn.LipschitzR2DN(nu=1, nx=2, nv=2, ny=1, gamma=1.0, key=KEY)
    ),
    "no direct path": lambda: controller(network(direct=True)),
    "must be one of relu": lambda: controller(network(activation=jax.nn.softplus)),
    "no negative entry": lambda: controller(
        eqx.tree_at(lambda s: s.U, network().explicit(), -network().explicit().U)
    ),
    "scales of outputs must be positive": lambda: controller(
        rc.Scaled(network().explicit(), *(jnp.asarray([v]) for v in (0.0, 1.0, 0.0, -1.0)))
    ),
    "horizon must be": lambda: controller(horizon=0),
    "limits on u must be finite": lambda: controller(u_low=1.0, u_high=-1.0),
    "between finite limits": lambda: controller(u_high=np.inf),
    "must be a number or 1 numbers": lambda: controller(u_low=[0.0, 1.0]),
    "penalty must be": lambda: controller(penalty=0.0),
    "y_price must be at least 0": lambda: ConvexCost(y_price=-1.0),
    "y_weight must be at least 0": lambda: ConvexCost(y_weight=[1.0, -1.0]),
    "must grow with an output": lambda: controller(cost=ConvexCost(u_weight=1.0), y_high=None),
    "y_from must be finite": lambda: controller(cost=ConvexCost(y_weight=1.0, y_from=np.nan)),
    "u_weight must be positive semidefinite": lambda: controller(cost=ConvexCost(1.0, u_weight=-1.0)),
    "y_high must be finite": lambda: controller(y_high=-np.inf),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_requests_are_named(message):
    with pytest.raises(InvalidModelError, match=message):
        BAD[message]()
