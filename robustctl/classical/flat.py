"""Any system, plant or loop as functions of float64 vectors, on which classical tools work."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from ..affine import input_sample, to_float64
from ..checks import is_real
from ..errors import InvalidModelError
from ..loops import Feedback
from ..plants import Plant, PlantState, Sampled
from ..system import System, explicit_of


class Flat(NamedTuple):
    """A system on vectors: `step(x, u) -> (x_next or dx/dt, y)`, its initial state, and its names.

    `dt` is 0 in continuous time and None for a system without a sample time. `restore` maps a state vector to the
    system's own state. `plant` is the plant in continuous time of a `Plant` or `Sampled`, None for anything else.
    """

    step: Callable
    x: np.ndarray
    u: np.ndarray
    dt: float | None
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    states: tuple[str, ...]
    restore: Callable
    plant: Plant | None = None


def in_float64(function: Callable) -> Callable:
    """Run a function with 64-bit JAX, whatever the user's setting."""

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        with jax.enable_x64(True):
            return function(*args, **kwargs)

    return wrapped


@in_float64
def flatten(system: Any, u: Any = None, references: int = 0) -> Flat:
    """Return a system, plant or loop on float64 vectors.

    - `Plant`: the input is `[u, d]` and `step` gives dx/dt;
    - `Sampled`: the input is `[u, d]`, the output without noise and references; the state is the physical one,
      then controls under way (with a delay), then the last control (with a rate limit);
    - `Feedback` about a `Sampled`: the input is `[d, r]` with the number of `references`, the output `[y, u]`;
    - any other `System`, or a parameterization of one: pytrees of states, inputs and outputs as one vector each. `u` is one sample of
      the input, or its width; a system of known width does not need it.

    **Raises:** `InvalidModelError` for any other class, and for an input of unknown width.
    """
    return _flat(to_float64(explicit_of(system)), u, references)


# The rooms of plants and loops import no linearization, so their classes are distinguished here.
@functools.singledispatch
def _flat(system: Any, u: Any, references: int) -> Flat:
    raise InvalidModelError(f"the system must be a System or Plant of robustctl, got {type(system).__name__}")


# Each step is a module and not a closure, so that a compiled function recognizes it at the second call.


class _PlantStep(eqx.Module):
    plant: Plant
    nu: int = eqx.field(static=True)

    def __call__(self, x, v):
        return self.plant.rates(x, v[: self.nu], v[self.nu :]), self.plant.output(x)


@_flat.register(Plant)
def _plant(plant: Plant, u: Any, references: int) -> Flat:
    x, u_e = (np.asarray(a, float) for a in plant.operating_point())
    inputs, outputs, states = _names(plant)
    v = np.concatenate([u_e, np.zeros(len(plant.disturbances))])
    return Flat(_PlantStep(plant, u_e.size), x, v, 0.0, inputs, outputs, states, lambda x: x, plant)


def _names(plant: Plant) -> tuple[tuple[str, ...], ...]:
    signals = ((*plant.controls, *plant.disturbances), plant.outputs, plant.states)
    return tuple(tuple(s.name for s in group) for group in signals)


class _SampledStep(eqx.Module):
    sampled: Sampled
    nu: int = eqx.field(static=True)

    def __call__(self, x, v):
        pack, unpack, _ = plant_state(self.sampled)
        w = _still(self.sampled)._replace(d=v[self.nu :])
        after = self.sampled.advance(unpack(x), v[: self.nu], w)
        return pack(after), self.sampled.output(unpack(x), w)


@_flat.register(Sampled)
def _sampled(sampled: Sampled, u: Any, references: int) -> Flat:
    pack, unpack, states = plant_state(sampled)
    u_e = np.asarray(sampled.plant.operating_point()[1], float)
    inputs, outputs, _ = _names(sampled.plant)
    v = np.concatenate([u_e, np.zeros(len(sampled.plant.disturbances))])
    x, step = np.asarray(pack(sampled.init_state())), _SampledStep(sampled, u_e.size)
    return Flat(step, x, v, sampled.dt, inputs, outputs, states, unpack, sampled.plant)


def _still(sampled: Sampled, references: int = 0):
    return sampled.undisturbed(references)


def plant_state(sampled: Sampled) -> tuple[Callable, Callable, tuple[str, ...]]:
    """Return functions from a `PlantState` to the vector of its relevant entries and back, and the names."""
    start = sampled.init_state()
    nx, shape, imperfections = start.x.size, start.queue.shape, sampled.imperfections
    controls = [s.name for s in sampled.plant.controls]
    names = [s.name for s in sampled.plant.states]
    names += [f"{name}[t-{shape[0] - k}]" for k in range(shape[0]) for name in controls]
    queued = nx + start.queue.size
    if imperfections.rate_limit is not None:
        names += [f"{name} applied" for name in controls]

    def pack(state: PlantState):
        parts = [state.x, state.queue.ravel()] + (
            [state.applied] if imperfections.rate_limit is not None else []
        )
        return jnp.concatenate(parts)

    def unpack(x) -> PlantState:
        x = jnp.asarray(x)
        applied = x[queued:] if imperfections.rate_limit is not None else start.applied
        return PlantState(x[:nx], x[nx:queued].reshape(shape), applied)

    return pack, unpack, tuple(names)


