"""Checks in rational arithmetic, with nothing rounded: the judge of certificates."""

from fractions import Fraction

import numpy as np

import robustctl as rc
from robustctl.nn.bypass import BypassNetwork
from robustctl.nn.orthogonal import OrthogonalNetwork
from robustctl.nn.scheduled_product import HouseholderProduct


def rational(a) -> np.ndarray:
    """The same numbers as fractions."""
    array = np.asarray(a, np.float64)
    return np.array([Fraction(float(v)) for v in array.reshape(-1)], object).reshape(array.shape)


def positive_definite(M: np.ndarray) -> bool:
    """Every pivot of the elimination is positive."""
    M = M.copy()
    for k in range(len(M)):
        if M[k, k] <= 0:
            return False
        for i in range(k + 1, len(M)):
            M[i, k:] = M[i, k:] - M[i, k] / M[k, k] * M[k, k:]
    return True


def proves(system, certificate) -> bool:
    """Whether the certificate's metric and phi bound prove its claim exactly."""
    P = rational(certificate.P)
    if not positive_definite(P):
        return False
    if isinstance(system, rc.nn.StackSystem):
        bounds = [
            Fraction(network.lipschitz_bound()) * (1 + Fraction(1, 10**11)) for network in system.networks
        ]
        bounded = all(map(network_bounded, system.networks, bounds))
        return bounded and positive_definite(-stack_dissipation(system, P, bounds))
    if isinstance(system, rc.nn.InputConvexSystem):
        return positive_definite(-neurons_dissipation(system, P))
    bound = Fraction(1)
    if isinstance(system, rc.nn.ExplicitR2DN):
        bound = Fraction(certificate.phi_bound) * (1 + Fraction(1, 10**11))
        if not network_bounded(system.phi, bound):
            return False
    return positive_definite(-dissipation(system, P, bound))


def dissipation(system, P, bound) -> np.ndarray:
    """M, term by term as in the definition."""
    A, B1, B2, C1, C2 = (rational(getattr(system, n)) for n in ("A", "B1", "B2", "C1", "C2"))
    D12, D21, D22 = (rational(getattr(system, n)) for n in ("D12", "D21", "D22"))
    nx, nv, nu = len(A), B1.shape[1], B2.shape[1]
    D11 = rational(system.D11) if hasattr(system, "D11") else rational(np.zeros((nv, nv)))
    X0, W, U = (rational(E) for E in np.split(np.eye(nx + nv + nu), [nx, nx + nv]))
    S, V, Y = np.hstack([A, B1, B2]), np.hstack([C1, D11, D12]), np.hstack([C2, D21, D22])
    M = S.T @ P @ S - Fraction(float(system.rate)) ** 2 * X0.T @ P @ X0
    if isinstance(system, rc.nn.ExplicitR2DN):
        M = M + min(bound, Fraction(1)) ** 2 * V.T @ V - W.T @ W / max(bound, Fraction(1)) ** 2
    else:
        L = np.diag(rational(system.Lambda))
        L = np.where(np.eye(nv, dtype=bool), L, Fraction(0))
        M = M + W.T @ L @ V + V.T @ L @ W - 2 * W.T @ L @ W
    if system.supply is None:
        return M[: nx + nv, : nx + nv]
    Q, Suy, R = (rational(m) for m in (system.supply.Q, system.supply.S, system.supply.R))
    return M - Y.T @ Q @ Y - U.T @ Suy @ Y - Y.T @ Suy.T @ U - U.T @ R @ U


