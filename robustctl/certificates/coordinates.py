"""A form that a solver can work with: its networks opened to their neurons, its signals in balanced coordinates."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..lft import LFT, Bounded, Slopes, block_form, joined, linear, signals
from ..linalg import response

LEAST = 1e-7
"""Of a state's reachability or observability, relative to the largest: states that nearly nothing moves keep finite coordinates."""

IDLE = 1e-2
"""The same for a second attempt where there are such states: rounding in their coordinates may exceed what a proof leaves."""


def opened(form: LFT) -> LFT:
    """Return the form with every network that describes its inside replaced by its neurons.

    **Raises:** `InvalidModelError` for a loop that is algebraic without a solution.
    """
    if all(block.inside is None for block in form.blocks):
        return form
    plant = linear(
        form.A, np.hstack([form.B2, form.B1]), np.vstack([form.C2, form.C1]),
        np.block([[form.D22, form.D21], [form.D12, form.D11]]),
    )._replace(roundings=form.roundings)  # fmt: skip
    parts = [plant, *(_part(block) for block in form.blocks)]
    y_and_v, *w, u = signals(parts, form.nu)
    y, v = np.split(y_and_v, [form.ny])
    whole = joined(parts, [u, *w, v], [y])
    return whole._replace(assumptions=tuple(dict.fromkeys((*form.assumptions, *whole.assumptions))))


def _part(block: Slopes | Bounded) -> LFT:
    if block.inside is not None:
        return opened(block.inside)
    return block_form(block)


