"""One list of systems to export: each class, each design, loops, and some of a user's own."""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import control as ct
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax import lax
from jaxtyping import Array

import robustctl as rc
from robustctl.classical import PID
from robustctl.loops import (
    AllOf,
    Alongside,
    Barrier,
    Delay,
    Filter,
    Gain,
    Guarded,
    Limits,
    Parallel,
    RateLimit,
    Series,
    StateLimits,
    Youla,
    feedback,
    internal_model,
)  # fmt: skip
from robustctl.plants import Imperfections, LinearPlant, Sampled, Signal
from robustctl.system import explicit_of

from .models import draw

KEY = jr.key(3)
SIZES: dict[str, Any] = {"nu": 2, "nx": 4, "ny": 2, "key": KEY}
R2DN: dict[str, Any] = {**SIZES, "nv": 5, "hidden": (6, 5)}
REN: dict[str, Any] = {**SIZES, "nv": 6}


class Case(NamedTuple):
    """A system, and where its inputs lie."""

    make: Callable[[], Any]
    nu: int = 2
    center: float = 0.0
    size: float = 1.0


def bumped(model):
    """A model away from its start, so that no array is zero."""
    return draw(model, jr.key(5), 0.4)


def with_network(network, hidden, **settings):
    """An R2DN with another network for phi."""
    phi = network(5, 5, hidden, key=KEY, **settings)
    return bumped(rc.nn.ContractingR2DN(**SIZES, nv=5, phi=phi))


@cache
def pendulum():
    """An unstable oscillator with limits."""
    limited = Signal("torque", "N m", low=-1.0, high=1.0)
    matrices = [[0.0, 1.0], [2.0, -0.3]], [[0.0], [1.0]], [[1.0, 0.0]]
    return Sampled(
        LinearPlant(*matrices, controls=[limited]), 0.1, imperfections=Imperfections(saturate=True, delay=1)
    )


@cache
def tanks():
    return Sampled(rc.plants.TwoTanks(), 2.0)


@cache
def lqr_of_tanks():
    return rc.classical.lqr(tanks(), [1.0, 1.0], 1.0).controller


def kalman_filter(noise: float) -> Any:
    return rc.classical.kalman(tanks(), noise, noise).estimator


def lead() -> Any:
    return ct.tf([12.0, -10.0], [1.0, -0.5], 2.0)


def small_q(nu=1):
    return bumped(rc.nn.LipschitzR2DN(nu=nu, nx=3, nv=4, ny=1, gamma=0.5, hidden=(5,), key=KEY))


def as_system(K: Any) -> rc.StateSpace:
    """A discrete-time system of python-control."""
    return rc.StateSpace(jnp.asarray(K.A), jnp.asarray(K.B), jnp.asarray(K.C), jnp.asarray(K.D), K.dt)


def mixed():
    return ct.ss([[0.9, 0.1], [0, 0.7]], [[0.0, 1], [1, 0]], [[1.0, 0], [0, 1]], 0, 0.5)


def hinf_controller():
    P: Any = ct.ss(
        [[0.0, 1], [-1, -0.4]],
        [[0, 0, 0.0], [1, 0, 1]],
        [[1.0, 0], [0, 0], [1, 0]],
        [[0, 0, 0], [0, 0, 1.0], [0, 1, 0]],
    )
    return as_system(ct.c2d(rc.classical.hinf(P, 1, 1).K, 0.1, "tustin"))


class SlidingMedian(rc.System):
    """A user's own: a window, sorted, its median, its largest entry's age and its running sum."""

    nu, ny, dt = 1, 4, 0.1

    def init_state(self):
        return {"window": jnp.zeros(5), "count": jnp.asarray(0)}

    def step(self, x, u):
        window = x["window"].at[x["count"] % 5].set(u[0])
        after = {"window": window, "count": x["count"] + 1}
        y = [
            jnp.sort(window)[2],
            jnp.argmax(window).astype(window.dtype),
            jnp.cumsum(window)[3],
            jnp.prod(window[::2]),
        ]
        return after, jnp.stack(y)


class Newton(rc.System):
    """A user's own: a fixed number of Newton steps by scan, backwards over the coefficients of a polynomial."""

    nu, ny, dt = 2, 1, 0.01
    roots: Array = eqx.field(default_factory=lambda: jnp.array([0.3, 0.2, 1.5]))

    def init_state(self):
        return jnp.zeros(1)

    def step(self, x, u):
        def horner(value, a):
            return value * x[0] + a, value

        value, partial = lax.scan(horner, u[0], self.roots, reverse=True)
        slope = 2 + jnp.sum(partial**2)
        return x - 0.1 * (value - u[1]) / slope, jnp.tanh(x + partial[1])


