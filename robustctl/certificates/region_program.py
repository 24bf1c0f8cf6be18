"""The largest ellipsoid that a loop on a box does not leave, as a program for the interior point."""

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..lft import LFT
from .coordinates import Coordinates, at_slopes, balance, spectral_radius
from .dissipation import positive_definite
from .inequalities import rows_of, split_multipliers
from .interior_point import cost, solve
from .invariant import Part, Solution, assemble, bounds, keeps, known_of_blocks, seen, solution
from .prove import fault_of

_SHARES = (0.1, 0.25, 0.5)
"""Of `1 - rate^2` of the slowest linear system within the slopes: a slow rate leaves a large region, a fast one room for disturbances."""

_GAP = 1e-3
"""Relative duality gap of the size."""


_PARTS = (1.0, 0.6, 0.35, 0.2, 0.1, 0.05, 0.02)
"""Of the disturbances, that are tried where those before leave no region."""


class Watch(NamedTuple):
    """A loop on a box, without units.

    **Arguments:**

    - `form`: opened, from disturbances over their half widths to the signals that must stay in the box over theirs.
    - `names`: of these signals.
    - `half`: their half widths.
    - `starts`: the half widths of the plant's states, which come first, (nx plant,).
    - `drift`: vectors that may be added to the state in a sample besides, (n, count).
    """

    form: LFT
    names: tuple[str, ...]
    half: np.ndarray
    starts: np.ndarray
    drift: np.ndarray


class RegionProof(NamedTuple):
    """What proves a region besides its metric.

    **Arguments:**

    - `rate`: per sample.
    - `part`: of the disturbances that the inequality of the step is for.
    - `mu`: the weight of each disturbance there.
    - `multipliers`: of the step, an array per block.
    - `limits`: the same for each signal that must stay in the box; none where blocks do not act on it.
    """

    rate: float
    part: float
    mu: np.ndarray
    multipliers: tuple[np.ndarray, ...]
    limits: tuple[tuple[np.ndarray, ...], ...]

    def to_fields(self) -> dict:
        """Return its numbers as lists, which JSON can hold."""
        each = {
            "mu": self.mu.tolist(),
            "multipliers": [t.tolist() for t in self.multipliers],
            "limits": [[t.tolist() for t in limit] for limit in self.limits],
        }
        return self._asdict() | each

    @classmethod
    def from_fields(cls, fields: dict) -> "RegionProof":
        """Return the proof that `to_fields` wrote."""

        def arrays(values) -> tuple[np.ndarray, ...]:
            return tuple(np.asarray(t, np.float64) for t in values)

        return cls(
            float(fields["rate"]), float(fields["part"]), np.asarray(fields["mu"], np.float64), arrays(fields["multipliers"]),
            tuple(map(arrays, fields["limits"])),
        )  # fmt: skip


class Found(NamedTuple):
    """A proven region: its metric, the part of the disturbances that is allowed, how large each signal can be, and its proof."""

    P: np.ndarray
    allowed: float
    bounds: np.ndarray
    proof: RegionProof


def largest(watch: Watch, deadline: float) -> Found | None:
    """Return the largest region among a few rates, for the disturbances or the part of them that there is one for; None for none."""
    if fault_of(watch.form):
        return None
    balanced, slowest = _balanced(watch), spectral_radius(at_slopes(watch.form)[0])

    def with_disturbances(part: float) -> Found | None:
        rates = [float(np.sqrt(1 - share * (1 - slowest**2))) for share in _SHARES]
        known = [
            found for rate in rates if (found := _solved(watch, balanced, part, rate, deadline)) is not None
        ]
        return min(known, key=lambda f: (f.allowed < part, _size(watch, f.P)), default=None)

    first, *parts = _PARTS if watch.form.nu else (1.0,)
    found = with_disturbances(first)
    # Without a region for the smallest disturbances there is none for larger ones
    if found is None and (not parts or (found := with_disturbances(parts[-1])) is None):
        return None
    for part in parts[:-1]:
        if found.allowed >= part:
            break
        found = with_disturbances(part) or found
    return found


def _size(watch: Watch, P: np.ndarray) -> float:
    """Return the sum over the plant's states of V at the edge of the box: small where a region is large."""
    return float(np.sum(np.diag(P)[: watch.starts.size] * watch.starts**2))


def _scaled(form: LFT, part: float) -> LFT:
    return form._replace(B2=form.B2 * part, D12=form.D12 * part, D22=form.D22 * part)


