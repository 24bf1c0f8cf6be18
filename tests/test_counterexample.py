"""Counterexamples: what is not contracting is disproved by states to replay, and what is never is."""

import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jaxtyping import Array

import robustctl as rc
from robustctl.certificates import counterexample
from robustctl.errors import InvalidModelError, RobustctlError, RobustctlWarning

SAMPLES = 800


class Scalar(rc.System):
    """x+ = f(x) + u / 10, y = x."""

    f: object = eqx.field(static=True)
    a: Array
    nu = ny = 1

    def init_state(self):
        return jnp.zeros(1)

    def step(self, x, u):
        return self.f(self.a * x) + 0.1 * u, x


class Rotation(rc.System):
    """A limit cycle: r+ = r + r (1 - r^2) / 2 and an angle that turns by 0.3."""

    nu, ny = 1, 2

    def init_state(self):
        return jnp.asarray([0.5, 0.0])

    def step(self, x, u):
        r = jnp.linalg.norm(x)
        c, s = jnp.cos(0.3), jnp.sin(0.3)
        turned = jnp.stack([c * x[0] - s * x[1], s * x[0] + c * x[1]])
        return turned * (1 + 0.5 * (1 - jnp.minimum(r, 1.5) ** 2)) + 0 * u, x


def linear(*poles):
    A = np.diag(poles)
    A[0, -1] += 0.1 if len(poles) > 1 else 0.0
    n = len(poles)
    return rc.StateSpace(A, np.ones((n, 1)), np.ones((1, n)), np.zeros((1, 1)), 1.0)


def apart(found, system, samples=SAMPLES):
    """Distances of the replayed states, (T,)."""
    one, other = found.replay(system, samples)
    return np.linalg.norm(np.asarray(one.xs - other.xs, np.float64), axis=-1)


def test_two_equilibria_are_those_of_the_equation():
    """x = tanh(2 x) has the roots 0 and +-0.95750402 (Newton's method by hand), of which zero is unstable."""
    system = Scalar(jnp.tanh, jnp.asarray(2.0))
    found = counterexample(system, inputs=jnp.zeros((1, 1)), samples=SAMPLES)
    assert found is not None and found.kind == "two equilibria"
    states = jnp.asarray([[-1.0], [1.0]])
    found = counterexample(system, inputs=jnp.zeros((1, 1)), states=states, samples=SAMPLES)
    ends = sorted(float(run.x_final[0]) for run in found.replay(system))
    np.testing.assert_allclose(ends, [-0.95750402, 0.95750402], rtol=1e-6)
    assert f"{ends[1] - ends[0]:.3g}" in str(found)


@pytest.mark.parametrize(
    ("system", "kind"),
    [
        (linear(1.0, 0.5), "no approach"),
        (linear(1.1, 0.5), "divergence"),
        (linear(-1.05, 0.5), "divergence"),
        (Rotation(), "no approach"),
    ],
    ids=["integrator", "unstable", "alternating", "limit cycle"],
)
def test_what_does_not_forget_is_disproved_and_replayed(system, kind):
    found = counterexample(system, samples=SAMPLES)
    assert found is not None and found.kind == kind
    distance = apart(found, system)
    assert not distance[-SAMPLES // 4 :].max() < 0.999 * distance[SAMPLES // 4 : SAMPLES // 2].max()


def test_an_unstable_equilibrium_is_found_where_every_start_is_at_it():
    """At x = 0 tanh(2 x) has the slope 2: its spectral radius."""
    states = jnp.zeros((2, 1))
    found = counterexample(
        Scalar(jnp.tanh, jnp.asarray(2.0)), inputs=jnp.zeros((1, 1)), states=states, samples=SAMPLES
    )
    assert found is not None and found.kind == "unstable equilibrium"
    assert "spectral radius 2," in found.reason
    distance = apart(found, Scalar(jnp.tanh, jnp.asarray(2.0)), 100)
    assert distance[-1] > 100 * distance[0]


@pytest.mark.parametrize("rate", [0.5, 0.99, 0.9999, 0.999999])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64], ids=["float32", "float64"])
def test_slow_but_stable_systems_have_none(rate, dtype):
    with jax.enable_x64(True):
        system = jax.tree.map(lambda a: a.astype(dtype), linear(rate, 0.5))
        assert counterexample(system, samples=SAMPLES) is None


def test_a_map_without_state_has_none():
    assert counterexample(rc.loops.zero_gain(1, 1)) is None


def test_certified_models_have_none():
    model = rc.nn.ContractingREN(nu=2, nx=3, nv=4, ny=2, key=jr.key(0))
    assert counterexample(model, samples=SAMPLES) is None


