"""Linear models of several inputs and outputs from a record, by a subspace method."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from ..advice.channels import explained, spectrum
from ..advice.findings import COLLINEAR, FEW_FREQUENCIES
from ..advice.series import standard
from ..checks import checked_delays, is_whole
from ..data import Record, Scaling
from ..data.trend import pooled
from ..errors import DataError, RobustctlError, RobustctlWarning
from ..linear.choose import ORDERS, Chosen, choose, fit
from ..linear.delays import delayed
from ..linear.series import HEAD, Linear, Series
from ..nn.stable_linear import stable_linear_at
from ..state_space import StateSpace
from ..train import RecordModel
from ..train.fitted_model import fitted_to
from ..train.initial_state import LearnedState
from ..train.record_model import check_record

UNSTABLE = (
    "if the plant integrates, take the differences of its outputs as outputs; if it is unstable, log it in a stable closed loop with the "
    "reference as input"
)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class LinearFit:
    """A linear model of a record, and how its order was chosen.

    **Arguments:**

    - `model`: the fitted model, a `StableLinear` with the record's scaling and channels.
    - `order`: number of states without those of the delays.
    - `delay`: of each input, samples.
    - `singular_values`: of the projection, largest first; a gap behind one of them suggests its number as order.
    - `validation`: pooled NRMSE on the validation part by order.
    - `cautions`: what the record leaves undetermined, a sentence each: constant or collinear inputs, few frequencies, poles that were
      moved inside the unit circle.
    - `polished`: whether the free-run error was reduced further by nonlinear least squares.
    """

    model: RecordModel
    order: int
    delay: tuple[int, ...]
    singular_values: np.ndarray
    validation: dict[int, float]
    cautions: tuple[str, ...] = ()
    polished: bool = False

    def state_space(self) -> StateSpace:
        """Return the model in deviations from its equilibrium, in the signals' own units; delays are states, the first ones."""
        form, m = self.model.explicit().lft(), self.model
        assert form is not None
        return StateSpace(
            form.A, form.B2, form.C2, form.D22, m.dt, inputs=m.inputs, outputs=m.outputs,
            input_units=m.input_units, output_units=m.output_units,
        )  # fmt: skip

    def __repr__(self) -> str:
        scores = ", ".join(f"{n}: {score:.3g}" for n, score in self.validation.items())
        delay = f", delays {', '.join(map(str, self.delay))} samples" if any(self.delay) else ""
        return (
            f"linear model of order {self.order}{delay}"
            + (f"\n  NRMSE on the validation part by order  {scores}" if scores else "")
            + "".join(f"\n  {caution}" for caution in self.cautions)
        )


def subspace(record: Record, order: int | None = None, delay: int | Sequence[int] | None = None) -> LinearFit:
    """Fit a stable linear model of all inputs and outputs by a subspace method.

    ::

        x+ = A x + B u[t - delay],    y = C x + D u[t - delay] + offset

    A and C come from a projection of the record (PO-MOESP), B, D, the offset and an initial state for each experiment from least squares
    of the free run. Poles outside of the unit circle, and those of time constants beyond ten records' lengths, get a time constant of the
    record's length. The first two thirds of each experiment are fitted, and the rest selects the lowest order that a higher one improves
    by less than 2 %, whether a delay is used, and for up to eight states whether the free-run error is reduced further by nonlinear least
    squares.

    **Arguments:**

    - `record`: the log; missing samples, several experiments and offsets are allowed
    - `order`: number of states, None to select it
    - `delay`: of the inputs in samples, one number or one for each; None to find it

    **Raises:** `RobustctlError` for an order or delay out of range; `DataError` where all inputs or all outputs are constant, for an
    output without any sample, too few samples without gaps, a delay longer than the record, and unstable poles that no stable model
    replaces.

    **Source:** M. Verhaegen, Automatica 30, 1994.

    **Example:** ::

        fit = rc.identify.subspace(rc.problems.two_tanks(600, seed=0))
        print(fit, rc.simulate(fit.model, rc.problems.two_tanks(600, seed=1)).scores().fit_percent)
    """
    check_record(record)
    _check(record, order, delay)
    with warnings.catch_warnings():
        # of constant channels, which are among the fit's cautions
        warnings.simplefilter("ignore", RobustctlWarning)
        scaling = Scaling.fit(record)
    given = None if delay is None else checked_delays(delay, record.nu)
    chosen = choose(series_of(record, scaling), ORDERS if order is None else (order,), given)
    by_order: dict[int, float] = {}
    for (n, _), score in chosen.validation.items():
        by_order[n] = min(score, by_order.get(n, np.inf))
    if chosen.outside > 1 and min(by_order.values()) > 1:
        raise DataError(
            f"the plant must be stable: the record has a pole at {chosen.outside:.6g}, and no stable model comes closer than the mean; "
            + UNSTABLE
        )
    model = _fitted(record, scaling, chosen.model, chosen.delays)
    cautions = tuple(_cautions(record, chosen))
    return LinearFit(
        model, len(chosen.model.A), chosen.delays, chosen.values, by_order, cautions, chosen.polished
    )


