"""Plants: solved right, held right, differentiated right, and as faulty as they are told to be."""

import warnings
from typing import ClassVar

import control as ct
import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
from jaxtyping import Array

import robustctl as rc
from robustctl.classical import linear_base
from robustctl.errors import InvalidModelError, RobustctlError, RobustctlWarning
from robustctl.loops import Feedback, PlantScenario, feedback, zero_gain
from robustctl.plants import (
    RK4,
    CartPole,
    Imperfections,
    LinearPlant,
    Plant,
    Sampled,
    Signal,
    draw,
    limits,
    randomized,
    undisturbed,
)

from .plants_list import PLANTS, sampled, weights

ALL = pytest.mark.parametrize("name", PLANTS)


def start(plant):
    """A state and inputs away from the operating point, near enough to stay where the equations are smooth."""
    x, u = plant.operating_point()
    low, high = limits(plant.controls)
    width = np.where(np.isfinite(high - low), high - low, 1.0)
    return x + 0.02 * jnp.cos(jnp.arange(x.size, dtype=x.dtype)), u + 0.02 * jnp.asarray(width)


@ALL
def test_the_operating_point_is_an_equilibrium(name):
    plant = PLANTS[name][0]()
    x, u = plant.operating_point()
    rates = plant.rates(x, u, jnp.zeros(len(plant.disturbances)))
    assert np.abs(rates).max() <= 1e-9 * (1 + np.abs(x).max())
    low, high = limits(plant.controls)
    assert np.all((low <= u) & (u <= high))


@ALL
def test_trajectories_match_an_independent_solver(name):
    """One second of held input: tight adaptive steps to 1e-8, the default fixed ones to fourth order."""
    plant, dt, substeps = PLANTS[name][0](), *PLANTS[name][2:]
    x0, u = start(plant)
    d = 0.01 * jnp.ones(len(plant.disturbances))
    samples = 20
    rates = eqx.filter_jit(plant.rates)
    found = scipy.integrate.solve_ivp(
        lambda t, x: np.asarray(rates(jnp.asarray(x), u, d)), (0.0, samples * dt), np.asarray(x0), rtol=1e-11, atol=1e-12,
        method="LSODA",
    )  # fmt: skip
    scale = 1 + np.abs(found.y).max(axis=1)
    controller = dfx.PIDController(rtol=1e-10, atol=1e-12)
    tight = Sampled(plant, dt, solver=dfx.Tsit5(), stepsize_controller=controller)
    for system, tolerance in ((tight, 1e-8), (Sampled(plant, dt, substeps=substeps), 1e-4)):
        ws = undisturbed(system, samples)._replace(d=jnp.tile(d, (samples, 1)))
        final = rc.rollout(system, (jnp.tile(u, (samples, 1)), ws), system.state_at(x0)).x_final.x
        assert np.max(np.abs(final - found.y[:, -1]) / scale) < tolerance


def test_a_linear_plant_is_held_exactly():
    A, B = np.array([[0.0, 1.0], [-4.0, -0.2]]), np.array([[0.0], [1.0]])
    dt, u, x0 = 0.1, 0.7, np.array([0.3, -0.2])
    exact = scipy.linalg.expm(dt * np.block([[A, B], [np.zeros((1, 3))]]))
    system = Sampled(LinearPlant(A, B, [[1.0, 0.0]]), dt, substeps=20)
    w = system.undisturbed()
    after = system.advance(system.state_at(jnp.asarray(x0)), jnp.array([u]), w).x
    np.testing.assert_allclose(after, exact[:2, :2] @ x0 + exact[:2, 2] * u, rtol=1e-10)


def test_halving_the_step_gains_four_orders():
    plant = CartPole()
    x0, u = start(plant)

    def final(substeps):
        system = Sampled(plant, 0.2, substeps=substeps)
        us = jnp.tile(u, (5, 1))
        return rc.rollout(system, (us, undisturbed(system, 5)), system.state_at(x0)).x_final.x

    best = final(64)
    coarse, fine = (np.abs(final(n) - best).max() for n in (2, 4))
    assert 10 < coarse / fine < 26


