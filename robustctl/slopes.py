"""Scalar nonlinearities of which the slopes are known."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Slopes:
    """Scalar nonlinearities `w_k = sigma_k(v_k)` with slopes in `[lo_k, hi_k]` between any two points.

    **Arguments:**

    - `lo`: lower bounds of the slopes, (n,).
    - `hi`: upper bounds, (n,).
    """

    lo: np.ndarray
    hi: np.ndarray
    inside, reason = None, ""

    @property
    def fault(self) -> str:
        """Why the bounds bound nothing, empty where they do."""
        if np.shape(self.lo) == np.shape(self.hi) and np.all(self.lo <= self.hi):
            return ""
        return f"slopes must have lower bounds that are at most the upper ones, got {self.lo} and {self.hi}"

    @property
    def multipliers(self) -> int:
        """Number of multipliers: one a neuron."""
        return self.nv

    @property
    def nv(self) -> int:
        """Number of inputs."""
        return self.lo.size

    @property
    def nw(self) -> int:
        """Number of outputs."""
        return self.lo.size

    @property
    def gain(self) -> float:
        """Lipschitz constant in the 2-norm."""
        return float(np.max(np.maximum(np.abs(self.lo), np.abs(self.hi)), initial=0.0))

    def form(self, multiplier: np.ndarray) -> np.ndarray:
        """Return the Pi of `[dv; dw]' Pi [dv; dw] = 2 sum_k T_k (dw_k - lo_k dv_k) (hi_k dv_k - dw_k) >= 0`, T >= 0."""
        T = np.broadcast_to(multiplier, self.lo.shape)
        # 2 T (dw - lo dv) (hi dv - dw), multiplied out: -2 T lo hi dv^2 + 2 T (lo + hi) dv dw - 2 T dw^2.
        cross = np.diag(T * (self.lo + self.hi))
        return np.block([[np.diag(-2 * T * self.lo * self.hi), cross], [cross, np.diag(-2 * T)]])

    def at(self, fraction: float) -> np.ndarray:
        """Return the block with every slope at `lo + fraction (hi - lo)`, (n, n)."""
        return np.diag(self.lo + fraction * (self.hi - self.lo))

    def shrunk(self, fraction: float) -> "Slopes":
        """Return the block with intervals of slopes of that part of their length, about their middle."""
        middle, half = (self.hi + self.lo) / 2, fraction * (self.hi - self.lo) / 2
        return Slopes(middle - half, middle + half)

    def sizes(self, v: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return a size of its inputs and of its outputs a multiplier, given one of each signal."""
        return v, w
