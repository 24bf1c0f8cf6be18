"""Proven gains of closed loops: against norms of linear loops, simulations of nonlinear ones, and mistakes that must be reported."""

import dataclasses
import itertools
import json

import control as ct
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax import lax

import robustctl as rc
from robustctl.certificates import LoopCertificate, ModelError, delay_error, largest_error, recheck
from robustctl.errors import InvalidModelError, RobustctlError
from robustctl.loops import Gain, ModelPlant, Parallel, feedback
from robustctl.plants import Imperfections, LinearPlant, Sampled

from .models import draw
from .test_loop_forms import own, plant, response

DT = 0.1
NORM_ROUNDING = 1e-7
"""Relative accuracy of `hinf_norm`."""


def norm(system) -> float:
    return rc.classical.hinf_norm(system)


def random_system(rng, nu, ny, nx=2):
    A = rng.normal(size=(nx, nx))
    A *= rng.uniform(0.3, 0.95) / np.abs(np.linalg.eigvals(A)).max()
    return A, rng.normal(size=(nx, nu)), rng.normal(size=(ny, nx)), rng.normal(size=(ny, nu))


def random_loop(rng):
    """A model with one sample of delay and a controller that leaves the loop stable, as systems and for python-control."""
    nu, ny = rng.integers(1, 3, 2)
    model, controller = random_system(rng, nu, ny), random_system(rng, ny, nu, 1)
    z = ct.ss(np.zeros((nu, nu)), np.eye(nu), np.eye(nu), np.zeros((nu, nu)), DT)
    P = ct.ss(*model, DT) * z
    for scale in 0.5 ** np.arange(12):
        A, B, C, D = controller
        K = ct.ss(A, B, scale * C, scale * D, DT)
        if np.abs(ct.feedback(P, K, 1).poles()).max() < 0.98:
            break
    loop = feedback(ModelPlant(rc.StateSpace(*model, DT)), rc.StateSpace(K.A, K.B, K.C, K.D, DT))
    return loop, P, K


@pytest.mark.parametrize("seed", range(4))
def test_gains_and_largest_errors_of_linear_loops_are_those_of_their_norms(seed):
    loop, P, K = random_loop(np.random.default_rng(seed))
    from_v = ct.feedback(P, K, 1)
    ny = P.noutputs
    exact = {
        ("d", "y"): norm(from_v),
        ("v", "u"): norm(K * from_v),
        ("n", "u"): norm(ct.feedback(K, P, 1)),
        ("n", "y"): norm(ct.feedback(ct.ss([], [], [], np.eye(ny), DT), P * K, 1)),
    }
    found = rc.certify(loop, prove=True, gains=list(exact))
    radius = np.abs(from_v.poles()).max()
    assert found.holds and radius < found.rate < 1
    for pair, value in exact.items():
        assert value * (1 - NORM_ROUNDING) <= found.gains[pair] <= 1.01 * value
    weight = rc.StateSpace([[0.5]], [[1.0]], [[0.4]], [[0.1]], dt=DT)
    W = ct.append(*[ct.ss([[0.5]], [[1.0]], [[0.4]], [[0.1]], DT)] * P.ninputs)
    cases = [("output", None, 1 / norm(ct.feedback(K, P, 1))), ("input", None, 1 / norm(K * from_v))]
    cases.append(("output", weight, 1 / norm(W * ct.feedback(K, P, 1))))
    for at, given, exact in cases:
        largest = largest_error(loop, at, given)
        assert 0.99 * exact <= largest.gain <= exact * (1 + NORM_ROUNDING)
        recheck(LoopCertificate.from_json(largest.certificate.to_json()), loop)
        closed = rc.certify(loop, gains=[("d", "y")], error=ModelError(0.9 * largest.gain, at, given))
        assert closed.holds and closed.rate is None and closed.gains["d", "y"] > found.gains["d", "y"]
        beyond = rc.certify(loop, gains=[], error=ModelError(1.05 * exact, at, given))
        assert not beyond.holds and beyond.error_fraction == pytest.approx(1 / 1.05, abs=0.02)


