"""Steps of every class in plain NumPy and float64, and the attack by simulation on what a certificate states."""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import robustctl as rc

from .certificate_oracle_loops import is_loop, loop_step

_ACTIVATIONS: dict[Any, Callable] = {
    jax.nn.relu: lambda z: np.maximum(z, 0),
    jnp.tanh: np.tanh,
    jax.nn.sigmoid: lambda z: (1 + np.tanh(z / 2)) / 2,
    jax.nn.softplus: lambda z: np.logaddexp(z, 0),
}
# Differences of two steps lose digits to cancellation; a false statement is off by more.
_ROUNDING = 1e-9


def network(phi: Any) -> Callable[[np.ndarray], np.ndarray]:
    """A sandwich network, an MLP or a Linear as a function."""
    if type(phi) is eqx.nn.Linear:
        return lambda v: _f(phi.weight) @ v + _f(phi.bias)
    if type(phi) is eqx.nn.MLP:
        return lambda v: _mlp(phi, v)
    sigma = _ACTIVATIONS[phi.activation]

    def evaluated(v):
        for layer in phi.layers:
            v = _f(layer.W_out) @ sigma(_f(layer.W_in) @ v + _f(layer.b))
        return _f(phi.W) @ v + _f(phi.b)

    return evaluated


def _mlp(phi: eqx.nn.MLP, v: np.ndarray) -> np.ndarray:
    for layer in phi.layers[:-1]:
        v = _ACTIVATIONS[phi.activation](_f(layer.weight) @ v + _f(layer.bias))
    return _f(phi.layers[-1].weight) @ v + _f(phi.layers[-1].bias)


def _f(a: Any) -> np.ndarray:
    return np.asarray(a, np.float64)


def stepped(s: Any) -> Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """The step of a system in NumPy."""
    if is_loop(s):
        return loop_step(s, stepped)
    if isinstance(s, rc.Scaled):
        inner = stepped(s.system)

        def scaled(x, u):
            x, y = inner(x, (u - _f(s.u_mean)) / _f(s.u_std))
            return x, _f(s.y_std) * y + _f(s.y_mean)

        return scaled
    if isinstance(s, rc.nn.StaticNetwork):
        phi = network(s.phi)
        return lambda x, u: (x, float(s.gamma) * phi(u))
    if isinstance(s, rc.nn.LinearSystem):
        return lambda x, u: (_f(s.A) @ x + _f(s.B) @ u + _f(s.bx), _f(s.C) @ x + _f(s.D) @ u + _f(s.by))
    if isinstance(s, rc.StateSpace):
        return lambda x, u: (_f(s.A) @ x + _f(s.B) @ u, _f(s.C) @ x + _f(s.D) @ u)
    if isinstance(s, rc.nn.InnovationSystem):
        return lambda x, u: _innovation(s, x, u)
    response = _neurons(s) if isinstance(s, rc.nn.ExplicitREN) else network(s.phi)
    return lambda x, u: _lure(s, response, x, u)


def _neurons(s: Any) -> Callable:
    def response(b):
        w = np.zeros_like(b)
        for k in range(b.size):
            w[k] = _ACTIVATIONS[s.activation](b[k] + _f(s.D11)[k, :k] @ w[:k])
        return w

    return response


def _lure(s: Any, response: Callable, x: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    w = response(_f(s.C1) @ x + _f(s.D12) @ u + _f(s.bv))
    x_next = _f(s.A) @ x + _f(s.B1) @ w + _f(s.B2) @ u + _f(s.bx)
    return x_next, _f(s.C2) @ x + _f(s.D21) @ w + _f(s.D22) @ u + _f(s.by)


def _innovation(s: Any, x: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    nu, ny = s.B2.shape[1], s.K.shape[1]
    x_next, y_hat = _lure(s, network(s.phi), x, u[:nu])
    return x_next + _f(s.K) @ (u[nu + ny :] * (u[nu : nu + ny] - y_hat[:ny])), y_hat


def attack(system: Any, certificate: Any, rng: np.random.Generator) -> str:
    """What pairs of trajectories contradict, in words; empty where they contradict nothing."""
    step = stepped(system)
    nx = 0 if certificate.P is None else len(certificate.P)
    nu = system.lft().nu if is_loop(system) else system.nu
    for _ in range(6):
        size = 10 ** rng.uniform(-2, 3)
        x, dx = size * rng.normal(size=(2, nx))
        us, du = size * rng.normal(size=(2, 12, nu))
        if system.flags:
            us[:, list(system.flags)] = rng.integers(2, size=(12, len(system.flags)))
        if nx and (found := _contradicted(step, certificate, (x, dx, us), None)):
            return found
        if certificate.gamma is not None and (found := _contradicted(step, certificate, (x, 0 * dx, us), du)):
            return found
    return ""


def _contradicted(step: Callable, certificate: Any, start: tuple, du: np.ndarray | None) -> str:
    """One pair of trajectories: V falls by the rate where the inputs are equal, the output's difference stays below the gain's."""
    x, dx, us = start
    a, b, energy, allowed = x, x + dx, 0.0, 0.0
    for t, u in enumerate(us):
        before, size = _norm(certificate, b - a), _norm(certificate, a) + _norm(certificate, b)
        (a, ya), (b, yb) = step(a, u), step(b, u if du is None else u + du[t])
        size += _norm(certificate, a) + _norm(certificate, b)
        if du is None and _norm(certificate, b - a) > certificate.rate_found * before + _ROUNDING * size:
            return f"two states approached by {_norm(certificate, b - a) / before:.6g}, not {certificate.rate_found:.6g}"
        if du is not None:
            energy, allowed = energy + np.sum((yb - ya) ** 2), allowed + np.sum(du[t] ** 2)
            lost = _ROUNDING * (np.linalg.norm(ya) + np.linalg.norm(yb)) * math.sqrt(t + 1)
            if math.sqrt(energy) > certificate.gamma * math.sqrt(allowed) * (1 + _ROUNDING) + lost:
                return f"the gain was {math.sqrt(energy / allowed):.6g}, above {certificate.gamma:.6g}"
    return ""


def _norm(certificate: Any, x: np.ndarray) -> float:
    return 0.0 if certificate.P is None else math.sqrt(max(float(x @ certificate.P @ x), 0.0))