def test_rk4_is_a_diffrax_solver():
    term = dfx.ODETerm(lambda t, y, args: -y)
    y = dfx.diffeqsolve(term, RK4(), 0.0, 1.0, 0.01, jnp.ones(2), saveat=dfx.SaveAt(t1=True)).ys
    np.testing.assert_allclose(y[0], np.exp(-1.0), rtol=1e-9)


@ALL
def test_the_gradient_of_a_closed_loop_is_its_slope(name):
    """200 samples of plant, base controller and learned Q: reverse mode against central differences."""
    system = sampled(name)
    plant = system.plant
    base = linear_base(system, *weights(plant))
    task = PLANTS[name][1](plant)
    q = rc.nn.LipschitzR2DN(
        nu=len(plant.outputs), nx=2, nv=3, ny=len(plant.controls), gamma=0.1, hidden=(4,), activation=jax.nn.tanh, key=jr.key(0),
    )  # fmt: skip
    scenario = PlantScenario(task, system, base)
    x0, ws = start(plant)[0], draw(task, system, jr.key(1), 200)
    free, fixed = eqx.partition(q, eqx.is_inexact_array)
    vector, restore = jax.flatten_util.ravel_pytree(free)

    @jax.jit
    @jax.value_and_grad
    def cost(vector):
        loop = scenario.loop(eqx.combine(restore(vector), fixed).explicit(), plant)
        run = rc.rollout(loop, ws, scenario.initial(loop, x0), checkpoint=1)
        return jnp.mean(jax.vmap(scenario.cost)(run.ys, ws))

    # In NumPy, whose arithmetic compiles nothing.
    value, slope = map(np.asarray, cost(vector))
    vector = np.asarray(vector)
    drawn = np.random.default_rng(2).normal(size=vector.size)
    direction = slope / np.linalg.norm(slope) + 0.1 * drawn / vector.size**0.5
    h = 1e-4
    ahead, behind = (cost(vector + s * h * direction)[0] for s in (1, -1))
    ahead2, behind2 = (cost(vector + 2 * s * h * direction)[0] for s in (1, -1))
    differences = (8 * (ahead - behind) - (ahead2 - behind2)) / (12 * h)
    assert np.isfinite(value) and np.linalg.norm(slope) > 0
    np.testing.assert_allclose(slope @ direction, differences, rtol=1e-6)


def pulse(system, us, x0=None):
    us = jnp.asarray(us, float).reshape(-1, 1)
    ws = undisturbed(system, len(us))
    return rc.rollout(system, (us, ws), system.init_state() if x0 is None else system.state_at(x0))


@pytest.fixture(scope="module")
def integrator():
    return LinearPlant([[0.0]], [[1.0]], [[1.0]], controls=[Signal("u", "V", -1.0, 1.0)])


def test_saturation_clips_to_the_limits_of_the_signals(integrator):
    run = pulse(Sampled(integrator, 1.0, Imperfections(saturate=True)), [3.0, -3.0, 0.5])
    np.testing.assert_allclose(np.diff(run.xs.x[:, 0], append=run.x_final.x[0]), [1.0, -1.0, 0.5])


def test_the_rate_limit_is_in_units_a_second(integrator):
    run = pulse(Sampled(integrator, 0.5, Imperfections(rate_limit=0.4)), [1.0, 1.0, -1.0])
    np.testing.assert_allclose(run.xs.applied[1:, 0], [0.2, 0.4])
    np.testing.assert_allclose(run.x_final.applied, [0.2])


def test_a_delay_of_two_samples_shifts_the_control_by_two(integrator):
    us = [1.0, -0.5, 0.25, 0.0, 0.0]
    run = pulse(Sampled(integrator, 1.0, Imperfections(delay=2)), us)
    np.testing.assert_allclose(np.diff(run.xs.x[:, 0], append=run.x_final.x[0]), [0.0, 0.0, *us[:3]])


def test_outputs_lie_on_the_grid_of_the_resolution_and_keep_their_slope(integrator):
    system = Sampled(integrator, 1.0, Imperfections(resolution=0.25))
    w = system.undisturbed()

    def read(x):
        return system.output(system.state_at(x), w)[0]

    value, slope = jax.value_and_grad(read)(jnp.array([0.7]))
    assert value == 0.75 and slope[0] == 1.0


