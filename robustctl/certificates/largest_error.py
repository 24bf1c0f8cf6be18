"""How wrong a model may be: the largest model error with which a loop is still proven to be stable, and gains on the way there."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..system import System
from .coordinates import opened
from .dissipation import NotDescribedError
from .loop_certificate import LoopCertificate, Pair
from .loop_gains import (
    assumed,
    certify_loop,
    explained,
    ports_of,
    stability_margin,
    stable,
    void,
    whole_form,
)
from .model_error import ModelError, around, as_errors, with_errors
from .progress import deadline_after
from .proof import Proof
from .prove import fault_of, least_gain

_OWN_METRIC = (1.01, 1.005, 1.002, 0.998, 0.995, 0.99)
"""Factors on the largest gain that are tried with another metric, where that of the gain is too badly conditioned."""


class LargestError(NamedTuple):
    """The largest gain of a model error with which a loop is proven to be stable.

    **Arguments:**

    - `gain`: of the error; 0 where the loop is not proven without it.
    - `certificate`: of the loop with this error, to store and `recheck`.
    """

    gain: float
    certificate: LoopCertificate


def largest_error(
    loop: System, at: str = "output", weight: Any = None, *, error: ModelError | Sequence[ModelError] | None = None,
    seconds: float = 60.0,
) -> LargestError:  # fmt: skip
    """Return the largest gain of a model error that leaves the loop's stability proven.

    ::

        largest gain = 1 / g,      g the least proven gain from p to q = W u   in the loop without the error,  p = Delta(q)

    For one error both are the same matrix inequality, so that no bisection is needed; of a linear loop it is the small-gain theorem, exact.
    With `weight=delay_error(1).weight` and `at="input"` it is the number of samples of delay that the loop is proven to bear.

    **Arguments:**

    - `loop`: as for `rc.certify`.
    - `at`: where the error is, as in `ModelError`.
    - `weight`: of the error, as in `ModelError`.
    - `error`: further errors, whose gains are fixed.
    - `seconds`: time limit of the search.

    **Raises:** `RobustctlError` for seconds that are not positive, and as `rc.certificates.certify_loop`.

    **Example:** ::

        lag = rc.StateSpace([[0.9]], [[0.1]], [[1.0]], [[0.0]], dt=0.1)
        loop = rc.loops.feedback(rc.loops.ModelPlant(lag), rc.classical.PID(2.0, 1.0, dt=0.1))
        print(rc.certificates.largest_error(loop, at="output").gain)
    """
    deadline = deadline_after(seconds)
    others, wanted = as_errors(error), ModelError(1.0, at, weight)
    try:
        ports = ports_of(loop)
    except NotDescribedError as fault:
        return LargestError(0.0, void(loop, others, str(fault)))
    for one in (*others, wanted):
        one.check_sample_time(loop.dt)
    known = with_errors(ports, others)
    form = opened(around(known, wanted))
    found = least_gain(form, deadline)
    if found.proof is None:
        return LargestError(
            0.0, explained(void(loop, others, fault_of(form) or found.reason), ports, others, deadline)
        )
    for factor in (1 - 1e-9, 1 - 1e-6, 1 - 1e-4, *_OWN_METRIC):
        largest = dataclasses.replace(wanted, gain=factor / found.proof.value)
        closed = with_errors(known, [largest])
        proof: Proof | None = _proof_with(largest.gain, found.proof)
        if factor in _OWN_METRIC:
            proof = stable(whole_form(closed), deadline, True).proof
        margin = stability_margin(closed, proof) if proof else np.inf
        if proof and margin < 0:
            errors = (*others, largest)
            certificate = dataclasses.replace(
                void(loop, errors, ""), holds=True, margin=margin, rate_proof=proof,
                assumptions=(*assumed(loop, errors), *whole_form(closed).assumptions),
            )  # fmt: skip
            return LargestError(largest.gain, certificate)
    return LargestError(0.0, void(loop, others, "the proof of the largest error does not survive rounding"))


def _proof_with(gain: float, proof: Proof) -> Proof:
    """Return the proof of stability with an error that the proof of a gain is."""
    # The block's form is divided by a gain above one: with this multiplier the matrix is that of the gain.
    multiplier = np.array([max(gain, 1.0) ** 2 / gain**2])
    return Proof(1.0, proof.P, (*proof.multipliers, multiplier))


class ErrorTable(NamedTuple):
    """What is proven of a loop for model errors of several gains; printed, it is a table.

    **Arguments:**

    - `pairs`: the gains that were searched.
    - `certificates`: one per error, in the order of their gains.
    """

    pairs: tuple[Pair, ...]
    certificates: tuple[LoopCertificate, ...]

    def __str__(self) -> str:
        """Return the table as text."""
        lines = ["error   " + "".join(f"{f'{a} to {b}':>12}" for a, b in self.pairs)]
        for certificate in self.certificates:
            cells = [certificate.gains.get(pair) for pair in self.pairs]
            texts = [f"{gain:.4g}" if gain is not None else "not proven" for gain in cells]
            lines.append(f"{certificate.errors[-1].gain:<8.4g}" + "".join(f"{text:>12}" for text in texts))
        return "\n".join(lines)


def error_table(
    loop: System, errors: Sequence[float], at: str = "output", weight: Any = None, *, gains: Sequence[Pair] = (("d", "y"),),
    seconds: float = 60.0,
) -> ErrorTable:  # fmt: skip
    """Return the gains that are proven of a loop for model errors of several gains.

    **Arguments:**

    - `loop`: as for `rc.certify`.
    - `errors`: gains of the error, 0 for a model without one.
    - `at`: where the error is, as in `ModelError`.
    - `weight`: of the error, as in `ModelError`.
    - `gains`: pairs of signals, as for `rc.certificates.certify_loop`.
    - `seconds`: time limit for each error.

    **Raises:** as `rc.certificates.certify_loop`.

    **Example:** ::

        lag = rc.StateSpace([[0.9]], [[0.1]], [[1.0]], [[0.0]], dt=0.1)
        loop = rc.loops.feedback(rc.loops.ModelPlant(lag), rc.classical.PID(2.0, 1.0, dt=0.1))
        print(rc.certificates.error_table(loop, [0.0, 0.1, 0.2]))
    """
    given = [ModelError(gain, at, weight) for gain in errors]
    pairs = tuple((a, b) for a, b in gains)
    return ErrorTable(pairs, tuple(certify_loop(loop, gains=pairs, error=e, seconds=seconds) for e in given))
