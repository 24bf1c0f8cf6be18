"""The order, the delays and the method of a linear model, chosen on a part of the experiments that it was not fitted to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..errors import DataError
from .delays import delayed, found_delays
from .polish import polished
from .projection import observability, state_matrices, windows_without_gaps, with_inputs
from .series import HEAD, Linear, Series, output_nrmse, pooled

ORDERS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 18, 22, 28)
"""Tried where none is given; from 8 on each adds a quarter."""

BETTER = 0.98
"""Of the error of a lower order: what a higher one must come below, so that noise in the validation part does not add states."""

EXACT = 1e-6
"""Standard deviations that a higher order must win, too: where the error is rounding, none is better."""

FITTED = 2 / 3
"""Share of each experiment that orders are fitted to; the rest selects. The last fit uses all samples."""

ROWS = 20
"""Most block rows where the order is not given: with more the singular values are sharper, and the projection costs the cube."""

POLISHED = 8
"""Highest order whose free-run error is reduced further: above, it costs more than it gains."""

LONGEST = 20_000
"""Samples of an experiment from which B, D and offset are fitted; A and C use all."""

NUMBERS = 10_000_000
"""Most entries of the derivatives of an experiment: 80 MB."""

SHORT = 6_000
"""Most samples of an experiment, its latest before the validation part, from which the candidates are fitted."""

SLOWEST = 0.1
"""Of the record's length over the longest time constant that stays in the model."""

LEAST_MARGIN = 2e-5
"""Of the poles to the unit circle: less is lost in the rounding of float32."""


class Chosen(NamedTuple):
    """A model, and how it was chosen.

    - `model`: of the delayed inputs.
    - `polished`: whether its free-run error was reduced further.
    - `delays`: of each input, samples.
    - `values`: the singular values.
    - `validation`: error of each kind of model on the validation part.
    - `outside`: largest magnitude of a pole of the projection's two strongest directions, above one where the record grows.
    """

    model: Linear
    polished: bool
    delays: tuple[int, ...]
    values: np.ndarray
    validation: dict[Kind, float]
    outside: float


Kind = tuple[int, bool]
"""An order, and whether the free-run error was reduced further."""


def choose(given: Sequence[Series], orders: Sequence[int], delays: tuple[int, ...] | None) -> Chosen:
    """Return the model of the kind that validates best, fitted to all samples.

    **Arguments:**

    - `given`: the experiments, in scaled signals
    - `orders`: to try
    - `delays`: of each input in samples, None to find them

    **Raises:** `DataError` for too few samples without gaps.
    """
    zero = (0,) * given[0].u.shape[1]
    used = found_delays(given) if delays is None else delays
    late = [delayed(e, used) for e in given]
    found = validated(late, orders)
    if delays is None and used != zero:
        without = validated(given, orders)
        # A slow plant's first responses are lost in the noise and look like a delay, which then costs accuracy.
        if min(without.values()) < min(found.values()):
            found, used, late = without, zero, list(given)
    best = lowest(found)
    models, values, outside = fit(late, [best])
    return Chosen(models[best], best[1], used, values, found, outside)