def sampled_plant(loop: Feedback) -> Sampled:
    """Return the plant of a loop that was checked to be about a `Sampled`."""
    assert loop.sampled is not None
    return loop.sampled


class _LoopStep(eqx.Module):
    loop: Feedback
    references: int = eqx.field(static=True)

    def restore(self, x):
        _, unpack, states = plant_state(self._sampled)
        unravel = ravelled(self.loop.policy.init_state())[1]
        return unpack(x[: len(states)]), unravel(x[len(states) :])

    def __call__(self, x, v):
        sampled = self._sampled
        nd, ny = len(sampled.plant.disturbances), len(sampled.plant.outputs)
        w = _still(sampled, self.references)._replace(d=v[:nd], r=v[nd:])
        (plant_next, policy_next), out = self.loop.step(self.restore(x), w)
        x_next = jnp.concatenate([plant_state(sampled)[0](plant_next), ravelled(policy_next)[0]])
        return x_next, jnp.concatenate([out.y[:ny], out.u])

    @property
    def _sampled(self) -> Sampled:
        return sampled_plant(self.loop)


@_flat.register(Feedback)
def _loop(loop: Feedback, u: Any, references: int) -> Flat:
    sampled = loop.sampled
    if sampled is None:
        return _system(loop, u, references)
    pack, _, states = plant_state(sampled)
    start, _ = ravelled(loop.policy.init_state())
    outputs = tuple(s.name for s in (*sampled.plant.outputs, *sampled.plant.controls))
    inputs = tuple(s.name for s in sampled.plant.disturbances) + tuple(f"r[{k}]" for k in range(references))
    states = states + tuple(f"policy[{k}]" for k in range(start.size))
    x = np.concatenate([np.asarray(pack(sampled.init_state())), np.asarray(start, float)])
    step = _LoopStep(loop, references)
    return Flat(step, x, np.zeros(len(inputs)), sampled.dt, inputs, outputs, states, step.restore)


class _SystemStep(eqx.Module):
    system: System
    example: Any  # a sample of the input

    def restore(self, x):
        return ravelled(to_float64(self.system.init_state()))[1](x)

    def __call__(self, x, v):
        x_next, y = self.system.step(self.restore(x), ravelled(self.example)[1](v))
        return ravelled(x_next)[0], ravelled(y)[0]


@_flat.register(System)
def _system(system: System, u: Any, references: int) -> Flat:
    example = _input(system, u)
    u_flat, x_flat = ravelled(example)[0], ravelled(to_float64(system.init_state()))[0]
    step = _SystemStep(system, example)
    ny = jax.eval_shape(lambda: step(x_flat, u_flat))[1].size
    x, v = np.asarray(x_flat, float), np.asarray(u_flat, float)
    counts = (("u", system.inputs, v.size), ("y", system.outputs, ny), ("x", system.states, x.size))
    names = (numbered(letter, count) if given is None else given for letter, given, count in counts)
    return Flat(step, x, v, system.dt, *names, restore=step.restore)


def _input(system: System, u: Any) -> Any:
    u = system.nu if u is None else u
    if u is None:
        raise InvalidModelError(
            f"the input's width must be known, but a {type(system).__name__} does not define it; give the class an attribute "
            "nu, or the call one sample of the input or names for the inputs"
        )
    return input_sample(u)


def ravelled(tree: Any) -> tuple[jax.Array, Callable]:
    """Return a pytree as one float64 vector, and the way back."""
    vector, unravel = ravel_pytree(tree)
    return vector.astype(jnp.float64), lambda v: unravel(jnp.asarray(v).astype(vector.dtype))


def numbered(letter: str, count: int) -> tuple[str, ...]:
    """Return `letter[0]` and so on."""
    return tuple(f"{letter}[{k}]" for k in range(count))


def chosen_names(given: Sequence[str] | int | None, default: Sequence[str], what: str) -> list[str]:
    """Return the given names or the default ones.

    **Raises:** `InvalidModelError` for another number of names, and equal names.
    """
    given = len(default) if given is None else given
    names, count = (list(default), given) if is_real(given) else (list(given), len(given))
    if count != len(default) or len(set(names)) != len(names):
        raise InvalidModelError(f"there must be {len(default)} different names of {what}, got {given}")
    return names
