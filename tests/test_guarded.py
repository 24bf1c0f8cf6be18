"""A guarded controller: its three outcomes are what was done, its limits hold, and nothing bypasses it unseen."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.optimize import linprog, minimize

import robustctl as rc
from robustctl.classical import PID
from robustctl.errors import InvalidModelError, RobustctlError
from robustctl.loops import (
    AllOf,
    Allowed,
    Barrier,
    Filter,
    Gain,
    Guarded,
    Limits,
    Outcome,
    RateLimit,
    Reason,
    StateLimits,
    feedback,
)  # fmt: skip
from robustctl.loops.half_spaces import nearest
from robustctl.plants import Imperfections, LinearPlant, Sampled, Task, draw, undisturbed

DT = 0.1
BACK = 3


def cart():
    """A mass whose position and speed are both measured."""
    return Sampled(LinearPlant([[0.0, 1.0], [0.0, -0.2]], [[0.0], [1.0]], np.eye(2)), DT)


def law(*gains, u0=0.0):
    return Gain(-jnp.array([gains]), jnp.zeros(len(gains)), jnp.array([u0]))


BOLD, BASE = law(30.0, 1.0), law(1.0, 1.5)
BOX = Limits([-1.0], [1.0])
LIMIT = StateLimits([[0.0, 1.0]], [0.5])


def guarded(filter: Filter = BOX, controller: rc.System = BOLD, **given: Any) -> Guarded:
    return Guarded(controller, filter, BASE, back=BACK, **given)


@eqx.filter_jit
def run(system, ys):
    return rc.rollout(system, ys)


def outcomes(found):
    """Outcome and reason of each sample: what the state holds after it."""
    after = jax.tree.map(lambda a, last: jnp.concatenate([a[1:], last[None]]), found.xs, found.x_final)
    return np.asarray(after.outcome), np.asarray(after.reason)


class Never(Filter):
    """A filter that allows nothing where the first measurement exceeds 2."""

    def allowed(self, y, before):
        low, high = jnp.full(1, -1.0, y.dtype), jnp.full(1, 1.0, y.dtype)
        return Allowed(low, high, jnp.ones((1, 1), y.dtype), jnp.where(y[:1] > 2, 5.0, -5.0).astype(y.dtype))


def test_every_sample_is_recorded_as_what_was_done():
    """No filter may bypass itself and report success: what each sample is called is compared with what came out of it."""
    ys = 0.05 * jr.normal(jr.key(0), (300, 2))
    ys = ys.at[::17, 0].set(jnp.nan).at[5::31, 0].set(3.0).at[8::41, 1].set(jnp.inf)
    found = run(guarded(Never()), ys)
    outcome, reason = outcomes(found)
    wanted, spare = run(BOLD, ys).ys, run(BASE, ys).ys
    passed, changed, fallback = (outcome == each for each in Outcome)
    assert min(passed.sum(), changed.sum(), fallback.sum()) > 20
    assert np.asarray(found.ys)[passed].tobytes() == np.asarray(wanted)[passed].tobytes()
    np.testing.assert_array_equal(found.ys[changed], np.sign(wanted[changed]))
    readable = fallback & np.isfinite(ys).all(axis=1)
    np.testing.assert_array_equal(found.ys[readable], np.clip(spare[readable], -1, 1))
    np.testing.assert_array_equal(found.x_final.counts, [passed.sum(), changed.sum(), fallback.sum()])
    assert found.x_final.counts.sum() == len(ys) and np.isfinite(found.ys).all()
    unread, impossible = ~np.isfinite(ys).all(axis=1), np.asarray(ys[:, 0] > 2)
    np.testing.assert_array_equal(reason == Reason.INPUT_NOT_FINITE, unread)
    np.testing.assert_array_equal(reason == Reason.INFEASIBLE, impossible & ~unread)
    np.testing.assert_array_equal(reason == Reason.NONE, ~fallback)


def test_a_filter_that_never_finds_a_control_never_passes_one():
    """The published failure: 500 of 500 infeasible samples were reported as filtered."""
    ys = jnp.full((500, 2), 3.0)
    found = run(guarded(Never()), ys)
    np.testing.assert_array_equal(found.x_final.counts, [0, 0, 500])
    np.testing.assert_array_equal(found.ys, jnp.clip(run(BASE, ys).ys, -1, 1))


class Faulty(rc.System):
    """An integrator that turns into NaN when it reads a number above 5, and stays so."""

    nu, ny = 2, 1

    def init_state(self):
        return jnp.zeros(1)

    def step(self, x, u):
        x = jnp.where(u[:1] > 5, jnp.nan, x + 0.01 * u[:1])
        return x, x


def test_a_controller_that_broke_down_is_reset_and_used_again():
    ys = jnp.full((20, 2), 0.5).at[4].set(6.0)
    found = run(guarded(controller=Faulty()), ys)
    outcome, reason = outcomes(found)
    assert reason[4] == Reason.OUTPUT_NOT_FINITE
    np.testing.assert_array_equal(reason[5 : 5 + BACK], [Reason.RETURNING] * BACK)
    np.testing.assert_array_equal(np.flatnonzero(outcome == Outcome.FALLBACK), range(4, 5 + BACK))
    np.testing.assert_allclose(found.ys[5 + BACK :, 0], 0.005 * np.arange(BACK + 1, 16), rtol=1e-6)


def test_late_and_implausible_measurements_are_fallbacks_in_their_sample():
    ys = 0.01 * jr.normal(jr.key(1), (40, 2))
    ys = ys.at[10:14].set(ys[9]).at[25, 1].set(0.9)
    _, reason = outcomes(run(guarded(y_low=[-0.5, -0.5], y_high=[0.5, 0.5], stale_after=2), ys))
    expected = np.zeros(40)
    expected[11:14], expected[14 : 14 + BACK] = Reason.INPUT_STALE, Reason.RETURNING
    expected[25], expected[26 : 26 + BACK] = Reason.INPUT_OUT_OF_RANGE, Reason.RETURNING
    np.testing.assert_array_equal(reason, expected)
    _, reason = outcomes(run(guarded(stale_after=1), jnp.zeros((3, 2))))
    np.testing.assert_array_equal(reason, [Reason.NONE, Reason.INPUT_STALE, Reason.INPUT_STALE])


@pytest.mark.parametrize("delay", [0, 2])
def test_a_late_sample_of_the_plant_ends_in_fallback_within_that_sample(delay):
    """The plant repeats a measurement that came late; noise rules out that it repeats one otherwise. NaN is one, too."""
    late = Sampled(cart().plant, DT, Imperfections(noise=0.01, delay=delay, late=0.2))
    system = Guarded(law(2.0, 2.0), BOX, BASE, back=0, stale_after=1)
    ws = draw(Task(late.plant), late, jr.key(5), 120)
    found = run(feedback(late, system), ws)
    assert ws.late is not None and 10 < int(ws.late.sum()) < 50
    outcome, reason = outcomes(rc.Trajectory(found.xs[1], None, found.x_final[1]))
    np.testing.assert_array_equal(outcome == Outcome.FALLBACK, ws.late)
    np.testing.assert_array_equal(reason == Reason.INPUT_STALE, ws.late)
    marked = jnp.where(ws.late[:, None], jnp.nan, found.ys.y)
    np.testing.assert_array_equal(outcomes(run(system, marked))[1] == Reason.INPUT_NOT_FINITE, ws.late)


def test_nothing_makes_it_leave_its_box_or_its_rate():
    """Not even a fallback that is not finite, nor a switch: the output is within the limits in every sample."""
    ys = 3 * jr.normal(jr.key(2), (200, 2))
    ys = ys.at[::7].set(jnp.nan).at[::11, 0].set(jnp.inf)
    ys = ys.at[::13].set(9.0)
    system = Guarded(Faulty(), AllOf((BOX, RateLimit(per_second=[3.0], dt=DT))), Faulty(), back=1)
    found = run(system, ys)
    steps = np.diff(np.concatenate([[0.0], found.ys[:, 0]]))
    assert np.isfinite(found.ys).all() and np.abs(found.ys).max() <= 1 and np.abs(steps).max() <= 0.3 + 1e-6
    assert found.x_final.counts.sum() == 200 and found.x_final.counts[2] > 50


def test_the_loop_respects_a_barrier_that_the_controller_breaks():
    """On the model itself h decreases by alpha at most, whatever the controller wants; without the guard it is violated."""
    plant = cart()
    limit = StateLimits([[0.0, 1.0], [0.0, -1.0]], [0.5, 0.5])
    # The set point drives the mass to speeds of 3 and more.
    fast = law(30.0, 1.0, u0=60.0)
    barrier = Barrier(plant, limit, 0.3, low=[-100.0], high=[100.0])
    start = plant.init_state(), guarded(barrier, fast).init_state()
    found = rc.rollout(feedback(plant, guarded(barrier, fast)), undisturbed(plant, 60), start)
    h = np.asarray(0.5 - np.abs(found.ys.y[:, 1]))
    free = rc.rollout(feedback(plant, fast), undisturbed(plant, 60)).ys.y
    assert np.abs(free[:, 1]).max() > 3
    assert h.min() > -1e-5 and (h[1:] >= 0.7 * h[:-1] - 1e-5).all()
    counts = found.x_final[1].counts
    assert counts[1] > 5 and counts[2] == 0 and counts.sum() == 60


def test_gradients_are_those_of_finite_differences():
    """Through passed, changed and fallback samples, none of them at a switch."""
    plant = cart()
    barrier = Barrier(plant, StateLimits([[0.1, 1.0]], [0.5]), 0.3, low=[-2.0], high=[2.0])
    ys = 0.2 * jr.normal(jr.key(3), (30, 2))
    ys = ys.at[9, 0].set(jnp.nan)

    with jax.enable_x64(True):
        cast = jax.tree.map(lambda a: a.astype(float) if eqx.is_inexact_array(a) else a, guarded(barrier))
        ys = ys.astype(float)

        @eqx.filter_jit
        def loss(z):
            system = eqx.tree_at(lambda g: (g.controller.D, g.fallback.D), cast, (z[None, :2], z[None, 2:4]))
            found = rc.rollout(system, jnp.where(jnp.isnan(ys), ys, ys + z[4]))
            return jnp.sum(found.ys**2 * jnp.linspace(0.5, 1.5, 30)[:, None]), found.x_final.counts

        z = jnp.array([-9.0, -1.0, -1.0, -1.5, 0.01])
        slope, counts = eqx.filter_jit(jax.grad(loss, has_aux=True))(z)
        assert counts.min() > 2
        e = 1e-6
        expected = [(loss(z + e * d)[0] - loss(z - e * d)[0]) / (2 * e) for d in jnp.eye(5)]
    np.testing.assert_allclose(slope, expected, rtol=1e-5)


def test_it_steps_the_same_in_c():
    """With a PID, limits and a barrier, over passed, changed and fallback samples: each sample from the same state."""
    pid = PID(30.0, 2.0, dt=DT, reads=[[1.0, 0.0]])
    system = Guarded(pid, AllOf((BOX, Barrier(cart(), LIMIT, 0.3))), BASE, back=1, stale_after=4)
    assert (system.dt, system.nu, system.ny) == (DT, 3, 1)
    try:
        step = rc.export.compile(system, u=np.zeros(2))
    except RobustctlError as error:
        pytest.skip(str(error))
    ys = np.array(0.1 * jr.normal(jr.key(4), (40, 2)))
    ys[10:16], ys[25, 0], ys[30, 1] = ys[9], np.nan, 0.6
    found = run(system, jnp.asarray(ys))
    assert np.all(found.x_final.counts > 3)
    x = step.init_state()
    for k, y in enumerate(ys):
        np.testing.assert_array_equal(x.outcome, found.xs.outcome[k])
        np.testing.assert_array_equal(x.reason, found.xs.reason[k])
        x, u = step(x, y)
        np.testing.assert_allclose(u, found.ys[k], atol=1e-5)
    np.testing.assert_array_equal(x.counts, found.x_final.counts)


def test_one_half_space_is_solved_exactly_and_several_as_scipy_does():
    """Boxes with half-spaces, infinite bounds among them, some of them infeasible: the same optimum, or reported."""
    with jax.enable_x64(True):
        solve = jax.jit(jax.vmap(nearest))
        for k, cases in ((1, 40), (3, 40)):
            keys = jr.split(jr.key(k), 5)
            u, low = 2 * jr.normal(keys[0], (cases, 3)), -jr.uniform(keys[1], (cases, 3))
            high = jr.uniform(keys[2], (cases, 3)).at[::3, 0].set(jnp.inf)
            G, g = jr.normal(keys[3], (cases, k, 3)).at[::5, :, 1].set(0.0), jr.normal(keys[4], (cases, k))
            v, found = map(np.asarray, solve(u, Allowed(low, high, G, g)))
            expected = [reference(*each) for each in zip(u, low, high, G, g, strict=True)]
            possible = np.array([e is not None for e in expected])
            assert not (found & ~possible).any() and found.sum() >= 0.95 * possible.sum() > 0.3 * cases
            assert k > 1 or (found == possible).all()
            for each, e in zip(
                v[found], [e for e, ok in zip(expected, found, strict=True) if ok], strict=True
            ):
                np.testing.assert_allclose(each, e, atol=1e-6)


def reference(u, low, high, G, g):
    """The projection by SciPy, None where a linear program finds the constraints infeasible."""
    u, low, high, G, g = map(np.asarray, (u, low, high, G, g))
    bounds = list(zip(low, high, strict=True))
    if linprog(np.zeros(3), -G, -g, bounds=bounds).status == 2:
        return None
    least = minimize(
        lambda v: np.sum((v - u) ** 2), np.clip(u, low, high), jac=lambda v: 2 * (v - u), bounds=bounds, method="SLSQP",
        constraints={"type": "ineq", "fun": lambda v: G @ v - g, "jac": lambda v: G}, options={"ftol": 1e-14, "maxiter": 200},
    )  # fmt: skip
    return least.x


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Limits([1.0], [1.0]), "low must be below high"),
        (lambda: RateLimit([0.0]), "rates must be positive"),
        (lambda: RateLimit(per_second=[1.0]), "dt must be a positive"),
        (lambda: RateLimit(), "one of them"),
        (lambda: AllOf((RateLimit(per_second=1.0, dt=0.1), RateLimit(per_second=1.0, dt=0.2))), "one sample time"),
        (lambda: guarded(AllOf((BOX, Limits([2.0], [3.0])))), "do not contradict each other"),
        (lambda: guarded(Limits([0.5], [1.0])), "u0 must be a control"),
        (lambda: guarded(Never(), y0=[3.0, 0.0]), "must allow a control at the start"),
        (lambda: guarded(y_low=[1.0, 1.0], y_high=[0.0, 2.0]), "y_low must be below y_high"),
        (lambda: guarded(RateLimit(per_second=1.0, dt=0.2), PID(1.0, dt=0.1)), "sample time of 0.1 s, got 0.2 s"),
        (lambda: Guarded(BOLD, BOX, law(-1.0, 0.0), plant=cart()), r"must stabilize the plant, got .* poles 1\.\d+, 0\.\d+"),
        (lambda: guarded(Barrier(cart(), LIMIT, 0.3, low=[-0.01], high=[0.01]), y0=[0.0, 9.0]), "none was found"),
        (lambda: Barrier(cart(), LIMIT, 1.5), r"alpha must be in \(0, 1\]"),
        (lambda: Barrier(cart(), LIMIT, 0.5, -1.0), "margin at least 0"),
        (lambda: Barrier(cart(), lambda x: 1 - x[1:] ** 2, 0.5), "must be affine in the control"),
        (lambda: Barrier(Sampled(rc.plants.CartPole(), 0.02), StateLimits(np.eye(4), np.ones(4)), 0.5), "affine"),
        (lambda: Barrier(rc.StateSpace([[1.0, 0.1], [0.0, 1.0]], [[0.0], [0.1]], np.eye(2), np.zeros((2, 1)), DT),
                         StateLimits([[1.0, 0.0]], [1.0]), 0.5), "must act on every entry of h within one sample"),
        (lambda: Barrier(Sampled(cart().plant, DT, Imperfections(delay=1)), LIMIT, 0.5), "without imperfections"),
        (lambda: StateLimits(np.eye(2), [1.0]), "one limit for each row"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(InvalidModelError, match=message):
        make()


def test_a_stabilizing_fallback_is_accepted_with_its_unused_integrator():
    """A PD controller's integral never changes: a pole at 1 that is none of the loop's."""
    pd = PID(2.0, 0.0, 1.0, dt=DT, reads=[[1.0, 0.0]])
    Guarded(pd, BOX, pd, plant=cart())
