"""Whether a system keeps the promise that it makes: the numbers that prove it, checked from the explicit matrices alone."""

import dataclasses

import numpy as np

from ..lft import BOUND_ROUNDING
from ..system import System
from .certificate import Certificate
from .dissipation import Inequality, NotDescribedError, described, positive_definite
from .faults import system_fault
from .metric import find_metric
from .rate import rate_found


def promised(system: System) -> Certificate:
    """Return the certificate of what a system claims, without the model's name, weights and further assumptions."""
    if reason := system.flag_fault():
        return _void(reason)
    # Described first: a class refuses arrays that it knows not to fit with its own message.
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        try:
            claims, reason = _claims(system), ""
        except NotDescribedError as error:
            claims, reason = [], str(error)
    if reason := system_fault(system) or reason:
        return _void(reason)
    found = [_of_one(f) for f in claims]
    return found[0] if len(found) == 1 else _of_modes(found)


def _claims(system: System) -> list[Inequality]:
    found = []
    for mode, f in described(system):
        if f is None:
            raise NotDescribedError(f"{type(mode).__name__} makes no claim: nothing about it is guaranteed")
        found.append(f)
    return found


def _void(reason: str) -> Certificate:
    return _certificate(None, float("inf"), None, reason)


def _of_one(f: Inequality) -> Certificate:
    if f.fault:
        return _void(f.fault)
    if f.form.nx == 0:
        return _of_static(f)
    P, found = find_metric(f)
    reason = _why_not(f, found)
    return _certificate(f, found, P, reason)


def _certificate(f: Inequality | None, margin: float, P: np.ndarray | None, reason: str) -> Certificate:
    """Fill in what follows from the inequality; the model's name and weights are the caller's."""
    supply = f.claim.supply if f else None
    rate = f.claim.rate if f and f.form.nx else None  # without a state there is nothing to forget
    return Certificate(
        holds=not reason, margin=margin, rate=rate,
        rate_found=rate_found(f, P) if f and P is not None and not reason else None,
        gamma=_gain(supply), supply=tuple(M.tolist() for M in supply) if supply and rate is not None else None,
        phi_bound=f.network_bound if f else None, P=P, reason=reason,
        assumptions=f.form.assumptions if f else (), model="", dtype="", weights_sha256="", fingerprint="",
    )  # fmt: skip


def _of_static(f: Inequality) -> Certificate:
    """A map without state: nothing to forget, and a gain of at most `|D21| |blocks| |D12| + |D22|`, D11 = 0."""
    gain, claimed, form = f.network_bound or 0.0, _gain(f.claim.supply), f.form
    if claimed is None:
        return _certificate(
            f, float("inf"), None, "a map without state needs a gain to claim, and this one has none"
        )
    if form.D11.any() or not all(np.isfinite(M).all() for M in form.matrices):
        return _certificate(
            f,
            float("inf"),
            None,
            "only a finite map with one nonlinear block between its ports can be bounded",
        )
    proven = np.linalg.norm(form.D21, 2) * gain * np.linalg.norm(form.D12, 2) + np.linalg.norm(form.D22, 2)
    margin = float(proven * (1 + BOUND_ROUNDING) / claimed - 1) if np.isfinite(proven) else float("inf")
    holds = margin < 0 and np.isfinite(claimed)
    reason = _without_bound(f) or "the network's bound could not be proven to be below one"
    return _certificate(f, margin, None, "" if holds else reason)


def _of_modes(found: list[Certificate]) -> Certificate:
    """The weakest of the certificates of all modes, which must share metric and claim: then switching does no harm."""
    worst = max(found, key=lambda c: c.margin)
    if all(c.holds and _same_claim(c, worst) for c in found):
        return dataclasses.replace(worst, rate_found=max(c.rate_found or 1.0 for c in found))
    reason = (
        worst.reason
        or "the modes between which the system switches could not be proven with one metric and claim"
    )
    return dataclasses.replace(worst, holds=False, rate_found=None, reason=reason)


def _same_claim(a: Certificate, b: Certificate) -> bool:
    if a.P is None or b.P is None:
        return False
    return np.array_equal(a.P, b.P) and (a.rate, a.supply) == (b.rate, b.supply)


def _why_not(f: Inequality, found: float) -> str:
    if not all(np.isfinite(M).all() for M in f.form.matrices):
        return "the model has weights that are not finite; train again with a smaller step"
    if not np.isfinite(f.network_bound or 0.0):
        return (
            _without_bound(f)
            or "the network inside offers no finite bound that can be checked; give it a method lipschitz_bound(), or use LBDN"
        )
    if f.claim.supply is not None and not positive_definite(-f.claim.supply[0]):
        return "Q of the supply rate must be negative definite for it to bound anything"
    if not found < 0:
        return "the dissipation inequality could not be proven in float64 for this rate and supply rate"
    return ""


def _without_bound(f: Inequality) -> str:
    return next((block.reason for block in f.form.blocks if block.reason), "")


def _gain(supply: tuple[np.ndarray, np.ndarray, np.ndarray] | None) -> float | None:
    """Gain that the supply rate implies: `|LQ (y + Q^-1 S'u)| <= |LR u|`; exact for a gain bound."""
    if supply is None or not positive_definite(-supply[0]):
        return None
    Q, S, R = supply
    # Scaled by its diagonal first: of outputs in unlike units Q is too badly conditioned to be inverted as it stands.
    d = 1 / np.sqrt(-np.diag(Q))
    root = np.linalg.cholesky(-d[:, None] * Q * d)
    out = d[:, None] * np.linalg.inv(root).T  # out out' = -Q^-1
    QS = -out @ (out.T @ S.T)
    LR = np.sqrt(max(np.linalg.eigvalsh(R - S @ QS)[-1], 0.0))
    return float(LR * np.linalg.norm(out, 2) + np.linalg.norm(QS, 2))
