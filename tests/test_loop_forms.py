"""What loops say of themselves for a proof: their forms do what the loops do, in every composition."""

import dataclasses
from typing import NamedTuple

import control as ct
import diffrax as dfx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

import robustctl as rc
from robustctl.errors import InvalidModelError
from robustctl.lft import linear
from robustctl.loops import (
    Alongside,
    Delay,
    Feedback,
    Gain,
    IntegralBase,
    ModelBased,
    ModelPlant,
    Parallel,
    Series,
    Youla,
    YoulaMap,
    feedback,
    internal_model,
)  # fmt: skip
from robustctl.plants import Exogenous, Imperfections, LinearPlant, Plant, Sampled, Signal
from robustctl.system import Certifiable

from .plants_list import sampled

DT, T = 0.1, 25


class Own(rc.System):
    """A linear system of a user's own, with what it says of itself."""

    A: Array
    B: Array
    C: Array
    D: Array
    nu = property(lambda self: self.D.shape[1])
    ny = property(lambda self: self.D.shape[0])

    def lft(self):
        return linear(self.A, self.B, self.C, self.D)

    def init_state(self):
        return jnp.zeros(len(self.A))

    def step(self, x, u):
        return self.A @ x + self.B @ u, self.C @ x + self.D @ u


def own(nu, ny, nx=2, seed=0):
    rng = np.random.default_rng(seed)
    return Own(*(jnp.asarray(0.4 * rng.normal(size=s)) for s in ((nx, nx), (nx, nu), (ny, nx), (ny, nu))))


class Times(Certifiable):
    """A linear correction or law of the last of what it is given."""

    M: Array
    before: int = 0

    def lft(self):
        M = np.hstack([np.zeros((len(self.M), self.before)), self.M])
        return linear(np.zeros((0, 0)), np.zeros((0, M.shape[1])), np.zeros((len(M), 0)), M)

    def __call__(self, *args):
        return self.M @ args[-1]


def plant(**imperfections):
    """Two controls, one with limits, one disturbance and two outputs of three states."""
    rng = np.random.default_rng(7)
    A = rng.normal(size=(3, 3)) - 2 * np.eye(3)
    return Sampled(
        LinearPlant(
            A, rng.normal(size=(3, 2)), rng.normal(size=(2, 3)), Bd=rng.normal(size=(3, 1)),
            controls=[Signal("force", "N", -0.3, 0.4), Signal("torque", "N m")], outputs=[Signal("place", "m"), Signal("turn", "rad")],
        ),
        DT, Imperfections(**imperfections),
    )  # fmt: skip


def base(**imperfections):
    rng = np.random.default_rng(1)
    L, K = (jnp.asarray(0.3 * rng.normal(size=s)) for s in ((3, 2), (2, 3)))
    return ModelBased(plant(**imperfections), Times(L, before=3), Times(-K))


def integral():
    ones = np.ones(3)
    return rc.classical.lqg(plant(), np.ones(5), np.ones(2), ones, np.ones(2), integral=True).controller


def integral_base():
    rng = np.random.default_rng(2)
    return IntegralBase(base(), *(jnp.asarray(0.3 * rng.normal(size=s)) for s in ((2, 2), (2, 2), (2,))))


class Case(NamedTuple):
    """A system, and how its inputs and outputs are flattened."""

    system: rc.System
    inputs: int
    pack: callable = lambda us: us
    flat: callable = lambda ys: ys


def exogenous(nd, nr):
    def pack(us):
        return Exogenous(
            us[:, :nd], us[:, nd : nd + nr], jr.normal(jr.key(9), (len(us), 2)), jnp.zeros(len(us))
        )

    return pack


def of_plant(system):
    return Case(system, 3, lambda us: (us[:, :2], exogenous(1, 0)(us[:, 2:])))


def of_loop(system, references=0):
    pack = exogenous(1, references)
    return Case(system, 1 + references, pack, lambda ys: jnp.concatenate([ys.y, ys.u], axis=1))


def maps(q, limit):
    t0, t1, t2 = (
        Own(*(jnp.asarray(M) for M in (s.A, s.B, s.C, s.D)))
        for s in (own(1, 2), own(1, 2, seed=1), own(1, 1))
    )
    spaces = (rc.StateSpace(t.A, t.B, t.C, t.D, DT) for t in (t0, t1, t2))
    return YoulaMap(*spaces, q, limit)


