"""Loops of every kind for the search for false certificates, and their steps in plain NumPy and float64."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import jax.random as jr
import numpy as np

import robustctl as rc
from robustctl.loops import Delay, Feedback, Series, Youla
from tests.oracle_loops import OwnBase, OwnPlant

EDITS = (
    "none", "an entry", "an array", "bfloat16", "float16", "float32", "NaN", "infinite", "complex", "subclass",
    "harmless subclass",
)  # fmt: skip
"""The edits that mean something for a loop: of any array of its parts, and of its class."""


def _stable(rng: np.random.Generator, n: int, most: float) -> np.ndarray:
    A = rng.normal(size=(n, n))
    return A * rng.uniform(0.3, most) / np.abs(np.linalg.eigvals(A)).max()


def _linear(rng, nu: int, ny: int, dtype) -> rc.StateSpace:
    sizes = ((2, nu), (ny, 2), (ny, nu))
    return rc.StateSpace(
        *(np.asarray(M, dtype) for M in (_stable(rng, 2, 0.95), *(rng.normal(size=s) for s in sizes))), dt=0.1
    )


def _part(rng, key, nu: int, ny: int, dtype) -> Any:
    """A linear system, or a learned one with a claim, which its loop does not have."""
    cls = [None, rc.nn.R2DN, rc.nn.REN][int(rng.integers(3))]
    if cls is None:
        return _linear(rng, nu, ny, dtype)
    guarantee = rc.nn.Lipschitz(10 ** rng.uniform(-2, 1), float(rng.uniform(0.6, 1)))
    more = {"hidden": (3,)} if cls is rc.nn.R2DN else {}
    return cls(guarantee, nu=nu, nx=2, nv=2, ny=ny, key=key, dtype=dtype, **more).explicit()


def _series(rng, key, dtype) -> Series:
    first, second = jr.split(key)
    return Series(_part(rng, first, 1, 2, dtype), _part(rng, second, 2, 1, dtype))


def _scaled(rng, key, dtype) -> rc.Scaled:
    mean, u_std, y_std = (jnp.asarray(a, dtype) for a in ([0.0], *10 ** rng.uniform(-3, 3, (2, 1))))
    return rc.Scaled(_series(rng, key, dtype), mean, u_std, mean, y_std)


def _delay(rng, key, dtype) -> Series:
    return Series(Delay(jnp.zeros(1, dtype), int(rng.integers(1, 4))), _part(rng, key, 1, 1, dtype))


def _plant(rng, dtype) -> list:
    A, B, C = _stable(rng, 2, 1.02), rng.normal(size=(2, 1)), rng.normal(size=(1, 2))
    return [jnp.asarray(M, dtype) for M in (A, B, rng.normal(size=(2, 1)), C)]


def _feedback(rng, key, dtype) -> Feedback:
    policy = _part(rng, key, 1, 1, dtype)
    if rng.random() < 0.5:
        policy = Series(policy, _linear(rng, 1, 1, dtype))
    return Feedback(OwnPlant(*_plant(rng, dtype)), policy, 1)


def _youla(rng, key, dtype) -> Feedback:
    A, B, E, C = _plant(rng, dtype)
    L, K = (jnp.asarray(0.1 * rng.normal(size=s), dtype) for s in ((2, 1), (1, 2)))
    return Feedback(OwnPlant(A, B, E, C), Youla(OwnBase(A, B, L, C, K), _part(rng, key, 1, 1, dtype)), 1)


LOOPS: dict[str, Callable] = {
    "Series": _series, "Scaled series": _scaled, "Delay": _delay, "Feedback": _feedback, "Youla": _youla
}  # fmt: skip


def is_loop(system: Any) -> bool:
    """Whether a system is one of these loops."""
    return isinstance(system.system if isinstance(system, rc.Scaled) else system, Series | Feedback)


def states(s: Any) -> int:
    """Number of a system's states."""
    if isinstance(s, rc.Scaled):
        return states(s.system)
    if isinstance(s, Delay):
        return s.samples * s.nu
    parts = {Series: ("first", "second"), Feedback: ("plant", "policy"), Youla: ("base", "q")}
    return sum(states(getattr(s, name)) for name in parts[type(s)]) if type(s) in parts else s.A.shape[0]


def loop_step(s: Any, leaf: Callable) -> Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """The step of a loop whose parts' steps are `leaf(part)`, with all states in one array."""

    def stepped(s, x, u):
        if isinstance(s, rc.Scaled):
            x, y = stepped(s.system, x, u / _f(s.u_std))
            return x, _f(s.y_std) * y
        if isinstance(s, Delay):
            return np.concatenate([x[s.nu :], u]), x[: s.nu]
        if isinstance(s, Series):
            n = states(s.first)
            first, middle = stepped(s.first, x[:n], u)
            second, y = stepped(s.second, x[n:], middle)
            return np.concatenate([first, second]), y
        if isinstance(s, Feedback):
            p: Any = s.plant
            n = len(p.A)
            y = _f(p.C) @ x[:n]
            policy, control = stepped(s.policy, x[n:], y)
            plant = _f(p.A) @ x[:n] + _f(p.B) @ control + _f(p.E) @ u
            return np.concatenate([plant, policy]), np.concatenate([y, control])
        if isinstance(s, Youla):
            b: Any = s.base
            n = len(b.A)
            innovation = u - _f(b.C) @ x[:n]
            q, added = stepped(s.q, x[n:], innovation)
            control = _f(b.K) @ x[:n] + added
            base = _f(b.A) @ x[:n] + _f(b.B) @ control + _f(b.L) @ innovation
            return np.concatenate([base, q]), control
        return leaf(s)(x, u)

    return lambda x, u: stepped(s, x, u)


def _f(a: Any) -> np.ndarray:
    return np.asarray(a, np.float64)