def stack_dissipation(system, P, bounds) -> np.ndarray:
    """M of a stack, layer by layer as in the definition, with the multiplier gamma of each network."""
    rate, gamma = Fraction(float(system.rate)), Fraction(float(system.gamma))
    nx = [r.re.size + r.im.size for r in system.recurrences]
    nw = [network.b.size for network in system.networks]
    *xs, w = np.split(rational(np.eye(sum(nx) + sum(nw) + system.nu)), np.cumsum(nx))
    *ws, u = np.split(w, np.cumsum(nw))
    x_nexts, vs = [], []
    for r, x, w in zip(system.recurrences, xs, [u, *ws], strict=True):
        n, pairs = r.re.size, r.im.size
        re, im, B, C, D = (rational(a) for a in (r.re, r.im, r.B, r.C, r.D))
        a, b = x[:n], x[n:]
        turned = re[:, None] * a
        turned[:pairs] = turned[:pairs] - im[:, None] * b
        x_nexts.append(np.vstack([turned, im[:, None] * a[:pairs] + re[:pairs, None] * b]) + B @ w)
        vs.append(C @ x + D @ w)
    S, X0, y = np.vstack(x_nexts), np.vstack(xs), vs.pop()
    M = S.T @ P @ S - rate**2 * X0.T @ P @ X0 + y.T @ y / gamma - gamma * u.T @ u
    for v, w, bound in zip(vs, ws, bounds, strict=True):
        M = M + gamma * (min(bound, Fraction(1)) ** 2 * v.T @ v - w.T @ w / max(bound, Fraction(1)) ** 2)
    return M


def factors_bounded(phi: HouseholderProduct) -> bool:
    """Every factor `I - beta k k'` that runs has a norm of at most one: its one other eigenvalue is `1 - beta |k|^2`."""
    return all(0 <= beta * (k @ k) <= 2 for k, beta in zip(rational(phi.k), rational(phi.beta), strict=True))


def network_bounded(phi, bound: Fraction) -> bool:
    """The layers' bounds multiply to at most `bound`: each float64 bound is checked exactly, a little raised."""
    if isinstance(phi, BypassNetwork):
        M, H = bypass_inequality(phi)
        return positive_definite(bound**2 * M - H.T @ H)
    if isinstance(phi, HouseholderProduct):
        return factors_bounded(phi) and bound >= 1
    product, raised = Fraction(1), 1 + Fraction(1, 10**12)
    if isinstance(phi, OrthogonalNetwork):
        for layer in phi.layers:
            norm = norm_raised(layer.W, raised)
            if norm is None:
                return False
            product *= norm
        return product * activation_gain(phi) <= bound
    for layer in phi.layers:
        W_in, W_out, psi = rational(layer.W_in), rational(layer.W_out), rational(layer.psi)
        A, B = W_out / psi[None, :], psi[:, None] * W_in
        K = (A.T @ A + B @ B.T) / 2
        own = Fraction(layer.lipschitz_bound()) * raised
        if not (np.all(psi > 0) and positive_definite(own * rational(np.eye(len(K))) - K)):
            return False
        product *= own
    own = norm_raised(phi.W, raised)
    return own is not None and product * own <= bound


def norm_raised(W, raised: Fraction) -> Fraction | None:
    """The norm of a matrix in float64, a little raised; None where that is not above the norm."""
    own = Fraction(float(np.linalg.norm(np.asarray(W, np.float64), 2))) * raised
    W = rational(W)
    return own if positive_definite(own**2 * rational(np.eye(W.shape[1])) - W.T @ W) else None


def activation_gain(phi: OrthogonalNetwork) -> Fraction:
    """The largest singular value of the reflections that run, `I - 2 v v'` with a rounded v, for every hidden layer."""
    if isinstance(phi.activation, rc.nn.GroupSort):
        return Fraction(1)
    v = rational(np.asarray(phi.activation.basis(phi.b.dtype))[:, 0])
    return max(Fraction(1), 2 * np.sum(v * v) - 1) ** (len(phi.layers) - 1)


def bypass_inequality(phi: BypassNetwork) -> tuple[np.ndarray, np.ndarray]:
    """M and H of `|H dz|^2 <= L^2 dz' M dz`, z of the input and all neurons, term by term as in the definition."""
    sizes = [phi.ni, *(layer.b.size for layer in phi.layers)]
    x, *ws = np.split(rational(np.eye(sum(sizes))), np.cumsum(sizes)[:-1])
    M, before = x.T @ x, x
    for w, layer in zip(ws, phi.layers, strict=True):
        # 2 dw' Lam (dw - C dw_before), symmetric
        term = w.T @ (rational(layer.lam)[:, None] * (w - rational(layer.C) @ before))
        M, before = M + term + term.T, w
    return M, rational(phi.A) @ x + rational(phi.B) @ before


