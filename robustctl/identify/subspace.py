"""Linear models of several inputs and outputs from a record, by a subspace method."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from ..advice.arx import lags
from ..checks import is_whole
from ..data import Record, Scaling
from ..errors import DataError, RobustctlError
from ..nn.stable_linear import stable_linear_at
from ..state_space import StateSpace
from ..train import FittedModel
from ..train.fitted_model import check_record
from ..train.initial_state import LearnedState
from .polish import polished
from .projection import (
    Linear,
    Series,
    free_run,
    observability,
    state_matrices,
    windows_without_gaps,
    with_inputs,
)

ORDERS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 18, 22, 28)
"""Tried where none is given; from 8 on each adds a quarter."""

BETTER = 0.98
"""Of the error of a lower order: what a higher one must come below, so that noise in the validation part does not add states."""

FITTED = 2 / 3
"""Share of each experiment that orders are fitted to; the rest selects. The last fit uses all samples."""

ROWS = 20
"""Most block rows where the order is not given: with more the singular values are sharper, and the projection costs the cube."""

POLISHED = 8
"""Highest order whose free-run error is reduced further: the cost grows with the fourth power of the order."""

LONGEST = 20_000
"""Samples of an experiment from which B, D and offset are fitted; A and C use all."""

SHORT = 6_000
"""Most samples of an experiment, its latest before the validation part, from which the candidates are fitted."""

HEAD = 30
"""Samples that determine the initial state of a run that is scored."""

LATEST = 60
"""Longest delay that is searched, samples."""

CERTAIN = 5.0
"""Standard deviations of an impulse response's coefficient that end the delay: among 60 zeros, chance exceeds it once in 30,000 records."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class LinearFit:
    """A linear model of a record, and how its order was chosen.

    **Arguments:**

    - `model`: the fitted model, a `StableLinear` with the record's scaling and channels.
    - `order`: number of states without those of the delays.
    - `delay`: of each input, samples.
    - `singular_values`: of the projection, largest first; a gap behind one of them suggests its number as order.
    - `validation`: pooled NRMSE on the validation part by order.
    """

    model: FittedModel
    order: int
    delay: tuple[int, ...]
    singular_values: np.ndarray
    validation: dict[int, float]

    def state_space(self) -> StateSpace:
        """Return the model in deviations from its equilibrium, in the signals' own units."""
        inner, s = self.model.parameterization.explicit(), self.model.scaling
        B, C = np.asarray(inner.B) / s.u_std, np.asarray(inner.C) * s.y_std[:, None]
        D = np.asarray(inner.D) * s.y_std[:, None] / s.u_std
        m = self.model
        return StateSpace(
            np.asarray(inner.A), B, C, D, m.dt, inputs=m.inputs, outputs=m.outputs,
            input_units=m.input_units, output_units=m.output_units,
        )  # fmt: skip

    def __repr__(self) -> str:
        scores = ", ".join(f"{n}: {score:.3g}" for n, score in self.validation.items())
        delay = f", delays {', '.join(map(str, self.delay))} samples" if any(self.delay) else ""
        return f"linear model of order {self.order}{delay}" + (
            f"\n  NRMSE on the validation part by order  {scores}" if scores else ""
        )


def subspace(record: Record, order: int | None = None, delay: int | Sequence[int] | None = None) -> LinearFit:
    """Fit a stable linear model of all inputs and outputs by a subspace method.

    ::

        x+ = A x + B u[t - delay],    y = C x + D u[t - delay] + offset

    A and C come from a projection of the record (PO-MOESP), B, D, the offset and an initial state for each experiment from least squares
    of the free run. Poles outside of the circle of radius 1 - 1/T, whose modes T samples do not distinguish from constants, are moved onto
    it. The first two thirds of each experiment are fitted, and the rest selects the lowest order that a higher one improves by less than
    2 %, whether a delay is used, and for up to eight states whether the free-run error is reduced further by nonlinear least squares.

    **Arguments:**

    - `record`: the log; missing samples, several experiments and offsets are allowed
    - `order`: number of states, None to select it
    - `delay`: of the inputs in samples, one number or one for each; None to find it

    **Raises:** `RobustctlError` for an order or delay out of range; `DataError` for channels that are constant, and too few samples
    without gaps.

    **Source:** M. Verhaegen, Automatica 30, 1994.

    **Example:** ::

        fit = rc.identify.subspace(rc.problems.two_tanks(600, seed=0))
        print(fit, rc.simulate(fit.model, rc.problems.two_tanks(600, seed=1)).scores().fit_percent)
    """
    check_record(record)
    _check(record, order, delay)
    scaling = Scaling.fit(record)
    scaled = scaling.apply(record).experiments
    given = [Series(e.u, e.y, np.all(e.u_mask, axis=1), np.all(e.y_mask, axis=1)) for e in scaled]
    zero = (0,) * record.nu
    delays = _delays(given) if delay is None else tuple(np.broadcast_to(delay, record.nu).tolist())
    orders = ORDERS if order is None else (order,)
    delayed = [_delayed(e, delays) for e in given]
    found = _validated(delayed, orders)
    if delay is None and delays != zero:
        without = _validated(given, orders)
        # A slow plant's first responses are lost in the noise and look like a delay, which then costs accuracy.
        if min(without.values()) < min(found.values()):
            found, delays, delayed = without, zero, given
    chosen = _lowest(found)
    models, values = _fit(delayed, [chosen])
    by_order = {n: min(score for (m, _), score in found.items() if m == n) for n, _ in found}
    return LinearFit(_fitted(record, scaling, models[chosen], delays), chosen[0], delays, values, by_order)


