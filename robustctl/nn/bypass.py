"""The Lipschitz-bounded deep network with a linear bypass: what a network passes on costs it no neuron.

The inequality of a residual network is that of "LDLT L-Lipschitz network", arXiv 2512.05915. Here the hidden layers are
eliminated first and the output last, so that no block has to be split between two of them.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.scipy.linalg as jsl
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..checks import check_sizes
from ..errors import InvalidModelError
from ..lft import LFT, block_diagonal, float64, static
from ..linalg import exact_map, polar_cayley
from ..registry import registered
from ..system import Certifiable, Parameterization
from .activations import Activation, check_activation, dtypes_of, fault, neurons
from .arrays import check_free, check_one, check_shapes, free_dtype
from .initializers import lecun_normals, split
from .numpy_maps import norm, zeros
from .sandwich import positive

_STRICT = 1e-2
"""How far the hidden layers' contractions stay below one: their pivots are then far from singular in float32 too."""

_ROUNDING = 1e-9
"""Of the elimination in float64, whose pivots are at least `_STRICT`: far above what it can be, far below float32's."""


@registered()
class BypassLayer(eqx.Module):
    """One explicit hidden layer, `h -> activation(C h + b)`; `lam` is its multiplier, which only checking the bound needs."""

    C: Float[Array, "nh ni"]
    b: Float[Array, " nh"]
    lam: Float[Array, " nh"]


@registered()
class BypassNetwork(Certifiable):
    """An explicit `BypassLBDN`: `h -> A h + B w + b`, w of the last hidden layer. Call it on one vector."""

    A: Float[Array, "no ni"]
    layers: tuple[BypassLayer, ...]
    B: Float[Array, "no nh"]
    b: Float[Array, " no"]
    activation: Activation = eqx.field(static=True)

    @property
    def ni(self) -> int:
        """Number of features in."""
        return self.A.shape[-1]

    def __call__(self, h: Float[Array, " ni"]) -> Float[Array, " no"]:
        """Evaluate the network on one feature vector."""
        check_one(self, self.b)
        w = h
        for layer in self.layers:
            w = self.activation(layer.C @ w + layer.b)
        return self.A @ h + self.B @ w + self.b

    def lipschitz_bound(self) -> float:
        """Bound from the weights that run and `lam`, in float64; sound for any positive `lam`, infinite for a faulty activation.

        ::

            |dy|^2 <= L^2 (|dh|^2 + sum_i 2 dw_i' Lam_i (dw_i - C_i dw_{i-1})),      L^2 = max eig (H M^-1 H'),   H = [A 0 B]

        with M of the bracket, block tridiagonal, eliminated from its first block on.
        """
        self._check()
        A, B, *rest = float64(self.A, self.B, *(a for layer in self.layers for a in (layer.C, layer.lam)))
        finite = all(np.isfinite(M).all() for M in (A, B, *rest))
        if fault(self.activation, *dtypes_of(self)) or not finite or any(np.any(r <= 0) for r in rest[1::2]):
            return math.inf
        # In the coordinates Lam_i^1/2 w_i all blocks are of size one.
        before = np.ones(self.ni)
        D, G, total = np.eye(self.ni), A, np.zeros((len(A), len(A)))
        for C, root in zip(rest[::2], map(np.sqrt, rest[1::2]), strict=True):
            solved = np.linalg.solve(D, np.hstack([G.T, (root[:, None] * C / before).T]))
            through, C = solved[:, : len(A)], root[:, None] * C / before
            total = total + G @ through
            D, G, before = 2 * np.eye(len(C)) - C @ solved[:, len(A) :], through.T @ C.T, root
            if not np.linalg.eigvalsh((D + D.T) / 2)[0] > _STRICT:
                return math.inf
        G = G + B / before
        largest = np.linalg.eigvalsh(total + G @ np.linalg.solve(D, G.T))[-1]
        return math.sqrt(max(largest, 0.0)) * (1 + _ROUNDING)

    def lft(self) -> LFT:
        """Return the form without state, one block a hidden layer: `v_1 = C_1 u, v_i = C_i w_{i-1}, y = A u + B w_L`."""
        self._check()
        first, *inner = float64(*(layer.C for layer in self.layers))
        sizes = [layer.b.size for layer in self.layers]
        n, last = sum(sizes), sizes[-1]
        D11, D12, D21 = np.zeros((n, n)), np.zeros((n, self.ni)), np.zeros((self.b.size, n))
        D12[: sizes[0]], D21[:, n - last :] = first, self.B
        D11[sizes[0] :, : n - last] = block_diagonal(inner)
        found = [neurons(size, self.activation, dtypes_of(self)) for size in sizes]
        return static(D11, D12, D21, self.A, [block for block, _ in found], found[0][1])

    def _check(self) -> None:
        """Raise `InvalidModelError` for arrays that do not fit each other."""
        check_one(self, self.b)
        n = self.ni
        for layer in self.layers:
            nh = layer.b.size
            check_shapes(layer, C=(nh, n), b=(nh,), lam=(nh,))
            n = nh
        check_shapes(self, A=(self.b.size, self.ni), B=(self.b.size, n))


@registered()
class BypassParameters(eqx.Module):
    """Free arrays of one hidden layer: of its contraction, its multiplier `exp(2 d)` and its offset."""

    XY: Float[Array, "_ _"]
    a: Float[Array, ""]
    d: Float[Array, " nh"]
    b: Float[Array, " nh"]