CASES = {
    "gain": lambda: Case(Gain(jnp.ones((1, 2)), jnp.ones(2), jnp.ones(1)), 2),
    "delay": lambda: Case(Delay(jnp.ones(2), 3), 2),
    "series": lambda: Case(Series(own(2, 3), Series(Delay(jnp.zeros(3)), own(3, 1, seed=1))), 2),
    "parallel": lambda: Case(Parallel(own(2, 2), own(2, 2, seed=1)), 2),
    "parallel with references": lambda: Case(Parallel(integral(), own(4, 2)), 4),
    "model as a plant": lambda: Case(
        ModelPlant(own(2, 2), delay=2), 2, lambda us: (us, Exogenous(jnp.zeros((T, 0)), jnp.zeros((T, 0)), jnp.zeros((T, 0)), us[:, 0]))
    ),
    "plant": lambda: of_plant(plant()),
    "plant, delay and noise": lambda: of_plant(plant(delay=2, noise=0.1)),
    "plant, saturation": lambda: of_plant(plant(delay=1, saturate=True)),
    "feedback": lambda: of_loop(Feedback(plant(), own(2, 2))),
    "feedback with references": lambda: of_loop(Feedback(plant(delay=1), own(4, 2)), 2),
    "feedback, saturation": lambda: of_loop(Feedback(plant(saturate=True), own(2, 2))),
    "integral action": lambda: of_loop(feedback(plant(), integral())),
    "integral action with references": lambda: of_loop(feedback(plant(), integral(), plant().undisturbed(2)), 2),
    "integral controller": lambda: Case(integral(), 4),
    "integral controller alongside": lambda: Case(Alongside(integral(), plant(), own(2, 2)), 2),
    "Youla": lambda: Case(Youla(base(delay=1), own(2, 2)), 2),
    "Youla with references": lambda: Case(Youla(base(), own(3, 2)), 3),
    "Youla, saturation": lambda: Case(Youla(base(saturate=True), own(2, 2)), 2),
    "Youla in a loop": lambda: of_loop(Feedback(plant(), Youla(base(), own(2, 2)))),
    "integral base": lambda: Case(Youla(integral_base(), own(2, 2)), 2),
    "integral base with references": lambda: Case(Youla(integral_base(), own(4, 2)), 4),
    "integral base alone": lambda: Case(integral_base(), 6, lambda us: (us[:, :2], us[:, 2:])),
    "base": lambda: Case(base(), 4, lambda us: (us[:, :2], us[:, 2:])),
    "internal model": lambda: Case(Youla(internal_model(plant(delay=1)), own(2, 2)), 2),
    "alongside": lambda: Case(Alongside(own(2, 2), plant(delay=1), own(2, 2, seed=1)), 2),
    "alongside with references": lambda: Case(Alongside(own(3, 2), plant(), own(3, 2, seed=1)), 3),
    "alongside, saturation": lambda: of_loop(
        Feedback(plant(saturate=True), Alongside(own(2, 2), plant(saturate=True), own(2, 2, seed=1)))
    ),
    "Youla's map": lambda: Case(maps(own(1, 1), np.inf), 1, flat=lambda ys: jnp.concatenate([ys.z, ys.u], axis=1)),
    "Youla's map, limit": lambda: Case(
        maps(own(1, 1), 0.05), 1, flat=lambda ys: jnp.concatenate([ys.z, ys.u], axis=1)
    ),
}  # fmt: skip


def simulated(form, x, us, clip):
    """Step a form in NumPy with its blocks closed by `clip`, where none reads another in the same sample."""
    assert not form.D11.any()
    ys = []
    for u in us:
        w = clip(form.C1 @ x + form.D12 @ u)
        ys.append(form.C2 @ x + form.D21 @ w + form.D22 @ u)
        x = form.A @ x + form.B1 @ w + form.B2 @ u
    return np.array(ys), x


def limited(name):
    low, high = (-0.05, 0.05) if "map" in name else (-0.3, 0.4)
    return lambda v: np.clip(v, low, high)