def test_named_signals_have_the_responses_of_the_feedback_formulas():
    P, K = plant(delay=1), own(4, 2)
    ports = feedback(P, K, P.undisturbed(2)).ports()
    assert [s for s in ports.inputs if "[" not in s] == ["d", "r", "n", "v", "plant input"]
    assert {"y", "u", "e", "place", "turn", "force", "torque"} <= set(ports.outputs)
    for z in np.exp(1j * np.linspace(0.1, 3.0, 5)):
        Pu, Pd = np.split(response(P.lft(), z), [2], axis=1)
        Ky, Kr = np.split(response(K.lft(), z), [2], axis=1)
        S = np.linalg.inv(np.eye(2) - Pu @ Ky)
        y = {"d": S @ Pd, "r": S @ Pu @ Kr, "n": S, "v": S @ Pu, "plant input": S @ Pu}
        for name, wanted in y.items():
            u = Ky @ wanted + (Kr if name == "r" else 0)
            e = (np.eye(2) if name == "r" else 0) - wanted
            reaching = u + (np.eye(2) if name == "v" else 0)
            for target, expected in (("y", wanted), ("u", u), ("e", e), ("plant input", reaching)):
                np.testing.assert_allclose(response(ports.between(name, target), z), expected, atol=1e-10)
        np.testing.assert_allclose(response(ports.between("n[1]", "turn"), z), S[1:, 1:], atol=1e-10)


def small_plant(seed=0):
    """An R2DN in float64 as a plant, with a delay."""
    model = rc.nn.LipschitzR2DN(
        nu=1, nx=2, nv=2, ny=1, hidden=(3,), gamma=1.0, key=jr.key(seed), dtype=jnp.float64
    )
    return ModelPlant(draw(model, jr.key(seed), 1.0))


def small_loop(gain=-0.3):
    return feedback(small_plant(), Gain(jnp.array([[gain]]), jnp.zeros(1), jnp.zeros(1)))


def test_a_nonlinear_loop_and_its_certificate():
    """The proven gain is above what any two simulated trajectories show, with a model error of the covered size too."""
    loop, error = small_loop(), ModelError(0.2, "output")
    nominal, found = rc.certify(loop, prove=True), rc.certify(loop, error=error)
    assert nominal.holds and found.holds and 0 < nominal.rate < 1 and found.rate is None
    assert nominal.gains["d", "y"] < found.gains["d", "y"]
    text = str(found)
    assert "at the output" in text and "from d to y" in text and "no more than the model error" in text
    for certificate in (nominal, found):
        again = LoopCertificate.from_json(certificate.to_json())
        recheck(again, loop)
        assert (again.gains, again.errors != ()) == (certificate.gains, certificate is found)

    us = jr.normal(jr.key(1), (4, 60, 1)) * jnp.array([0.1, 1.0, 3.0, 10.0])[:, None, None]

    def response_of(d, slope):
        """With a static error of that slope, behind the delay."""

        def body(carry, d):
            x, p = carry
            y = loop.plant.output(x[0], loop.plant.undisturbed()) + p
            policy, u = loop.policy.step(x[1], y)
            after = loop.plant.advance(x[0], u + d, loop.plant.undisturbed()), policy
            return (after, slope * jnp.sin(u + d)), y

        return lax.scan(body, (loop.init_state(), jnp.zeros(1)), d)[1]

    for certificate, slope in ((nominal, 0.0), (found, 0.2)):
        ys = jax.vmap(response_of, (0, None))(us, slope)
        for k, j in itertools.combinations(range(4), 2):
            ratio = jnp.linalg.norm(ys[k] - ys[j]) / jnp.linalg.norm(us[k] - us[j])
            assert 0 < ratio <= certificate.gains["d", "y"]


def test_an_unknown_delay_is_covered_by_its_error():
    lag = rc.StateSpace([[0.9]], [[0.1]], [[1.0]], [[0.0]], dt=DT)
    pid = rc.classical.PID(2.0, 1.0, dt=DT)
    error = delay_error(3)
    z = np.exp(1j * np.linspace(1e-3, np.pi, 200))
    for k in range(4):
        W = np.array([response(error.weight, point)[0, 0] for point in z])
        assert np.all(np.abs(z**-k - 1) <= error.gain * np.abs(W) + 1e-12)
    found = largest_error(feedback(ModelPlant(lag), pid), "input", error.weight)
    assert found.gain > 1
    for more in range(int(found.gain) + 1):
        poles = np.linalg.eigvals(feedback(ModelPlant(lag, delay=1 + more), pid).lft().A)
        assert np.abs(poles).max() < 1
    assert rc.certify(feedback(ModelPlant(lag), pid), gains=[], error=delay_error(int(found.gain))).holds


def test_several_errors_hold_together_or_with_a_part_of_their_gains():
    loop = small_loop()
    both = rc.certify(loop, gains=[], error=[ModelError(0.1), ModelError(0.1, "input")])
    assert both.holds and len(both.errors) == 2
    rest = largest_error(loop, "output", error=ModelError(0.1, "input"))
    assert 0.1 < rest.gain < largest_error(loop, "output").gain
    recheck(LoopCertificate.from_json(rest.certificate.to_json()), loop)
    table = rc.certificates.error_table(loop, [0.0, 0.1, 1e4])
    rows = [c.gains.get(("d", "y")) for c in table.certificates]
    assert rows[0] < rows[1] and rows[2] is None and "not proven" in str(table)


