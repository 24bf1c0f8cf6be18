"""The three published sizes: their models, other models of equal size, and one training step of each problem."""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jax import lax
from jaxtyping import Array

from robustctl import nn
from robustctl.problems import youla_feedback as youla
from robustctl.system import Parameterization
from robustctl.trajectory import rollout

from ..runs import parameters as parameters
from . import yardstick


@dataclasses.dataclass(frozen=True)
class Case:
    """A published size; the module's functions are timed."""

    name: str
    nu: int
    nx: int
    nv: int
    ny: int
    hidden: tuple[int, ...]
    neurons: int  # of the published REN
    activation: Callable

    def model(self) -> nn.R2DN:
        """Return the R2DN."""
        return nn.ContractingR2DN(
            nu=self.nu, nx=self.nx, nv=self.nv, ny=self.ny, hidden=self.hidden, activation=self.activation, key=jr.key(0)
        )  # fmt: skip

    def rivals(self) -> dict[str, Parameterization]:
        """Return the REN as published, and an LSTM and a GRU of about as many parameters as the R2DN."""
        sizes = {"nu": self.nu, "ny": self.ny, "key": jr.key(0)}
        wanted = parameters(self.model())
        return {
            "REN": nn.ContractingREN(nx=self.nx, nv=self.neurons, activation=self.activation, **sizes),
            "LSTM": nn.LSTM(nx=round((wanted / 4) ** 0.5), **sizes),
            "GRU": nn.GRU(nx=round((wanted / 3) ** 0.5), **sizes),
        }


CASES = {
    "f16": Case("f16", 2, 75, 75, 3, (87,) * 3, 150, jax.nn.relu),
    "pde": Case("pde", 2, 51, 50, 51, (96,) * 4, 200, jax.nn.relu),
    "youla": Case("youla", 1, 10, 100, 1, (140,) * 4, 400, jnp.tanh),
}
"""Sizes from [BWM25], Table I."""


def small(case: Case) -> Case:
    """Return a tiny case, to check that the measurements run."""
    return dataclasses.replace(case, nx=3, nv=4, hidden=(5, 5), ny=min(case.ny, 3), neurons=5)


# Rollouts: of the yardstick time first, of ours one sequence each


def sequences(case: Case, batch: int, samples: int) -> tuple[Array, Array]:
    """Return inputs (B, T, nu) and targets (B, T, ny)."""
    u_key, y_key = jr.split(jr.key(1))
    return jr.normal(u_key, (batch, samples, case.nu)), jr.normal(y_key, (batch, samples, case.ny))


def ours(model: Parameterization, us: Array) -> Array:
    """Return the outputs (B, T, ny) from zero states."""
    system = model.explicit()
    return jax.vmap(lambda u: rollout(system, u).ys)(us)


def plain(model: nn.R2DN, us: Array) -> Array:
    """Return the same by the yardstick."""
    x0 = jnp.zeros((us.shape[0], model.core.bx.size), us.dtype)
    return jnp.swapaxes(yardstick.rollout(model, jnp.swapaxes(us, 0, 1), x0)[1], 0, 1)


def squared_error(run: Callable[[Any, Array], Array]) -> Callable[[Any, Array, Array], Array]:
    """Return the loss of a rollout: squares summed over batch and channels, mean over time."""
    return lambda model, us, ys: jnp.sum((run(model, us) - ys) ** 2) / us.shape[1]


def with_gradient(explicit_map: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, Any]]:
    """Return `model -> (arrays, gradient of half their sum of squares)`: a loss without cost, so that only the map is timed."""

    def both(model):
        arrays, pull = eqx.filter_vjp(explicit_map, model)
        return arrays, *pull(arrays)

    return both


# One training step of each problem: losses of a model and its data


def training(case: Case, quick: bool) -> tuple[Callable, Callable, tuple[Array, ...]]:
    """Return the yardstick's loss and ours, and their data: 4 x 256 of F-16, 500 single steps, 64 x 200 in the loop."""
    if case.name == "pde":
        us, _ = sequences(case, 20 if quick else 500, 1)
        xs = jr.normal(jr.key(2), (us.shape[0], case.nx))
        after = jr.normal(jr.key(3), xs.shape)
        return _one_step_plain, _one_step, (xs, us[:, 0], after)
    if case.name == "youla":
        batch, samples = (4, 20) if quick else (64, 200)
        ws = jnp.repeat(jr.uniform(jr.key(2), (batch, samples // 10, 1), minval=-10, maxval=10), 10, axis=1)
        return _loop_plain, _loop, (ws,)
    return squared_error(plain), squared_error(ours), sequences(case, 4, 20 if quick else 256)


def training_step(loss: Callable, optimizer: optax.GradientTransformation | None = None) -> Callable:
    """Return `(model, optimizer's state, *data) -> (model, state, loss)`, by `optimizer_of_all` where none is given."""
    optimizer = optimizer_of_all() if optimizer is None else optimizer

    def step(model, state, *data):
        value, slope = eqx.filter_value_and_grad(loss)(model, *data)
        with jax.numpy_dtype_promotion("standard"):  # Optax counts in integers
            updates, state = optimizer.update(slope, state)
            return eqx.apply_updates(model, updates), state, value

    return step


def optimizer_of_all() -> optax.GradientTransformation:
    """Return Adam with elements of the gradient clipped, as published."""
    return optax.chain(optax.clip(10.0), optax.adam(1e-3))


def free(model: Any) -> Any:
    """Return what training moves of a model: its floating-point arrays."""
    return eqx.filter(model, eqx.is_inexact_array)


def _one_step_plain(model, xs, us, after):
    e = yardstick.explicit(model)
    return jnp.mean(jnp.sum((yardstick.step(e, xs, us)[0] - after) ** 2, axis=1))


def _one_step(model, xs, us, after):
    prepared = model.explicit().prepare()
    predicted = jax.vmap(lambda x, u: prepared.step(x, u)[0])(xs, us)
    return jnp.mean(jnp.sum((predicted - after) ** 2, axis=1))


def _loop(model, ws):
    scenario = youla.YoulaScenario()
    loop = scenario.loop(model.explicit(), ())

    def one(w):
        return jnp.mean(jax.vmap(scenario.cost)(rollout(loop, w).ys, w))

    return jnp.mean(jax.vmap(one)(ws))


def _loop_plain(model, ws):
    """The loss by the yardstick, with plant and Q in one scan."""
    scenario, e = youla.YoulaScenario(), yardstick.explicit(model)
    plant, batch = youla.resonance(1.0), ws.shape[0]

    def body(carry, w):
        x0, x1, x2, xq = carry
        z = x0 @ plant.C.T + x1 @ plant.C.T
        xq, v = yardstick.step(e, xq, -x2 @ plant.C.T)
        u = jnp.clip(v, -scenario.limit, scenario.limit)
        after = [x @ plant.A.T + i @ plant.B.T for x, i in ((x0, w), (x1, u), (x2, w))]
        return (*after, xq), jnp.mean(jnp.sum(jnp.abs(z), axis=1) + 1e-4 * jnp.sum(u**2, axis=1))

    zero = jnp.zeros((batch, plant.A.shape[0]), ws.dtype)
    start = (zero, zero, zero, jnp.zeros((batch, model.core.bx.size), ws.dtype))
    return jnp.mean(lax.scan(body, start, jnp.swapaxes(ws, 0, 1))[1])