def test_noise_has_the_deviation_it_was_given(integrator):
    system = Sampled(integrator, 1.0, Imperfections(noise=0.3))
    ws = draw(rc.plants.Task(integrator), system, jr.key(0), 4000)
    y = jax.vmap(lambda w: system.output(system.init_state(), w))(ws)
    assert abs(np.std(y) / 0.3 - 1) < 0.05 and abs(np.mean(y)) < 0.02


def test_jitter_stretches_each_sample(integrator):
    system = Sampled(integrator, 1.0, Imperfections(jitter=0.2))
    ws = draw(rc.plants.Task(integrator), system, jr.key(0), 500)
    run = rc.rollout(system, (jnp.ones((500, 1)), ws))
    lengths = np.diff(run.xs.x[:, 0])
    np.testing.assert_allclose(lengths, 1 + 0.2 * ws.jitter[:-1], rtol=1e-12)
    assert lengths.min() > 0.8 and lengths.max() < 1.2 and lengths.std() > 0.1


def test_a_late_measurement_is_the_last_one_that_came(integrator):
    system = Sampled(integrator, 1.0, Imperfections(noise=0.1, delay=2, late=0.3))
    ws = draw(rc.plants.Task(integrator), system, jr.key(0), 400)
    loop = feedback(system, rc.loops.Gain(-jnp.array([[0.1]]), jnp.zeros(1), jnp.ones(1)))
    late, y = np.asarray(ws.late), np.asarray(rc.rollout(loop, ws).ys.y)[:, 0]
    assert 0.2 < late.mean() < 0.4
    came = np.maximum.accumulate(np.where(late, -1, np.arange(400)))
    in_time = rc.rollout(loop, ws._replace(late=jnp.zeros(400, bool)))
    assert np.abs(y - np.asarray(in_time.ys.y)[:, 0]).max() > 0.01  # the loop itself differs
    np.testing.assert_array_equal(y[came >= 0], y[came[came >= 0]])
    assert np.all(y[came < 0] == 0.0)
    assert system.lft() is None and rc.loops.noiseless(system).lft() is not None


def test_other_draws_are_those_without_late_samples(integrator):
    some, none = (
        Sampled(integrator, 1.0, Imperfections(noise=0.1, jitter=0.1, late=late)) for late in (0.5, None)
    )
    a, b = (draw(rc.plants.Task(integrator), system, jr.key(0), 9) for system in (some, none))
    assert b.late is None and eqx.tree_equal(a._replace(late=None), b)


def test_references_follow_the_outputs(integrator):
    system = Sampled(integrator, 1.0)
    w = system.undisturbed(references=1)._replace(r=jnp.array([2.5]))
    np.testing.assert_array_equal(system.output(system.init_state(), w), [0.0, 2.5])


@pytest.mark.usefixtures("as_installed")
@pytest.mark.parametrize("dt", [0.0, -0.1, float("nan"), float("inf"), "0.1", True])
def test_a_sample_time_that_means_nothing_is_refused(dt, integrator):
    with pytest.raises(InvalidModelError, match="dt must be a positive"):
        Sampled(integrator, dt)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(delay=-1), "delay must be"),
        (dict(delay=1.5), "delay must be"),
        (dict(jitter=1.0), "jitter must be"),
        (dict(late=1.0), "late must be a share"),
        (dict(late=0.0), "late must be a share"),
        (dict(noise=0.0), "noise must be positive"),
        (dict(resolution=float("nan")), "resolution must be positive"),
        (dict(rate_limit=-1.0), "rate_limit must be positive"),
    ],
)
@pytest.mark.usefixtures("as_installed")
def test_details_out_of_range_are_refused(wrong, message):
    with pytest.raises(InvalidModelError, match=message):
        Imperfections(**wrong)


class Broken(Plant):
    """Equations that say what is wrong with them."""

    states: ClassVar = (Signal("x"),)
    controls: ClassVar = (Signal("u"),)
    disturbances: ClassVar = ()
    outputs: ClassVar = (Signal("x"),)
    how: str = eqx.field(static=True, default="")

    def rates(self, x, u, d):
        if self.how == "if":
            return -x if x[0] > 0 else x
        if self.how == "NumPy":
            return np.asarray(x)
        return {"list": [x[0]], "width": jnp.zeros(3)}.get(self.how, -x)

    def output(self, x):
        return {"output": [x[0]], "outputs": jnp.zeros(2)}.get(self.how, x)

    def constrain(self, x):
        return x[0] if self.how == "constrain" else x

    def operating_point(self):
        return jnp.zeros(1), jnp.zeros(2 if self.how == "point" else 1)


