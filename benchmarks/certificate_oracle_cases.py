"""Models of every class at random free arrays, and edits that anyone may make to them: some lawful, some not."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import robustctl as rc
from robustctl.nn.sandwich import SandwichNetwork

from .certificate_oracle_loops import EDITS as LOOP_EDITS
from .certificate_oracle_loops import LOOPS

DTYPES = {"float32": jnp.float32, "float64": jnp.float64}
HIDDEN = {"hidden": (3, 2)}


class Case(NamedTuple):
    """A model or system, and whether it still steps as its class describes."""

    model: Any
    lawful: bool = True


def _supply(rng: np.random.Generator, nu: int, ny: int) -> dict[str, np.ndarray]:
    g = 10 ** rng.uniform(-2, 2)
    return {"Q": -np.eye(ny) / g, "S": 0.3 * rng.normal(size=(nu, ny)), "R": g * np.eye(nu)}


def _sizes(rng: np.random.Generator) -> dict[str, int]:
    nu, ny = [(1, 2), (2, 1)][int(rng.integers(2))]
    return {"nu": nu, "nx": 2, "nv": 2, "ny": ny}


def _numbers(rng: np.random.Generator) -> tuple[float, float]:
    return float(rng.choice([1.0, 10 ** rng.uniform(-2, 0)])), 10 ** rng.uniform(-2, 2)


def _recurrent(cls: Any, kind: str, **more: Any) -> Callable:
    def make(rng, **common):
        sizes, (rate, gamma) = _sizes(rng), _numbers(rng)
        guarantee = {
            "Contracting": lambda: rc.nn.Contracting(rate),
            "Lipschitz": lambda: rc.nn.Lipschitz(gamma, rate),
            "Dissipative": lambda: rc.nn.Dissipative(**_supply(rng, sizes["nu"], sizes["ny"]), rate=rate),
        }[kind]()
        return cls(guarantee, **sizes, **more, **common)

    return make


def _with_network(rng, dtype, **common):
    """An R2DN about a network of Equinox, which is held fixed."""
    kind = int(rng.integers(2))
    phi = (
        eqx.nn.Linear(2, 2, key=jr.key(0), dtype=dtype)
        if kind
        else eqx.nn.MLP(2, 2, 3, 1, jax.nn.relu, key=jr.key(1), dtype=dtype)
    )
    small = jax.tree.map(lambda a: a * 0.2 if eqx.is_inexact_array(a) else a, phi)
    return rc.nn.ContractingR2DN(rate=_numbers(rng)[0], phi=small, dtype=dtype, **_sizes(rng), **common)


def _corrected(rng, **common):
    core = rc.nn.ContractingR2DN(nu=3, nx=2, nv=2, ny=1, rate=0.95, **HIDDEN, **common)
    A = np.diag(rng.uniform(-0.9, 0.9, 2))
    B, C, D = rng.normal(size=(2, 1)), rng.normal(size=(1, 2)), rng.normal(size=(1, 1))
    return rc.nn.CorrectedR2DN(A, B, C, D, np.zeros(2), np.zeros(1), core=core)


def _state_space(rng, dtype, **_):
    A = rng.normal(size=(3, 3))
    A *= rng.uniform(0.5, 1.2) / np.abs(np.linalg.eigvals(A)).max()
    B, C, D = rng.normal(size=(3, 1)), rng.normal(size=(2, 3)), rng.normal(size=(2, 1))
    return rc.StateSpace(*(M.astype(dtype) for M in (A, B, C, D)), dt=0.1)


def _innovation(rng, **common):
    rate = float(rng.choice([1.0, 0.9]))
    return rc.nn.InnovationR2DN(
        nu=1, nx=2, nv=2, ny=int(rng.integers(1, 3)), nz=1, rate=rate, **HIDDEN, **common
    )


MODELS: dict[str, Callable] = {
    **{f"{kind}R2DN": _recurrent(rc.nn.R2DN, kind, **HIDDEN) for kind in ("Contracting", "Lipschitz", "Dissipative")},
    **{f"{kind}REN": _recurrent(rc.nn.REN, kind) for kind in ("Contracting", "Lipschitz", "Dissipative")},
    "R2DN of a network": _with_network,
    "InnovationR2DN": _innovation,
    "CorrectedR2DN": _corrected,
    "StateObserver": lambda rng, **common: rc.nn.StateObserver(_recurrent(rc.nn.R2DN, "Contracting", **HIDDEN)(rng, **common)),
    "StableLinear": lambda rng, **common: rc.nn.StableLinear(nu=1, nx=3, ny=2, rate=_numbers(rng)[0], **common),
    "LipschitzStatic": lambda rng, **common: rc.nn.LipschitzStatic(nu=2, ny=2, gamma=_numbers(rng)[1], **HIDDEN, **common),
    "StateSpace": _state_space,
    **LOOPS,
}  # fmt: skip


def drawn(name: str, edit: str, rng: np.random.Generator, folder: Path) -> Case | None:
    """A model of a class at random free arrays, edited; None for an edit that does not apply to it."""
    dtype = DTYPES[str(rng.choice(list(DTYPES)))]
    if name in LOOPS and edit not in LOOP_EDITS:
        return None
    model = MODELS[name](rng, key=jr.key(int(rng.integers(2**31))), dtype=dtype)
    if isinstance(model, rc.Parameterization):
        model = _moved(model, 10 ** rng.uniform(-3, 3), rng)
    return EDITS[edit](model, rng, folder)


def _moved(model: Any, scale: float, rng: np.random.Generator) -> Any:
    """The model at normal free arrays of one size; what is fixed, a network of Equinox too, is left alone."""
    outside = isinstance(model, rc.nn.R2DN) and isinstance(model.core.phi, eqx.nn.MLP | eqx.nn.Linear)
    phi = model.core.phi if outside else None

    def move(leaf):
        return (
            jnp.asarray(scale * rng.normal(size=leaf.shape), leaf.dtype)
            if eqx.is_inexact_array(leaf)
            else leaf
        )

    moved = jax.tree.map(move, model)
    return eqx.tree_at(lambda m: m.core.phi, moved, phi) if outside else moved


def _explicit(model: Any) -> Any:
    return model.explicit() if isinstance(model, rc.Parameterization) else model


def _arrays(system: Any) -> list[int]:
    return [k for k, leaf in enumerate(jax.tree.leaves(system)) if eqx.is_inexact_array(leaf) and leaf.size]


def _changed(system: Any, rng: np.random.Generator, change: Callable[[np.ndarray], np.ndarray]) -> Any:
    """The system with one random array changed."""
    leaves, treedef = jax.tree.flatten(system)
    k = int(rng.choice(_arrays(system)))
    leaves[k] = jnp.asarray(change(np.array(leaves[k])))
    return jax.tree.unflatten(treedef, leaves)


def _perturbed(model, rng, _):
    """One entry off by a share of it, from rounding to all of it."""

    def change(a):
        at = int(rng.integers(a.size))
        a.flat[at] *= 1 + rng.normal() * 10 ** rng.uniform(-14, 0)
        return a

    return Case(_changed(_explicit(model), rng, change))


def _scaled_up(model, rng, _):
    """One whole array larger or smaller, near the boundary of the claim or far past it."""
    factor = float(
        rng.choice([1 + 10 ** rng.uniform(-12, -1), 10 ** rng.uniform(0, 2), 1 - 10 ** rng.uniform(-12, -1)])
    )
    return Case(_changed(_explicit(model), rng, lambda a: (a * factor).astype(a.dtype)))


def _rounded(dtype: Any) -> Callable:
    def edit(model, rng, _):
        def cast(leaf):
            return leaf.astype(dtype) if eqx.is_inexact_array(leaf) else leaf

        return Case(jax.tree.map(cast, _explicit(model)))

    return edit


def _other_metric(model, rng, _):
    system = _explicit(model)
    if not hasattr(system, "P"):
        return None
    n = len(system.P)
    P = float(rng.choice([1e-300, 1e-8, 1.0, 1e6])) * np.eye(n)
    return Case(dataclasses.replace(system, P=jnp.asarray(P, system.P.dtype)))


def _other_units(model, rng, _):
    """The states in other units, up to ten decades apart."""
    s = _explicit(model)
    if not isinstance(s, rc.nn.ExplicitR2DN | rc.nn.ExplicitREN):
        return None
    t = 10 ** rng.uniform(-5, 5, len(s.A)).astype(s.A.dtype)
    new = {
        "A": s.A * t[None] / t[:, None],
        "B1": s.B1 / t[:, None],
        "B2": s.B2 / t[:, None],
        "C1": s.C1 * t[None],
        "C2": s.C2 * t[None],
        "P": s.P * t[None] * t[:, None],
    }
    return Case(dataclasses.replace(s, **new))


def _scales(system: Any, rng: np.random.Generator) -> rc.data.Scaling:
    nu, ny = system.nu, system.ny
    u_mean, u_std = rng.normal(size=nu), 10 ** rng.uniform(-3, 3, nu)
    u_mean[list(system.flags)], u_std[list(system.flags)] = 0, 1
    return rc.data.Scaling(u_mean, u_std, rng.normal(size=ny), 10 ** rng.uniform(-3, 3, ny))


def _scaled(model, rng, _):
    system = _explicit(model)
    s, dtype = _scales(system, rng), jax.tree.leaves(system)[0].dtype
    return Case(rc.Scaled(system, *(jnp.asarray(a, dtype) for a in (s.u_mean, s.u_std, s.y_mean, s.y_std))))


def _scaled_flags(model, rng, _):
    system = _explicit(model)
    if not system.flags:
        return None
    case = _scaled(model, rng, None)
    flags = jnp.asarray(list(system.flags))
    u_std = case.model.u_std.at[flags].set(10 ** rng.uniform(-2, 0))
    return Case(eqx.tree_at(lambda s: s.u_std, case.model, u_std), lawful=False)


def _fitted(model, rng, folder):
    """What fit returns: with a scaling and names, saved and read again."""
    if not isinstance(model, rc.Parameterization):
        return None
    system = model.explicit()
    names = [tuple(f"{letter}{k}" for k in range(n)) for letter, n in (("u", system.nu), ("y", system.ny))]
    units = [("",) * len(n) for n in names]
    fitted = rc.train.FittedModel(model, rc.train.ZeroState(), _scales(system, rng), 0.1, *names, *units)
    return _reloaded(fitted, rng, folder)


def _reloaded(model, rng, folder):
    if not isinstance(model, rc.Parameterization):
        return None
    path = folder / "model.safetensors"
    rc.save(path, model)
    return Case(rc.load(path))


def _rescaled(model, rng, _):
    if not isinstance(model, rc.Parameterization) or model.explicit().flags:
        return None
    system = model.explicit()
    return Case(rc.Rescaled(model, *(tuple(10 ** rng.uniform(-3, 3, n)) for n in (system.nu, system.ny))))


def _spoiled(value: complex) -> Callable:
    """One entry that is no finite real number, in any array."""

    def edit(model, rng, _):
        def change(a):
            a = a.astype(complex) if isinstance(value, complex) else a
            a.flat[int(rng.integers(a.size))] = value
            return a

        return Case(_changed(_explicit(model), rng, change), lawful=False)

    return edit


def _broadcast(model, rng, _):
    """An array with an entry too few or too many, which arithmetic would repeat."""
    system = _explicit(model)

    def change(a):
        axis = int(rng.integers(max(a.ndim, 1)))
        return (
            np.ones(3, a.dtype)
            if not a.ndim
            else np.take(a, np.arange(int(rng.choice([1, a.shape[axis] + 1]))) % a.shape[axis], axis)
        )

    changed = _changed(system, rng, change)
    same = [
        jnp.shape(a) == jnp.shape(b)
        for a, b in zip(jax.tree.leaves(system), jax.tree.leaves(changed), strict=True)
    ]
    return None if all(same) else Case(changed, lawful=_fits(changed))


def _fits(s: Any) -> bool:
    """Whether the arrays fit each other after all: a column more of K, for example, is a predictor of one output more."""
    shape = {name: jnp.shape(value) for name, value in vars(s).items() if eqx.is_array_like(value)}
    if isinstance(s, rc.nn.StaticNetwork):
        return shape["gamma"] == () and _network_fits(s.phi, s.phi.ni)
    nx, ny = len(s.A), len(s.C if hasattr(s, "C") else s.C2)
    if hasattr(s, "C"):
        nu = s.B.shape[-1]
        needed = {"A": (nx, nx), "B": (nx, nu), "C": (ny, nx), "D": (ny, nu), "bx": (nx,), "by": (ny,)}
    else:
        nv, nu = s.B1.shape[-1], s.B2.shape[-1]
        needed = {"A": (nx, nx), "B1": (nx, nv), "B2": (nx, nu), "C1": (nv, nx), "D12": (nv, nu), "C2": (ny, nx),
                  "D21": (ny, nv), "D22": (ny, nu), "bx": (nx,), "bv": (nv,), "by": (ny,), "D11": (nv, nv), "Lambda": (nv,)}  # fmt: skip
        if hasattr(s, "phi") and not _network_fits(s.phi, nv):
            return False
    fits = all(shape[name] == size for name, size in needed.items() if name in shape)
    return fits and ("K" not in shape or (shape["K"][0] == nx and shape["K"][1] <= ny))


def _network_fits(phi: Any, n: int) -> bool:
    if not isinstance(phi, SandwichNetwork):
        layers = phi.layers if isinstance(phi, eqx.nn.MLP) else (phi,)
        return all(layer.bias.shape == layer.weight.shape[:1] for layer in layers)
    for layer in phi.layers:
        m = layer.b.size
        if (layer.W_in.shape, layer.W_out.shape, layer.b.shape, layer.psi.shape) != (
            (m, n),
            (m, m),
            (m,),
            (m,),
        ):
            return False
        n = m
    return phi.W.shape == (phi.b.size, n) and phi.b.ndim == 1


def _numbers_without_meaning(model, rng, _):
    system = _explicit(model)
    if hasattr(system, "rate"):
        return Case(
            dataclasses.replace(system, rate=float(rng.choice([-0.5, 0.0, 1.1, np.nan]))), lawful=False
        )
    if hasattr(system, "gamma"):
        return Case(
            dataclasses.replace(system, gamma=float(rng.choice([-0.5, 0.0, np.nan, np.inf]))), lawful=False
        )
    return None


def _triple(v):
    return 3 * v


def _overflowing(v):
    return jnp.log1p(jnp.exp(v))


def _other_activation(model, rng, _):
    """Slopes that are not in [0, 1], or an overflow in the model's own dtype."""
    functions = [_triple, jnp.sin, jnp.square, jnp.negative, _overflowing]
    found = functions[int(rng.integers(len(functions)))]
    system = _with_activation(_explicit(model), found)
    return None if system is None else Case(system, lawful=False)


