"""The H-infinity norm of any stable linear system."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import scipy.linalg

from ..errors import InvalidModelError
from ..linalg import response
from .balance import connected, power_of_two, scaled
from .bilinear import to_continuous
from .modes import is_stable
from .types import Realization

if TYPE_CHECKING:
    import control as ct

_TOLERANCE = 1e-8
"""Relative, of the level that no other peak may pass; ten times as much is added, so that the result is an upper bound."""


def hinf_norm(system: "ct.StateSpace | Realization") -> float:
    """Return the largest singular value over all frequencies, an upper bound to within 1e-7 relative.

    ::

        |G|_inf = max over w of sigma_max(C (z I - A)^-1 B + D),     z = exp(i w dt), or i w in continuous time

    Between a lower bound, the response at its peaks, and the level that the Hamiltonian's eigenvalues show it not to pass (Bruinsma,
    Steinbuch, Systems & Control Letters 14, 1990), with states, inputs, outputs and time balanced first. A response that is zero up to
    rounding has the norm that rounding leaves.

    **Arguments:**

    - `system`: a `control.StateSpace`, in continuous or discrete time

    **Raises:** `InvalidModelError` for a system with a pole on or outside the stability boundary, whose norm is infinite.

    **Example:** ::

        import control as ct
        gain = rc.classical.hinf_norm(ct.ss(-1.0, 1.0, 1.0, 0.0))   # 1.0
    """
    poles = system.poles()
    if not is_stable(poles, bool(system.dt)):
        raise InvalidModelError(
            f"the system must be stable to have a finite H-infinity norm, got the poles {poles}"
        )
    A, B, C, D = (np.asarray(M, float) for M in (system.A, system.B, system.C, system.D))
    keep = connected(A, B, C)
    A, B, C = A[keep][:, keep], B[keep], C[:, keep]
    if not (len(A) and D.size):
        return float(np.linalg.norm(D, 2)) if D.size else 0.0
    # Discrete time goes to continuous, where a pole's distance from the boundary keeps its digits.
    balanced, gain = _balanced(*(to_continuous(A, B, C, D) if system.dt else (A, B, C, D)))
    return gain * balanced.norm()


def _balanced(A: np.ndarray, B: np.ndarray, C: np.ndarray, D: np.ndarray) -> tuple["_Response", float]:
    """Return a continuous-time system in units in which its numbers are about one, and the factor left on its gain."""
    b, c = (float(power_of_two(float(np.linalg.norm(M)))) for M in (B, C))
    A, B, C, *_ = scaled(A, B / b, C / c, discrete=False)
    # `scaled` divides B and C by the root of the rate, and so the response without D by nothing.
    return _Response(A, B, C, D / b / c), b * c


class _Response(NamedTuple):
    """The frequency response of a balanced continuous-time system."""

    A: np.ndarray
    B: np.ndarray
    C: np.ndarray
    D: np.ndarray

    def norm(self) -> float:
        """Return the largest singular value over all frequencies, rounded up."""
        poles = np.linalg.eigvals(self.A)
        points = np.abs(np.concatenate([poles, poles.imag]))
        points = np.unique(np.concatenate([points, points * 0.7, points * 1.4]))
        lower = self._peak(points)
        for _ in range(60):  # each pass raises the bound to another peak, of which there are not many
            level = lower * (1 + _TOLERANCE)
            if not level > 1e-14 * self._size(points):
                return level
            peak = self._peak(self._crossings(level))
            if peak <= level:
                break
            lower = peak
        return lower * (1 + 10 * _TOLERANCE)

    def _gains(self, omega: np.ndarray) -> np.ndarray:
        """Return the largest singular value at each frequency."""
        return np.linalg.norm(response(self.A, self.B, self.C, self.D, 1j * omega), 2, axis=(1, 2))

    def _size(self, omega: np.ndarray) -> float:
        """Return the size of the terms whose sum the response is."""
        resolvents = np.abs(np.linalg.inv(1j * omega[:, None, None] * np.eye(len(self.A)) - self.A))
        return float(
            np.linalg.norm(
                np.abs(self.C) @ resolvents @ np.abs(self.B) + np.abs(self.D), 2, axis=(1, 2)
            ).max()
        )

    def _peak(self, points: np.ndarray) -> float:
        """Return the largest gain at zero, infinity, the points and the peaks next to the largest of these."""
        omega = np.unique(np.concatenate([[0.0], points[np.isfinite(points) & (points > 0)]]))
        gains = self._gains(omega)
        best = max(float(gains.max()), float(np.linalg.norm(self.D, 2)))
        padded = np.concatenate([[-np.inf], gains, [-np.inf]])
        tops = np.flatnonzero((gains >= padded[:-2]) & (gains >= padded[2:]) & (omega > 0))
        for k in tops[np.argsort(-gains[tops])][:3]:
            low = omega[k - 1] if omega[k - 1] > 0 else omega[k] / 10
            high = omega[k + 1] if k + 1 < len(omega) else omega[k] * 10
            best = max(best, self._zoomed(float(low), float(high)))
        return best

    def _zoomed(self, low: float, high: float) -> float:
        """Return the largest gain near the top between two frequencies."""
        best = 0.0
        for _ in range(12):  # each pass leaves an eighth of the interval; a top is flat to the second order
            omega = np.geomspace(low, high, 17)
            gains = self._gains(omega)
            k = int(np.argmax(gains))
            low, high, best = (
                float(omega[max(k - 1, 0)]),
                float(omega[min(k + 1, 16)]),
                max(best, float(gains[k])),
            )
        return best

    def _crossings(self, level: float) -> np.ndarray:
        """Return the frequencies at which a singular value may equal the level, and points between them.

        All eigenvalues count, not only those on the axis: rounding moves these off it, and a frequency too many costs little.
        """
        A, B, C, D = self.A, self.B, self.C, self.D
        inner = level**2 * np.eye(D.shape[1]) - D.T @ D
        # 1e4: four digits are lost at most; near a level that D itself has, the larger problem without the inverse is better.
        if np.linalg.cond(inner) < 1e4:
            G = np.linalg.solve(inner, np.hstack([D.T @ C, B.T]))
            left, right = np.split(G, [len(A)], axis=1)
            H = np.block([[A + B @ left, B @ right], [-C.T @ (C + D @ left), -(A + B @ left).T]])
            values = np.linalg.eigvals(H)
        else:
            values = self._pencil(level)
        omega = np.unique(np.abs(np.concatenate([np.imag(values), values])))
        omega = omega[np.isfinite(omega) & (omega > 0)]
        return np.concatenate([omega, np.sqrt(omega[1:] * omega[:-1]), omega[-1:] * 10, omega[:1] / 10])

    def _pencil(self, level: float) -> np.ndarray:
        """Return the Hamiltonian's eigenvalues without inverting `level^2 - D'D`, which is singular where D has the norm."""
        A, B, C, D = self.A, self.B, self.C, self.D
        n, (p, m) = len(A), D.shape
        zero = np.zeros
        M = np.block(
            [
                [A, zero((n, n)), B, zero((n, p))],
                [zero((n, n)), -A.T, zero((n, m)), -C.T],
                [C, zero((p, n)), D, -level * np.eye(p)],
                [zero((m, n)), B.T, -level * np.eye(m), D.T],
            ]
        )
        values = scipy.linalg.eigvals(M, scipy.linalg.block_diag(np.eye(2 * n), zero((m + p, m + p))))
        return values[np.isfinite(values)]
