"""How far a linear model may be from the plant: standard deviations of its responses, poles and zeros."""

from __future__ import annotations

import dataclasses
from typing import cast

import numpy as np
import scipy.linalg

from ..data import Record, Scaling
from ..errors import DataError
from ..linear.choose import fit, shortened
from ..linear.covariance import covariance
from ..linear.delays import delayed
from ..linear.polish import polished, response_slopes
from ..linear.response import with_slopes
from ..linear.series import Linear, run
from ..state_space import StateSpace
from ..train.record_model import check_channels
from .subspace import LinearFit, series_of

STEPS, CONVERGED = 100, 1e-8
"""Most steps to the least squared error, and the relative decrease that ends them: the covariance is that of the least."""

Triple = tuple[np.ndarray, np.ndarray, np.ndarray]

FINITE = 1e6
"""Magnitude from which a zero is one at infinity."""


@dataclasses.dataclass(frozen=True, eq=False)
class Spread:
    """Estimates and their standard deviations.

    **Arguments:**

    - `value`: the estimates
    - `covariance`: of their real part, or for complex ones of real and imaginary part, of the estimates' shape and (1, 1) or (2, 2)
    """

    value: np.ndarray
    covariance: np.ndarray

    @property
    def std(self) -> np.ndarray:
        """The standard deviations of real and imaginary part, in a last axis for complex estimates."""
        deviation = np.sqrt(np.maximum(np.diagonal(self.covariance, axis1=-2, axis2=-1), 0))
        return deviation if np.iscomplexobj(self.value) else deviation[..., 0]

    def gain_and_phase(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return gain, phase in rad, the standard deviation of the gain's logarithm, and that of the phase, of complex estimates."""
        gain = np.maximum(np.abs(self.value), 1e-300)
        parts = np.stack([np.real(self.value), np.imag(self.value)], axis=-1) / gain[..., None] ** 2
        turned = np.stack([-parts[..., 1], parts[..., 0]], axis=-1)
        stds = [
            np.sqrt(np.maximum(np.einsum("...i,...ij,...j->...", p, self.covariance, p), 0))
            for p in (parts, turned)
        ]
        return gain, np.angle(self.value), stds[0], stds[1]


@dataclasses.dataclass(frozen=True, eq=False)
class LinearUncertainty:
    """The least-squares model of a record, and the covariance of its numbers.

    **Arguments:**

    - `model`: x+ = A x + B u, y = C x + D u + d of delayed, scaled inputs and scaled outputs
    - `covariance`: of the numbers by which `linear.polish.moved` moves it
    - `delay`: of each input, samples
    - `record`: whose channels and sample time it has
    - `scaling`: of its signals
    """

    model: Linear
    covariance: np.ndarray
    delay: tuple[int, ...]
    record: Record
    scaling: Scaling

    def state_space(self) -> StateSpace:
        """Return the model without its delays, in deviations from its equilibrium, in the signals' own units."""
        A, B, C, D, _ = self.model
        s, r = self.scaling, self.record
        return StateSpace(
            A, B / s.u_std, C * s.y_std[:, None], D * s.y_std[:, None] / s.u_std, r.dt, inputs=r.inputs, outputs=r.outputs,
            input_units=r.input_units, output_units=r.output_units,
        )  # fmt: skip

    def step_response(self, samples: int) -> Spread:
        """Return the responses (samples, ny, nu) to a step of one unit at each input, in units of output per input.

        **Arguments:**

        - `samples`: number of samples
        """
        A, B, C, _, _ = self.model
        model = self.model._replace(d=np.zeros(len(C)))
        values, variances = [], []
        for j, delay in enumerate(self.delay):
            u = np.zeros((samples, B.shape[1]))
            u[delay:, j] = 1.0
            y, x = run(model, u, np.zeros(len(A)))
            J = response_slopes(model, x, u)
            values.append(y)
            variances.append(np.einsum("top,pq,toq->to", J, self._without_offset(), J))
        scale = self.scaling.y_std[:, None] / self.scaling.u_std
        return Spread(
            np.stack(values, axis=2) * scale,
            (np.stack(variances, axis=2) * scale**2)[..., None, None],
        )

    def frequency_response(self, omega: np.ndarray) -> Spread:
        """Return the response (n, ny, nu) at frequencies in rad/s, in units of output per input.

        **Arguments:**

        - `omega`: frequencies (n,), rad/s
        """
        z = np.exp(1j * np.asarray(omega, float) * self.record.dt)
        G, slope = with_slopes(self.model, z)
        turn = z[:, None, None] ** -np.array(self.delay) * self.scaling.y_std[:, None] / self.scaling.u_std
        return spread(G * turn, slope * turn[..., None], self._without_offset())

    def poles(self) -> Spread:
        """Return the poles (nx,) without those of the delays."""
        A, B, C, D, _ = self.model
        values, left, right = cast(Triple, scipy.linalg.eig(A, left=True, right=True))
        at = np.einsum("ik,ik->k", left.conj(), right)
        K = np.einsum("ik,pk->kpi", left.conj(), C @ right) / at[:, None, None]
        rest = np.zeros((len(A), B.size + C.size + D.size))
        return spread(values, np.concatenate([K.reshape(len(A), -1), rest], axis=1), self._without_offset())

    def zeros(self, output: int = 0, input: int = 0) -> Spread:
        """Return the finite zeros from one input to one output.

        **Arguments:**

        - `output`: its number
        - `input`: its number
        """
        A, B, C, D, _ = self.model
        (ny, nx), nu = C.shape, B.shape[1]
        M = np.block([[A, B[:, [input]]], [C[[output]], D[[output]][:, [input]]]])
        N = np.diag(np.append(np.ones(nx), 0.0))
        values, left, right = cast(Triple, scipy.linalg.eig(M, N, left=True, right=True))
        finite = np.isfinite(values) & (np.abs(values) < FINITE)
        values, left, right = values[finite], left[:, finite].conj(), right[:, finite]
        at = np.einsum("ik,ik->k", left[:nx], right[:nx])
        y, u = np.eye(ny)[output], np.eye(nu)[input]
        parts = (
            np.einsum("ik,pk->kpi", left[:nx], C @ right[:nx]), np.einsum("ik,k,p->kpi", left[:nx], right[nx], u),
            np.einsum("k,ik,p->kip", left[nx], right[:nx], y), np.einsum("k,k,q,p->kqp", left[nx], right[nx], u, y),
        )  # fmt: skip
        slope = np.concatenate([p.reshape(len(values), -1) for p in parts], axis=1) / at[:, None]
        return spread(values, slope, self._without_offset())

    def _without_offset(self) -> np.ndarray:
        ny = len(self.model.C)
        return self.covariance[:-ny, :-ny]


def spread(values: np.ndarray, slope: np.ndarray, covariance: np.ndarray) -> Spread:
    """Return complex numbers with what the covariance of a model's numbers makes of theirs.

    **Arguments:**

    - `values`: the numbers
    - `slope`: their derivatives to the model's numbers, in a last axis
    - `covariance`: of those
    """
    parts = np.stack([np.real(slope), np.imag(slope)], axis=-2)
    return Spread(values.astype(complex), parts @ covariance @ parts.swapaxes(-1, -2))


def uncertainty(linear: LinearFit, record: Record) -> LinearUncertainty:
    """Return the model of least free-run error of a fit's order and delays, and the covariance of its numbers.

    ::

        min over A, B, C, D, offset, x0 of  sum (y - y_hat)^2,      covariance = (J'J)^-1 J' R J (J'J)^-1

    R is the covariance of the residuals, that of an autoregressive model of them, because free-run residuals are rarely white. The
    model is that of the fit where validation preferred nonlinear least squares, else one near it. The deviations hold where the plant is
    linear, of the fit's order, and its noise does not depend on the inputs: in closed loop, or with a nonlinear plant, the model is off
    by a bias that no covariance contains.

    **Arguments:**

    - `linear`: from `rc.identify.subspace`
    - `record`: that it was fitted to

    **Raises:** `DataError` for a record with other channels or sample time, and one that does not have enough samples for the order.

    **Source:** L. Ljung, "System Identification", 2nd ed., section 9.2.

    **Example:** ::

        record = rc.problems.two_tanks(600, seed=0)
        known = rc.identify.uncertainty(rc.identify.subspace(record, order=2), record)
        print(known.poles().value, known.poles().std)
    """
    check_channels(linear.model, record)
    scaling = linear.model.scaling
    late = [delayed(e, linear.delay) for e in series_of(record, scaling)]
    models, _, _ = fit(late, [(linear.order, True)])
    short = shortened(late, linear.order)
    model = polished(models[linear.order, True], short, 1 - 1e-9, steps=STEPS, enough=CONVERGED)
    rows = sum(int(e.y_ok.sum()) for e in short)
    if rows < 2 * (model.A.size + model.B.size):
        raise DataError(
            f"the covariance of a model of order {linear.order} needs {2 * (model.A.size + model.B.size)} measured outputs, got {rows}; "
            "use a longer record or a lower order"
        )
    return LinearUncertainty(model, covariance(model, short), linear.delay, record, scaling)
