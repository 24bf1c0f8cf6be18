"""Two systems in a loop, and two in a row."""

import math
from typing import NamedTuple

import equinox as eqx
import jax
from jaxtyping import Array, PyTree

from ..errors import ModelError
from ..plants import Sampled
from ..plants.sampled import check_rates
from ..system import StrictlyProper, System, step_by_step


class LoopOutput(NamedTuple):
    """What a feedback loop gives at each sample: the plant's state, what the policy read and what it chose."""

    x: PyTree
    y: Array
    u: Array


class Feedback(System):
    """A policy in feedback with a plant.

    ::

        y[t] = plant.output(x[t], w[t]),    u[t] = policy(y[t]),    x[t+1] = plant.advance(x[t], u[t], w[t])

    The loop's input is `w`, what acts on the plant from outside; its state the pair (plant's, policy's);
    its output a `LoopOutput`.
    """

    plant: StrictlyProper
    policy: System

    def init_state(self) -> tuple[PyTree, PyTree]:
        """Return the initial states of plant and policy."""
        return self.plant.init_state(), self.policy.init_state()

    def step(self, x: tuple[PyTree, PyTree], u: PyTree) -> tuple[tuple[PyTree, PyTree], LoopOutput]:
        """Return `(x_next, LoopOutput)`; here the input is `w`."""
        plant_state, policy_state = x
        y = self.plant.output(plant_state, u)
        policy_next, control = self.policy.step(policy_state, y)
        plant_next = self.plant.advance(plant_state, control, u)
        return (plant_next, policy_next), LoopOutput(plant_state, y, control)

    def scan(self, x0: tuple[PyTree, PyTree], us: PyTree) -> tuple[PyTree, LoopOutput, PyTree]:
        """Return `(xs, ys, x_final)` over a sequence; gradients keep the states alone and take each step again."""
        # A scan needs no barrier against merging. Keeping every intermediate of plant and policy takes twice as long.
        again = jax.checkpoint(lambda x, u: self.step(x, u), prevent_cse=False)
        return step_by_step(again, x0, us)

    def prepare(self) -> "Feedback":
        """Return the same with its parts prepared for many steps."""
        return Feedback(self.plant, self.policy.prepare())


def feedback(plant: StrictlyProper, policy: System, w: PyTree) -> Feedback:
    """Return the loop of a plant and a policy that reads its output, having checked that they fit.

    `w`: one sample of what acts on the plant, such as `jax.tree.map(lambda a: a[0], ws)`.

    **Raises:** `ModelError` for a plant whose output depends on the control of the same sample, and for a
    policy that is no system, of another sample time or one that does not take the plant's outputs or give its controls;
    for a plant whose `rates` JAX cannot trace or that are not (nx,).
    """
    if not isinstance(plant, StrictlyProper):
        raise ModelError(
            f"the plant must be a StrictlyProper system (a Sampled plant, say), got {type(plant).__name__}: with a "
            "direct path from control to output the loop would be algebraic; put a sample's delay in it"
        )
    if not isinstance(policy, System):
        raise ModelError(
            f"the policy must be a System, got {type(policy).__name__}; rc.classical.policy(K, plant) makes one of a python-control "
            "controller, and explicit() of a parameterization"
        )
    check_sample_time("the policy", policy, "the plant's", plant)
    loop = Feedback(plant, policy)
    state = loop.init_state()
    y = eqx.filter_eval_shape(plant.output, state[0], w)
    try:
        _, u = eqx.filter_eval_shape(policy.step, state[1], y)
        after = eqx.filter_eval_shape(plant.advance, state[0], u, w)
        shapes = [
            jax.tree.map(lambda a: a.shape, s) for s in (eqx.filter_eval_shape(lambda: state[0]), after)
        ]
        fits = shapes[0] == shapes[1]
        said = f"the plant's state would go from {shapes[0]} to {shapes[1]}"
    except Exception as error:
        fits, said = False, str(error)
    if not fits:
        if isinstance(plant, Sampled):
            check_rates(plant.plant)  # whose fault is it?
        raise ModelError(
            f"the policy must take the plant's {y.shape[0]} outputs and give its controls; build it with nu = "
            f"{y.shape[0]} (it reads them) and ny = the number of controls. A step said: {said}"
        )
    return loop


def check_sample_time(name: str, system: System, whose: str, other: System) -> None:
    """Raise `ModelError` for two systems that both have a sample time, and not the same."""
    dt, wanted = getattr(system, "dt", None), getattr(other, "dt", None)
    if dt and wanted and not math.isclose(dt, wanted, rel_tol=1e-9):
        raise ModelError(
            f"{name} must have {whose} sample time of {wanted} s, got {dt} s; design or convert it for that"
        )


class Series(System):
    """One system after another.

    ::

        y[t] = second(first(u[t]))
    """

    first: System
    second: System

    def init_state(self) -> tuple[PyTree, PyTree]:
        """Return both initial states."""
        return self.first.init_state(), self.second.init_state()

    def step(self, x: tuple[PyTree, PyTree], u: PyTree) -> tuple[tuple[PyTree, PyTree], PyTree]:
        """Return `(x_next, y)`."""
        first, middle = self.first.step(x[0], u)
        second, y = self.second.step(x[1], middle)
        return (first, second), y

    def scan(self, x0: tuple[PyTree, PyTree], us: PyTree) -> tuple[PyTree, PyTree, PyTree]:
        """Return `(xs, ys, x_final)` over a sequence, one system after the other."""
        firsts, middle, first = self.first.scan(x0[0], us)
        seconds, ys, second = self.second.scan(x0[1], middle)
        return (firsts, seconds), ys, (first, second)

    def prepare(self) -> "Series":
        """Return the same with its parts prepared for many steps."""
        return Series(self.first.prepare(), self.second.prepare())


class Gain(System):
    """A static gain without state about an offset: `y = D (u - u0) + y0`."""

    D: Array
    u0: Array
    y0: Array

    def init_state(self) -> tuple[()]:
        """Return the empty state."""
        return ()

    def step(self, x: tuple[()], u: Array) -> tuple[tuple[()], Array]:
        """Return `(x, y)`."""
        return x, self.D @ (u - self.u0) + self.y0