def network_gain_proven(system, proof) -> bool:
    """Whether a proof's metric and multipliers prove its gain of an R2DN or REN exactly, each neuron a row."""
    S, X0, V, Z, Y, U = neuron_rows(system)
    T = np.concatenate([rational(t) for t in proof.multipliers])
    P, gamma = rational(proof.P), Fraction(proof.value)
    M = S.T @ P @ S - X0.T @ P @ X0 + neurons(T, V, Z) + Y.T @ Y - gamma**2 * U.T @ U
    return bool(np.all(T >= 0)) and positive_definite(P) and positive_definite(-M)


def network_rate_proven(system, proof) -> bool:
    """The same for a contraction rate."""
    rows = neuron_rows(system)
    S, X0, V, Z = (R[:, : R.shape[1] - len(rows[-1])] for R in rows[:4])
    T = np.concatenate([rational(t) for t in proof.multipliers])
    P, rate = rational(proof.P), Fraction(proof.value)
    M = S.T @ P @ S - rate**2 * X0.T @ P @ X0 + neurons(T, V, Z)
    return bool(np.all(T >= 0)) and positive_definite(P) and positive_definite(-M)


def neurons(T, V, Z):
    """The sum of `2 T_k dz_k (dv_k - dz_k)`, nonnegative for slopes in [0, 1]."""
    scaled = T[:, None] * Z
    return scaled.T @ V + V.T @ scaled - 2 * scaled.T @ Z


def neuron_rows(system) -> tuple:
    """x+, x, pre-activations, activations, y and u as rows of [x; activations; u]."""
    return implicit_rows(system) if hasattr(system, "D11") else network_rows(system)


def implicit_rows(system) -> tuple:
    """Those of a REN, whose neurons read each the ones before."""
    A, B1, B2, C1, C2, D12, D21, D22 = (
        rational(getattr(system, n)) for n in ("A", "B1", "B2", "C1", "C2", "D12", "D21", "D22")
    )
    D11 = rational(np.tril(np.asarray(system.D11, np.float64), -1))
    nx, nv, nu = len(A), len(C1), B2.shape[1]
    X0, Z, U = np.split(rational(np.eye(nx + nv + nu)), np.cumsum([nx, nv]))
    V, Y = C1 @ X0 + D11 @ Z + D12 @ U, C2 @ X0 + D21 @ Z + D22 @ U
    return A @ X0 + B1 @ Z + B2 @ U, X0, V, Z, Y, U


def network_rows(system) -> tuple:
    """x+, x, pre-activations, activations, y and u as rows of [x; activations; u]."""
    A, B1, B2, C1, C2, D12, D21, D22 = (
        rational(getattr(system, n)) for n in ("A", "B1", "B2", "C1", "C2", "D12", "D21", "D22")
    )
    layers = [(rational(layer.W_in), rational(layer.W_out)) for layer in system.phi.layers]
    nx, widths, nu = len(A), [len(W_in) for W_in, _ in layers], B2.shape[1]
    n = nx + sum(widths) + nu
    X0, *Zs, U = np.split(rational(np.eye(n)), np.cumsum([nx, *widths]))
    h, pres = C1 @ X0 + D12 @ U, []
    for (W_in, W_out), Z in zip(layers, Zs, strict=True):
        pres.append(W_in @ h)
        h = W_out @ Z
    w = rational(system.phi.W) @ h
    Y = C2 @ X0 + D21 @ w + D22 @ U
    return A @ X0 + B1 @ w + B2 @ U, X0, np.vstack(pres), np.vstack(Zs), Y, U


def neurons_dissipation(system, P) -> np.ndarray:
    """M of an input-convex network, whose next states are its neurons' outputs, with a multiplier of each."""
    U, Wu, C, D = (rational(a) for a in (system.U, system.W, system.C, system.D))
    rate, gamma, T = Fraction(float(system.rate)), Fraction(float(system.gamma)), system.claim.multipliers
    T = rational(np.eye(len(U)) if T is None else np.diag(T[0]))
    nx = len(U)
    x, w, u = np.split(rational(np.eye(2 * nx + Wu.shape[1])), [nx, 2 * nx])
    v, y = U @ x + Wu @ u, C @ x + D @ u
    M = w.T @ P @ w - rate**2 * x.T @ P @ x + y.T @ y / gamma - gamma * u.T @ u
    return M + w.T @ T @ v + v.T @ T @ w - 2 * w.T @ T @ w
