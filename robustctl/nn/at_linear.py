"""A start at a linear model: free arrays of an R2DN or a REN whose linear part is a given one, with a small network."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import numpy as np
from jaxtyping import PRNGKeyArray

from ..errors import InvalidModelError, RobustctlWarning
from ..lft import block_diagonal
from ..linalg import headroom
from ..pytrees import fields_of, traced
from .guarantee import Guarantee
from .initializers import Initializer, draw
from .inverse import Matrices, Rates, outside_ports, within_ports
from .lure import Core
from .nearest import StateSpaceModel, energy, nearest, peak

INTO_STATE, FROM_STATE = 0.05, 0.5
"""Of the room that the linear part leaves: the network's path into the states, and from the states. Their squares add up to less than 1."""

QUIET = 0.01
"""Of the usual size: the network's path to the output."""

SHARE = 0.05
"""Of the linear model's output: what the network may add to it at first."""

NAMED = 1e-3
"""Part of the impulse response given up from which on a warning names it."""

TYPICAL = 5_000
"""Samples, from the middle of those given, that determine the size of the states."""

_C = TypeVar("_C", bound=Core)


@dataclasses.dataclass(frozen=True, eq=False)
class AtLinear:
    """What `at_linear` returns; see there."""

    model: StateSpaceModel
    u: np.ndarray | None

    def __call__(self, key: PRNGKeyArray, nx: int, D: Any, rate: float) -> Any:
        """Refuse models without a network."""
        raise InvalidModelError(
            "at_linear must be given to an R2DN or a REN, got another model; give one of these, or another initializer"
        )

    def given_up(self, guarantee: Guarantee, dtype: Any = np.float32) -> float:
        """Return the part of the impulse response that a model of this guarantee and dtype gives up, 0 where it keeps all."""
        return self._nearest(guarantee, dtype)[1]

    def placed(self, core: _C, guarantee: Guarantee, key: PRNGKeyArray) -> _C:
        """Return the core with the free arrays of this start."""
        nu, nx, nv, ny = core.nu, core.bx.size, core.bv.size, core.by.size
        self._check(nu, nx, ny)
        dtype, rate, supply = core.bx.dtype, float(guarantee.rate), guarantee.exact_supply(nu, ny)
        found, given_up = self._nearest(guarantee, dtype)
        if given_up > NAMED:
            warnings.warn(
                f"the guarantee must hold from the start, so the model starts at the nearest linear one that keeps it, and gives up "
                f"{given_up:.1%} of the impulse response; use a larger rate or gamma to keep more",
                RobustctlWarning,
                stacklevel=4,
            )
        held = {name: value for name, value in fields_of(core).items() if eqx.is_array(value)}

        def arrays(rng):
            m = self._matrices(rng, _with_states(found, nx, rate), nv, rate, supply, dtype)
            free = core.inverse(m, rate, dtype) | {"bv": np.zeros(nv), "by": found.by}
            return [free[name] for name in held]

        drawn = draw(arrays, [array.shape for array in held.values()], dtype, key)
        if not traced(drawn) and not all(np.isfinite(leaf).all() for leaf in drawn):
            raise InvalidModelError(
                f"the start must be a number in {dtype}, but the rate {rate:g} is too small for it; use float64 or a larger rate"
            )
        return eqx.tree_at(lambda core: list(map(fields_of(core).get, held)), core, drawn)

    def _nearest(self, guarantee: Guarantee, dtype: Any) -> tuple[StateSpaceModel, float]:
        ny, nu = self.model.D.shape
        return nearest(self.model, float(guarantee.rate), guarantee.exact_supply(nu, ny), dtype)

    def _check(self, nu: int, nx: int, ny: int) -> None:
        order, own = len(self.model.A), self.model.D.shape[::-1]
        if own != (nu, ny):
            raise InvalidModelError(
                f"the model must have the inputs and outputs of its linear start, {own[0]} and {own[1]}, got {nu} and {ny}; build it "
                f"with nu={own[0]}, ny={own[1]}"
            )
        if nx < order:
            raise InvalidModelError(
                f"nx must be at least the order {order} of the linear start, got {nx}; use nx={order} or more, or a linear model of a "
                "lower order, with fewer delays"
            )

    def _matrices(
        self,
        rng: np.random.Generator,
        m: StateSpaceModel,
        nv: int,
        rate: float,
        supply: Rates | None,
        dtype: Any,
    ) -> Matrices:
        """Return the linear part with ports of the network, of unit gain where there is a supply rate."""
        if supply is not None:
            B, C, D = within_ports(supply, m.B, m.C, m.D)
            # The map multiplies inputs by 1 - headroom.
            raised = (1 - headroom(dtype)) ** -2
            part = _unit_gain(rng, m, raised * B, C, raised * D, nv, rate)._replace(B2=B, D22=D)
            D12, D21, _ = outside_ports(supply, part.D12, part.D21, D)
        else:
            nx, (ny, nu) = len(m.A), m.D.shape
            part = _unit_gain(rng, m, np.zeros((nx, 0)), np.zeros((0, nx)), np.zeros((0, 0)), nv, rate)
            D12, D21 = rng.normal(size=(nv, nu)) / nu**0.5, QUIET * rng.normal(size=(ny, nv)) / nv**0.5
            scale = self._scale(m, nv, rate)
            m = m._replace(B=scale * m.B, C=m.C / scale, bx=scale * m.bx)
            part = part._replace(B2=m.B, C2=m.C, D12=D12, D21=D21, D22=m.D, bx=m.bx)
        heard = peak(m._replace(B=part.B1, D=D21), 1.0) * self._size(m, part.C1, D12)
        share = min(1.0, SHARE * self._size(m, m.C, m.D) / max(heard, np.finfo(float).tiny))
        return part._replace(B1=share * part.B1, D21=share * part.D21)

    def _scale(self, m: StateSpaceModel, nv: int, rate: float) -> float:
        """Return the factor of the states with which the network sees features of size about one.

        With no bound on the gain their size is free. It is the same for all seeds, so that they have initial states in common.
        """
        nx, nu = m.B.shape
        room = _root(np.eye(nx) - m.A.T @ m.A / rate**2)
        size = rate * FROM_STATE * nx**0.5 * self._size(m, room, np.zeros((nx, nu)))
        # A normal matrix with the norm one has entries of about this size.
        return (nx**0.5 + nv**0.5) / max(size, np.finfo(float).tiny ** 0.5)

    def _size(self, m: StateSpaceModel, C: np.ndarray, D: np.ndarray) -> float:
        """Return the root mean square of `C x + D u`, of its channels' mean, under typical inputs."""
        if self.u is None:
            return float(np.sqrt(energy(m.A, m.B, C, D) / len(C)))
        x = np.linalg.solve(np.eye(len(m.A)) - m.A, m.bx)
        total, driven = 0.0, self.u @ m.B.T + m.bx
        for u, now in zip(self.u, driven, strict=True):
            total += float(np.sum((C @ x + D @ u) ** 2))
            x = m.A @ x + now
        return float(np.sqrt(total / len(driven) / len(C)))