def test_loops_with_learned_controllers_are_certified():
    """Youla's form and its map, a policy alongside and a parallel one, about linear plants."""
    q = rc.nn.LipschitzR2DN(nu=1, nx=1, nv=2, ny=1, hidden=(2,), gamma=0.2, key=jr.key(0)).explicit()
    motor = Sampled(LinearPlant([[-1.0]], [[1.0]], [[1.0]]), DT)
    pid = rc.classical.PID(1.0, 0.5, dt=DT)
    maps = [rc.StateSpace([[0.5]], [[1.0]], [[1.0]], [[0.0]], DT) for _ in range(3)]
    for controller in (
        rc.loops.Youla(rc.loops.internal_model(motor), q),
        rc.loops.Alongside(pid, motor, q),
        Parallel(pid, q),
    ):
        found = rc.certify(feedback(motor, controller), gains=[("d", "y")], seconds=60.0)
        assert found.holds and found.gains["d", "y"] > 0
    found = rc.certify(rc.loops.YoulaMap(*maps, q, np.inf), prove=True)
    bound = 2.0 + 2.0 * 0.2 * 2.0
    assert found.holds and found.gains["d", "z"] <= bound and set(found.gains) == {("d", "z"), ("d", "u")}
    with pytest.raises(RobustctlError, match="without a plant"):
        rc.certify(rc.loops.YoulaMap(*maps, q, np.inf), error=ModelError(0.1))


# What cannot be proven, and why


def saturated(k):
    """A lag with a delay and limits, under a gain: stable for slopes up to a part of one."""
    limits = [rc.plants.Signal("u", "V", -1.0, 1.0)]
    lag = LinearPlant([[-1.0]], [[1.0]], [[1.0]], controls=limits)
    return feedback(
        Sampled(lag, DT, Imperfections(saturate=True, delay=2)),
        Gain(jnp.array([[-k]]), jnp.zeros(1), jnp.zeros(1)),
    )


def test_a_loop_that_cannot_be_proven_reports_how_far_its_slopes_must_shrink():
    exact = ct.sample_system(ct.ss(-1, 1, 1, 0), DT) * ct.tf([1], [1, 0, 0], DT)
    stable = [s for s in np.linspace(0, 1, 201) if np.abs(ct.feedback(12.0 * s * exact, 1).poles()).max() < 1]
    assert 0.5 < max(stable) < 1
    found = rc.certify(saturated(12.0), prove=True)
    assert not found.holds and not found.gains and found.rate is None
    assert (
        0 < found.slope_fraction <= 2 * max(stable) - 1 + 0.01 and "shrunk about its middle" in found.reason
    )
    assert rc.certify(saturated(3.0), prove=True).holds


def test_an_unstable_loop_is_named_by_its_poles():
    lag = rc.StateSpace([[1.5]], [[1.0]], [[1.0]], [[0.0]], dt=DT)
    loop = feedback(ModelPlant(lag), rc.loops.zero_gain(1, 1))
    found = rc.certify(loop, prove=True)
    assert not found.holds and "must be stable, got poles 1.5" in found.reason
    largest = largest_error(loop)
    assert largest.gain == 0 and "poles 1.5" in largest.certificate.reason
    with pytest.raises(RobustctlError, match="must have proofs"):
        recheck(found, loop)


def test_too_little_time_and_weights_that_are_not_finite():
    found = rc.certify(small_loop(), prove=True, seconds=1e-4)
    assert not found.holds and "takes about" in found.reason and "give more seconds" in found.reason
    found = rc.certify(small_loop(float("nan")), prove=True)
    assert not found.holds and "must be finite" in found.reason
    with pytest.raises(RobustctlError, match="seconds must be positive"):
        rc.certify(small_loop(), prove=True, seconds=0.0)


