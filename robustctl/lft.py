"""What is known of a system for a proof: a linear part, and blocks of which only bounds are known.

::

    x+ = A x + B1 w + B2 u
    v  = C1 x + D11 w + D12 u,      w = blocks(v)
    y  = C2 x + D21 w + D22 u

of differences between two trajectories, so that offsets drop out. Everything is float64 NumPy: a linear fractional
transformation (LFT) is read by proofs, and never stepped. Source: the standard form of robust control (Zhou, Doyle,
Glover, "Robust and Optimal Control", 1996, chapter 10), with incremental bounds.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .errors import InvalidModelError
from .linalg import PRODUCT_ROUNDINGS, amplified, cancellation, closed_wiring
from .slopes import Slopes as Slopes

BOUND_ROUNDING = 1e-11
"""Relative rounding of a network's bound in float64: of eigenvalues and norms of layers up to thousands wide, multiplied."""


@dataclasses.dataclass(frozen=True, eq=False)
class Bounded:
    """A nonlinearity of which a Lipschitz bound is known: `|dw| <= gain |dv|` between any two points.

    **Arguments:**

    - `nv`: number of inputs.
    - `nw`: number of outputs.
    - `gain`: the bound as computed in float64, infinite where none is known; `form` adds what rounding can do to it.
    - `inside`: its own form without state, from v to w, for proofs that look inside; None where unknown.
    - `reason`: why no bound is known, in words.
    """

    nv: int
    nw: int
    gain: float
    inside: "LFT | None" = None
    reason: str = ""
    multipliers = 1

    @property
    def fault(self) -> str:
        """Why the bound bounds nothing, empty where it does."""
        return f"a bound must be at least 0, got {self.gain}" if self.gain < 0 else ""

    def form(self, multiplier: np.ndarray) -> np.ndarray:
        """Return the Pi of `[dv; dw]' Pi [dv; dw] = lambda (gain^2 |dv|^2 - |dw|^2) >= 0`, lambda >= 0.

        It is divided by a gain above one, so that its entries stay of the size of the identity's.
        """
        # gain^2 |dv|^2 - |dw|^2, divided by max(gain, 1)^2
        gain = self.gain * (1 + BOUND_ROUNDING)
        v, w = np.full(self.nv, min(gain, 1.0) ** 2), np.full(self.nw, -1.0 / max(gain, 1.0) ** 2)
        return np.diag(np.concatenate([v, w])) * float(np.squeeze(multiplier))

    def at(self, fraction: float) -> np.ndarray:
        """Return zeros (nw, nv), what every bound admits."""
        return np.zeros((self.nw, self.nv))

    def shrunk(self, fraction: float) -> "Bounded":
        """Return the block itself: it has no slopes."""
        return self

    def sizes(self, v: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the sizes of its inputs and of its outputs, one each, given one of each signal."""
        return np.atleast_1d(np.linalg.norm(v)), np.atleast_1d(np.linalg.norm(w))


class LFT(NamedTuple):
    """A linear part and the blocks around it, in the order of their signals in v and w.

    **Arguments:**

    - `A`: (nx, nx), float64 as are all matrices.
    - `B1`: (nx, nw).
    - `B2`: (nx, nu).
    - `C1`: (nv, nx).
    - `D11`: (nv, nw).
    - `D12`: (nv, nu).
    - `C2`: (ny, nx).
    - `D21`: (ny, nw).
    - `D22`: (ny, nu).
    - `blocks`: `Slopes` and `Bounded`.
    - `assumptions`: what was assumed and not checked, in words.
    - `roundings`: how many times the rounding of float64 the entries may be off, each relative to its own size; 0 for a system's
      own numbers.
    """

    A: np.ndarray
    B1: np.ndarray
    B2: np.ndarray
    C1: np.ndarray
    D11: np.ndarray
    D12: np.ndarray
    C2: np.ndarray
    D21: np.ndarray
    D22: np.ndarray
    blocks: tuple[Slopes | Bounded, ...] = ()
    assumptions: tuple[str, ...] = ()
    roundings: float = 0.0

    @property
    def matrices(self) -> tuple[np.ndarray, ...]:
        """The nine matrices, in the order of the fields."""
        return self.A, self.B1, self.B2, self.C1, self.D11, self.D12, self.C2, self.D21, self.D22

    @property
    def nx(self) -> int:
        """Number of states."""
        return self.A.shape[0]

    @property
    def nu(self) -> int:
        """Number of inputs."""
        return self.D22.shape[1]

    @property
    def ny(self) -> int:
        """Number of outputs."""
        return self.D22.shape[0]


class Claim(NamedTuple):
    """What a system was built to satisfy, and the numbers that should prove it; a certificate trusts none of them.

    ::

        V(dx+) - rate^2 V(dx) <= dy' Q dy + 2 du' S dy + du' R du,      V(dx) = dx' P dx

    **Arguments:**

    - `rate`: contraction rate per sample.
    - `P`: metric (nx, nx), None where one must be found.
    - `supply`: `(Q, S, R)` in float64, None for contraction alone (the right side is zero, for du = 0).
    - `multipliers`: one array a block of the system's `LFT`, None for ones.
    """

    rate: float = 1.0
    P: np.ndarray | None = None
    supply: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
    multipliers: tuple[np.ndarray, ...] | None = None


def float64(*arrays) -> tuple[np.ndarray, ...]:
    """Return arrays as float64 NumPy.

    **Raises:** `TypeError` for complex arrays, whose imaginary part would be lost.
    """
    if any(np.iscomplexobj(a) for a in arrays):
        raise TypeError("a form must be of real arrays, got complex ones; a certificate covers real systems")
    return tuple(np.asarray(a, np.float64) for a in arrays)


def linear(A, B, C, D) -> LFT:
    """Return the form of a linear system, without blocks.

    **Arguments:**

    - `A`: (nx, nx).
    - `B`: (nx, nu).
    - `C`: (ny, nx).
    - `D`: (ny, nu).

    **Example:** ::

        print(rc.lft.linear([[0.9]], [[1.0]], [[1.0]], [[0.0]]).nx)
    """
    A, B, C, D = float64(A, B, C, D)
    return LFT(
        A, np.zeros((len(A), 0)), B, np.zeros((0, len(A))), np.zeros((0, 0)), np.zeros((0, D.shape[1])),
        C, np.zeros((len(D), 0)), D,
    )  # fmt: skip


def static(D11, D12, D21, D22, blocks: Sequence[Slopes | Bounded], assumptions: tuple[str, ...] = ()) -> LFT:
    """Return a form without state: `v = D11 w + D12 u`, `y = D21 w + D22 u`.

    **Arguments:**

    - `D11`: (nv, nw).
    - `D12`: (nv, nu).
    - `D21`: (ny, nw).
    - `D22`: (ny, nu).
    - `blocks`: `Slopes` and `Bounded`, in the order of their signals.
    - `assumptions`: what was assumed and not checked, in words.
    """
    D11, D12, D21, D22 = float64(D11, D12, D21, D22)
    (nv, nw), (ny, nu) = D11.shape, D22.shape
    return LFT(
        np.zeros((0, 0)), np.zeros((0, nw)), np.zeros((0, nu)), np.zeros((nv, 0)), D11, D12, np.zeros((ny, 0)), D21, D22,
        tuple(blocks), assumptions,
    )  # fmt: skip


def block_form(block: Slopes | Bounded) -> LFT:
    """Return the form of one block alone: `v = u`, `y = w`."""
    nv, nw = block.nv, block.nw
    return static(np.zeros((nv, nw)), np.eye(nv), np.eye(nw), np.zeros((nw, nv)), (block,))


def static_gain(D) -> LFT:
    """Return the form of a constant matrix."""
    (ny, nu) = np.shape(D)
    return linear(np.zeros((0, 0)), np.zeros((0, nu)), np.zeros((ny, 0)), D)


def is_linear(form: LFT | None) -> bool:
    """Return whether a form is known and has no nonlinear block."""
    return form is not None and not form.blocks


def interconnect(parts: Sequence[LFT], F, G, H, J) -> LFT:
    """Return parts joined by constant matrices.

    ::

        u = F y + G e,      z = H y + J e

    with u and y the inputs and outputs of all parts, one after the other, e the inputs of the whole and z its outputs.
    Series, feedback, scaling and every loop are choices of these four matrices.

    **Arguments:**

    - `parts`: forms, in the order of their signals.
    - `F`: (nu, ny), from outputs to inputs.
    - `G`: (nu, ne), from the inputs of the whole.
    - `H`: (nz, ny), to the outputs of the whole.
    - `J`: (nz, ne), the direct path.

    **Raises:** `InvalidModelError` for a loop that is algebraic without a solution: `I - D22 F` is singular.
    """
    F, G, H, J = float64(F, G, H, J)
    nine = [block_diagonal(matrices) for matrices in zip(*(part.matrices for part in parts), strict=True)]
    loop = np.eye(nine[-1].shape[0]) - nine[-1] @ F
    try:
        inverse = np.linalg.inv(loop)
    except np.linalg.LinAlgError as error:
        raise InvalidModelError(
            "a loop must have a sample of delay in it or a direct path that can be solved for, got I - D F singular"
        ) from error
    whole, sizes, moved = closed_wiring(nine, inverse, (F, G, H, J))
    inner = max((part.roundings for part in parts), default=0.0)
    # Products of a system's own numbers are off by the rounding of extended precision, products of products by that of float64.
    unit = 1.0 if inner else float(np.finfo(np.longdouble).eps / np.finfo(np.float64).eps)
    found = cancellation((M, unit * size) for M, size in zip(whole, sizes, strict=True))
    assumptions = dict.fromkeys([*(text for part in parts for text in part.assumptions), *found])
    return LFT(
        *whole,
        blocks=tuple(block for part in parts for block in part.blocks),
        assumptions=tuple(assumptions),
        roundings=1.0 + amplified(whole, moved, PRODUCT_ROUNDINGS) * inner,
    )


def block_diagonal(matrices: Sequence[np.ndarray]) -> np.ndarray:
    """Return the block-diagonal matrix; unlike SciPy's, a block without rows or columns counts as it is."""
    rows, columns = (np.cumsum([0, *(M.shape[axis] for M in matrices)]) for axis in (0, 1))
    whole = np.zeros((rows[-1], columns[-1]))
    for k, M in enumerate(matrices):
        whole[rows[k] : rows[k + 1], columns[k] : columns[k + 1]] = M
    return whole


def series(first: LFT, second: LFT) -> LFT:
    """Return `second` after `first`."""
    nu, ny = first.nu + second.nu, first.ny + second.ny
    F, G = np.zeros((nu, ny)), np.zeros((nu, first.nu))
    H, J = np.zeros((second.ny, ny)), np.zeros((second.ny, first.nu))
    F[first.nu :, : first.ny], G[: first.nu], H[:, first.ny :] = (
        np.eye(second.nu),
        np.eye(first.nu),
        np.eye(second.ny),
    )
    return interconnect([first, second], F, G, H, J)


def rescaled(form: LFT, u, y) -> LFT:
    """Return the form with its inputs multiplied by `u` first and its outputs by `y` last.

    **Arguments:**

    - `form`: of nu inputs and ny outputs.
    - `u`: (nu,).
    - `y`: (ny,).
    """
    u, y = float64(u, y)
    return form._replace(
        B2=form.B2 * u, D12=form.D12 * u, C2=y[:, None] * form.C2, D21=y[:, None] * form.D21,
        D22=y[:, None] * form.D22 * u, roundings=form.roundings + 1,
    )  # fmt: skip


def signals(parts: Sequence[LFT], *widths: int) -> list[np.ndarray]:
    """Return the outputs of each part and then the inputs of the whole, `widths` of them, as rows of one identity.

    Sums of rows and `np.vstack` of them are then sums and stacks of signals, from which `joined` reads its matrices.
    """
    counts = [*(part.ny for part in parts), *widths]
    return np.split(np.eye(sum(counts)), np.cumsum(counts)[:-1])


def joined(parts: Sequence[LFT], inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> LFT:
    """Return the form of parts that read `inputs`, one block of signals after the other, seen at `outputs`.

    **Arguments:**

    - `parts`: forms.
    - `inputs`: rows of `signals`, for the inputs of each part.
    - `outputs`: rows of `signals`, for the outputs of the whole.

    **Raises:** `InvalidModelError` for a loop that is algebraic without a solution.
    """
    ny = sum(part.ny for part in parts)
    (F, G), (H, J) = (np.split(np.vstack(rows), [ny], axis=1) for rows in (inputs, outputs))
    return interconnect(parts, F, G, H, J)


def delay(width: int, samples: int) -> LFT:
    """Return the form of `width` signals that come out `samples` samples later."""
    nx, moved = width * samples, width * max(samples - 1, 0)
    # The state is a queue: its first block leaves, the others move up by one block, the new sample goes last.
    A, B, C = np.eye(nx, k=width), np.eye(nx, width, k=-moved), np.eye(width, nx)
    return linear(A, B, C, np.zeros((width, width)) if samples else np.eye(width))


def saturation(limited: np.ndarray) -> LFT:
    """Return the form of signals of which those that are `limited` (n,) are clipped: their slopes are in [0, 1]."""
    # y = u where nothing is clipped, and w(v) with v = u where something is: a function of one signal, slope 0 or 1.
    chosen = np.eye(limited.size)[limited]
    ones = np.ones(len(chosen))
    blocks = (Slopes(np.zeros_like(ones), ones),) if len(chosen) else ()
    return static(np.zeros((len(chosen),) * 2), chosen, chosen.T, np.diag(1.0 - limited), blocks)