class Relay(rc.System):
    """A user's own: hysteresis by cond, a switch of three by index, a bounded search by while."""

    nu, ny, dt = 1, 3, 0.1
    gains: Array = eqx.field(default_factory=lambda: jnp.array([0.5, -1.0, 2.0]))

    def init_state(self):
        return jnp.asarray(False), jnp.zeros(2)

    def step(self, x, u):
        on, memory = x
        on = lax.cond(u[0] > 0.5, lambda: jnp.asarray(True), lambda: on & (u[0] > -0.5))
        which = jnp.clip(jnp.floor(jnp.abs(u[0])).astype(int), 0, 2)
        held = lax.switch(which, [lambda m: m, lambda m: m[::-1], lambda m: 0.5 * m + u[0]], memory)

        def halve(s):
            return s[0] + 1, s[1] / 2

        steps, size = lax.while_loop(lambda s: (s[0] < 20) & (s[1] > 0.1), halve, (0, jnp.abs(u[0])))
        y = jnp.stack([jnp.where(on, 1.0, 0.0), size + steps, self.gains[which] * held[0]])
        return (on, 0.9 * held + 0.1 * u[0]), y


class Arithmetic(rc.System):
    """A user's own: every function of an entry, indexing, sums along axes, stacks of matrices."""

    nu, ny, dt = 3, 30, 0.1
    table: Array = eqx.field(default_factory=lambda: jnp.arange(24.0).reshape(2, 3, 4) / 10)

    def init_state(self):
        return jnp.ones((2, 3)) / 3

    def step(self, x, u):
        v = jnp.tanh(u)
        k = jnp.floor(3 * jnp.abs(v[0])).astype(int) - 1
        functions = [
            jnp.exp(v),
            jnp.log1p(v**2),
            jnp.expm1(v),
            jnp.sin(v),
            jnp.arctan2(v, 1 + v),
            jnp.sqrt(1 + v),
            jnp.sign(v),
            jnp.round(4 * v),
            jnp.power(1 + v**2, 0.3),
            jnp.cosh(v),
            jnp.arcsin(v),
            jax.nn.softplus(v),
            jax.nn.gelu(v),
            v**3,
            v**-2,
            jnp.fmod(v, 0.3),
        ]
        picked = self.table[:, k, 1:3]  # negative too
        stack = jnp.einsum("bij,bjk->bik", x[:, None] * self.table[:, :, :3], self.table[:, :, :3])
        A = 3 * jnp.eye(3) + stack[0]
        solved = jnp.linalg.solve(A, v) + jnp.linalg.inv(A + A.T + 9 * jnp.eye(3))[1]
        rolled = jnp.roll(x, 1, axis=1).at[:, 1].add(v[:2]).at[0, -1].multiply(0.5)
        pieces = [*functions, solved, picked.ravel(), jnp.max(stack, axis=(0, 2)), jnp.pad(v, (1, 2))[::2]]
        y = jnp.concatenate(pieces)
        return 0.5 * rolled / (1 + jnp.abs(rolled)), y.at[jnp.array([4, 2])].set(v[:2])


def own_loop():
    """A whole loop, its plant nonlinear with a delay, a limited rate and a resolution."""
    real = Imperfections(saturate=True, rate_limit=0.5, delay=2, resolution=0.01)
    plant = Sampled(rc.plants.TwoTanks(), 2.0, imperfections=real)
    return feedback(
        plant, PID(1.0, 0.02, dt=2.0, y0=plant.plant.output(plant.init_state().x), u0=3.0, low=0.0, high=8.0)
    )


def named():
    """A model in its signals' units, whose names are no identifiers."""
    scales = ([1.0, 2.0], [3.0, 0.5], [1.0, -2.0], [2.0, 0.1])
    names: Any = {"dt": 0.02, "inputs": ("valve 1", "for"), "outputs": ("level*/", "90 %")}
    units: Any = {"input_units": ("%", ""), "output_units": ("m", "K")}
    return rc.Scaled(
        bumped(rc.nn.ContractingR2DN(**R2DN)).explicit(), *map(jnp.asarray, scales), **names, **units
    )


def supply() -> dict[str, Any]:
    return {"Q": -jnp.eye(2), "S": 0.3 * jnp.ones((2, 2)), "R": jnp.eye(2)}


def youla(base, nu=1):
    return Youla(base, small_q(nu).explicit())


def integral_base():
    return rc.classical.linear_base(pendulum(), [1.0, 1.0, 0.1], [0.1], [1.0, 1.0], [0.1], integral=True)


def guarded(filter: Filter) -> Guarded:
    """A bold controller behind a filter, which falls back on a careful one where a reading is out of range."""
    bold, base = (
        Gain(-jnp.array([gains]), jnp.zeros(2), jnp.array([0.1])) for gains in ([9.0, 1.0], [1.0, 1.5])
    )
    return Guarded(bold, filter, base, back=3, stale_after=4, y_low=[-2.0, -2.0], y_high=[2.0, 2.0])


