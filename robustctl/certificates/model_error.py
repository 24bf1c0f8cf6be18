"""What is not known of a plant: an error of its model of which only a gain over frequency is known."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..checks import is_real, is_whole, of_type, one_or_more
from ..errors import RobustctlError
from ..lft import (
    LFT,
    Bounded,
    block_diagonal,
    block_form,
    is_linear,
    joined,
    linear,
    series,
    signals,
    static_gain,
)
from ..ports import Ports
from ..system import Certifiable
from .coordinates import spectral_radius

AT = {"output": "n", "input": "plant input"}
"""The input of a loop to which the error's output is added."""

READS = "plant input"
"""The output of a loop that the error reads."""


@dataclasses.dataclass(frozen=True, eq=False)
class ModelError:
    """An unknown causal system, nonlinear and time-varying perhaps, by which the plant differs from its model.

    ::

        at="output":  y = plant(u) + p,      at="input":  y = plant(u + p),      p = Delta(W u),      |dp| <= gain |dq|,  q = W u

    with u the control that reaches the plant, and the bound on differences of two trajectories, summed over time from equal starts.
    At the output the error is additive, in the outputs' unit over the controls'; at the input it is relative: `gain=0.2` is a gain of
    the actuators that is off by up to 20 %. `delay_error` describes a delay that is not known.

    **Arguments:**

    - `gain`: the bound on Delta, finite and at least 0.
    - `at`: "output" or "input".
    - `weight`: W, where the error depends on frequency: a stable linear discrete-time system, a `StateSpace` or of python-control, from
      all controls, or from one for each control alike; None for 1.

    **Raises:** `RobustctlError` for a gain that is negative or not finite, another position, and a weight that is not linear, stable,
    finite and in discrete time, or is zero.

    **Example:** ::

        error = rc.certificates.ModelError(gain=0.1, at="output")
    """

    gain: float
    at: str = "output"
    weight: Any = None
    dt: float | None = dataclasses.field(init=False, default=None)

    def __post_init__(self):
        """Refuse what bounds nothing, and store the weight's form."""
        if not (is_real(self.gain) and 0 <= self.gain < np.inf):
            raise RobustctlError(
                f"the gain of a model error must be finite and at least 0, got {self.gain!r}: of an unknown block without a finite "
                "bound nothing can be proven"
            )
        if self.at not in AT:
            raise RobustctlError(f'a model error must be at "output" or "input", got {self.at!r}')
        dt = getattr(self.weight, "dt", None)
        object.__setattr__(self, "dt", None if dt is None or dt is True else float(dt))
        object.__setattr__(self, "weight", None if self.weight is None else weight_form(self.weight))

    def check_sample_time(self, dt: float | None) -> None:
        """Raise `RobustctlError` for a weight of another sample time than the loop's."""
        if self.dt is not None and dt is not None and not math.isclose(self.dt, dt, rel_tol=1e-9):
            raise RobustctlError(
                f"the weight of a model error must have the loop's sample time of {dt} s, got {self.dt} s"
            )

    def filtered(self, nu: int) -> LFT:
        """Return the weight's form on nu controls.

        **Raises:** `RobustctlError` for a weight that reads another number of signals.
        """
        if self.weight is None:
            return static_gain(np.eye(nu))
        if self.weight.nu == nu:
            return self.weight
        if self.weight.nu != 1:
            raise RobustctlError(
                f"the weight must read all {nu} controls or one of them, got one with {self.weight.nu} inputs"
            )
        A, _, B, *_, C, _, D = self.weight.matrices
        return linear(*(block_diagonal([M] * nu) for M in (A, B, C, D)))

    def form(self, nu: int, width: int) -> LFT:
        """Return the form from nu controls to `width` signals that the error adds to."""
        filtered = self.filtered(nu)
        return series(filtered, unknown(filtered.ny, width, float(self.gain)))

    def to_fields(self) -> dict:
        """Return gain, position and the matrices A, B, C, D of the weight as lists."""
        matrices = None
        if self.weight is not None:
            A, _, B, *_, C, _, D = self.weight.matrices
            matrices = [{"shape": M.shape, "values": M.ravel().tolist()} for M in (A, B, C, D)]
        return {"gain": float(self.gain), "at": self.at, "weight": matrices}

    @classmethod
    def from_fields(cls, fields: dict) -> "ModelError":
        """Return the error that `to_fields` wrote."""
        weight = fields["weight"]
        if weight is not None:
            weight = linear(*(np.asarray(M["values"], np.float64).reshape(M["shape"]) for M in weight))
        return cls(fields["gain"], fields["at"], weight)

    def __str__(self) -> str:
        """Return a text for people."""
        weighted = "" if self.weight is None else f", weight of {self.weight.nx} states"
        return f"incremental gain {self.gain:.6g} at the {self.at}{weighted}"