def test_a_scaled_model_is_tried_in_its_own_units():
    """Around its mean of 1000, where the inner input is zero and x = tanh(2 x) has two stable roots."""
    inner = Scalar(jnp.tanh, jnp.asarray(2.0))
    one = jnp.ones(1)
    found = counterexample(rc.scaled.Scaled(inner, 1000 * one, 5 * one, 0 * one, one), samples=SAMPLES)
    assert found is not None and abs(found.u[0] - 1000) <= 20


def test_loops_are_tried_at_their_undisturbed_sample(loop_parts):
    plant, stabilizing, unstable = loop_parts
    assert counterexample(rc.loops.feedback(plant, stabilizing), spread=0.1, samples=SAMPLES) is None
    found = counterexample(rc.loops.feedback(plant, unstable), spread=0.1, samples=SAMPLES)
    assert found is not None and found.kind == "divergence"
    figure = rc.plot.counterexample(rc.loops.feedback(plant, unstable), found, samples=50)
    labels = [ax.get_ylabel() for ax in figure.axes]
    assert any("position" in label for label in labels) and "distance" in labels[-1]
    assert found.kind in figure.get_suptitle()


@pytest.fixture(scope="module")
def loop_parts():
    """The pole exp(0.2) = 1.22: u = -0.8 x moves it to 0.34, u = 0 leaves it."""
    from robustctl.plants import LinearPlant, Sampled

    plant = LinearPlant([[2.0]], [[10.0]], [[1.0]], outputs=("position",))
    gains = (rc.loops.Gain(jnp.asarray([[k]]), jnp.zeros(1), jnp.zeros(1)) for k in (-0.8, 0.0))
    return (Sampled(plant, 0.1), *gains)


def test_inputs_that_cannot_be_guessed_are_asked_for():
    class Unknown(rc.System):
        def init_state(self):
            return jnp.zeros(1)

        def step(self, x, u):
            return 0.5 * x, x

    with pytest.raises(InvalidModelError, match="give the inputs"):
        counterexample(Unknown())
    assert counterexample(Unknown(), inputs=jnp.zeros((2, 1)), samples=40) is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dict(samples=4), "samples must be a whole number of at least 8"),
        (dict(states=jnp.zeros((1, 1))), "at least 2 initial states"),
    ],
)
def test_settings_out_of_range_are_refused(given, message):
    with pytest.raises(RobustctlError, match=message):
        counterexample(Scalar(jnp.tanh, jnp.asarray(0.5)), **given)


def test_a_certificate_reports_what_disproves_it():
    certificate = rc.certify(Scalar(jnp.tanh, jnp.asarray(2.0)))
    assert not certificate.holds and certificate.disproof.startswith("two equilibria: ")
    assert f"disproved     {certificate.disproof}" in str(certificate)
    assert rc.certificates.Certificate.from_json(certificate.to_json()).disproof == certificate.disproof
    assert not rc.certify(Scalar(jnp.tanh, jnp.asarray(0.5))).disproof


@pytest.mark.usefixtures("as_installed")
def test_what_is_no_system_is_refused():
    with pytest.raises(RobustctlError, match=r"give \.model"):
        counterexample(3.0)


def test_fit_policy_warns_of_a_loop_that_is_slowly_unstable(drifting):
    """A pole of 1.0025 grows by 2.1 within an episode of 300 samples, and by e^12 in 5000."""
    scenario, policy = drifting
    with pytest.warns(RobustctlWarning, match="does not settle: in 4 of 4 episodes of 5000 samples"):
        rc.fit_policy(policy, scenario, horizon=20, batch=2, epochs=1, monitor=None, key=jr.key(0))
    assert "in 4 of 4 episodes" in rc.train.long_run(policy, scenario, horizon=20, key=jr.key(0))


def test_fit_policy_does_not_warn_of_a_stable_loop(drifting):
    scenario, policy = drifting
    stable = eqx.tree_at(lambda s: s.sampled.plant.A, scenario, jnp.asarray([[-0.1]]))
    with warnings.catch_warnings():
        warnings.simplefilter("error", RobustctlWarning)
        rc.fit_policy(policy, stable, horizon=20, batch=2, epochs=1, monitor=None, key=jr.key(0))


@pytest.fixture(scope="module")
def drifting():
    from robustctl.loops import PlantScenario
    from robustctl.plants import LinearPlant, Sampled, Task

    class Regulate(Task):
        def initial_state(self, key):
            return jr.normal(key, (1,))

        def cost(self, x, u, r):
            return jnp.sum(x**2)

    # exp(0.1 a) = 1.0025; a policy scaled down to nothing leaves the pole where it is.
    plant = LinearPlant([[10 * float(np.log(1.0025))]], [[1.0]], [[1.0]])
    scenario = PlantScenario(Regulate(plant), Sampled(plant, 0.1))
    policy = rc.nn.LipschitzR2DN(nu=1, nx=1, nv=2, ny=1, gamma=1e-4, hidden=(2,), key=jr.key(0))
    return scenario, policy
