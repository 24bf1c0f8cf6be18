"""The generalized plant of H2 and H-infinity synthesis: its parts, its assumptions, its closed loop."""

from typing import NamedTuple

import control as ct
import numpy as np

from ..errors import InvalidModelError
from .balance import power_of_two, state_scales
from .convert import realize
from .modes import check_detectable, check_stabilizable, immovable, rank_defect
from .types import ControlLike, Realization, typed


class Generalized(NamedTuple):
    """A generalized plant from (w, u) to (z, y).

    ::

        x+ = A x + B1 w + B2 u,   z = C1 x + D11 w + D12 u,   y = C2 x + D21 w + D22 u     (dx/dt where dt = 0)
    """

    A: np.ndarray
    B1: np.ndarray
    B2: np.ndarray
    C1: np.ndarray
    C2: np.ndarray
    D11: np.ndarray
    D12: np.ndarray
    D21: np.ndarray
    D22: np.ndarray
    dt: float

    @property
    def discrete(self) -> bool:
        """Whether the plant is in discrete time."""
        return self.dt != 0


def split(plant: ControlLike, nmeas: int, ncon: int) -> Generalized:
    """Split a generalized plant whose last outputs are measured and whose last inputs are controls.

    **Arguments:**

    - `plant`: from (w, u) to (z, y)
    - `nmeas`: number of measured outputs y
    - `ncon`: number of controls u

    **Raises:** `InvalidModelError` for numbers of measurements or controls that leave nothing to minimize, a dt of True
    or None, and an undetectable or unstabilizable mode.
    """
    P = realized(plant)
    if not 0 < nmeas < P.noutputs or not 0 < ncon < P.ninputs:
        raise InvalidModelError(
            f"nmeas must be in 1..{P.noutputs - 1} and ncon in 1..{P.ninputs - 1} (the other signals are performance "
            f"outputs and disturbances), got {nmeas} and {ncon}"
        )
    if P.dt is None or P.dt is True:
        raise InvalidModelError(f"dt must be a number, got {P.dt}; set P.dt to 0 or to seconds per sample")
    m, p = P.ninputs - ncon, P.noutputs - nmeas
    g = Generalized(
        P.A, P.B[:, :m], P.B[:, m:], P.C[:p], P.C[p:],
        P.D[:p, :m], P.D[:p, m:], P.D[p:, :m], P.D[p:, m:], float(P.dt),
    )  # fmt: skip
    check_stabilizable(g.A, g.B2, g.discrete, "(A, B2)")
    check_detectable(g.A, g.C2, g.discrete, "(C2, A)")
    return g


def check_ranks(g: Generalized, at: str = "at infinite frequency") -> None:
    """Refuse a plant with a control that has no cost, or a measurement that has no noise.

    **Arguments:**

    - `g`: the plant
    - `at`: where on the frequency axis D12 and D21 are the response, for the message

    **Raises:** `InvalidModelError` for D12 without full column rank and D21 without full row rank.
    """
    if rank_defect(g.D12, g.D12.shape[1]):
        raise InvalidModelError(
            f"D12 must have full column rank ({g.D12.shape[1]}), so that every control has a cost {at}; add a weight on "
            "the control"
        )
    if rank_defect(g.D21, g.D21.shape[0]):
        raise InvalidModelError(
            f"D21 must have full row rank ({g.D21.shape[0]}), so that every measurement has noise {at}; add a "
            "disturbance on the outputs"
        )


def check_zeros(g: Generalized) -> None:
    """Refuse invariant zeros of P12 or P21 on the stability boundary, with which the Riccati equations have no solution.

    **Raises:** `InvalidModelError` with the zero.
    """
    for name, A, B, C, D in (
        ("P12, from control to cost,", g.A, g.B2, g.C1, g.D12),
        ("P21, from disturbance to measurement,", g.A.T, g.C2.T, g.B1.T, g.D21.T),
    ):
        # With D of full column rank, u = -D^+ C x is the control that can hold C x + D u at zero; the zeros are the
        # modes of A - B D^+ C that the rest of the output, (I - D D^+) C x, does not show.
        unit = power_of_two(np.linalg.norm(D, axis=0))
        pinv = np.linalg.pinv(D / unit) / unit[:, None]
        inner, rest = A - B @ pinv @ C, C - D @ pinv @ C
        # 1e-13: the rest of an output that u holds at zero is a difference of equal numbers
        size = np.abs(C) + np.abs(D @ pinv) @ np.abs(C)
        rest = np.where(np.abs(rest) > 1e-13 * size, rest, 0)
        for zero in immovable(inner.T, rest.T):
            # The Riccati equation's Hamiltonian has eigenvalues at this distance on both sides of the boundary, relative to the
            # plant's fastest rate; below 1e-9 rounding, which moves such a pair by sqrt(eps) = 1e-8, mixes them.
            distance = abs(abs(zero) - 1) if g.discrete else abs(zero.real) / _fastest(inner, rest)
            if distance < 1e-9:
                raise InvalidModelError(
                    f"{name} must have no zero on the boundary of stability, but has one at {zero:.6g}; weight that "
                    "state, or shift an integrator of plant or weights a little into the stable region"
                )