def _with_states(m: StateSpaceModel, nx: int, rate: float) -> StateSpaceModel:
    """Return the model with as many states as asked: the further ones are the network's alone, forgetting in a few samples."""
    more, (ny, nu) = nx - len(m.A), m.D.shape
    A = block_diagonal([m.A, rate * np.diag(np.linspace(0.5, 0.9, more))])
    return m._replace(
        A=A, B=np.vstack([m.B, np.zeros((more, nu))]), C=np.hstack([m.C, np.zeros((ny, more))]),
        bx=np.concatenate([m.bx, np.zeros(more)]),
    )  # fmt: skip


def _unit_gain(rng: np.random.Generator, m: StateSpaceModel, B, C, D, nv: int, rate: float) -> Matrices:
    """Return the linear part with random ports of the network that leave it a contraction.

    ::

        M = [A / rate, B; C / rate, D],     [B1; D21] = s1 (I - M M')^(1/2) U,     [C1 / rate, D12] = s2 V (I - M'M)^(1/2)

    is one for `|M| < 1`, `|U| = |V| = 1` and `s1^2 + s2^2 <= 1`.
    """
    nx = len(m.A)
    M = np.block([[m.A / rate, B], [C / rate, D]])
    U, V = rng.normal(size=(len(M), nv)), rng.normal(size=(nv, M.shape[1]))
    into = INTO_STATE * _root(np.eye(len(M)) - M @ M.T) @ (U / np.linalg.norm(U, 2))
    out = FROM_STATE * (V / np.linalg.norm(V, 2)) @ _root(np.eye(M.shape[1]) - M.T @ M)
    return Matrices(m.A, into[:nx], B, rate * out[:, :nx], C, out[:, nx:], into[nx:], D, m.bx)