def _balanced(watch: Watch) -> Coordinates:
    """Return the form in coordinates balanced for starts in the box as well as for disturbances."""
    form, k = watch.form, watch.starts.size
    starts = np.eye(form.nx, k) * watch.starts
    pad = [(0, 0), (0, k)]
    wide = form._replace(
        B2=np.hstack([form.B2, starts]), D12=np.pad(form.D12, pad), D22=np.pad(form.D22, pad)
    )
    found = balance(wide)
    inner, nu = found.form, form.nu
    return found._replace(
        form=inner._replace(B2=inner.B2[:, :nu], D12=inner.D12[:, :nu], D22=inner.D22[:, :nu])
    )


def _solved(watch: Watch, balanced: Coordinates, part: float, rate: float, deadline: float) -> Found | None:
    form, T = _scaled(balanced.form, part), np.linalg.inv(balanced.T)
    wanted = T[:, : watch.starts.size] * watch.starts
    cost_of_P = wanted @ wanted.T / max(np.sum(wanted**2), 1e-300)
    # A little of every direction, so that what the plant does not start in stays bounded
    cost_of_P = cost_of_P + 1e-3 * np.eye(form.nx) / form.nx
    views = [_without_inputs(seen(form, k)) for k in range(form.ny)]
    parts = [_dynamics(form, rate, balanced.size), *(map(_limit, views))]
    program, y = assemble(form.nx, parts, cost_of_P)
    if cost(program)[0] > deadline - time.monotonic():
        return None
    for point in reversed(solve(program, y, gap=_GAP, deadline=deadline)):
        unknowns = solution(program, parts, form.nx, point.y)
        if found := _in_own_coordinates(watch, balanced, part, rate, unknowns):
            return found
    return None


def _without_inputs(form: LFT) -> LFT:
    return form._replace(B2=form.B2[:, :0], D12=form.D12[:, :0], D22=form.D22[:, :0])


def _dynamics(form: LFT, rate: float, size: float) -> Part:
    """`rate^2 V - V+ + sum mu_k d_k^2 + blocks > 0`, and in one more row `sum mu < 1 - rate^2`."""
    rows = rows_of(form)
    blocks, neurons = known_of_blocks(form, rows)
    n = rows.X0.shape[1]
    inputs = [np.outer(u, u) for u in rows.U]
    share = size**2 / (1 - rate**2)
    C = np.zeros((n + 1, n + 1))
    C[n, n] = 1.0
    fixed = [np.pad(F, (0, 1)) for F in (*inputs, *blocks)]
    for F in fixed[: len(inputs)]:
        # A little more than needed, for the drift
        F[n, n] = -share * 1.01
    X0, S = (np.pad(M, ((0, 0), (0, 1))) for M in (rows.X0, rows.S))
    if neurons is not None:
        neurons = type(neurons)(np.pad(neurons.R, ((0, 0), (0, 1))), neurons.i, neurons.j, neurons.w)
    return Part(((X0, rate**2), (S, -1.0)), C, tuple(fixed), (0.0,) * len(fixed), neurons)


def _limit(form: LFT) -> Part:
    """`V - y^2 + blocks > 0`, of a signal over its half width."""
    rows = rows_of(form)
    blocks, neurons = known_of_blocks(form, rows)
    return Part(((rows.X0, 1.0),), -rows.Y.T @ rows.Y, tuple(blocks), (0.0,) * len(blocks), neurons)


def _in_own_coordinates(
    watch: Watch, balanced: Coordinates, part: float, rate: float, found: Solution
) -> Found | None:
    """Return what the unknowns prove in the original coordinates, rounding included."""
    form, nu = watch.form, watch.form.nu
    P, mu = balanced.metric(found.P), found.fixed[0][:nu] * balanced.size**2
    inside = balanced.multipliers(split_multipliers(form.blocks, found.fixed[0][nu:], found.neurons[0]))
    limits = []
    for k in range(form.ny):
        blocks = seen(form, k).blocks
        own = split_multipliers(blocks, found.fixed[k + 1], found.neurons[k + 1])
        limits.append(balanced.multipliers(own) if blocks else ())
    for raised in (1 + 1e-9, 1 + 1e-6, 1 + 1e-4):
        each = [tuple(t * raised for t in multipliers) for multipliers in (inside, *limits)]
        proof = RegionProof(rate, part, mu * raised, each[0], tuple(each[1:]))
        if (region := proven(watch, P * raised, proof)) is not None:
            return region
    return None


def proven(watch: Watch, P: np.ndarray, proof: RegionProof) -> Found | None:
    """Return the region that a metric and a proof give, rounding included; None where they do not fit the loop or prove nothing."""
    form = _scaled(watch.form, proof.part)
    views = [_without_inputs(seen(form, k)) for k in range(form.ny)]
    fitting = [
        [t.size for t in given] == [block.multipliers for block in one.blocks]
        for one, given in zip((form, *views), (proof.multipliers, *proof.limits), strict=False)
    ]
    sizes = P.shape == form.A.shape and proof.mu.shape == (form.nu,) and len(proof.limits) == len(views)
    if not (sizes and all(fitting) and 0 < proof.rate < 1 and 0 < proof.part <= 1):
        return None
    kept = keeps(form, P, proof.rate, proof.mu, proof.multipliers) and all(
        bounds(view, P, np.zeros(0), limit) for view, limit in zip(views, proof.limits, strict=True)
    )
    return _allowing(watch, P, proof) if kept else None