def _fastest(A: np.ndarray, C: np.ndarray) -> float:
    """Return the size of A with its states balanced."""
    t = state_scales(A, np.zeros((len(A), 0)), C)
    return max(float(np.linalg.norm(A * t / t[:, None], 2)), np.finfo(float).tiny)


def realized(system: ControlLike) -> Realization:
    """Return a realization under the type whose matrices are arrays."""
    return typed(realize(system))


def closed_loop(plant: ControlLike, controller: ControlLike) -> ct.StateSpace:
    """Return the closed loop from w to z of a generalized plant and a controller `u = K y`.

    ::

        lower linear fractional transformation:  P11 + P12 K (I - P22 K)^-1 P21

    **Arguments:**

    - `plant`: P from (w, u) to (z, y)
    - `controller`: K; its sizes are the numbers of the plant's last signals y and u

    **Raises:** `InvalidModelError` for a controller of another dt and for an algebraic loop without a solution.
    """
    P, K = realized(plant), realized(controller)
    if P.dt != K.dt:
        raise InvalidModelError(
            f"dt must be the same, got {P.dt} s for the plant and {K.dt} s for the controller"
        )
    m, p = P.ninputs - K.noutputs, P.noutputs - K.ninputs
    D22 = P.D[p:, m:]
    loop = np.eye(K.noutputs) - K.D @ D22
    if rank_defect(loop, len(loop), np.eye(K.noutputs) + np.abs(K.D) @ np.abs(D22)):
        raise InvalidModelError(
            "the loop must be well posed, but I - D_K D22 is singular; add a delay or a lag to the plant"
        )
    # u = D_K (C2 x + D21 w + D22 u) + C_K x_K, solved for u = F (x, x_K, w) and put into the equations of plant and
    # controller, whose open-loop matrices are those for u = 0
    F = np.linalg.solve(loop, np.hstack([K.D @ P.C[p:], K.C, K.D @ P.D[p:, :m]]))
    nx, nk = P.nstates, K.nstates
    open_A = np.block([[P.A, np.zeros((nx, nk))], [K.B @ P.C[p:], K.A]])
    A = open_A + np.vstack([P.B[:, m:], K.B @ D22]) @ F[:, : nx + nk]
    B = np.vstack([P.B[:, :m], K.B @ P.D[p:, :m]]) + np.vstack([P.B[:, m:], K.B @ D22]) @ F[:, nx + nk :]
    C = np.hstack([P.C[:p], np.zeros((p, nk))]) + P.D[:p, m:] @ F[:, : nx + nk]
    D = P.D[:p, :m] + P.D[:p, m:] @ F[:, nx + nk :]
    return ct.StateSpace(A, B, C, D, P.dt)


def with_feedthrough(controller: ct.StateSpace, D22: np.ndarray) -> ct.StateSpace:
    """Return the controller for a plant with D22, from the one designed for D22 = 0.

    ::

        K (I + D22 K)^-1

    **Raises:** `InvalidModelError` for an algebraic loop without a solution.
    """
    if not np.any(D22):
        return controller
    # K was designed for the input v = y - D22 u. With u = C_K x_K + D_K v this is M v = y - D22 C_K x_K.
    K = typed(controller)
    M = np.eye(len(D22)) + D22 @ K.D
    if rank_defect(M, len(M), np.eye(len(M)) + np.abs(D22) @ np.abs(K.D)):
        raise InvalidModelError(
            "the loop must be well posed, but I + D22 D_K is singular; add a delay or a lag to the plant"
        )
    inverse = np.linalg.inv(M)
    A = K.A - K.B @ inverse @ D22 @ K.C
    C = K.C - K.D @ inverse @ D22 @ K.C
    return ct.StateSpace(A, K.B @ inverse, C, K.D @ inverse, K.dt)