def _known_activation(model, rng, _):
    found = [jnp.tanh, jax.nn.sigmoid, jax.nn.softplus][int(rng.integers(3))]
    system = _with_activation(_explicit(model), found)
    return None if system is None else Case(system)


def _with_activation(system: Any, activation: Any) -> Any:
    if isinstance(system, rc.nn.ExplicitREN):
        return dataclasses.replace(system, activation=activation)
    if not isinstance(getattr(system, "phi", None), SandwichNetwork):
        return None
    return dataclasses.replace(system, phi=dataclasses.replace(system.phi, activation=activation))


def _upper_entries(model, rng, _):
    """Entries of D11 on and above the diagonal, which no step reads, and other multipliers."""
    system = _explicit(model)
    if not isinstance(system, rc.nn.ExplicitREN):
        return None
    D11 = system.D11 + jnp.asarray(
        np.triu(rng.normal(size=system.D11.shape)) * 10 ** rng.uniform(-2, 2), system.D11.dtype
    )
    Lambda = system.Lambda * jnp.asarray(
        rng.choice([1.0, -1.0, 10.0], system.Lambda.shape), system.Lambda.dtype
    )
    return Case(dataclasses.replace(system, D11=D11, Lambda=Lambda))


@functools.cache
def _subclass(cls: type, kind: int) -> type:
    """A class that steps otherwise: by a method, a compiled function, a mixin, a field, or a method that its step calls."""

    def louder(self, x, u):
        x_next, y = cls.step(self, x, u)
        return jax.tree.map(lambda a: 3 * a, x_next), 3 * y

    class Mixin:
        def step(self, x, u):
            x_next, y = super().step(x, u)  # pyright: ignore[reportAttributeAccessIssue]
            return x_next, 3 * y

    if kind == 0:
        return type("Louder", (cls,), {"step": louder})
    if kind == 1:
        return type("Compiled", (cls,), {"step": eqx.filter_jit(louder)})
    if kind == 2:
        return type("Mixed", (Mixin, cls), {})
    return type("Late", (type("Between", (cls,), {"step": louder}),), {})


