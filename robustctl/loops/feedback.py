"""Two systems in a loop, and two in series."""

import dataclasses
import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
from jaxtyping import Array, PyTree
from typing_extensions import override

from ..checks import of_type
from ..errors import InvalidModelError
from ..lft import LFT, joined, series, signals
from ..plants import Sampled
from ..ports import PLANT_INPUT, Loop, Ports, named
from ..registry import registered
from ..system import SignalLimits, StrictlyProper, System, step_by_step
from .parts import FirstKnown, Of, forms, narrowed, with_references


class LoopOutput(NamedTuple):
    """What a feedback loop gives at each sample.

    **Arguments:**

    - `x`: the plant's state.
    - `y`: what the policy read, references included.
    - `u`: what the policy chose.
    """

    x: PyTree
    y: Array
    u: Array


@registered(name="loops.Feedback")
class Feedback(Loop):
    """A policy in feedback with a plant.

    ::

        y[t] = plant.output(x[t], w[t]),    u[t] = policy(y[t]),    x[t+1] = plant.advance(x[t], u[t], w[t])

    The loop's input is `w`, what acts on the plant from outside; its state the pair (plant's, policy's);
    its output a `LoopOutput`.

    `lft()` goes from `[w, r]`, with w as in the plant's own form and the references r, to `[y, u]`, r in y included; so
    do `ny`, `outputs` and `output_units`, which leave out the plant's state. `nu` is None: w is no vector.

    **Arguments:**

    - `plant`: what is controlled.
    - `policy`: the controller.
    - `reads`: number of outputs and references that the policy reads; default all that it must have. `feedback` knows it.
    """

    plant: StrictlyProper
    policy: System
    reads: int | None = eqx.field(static=True, default=None)
    dt = Of("plant")

    @property
    def sampled(self) -> Sampled | None:
        """The sampled plant that the loop is about; None for another plant."""
        return self.plant.sampled

    def _width(self) -> int | None:
        """Return the number of outputs and references that the policy reads; None where unknown."""
        if self.reads is not None or self.policy.nu is None:
            return self.reads
        return self.policy.nu - self.policy.references

    @property
    @override
    def ny(self) -> int | None:
        """Number of outputs `[y, u]`; None where unknown."""
        width, nu = self._width(), self.policy.ny
        return None if width is None or nu is None else width + nu

    @property
    @override
    def outputs(self) -> tuple[str, ...] | None:
        """Names of what the policy reads and of what it chooses; None where unknown."""
        read, chosen = with_references(self.plant.outputs, self._width()), self.plant.inputs
        return None if read is None or chosen is None else read + chosen

    @property
    @override
    def output_units(self) -> tuple[str, ...] | None:
        """Units of what the policy reads and of what it chooses, none for references; None where unknown."""
        read, chosen = with_references(self.plant.output_units, self._width(), ""), self.plant.input_units
        return None if read is None or chosen is None else read + chosen

    @override
    def lft(self) -> LFT | None:
        """Return the form from `[w, r]` to `[y, r, u]`."""
        parts = forms(self.plant, self.policy)
        if parts is None:
            return None
        plant, policy = parts
        policy = narrowed(policy, self._width() or policy.nu)
        y, u, w, r = signals([plant, policy], plant.nu - policy.ny, policy.nu - plant.ny)
        return joined([plant, policy], [u, w, y, r], [y, r, u])

    @override
    def ports(self) -> Ports | None:
        """Return the form between all named signals; None where the loop has no form.

        ::

            u = policy(y, r),    y = plant(u + v, d) + n,    e = r - y

        A plant without disturbances has d = v. The error e is there where the policy reads a reference for each output.
        """
        parts = forms(self.plant, self.policy)
        # A class that overrides a method here no longer has what lft() describes.
        if parts is None or self.lft() is None:
            return None
        plant, policy = parts[0], narrowed(parts[1], self._width() or parts[1].nu)
        nu, ny, nr = policy.ny, plant.ny, policy.nu - plant.ny
        widths = {"d": plant.nu - nu, "r": nr, "n": ny, "v": nu, PLANT_INPUT: nu}
        free, u, d, r, n, v, added = signals([plant, policy], *widths.values())
        y, error = free + n, [r - free - n] if nr == ny else []
        form = joined([plant, policy], [u + v + added, d, y, r], [y, u, *error, u + v])
        inputs = named(widths, {})
        added_as_d = {"d" + name[1:]: at for name, at in inputs.items() if name[0] == "v"}
        known = {"y": self.plant.outputs, "u": self.plant.inputs}
        outputs = named({"y": ny, "u": nu, "e": nr if error else 0, PLANT_INPUT: nu}, known)
        return Ports(form, added_as_d | inputs, outputs)

    @override
    def undisturbed(self, references: int = 0) -> PyTree:
        """Return one sample of `w` in which nothing acts, the references that the policy reads included."""
        width, ny = self._width(), self.plant.ny
        read = 0 if width is None or ny is None else width - ny
        return self.plant.undisturbed(read + references)

    @override
    def init_state(self) -> tuple[PyTree, PyTree]:
        """Return the initial states of plant and policy."""
        return self.plant.init_state(), self.policy.init_state()

    @override
    def step(self, x: tuple[PyTree, PyTree], u: PyTree) -> tuple[tuple[PyTree, PyTree], LoopOutput]:
        """Return `(x_next, LoopOutput)`; here the input is `w`."""
        plant_state, policy_state = x
        y = self.plant.output(plant_state, u)
        policy_next, control = self.policy.step(policy_state, y)
        plant_next = self.plant.advance(plant_state, control, u)
        return (plant_next, policy_next), LoopOutput(plant_state, y, control)

    @override
    def scan(self, x0: tuple[PyTree, PyTree], us: PyTree) -> tuple[PyTree, LoopOutput, PyTree]:
        """Return `(xs, ys, x_final)` over a sequence; gradients keep the states alone and take each step again."""
        # A scan needs no barrier against merging. Keeping every intermediate of plant and policy takes twice as long.
        again = jax.checkpoint(lambda x, u: self.step(x, u), prevent_cse=False)
        return step_by_step(again, x0, us)

    @override
    def prepare(self) -> "Feedback":
        """Return the same with its parts prepared for many steps."""
        return dataclasses.replace(self, plant=self.plant.prepare(), policy=self.policy.prepare())


