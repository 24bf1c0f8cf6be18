"""Regions of loops about nonlinear plants: kept by simulations, near the linear truth on small boxes, and refused with a reason."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import robustctl as rc
from robustctl.certificates import Region, recheck, region
from robustctl.errors import InvalidModelError, RobustctlError
from robustctl.plants import Imperfections, Plant, Sampled, Signal, parameter


class Pendulum(Plant):
    """An upright pendulum with a motor, unstable."""

    states = outputs = (Signal("angle", "rad"), Signal("speed", "rad/s"))
    controls = (Signal("motor", "N m", -10.0, 10.0),)
    disturbances = (Signal("push", "N m"),)
    stiffness: jax.Array = parameter(4.0, "1/s^2")

    def rates(self, x, u, d):
        return jnp.stack([x[1], self.stiffness * jnp.sin(x[0]) - 0.2 * x[1] + u[0] + d[0]])


BOX = {"angle": 0.5, "speed": 1.5, "push": 0.2}


def loop_of(plant=None, gain=(9.0, 4.0), policy=None, references=0, **imperfections):
    sampled = Sampled(plant or Pendulum(), 0.05, Imperfections(saturate=True, **imperfections))
    policy = policy or rc.loops.Gain(-jnp.asarray([gain]), jnp.zeros(2), jnp.zeros(1))
    return rc.loops.feedback(sampled, policy, sampled.undisturbed(references))


def reading_a_reference():
    return rc.loops.Gain(jnp.array([[-9.0, -4.0, 5.0]]), jnp.zeros(3), jnp.zeros(1))


@pytest.fixture(scope="module")
def found():
    return region(loop_of(), BOX)


def simulated(loop, states, d):
    """States of rollouts (B, T, nx) from states (B, nx) under disturbances (B, T, 1)."""
    _, restore = jax.flatten_util.ravel_pytree(loop.init_state())

    @eqx.filter_jit
    def run(loop, states, d):
        def one(start, d):
            w = rc.plants.undisturbed(loop.plant, d.shape[0])._replace(d=d)
            return rc.rollout(loop, w, restore(start)).ys

        return jax.vmap(one)(states, d)

    return run(loop, jnp.asarray(states), jnp.asarray(d))


def test_no_simulation_leaves_the_region_its_box_or_its_limits(found):
    rng, loop = np.random.default_rng(0), loop_of()
    assert found.disturbance == {"push": pytest.approx(0.2)} and 0.9 < found.rate < 1
    states = found.sample(rng, 500)
    assert np.allclose([found.level(s) for s in states], 1)
    d = 0.2 * np.where(rng.random((500, 1, 1)) < 0.5, 1.0, rng.choice([-1.0, 1.0], (500, 80, 1)))
    run = simulated(loop, states, d)
    seen = np.concatenate([np.asarray(run.x.x), np.asarray(run.u)], -1)
    for name, signal in zip(("angle", "speed", "motor"), np.moveaxis(seen, -1, 0), strict=True):
        assert np.abs(signal).max() <= found.bounds[name] * (1 + 1e-9) <= found.box[name] * (1 + 1e-8)
    ends = np.concatenate([np.asarray(run.x.x), np.asarray(run.x.applied)], -1)[:, 1:]
    assert np.max(np.einsum("bti,ij,btj->bt", ends, found.P, ends)) <= 1
    # Without disturbance it approaches the equilibrium at the rate
    still = np.concatenate([(r := simulated(loop, states, 0 * d)).x.x, r.x.applied], -1)
    V = np.einsum("bti,ij,btj->bt", still, found.P, still)
    assert np.all(V[:, 1:] <= found.rate**2 * V[:, :-1] + 1e-12)


def test_the_region_is_large(found):
    """Of a gain that leaves much damping a single state can start from most of the box."""
    assert found.starts["angle"] > 0.25 and found.bounds["angle"] > 0.45
    text = str(found)
    assert "push: may be up to 0.2" in text and "assumed: the rounding of a sample is not counted" in text


def test_a_guard_keeps_another_controller_in_the_region_of_its_fallback(found):
    """The fallback keeps the ellipsoid by the region's proof; what the filter lets through ends in it whatever the push does."""
    sampled = loop_of().plant
    fallback, bold = (
        rc.loops.Gain(-jnp.asarray([k]), jnp.zeros(2), jnp.zeros(1)) for k in ([9.0, 4.0], [-2.0, 0.5])
    )
    # The push moves the speed by at most its size times the sample, and the angle by half of that times the sample; 5 % for the curve.
    moved = 1.05 * 0.2 * np.array([0.05**2 / 2, 0.05])
    P = found.plant_P
    # Of all values of the control that was applied last, the least V.
    last = -np.linalg.solve(found.P[2:, 2:], found.P[2:, :2])
    np.testing.assert_allclose(
        np.vstack([np.eye(2), last]).T @ found.P @ np.vstack([np.eye(2), last]), P, rtol=1e-12
    )
    tube, inside = rc.loops.Tube(P, found.rate, moved), rc.loops.Ellipsoid(P, found.middle[:2])
    filter = rc.loops.Predicted(Sampled(Pendulum(), 0.05), inside, 1, tube=tube, low=[-10.0], high=[10.0])
    rng, pushes = np.random.default_rng(0), np.array([-0.2, 0.0, 0.2])
    states, d = found.sample(rng, 40)[:, :2] * rng.uniform(0, 1, (40, 1)), rng.choice(pushes, (40, 100, 1))
    guarded, alone = (rc.loops.feedback(sampled, c) for c in (rc.loops.Guarded(bold, filter, fallback), bold))

    def largest(loop):
        start = loop.init_state()
        step = eqx.filter_jit(
            lambda xs, d: jax.vmap(lambda x, d: loop.step(x, sampled.undisturbed()._replace(d=d))[0])(xs, d)
        )
        xs = jax.vmap(lambda x: eqx.tree_at(lambda s: s[0].x, start, x))(jnp.asarray(states, float))
        seen = []
        for k in range(d.shape[1]):
            xs = step(xs, jnp.asarray(d[:, k], float))
            seen.append(np.einsum("bi,ij,bj->b", xs[0].x, P, xs[0].x))
        return np.max(seen), xs

    most, (_, guard) = largest(guarded)
    assert most <= 1 + 1e-6 < largest(alone)[0]
    counts = np.asarray(guard.counts)
    assert counts[:, 1].sum() > 100 and counts[:, 2].sum() < counts.sum() / 2