def _check(record: Record, order: int | None, delay: int | Sequence[int] | None) -> None:
    if order is not None and not is_whole(order, 1):
        raise RobustctlError(f"order must be a whole number of at least 1, got {order!r}; None selects it")
    given = [] if delay is None else [delay] if isinstance(delay, int) else list(delay)
    if not all(is_whole(d, 0) for d in given) or len(given) not in (0, 1, record.nu):
        raise RobustctlError(
            f"delay must be a whole number of samples, or one for each of {record.nu} inputs, got {delay!r}; None finds it"
        )
    for names, fields in ((record.inputs, "u"), (record.outputs, "y")):
        values = np.concatenate([e.signal(fields)[0] for e in record.experiments])
        flat = np.std(values, axis=0) <= 1e-12 * np.abs(values).max(axis=0)
        if flat.any():
            constant = [name for name, is_flat in zip(names, flat, strict=True) if is_flat]
            raise DataError(
                f"every channel must vary, but {constant} are constant; leave them out with rc.data.select"
            )


def _delayed(e: Series, delays: Sequence[int]) -> Series:
    """Return an experiment with its inputs delayed, the first values held before the start."""
    columns = [
        np.concatenate([np.full(min(d, len(u)), u[0]), u[: max(len(u) - d, 0)]])
        for u, d in zip(e.u.T, delays, strict=True)
    ]
    measured = np.concatenate([np.zeros(max(delays), bool), e.u_ok])[: len(e.u)]
    return e._replace(u=np.stack(columns, axis=1), u_ok=measured)