def feedback(plant: StrictlyProper, policy: System, w: PyTree = None) -> Feedback:
    """Return the loop of a plant and a policy that reads its output, having checked that they fit.

    **Arguments:**

    - `plant`: what is controlled.
    - `policy`: the controller.
    - `w`: one sample of what acts on the plant; default `plant.undisturbed()`. For a controller that reads n references
      `plant.undisturbed(n)`.

    **Raises:** `InvalidModelError` for a plant whose output depends on the control of the same sample, and for a
    policy that is no system, of another sample time, that does not read the plant's outputs and references, all of them and
    no others, or does not give its controls.
    """
    of_type(
        plant, StrictlyProper, "the plant must be a StrictlyProper system (a Sampled plant, for example)",
        "with a direct path from control to output the loop would be algebraic: put a sample's delay in it", InvalidModelError,
    )  # fmt: skip
    of_type(
        policy, System, "the policy must be a System",
        "rc.classical.policy(K, plant) makes one of a python-control controller, and explicit() of a parameterization",
        InvalidModelError,
    )  # fmt: skip
    check_sample_time("the policy", policy, "the plant's", plant)
    w = plant.undisturbed() if w is None else w
    state = plant.init_state(), policy.init_state()
    y = eqx.filter_eval_shape(plant.output, state[0], w)
    if plant.ny is not None:
        _check_widths(plant, policy, y.shape[0] - plant.ny)
    try:
        _, u = eqx.filter_eval_shape(policy.step, state[1], y)
        after = eqx.filter_eval_shape(plant.advance, state[0], u, w)
        shapes = [
            jax.tree.map(lambda a: a.shape, s) for s in (eqx.filter_eval_shape(lambda: state[0]), after)
        ]
        fits = shapes[0] == shapes[1]
        raised = f"the plant's state would go from {shapes[0]} to {shapes[1]}"
    except Exception as error:
        fits, raised = False, str(error)
    if not fits:
        raise InvalidModelError(
            f"the policy must take the plant's {y.shape[0]} outputs and give its controls; build it with nu = "
            f"{y.shape[0]} (it reads them) and ny = the number of controls; for one that reads n references too, give "
            f"w = plant.undisturbed(n). A step raised: {raised}"
        )
    plant.check_steps()
    return Feedback(plant, policy, y.shape[0])


