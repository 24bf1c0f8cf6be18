"""The two nouns: a `System` steps through time, a `Parameterization` is what training moves."""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, PyTree

from .certifiable import Certifiable as Certifiable
from .certifiable import Unknown as Unknown
from .errors import InvalidModelError
from .lft import LFT, Claim
from .pytrees import fields_of, shape_of

SignalLimits = tuple[Any, Any]
"""Lowest and highest values of signals, (n,) each, infinite where there is no limit."""


class System(Certifiable):
    """A discrete-time system, one sample a step, with no side effects.

    ::

        x[t+1], y[t] = step(x[t], u[t]),     x[0] = init_state()

    States, inputs and outputs are arrays or pytrees of arrays without a batch axis; batches are `jax.vmap`.

    Where they are known, `nu` and `ny` are the numbers of inputs and outputs, `dt` the sample time in seconds,
    `inputs`, `outputs`, `states`, `input_units` and `output_units` one string a signal; None where not. `lft()` is what is known
    of the system for a proof, and `claim` what it was built to satisfy; `certify` trusts neither. Of the `nu` inputs the last
    `references` are references that the system also works without; `flags` are the positions of the inputs that are 0 or 1,
    between which `modes()` distinguishes, and `schedule` those of inputs that a proof takes as the same in both trajectories.
    """

    references = 0
    flags = schedule = ()
    nu = ny = dt = inputs = outputs = states = input_units = output_units = Unknown()

    @property
    def claim(self) -> Claim | None:
        """What the system was built to satisfy, None where that is nothing."""
        return None

    @property
    def input_size(self) -> int | None:
        """Number of entries of an input that is one vector; None where that is unknown, and where an input is no vector."""
        return self.nu

    @property
    def predictor_sizes(self) -> tuple[int, int] | None:
        """Numbers (nu, ny) of controls and measured outputs that a predictor reads as `[u, y, seen]`; None of any other system.

        A predictor has a method `predict(x, u) -> (x_next, y_hat)` too, its step where nothing is measured.
        """
        return None

    @property
    def innermost(self) -> "System":
        """The system inside of scalings and delays; itself where there are none."""
        return self

    @property
    def sampled(self) -> Any:
        """The `rc.plants.Sampled` that it is, or wraps with the same states and inputs; None where there is none."""
        return None

    @property
    def unbounded_state(self) -> bool:
        """Whether a filter inside reads a state and has no bound of its error, so that the system must not read an estimate."""
        parts = jax.tree.leaves(list(fields_of(self).values()), is_leaf=_is_system)
        return any(part.unbounded_state for part in filter(_is_system, parts))

    def flag_fault(self) -> str:
        """Return which flags are turned into other numbers than 0 and 1; empty where none are, as by default."""
        return ""

    def branches(self) -> tuple["System", ...]:
        """Return the systems that read the same input and whose states, one after the other, are this one's: itself by default."""
        return (self,)

    def linear_part(self) -> tuple[Any, ...] | None:
        """Return A, B, C, D, bx, by of `x+ = A x + B u + bx`, `y = C x + D u + by`, what it is without its nonlinear channels.

        By default of its `lft()`, the offsets zero; None without one.
        """
        form = self.lft()
        return (
            None
            if form is None
            else (form.A, form.B2, form.C2, form.D22, np.zeros(form.nx), np.zeros(len(form.C2)))
        )

    def modes(self) -> tuple["System", ...]:
        """Return the systems between which this one may switch at any sample, each without `flags` and `schedule` among its inputs.

        Itself alone by default.
        """
        return (self,)

    def undisturbed(self, references: int = 0) -> PyTree:
        """Return one sample of the input in which nothing acts: `nu` zeros and as many for references.

        **Raises:** `InvalidModelError` for a class without `nu` that does not define it.
        """
        if self.nu is None:
            raise InvalidModelError(
                f"one sample of the input must be known, and {type(self).__name__} has no nu; give the class a method "
                "undisturbed(references) that returns one, or give the inputs"
            )
        x = self.init_state()
        return jnp.zeros(self.nu + references, dtype_of(x if jax.tree.leaves(x) else self))

    def one_sample(self) -> PyTree:
        """Return one sample of the whole input in which nothing acts; same errors as `undisturbed`."""
        return self.undisturbed()

    def input_range(self) -> tuple[np.ndarray, np.ndarray]:
        """Return what the inputs are about and the size of their deviations, (nu,) each: 0 and 1 where the class does not know them."""
        return np.zeros(self.nu or 0), np.ones(self.nu or 0)

    def input_limits(self) -> SignalLimits | None:
        """Return what the inputs are meant to stay between, a plant's actuators for example; None where unknown."""
        return None

    def output_limits(self) -> SignalLimits | None:
        """Return what every output stays between, whatever the system reads; None where nothing ensures that."""
        return None

    def actuator_limits(self) -> SignalLimits | None:
        """Return, of a controller, what the actuators can do with its outputs, which may exceed it; None where unknown."""
        return None

    def trained_ranges(self) -> dict[str, list[list[float]]] | None:
        """Return lowest and highest values of inputs `u` and outputs `y` of the record that it was trained on; None where unknown."""
        return None

    @abc.abstractmethod
    def init_state(self) -> PyTree:
        """Return the state that a rollout starts from when none is given."""

    @abc.abstractmethod
    def step(self, x: PyTree, u: PyTree) -> tuple[PyTree, PyTree]:
        """Return `(x_next, y)` for state `x` and input `u`."""

    def prepare(self) -> "System":
        """Return the same system arranged for many steps; `rollout` calls it once before its scan."""
        return self

    def numpy_step(self) -> tuple[Callable, PyTree] | None:
        """Return `step(x, u) -> (x_next, y)` on NumPy vectors and the initial state; None where only JAX can step it."""
        return None

    def state_matrix(self) -> Array | None:
        """Return the constant A, (nx, nx), of `x+ = A x + ...` that rollouts parallel in time iterate about; None without one."""
        return None

    def scan(self, x0: PyTree, us: PyTree) -> tuple[PyTree, PyTree, PyTree]:
        """Return `(xs, ys, x_final)` over a sequence, time first: step by step, where no better way is known."""
        return step_by_step(lambda x, u: self.step(x, u), x0, us)