def at_slopes(form: LFT, fraction: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return `(A, B, C, D)` with every slope at `lo + fraction (hi - lo)`, and with zero in place of bounded blocks.

    **Raises:** `numpy.linalg.LinAlgError` where the neurons' own loop has no solution there.
    """
    gain, row, column = np.zeros((form.B1.shape[1], len(form.C1))), 0, 0
    for D in (block.at(fraction) for block in form.blocks):
        gain[row : row + D.shape[0], column : column + D.shape[1]] = D
        row, column = row + D.shape[0], column + D.shape[1]
    closed = np.linalg.solve(np.eye(len(gain)) - gain @ form.D11, gain)
    B, D = closed @ form.C1, closed @ form.D12
    return form.A + form.B1 @ B, form.B2 + form.B1 @ D, form.C2 + form.D21 @ B, form.D22 + form.D21 @ D


def spectral_radius(A: np.ndarray) -> float:
    """Return the largest absolute value of an eigenvalue, 0 for none."""
    return float(np.abs(np.linalg.eigvals(A)).max(initial=0.0)) if len(A) else 0.0


class Coordinates(NamedTuple):
    """A form, or those of all modes, in balanced coordinates, and how to return from them.

    ::

        x = T x_balanced,    v_k = d_k v_k,balanced,    w_k = d_k w_k,balanced,    y = size y_balanced

    `d` has an array per block, of one number a neuron and one a bounded block; `others`: the forms of modes after the first.
    """

    form: LFT
    T: np.ndarray
    d: tuple[np.ndarray, ...]
    size: float
    others: tuple[LFT, ...] = ()

    @property
    def forms(self) -> tuple[LFT, ...]:
        """The forms of all modes."""
        return self.form, *self.others

    def metric(self, P: np.ndarray) -> np.ndarray:
        """Return the metric in the original coordinates, symmetric."""
        inverse = np.linalg.inv(self.T) if len(self.T) else self.T
        P = self.size**2 * inverse.T @ P @ inverse
        return (P + P.T) / 2

    def multipliers(self, balanced: list[np.ndarray]) -> tuple[np.ndarray, ...]:
        """Return the multipliers of the original blocks."""
        return tuple(self.size**2 * t / d**2 for t, d in zip(balanced, self.d, strict=True))


def balance(*forms: LFT, least: float = LEAST, states_of: LFT | None = None) -> Coordinates:
    """Return modes in balanced coordinates: of the linear systems with all slopes at their lower ends, then of each neuron.

    `least`: of a state's reachability or observability, relative to the largest; `states_of`: a form of the same states whose
    signals decide their coordinates, default those of `forms`.

    **Raises:** `numpy.linalg.LinAlgError` where such a system is not stable.
    """
    T = _balancing(forms if states_of is None else [states_of], least)
    inverse = np.linalg.inv(T) if len(T) else T
    moved = [
        form._replace(
            A=inverse @ form.A @ T, B1=inverse @ form.B1, B2=inverse @ form.B2, C1=form.C1 @ T, C2=form.C2 @ T
        )
        for form in forms
    ]
    size = max(_gain_estimate(form) for form in moved)
    # The outputs shrink by this size: half of it goes to the states, so that B and C stay alike.
    half, T = np.sqrt(size), T * np.sqrt(size)
    first, *others = found = [_neurons_balanced(form, half, size) for form in moved]
    d = tuple(scale for _, scales in found for scale in scales)
    return Coordinates(first[0], T, d, size, tuple(form for form, _ in others))


def _neurons_balanced(form: LFT, half: float, size: float) -> tuple[LFT, list[np.ndarray]]:
    form = form._replace(
        B1=form.B1 / half, B2=form.B2 / half, C1=form.C1 * half,
        C2=form.C2 / half, D21=form.D21 / size, D22=form.D22 / size,
    )  # fmt: skip
    d = [np.ones(block.multipliers) for block in form.blocks]
    for _ in range(3):  # rows of one neuron are columns of another
        once = _sizes(form)
        form = _scaled(form, once)
        d = [a * b for a, b in zip(d, once, strict=True)]
    return form, d


def has_idle_states(forms: Sequence[LFT]) -> bool:
    """Return whether there are states that nearly nothing moves or that act on nearly nothing, as a copy of another state has.

    **Raises:** as `balance`.
    """
    if forms[0].nx == 0:
        return False
    _, *gramians = _gramians(forms)
    values = [np.linalg.eigvalsh(W) for W in gramians]
    return any(v[0] < LEAST**2 * v[-1] for v in values)


def _balancing(forms: Sequence[LFT], least: float) -> np.ndarray:
    """Return T of the balanced realization, by the square roots of both Gramians, which modes have on average."""
    if forms[0].nx == 0:
        return np.zeros((0, 0))
    scale, *gramians = _gramians(forms)
    reached, seen = (_root(W, least) for W in gramians)
    _, singular, right = np.linalg.svd(seen.T @ reached)
    return scale[:, None] * (reached @ right.T / np.sqrt(singular))


def _gramians(forms: Sequence[LFT]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return sizes of the states, and in these units the Gramians of reachability and observability."""
    parts = []
    for form in forms:
        A, B, C, _ = at_slopes(form)
        if not spectral_radius(A) < 1:
            raise np.linalg.LinAlgError("not stable")
        parts.append((A, np.hstack([B, form.B1]), np.vstack([C, form.C1])))
    # States first in the sizes that their inputs move them to, so that the Gramians are not those of unlike units.
    moved = np.sqrt(np.mean([np.diag(_gramian(A, B)) for A, B, _ in parts], axis=0))
    scale = np.where((moved > 0) & np.isfinite(moved), moved, 1.0)
    parts = [(A * scale / scale[:, None], B / scale[:, None], C * scale) for A, B, C in parts]
    reached = np.mean([_gramian(A, B) for A, B, _ in parts], axis=0)
    return scale, reached, np.mean([_gramian(A.T, C.T) for A, _, C in parts], axis=0)


def _gramian(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """Return `sum over k of A^k B B' A'^k`, by doubling, in which nothing cancels."""
    W = B @ B.T
    for _ in range(60):
        W = W + A @ W @ A.T
        A = A @ A
        if not np.abs(A).max() > 1e-20:
            break
    return (W + W.T) / 2


def _root(W: np.ndarray, least: float) -> np.ndarray:
    values, vectors = np.linalg.eigh((W + W.T) / 2)
    return vectors * np.sqrt(np.maximum(values, max(least**2 * values[-1], 1e-200)))


def _gain_estimate(form: LFT) -> float:
    """Return the largest gain of the linear system with all slopes halfway, or at their lower ends, at a few frequencies."""
    for fraction in (0.5, 0.0):
        A, B, C, D = at_slopes(form, fraction)
        if spectral_radius(A) < 1:
            found = _largest_response(A, B, C, D)
            if found > 0:
                return found
    return 1.0


def _largest_response(A: np.ndarray, B: np.ndarray, C: np.ndarray, D: np.ndarray) -> float:
    if not D.size:
        return 0.0
    angles = np.concatenate([np.linspace(0, np.pi, 17), np.abs(np.angle(np.linalg.eigvals(A)))])
    return float(np.linalg.norm(response(A, B, C, D, np.exp(1j * angles)), 2, axis=(1, 2)).max())


def _sizes(form: LFT) -> list[np.ndarray]:
    """Return for each block the scale at which its rows and its columns have the same norm."""
    rows = np.linalg.norm(np.hstack([form.C1, form.D11, form.D12]), axis=1)
    columns = np.linalg.norm(np.vstack([form.B1, form.D11, form.D21]), axis=0)
    found, v, w = [], 0, 0
    for block in form.blocks:
        row, column = block.sizes(rows[v : v + block.nv], columns[w : w + block.nw])
        v, w = v + block.nv, w + block.nw
        ratio = np.sqrt(
            np.where((row > 0) & (column > 0), row, 1) / np.where((row > 0) & (column > 0), column, 1)
        )
        found.append(np.exp2(np.round(np.log2(ratio))))
    return found


def _scaled(form: LFT, d: list[np.ndarray]) -> LFT:
    pairs = list(zip(form.blocks, d, strict=True))
    v = np.concatenate([np.broadcast_to(a, b.nv) for b, a in pairs]) if pairs else np.zeros(0)
    w = np.concatenate([np.broadcast_to(a, b.nw) for b, a in pairs]) if pairs else np.zeros(0)
    return form._replace(
        B1=form.B1 * w, D21=form.D21 * w, C1=form.C1 / v[:, None], D12=form.D12 / v[:, None],
        D11=form.D11 * w / v[:, None],
    )  # fmt: skip