def _check_widths(plant: StrictlyProper, policy: System, references: int) -> None:
    """Refuse a policy that would read an output as a reference, or the other way round.

    **Raises:** `InvalidModelError`.
    """
    ny, nu, extra = plant.ny, policy.nu, policy.references
    if (
        nu is None
        or (extra == 0 and nu == ny + references)
        or (nu - extra == ny and references in (0, extra))
    ):
        return
    named = "" if plant.outputs is None else f" ({', '.join(plant.outputs)})"
    wanted = f"{nu - extra} outputs and, if there are any, {extra} references" if extra else f"{nu} signals"
    raise InvalidModelError(
        f"the policy must take the plant's {ny} outputs{named} and the {references} references of w, but it reads {wanted}; build it "
        "for those outputs, or give the plant only the outputs that it reads. For one that reads n references too, give "
        "w = plant.undisturbed(n)"
    )


def check_sample_time(name: str, system: Any, whose: str, other: Any) -> None:
    """Raise `InvalidModelError` for two systems or filters that both have a sample time, and not the same."""
    dt, wanted = system.dt, other.dt
    if dt is not None and wanted is not None and not math.isclose(dt, wanted, rel_tol=1e-9):
        raise InvalidModelError(
            f"{name} must have {whose} sample time of {wanted} s, got {dt} s; design or convert it for that"
        )


class Pair(System):
    """Two systems whose states are a pair.

    **Arguments:**

    - `first`: one.
    - `second`: the other, of the same sample time where both have one.
    """

    first: System
    second: System

    dt = FirstKnown("first", "second")

    @override
    def init_state(self) -> tuple[PyTree, PyTree]:
        """Return both initial states."""
        return self.first.init_state(), self.second.init_state()


@registered(name="loops.Series")
class Series(Pair):
    """One system after another.

    ::

        y[t] = second(first(u[t]))
    """

    nu, inputs, input_units = Of("first"), Of("first"), Of("first")
    ny, outputs, output_units = Of("second"), Of("second"), Of("second")

    @override
    def input_limits(self) -> SignalLimits | None:
        return self.first.input_limits()

    @override
    def output_limits(self) -> SignalLimits | None:
        return self.second.output_limits()

    @override
    def actuator_limits(self) -> SignalLimits | None:
        return self.second.actuator_limits()

    @override
    def lft(self) -> LFT | None:
        """Return the forms in series."""
        parts = forms(self.first, self.second)
        return None if parts is None else series(*parts)

    @override
    def step(self, x: tuple[PyTree, PyTree], u: PyTree) -> tuple[tuple[PyTree, PyTree], PyTree]:
        """Return `(x_next, y)`."""
        first, middle = self.first.step(x[0], u)
        second, y = self.second.step(x[1], middle)
        return (first, second), y

    @override
    def scan(self, x0: tuple[PyTree, PyTree], us: PyTree) -> tuple[PyTree, PyTree, PyTree]:
        """Return `(xs, ys, x_final)` over a sequence, one system after the other."""
        firsts, middle, first = self.first.scan(x0[0], us)
        seconds, ys, second = self.second.scan(x0[1], middle)
        return (firsts, seconds), ys, (first, second)

    @override
    def prepare(self) -> "Series":
        """Return the same with its parts prepared for many steps."""
        return Series(self.first.prepare(), self.second.prepare())