UNSTABLE = rc.StateSpace([[1.1]], [[1.0]], [[1.0]], [[0.0]], dt=DT)
OTHER_TIME = rc.StateSpace([[0.1]], [[1.0]], [[1.0]], [[0.0]], dt=2 * DT)
WIDE = rc.StateSpace(np.zeros((0, 0)), np.zeros((0, 3)), np.zeros((1, 0)), np.ones((1, 3)), dt=DT)
ZERO = rc.StateSpace([[0.1]], [[1.0]], [[0.0]], [[0.0]], dt=DT)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dict(gain=float("inf")), "finite and at least 0, got inf"),
        (dict(gain=float("nan")), "finite and at least 0, got nan"),
        (dict(gain=-0.1), "finite and at least 0, got -0.1"),
        (dict(gain=0.1, at="actuator"), '"output" or "input"'),
        (dict(gain=0.1, weight=UNSTABLE), "stable, got the poles 1.1"),
        (dict(gain=0.1, weight=ct.tf([1], [1, 1])), "discrete time"),
        (dict(gain=0.1, weight=ZERO), "must not be zero"),
        (dict(gain=0.1, weight="low"), "finite linear system, got str"),
        (dict(gain=0.1, weight=OTHER_TIME), "sample time of 0.1 s, got 0.2"),
        (dict(gain=0.1, weight=WIDE), "read all 1 controls or one of them, got one with 3"),
    ],
)
def test_errors_that_bound_nothing_are_refused(given, message):
    lag = rc.StateSpace([[0.9]], [[0.1]], [[1.0]], [[0.0]], dt=DT)
    loop = feedback(ModelPlant(lag), rc.loops.zero_gain(1, 1))
    with pytest.raises(RobustctlError, match=message):
        rc.certify(loop, gains=[], error=ModelError(**given))


def test_a_weight_of_python_control_is_the_same_as_one_of_ours():
    ours = ModelError(0.1, weight=rc.StateSpace([[0.5]], [[1.0]], [[0.4]], [[0.1]], dt=DT))
    theirs = ModelError(0.1, weight=ct.ss([[0.5]], [[1.0]], [[0.4]], [[0.1]], DT))
    for a, b in zip(ours.weight.matrices, theirs.weight.matrices, strict=True):
        np.testing.assert_array_equal(a, b)
    assert ours.dt == theirs.dt == DT


def test_mistakes_in_what_is_asked():
    loop = small_loop()
    with pytest.raises(InvalidModelError, match=r"input must be a signal of the loop, \['d'.*got 'w'"):
        rc.certify(loop, gains=[("w", "y")])
    with pytest.raises(InvalidModelError, match="output must be a signal of the loop"):
        rc.certify(loop, gains=[("d", "e")])
    with pytest.raises(RobustctlError, match="must have named signals"):
        rc.certify(loop.plant.model, error=ModelError(0.1))
    with pytest.raises(RobustctlError, match="whole number of at least 1"):
        delay_error(0)


def test_edited_certificates_are_refused():
    loop = small_loop()
    found = rc.certify(loop, gains=[("d", "y")], error=ModelError(0.1))
    fields = json.loads(found.to_json())
    lower = json.loads(found.to_json())
    lower["gains"][0]["gain"] *= 0.9
    with pytest.raises(RobustctlError, match="must be what is proven"):
        recheck(LoopCertificate.from_json(json.dumps(lower)), loop)
    lower["gain_proofs"][0]["proof"]["value"] *= 0.9
    with pytest.raises(RobustctlError, match="not negative definite"):
        recheck(LoopCertificate.from_json(json.dumps(lower)), loop)
    larger = json.loads(found.to_json())
    larger["errors"][0]["gain"] = 100.0
    with pytest.raises(RobustctlError, match="not negative definite"):
        recheck(LoopCertificate.from_json(json.dumps(larger)), loop)
    fields["rate_proof"]["multipliers"] = fields["rate_proof"]["multipliers"][:-1]
    with pytest.raises(RobustctlError, match="multipliers, got"):
        recheck(LoopCertificate.from_json(json.dumps(fields)), loop)
    negative = dataclasses.replace(
        found,
        rate_proof=dataclasses.replace(
            found.rate_proof, multipliers=tuple(-t for t in found.rate_proof.multipliers)
        ),
    )
    with pytest.raises(RobustctlError, match="not negative definite"):
        recheck(negative, loop)
    with pytest.raises(RobustctlError, match="of this loop"):
        recheck(found, small_loop(-0.2))
    with pytest.raises(RobustctlError, match="JSON that to_json writes"):
        LoopCertificate.from_json("{}")


def test_a_class_that_overrides_the_loop_s_step_has_no_signals():
    class Other(rc.loops.Feedback):
        def step(self, x, u):
            return super().step(x, u)

    found = rc.certify(Other(small_plant(), rc.loops.zero_gain(1, 1)), prove=True)
    assert (not found.holds and "makes no claim" in found.reason) or "no lft()" in found.reason


def test_a_model_as_a_plant_is_refused_where_it_does_not_fit():
    lag = rc.StateSpace([[0.9]], [[0.1]], [[1.0]], [[0.0]], dt=DT)
    for wrong, message in (
        (lambda: ModelPlant(lag, delay=0), "at least 1"),
        (lambda: ModelPlant(plant()), "needs no ModelPlant"),
        (lambda: ModelPlant(lag, u0=[0.0, 0.0]), "u0 must have the shape"),
    ):
        with pytest.raises(InvalidModelError, match=message):
            wrong()
