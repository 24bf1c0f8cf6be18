"""A fitted model: what was trained, with all that is needed to use it on a log."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from typing_extensions import override

from ..checks import checked_delays
from ..data import Record, Scaling
from ..data.record_checks import check_dt, check_names
from ..delayed import Delayed
from ..pytrees import shape_of
from ..registry import registered
from ..scaled import Scaled
from ..system import Parameterization
from .initial_state import InitialState
from .record_model import RecordModel
from .trained_range import Limits, TrainedRange


@registered(name="Identified")
class FittedModel(RecordModel):
    """A trained parameterization with its scaling, sample time, channels and rule for the initial state.

    `explicit()` is a system from inputs to outputs in their own units, one sample each `dt` seconds.

    **Arguments:**

    - `parameterization`: the trained model, between scaled signals.
    - `initial`: the rule for the initial state.
    - `scaling`: of inputs and outputs.
    - `dt`: sample time, seconds.
    - `inputs`: names.
    - `outputs`: names.
    - `input_units`: one per input, "" where it has none.
    - `output_units`: one per output, likewise.
    - `delay`: samples by which each input acts late; () where none does.
    - `trained`: the range of the record that it was trained on; None where unknown.
    - `innovation_gain`: K (nx, ny) of `rc.identify.innovation_form`, between scaled signals, with which `rc.identify.predict`
      corrects the state; a simulation does not use it. None where there is none.

    **Raises:** `RobustctlError` for delays that are no whole numbers, or not one for each input.
    """

    parameterization: Parameterization
    initial: InitialState
    scaling: Scaling = eqx.field(static=True)
    dt: float = eqx.field(static=True)
    inputs: tuple[str, ...] = eqx.field(static=True)
    outputs: tuple[str, ...] = eqx.field(static=True)
    input_units: tuple[str, ...] = eqx.field(static=True)
    output_units: tuple[str, ...] = eqx.field(static=True)
    delay: tuple[int, ...] = eqx.field(static=True, default=())
    trained: TrainedRange | None = eqx.field(static=True, default=None)
    innovation_gain: Float[Array, "nx ny"] | None = None

    def __check_init__(self):
        """Refuse delays that are no whole numbers, or of another number of inputs."""
        if self.delay:
            checked_delays(self.delay, len(self.inputs))

    def explicit(self) -> Scaled:
        """Map to the system in the signals' own units, which takes the inputs before their delay."""
        dtype = self.dtype
        s, known = self.scaling, self.trained
        moments = (jnp.asarray(a, dtype) for a in (s.u_mean, s.u_std, s.y_mean, s.y_std))
        inner = self.parameterization.explicit()
        return Scaled(
            Delayed(inner, self.delay) if any(self.delay) else inner, *moments, dt=self.dt, inputs=self.inputs, outputs=self.outputs,
            input_units=self.input_units, output_units=self.output_units,
            trained=known and (_measured(known.u), _measured(known.y)),
        )  # fmt: skip

    def quiet(self, factor: float = 1e-2) -> "FittedModel":
        """Return the same about the inner model's scaled-down version."""
        return dataclasses.replace(self, parameterization=self.parameterization.quiet(factor))

    @override
    def check_parts(self) -> None:
        check_dt(self.dt)
        check_names(self.inputs, self.outputs)
        system = eqx.filter_eval_shape(self.explicit)
        sizes = (len(self.inputs), len(self.outputs))
        if (system.nu, system.ny) != sizes:
            raise ValueError(f"there must be a scale for each of {sizes} channels")
        if self.trained is not None and (len(self.trained.u), len(self.trained.y)) != sizes:
            raise ValueError(f"there must be a trained range for each of {sizes} channels")
        # Behind the delays: a start and a gain are of the inner system's state, without the inputs that have not acted yet.
        x = eqx.filter_eval_shape(lambda p: p.explicit().init_state(), self.parameterization)
        K = self.innovation_gain
        if K is not None and K.shape != (*(shape_of(x) or ()), sizes[1]):
            raise ValueError(
                f"the innovation gain must be of the states and {sizes[1]} outputs, got shape {K.shape}"
            )
        window = [jax.ShapeDtypeStruct((self.initial.window, n), self.dtype) for n in sizes]
        start = eqx.filter_eval_shape(
            lambda initial, u, y, zero: initial(u, y, jnp.zeros((), jnp.int32), zero),
            self.initial,
            *window,
            x,
        )
        if not eqx.tree_equal(start, x):
            raise ValueError(f"the initial state must be {x}, got {start}")


def _measured(limits: tuple[Limits, ...]) -> tuple[Limits | None, ...]:
    return tuple(each if np.isfinite(each).all() else None for each in limits)


def fitted_to(
    record: Record, parameterization: Parameterization, initial: InitialState, scaling: Scaling, delay: tuple[int, ...]
) -> FittedModel:  # fmt: skip
    """Return a model that was trained on a record: with its channels, its sample time and its range.

    **Arguments:**

    - `record`: the log
    - `parameterization`: between scaled signals
    - `initial`: the rule for the initial state
    - `scaling`: of the signals
    - `delay`: of each input, samples; () where none acts late
    """
    r = record
    return FittedModel(
        parameterization, initial, scaling, r.dt, r.inputs, r.outputs, r.input_units, r.output_units,
        delay if any(delay) else (), TrainedRange.of(r),
    )  # fmt: skip