@pytest.mark.slow
def test_a_nonlinear_model_in_the_controller_has_the_box_too():
    sampled = Sampled(Pendulum(), 0.05, Imperfections(saturate=True))
    base = rc.classical.linear_base(sampled, [4.0, 1.0], 1.0, [0.01, 0.1], [0.01, 0.01])
    loop = rc.loops.feedback(sampled, rc.loops.Youla(base, rc.loops.zero_gain(2, 1)))
    found = region(loop, {"angle": 0.2, "speed": 0.8})
    assert found.P.shape == (6, 6) and found.starts["angle"] > 0.02
    states = found.sample(np.random.default_rng(1), 200)
    run = simulated(loop, states, np.zeros((200, 60, 1)))
    assert np.abs(run.x.x[..., 0]).max() <= found.bounds["angle"]


class Saturating(rc.System):
    """State feedback with a smooth nonlinearity: `u = -K x - tanh(angle) / 2`."""

    nu, ny = 2, 1

    def init_state(self):
        return ()

    def step(self, x, u):
        return x, jnp.stack([-9.0 * u[0] - 4.0 * u[1] - 0.5 * jnp.tanh(u[0])])

    def lft(self):
        slopes = rc.lft.Slopes(np.zeros(1), np.ones(1))
        return rc.lft.static([[0.0]], [[1.0, 0.0]], [[-0.5]], [[-9.0, -4.0]], [slopes])


class Wrong(Saturating):
    """What it says of itself is not what it does."""

    def step(self, x, u):
        return x, jnp.stack([5.0 * u[0]])

    def lft(self):
        return super().lft()


def test_a_controller_counts_with_its_nonlinearity():
    loop = loop_of(policy=Saturating())
    found = region(loop, {"angle": 0.3, "speed": 1.0})
    # A signal that depends on a neuron has no closed form: its bound is the box
    assert found.starts["angle"] > 0.1 and found.bounds["motor"] == pytest.approx(10.0)
    run = simulated(loop, found.sample(np.random.default_rng(1), 200), np.zeros((200, 60, 1)))
    assert np.abs(run.x.x[..., 0]).max() <= found.bounds["angle"] and np.abs(run.u).max() <= 10.0


