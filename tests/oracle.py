"""Whether a certificate is true, in rational arithmetic, from a system's arrays alone: nothing of the package's proofs is called."""

import itertools
from fractions import Fraction
from typing import Any, NamedTuple

import equinox as eqx
import numpy as np

import robustctl as rc

from .exact import positive_definite, rational

RAISED = 1 + Fraction(1, 10**12)
TOLERANCE = 1 + Fraction(1, 10**11)  # what a certificate adds to a network's float64 bound itself


class Exact(NamedTuple):
    """A system in differences, `x+ = A x + B1 w + B2 u` and so on, in fractions; `slopes`: whether w is a REN's neurons."""

    A: np.ndarray
    B1: np.ndarray
    B2: np.ndarray
    C1: np.ndarray
    D11: np.ndarray
    D12: np.ndarray
    C2: np.ndarray
    D21: np.ndarray
    D22: np.ndarray
    multiplier: np.ndarray | None = None
    network: Any = None


def is_true(system: Any, certificate: Any) -> bool:
    """Whether each statement of a certificate that holds is proven exactly: rates, supply rate and gain."""
    inner, u_std, y_std = unscaled(system)
    if isinstance(inner, rc.nn.StaticNetwork):
        return _static_is_true(inner, certificate, u_std, y_std)
    P = rational(certificate.P)
    bound = None if certificate.phi_bound is None else Fraction(certificate.phi_bound) * TOLERANCE
    rates_in_order = 0 < certificate.rate_found <= certificate.rate <= 1
    if not rates_in_order or not positive_definite(P) or not np.array_equal(P, P.T):
        return False
    for form in exact_forms(inner):
        form = _in_units(form, u_std, y_std)
        if form.network is not None and not network_bounded(form.network, bound):
            return False
        for rate, supply in ((certificate.rate, certificate.supply), (certificate.rate_found, None)):
            if not positive_definite(-dissipation(form, P, rate, bound, supply)):
                return False
    return certificate.supply is None or _gain_is_true(certificate)


def unscaled(system: Any) -> tuple[Any, np.ndarray | None, np.ndarray | None]:
    """The system inside one scaling, and the scales of its ports."""
    if isinstance(system, rc.Scaled):
        return system.system, rational(system.u_std), rational(system.y_std)
    return system, None, None


def _in_units(form: Exact, u_std, y_std) -> Exact:
    if u_std is None or form.B2.shape[1] != len(u_std):
        return form  # without scales, or a predictor whose flags are no input of its forms: it has no claim on its ports
    y = y_std[:, None]
    return form._replace(
        B2=form.B2 / u_std, D12=form.D12 / u_std, C2=y * form.C2, D21=y * form.D21, D22=y * form.D22 / u_std
    )


def exact_forms(s: Any) -> list[Exact]:
    """The forms of a system between which it switches: one, but for a predictor under each pattern of what is seen."""
    if isinstance(s, rc.StateSpace | rc.nn.LinearSystem):
        A, B, C, D = (rational(M) for M in (s.A, s.B, s.C, s.D))
        none = np.zeros((0, 0), object)
        n, (ny, nu) = len(A), D.shape
        return [Exact(A, np.zeros((n, 0), object), B, np.zeros((0, n), object), none, np.zeros((0, nu), object), C,
                      np.zeros((ny, 0), object), D)]  # fmt: skip
    A, B1, B2, C1, D12, C2, D21, D22 = (
        rational(getattr(s, n)) for n in ["A", "B1", "B2", "C1", "D12", "C2", "D21", "D22"]
    )
    nv = B1.shape[1]
    if isinstance(s, rc.nn.ExplicitREN):
        D11 = rational(np.tril(np.asarray(s.D11, np.float64), -1))  # the layer reads no other entries
        return [Exact(A, B1, B2, C1, D11, D12, C2, D21, D22, multiplier=rational(s.Lambda))]
    D11 = rational(np.zeros((nv, nv)))
    whole = Exact(A, B1, B2, C1, D11, D12, C2, D21, D22, network=s.phi)
    if not isinstance(s, rc.nn.InnovationSystem):
        return [whole]
    K = rational(s.K)
    ny = K.shape[1]
    return [
        whole._replace(A=A - K * m @ C2[:ny], B1=B1 - K * m @ D21[:ny], B2=B2 - K * m @ D22[:ny])
        for m in (rational(seen) for seen in itertools.product((0, 1), repeat=ny))
    ]