@pytest.mark.usefixtures("as_installed")
@pytest.mark.parametrize(
    "how, message",
    [
        ("if", r"rates\(x, u, d\) must compute with jax.numpy, and with jnp.where in place of if"),
        ("NumPy", r"rates\(x, u, d\) must compute with jax.numpy"),
        ("list", r"rates\(x, u, d\) must return one array .* jnp.stack makes an array of a list"),
        ("width", r"rates\(x, u, d\) must return one array of shape \(1,\), got .*3"),
        ("output", r"output\(x\) must return one array"),
        ("outputs", r"output\(x\) must return one array of shape \(1,\), got .*2"),
        ("constrain", r"constrain\(x\) must return one array of shape \(1,\)"),
        ("point", r"operating_point\(\) must return two arrays \(x, u\) of shapes \(1,\) and \(1,\)"),
    ],
)
def test_equations_that_cannot_be_solved_are_named(how, message):
    with pytest.raises(InvalidModelError, match=r"Broken." + message):
        Broken(how)


def missing(name):
    """A class without one of its tuples, as a user writes it."""
    made = {"states": (Signal("x"),), "controls": (), "disturbances": (), "outputs": (Signal("x"),)}
    return {key: value for key, value in made.items() if key != name}


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        (missing("disturbances"), r"Own.disturbances must be a tuple .* missing; write disturbances = .* or \(\) for none"),
        (missing("") | {"states": ("x",)}, r"Own.states .* got \('x',\); write rc.plants.Signal"),
        (missing("") | {"controls": Signal("u")}, r"Own.controls .* got one Signal; with a comma"),
        (missing("") | {"outputs": (Signal("speed"),)}, r"Own.outputs must be states, .* \['x'\], got \['speed'\]"),
        (missing("") | {"states": (Signal("x"), Signal("x"))}, "Own.states .* different names"),
        (missing("") | {"controls": (Signal("u", "V", 1.0, -1.0),)}, "Own.controls .* low below high; got .*'u'"),
        (missing("") | {"controls": (Signal("u", "V", high=np.nan),)}, "Own.controls .* low below high; got .*'u'"),
        (missing("") | {"states": (Signal(3),)}, "Own.states .* name is a text"),  # pyright: ignore[reportArgumentType]
        (missing("") | {"rates": lambda self, x, u, d: x.astype(complex)}, r"Own.rates\(x, u, d\) must return real numbers, got complex"),
        (missing("") | {"__annotations__": {"outputs": tuple}}, "Own.outputs .* got a field; write outputs: ClassVar"),
        (missing("") | {"mass": 2.0, "__annotations__": {"mass": float}}, r"Own.mass must be declared .* parameter.*got 2.0"),
        (missing("") | {"k": (1.0, 2.0), "__annotations__": {"k": Array}}, r"Own.k must be declared .* parameter"),
    ],
)  # fmt: skip
def test_signals_and_fields_that_make_no_plant_are_named(attributes, message):
    own = type("Own", (Plant,), {"__module__": __name__, "rates": lambda self, x, u, d: -x} | attributes)
    with pytest.raises(InvalidModelError, match=message):
        own()


@pytest.mark.usefixtures("as_installed")
def test_what_is_no_plant_is_refused():
    with pytest.raises(InvalidModelError, match=r"in continuous time, got TransferFunction"):
        Sampled(ct.tf([1], [1, 1]), 0.1)


def test_no_solver_steps_are_refused(integrator):
    with pytest.raises(InvalidModelError, match="substeps"):
        Sampled(integrator, 1.0, substeps=0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(B=[[1.0], [1.0]]), "B must have shape"),
        (dict(C=[[np.inf]]), "C must be finite"),
        (dict(D=[[1.0]]), "D must be zero"),
        (dict(states=["a", "b"]), "1 different names"),
    ],
)
def test_matrices_that_make_no_plant_are_refused(wrong, message):
    with pytest.raises(InvalidModelError, match=message):
        LinearPlant(**(dict(A=[[0.0]], B=[[1.0]], C=[[1.0]]) | wrong))


