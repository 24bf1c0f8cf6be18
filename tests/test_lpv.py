"""Models with a schedule: approach under every schedule, what is claimed of it, and loops in which frozen designs fail."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.linalg import expm, solve_discrete_are
from scipy.signal import place_poles

import robustctl as rc
from robustctl.errors import DataError, InvalidModelError, RobustctlWarning
from robustctl.nn.lpv import checked_positions
from robustctl.system import step_by_step

from .models import draw

KEY = jr.key(0)


def lpv(guarantee=None, **settings):
    given: dict[str, Any] = dict(nu=3, nx=3, nv=6, ny=2, schedule=(1,), hidden=4, key=KEY) | settings
    return rc.nn.LPV(rc.nn.Lipschitz(2.0, 0.9) if guarantee is None else guarantee, **given)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("guarantee", [rc.nn.Contracting(0.9), rc.nn.Lipschitz(2.0, 0.9)])
def test_the_distance_falls_by_the_rate_at_each_step_under_random_schedules(guarantee, dtype):
    """2,000 models with free arrays over four decades, schedules over six: x from far apart, under the same inputs."""
    model = lpv(guarantee, dtype=dtype, factors=3)

    @eqx.filter_jit
    @jax.vmap
    def ratios(key):
        model_key, size_key, u_key, p_key, x_key = jr.split(key, 5)
        size = 10 ** jr.uniform(size_key, (), dtype, -2, 2)
        system = draw(model, model_key, size).explicit()  # pyright: ignore[reportArgumentType]
        us = jr.normal(u_key, (12, 3), dtype)
        us = us.at[:, 1].multiply(10 ** jr.uniform(p_key, (12,), dtype, -3, 3))
        one, other = (rc.rollout(system, us, x0).xs for x0 in jr.normal(x_key, (2, 3), dtype))
        d = jnp.linalg.norm(one - other, axis=1)
        # Below this the difference is rounding of the states.
        seen = d[:-1] > 1e4 * jnp.finfo(dtype).eps * (1 + jnp.abs(one).max())
        return jnp.where(seen, d[1:] / d[:-1], 0.0)

    found = np.asarray(ratios(jr.split(jr.key(1), 2000)))
    assert np.isfinite(found).all() and found.max() > 0.5
    assert found.max() <= 0.9 * (1 + (1e-3 if dtype == jnp.float32 else 1e-4))


@pytest.mark.parametrize("p", [1e18, 1e30, 1e38, 3.4e38])
def test_no_finite_schedule_takes_the_norm_of_the_product_above_one(p):
    product = draw(rc.nn.ScheduledProduct(6, 1, factors=5, key=KEY, dtype=jnp.float32), jr.key(1), 1.0)
    at = jax.jit(lambda p: jax.vmap(product.at(product.read(p)), out_axes=1)(jnp.eye(6, dtype=jnp.float32)))
    for sign in (1, -1):
        H = np.asarray(at(jnp.asarray([sign * p], jnp.float32)), float)
        assert np.linalg.norm(H, 2) <= 1 + 1e-5


def test_two_trajectories_with_one_schedule_keep_the_gain():
    system = draw(lpv(factors=4), jr.key(2), 1.0).explicit()
    u, other = jr.normal(jr.key(3), (2, 100, 3))
    other = other.at[:, 1].set(u[:, 1])
    dy = rc.rollout(system, u).ys - rc.rollout(system, other).ys
    assert 0 < float(jnp.linalg.norm(dy)) <= 2.0 * float(jnp.linalg.norm(u - other))


def test_nothing_is_claimed_of_two_schedules():
    """p multiplies the state: of a large one its change moves the output by more than any gain allows."""
    system = draw(lpv(), jr.key(2), 1.0).explicit()
    assert system.lft() is None and system.claim is None
    u, x0 = jnp.zeros((1, 3)), 1e6 * jnp.ones(3)
    dy = rc.rollout(system, u, x0).ys - rc.rollout(system, u.at[:, 1].set(1.0), x0).ys
    assert float(jnp.linalg.norm(dy)) > 1e3
    for certified in (system, rc.Delayed(system, (2, 1, 0))):
        certificate = rc.certify(certified, prove=False)
        assert certificate.holds and "the same schedule" in certificate.assumptions[0]
        assert "the same schedule" in str(certificate)


def test_the_promised_gain_is_in_the_units_of_the_other_inputs():
    model = lpv(nu=2, ny=1)
    scaled = rc.Rescaled(model, (0.1, 30.0), (5.0,))
    found = rc.certify(scaled, prove=False)
    assert found.gamma == pytest.approx(2.0 * 5.0 / 0.1)
    assert scaled.explicit().schedule == (1,)
    proven = rc.certify(scaled).gamma
    assert found.gamma and proven
    assert rc.certificates.lower_bound(scaled, steps=0).value <= proven <= found.gamma


def test_a_rollout_is_step_by_step_and_a_fixed_schedule_is_a_linear_system():
    system = draw(lpv(schedule=(2, 0), nv=4), jr.key(2), 1.0).explicit()
    us, x0 = jr.normal(jr.key(3), (40, 3)), jnp.ones(3)
    run, (xs, ys, x_final) = rc.rollout(system, us, x0), step_by_step(system.step, x0, us)
    for found, expected in ((run.xs, xs), (run.ys, ys), (run.x_final, x_final)):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    p = jnp.array([0.4, -2.0])
    held, x = system.at(p), jr.normal(jr.key(4), (3,))
    H = jax.vmap(held.phi, out_axes=1)(jnp.eye(4))
    assert np.linalg.norm(H, 2) <= 1 + 1e-14
    expected = held.B1 @ H @ (held.C1 @ x + held.D12 @ us[0, 1:2]) + held.bx
    np.testing.assert_allclose(system.step(x, jnp.stack([p[1], us[0, 1], p[0]]))[0], expected, atol=1e-12)


def test_two_reflections_are_a_rotation_that_follows_the_schedule():
    """k_1 = (1, 0) and k_2 = (cos p/2, sin p/2) up to its length, beta = 2: the product turns by p."""
    product = rc.nn.ScheduledProduct(2, 1, hidden=1, key=KEY)
    p = 0.5
    K = (
        jnp.zeros((2, 2, 3))
        .at[0, 0, 0]
        .set(3.0)
        .at[1, 0, 0]
        .set(1.0)
        .at[1, 1, 1]
        .set(float(np.tan(p / 2)) / p)
    )
    product = eqx.tree_at(lambda m: (m.K, m.q), product, (K, jnp.zeros((2, 3)).at[:, 0].set(50.0)))
    H = jax.vmap(product.at(product.read(jnp.array([p]))), out_axes=1)(jnp.eye(2))
    turned = [[np.cos(p), np.sin(p)], [-np.sin(p), np.cos(p)]]
    np.testing.assert_allclose(H, turned, atol=1e-12)


@pytest.mark.parametrize("guarantee", [rc.nn.Contracting(0.9), rc.nn.Lipschitz(2.0, 0.9)])
def test_a_quiet_model_has_a_small_output_and_its_guarantee(guarantee):
    model, us = draw(lpv(guarantee), jr.key(2), 0.5), jr.normal(jr.key(3), (50, 3))
    quiet = rc.nn.quiet(model)
    loud, soft = (jnp.abs(rc.rollout(m.explicit(), us).ys).max() for m in (model, quiet))
    assert 0 < soft < 0.02 * loud and rc.certify(quiet, prove=False).holds


def growth(matrices) -> float:
    """Growth per sample of a product of matrices, repeated for ever."""
    return np.abs(np.linalg.eigvals(np.linalg.multi_dot(matrices))).max() ** (1 / len(matrices))


def turning(speed: float) -> np.ndarray:
    """One sample of two currents in axes that turn."""
    return expm(0.01 * np.array([[-2.0, speed], [-speed, -2.0]]))


def observer_log(speeds: list[np.ndarray], seed: int) -> rc.data.Record:
    rng, us, ys = np.random.default_rng(seed), [], []
    for speed in speeds:
        known, x, states = {w: turning(w) for w in np.unique(speed)}, rng.normal(size=2), []
        for w in speed:
            states.append(x)
            x = known[w] @ x + 0.1 * rng.normal(size=2)
        us.append(np.column_stack([speed, np.stack(states)[:, 0]]))
        ys.append(np.stack(states)[:, 1])
    return rc.data.from_arrays(us, ys, 0.01, inputs=["speed", "current 1"], outputs="current 2")


def test_frozen_observers_diverge_where_the_speed_alternates_and_a_trained_one_estimates():
    """Pole placement halves the error in a sample at each speed; the two in turn make it grow."""
    C, errors = np.array([[1.0, 0.0]]), []
    for A in map(turning, (5.0, 50.0)):
        L = place_poles(A.T, C.T, [0.5, 0.48]).gain_matrix.T  # pyright: ignore[reportAttributeAccessIssue]
        errors.append(A - L @ C)
    assert max(map(growth, ([E, E] for E in errors))) < 0.51 and growth(errors) > 1.15
    rng, fast = np.random.default_rng(0), np.tile([5.0, 50.0], 100)
    train = observer_log([rng.choice([5.0, 20.0, 35.0, 50.0], 200).repeat(3)[:200] for _ in range(4)], 0)
    model = rc.nn.LPV(rc.nn.Contracting(0.99), nu=2, nx=2, nv=3, ny=1, schedule=(0,), hidden=4, key=KEY)
    fitted = rc.fit(model, train, epochs=150, monitor=None, key=jr.key(1))
    certificate = rc.certify(fitted.model, prove=False)
    assert (
        certificate.holds and certificate.rate == 0.99 and "the same schedule" in certificate.assumptions[0]
    )
    with pytest.warns(RobustctlWarning, match="outside of the trained band"):
        scores = rc.simulate(fitted.model, observer_log([fast], 1)).scores()
    assert float(scores.nrmse[0]) < 0.9


MASSES = [[0.0, 1.0, 0.0, 0.0], [-2.0, -0.05, 2.0, 0.0], [0.0, 0.0, 0.0, 1.0], [2.0, 0.0, -2.5, -0.05]]
FORCE = [[0.0], [1.0], [0.0], [0.0]]
"""Two masses on springs, the force on the first; positions and speeds are measured."""


def test_frozen_regulators_diverge_where_their_schedule_alternates_and_a_scheduled_policy_is_certified():
    """LQR with weight 1 or 1,000 on the position of the second mass, nine samples of the one and two of the other."""
    plant = rc.plants.Sampled(rc.plants.LinearPlant(MASSES, FORCE, np.eye(4)), 0.1)
    held = expm(0.1 * np.block([[np.array(MASSES), np.array(FORCE)], [np.zeros((1, 5))]]))
    A, B, loops = held[:4, :4], held[:4, 4:], []
    for weight in (1.0, 1000.0):
        P = solve_discrete_are(A, B, np.diag([0, 0, weight, 0]), [[0.1]])
        loops.append(A - B @ np.linalg.solve(0.1 + B.T @ P @ B, B.T @ P @ A))
    assert max(growth([M, M]) for M in loops) < 0.98
    assert growth([loops[0]] * 9 + [loops[1]] * 2) > 1.05
    base = rc.loops.internal_model(plant)
    q = draw(lpv(nu=5, ny=1, schedule=(4,)), jr.key(5), 0.7).explicit()
    (every,) = q.modes()
    certificate = rc.certify(rc.loops.feedback(plant, rc.loops.Youla(base, every)), gains=[("d", "y")])
    assert certificate.holds and certificate.gains["d", "y"] < np.inf
    assert any("the same schedule" in text for text in certificate.assumptions)
    policy = rc.loops.feedback(plant, rc.loops.Youla(base, q), plant.undisturbed(1))
    alternating = jnp.asarray(np.arange(6000) % 11 > 8, float)[:, None]
    w = rc.plants.undisturbed(plant, 6000, 1)._replace(r=alternating)
    runs = [rc.loops.simulate(policy, w, x0).x for x0 in (jnp.zeros(4), jnp.ones(4))]
    apart = np.abs(np.asarray(runs[0]) - np.asarray(runs[1])).max(axis=1)
    # The masses alone take 400 samples to e^-1, and Q, which leaves their modes where they are, responds at resonance.
    assert apart[-1] < 0.01 * apart[0]


def test_a_record_takes_no_schedule_that_is_not_a_number():
    experiment = observer_log([np.full(20, 5.0)], 0).experiments[0]
    u = experiment.u.copy()
    u[3, 0] = np.nan
    with pytest.raises(DataError, match="finite"):
        dataclasses.replace(experiment, u=u)


def test_a_log_of_another_sample_time_or_without_the_schedule_is_refused():
    log = observer_log([np.tile([5.0, 50.0], 30)], 0)
    model = rc.nn.LPV(rc.nn.Contracting(0.9), nu=2, nx=2, nv=2, ny=1, schedule=(0,), key=KEY)
    fitted = rc.fit(model, log, epochs=1, monitor=None, key=KEY).model
    with pytest.raises(DataError, match="sample time"):
        rc.simulate(fitted, dataclasses.replace(log, dt=0.02))
    alone = rc.data.from_arrays(
        log.experiments[0].u[:, 1], log.experiments[0].y, 0.01, inputs="current 1", outputs="current 2"
    )
    with pytest.raises(DataError, match="inputs"):
        rc.simulate(fitted, alone)
    with pytest.raises(DataError, match="nu="):
        rc.fit(model, alone, epochs=1, monitor=None, key=KEY)


def test_positions_from_numpy_are_those_of_python(as_installed):
    assert [type(k) for k in lpv(schedule=[np.int64(1), 2]).schedule] == [int, int]


BAD = {
    "schedule must be positions": lambda: lpv(schedule=()),
    "got 1; record.inputs": lambda: checked_positions(1, 3),
    "from 0 to 2": lambda: lpv(schedule=(3,)),
    "each once": lambda: lpv(schedule=(1, 1)),
    "leave an input": lambda: lpv(schedule=(0, 1, 2)),
    "nx must be": lambda: lpv(nx=0),
    "factors must be": lambda: lpv(factors=0),
    "memory must be": lambda: lpv(memory=(0.0, 2.0)),
    "rate must be": lambda: lpv(rc.nn.Contracting(1.1)),
    "a schedule must have 1 entries": lambda: lpv().explicit().at(jnp.zeros(2)),
    "must have shape": lambda: eqx.tree_at(lambda s: s.E, lpv().explicit(), jnp.zeros((3, 2))).check_parts(),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_requests_are_named(message):
    with pytest.raises(InvalidModelError, match=message):
        BAD[message]()