def _root(M: np.ndarray) -> np.ndarray:
    values, V = np.linalg.eigh((M + M.T) / 2)
    return (V * np.sqrt(np.maximum(values, 0))) @ V.T


def started(
    init: Initializer | AtLinear | None,
    build: Callable[[Any], _C],
    usual: Initializer | None,
    guarantee: Guarantee,
    key: PRNGKeyArray,
) -> _C:
    """Return the core that `build` makes of an initializer, the usual one with its arrays replaced for a start at a linear model."""
    if isinstance(init, AtLinear):
        return init.placed(build(usual), guarantee, key)
    return build(init)


def at_linear(A: Any, B: Any, C: Any, D: Any, *, bx: Any = None, by: Any = None, u: Any = None) -> AtLinear:
    """Return an `init` for `R2DN` and `REN` whose linear part is a given model, in other coordinates of the state.

    ::

        x+ = A x + B u + bx + (small),     y = C x + D u + by + (small)

    The network's paths into and from the states are small and inside the guarantee; further states start without effect on the
    output. Where the model is slower than the guarantee's rate, or has a larger gain, the start is the nearest one inside the
    guarantee: modes move onto the circle of the rate, the gain is multiplied by one factor. A warning, and `given_up(guarantee)` of
    what is returned, name the part of the impulse response that is lost.

    **Arguments:**

    - `A`: (n, n), stable; n is at most the `nx` of the model built.
    - `B`: (n, nu).
    - `C`: (ny, n).
    - `D`: (ny, nu).
    - `bx`: offset of the state, (n,); default zero.
    - `by`: offset of the output, (ny,); default zero.
    - `u`: typical inputs (T, nu), which determine the size of the states; default white noise of variance one.

    **Raises:** `InvalidModelError` for matrices that do not fit each other, are not finite, or are not stable; when a model is built, for
    another number of inputs or outputs, and for fewer states.

    **Example:** ::

        init = rc.nn.at_linear([[0.9]], [[0.1]], [[1.0]], [[0.0]])
        model = rc.nn.ContractingR2DN(nu=1, nx=2, nv=8, ny=1, init=init, key=jax.random.key(0))
    """
    A, B, C, D = (np.atleast_2d(np.asarray(M, np.float64)) for M in (A, B, C, D))
    ny, nu = D.shape
    bx, by = (
        np.zeros(n) if v is None else np.ravel(np.asarray(v, np.float64)) for v, n in ((bx, len(A)), (by, ny))
    )
    shapes = {
        "A": (A, (len(A), len(A))),
        "B": (B, (len(A), nu)),
        "C": (C, (ny, len(A))),
        "bx": (bx, (len(A),)),
        "by": (by, (ny,)),
    }
    for name, (M, shape) in (shapes | {"D": (D, (ny, nu))}).items():
        if M.shape != shape or not np.isfinite(M).all():
            raise InvalidModelError(f"{name} must be finite and of shape {shape}, got {M.tolist()}")
    slowest = np.abs(np.linalg.eigvals(A)).max(initial=0.0)
    if not slowest < 1:
        raise InvalidModelError(
            f"the linear model must be stable, but A has an eigenvalue of size {slowest:.6g}; for an integrating plant take differences of "
            "the output, for an unstable one identify it inside its control loop"
        )
    return AtLinear(StateSpaceModel(A, B, C, D, bx, by), None if u is None else typical_inputs(u, nu))


def typical_inputs(u: Any, nu: int) -> np.ndarray:
    """Return the middle 5,000 samples of inputs in float64, or raise `InvalidModelError` unless they are finite and (T, nu)."""
    u = np.asarray(u, np.float64)
    if u.ndim != 2 or u.shape[1] != nu or not len(u) or not np.isfinite(u).all():
        raise InvalidModelError(f"u must be finite and of shape (T, {nu}), got shape {u.shape}")
    first = max(len(u) - TYPICAL, 0) // 2
    return u[first : first + TYPICAL]