def test_a_controller_that_misdescribes_itself_is_found_out():
    with pytest.raises(
        InvalidModelError, match=r"must do what its lft.. describes, .* correct lft.. of Wrong"
    ):
        region(loop_of(policy=Wrong()), {"angle": 0.3, "speed": 1.0})


def test_delay_and_jitter_are_in_the_proof():
    loop = loop_of(gain=(7.0, 3.0), delay=1, jitter=0.1)
    found = region(loop, {"angle": 0.2, "speed": 0.8})
    assert found.P.shape == (4, 4)
    states, rng = found.sample(np.random.default_rng(0), 100), np.random.default_rng(1)
    _, restore = jax.flatten_util.ravel_pytree(loop.init_state())
    w = loop.plant.undisturbed()

    @jax.jit
    @jax.vmap
    def after(state, jitter):
        return jax.flatten_util.ravel_pytree(loop.step(restore(state), w._replace(jitter=jitter))[0])[0]

    ends = np.asarray(after(jnp.asarray(states), jnp.asarray(rng.uniform(-1, 1, 100))))
    assert max(found.level(x) for x in ends) <= 1


def test_the_ellipsoid_of_a_linear_plant_is_as_large_as_can_be():
    """One state: x+ = a x + b u + b d with u = -k x; trajectories stay in the box without d, and with |d| up to (1 - |a - b k|) x / b."""
    plant = rc.plants.LinearPlant([[1.0]], [[1.0]], [[1.0]])
    sampled = Sampled(plant, 0.1)
    loop = rc.loops.feedback(sampled, rc.loops.Gain(jnp.array([[-3.0]]), jnp.zeros(1), jnp.zeros(1)))
    found = region(loop, {"x[0]": 1.0, "u[0]": 5.0, "d[0]": 4.0})
    a = np.exp(0.1) - 3 * (np.exp(0.1) - 1)
    exact = (1 - a) / (np.exp(0.1) - 1)
    assert 0.6 * exact < found.disturbance["d[0]"] <= exact * (1 + 1e-9)
    near = region(loop, {"x[0]": 1.0, "u[0]": 5.0, "d[0]": 0.97 * exact})
    assert near.disturbance["d[0]"] == pytest.approx(0.97 * exact)
    assert region(loop, {"x[0]": 1.0, "u[0]": 5.0}).starts["x[0]"] == pytest.approx(1.0, rel=1e-3)


class Friction(Pendulum):
    def rates(self, x, u, d):
        return super().rates(x, u, d) - jnp.stack([0.0 * x[0], 0.1 * jnp.sign(x[1])])


class Sorted(Pendulum):
    def rates(self, x, u, d):
        return super().rates(x, u, d) + 0.0 * jnp.sort(x)