def dissipation(f: Exact, P, rate: float, bound: Fraction | None, supply) -> np.ndarray:
    """M of the claim, term by term; without a supply rate for equal inputs."""
    nx, nw, nu = len(f.A), f.B1.shape[1], 0 if supply is None else f.B2.shape[1]
    X0, W, U = (rational(E) for E in np.split(np.eye(nx + nw + nu), [nx, nx + nw]))
    S, V = (np.hstack(row) for row in ([f.A, f.B1, f.B2[:, :nu]], [f.C1, f.D11, f.D12[:, :nu]]))
    M = S.T @ P @ S - Fraction(rate) ** 2 * X0.T @ P @ X0
    if f.multiplier is not None:
        L = np.where(np.eye(nw, dtype=bool), np.diag(f.multiplier), Fraction(0))
        M = M + W.T @ L @ V + V.T @ L @ W - 2 * W.T @ L @ W
    elif bound is not None:
        M = M + min(bound, Fraction(1)) ** 2 * V.T @ V - W.T @ W / max(bound, Fraction(1)) ** 2
    if supply is None:
        return M
    Q, S_uy, R = (rational(m) for m in supply)
    Y = np.hstack([f.C2, f.D21, f.D22])
    return M - Y.T @ Q @ Y - U.T @ S_uy @ Y - Y.T @ S_uy.T @ U - U.T @ ((R + R.T) / 2) @ U


def network_bounded(phi: Any, bound: Fraction | None) -> bool:
    """Whether a network's layers have bounds, verified exactly, that multiply to at most `bound`."""
    if bound is None:
        return False
    product = Fraction(1)
    if type(phi) is eqx.nn.MLP:
        weights = [layer.weight for layer in phi.layers]
    elif type(phi) is eqx.nn.Linear:
        weights = [phi.weight]
    else:
        weights = [phi.W]
        for layer in phi.layers:
            W_in, W_out, psi = rational(layer.W_in), rational(layer.W_out), rational(layer.psi)
            if not np.all(psi > 0):
                return False
            A, B = W_out / psi[None, :], psi[:, None] * W_in
            product *= _largest((A.T @ A + B @ B.T) / 2)
    for weight in weights:
        W = rational(weight)
        square = _largest(W.T @ W)
        product *= Fraction(float(square) ** 0.5) * RAISED
    return product <= bound


def _largest(K: np.ndarray) -> Fraction:
    """An upper bound on the largest eigenvalue of a positive semidefinite matrix, a trifle above it, verified exactly."""
    found = Fraction(float(np.linalg.eigvalsh(K.astype(float))[-1])) * RAISED
    if found == 0:
        return Fraction(0)
    assert positive_definite(found * rational(np.eye(len(K))) - K), "the bound must be above the eigenvalues"
    return found


def _gain_is_true(certificate: Any) -> bool:
    """Whether gamma follows from the supply rate, by the S-procedure.

    ::

        tau [Q S'; S R] + [I 0; 0 -gamma^2 I] < 0      for some tau > 0
    """
    Q, S, R = (np.asarray(M, float) for M in certificate.supply)
    gamma = certificate.gamma * (1 + 1e-9)
    ny, nu = S.shape[::-1]
    one = np.diag(np.concatenate([np.ones(ny), -(gamma**2) * np.ones(nu)]))
    whole = np.block([[Q, S.T], [S, (R + R.T) / 2]])

    def least_square(exponent):
        """The square of the gain that this tau proves: the Schur complement over y, convex in tau."""
        tau = np.exp(exponent)
        return np.linalg.eigvalsh(
            tau * (R + R.T) / 2 + tau**2 * S @ np.linalg.solve(-tau * Q - np.eye(ny), S.T)
        )[-1]

    low = float(np.log(-1 / np.linalg.eigvalsh(Q)[-1])) + 1e-12  # so that tau Q + I < 0
    high = low + 60
    for _ in range(120):  # a search by thirds
        third = (high - low) / 3
        left, right = least_square(low + third), least_square(high - third)
        low, high = (low, high - third) if left < right else (low + third, high)
    tau = Fraction(float(np.exp((low + high) / 2)))
    return positive_definite(-(tau * rational(whole) + rational(one)))


def _static_is_true(s: Any, certificate: Any, u_std, y_std) -> bool:
    """The gain is at most |gamma| times the network's bound times the ratio of the scales."""
    scale = 1 if u_std is None else max(abs(v) for v in y_std) / min(abs(v) for v in u_std)
    bound = Fraction(certificate.phi_bound) * TOLERANCE
    gain = abs(Fraction(float(s.gamma))) * bound * scale
    return network_bounded(s.phi, bound) and gain <= Fraction(certificate.gamma)