def _is_system(part: Any) -> bool:
    return isinstance(part, System)


def step_by_step(step: Callable, x0: PyTree, us: PyTree) -> tuple[PyTree, PyTree, PyTree]:
    """Return `(xs, ys, x_final)` of the scan of `step(x, u) -> (x_next, y)`.

    **Arguments:**

    - `step`: one sample
    - `x0`: initial state
    - `us`: inputs, time first
    """

    def body(x, u):
        x_next, y = step(x, u)
        return x_next, (x, y)

    x_final, (xs, ys) = lax.scan(body, x0, us)
    return xs, ys, x_final


class Trajectory(eqx.Module):
    """What a rollout returns, time first.

    **Arguments:**

    - `xs`: `xs[t]` is the state before sample t, so `xs[0]` is the initial state
    - `ys`: `ys[t]` is the output at sample t
    - `x_final`: the state after the last sample, from which a next rollout continues
    """

    xs: PyTree
    ys: PyTree
    x_final: PyTree


class StrictlyProper(System):
    """A system to be controlled: its output does not depend on the control of the same sample.

    ::

        y[t] = output(x[t], w[t]),      x[t+1] = advance(x[t], u[t], w[t])

    with the control `u` and everything else that acts on it, `w` (disturbances, references, noise). A
    controller can therefore read y[t] before it chooses u[t], and a loop about it is never algebraic.

    `nu` and `inputs` are the controls alone. `lft()` has the inputs `[u, w]`, of w only what the class includes, and the
    outputs y without references, which a loop passes on to its controller.
    """

    @property
    def input_size(self) -> None:
        """None: an input is the pair `(u, w)`."""
        return None

    def one_sample(self) -> PyTree:
        """Return `(u, w)` with u zero, in which nothing acts; same errors as `undisturbed`."""
        return jnp.zeros(self.nu or 0, dtype_of(self.init_state())), self.undisturbed()

    def undisturbed(self, references: int = 0) -> PyTree:
        """Return one sample of `w` in which nothing but the control acts, with `references` zeros for references.

        **Raises:** `InvalidModelError` for a class that does not define its `w`.
        """
        raise InvalidModelError(
            f"a system to be controlled must define what acts on it, and {type(self).__name__} does not; give the class a method "
            "undisturbed(references) that returns one sample of w, or give w to feedback"
        )

    def check_steps(self) -> None:
        """Check the steps in time that it is integrated with, before a loop is made about it; default: there are none."""

    @abc.abstractmethod
    def output(self, x: PyTree, w: PyTree) -> PyTree:
        """Return what a controller reads at state `x`."""

    @abc.abstractmethod
    def advance(self, x: PyTree, u: PyTree, w: PyTree) -> PyTree:
        """Return the next state under control `u`."""

    def step(self, x: PyTree, u: PyTree) -> tuple[PyTree, PyTree]:
        """Return `(x_next, y)`; here the input is the pair `(u, w)`."""
        control, w = u
        return self.advance(x, control, w), self.output(x, w)


class Parameterization(eqx.Module):
    """Free, unconstrained arrays, and the map from them to a model that carries a guarantee.

    Every floating-point array in it may be moved freely by an optimizer: whatever the values,
    `explicit()` satisfies the guarantee. The map costs matrix solves, so call it once a loss and not
    once a step; a parameterization therefore has no `__call__` and no `step`.
    """

    @abc.abstractmethod
    def explicit(self) -> Any:
        """Return the model itself: a `System`, or for a network a callable."""

    @property
    def label(self) -> str:
        """What reports call the model: its class by default."""
        return type(self).__name__

    def check_parts(self) -> None:
        """Refuse parts, as a file may hold them, that do not fit each other; only shapes are computed. Default: nothing is checked.

        **Raises:** `ValueError`.
        """

    def trained_ranges(self) -> dict[str, list[list[float]]] | None:
        """Return lowest and highest values of the inputs `u` and outputs `y` of the record that it was trained on; None where unknown."""
        return None

    def quiet(self, factor: float = 1e-2) -> "Parameterization":
        """Return the model with its output scaled down by `factor`, so that a policy starts at its base controller.

        **Raises:** `InvalidModelError` for a class that does not define which of its arrays scale its output.
        """
        raise InvalidModelError(
            f"a model must define how its output is scaled down, and {type(self).__name__} does not; give the class a method "
            "`quiet(factor)` that returns it with its output arrays multiplied by the factor"
        )


def form_of(part: Any) -> LFT | None:
    """Return what is known of a part for a proof; None for a function, which has no `lft()`."""
    return part.lft() if isinstance(part, Certifiable) else None


def explicit_of(model: Any) -> Any:
    """Return what a parameterization maps to; anything else is its own explicit form."""
    return model.explicit() if isinstance(model, Parameterization) else model


def dtype_of(model: PyTree):
    """Return the dtype of a model's floating-point arrays, with shapes and dtypes alone too; JAX's default where there are none."""
    # Shapes alone have a dtype too, so that a model that is only being sized can be asked.
    leaves = (leaf for leaf in jax.tree.leaves(model) if shape_of(leaf) is not None)
    found = [leaf.dtype for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.result_type(*found or [float])
