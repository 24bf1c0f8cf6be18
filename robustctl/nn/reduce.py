"""A smaller R2DN or REN from a trained one: fewer states and neurons, the same guarantee."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from ..checks import check_whole
from ..errors import InvalidModelError
from ..linalg import slack
from ..pytrees import fields_of
from .group_sizes import Simulated, check_recurrent, simulated
from .guarantee import Recurrent
from .inverse import Matrices, Rates, within_ports
from .lure import LureSystem
from .r2dn import ExplicitR2DN, R2DNCore
from .ren import ExplicitREN
from .sandwich import LBDN
from .smaller_network import smaller_network
from .supply import in_float64

SHORTER = 4.0, 8
"""Factor by which the distance from the boundary of the guarantee grows in each trial, in slacks of the dtype, and trials."""


class Kept(NamedTuple):
    """What is left: an orthonormal basis of states in coordinates of the metric, neurons or features, features into the network, layers."""

    basis: np.ndarray
    out: np.ndarray
    into: np.ndarray
    hidden: tuple[np.ndarray, ...]


def reduce(
    model: Recurrent,
    u: Any,
    *,
    nx: int | None = None,
    nv: int | None = None,
    hidden: Sequence[int] | None = None,
) -> Recurrent:
    """Return a smaller model of the same class and guarantee: fewer states by balanced truncation, fewer neurons.

    ::

        x = mean + T z,    T' P T = I,    span T = that of the leading columns of balanced coordinates
        z+ = T'P (A T z + B1 w + B2 u + ...),    w = response(C1 T z + ...)

    A projection that is orthogonal in the metric P of the certificate keeps it, `|z| <= |x|_P`; so do neurons and features left out: of
    an inequality that holds for all w the rows and columns of those that are left are one, too. What is left out is held at its mean.
    The Gramians are those of a simulation with typical inputs, see `group_sizes`, which shows what can go. Train the result again, for a
    short time.

    **Arguments:**

    - `model`: an R2DN or a REN, trained; of a fitted model `model.parameterization`.
    - `u`: typical inputs (T, nu), as the model reads them; of a longer record the middle 5,000 samples.
    - `nx`: number of states of the result, 1 up to that of the model. None: as it is.
    - `nv`: number of neurons of a REN or network features of an R2DN, likewise.
    - `hidden`: widths of the hidden layers of an R2DN's network, likewise; as many as it has.

    **Returns:** a model of the same class, whose guarantee holds for every set of its free arrays; its states have other coordinates.

    **Raises:** `InvalidModelError` for another model, sizes that are not between 1 and the model's, inputs that are not finite or not
    (T, nu), and a network inside that is no `LBDN` where it must be smaller.

    **Source:** truncation with a storage function as in P. C. Opdenacker, E. A. Jonckheere, IEEE TCAS 35, 1988; balanced truncation of
    learned state-space models as in M. Forgione et al., arXiv 2403.14833.

    **Example:** ::

        model = rc.nn.ContractingR2DN(nu=1, nx=8, nv=12, ny=1, hidden=(16,), key=jax.random.key(0))
        small = rc.nn.reduce(model, np.random.default_rng(0).normal(size=(500, 1)), nx=4, nv=6, hidden=(8,))
    """
    core = check_recurrent(model).core
    now = model.sizes() | {"hidden": _widths(core)}
    _check_sizes(now, nx, nv, hidden)
    phi = core.phi if isinstance(core, R2DNCore) else None
    if phi is not None and not isinstance(phi, LBDN) and (hidden or nv not in (None, now["nv"])):
        raise InvalidModelError(
            f"the network must be an LBDN to be made smaller, got {type(phi).__name__}; give nx alone"
        )
    system = model.explicit()
    found = simulated(system, u)
    out, into, *layers = found.signals if isinstance(system, ExplicitR2DN) else (found.signals[0],) * 2
    P = np.asarray(system.P, np.float64)
    kept = Kept(
        _basis(found, P, nx or len(P)),
        _largest(out.size, nv),
        _largest(into.size, nv),
        tuple(_largest(s.size, n) for s, n in zip(layers, hidden or [None] * len(layers), strict=True)),
    )
    free = _free_arrays(core, _projected(system, found, kept), system, float(model.rate))
    if isinstance(phi, LBDN):
        free["phi"] = smaller_network(
            phi, (kept.into, *kept.hidden, kept.out), [into.mean, *(s.mean for s in layers)]
        )
    names = list(free)
    smaller = eqx.tree_at(lambda c: [fields_of(c)[name] for name in names], core, list(free.values()))
    return eqx.tree_at(lambda m: m.core, model, smaller)


def _widths(core: Any) -> tuple[int, ...]:
    phi = getattr(core, "phi", None)
    return tuple(layer.d.size for layer in phi.layers) if isinstance(phi, LBDN) else ()


def _check_sizes(now: dict[str, Any], nx: int | None, nv: int | None, hidden: Sequence[int] | None) -> None:
    wanted = {"nx": (nx, now["nx"]), "nv": (nv, now["nv"])}
    if hidden is not None:
        if len(hidden) != len(now["hidden"]):
            raise InvalidModelError(
                f"hidden must have a width for each of {len(now['hidden'])} hidden layers, got {tuple(hidden)}"
            )
        wanted |= {f"hidden[{k}]": pair for k, pair in enumerate(zip(hidden, now["hidden"], strict=True))}
    for name, (size, most) in wanted.items():
        if size is not None:
            check_whole(1, **{name: size})
            if size > most:
                raise InvalidModelError(
                    f"{name} must be at most that of the model, {most}, got {size}; reduce only makes a model smaller"
                )


def _largest(sizes: np.ndarray, count: int | None) -> np.ndarray:
    """Return the indices, in order, of so many of the largest; None: of all."""
    return np.sort(np.argsort(-sizes, kind="stable")[:count])


def _basis(found: Simulated, P: np.ndarray, nx: int) -> np.ndarray:
    """Return T (n, nx) with `T'PT = I` whose columns span the leading columns of balanced coordinates."""
    R = np.linalg.cholesky(P).T
    if nx == len(P):
        return np.linalg.inv(R)
    L = np.linalg.cholesky(found.reached)
    U = np.linalg.eigh(L.T @ found.seen @ L)[1][:, ::-1]
    return np.linalg.solve(R, np.linalg.qr(R @ L @ U[:, :nx])[0])


class _Part(NamedTuple):
    """The linear part of the smaller model, and its other offsets."""

    m: Matrices
    bv: np.ndarray
    by: np.ndarray


def _projected(system: LureSystem, found: Simulated, kept: Kept) -> _Part:
    names = ("A", "B1", "B2", "C1", "C2", "D12", "D21", "D22", "bx", "bv", "by", "P")
    A, B1, B2, C1, C2, D12, D21, D22, bx, bv, by, P = (
        np.asarray(fields_of(system)[name], np.float64) for name in names
    )
    T, mean, out, into = kept.basis, found.mean, kept.out, kept.into
    back = T.T @ P
    w = found.signals[0].mean.copy()
    w[out] = 0
    bx, by, bv = A @ mean + B1 @ w + bx - mean, C2 @ mean + D21 @ w + by, C1 @ mean + bv
    layer: dict[str, np.ndarray] = {}
    if isinstance(system, ExplicitREN):
        D11 = np.tril(np.asarray(system.D11, np.float64), -1)
        bv = bv + D11 @ w
        layer = {"D11": D11[np.ix_(out, out)], "Lambda": np.asarray(system.Lambda, np.float64)[out]}
    m = Matrices(
        back @ A @ T, back @ B1[:, out], back @ B2, C1[into] @ T, C2 @ T, D12[into], D21[:, out], D22, back @ bx, **layer
    )  # fmt: skip
    return _Part(m, bv[into], by)


def _free_arrays(core: Any, part: _Part, system: LureSystem, rate: float) -> dict[str, Any]:
    """Return the free arrays of the smaller model, a little inside of its guarantee where rounding would leave it outside."""
    m, dtype, supply = part.m, core.bx.dtype, in_float64(system.supply)
    if supply is not None:
        m = _of_unit_gain(m, supply)
    grows, trials = SHORTER
    for k in range(trials):
        shorter = 1 - (slack(dtype) * grows**k if k else 0.0)
        free = core.inverse(_shortened(m, shorter), rate, dtype) | {"bv": part.bv, "by": part.by}
        if all(np.isfinite(a).all() for a in free.values()):
            return {name: jnp.asarray(np.asarray(a, dtype)) for name, a in free.items()}
    raise InvalidModelError(
        f"the model must keep its guarantee in {np.dtype(dtype)}, but rounding of its matrices leaves no room; use float64 or a larger rate"
    )


def _of_unit_gain(m: Matrices, supply: Rates) -> Matrices:
    """Return the linear part with the ports that the map of a supply rate starts from."""
    B2, C2, D22 = within_ports(supply, m.B2, m.C2, m.D22)
    nothing = np.zeros_like(m.D22)
    D12 = within_ports(supply, m.D12, m.C2, nothing)[0]
    D21 = within_ports(supply, m.B2, m.D21, nothing)[1]
    return m._replace(B2=B2, C2=C2, D22=D22, D12=D12, D21=D21)


def _shortened(m: Matrices, factor: float) -> Matrices:
    """Return the linear part with everything multiplied that its guarantee bounds."""
    if factor == 1:
        return m
    names = ("A", "B1", "B2", "C1", "C2", "D12", "D21", "D22")
    values = {name: factor * fields_of(m)[name] for name in names}
    return m._replace(**values, D11=None if m.D11 is None else factor * m.D11)