def test_randomized_parameters_stay_within_their_spread():
    plant = CartPole()
    drawn = jax.vmap(lambda key: randomized(plant, key, pole_mass=0.3, half_length=0.1))(
        jr.split(jr.key(0), 500)
    )
    assert np.abs(drawn.pole_mass / 0.1 - 1).max() <= 0.3 and np.std(drawn.pole_mass) > 0.015
    assert np.abs(drawn.half_length / 0.5 - 1).max() <= 0.1
    np.testing.assert_array_equal(drawn.cart_mass, np.ones(500))
    with pytest.raises(RobustctlError, match="must be a parameter of CartPole"):
        randomized(plant, jr.key(0), weight=0.1)
    with pytest.raises(RobustctlError, match=r"must be in \[0, 1\)"):
        randomized(plant, jr.key(0), pole_mass=1.0)


def test_outputs_are_the_states_of_their_names():
    class Own(Plant):
        states: ClassVar = (Signal("a"), Signal("b"), Signal("c"))
        controls: ClassVar = (Signal("u"),)
        disturbances: ClassVar = ()
        outputs: ClassVar = (Signal("c"), Signal("a"))

        def rates(self, x, u, d):
            return -x

    np.testing.assert_array_equal(Own().output(jnp.array([1.0, 2.0, 3.0])), [3.0, 1.0])


def test_a_drawn_plant_takes_the_place_of_the_nominal_one():
    system = sampled("cart-pole")
    task = PLANTS["cart-pole"][1](system.plant)
    scenario = PlantScenario(task, system, spread={"pole_mass": 0.5})
    plant = scenario.draw(jr.key(0), 3).plant
    loop = scenario.loop(linear_base(system, *weights(system.plant)), plant)
    with pytest.raises(RobustctlError, match=r"weight must be a parameter of CartPole: .*declares one"):
        PlantScenario(task, system, spread={"weight": 0.1})
    assert (
        isinstance(loop, Feedback) and loop.plant.plant.pole_mass == plant.pole_mass != system.plant.pole_mass
    )


@ALL
def test_every_plant_stays_in_float32(name):
    with jax.enable_x64(False):
        system = sampled(name)
        us = jnp.tile(system.plant.operating_point()[1], (3, 1))
        run = rc.rollout(system, (us, undisturbed(system, 3)))
        assert run.x_final.x.dtype == run.ys.dtype == jnp.float32
        assert jnp.isfinite(run.x_final.x).all()


class Valve(Plant):
    """A fast lag, 500 1/s at rest, that is not linear; with `ringing` an oscillator of that frequency."""

    states: ClassVar = (Signal("flow", "l/s"), Signal("change", "l/s"))
    controls = disturbances = (Signal("voltage", "V"),)
    outputs: ClassVar = (Signal("flow", "l/s"),)
    ringing: bool = False

    def rates(self, x, u, d):
        if self.ringing:
            return 500 * jnp.stack([jnp.sinh(x[1]), u[0] + d[0] - x[0]])
        return 500 * jnp.stack([u[0] + d[0] - jnp.sinh(x[0]), -x[1]])


def test_steps_too_long_for_a_nonlinear_plant_are_named():
    still = zero_gain(1, 1)
    # |lambda| h = 5: the factor of a step is 1 - 5 + 12.5 - 20.8 + 26 = 13.7 where e^-5 = 0.007
    with pytest.raises(
        InvalidModelError, match=r"-500 1/s at its operating point, but .* is 5 .* take substeps=5"
    ):
        feedback(Sampled(Valve(), 0.01), still)
    with pytest.warns(RobustctlWarning, match="substeps=5"):
        feedback(Sampled(Valve(ringing=True), 0.01, substeps=4), still)
    with pytest.raises(InvalidModelError, match=r"Kvaerno5.*PIDController"):
        feedback(Sampled(Valve(), 1.0), still)
    adaptive = dfx.PIDController(rtol=1e-6, atol=1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        feedback(Sampled(Valve(), 0.01, substeps=5), still)
        feedback(Sampled(Valve(), 0.01, solver=dfx.Kvaerno5(), stepsize_controller=adaptive), still)