def _delays(experiments: Sequence[Series]) -> tuple[int, ...]:
    """Return for each input the lag of the first coefficient of the impulse responses that is certainly not zero, the least of all outputs.

    The coefficients are those of an ARX model with two past outputs, whose covariance least squares give.
    """
    nu = experiments[0].u.shape[1]
    most = min(LATEST, max(len(e.u) for e in experiments) // (10 * nu))
    found = np.full(nu, most + 1)
    for i in range(experiments[0].y.shape[1]):
        blocks = [_lagged(e.part(0, LONGEST), i, most) for e in experiments]
        phi, y = (np.concatenate(b) for b in zip(*blocks, strict=True))
        if len(y) < 2 * phi.shape[1]:
            return (0,) * nu
        inverse = np.linalg.pinv(phi.T @ phi, rcond=1e-10, hermitian=True)
        theta = inverse @ (phi.T @ y)
        deviation = np.sqrt(np.diag(inverse) * np.sum((y - phi @ theta) ** 2) / (len(y) - len(theta)))
        certain = (np.abs(theta) > CERTAIN * deviation)[2:-1].reshape(nu, most + 1)
        found = np.minimum(found, np.where(certain.any(axis=1), certain.argmax(axis=1), most + 1))
    # The first coefficient of a delayed system without direct path is that of one sample more, which D = 0 describes without a state.
    return tuple(max(int(d) - 1, 0) if d <= most else 0 for d in found)


def _lagged(e: Series, output: int, most: int) -> tuple[np.ndarray, np.ndarray]:
    y = e.y[:, output]
    inputs = [lags(u, 0, most) for u in e.u.T]
    used = lags(e.y_ok, 0, 2).all(axis=1) & lags(e.u_ok, 0, most).all(axis=1)
    return np.column_stack([lags(y, 1, 2), *inputs, np.ones(len(y))])[used], y[used]


Kind = tuple[int, bool]
"""An order, and whether the free-run error was reduced further."""


def _kinds(orders: Sequence[int]) -> list[Kind]:
    return [(n, further) for n in orders for further in (False, True)[: 1 + (n <= POLISHED)]]


def _fit(experiments: Sequence[Series], kinds: Sequence[Kind]) -> tuple[dict[Kind, Linear], np.ndarray]:
    """Return the models of some kinds, those that the data allow, and the singular values."""
    ny, longest = experiments[0].y.shape[1], max(len(e.u) for e in experiments)
    rows = _rows(experiments, max(n for n, _ in kinds))
    vectors, values = observability(experiments, rows)
    short = [e.part(0, LONGEST) for e in experiments]
    models, radius = {}, 1 - 1 / longest
    for n in sorted({n for n, _ in kinds if n < rows * ny}):
        model, states = with_inputs(*state_matrices(vectors, values, n, ny, radius), short)
        models[n, False] = model
        if (n, True) in kinds:
            models[n, True] = polished(model, states, short, radius)
    if not models:
        raise DataError(
            f"order must be less than {rows * ny}, what the record's length without gaps allows, got {min(kinds)[0]}; use a lower order"
        )
    return models, values


def _rows(experiments: Sequence[Series], order: int) -> int:
    """Return the block rows: as many as `ROWS`, or as an order asks, or as leave three columns for each row."""
    nu, ny = experiments[0].u.shape[1], experiments[0].y.shape[1]
    rows = max(ROWS, -(-order // ny) + 2)
    while rows > 2 and windows_without_gaps(experiments, rows) < 3 * (1 + 2 * rows * (nu + ny)):
        rows -= 1
    return rows


def _validated(experiments: Sequence[Series], orders: Sequence[int]) -> dict[Kind, float]:
    """Return the pooled NRMSE of each kind on the last third of each experiment, fitted to the rest."""
    cuts = [int(FITTED * len(e.u)) for e in experiments]
    training = [e.part(max(cut - SHORT, 0), cut) for e, cut in zip(experiments, cuts, strict=True)]
    rest = [e.part(cut, cut + LONGEST) for e, cut in zip(experiments, cuts, strict=True)]
    rest = [e for e in rest if len(e.u) > 2 * HEAD and e.y_ok[HEAD:].any()]
    if not rest:
        raise DataError(
            f"a model is selected on the last third of experiments, of which one must have more than {2 * HEAD} samples with outputs; "
            "use a longer record"
        )
    models, _ = _fit(training, _kinds(orders))
    return {kind: _score(model, rest) for kind, model in models.items()}


def _score(model: Linear, experiments: Sequence[Series]) -> float:
    errors = np.concatenate([(e.y - free_run(model, e, HEAD))[HEAD:][e.y_ok[HEAD:]] for e in experiments])
    spread = np.concatenate([e.y[HEAD:][e.y_ok[HEAD:]] for e in experiments]).std(axis=0)
    return float(np.sqrt(np.mean((errors / np.maximum(spread, 1e-12)) ** 2)))


def _lowest(validation: dict[Kind, float]) -> Kind:
    best = min(validation)
    for kind, score in validation.items():
        if score < BETTER * validation[best]:
            best = kind
    return best


def _fitted(record: Record, scaling: Scaling, model: Linear, delays: Sequence[int]) -> FittedModel:
    """Return the fitted model in the record's units; its initial state is fitted to the first samples of whatever it simulates."""
    A, B, C, D = _with_shift_registers(model, delays)
    inner = stable_linear_at(A, B, C, D, model.d)
    horizon = min(HEAD, min(e.samples for e in record.experiments) // 2)
    zero = jnp.zeros((len(record.experiments), len(A)), inner.B.dtype)
    return FittedModel(
        inner,
        LearnedState(x0=zero, horizon=horizon),
        scaling,
        record.dt,
        record.inputs,
        record.outputs,
        record.input_units,
        record.output_units,
    )


def _with_shift_registers(model: Linear, delays: Sequence[int]) -> tuple[np.ndarray, ...]:
    """Return A, B, C and D with the past values of each delayed input as further states, the newest first."""
    A, B, C, D, _ = model
    for j, d in enumerate(delays):
        n = len(A)
        if d:
            last = np.zeros((1, d))
            last[0, -1] = 1.0
            A = np.block([[A, B[:, [j]] @ last], [np.zeros((d, n)), np.eye(d, k=-1)]])
            C = np.hstack([C, D[:, [j]] @ last])
            B = np.vstack([np.where(np.arange(B.shape[1]) == j, 0.0, B), np.zeros((d, B.shape[1]))])
            B[n, j] = 1.0
            D = np.where(np.arange(D.shape[1]) == j, 0.0, D)
    return A, B, C, D