def fit(experiments: Sequence[Series], kinds: Sequence[Kind]) -> tuple[dict[Kind, Linear], np.ndarray, float]:
    """Return the models of some kinds, those that the data allow, the singular values, and the largest pole of order two.

    **Arguments:**

    - `experiments`: in scaled signals
    - `kinds`: of models

    **Raises:** `DataError` for too few samples without gaps.
    """
    ny = experiments[0].y.shape[1]
    rows = _rows(experiments, max(n for n, _ in kinds))
    vectors, values = observability(experiments, rows)
    models = {}
    # A slower mode looks constant in the record. One that is found unstable gets a time constant of the record's length.
    margin = 1 / max(len(e.u) for e in experiments)
    kept, onto = (1 - max(m, LEAST_MARGIN) for m in (SLOWEST * margin, margin))
    for n in sorted({n for n, _ in kinds if n < rows * ny}):
        short = shortened(experiments, n)
        A, C, _ = state_matrices(vectors, values, n, ny, kept, onto)
        models[n, False] = with_inputs(A, C, short)
        if (n, True) in kinds:
            models[n, True] = polished(
                models[n, False], short, max(onto, float(np.abs(np.linalg.eigvals(A)).max()))
            )
    # Of the two strongest directions alone: models of high order have unstable poles without meaning.
    outside = state_matrices(vectors, values, min(2, *(n for n, _ in kinds)), ny, kept, onto)[2]
    if not models:
        raise DataError(
            f"order must be less than {rows * ny}, what the record's length without gaps allows, got {min(kinds)[0]}; use a lower order"
        )
    return models, values, outside


def shortened(experiments: Sequence[Series], order: int) -> list[Series]:
    """Return the first samples of each experiment, as many as least squares of an order take.

    **Arguments:**

    - `experiments`: in scaled signals
    - `order`: number of states
    """
    nu, ny = experiments[0].u.shape[1], experiments[0].y.shape[1]
    return [e.part(0, min(LONGEST, NUMBERS // (ny * (nu + ny) * order))) for e in experiments]


def _rows(experiments: Sequence[Series], order: int) -> int:
    """Return the block rows: as many as `ROWS`, or as an order asks, or as leave three columns for each row."""
    nu, ny = experiments[0].u.shape[1], experiments[0].y.shape[1]
    rows = max(ROWS, -(-order // ny) + 2)
    while rows > 2 and windows_without_gaps(experiments, rows) < 3 * (1 + 2 * rows * (nu + ny)):
        rows -= 1
    return rows


def parts(experiments: Sequence[Series]) -> tuple[list[Series], list[Series]]:
    """Return what candidates are fitted to, and the part of the last third of each experiment that selects.

    **Arguments:**

    - `experiments`: in scaled signals

    **Raises:** `DataError` where no experiment has enough samples to validate on.
    """
    cuts = [int(FITTED * len(e.u)) for e in experiments]
    training = [e.part(max(cut - SHORT, 0), cut) for e, cut in zip(experiments, cuts, strict=True)]
    rest = [e.part(cut, cut + LONGEST) for e, cut in zip(experiments, cuts, strict=True)]
    rest = [e for e in rest if len(e.u) > 2 * HEAD and e.y_ok[HEAD:].any()]
    if not rest:
        raise DataError(
            f"a model is selected on the last third of experiments, of which one must have more than {2 * HEAD} samples with outputs; "
            "use a longer record"
        )
    return [e for e in training if len(e.u)], rest


def validated(experiments: Sequence[Series], orders: Sequence[int]) -> dict[Kind, float]:
    """Return the pooled NRMSE of each kind on the last third of each experiment, fitted to the rest.

    **Arguments:**

    - `experiments`: in scaled signals
    - `orders`: to try

    **Raises:** `DataError` where no experiment has enough samples to validate on.
    """
    training, rest = parts(experiments)
    kinds = [(n, further) for n in orders for further in (False, True)[: 1 + (n <= POLISHED)]]
    models, _, _ = fit(training, kinds)
    return {kind: pooled(output_nrmse(model, rest)) for kind, model in models.items()}


def lowest(validation: dict[Kind, float]) -> Kind:
    """Return the lowest kind that a higher one improves by less than `BETTER`.

    **Arguments:**

    - `validation`: error of each kind
    """
    best = None
    for n in sorted({n for n, _ in validation}):
        # Of the same order, least squares have the smaller variance: the projection has to be better.
        kind = min(((n, True), (n, False)), key=lambda k: validation.get(k, np.inf))
        if best is None or validation[kind] < BETTER * validation[best] - EXACT:
            best = kind
    assert best is not None
    return best