FAULTS = {
    "name": (loop_of, BOX | {"torque": 1.0}, RobustctlError, "must be of the plant's signals"),
    "missing": (loop_of, {"angle": 0.5}, RobustctlError, "must be bounded.*'speed'.*rad/s"),
    "infinite": (loop_of, BOX | {"speed": np.inf}, RobustctlError, "must be bounded.*'speed'"),
    "negative": (loop_of, BOX | {"push": -1.0}, RobustctlError, "must be bounded.*'push'"),
    "limits": (loop_of, BOX | {"motor": 11.0}, RobustctlError, "within the plant's limits, 10 .*'motor'"),
    "jump": (lambda: loop_of(Friction()), BOX, InvalidModelError, "must not jump inside the box, got sign"),
    "operation": (lambda: loop_of(Sorted()), BOX, InvalidModelError, "got sort; known are"),
    "rate limit": (lambda: loop_of(rate_limit=5.0), BOX, InvalidModelError, "without rate_limit"),
    "controller": (
        lambda: loop_of(policy=rc.nn.GRU(nu=2, nx=2, ny=1, key=jr.key(0)).explicit()), BOX, InvalidModelError,
        "equilibrium|must describe itself",
    ),
    "off": (
        lambda: loop_of(policy=rc.loops.Gain(-jnp.array([[9.0, 4.0]]), jnp.array([0.1, 0.0]), jnp.zeros(1))), BOX, InvalidModelError,
        "must be an equilibrium of the loop, but at x = .* moves by .*equilibrium\\(loop\\)",
    ),
    "reference": (
        lambda: loop_of(policy=reading_a_reference(), references=1), BOX, InvalidModelError, "one constant reference for each of 1",
    ),
    "no loop": (Pendulum, BOX, InvalidModelError, "of a loop about a rc.plants.Sampled"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_named(name):
    make, box, kind, message = FAULTS[name]
    with pytest.raises(kind, match=message):
        region(make(), box)


@pytest.mark.slow
def test_a_box_that_is_too_large_has_a_smaller_one_named():
    """The gain holds the pendulum, with little damping, where 4.2 angle is above 4 sin(angle) by enough."""
    with pytest.raises(
        RobustctlError, match=r"no region could be proven.*With states at 0.[25] of these half widths"
    ):
        region(loop_of(gain=(4.2, 0.05)), {"angle": 0.5, "speed": 0.3})


def test_an_unstable_loop_is_refused_with_its_poles_and_what_a_simulation_does():
    with pytest.raises(
        RobustctlError,
        match=r"must be stable, got poles 1\..*In simulation .* left it, without disturbance: from",
    ):
        region(loop_of(gain=(2.0, 1.0)), {"angle": 0.2, "speed": 0.5})


def test_a_reference_moves_the_equilibrium():
    """u = -9 angle - 4 speed + 5 r holds the angle where 4 sin(angle) = 9 angle - 5 r."""
    loop = loop_of(policy=reading_a_reference(), references=1)
    angle = 0.1
    r = (9 * angle - 4 * np.sin(angle)) / 5
    x = jnp.array([angle, 0.0])
    u = jnp.array([-4 * np.sin(angle)])
    start = loop.plant.init_state()._replace(x=x, applied=u)
    found = region(loop, {"angle": 0.3, "speed": 1.0}, middle=(start, ()), reference=[r])
    assert found.middle[0] == angle and found.starts["angle"] > 0.1


def test_another_equilibrium_can_be_the_middle():
    """With the gain's offset the loop has its equilibrium at another angle; the box is about that."""
    shifted = loop_of(policy=rc.loops.Gain(-jnp.array([[9.0, 4.0]]), jnp.array([0.1, 0.0]), jnp.zeros(1)))
    middle = rc.classical.equilibrium(shifted).x
    found = region(shifted, {"angle": 0.3, "speed": 1.0}, middle=middle)
    assert found.middle[0] == pytest.approx(float(middle[0].x[0])) and found.middle[0] > 0.1


def test_a_region_is_stored_and_checked_again_without_a_search(found, monkeypatch):
    def searched(*given, **settings):
        raise AssertionError("a recheck must not search")

    monkeypatch.setattr("robustctl.certificates.region_program.solve", searched)
    again = Region.from_json(found.to_json())
    assert again.to_json() == found.to_json()
    recheck(again, loop_of())
    proof = again.proof
    tampered = {
        "a larger region": dataclasses.replace(again, P=again.P / 2),
        "larger disturbances": dataclasses.replace(
            again, disturbance={"push": 2 * again.disturbance["push"]}
        ),
        "a smaller reach": dataclasses.replace(again, bounds={k: v / 2 for k, v in again.bounds.items()}),
        "larger starts": dataclasses.replace(again, starts={k: 2 * v for k, v in again.starts.items()}),
        "a faster rate": dataclasses.replace(
            again, rate=again.rate / 2, proof=proof._replace(rate=again.rate / 2)
        ),
        "another rate than proven": dataclasses.replace(again, rate=again.rate / 2),
        "a larger box": dataclasses.replace(again, box={k: 3 * v for k, v in again.box.items()}),
        "lighter disturbances": dataclasses.replace(again, proof=proof._replace(mu=proof.mu / 100)),
        "no multipliers": dataclasses.replace(again, proof=proof._replace(multipliers=())),
        "multipliers that are negative": dataclasses.replace(
            again, proof=proof._replace(multipliers=tuple(-t for t in proof.multipliers))
        ),
    }
    for other in tampered.values():
        with pytest.raises(RobustctlError, match="must"):
            recheck(other, loop_of())
    with pytest.raises(RobustctlError, match="other parts or weights"):
        recheck(again, loop_of(gain=(9.5, 4.0)))
    with pytest.raises(RobustctlError, match="to_json"):
        Region.from_json("{}")