def _subclassed(model, rng, _):
    system = _explicit(model)
    return Case(_as(system, _subclass(type(system), int(rng.integers(4)))), lawful=False)


@functools.cache
def _harmless(cls: type) -> type:
    return type("Named", (cls,), {"note": lambda self: "a method more"})


def _as(system: Any, cls: type) -> Any:
    made = object.__new__(cls)
    for name, value in vars(system).items():
        object.__setattr__(made, name, value)
    return made


EDITS: dict[str, Callable[[Any, np.random.Generator, Any], Case | None]] = {
    "none": lambda model, rng, _: Case(model),
    "explicit": lambda model, rng, _: Case(_explicit(model)),
    "an entry": _perturbed,
    "an array": _scaled_up,
    "bfloat16": _rounded(jnp.bfloat16),
    "float16": _rounded(jnp.float16),
    "float32": _rounded(jnp.float32),
    "another metric": _other_metric,
    "units of the states": _other_units,
    "scaled": _scaled,
    "scaled flags": _scaled_flags,
    "rescaled": _rescaled,
    "fitted and reloaded": _fitted,
    "reloaded": _reloaded,
    "NaN": _spoiled(np.nan),
    "infinite": _spoiled(np.inf),
    "complex": _spoiled(1j),
    "shapes": _broadcast,
    "rate or gamma": _numbers_without_meaning,
    "activation": _other_activation,
    "known activation": _known_activation,
    "upper D11 and Lambda": _upper_entries,
    "subclass": _subclassed,
    "harmless subclass": lambda model, rng, _: Case(_as(_explicit(model), _harmless(type(_explicit(model))))),
}