@pytest.mark.parametrize("name", CASES)
def test_the_form_does_what_the_system_does(name):
    """Two trajectories from different states under different inputs: their difference, or with limits each by itself."""
    system, width, pack, flat = CASES[name]()
    form = system.lft()
    zero, restore = ravel_pytree(system.init_state())
    assert (form.nx, form.nu) == (zero.size, width)

    def run(seed, size):
        x_key, u_key = jr.split(jr.key(seed))
        x0, us = size * jr.normal(x_key, zero.shape), jr.normal(u_key, (T, width))
        out = rc.rollout(system, pack(us), restore(x0))
        return x0, us, flat(out.ys), ravel_pytree(out.x_final)[0]

    first, second = (run(seed, 1.0) for seed in (1, 2))
    if form.blocks:
        second = [0 * a for a in first]  # everything here is about zero, where the limits are
        assert all(np.all(b.lo == 0) and np.all(b.hi == 1) for b in form.blocks)
    x0, us, ys, x_final = (np.asarray(a - b) for a, b in zip(first, second, strict=True))
    found, x = simulated(form, x0, us, limited(name))
    assert form.ny == ys.shape[1] and np.abs(ys).max() > 1e-2
    np.testing.assert_allclose(found, ys, atol=1e-10)
    np.testing.assert_allclose(x, x_final, atol=1e-10)
    if "saturation" in name or "limit" in name:
        free, _ = simulated(form, x0, us, lambda v: v)
        assert np.abs(free - ys).max() > 1e-3, "the limits must have been reached"


def response(form, z):
    return form.C2 @ np.linalg.solve(z * np.eye(form.nx) - form.A, form.B2) + form.D22


def test_a_loop_has_the_response_of_the_feedback_formula():
    P, K = plant(delay=1), own(3, 2)
    form = feedback(P, K, P.undisturbed(1)).lft()
    for z in np.exp(1j * np.linspace(0.1, 3.0, 7)):
        Pu, Pd = np.split(response(P.lft(), z), [2], axis=1)
        Ky, Kr = np.split(response(K.lft(), z), [2], axis=1)
        y = np.linalg.solve(np.eye(2) - Pu @ Ky, np.hstack([Pd, Pu @ Kr]))
        u = Ky @ y + np.hstack([np.zeros((2, 1)), Kr])
        np.testing.assert_allclose(response(form, z), np.vstack([y, [[0.0, 1.0]], u]), atol=1e-11)


def test_alongside_has_the_response_of_internal_model_control():
    """u = C y + q (y - G u) with the twin's loop closed: what the docstring's equations give, solved by hand."""
    G, C, q = plant(), own(2, 2), own(2, 2, seed=1)
    form, eye = Alongside(C, G, q).lft(), np.eye(2)
    for z in np.exp(1j * np.linspace(0.1, 3.0, 7)):
        g, c, k = response(G.lft(), z)[:, :2], response(C.lft(), z), response(q.lft(), z)
        # y_twin = g (c y_twin + k e), e = y - y_twin
        twin = np.linalg.solve(eye - g @ c + g @ k, g @ k)
        np.testing.assert_allclose(response(form, z), c + k @ (eye - twin), atol=1e-11)


def test_a_sampled_linear_plant_is_that_of_python_control():
    P = plant().plant
    B = np.hstack([P.B, P.Bd])
    exact = ct.sample_system(ct.ss(P.A, B, P.C, np.zeros((2, 3))), DT, method="zoh")
    adaptive = Sampled(P, DT, stepsize_controller=dfx.PIDController(rtol=1e-6, atol=1e-9)).lft()
    assert "adaptive" in adaptive.assumptions[0]
    for form, atol in ((adaptive, 1e-13), (Sampled(P, DT, substeps=20).lft(), 1e-8)):
        np.testing.assert_allclose(form.A[:3, :3], exact.A, atol=atol)
        np.testing.assert_allclose(form.B2[:3], exact.B, atol=atol)


def test_a_plant_in_float32_has_its_form_in_float64():
    P = plant()
    single = jax.tree.map(lambda a: a.astype(jnp.float32), P)
    form = single.lft()
    assert all(M.dtype == np.float64 for M in form.matrices)
    np.testing.assert_allclose(form.A, P.lft().A, atol=1e-6)