def _allowing(watch: Watch, P: np.ndarray, proof: RegionProof) -> Found | None:
    """Return the region with the disturbances for which `sqrt(rate^2 + allowed^2 sum mu) + |drift| <= 1`."""
    drift = float(np.sqrt(np.maximum(np.einsum("nk,nm,mk->k", watch.drift, P, watch.drift), 0)).sum()) * (
        1 + 1e-6
    )
    room = (max(1 - drift, 0.0) ** 2 - proof.rate**2) * (1 - 1e-9)
    if not room > 0:
        return None
    allowed = min(1.0, float(np.sqrt(room / proof.mu.sum()))) if proof.mu.size else 1.0
    reach = np.array([_reach(P, watch.form, k) for k in range(watch.form.ny)]) * watch.half
    return Found(P, proof.part * allowed, reach, proof)


def _reach(P: np.ndarray, form: LFT, k: int) -> float:
    """Return how much of its half width a signal can use in the region: at most all of it, which is proven."""
    if form.D21[k].any():
        return 1.0
    c = form.C2[k]
    reach = float(np.sqrt(c @ np.linalg.solve(P, c))) * (1 + 1e-6)
    inside = P - np.outer(c, c) / reach**2 if reach > 0 else P
    return min(reach, 1.0) if positive_definite((inside + inside.T) / 2) else 1.0


def watch(form: LFT, marks: Sequence, disturbances: np.ndarray, nx: int, drift: np.ndarray) -> Watch:
    """Return a loop on a box in the form that `largest` takes.

    **Arguments:**

    - `form`: of the loop about a `Boxed` plant, opened; its inputs are the plant's disturbances first.
    - `marks`: its `Watched` blocks, that of the plant first.
    - `disturbances`: their half widths, zero for those that do not act, (nd,).
    - `nx`: number of the plant's states, which come first.
    - `drift`: what the middle of the box moves by in a sample, (n,).
    """
    rows, columns, added = _positions(form, marks)
    acting = np.flatnonzero(disturbances)
    v = np.setdiff1d(
        np.arange(len(form.C1)),
        np.concatenate([np.arange(a, a + m.nv) for a, m in zip(rows, marks, strict=True)]),
    )
    w = np.setdiff1d(
        np.arange(form.B1.shape[1]),
        np.concatenate([np.arange(a, a + m.nw) for a, m in zip(columns, marks, strict=True)]),
    )
    names, half, taken = _limits(form, marks, rows, w)
    scale = 1 / half[:, None]
    inner = LFT(
        form.A, form.B1[:, w], form.B2[:, acting] * disturbances[acting], form.C1[v], form.D11[v][:, w],
        form.D12[v][:, acting] * disturbances[acting], form.C1[taken] * scale, form.D11[taken][:, w] * scale,
        np.zeros((len(taken), acting.size)), tuple(b for b in form.blocks if b not in marks), form.assumptions,
    )  # fmt: skip
    return Watch(inner, names, half, marks[0].half[:nx], np.hstack([drift[:, None], added]))


def _positions(form: LFT, marks: Sequence) -> tuple[list[int], list[int], np.ndarray]:
    """Return where the watched channels begin in v and in w, and the vectors that their rounding adds to the state."""
    rows, columns, added, v, w = [], [], [np.zeros((form.nx, 0))], 0, 0
    for block in form.blocks:
        for mark in (m for m in marks if m is block):
            rows.append(v)
            columns.append(w)
            added.append(form.B1[:, w : w + mark.rounding.size] * mark.rounding)
        v, w = v + block.nv, w + block.nw
    return rows, columns, np.hstack(added)


def _limits(
    form: LFT, marks: Sequence, rows: list[int], w: np.ndarray
) -> tuple[tuple[str, ...], np.ndarray, list[int]]:
    """Return name, half width and row of each signal that must stay in its box: those that move, each once."""
    names, half, taken, known = [], [], [], set()
    for mark, first in zip(marks, rows, strict=True):
        for k, (name, size) in enumerate(zip(mark.names, mark.half, strict=True)):
            row = np.concatenate([form.C1[first + k], form.D11[first + k, w]])
            if row.any() and (key := (row / size).tobytes()) not in known:
                known.add(key)
                names.append(name)
                half.append(size)
                taken.append(first + k)
    return tuple(names), np.array(half), taken