def refitted(record: Record, linear: LinearFit, order: int) -> LinearFit:
    """Return a linear model of another part of a record, of the same kind as one, with its scaling and delays.

    **Raises:** `DataError` where the part allows no model of that order.
    """
    scaling = linear.model.scaling
    late = [delayed(e, linear.delay) for e in series_of(record, scaling)]
    kind = order, linear.polished
    models, values, _ = fit(late, [kind])
    model = _fitted(record, scaling, models[kind], linear.delay)
    return LinearFit(model, order, linear.delay, values, {}, (), linear.polished)


def series_of(record: Record, scaling: Scaling) -> list[Series]:
    """Return the experiments of a record as a subspace method takes them: scaled, constant channels zero without their rounding.

    **Arguments:**

    - `record`: in its own units
    - `scaling`: of the model
    """
    u_varies, y_varies = standard(record, "u").varies, standard(record, "y").varies
    return [
        Series(
            np.where(u_varies, scaling.scale_u(e.u), 0.0), np.where(y_varies, scaling.scale_y(e.y), 0.0),
            np.all(e.u_mask, axis=1), e.y_mask,
        )
        for e in record.experiments
    ]  # fmt: skip


def _check(record: Record, order: int | None, delay: int | Sequence[int] | None) -> None:
    if order is not None and not is_whole(order, 1):
        raise RobustctlError(f"order must be a whole number of at least 1, got {order!r}; None selects it")
    given = () if delay is None else checked_delays(delay, record.nu)
    longest = max(e.samples for e in record.experiments)
    if given and max(given) >= longest:
        raise DataError(
            f"the delay must be shorter than the record, whose longest experiment has {longest} samples, got {delay!r}; "
            "use a longer record"
        )
    for field, names, kind in (("u", record.inputs, "input"), ("y", record.outputs, "output")):
        mask = pooled(record, field)[1]
        if lost := [name for name, seen in zip(names, mask.T, strict=True) if not seen.any()]:
            raise DataError(
                f"every channel must have a measured sample, {lost} have none; leave them out with rc.data.select"
            )
        if not standard(record, field).varies.any():
            raise DataError(f"an {kind} must vary, but {list(names)} are constant; log while the inputs move")


def _cautions(record: Record, chosen: Chosen) -> list[str]:
    """Return what the record leaves undetermined, a sentence each."""
    said, u, y = [], standard(record, "u"), standard(record, "y")
    for kind, names, varies in (("input", record.inputs, u.varies), ("output", record.outputs, y.varies)):
        said += [
            f"{kind} {name!r} is constant in the record: the model has no effect {'of' if kind == 'input' else 'on'} it"
            for name, does in zip(names, varies, strict=True) if not does
        ]  # fmt: skip
    moving = np.concatenate([u(e.u)[:, u.varies] for e in record.experiments])
    names = [name for name, does in zip(record.inputs, u.varies, strict=True) if does]
    for name, share, values in zip(names, explained(moving), moving.T, strict=True):
        if share > COLLINEAR:
            said.append(
                f"input {name!r} moves with the others (R^2 {share:.3g}): the model has their common effect, hardly that of each; "
                "log while they move apart"
            )
        if (count := spectrum([values], record.dt)[2]) < FEW_FREQUENCIES:
            said.append(
                f"input {name!r} has {count:.2g} frequencies: the model is known at these alone; log with rc.data.multisine or rc.data.prbs"
            )
    if chosen.outside > 1:
        said.append(f"the record has a pole at {chosen.outside:.6g}, and the model is stable: " + UNSTABLE)
    return said


def _fitted(record: Record, scaling: Scaling, model: Linear, delays: Sequence[int]) -> RecordModel:
    """Return the fitted model in the record's units; its initial state is fitted to the first samples of whatever it simulates."""
    inner = stable_linear_at(model.A, model.B, model.C, model.D, model.d)
    shortest = min(e.samples for e in record.experiments) - max(delays)
    horizon = max(min(HEAD, shortest // 2), 1)
    zero = jnp.zeros((len(record.experiments), len(model.A)), inner.B.dtype)
    return fitted_to(record, inner, LearnedState(x0=zero, horizon=horizon), scaling, tuple(delays))
