"""The matrix inequality of a system, or of all modes between which it switches, as a program for the interior point.

::

    Z = rate^2 X0'P X0 - S'P S + [Y; U]' [Q S'; S R] [Y; U] + g U'U
        + sum_k T_k [(e - lo v)(e - hi v)' + (e - hi v)(e - lo v)'] + sum_j lambda_j (w_j'w_j - gain_j^2 v_j'v_j) > 0

with the rows `S = [A B1 B2]`, `Y = [C2 D21 D22]`, v of a neuron's input, e of its output. Modes share P and g, and each has
its own multipliers; Z is then block diagonal.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..lft import LFT, Bounded, Slopes
from .coordinates import Coordinates
from .interior_point import Pairs, Program, added, metric, rank_two

Supply = tuple[np.ndarray, np.ndarray, np.ndarray]


def modes_of(form: LFT | Sequence[LFT]) -> list[LFT]:
    """Return the forms of all modes; a system that does not switch has one."""
    return [form] if isinstance(form, LFT) else list(form)


def blocks_of(forms: Sequence[LFT]) -> list[Slopes | Bounded]:
    """Return the blocks of all modes, in the order of their multipliers."""
    return [block for form in forms for block in form.blocks]


def size_of(forms: Sequence[LFT], inputs: bool) -> tuple[int, int]:
    """Return the number of unknowns and of signals of a program; `inputs`: whether it has a supply rate."""
    nx, blocks = forms[0].nx, blocks_of(forms)
    multipliers = sum(block.multipliers for block in blocks)
    signals = sum(form.nx + form.B1.shape[1] + inputs * form.nu for form in forms)
    return inputs + nx * (nx + 1) // 2 + multipliers, signals


def program_of(forms: Sequence[LFT], rate: float, supply: Supply | None) -> tuple[Program, np.ndarray]:
    """Return the program and where its variables start: g, multipliers of bounded blocks, P, multipliers of neurons.

    With a supply rate it minimizes g. Without one there is no g, and it minimizes the trace of P with `Z > X0'X0`.
    """
    modes, nx = _placed(forms, supply is not None), forms[0].nx
    V, W = (np.vstack(rows) for rows in zip(*((mode.V, mode.W) for mode in modes), strict=True))
    fixed, neurons = block_terms(blocks_of(forms), V, W)
    diagonal = np.eye(nx)[np.triu_indices(nx)]
    if supply is None:
        C = -sum(mode.X0.T @ mode.X0 for mode in modes)
    else:
        Q, S, R = supply
        ports = [np.vstack([mode.Y, mode.U]) for mode in modes]
        C = sum(YU.T @ np.block([[Q, S.T], [S, R]]) @ YU for YU in ports)
        fixed = [np.sum([mode.U.T @ mode.U for mode in modes], axis=0), *fixed]
    states = [added([metric(mode.X0, mode.S, rate) for mode in modes])] if nx else []
    y = np.concatenate([np.ones(len(fixed)), diagonal, np.ones(sum(group.size for group in neurons))])
    b = np.zeros_like(y)
    if supply is None:
        b[len(fixed) : len(fixed) + diagonal.size] = diagonal
    else:
        b[0] = 1.0
    return Program(b, np.asarray(C), tuple(fixed), tuple([*states, *neurons])), y


def unknowns(
    balanced: Coordinates, program: Program, y: np.ndarray, inputs: bool
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Return metric and multipliers in the original coordinates."""
    nx = balanced.forms[0].nx
    fixed, *rest = program.split(y)
    P = symmetric(rest.pop(0), nx) if nx else np.zeros((0, 0))
    neurons = rest.pop(0) if rest else np.zeros(0)
    multipliers = split_multipliers(blocks_of(balanced.forms), fixed[inputs:], neurons)
    return balanced.metric(P), balanced.multipliers(multipliers)


def symmetric(upper: np.ndarray, nx: int) -> np.ndarray:
    """Return the symmetric matrix with the given upper triangle, row by row."""
    P = np.zeros((nx, nx))
    P[np.triu_indices(nx)] = upper
    return P + np.triu(P, 1).T


class Rows(NamedTuple):
    """Each signal of a form as rows of `zeta = [x; w; u]`."""

    X0: np.ndarray
    W: np.ndarray
    U: np.ndarray
    S: np.ndarray
    V: np.ndarray
    Y: np.ndarray


def rows_of(form: LFT, inputs: bool = True) -> Rows:
    """Return each signal as rows; without `inputs`, u is left out: both trajectories share it."""
    nx, nw, nu = form.nx, form.B1.shape[1], form.nu if inputs else 0
    X0, W, U = np.split(np.eye(nx + nw + nu), [nx, nx + nw])
    S = np.hstack([form.A, form.B1, form.B2[:, :nu]])
    V = np.hstack([form.C1, form.D11, form.D12[:, :nu]])
    return Rows(X0, W, U, S, V, np.hstack([form.C2, form.D21, form.D22[:, :nu]]))


def _placed(forms: Sequence[LFT], inputs: bool) -> list[Rows]:
    """Return the rows of each mode in its own part of all signals."""
    found, at, N = [], 0, size_of(forms, inputs)[1]
    for form in forms:
        rows = rows_of(form, inputs)
        n = rows.X0.shape[1]
        found.append(Rows(*(np.pad(M, ((0, 0), (at, N - at - n))) for M in rows)))
        at += n
    return found


def block_terms(
    blocks: Sequence[Slopes | Bounded], V: np.ndarray, W: np.ndarray
) -> tuple[list[np.ndarray], list[Pairs]]:
    """Return one matrix per bounded block and the terms of all neurons, in the order of the blocks."""
    fixed, E, A, v, w = [], [], [], 0, 0
    for block in blocks:
        dv, dw = V[v : v + block.nv], W[w : w + block.nw]
        v, w = v + block.nv, w + block.nw
        match block:
            case Slopes():
                E.append(dw - block.lo[:, None] * dv)
                A.append(dw - block.hi[:, None] * dv)
            case Bounded():
                both = np.vstack([dv, dw])
                fixed.append(-both.T @ block.form(np.ones(1)) @ both)
    return fixed, [rank_two(np.vstack(E), np.vstack(A))] if E else []


def split_multipliers(
    blocks: Sequence[Slopes | Bounded], fixed: np.ndarray, neurons: np.ndarray
) -> list[np.ndarray]:
    """Return the unknowns of the blocks as one array per block."""
    found, k, n = [], 0, 0
    for block in blocks:
        match block:
            case Slopes():
                found.append(neurons[n : n + block.nv])
                n += block.nv
            case Bounded():
                found.append(fixed[k : k + 1])
                k += 1
    return found
