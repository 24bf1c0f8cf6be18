"""Peak bounds and regions checked again without a search."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import RobustctlError
from ..system import System
from .content import fingerprint
from .peak import TOGETHER, PeakBounds, constant, disturbed
from .region import Region, region_of
from .region_loop import Given
from .region_program import proven

_SAME = 1e-9
"""Relative difference of numbers that are computed again, perhaps on another machine."""


def recheck_peaks(found: PeakBounds, system: System) -> None:
    """Prove every bound again from its metric and multipliers, as `recheck` does."""
    _check_origin(found.fingerprint, system, "peak bounds")
    case = disturbed(system, found.disturbance.get(TOGETHER, found.disturbance))
    proven = {}
    for name in found.bounds:
        form, proof = case.of(name), found.proofs.get(name)
        if proof is None:
            proven[name] = 0.0 if constant(form) else math.inf
        elif proof.holds(form, case.groups):
            proven[name] = proof.value
        else:
            raise RobustctlError(
                f"metric and multipliers must prove the bound of {name}, {found.bounds[name]:.6g}, got matrices that are not negative "
                "definite, or of other sizes; compute the bounds again"
            )
    rates = {name: proof.rate for name, proof in found.proofs.items()}
    if not (_same(found.bounds, proven) and found.rates == rates):
        raise RobustctlError(
            f"bounds and rates must be what is proven, {proven} at {rates}, got {found.bounds} at {found.rates}; compute the bounds again"
        )


def recheck_region(found: Region, loop: System) -> None:
    """Prove a region again from its metric and multipliers, as `recheck` does; the Jacobian is bounded on its box again."""
    _check_origin(found.fingerprint, loop, "a region")
    given = Given.of(loop, found.box, found.middle, found.reference)
    watched = given.watched(1.0)
    again = proven(watched, found.P, found.proof)
    if again is None:
        raise RobustctlError(
            "metric and multipliers must prove the region, got matrices that are not negative definite, or of other sizes; "
            "compute the region again"
        )
    wanted = region_of(given, watched, again)
    for name in ("disturbance", "bounds", "starts", "box"):
        given_value, proven_value = (getattr(each, name) for each in (found, wanted))
        if not _same(given_value, proven_value):
            raise RobustctlError(
                f"{name} must be what is proven, {proven_value}, got {given_value}; compute the region again"
            )
    if (found.rate, found.states) != (wanted.rate, wanted.states):
        raise RobustctlError(
            f"rate and states must be what is proven, {wanted.rate} of {wanted.states}, got {found.rate} of {found.states}; "
            "compute the region again"
        )


def _check_origin(given: str, system: System, what: str) -> None:
    if given != fingerprint(system):
        raise RobustctlError(
            f"they must be {what} of this system, got those of one with other parts or weights; compute them again"
        )


def _same(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Return whether both have the same numbers, rounding apart."""
    return a.keys() == b.keys() and all(np.isclose(a[name], b[name], rtol=_SAME, atol=0.0) for name in a)