def delay_error(samples: int) -> ModelError:
    """Return the error of up to `samples` samples more delay at the plant's input than the model has, changing in time perhaps.

    ::

        u[t - k(t)] - u[t] = - sum_(0 <= i < k(t)) q[t - i],      q = W u,  W = 1 - 1/z,      0 <= k(t) <= samples

    of which the sum has a gain of at most `samples`: `|sum|^2 <= k sum |q[t - i]|^2`, and each `q[t]` is counted in at most `samples`
    of them. The bound is exact at low frequencies and for one sample. Source: C.-Y. Kao, B. Lincoln, "Simple stability criteria for
    systems with time-varying delays", Automatica 40, 2004.

    **Arguments:**

    - `samples`: the largest additional delay, in whole samples of at least 1.

    **Raises:** `RobustctlError` for another number.

    **Example:** ::

        error = rc.certificates.delay_error(1)
    """
    if not is_whole(samples, 1):
        raise RobustctlError(f"samples must be a whole number of at least 1, got {samples!r}")
    return ModelError(float(samples), "input", linear([[0.0]], [[1.0]], [[-1.0]], [[1.0]]))


def unknown(nv: int, nw: int, gain: float) -> LFT:
    """Return the form of an unknown block of an incremental gain."""
    reason = "" if np.isfinite(gain) else "a model error must have a finite gain"
    return block_form(Bounded(nv, nw, gain, reason=reason))


def weight_form(weight: Any) -> LFT:
    """Return the form of a weight that was given as a form, a system or a model of python-control.

    **Raises:** `RobustctlError` for one that is not linear, stable, finite and in discrete time, or is zero.
    """
    form = _form_of(weight)
    finite = form is not None and all(np.isfinite(M).all() for M in form.matrices)
    if form is None or not is_linear(form) or not finite:
        raise RobustctlError(
            f"the weight of a model error must be a finite linear system, got {'one that is not finite' if form else type(weight).__name__}"
        )
    if not spectral_radius(form.A) < 1:
        poles = ", ".join(f"{p:.4g}" for p in np.linalg.eigvals(form.A))
        raise RobustctlError(f"the weight of a model error must be stable, got the poles {poles}")
    if not (form.D22.any() or (form.C2.any() and form.B2.any())):
        raise RobustctlError("the weight of a model error must not be zero; leave the error out")
    return form


def _form_of(weight: Any) -> LFT | None:
    match weight:
        case LFT():
            return weight
        case Certifiable():
            return weight.lft()
        case _ if not hasattr(weight, "dt"):
            return None
    import control as ct  # slow to import, and loaded already where such a model was made

    state_space: Any = ct.ss(weight)
    if not state_space.dt:
        raise RobustctlError(
            "the weight of a model error must be in discrete time at the loop's sample time, got a continuous one; "
            "control.sample_system(weight, dt) samples it: compare both up to half the sampling rate"
        )
    return linear(state_space.A, state_space.B, state_space.C, state_space.D)


def as_errors(error: ModelError | Sequence[ModelError] | None) -> tuple[ModelError, ...]:
    """Return one error, several or none as a tuple.

    **Raises:** `RobustctlError` for anything else.
    """
    errors = () if error is None else one_or_more(error)
    return tuple(
        of_type(e, ModelError, "error must be a rc.certificates.ModelError, or several") for e in errors
    )


def with_errors(ports: Ports, errors: Sequence[ModelError]) -> Ports:
    """Return a loop's ports with model errors connected: an unknown block each.

    **Raises:** `RobustctlError` for a loop without a plant that could differ from its model, and a weight that does not fit it.
    """
    errors = [e for e in errors if e.gain > 0]
    if not errors:
        return ports
    z = _reads(ports)
    widths = [len(ports.inputs[AT[e.at]]) for e in errors]
    parts = [ports.form, *(e.form(len(z), width) for e, width in zip(errors, widths, strict=True))]
    whole, *added, given = signals(parts, ports.form.nu)
    entering = given.copy()
    for e, p in zip(errors, added, strict=True):
        entering[list(ports.inputs[AT[e.at]])] += p
    return ports._replace(form=joined(parts, [entering, *(whole[z] for _ in errors)], [whole]))


def around(ports: Ports, error: ModelError) -> LFT:
    """Return the form that an error sees: from what it adds to q, the weighted control that it reads; its gain is left out."""
    z, into = _reads(ports), list(ports.inputs[AT[error.at]])
    parts = [ports.form, error.filtered(len(z))]
    whole, q, p = signals(parts, len(into))
    entering = np.zeros((ports.form.nu, p.shape[1]))
    entering[into] = p
    return joined(parts, [entering, whole[z]], [q])


def _reads(ports: Ports) -> list[int]:
    if READS not in ports.outputs:
        raise RobustctlError(
            "a model error must be one of a plant in a loop of rc.loops.feedback, got a loop without a plant"
        )
    return list(ports.outputs[READS])
