"""A certificate as text for people."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .certificate import Certificate


def text_of(c: "Certificate") -> str:
    """Return what is proven, what was promised, what a search found, and what proves it."""
    verdict = "HOLDS" if c.holds else "DOES NOT HOLD"
    lines = [
        f"certificate of {c.model} ({c.dtype}): {verdict}", *_claims(c), *_compared(c),
        *(f"  unproven      {text}" for text in c.unproven), *([f"  disproved     {c.disproof}"] if c.disproof else []), *_inequality(c),
        *(f"  assumed       {text}" for text in c.assumptions), f"  weights       sha256 {c.weights_sha256[:16]}...",
    ]  # fmt: skip
    return "\n".join(lines)


def _claims(c: "Certificate") -> list[str]:
    lines = [f"  reason        {c.reason}"] if c.reason else []
    if c.rate is not None:
        lines.append(f"  contraction   V(dx+) <= rate^2 V(dx), rate = {c.rate:.6g} per sample")
    if c.holds and c.rate_found is not None and c.rate_proof is None:
        lines.append(f"                this metric proves a rate of {c.rate_found:.6g}")
    if c.gamma is not None:
        lines.append(f"  gain          |dy| <= gamma |du|, gamma = {c.gamma:.6g}")
    if c.scaled_gamma is not None:
        lines.append(f"                between scaled signals gamma = {c.scaled_gamma:.6g}")
    if c.supply_margin is not None:
        lines.append(f"  supply rate   (Q, S, R - m I), m = {c.supply_margin:.6g}")
    return lines


def _compared(c: "Certificate") -> list[str]:
    """What was promised and what a search found, each over or under what is proven."""
    lines = []
    if c.gain_proof is not None or c.rate_proof is not None:
        rate = "no rate" if c.promised_rate is None else f"rate = {c.promised_rate:.6g}"
        gain = "no gain" if c.promised_gamma is None else f"gamma = {c.promised_gamma:.6g}"
        times = (
            f" ({c.promised_gamma / c.gamma:.3g} times the proven one)"
            if c.promised_gamma and c.gamma
            else ""
        )
        lines.append(f"  promised      {rate}, {gain}{times}, by construction")
    if c.lower_bound is not None:
        times = f" ({c.lower_bound / c.gamma:.3g} times the proven one)" if c.gamma else ""
        lines.append(f"  searched      gamma is at least {c.lower_bound:.6g}{times}")
    return lines


def _inequality(c: "Certificate") -> list[str]:
    lines = []
    if c.phi_bound is not None:
        lines.append(f"  network       Lipschitz bound {c.phi_bound:.8g}")
    if c.P is not None:
        lines += [
            f"  inequality    largest relative eigenvalue {c.margin:.3g}, rounding included (must be < 0)",
            f"  metric        P is {len(c.P)} x {len(c.P)}, condition number {np.linalg.cond(c.P):.3g}",
        ]
    return lines