@pytest.mark.parametrize(
    "imperfections",
    [dict(rate_limit=1.0), dict(resolution=0.1), dict(jitter=0.1)],
    ids=lambda d: next(iter(d)),
)
def test_what_is_not_linear_in_every_sample_has_no_form(imperfections):
    P = plant(**imperfections)
    assert P.lft() is None and Feedback(P, own(2, 2)).lft() is None


def test_a_whole_with_an_unknown_part_has_no_form():
    class Unknown(Own):
        def step(self, x, u):
            x, y = super().step(x, u)
            return x, jnp.tanh(y)

    parts = own(2, 2)
    other = Unknown(parts.A, parts.B, parts.C, parts.D)
    nonlinear = sampled("cart-pole")
    wholes = [
        other, nonlinear, Series(other, parts), Series(parts, other), Feedback(plant(), other), Youla(base(), other),
        Youla(dataclasses.replace(base(), law=lambda x: jnp.zeros(2)), parts), Alongside(other, plant(), parts),
        Alongside(parts, plant(), other), maps(Unknown(*(jnp.ones((1, 1)),) * 4), 1.0),
    ]  # fmt: skip
    assert all(whole.lft() is None for whole in wholes)


def test_a_plant_whose_equations_were_overridden_makes_no_claim():
    class Bent(LinearPlant):
        def rates(self, x, u, d):
            return super().rates(x, u, d) - x**3

    class OwnBase(ModelBased):
        def control(self, x):
            return jnp.tanh(super().control(x))

    P, b = plant().plant, base()
    assert Sampled(Bent(P.A, P.B, P.C), DT).lft() is None
    assert Youla(OwnBase(b.model, b.correct, b.law), own(2, 2)).lft() is None


class Affine(Plant):
    """A linear plant of a user's own, about another point than zero."""

    states = (Signal("x"),)
    controls = (Signal("u"),)
    disturbances = (Signal("d"),)
    outputs = (Signal("x"),)
    wide: bool = False

    def rates(self, x, u, d):
        return 3.0 - 0.5 * x + 2.0 * u + d

    def lft(self):
        inputs = 3 if self.wide else 2
        return linear([[-0.5]], [[2.0, 1.0, 0.0][:inputs]], [[1.0]], np.zeros((1, inputs)))


def test_a_plant_of_ones_own_may_say_that_it_is_linear():
    form = Sampled(Affine(), DT, substeps=8).lft()
    a = np.exp(-0.5 * DT)
    np.testing.assert_allclose(form.A[0, 0], a, rtol=1e-12)
    np.testing.assert_allclose(form.B2[0], (1 - a) / 0.5 * np.array([2.0, 1.0]), rtol=1e-10)
    with pytest.raises(InvalidModelError, match=r"lft\(\) of Affine must have the plant's numbers of states"):
        Sampled(Affine(wide=True), DT).lft()


def test_sizes_names_and_units_come_from_the_parts():
    P, b = plant(), base()
    assert (P.nu, P.ny, P.dt) == (2, 2, DT)
    assert (P.inputs, P.input_units) == (("force", "torque"), ("N", "N m"))
    assert (P.outputs, P.output_units) == (("place", "turn"), ("m", "rad"))
    y, u = ("place", "turn"), ("force", "torque")
    for controller in (Youla(b, own(3, 2)), Alongside(own(3, 2), P, own(3, 2))):
        assert (controller.nu, controller.ny, controller.dt) == (3, 2, DT)
        assert (controller.inputs, controller.outputs) == ((*y, "r[0]"), u)
        assert (controller.input_units, controller.output_units) == (("m", "rad", ""), ("N", "N m"))
        loop = Feedback(P, controller)
        assert (loop.ny, loop.dt, loop.outputs) == (5, DT, (*y, "r[0]", *u))
        assert loop.output_units == ("m", "rad", "", "N", "N m")
    row = Series(own(3, 2), P)
    assert (row.nu, row.ny, row.dt, row.inputs, row.outputs) == (3, 2, DT, None, y)
    assert (Delay(jnp.zeros(2)).nu, Gain(jnp.ones((1, 2)), jnp.zeros(2), jnp.zeros(1)).nu) == (2, 2)
    t = maps(own(1, 1), 1.0)
    assert (t.nu, t.ny, t.dt, t.inputs, t.outputs) == (1, 3, DT, ("u[0]",), ("y[0]", "y[1]", "u[0]"))
