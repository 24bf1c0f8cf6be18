"""The start of a network at a linear model of a record."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from .. import nn
from ..checks import of_type
from ..data import Record, Scaling
from ..linear.series import HEAD, Linear, Series, free, run
from ..nn.activations import Activation
from ..system import Parameterization, dtype_of
from ..train import LearnedState
from ..train.initial_state import linear_part, regularized
from ..train.record_model import check_channels, check_record
from .subspace import LinearFit

LEAST_STATES = 4
"""Where the number of states is not given: a linear model of fewer gets this many."""

SAMPLES = 1_000
"""Of each experiment, from which its initial state is fitted."""


@dataclasses.dataclass(frozen=True, eq=False)
class Start:
    """An untrained network at a linear model, with what its training needs.

    **Arguments:**

    - `model`: the untrained model, between scaled signals.
    - `scaling`: of the signals, that of the linear model.
    - `initial`: initial states of the record's experiments, from the linear model; for windows give `rc.train.linear_warm_up(n)` instead.
    - `delay`: of each input, samples, that of the linear model.
    - `given_up`: part of the linear model's impulse response that the guarantee does not allow, 0 where it allows all.
    """

    model: Parameterization
    scaling: Scaling
    initial: LearnedState
    delay: tuple[int, ...]
    given_up: float


def start(
    record: Record,
    linear: LinearFit,
    guarantee: nn.Guarantee | None = None,
    *,
    nx: int | None = None,
    nv: int = 8,
    hidden: Sequence[int] | None = (16,),
    activation: Activation = jax.nn.relu,
    key: PRNGKeyArray,
) -> Start:
    """Return an R2DN or a REN that starts at a linear model of a record.

    ::

        begin = rc.identify.start(record, rc.identify.subspace(record), key=jax.random.key(0))
        problem = rc.train.Identification(record, scaling=begin.scaling, initial=begin.initial, delay=begin.delay)
        fitted = rc.train.train(problem, begin.model, epochs=2000, optimizer=rc.train.two_rate_adam(2000), key=jax.random.key(1))

    **Arguments:**

    - `record`: the log that it will be trained on.
    - `linear`: a linear model of it, what `subspace` returns.
    - `guarantee`: `Contracting(rate)`, `Lipschitz(gamma, rate)` or `Dissipative(Q, S, R, rate)` between scaled signals; None:
      `Contracting()`.
    - `nx`: number of states, at least those of the linear model; None: these, and at least 4.
    - `nv`: number of network features.
    - `hidden`: widths of the hidden layers of an R2DN; None: a REN with nv neurons.
    - `activation`: elementwise, slope in [0, 1].
    - `key`: seeds the network.

    **Raises:** `RobustctlError` for another model than that of `subspace`; `DataError` for a record with other channels;
    `InvalidModelError` as `R2DN` and `at_linear`. Warns where the guarantee makes it give up a part of the linear model.
    """
    A, B, C, D, bx, by = _linear_part(record, linear)
    init = nn.at_linear(A, B, C, D, bx=bx, by=by, u=_inputs(record, linear))
    guarantee = nn.Contracting() if guarantee is None else guarantee
    sizes: dict[str, Any] = {
        "nu": record.nu, "nx": max(len(A), LEAST_STATES) if nx is None else nx, "nv": nv, "ny": record.ny
    }  # fmt: skip
    sizes |= {"activation": activation, "init": init, "key": key}
    model = recurrent(guarantee, hidden, **sizes)
    return _start(model, record, linear, init.given_up(guarantee, dtype_of(model)))


def recurrent(guarantee: nn.Guarantee, hidden: Sequence[int] | None, **sizes: Any) -> Parameterization:
    """Return an untrained R2DN with hidden layers of those widths, or a REN where there are none.

    **Arguments:**

    - `guarantee`: what it guarantees
    - `hidden`: widths; None for a REN
    - `sizes`: the other arguments of both constructors
    """
    return nn.REN(guarantee, **sizes) if hidden is None else nn.R2DN(guarantee, hidden=hidden, **sizes)


def prior(
    record: Record,
    linear: LinearFit,
    *,
    rate: float = 1.0,
    nx: int = 4,
    nv: int = 8,
    hidden: Sequence[int] = (16,),
    activation: Activation = jax.nn.relu,
    key: PRNGKeyArray,
) -> Start:
    """Return a contracting R2DN that corrects a fixed linear model of a record, and starts at it.

    **Arguments:**

    - `record`: the log that it will be trained on.
    - `linear`: a linear model of it, what `subspace` returns.
    - `rate`: contraction rate of the whole, per sample.
    - `nx`: number of states of the correction.
    - `nv`: number of its network's features.
    - `hidden`: widths of its network's hidden layers.
    - `activation`: elementwise, slope in [0, 1].
    - `key`: seeds the correction.

    **Raises:** as `start`; `InvalidModelError` for a linear model that does not forget faster than the rate.
    """
    A, B, C, D, bx, by = _linear_part(record, linear)
    # The correction reads the states: each is to be of size one.
    size = np.maximum(_sizes(A, B, bx, _inputs(record, linear)), 1e-12)
    A, B, C, bx = A / size[:, None] * size, B / size[:, None], C * size, bx / size
    core = nn.ContractingR2DN(
        nu=record.nu + len(A), nx=nx, nv=nv, ny=record.ny, hidden=hidden, rate=rate, activation=activation,
        init=nn.long_memory, key=key,
    )  # fmt: skip
    model = nn.CorrectedR2DN(A, B, C, D, bx, by, core=nn.quiet(core))
    return _start(model, record, linear, 0.0)


def _linear_part(record: Record, linear: LinearFit) -> tuple[np.ndarray, ...]:
    check_record(record)
    of_type(linear, LinearFit, "linear must be what rc.identify.subspace returns")
    check_channels(linear.model, record)
    return linear_part(linear.model.parameterization.explicit())


def _inputs(record: Record, linear: LinearFit) -> np.ndarray:
    return np.concatenate([e.u for e in linear.model.prepared(record).experiments])


def _sizes(A, B, bx, u: np.ndarray) -> np.ndarray:
    no = np.zeros((0, len(A))), np.zeros((0, u.shape[1])), np.zeros(0)
    equilibrium = np.linalg.solve(np.eye(len(A)) - A, bx)
    return np.sqrt(np.mean((run(Linear(A, B, *no), u, np.zeros(len(A)))[1] + equilibrium) ** 2, axis=0))


def _start(model: Parameterization, record: Record, linear: LinearFit, given_up: float) -> Start:
    prepared = linear.model.prepared(record)
    horizon = max(min(HEAD, min(e.samples for e in prepared.experiments) // 2), 1)
    x0 = jnp.asarray(_initial_states(model, prepared), dtype_of(model))
    return Start(model, linear.model.scaling, LearnedState(x0=x0, horizon=horizon), linear.delay, given_up)


def _initial_states(model: Parameterization, prepared: Record) -> np.ndarray:
    """Return for each experiment the state from which the linear part runs nearest to its first samples."""
    A, B, C, D, bx, by = linear_part(model.explicit())
    equilibrium = np.linalg.solve(np.eye(len(A)) - A, bx)
    inner = Linear(A, B, C, D, by + C @ equilibrium)
    found = []
    for e in prepared.experiments:
        e = Series(e.u, e.y, np.all(e.u_mask, axis=1), e.y_mask).part(0, SAMPLES)
        response = (C @ free(A, len(e.u)))[e.y_ok]
        error = (e.y - run(inner, e.u, np.zeros(len(A)))[0])[e.y_ok]
        found.append(equilibrium + regularized(response, error))
    return np.stack(found)