def barrier() -> Barrier:
    cart = Sampled(LinearPlant([[0.0, 1.0], [0.0, -0.2]], [[0.0], [1.0]], np.eye(2)), 0.1)
    return Barrier(cart, StateLimits([[0.0, 1.0], [1.0, 0.5]], [0.5, 2.0]), 0.3, low=[-100.0], high=[100.0])


CASES = {
    "r2dn": Case(lambda: bumped(rc.nn.ContractingR2DN(**R2DN))),
    "r2dn_lipschitz": Case(lambda: bumped(rc.nn.LipschitzR2DN(gamma=2.0, **R2DN))),
    "r2dn_dissipative": Case(lambda: bumped(rc.nn.DissipativeR2DN(**supply(), **R2DN))),
    "r2dn_no_hidden": Case(lambda: bumped(rc.nn.ContractingR2DN(**{**R2DN, "hidden": ()}))),
    **{
        f"r2dn_{name}": Case(lambda f=f: bumped(rc.nn.ContractingR2DN(activation=f, **R2DN)))
        for name, f in rc.nn.ACTIVATIONS.items()
        if name != "relu"
    },
    "r2dn_bypass": Case(lambda: with_network(rc.nn.BypassLBDN, (4, 3))),
    "r2dn_group_sort": Case(lambda: with_network(rc.nn.Orthogonal, (6,), activation=rc.nn.GroupSort(3))),
    "r2dn_householder": Case(
        lambda: with_network(rc.nn.Orthogonal, (4,), activation=rc.nn.Householder((1, -3)))
    ),
    "ren": Case(lambda: bumped(rc.nn.ContractingREN(**REN))),
    "ren_lipschitz_tanh": Case(lambda: bumped(rc.nn.LipschitzREN(gamma=2.0, activation=jnp.tanh, **REN))),
    "ren_dissipative": Case(lambda: bumped(rc.nn.DissipativeREN(**supply(), **REN))),
    "ren_in_blocks": Case(lambda: bumped(rc.nn.ContractingREN(**{**REN, "nv": 35}))),
    "innovation": Case(
        lambda: bumped(rc.nn.InnovationR2DN(nu=1, nx=4, nv=5, ny=2, nz=1, hidden=(6,), key=KEY)), nu=5
    ),
    "state_observer": Case(lambda: bumped(rc.nn.StateObserver(rc.nn.ContractingR2DN(**R2DN)))),
    "state_observer_ren": Case(lambda: bumped(rc.nn.StateObserver(rc.nn.ContractingREN(**REN)))),
    "corrected": Case(
        lambda: bumped(
            rc.nn.CorrectedR2DN(
                [[0.5, 0.1], [0.0, 0.6]],
                np.eye(2),
                np.eye(2),
                np.zeros((2, 2)),
                [0.1, 0.2],
                [0.3, 0.4],
                core=rc.nn.ContractingR2DN(**{**R2DN, "nu": 4}),
            )
        )
    ),
    "static": Case(lambda: bumped(rc.nn.LipschitzStatic(nu=2, ny=2, gamma=2.0, hidden=(6, 5), key=KEY))),
    "stack": Case(
        lambda: bumped(rc.nn.Stack(nu=2, ny=2, states=3, layers=3, nv=4, hidden=(5,), gamma=2.0, key=KEY))
    ),
    "input_convex": Case(lambda: bumped(rc.nn.InputConvexRNN(nu=2, nx=4, ny=2, gamma=2.0, key=KEY))),
    "lpv": Case(
        lambda: bumped(
            rc.nn.LPV(rc.nn.Lipschitz(2.0), nu=3, nx=4, nv=5, ny=2, schedule=(1,), hidden=3, key=KEY)
        ),
        nu=3,
    ),
    "stable_linear": Case(lambda: bumped(rc.nn.StableLinear(**SIZES))),
    "gru": Case(lambda: bumped(rc.nn.GRU(**SIZES))),
    "para_gru": Case(lambda: bumped(rc.nn.ParaGRU(**SIZES))),
    "lstm": Case(lambda: bumped(rc.nn.LSTM(**SIZES))),
    "rescaled": Case(lambda: rc.Rescaled(bumped(rc.nn.ContractingR2DN(**R2DN)), (1e-3, 2.0), (3.0, 1e-2))),
    "scaled": Case(named),
    "state_space": Case(lambda: as_system(mixed())),
    "gain": Case(lambda: Gain(jnp.array([[1.0, -2.0]]), jnp.array([0.1, 0.2]), jnp.array([3.0]))),
    "delay": Case(lambda: Delay(jnp.array([1.0, 2.0]), 3)),
    "series": Case(lambda: Series(Delay(jnp.zeros(2), 2), bumped(rc.nn.ContractingR2DN(**R2DN)).explicit())),
    "parallel": Case(
        lambda: Parallel(
            bumped(rc.nn.StableLinear(**SIZES)).explicit(), bumped(rc.nn.ContractingREN(**REN)).explicit()
        )
    ),
    "pid": Case(lambda: PID(4.0, 2.0, 0.4, dt=0.02, low=-1.0, high=1.0)),
    "pid_reads": Case(
        lambda: PID([4.0, 1.0], 2.0, dt=0.02, reads=[[1.0, 0, 0], [0, 0.5, 0.5]], low=-1.0), nu=5
    ),
    "lqg": Case(
        lambda: rc.classical.lqg(pendulum(), [1.0, 1.0, 1.0], [0.1], [1.0, 1.0, 1.0], [0.1]).controller, nu=1
    ),
    "lqg_integral": Case(
        lambda: (
            rc.classical.lqg(
                tanks(), [1.0, 1.0, 0.1], [1.0], [1.0, 1.0], [0.1], integral=True, limits=True
            ).controller
        ),
        center=8.0,
    ),
    "kalman": Case(lambda: kalman_filter(0.1), center=8.0, nu=(1, 1)),  # pyright: ignore[reportArgumentType]
    "estimate_feedback": Case(
        lambda: rc.classical.EstimateFeedback(kalman_filter(0.1), lqr_of_tanks()),
        1,
        8.0,
    ),
    "ekf": Case(
        lambda: rc.classical.EstimateFeedback(
            rc.classical.extended_kalman(tanks(), 0.1, 0.1), lqr_of_tanks()
        ),
        1,
        8.0,
        0.3,
    ),
    "ukf": Case(
        lambda: rc.classical.EstimateFeedback(
            rc.classical.unscented_kalman(tanks(), 0.1, 0.1), lqr_of_tanks()
        ),
        1,
        8.0,
        0.3,
    ),
    "hinf": Case(hinf_controller, 1),
    "lead": Case(lambda: rc.classical.policy(lead(), tanks())),
    "mpc": Case(
        lambda: (
            rc.classical.mpc(
                tanks(), [1.0, 1.0], 1.0, horizon=4, iterations=30, x_high=[12.0, 12.0]
            ).controller
        ),
        2,
        8.0,
    ),
    "youla": Case(
        lambda: youla(rc.classical.linear_base(pendulum(), [1.0, 1.0], [0.1], [1.0, 1.0], [0.1])), 1
    ),
    "youla_integral": Case(lambda: youla(integral_base(), 2), 2),
    "youla_internal_model": Case(lambda: youla(internal_model(tanks())), 1, 8.0),
    "alongside": Case(lambda: Alongside(PID(8.0, 2.0, 4.0, dt=0.1), pendulum(), small_q(2).explicit()), 2),
    "guarded_limits": Case(lambda: guarded(Limits([-1.0], [1.5]))),
    "guarded_rate": Case(lambda: guarded(RateLimit(per_second=[3.0], dt=0.1))),
    "guarded_barrier": Case(lambda: guarded(barrier())),
    "guarded_all_of": Case(lambda: guarded(AllOf((Limits([-1.0], [1.5]), RateLimit([0.6]), barrier())))),
    "cart_pole": Case(lambda: Sampled(rc.plants.CartPole(), 0.02), -1, size=0.01),
    "loop": Case(own_loop, -1, size=0.1),
    "own_window": Case(SlidingMedian, 1),
    "own_scan": Case(Newton, 2),
    "own_cond": Case(Relay, 1),
    "own_arithmetic": Case(Arithmetic, 3),
}


@cache
def system_of(name: str):
    """Return a system of the list."""
    return explicit_of(CASES[name].make())


def sample_of(name: str):
    """Return one sample of its input, what `program` is given where the class does not know it."""
    nu = CASES[name].nu
    if isinstance(nu, tuple):
        return tuple(map(jnp.zeros, nu))
    if nu < 0:
        system = system_of(name)
        nothing = system.undisturbed()
        return (jnp.zeros(system.nu), nothing) if isinstance(system, Sampled) else nothing
    return jnp.zeros(nu)


def inputs_of(name: str, count: int, dtype: str = "float64"):
    """Return a sequence of inputs; flags are 0 or 1."""
    case, rng = CASES[name], np.random.default_rng(7)

    def drawn(leaf):
        return (case.center + case.size * rng.normal(size=(count, *leaf.shape))).astype(dtype)

    us = jax.tree.map(drawn, sample_of(name))
    flags = list(system_of(name).flags)
    if flags:
        us[:, flags] = us[:, flags] > 0
    return us