def _contraction(XY: Array, a: Array, rows: int) -> Array:
    """Return the lower block of the Cayley map, (rows, len(XY) - rows), of norm at most one up to rounding."""
    n = XY.shape[1]
    N = polar_cayley(XY, a)[n:]
    return N if len(N) == rows else N.T


def _shape(rows: int, columns: int) -> tuple[int, int]:
    return rows + columns, min(rows, columns)


def _sizes(model: "BypassLBDN") -> dict[str, Any]:
    hidden, no = tuple(layer.d.size for layer in model.layers), model.b.size
    return {"ni": model.layers[0].XY.shape[0] - hidden[0], "no": no, "hidden": hidden}


@registered(sizes=_sizes)
class BypassLBDN(Parameterization):
    """Lipschitz-bounded deep network with a linear bypass: `|phi(v1) - phi(v2)| <= |v1 - v2|` for every set of free arrays.

    ::

        w_0 = v,      w_i = activation(C_i w_{i-1} + b_i),      phi(v) = A v + B w_L + b

    Every network whose bound the multipliers `Lam_i` prove is of this form, as far as its contractions are strict:

    ::

        M_i M_i' = I - N_i N_i',      H_i = M_i^-1 N_i H_{i-1},      M_0 = H_0 = I,      Lam_0 = I / 2
        C_i = 2 Lam_i^-1/2 N_i M_{i-1}' Lam_{i-1}^1/2
        A R' = U,      R'R = sum_{i<L} H_i'H_i,      B = sqrt(2) (V M_L' - A H_{L-1}' N_L') Lam_L^1/2

    with contractions `N_i` and `[U V]`, each of one Cayley map. With `U = 0` it is an `LBDN`.
    Source: the inequality is that of arXiv 2512.05915, its parameterization ours.

    **Arguments:**

    - `ni`: number of features in.
    - `no`: number of features out.
    - `hidden`: widths of the hidden layers, at least one.
    - `activation`: elementwise, slope in [0, 1].
    - `key`: seeds the initial values, one PRNG key.
    - `dtype`: of the free arrays, float32 or float64; default that of JAX.

    **Raises:** `InvalidModelError` for a size below 1, no hidden layer, another dtype or an activation with a slope outside [0, 1].

    **Example:** ::

        phi = rc.nn.BypassLBDN(8, 8, (16,), key=jax.random.key(1))
        model = rc.nn.LipschitzR2DN(nu=1, nx=4, nv=8, ny=1, gamma=2.0, phi=phi, key=jax.random.key(0))
    """

    layers: tuple[BypassParameters, ...]
    UV: Float[Array, "_ _"]
    a: Float[Array, ""]
    b: Float[Array, " no"]
    activation: Activation = eqx.field(static=True)

    def __init__(
        self, ni: int, no: int, hidden: Sequence[int], *, activation: Activation = jax.nn.relu,
        key: PRNGKeyArray, dtype=None,
    ):  # fmt: skip
        check_sizes(ni=ni, no=no, **{f"hidden[{k}]": width for k, width in enumerate(hidden)})
        dtype = free_dtype(dtype)
        check_activation(activation, dtype)
        if not hidden:
            raise InvalidModelError(
                "hidden must have at least one width, got none; use LBDN for an affine map"
            )
        shapes = tuple(_shape(m, n) for n, m in itertools.pairwise((ni, *hidden)))
        weight_key, bias_key = split(key, 2)
        *inner, self.UV = lecun_normals(weight_key, (*shapes, _shape(no, ni + hidden[-1])), dtype)
        biases = lecun_normals(bias_key, tuple((m,) for m in hidden), dtype)
        self.layers = tuple(
            BypassParameters(XY, norm(XY), zeros(b.size, dtype), b)
            for XY, b in zip(inner, biases, strict=True)
        )
        self.a = norm(self.UV)
        self.b = zeros(no, dtype)
        self.activation = activation

    @exact_map
    def explicit(self) -> BypassNetwork:
        """Map to the network's weights."""
        check_free(self, self.b)
        dtype, ni = self.b.dtype, self.layers[0].XY.shape[0] - self.layers[0].b.size
        root2 = jnp.sqrt(jnp.asarray(2, dtype))
        H = eye = jnp.eye(ni, dtype=dtype)
        M, psi, seen, layers = eye, jnp.ones(ni, dtype) / root2, [], []
        for layer in self.layers:
            N = (1 - _STRICT) * _contraction(layer.XY, layer.a, layer.b.size)
            before, psi = psi, positive(layer.d)
            C = 2 * (N @ M.T) * before[None, :] / psi[:, None]
            layers.append(BypassLayer(C, layer.b, psi**2))
            M = jnp.linalg.cholesky(jnp.eye(len(N), dtype=dtype) - N @ N.T)
            seen, through = [*seen, H], N @ H
            H = jsl.solve_triangular(M, through, lower=True)
        # [U V] with room for the rounding of what follows.
        UV = (1 - float(jnp.finfo(dtype).eps) ** 0.5) * _contraction(self.UV, self.a, self.b.size)
        # R'R is the sum of all H'H; its factor from them, not from the sum, whose condition is squared.
        R = jnp.linalg.qr(jnp.concatenate(seen), mode="r")
        A = jsl.solve_triangular(R, UV[:, :ni].T).T
        B = root2 * (UV[:, ni:] @ M.T - A @ through.T) * psi[None, :]
        return BypassNetwork(A, tuple(layers), B, self.b, self.activation)
