"""Sandwich layers and the Lipschitz-bounded deep network (LBDN) made of them.

[WM23] Wang, Manchester, "Direct parameterization of Lipschitz-bounded deep networks", ICML 2023.
"""

import itertools
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..checks import check_sizes
from ..lft import LFT, float64, static
from ..linalg import cancellation, exact_map, polar_cayley, slack
from ..registry import registered
from ..system import Certifiable, Parameterization
from .activations import Activation, check_activation, dtypes_of, fault, neurons
from .arrays import check_free, check_one, check_shapes, free_dtype
from .initializers import lecun_normals, split
from .numpy_maps import norm, zeros


@registered()
class SandwichLayer(eqx.Module):
    """One explicit sandwich layer, `h -> W_out activation(W_in h + b)`.

    ::

        W_in = sqrt(2) Psi^-1 B,  W_out = sqrt(2) A' Psi,  A A' + B B' = I

    `psi` is the diagonal of Psi: evaluating the layer does not need it, checking its bound does.
    """

    W_in: Float[Array, "nh ni"]
    W_out: Float[Array, "nh nh"]
    b: Float[Array, " nh"]
    psi: Float[Array, " nh"]

    def lipschitz_bound(self) -> float:
        """Bound from the weights that run and `psi`, in float64; sound for any positive `psi`.

        ::

            L <= max eig (1/2) (Psi^-1 W_out' W_out Psi^-1 + Psi W_in W_in' Psi)
        """
        W_in, W_out, psi = (np.asarray(a, np.float64) for a in (self.W_in, self.W_out, self.psi))
        if not (np.all(psi > 0) and np.isfinite(W_in).all() and np.isfinite(W_out).all()):
            return float("inf")
        # With A' = W_out Psi^-1 / sqrt(2) and B = Psi W_in / sqrt(2) the bound is |A A' + B B'|, which is one where they are a Cayley pair.
        A_T, B = W_out / psi, psi[:, None] * W_in
        return float(np.linalg.eigvalsh(0.5 * (A_T.T @ A_T + B @ B.T))[-1])


@registered()
class SandwichNetwork(Certifiable):
    """An explicit LBDN: sandwich layers, then `h -> W h + b`. Call it on one vector."""

    layers: tuple[SandwichLayer, ...]
    W: Float[Array, "no nh"]
    b: Float[Array, " no"]
    activation: Activation = eqx.field(static=True)

    @property
    def ni(self) -> int:
        """Number of features in."""
        return (self.layers[0].W_in if self.layers else self.W).shape[-1]

    def __call__(self, h: Float[Array, " ni"]) -> Float[Array, " no"]:
        """Evaluate the network on one feature vector."""
        check_one(self, self.b)
        for layer in self.layers:
            h = layer.W_out @ self.activation(layer.W_in @ h + layer.b)
        return self.W @ h + self.b

    def lipschitz_bound(self) -> float:
        """Product of the layers' bounds, in float64 from the weights that run; infinite for a faulty activation."""
        self._check()
        # The product holds for slopes in [0, 1] alone.
        if fault(self.activation, *dtypes_of(self)):
            return float("inf")
        last = np.asarray(self.W, np.float64)
        norm = float(np.linalg.norm(last, 2)) if np.isfinite(last).all() else float("inf")
        return float(np.prod([layer.lipschitz_bound() for layer in self.layers])) * norm

    def lft(self) -> LFT:
        """Return the form without state, one block a hidden layer.

        ::

            pre_1 = W_in,1 u,     pre_i = W_in,i W_out,i-1 z_i-1,     y = W W_out,L z_L
        """
        self._check()
        ins = [*float64(*(layer.W_in for layer in self.layers)), *float64(self.W)]
        outs = float64(*(layer.W_out for layer in self.layers))
        ends = np.cumsum([0, *(W.shape[1] for W in outs)])
        # All pre-activations and y from all that comes before: u, z_1, ..., z_L; row block i reads column block i.
        rows, n = np.cumsum([0, *(W.shape[0] for W in ins)]), ins[0].shape[1]
        chain = np.zeros((rows[-1], n + ends[-1]))
        chain[: rows[1], :n] = ins[0]
        products = [W_in @ W_out for W_in, W_out in zip(ins[1:], outs, strict=True)]
        for i, product in enumerate(products):
            chain[rows[i + 1] : rows[i + 2], n + ends[i] : n + ends[i + 1]] = product
        sizes = [np.abs(W_in) @ np.abs(W_out) for W_in, W_out in zip(ins[1:], outs, strict=True)]
        cancel = cancellation(zip(products, sizes, strict=True))
        dtypes, v = dtypes_of(self), ends[-1]
        found = [neurons(W.shape[1], self.activation, dtypes) for W in outs]
        assumptions = (*(found[0][1] if found else ()), *cancel)
        blocks = [block for block, _ in found]
        return static(chain[:v, n:], chain[:v, :n], chain[v:, n:], chain[v:, :n], blocks, assumptions)

    def _check(self) -> None:
        """Raise `InvalidModelError` for arrays that do not fit each other."""
        check_one(self, self.b)
        n = self.ni
        for layer in self.layers:
            nh = layer.b.size
            check_shapes(layer, W_in=(nh, n), W_out=(nh, nh), b=(nh,), psi=(nh,))
            n = nh
        check_shapes(self, W=(self.b.size, n))


def positive(d: Float[Array, " nh"]) -> Float[Array, " nh"]:
    """Return `exp(d)`, bounded, because beyond about e^40 the two weights of a layer leave float32 while their product does not."""
    return jnp.exp(20 * jnp.tanh(d / 20))


@registered()
class SandwichParameters(eqx.Module):
    """Free arrays of one sandwich layer from `ni` to `nh` features.

    ::

        [A'; B'] = Cayley(a XY / |XY|_F),  Psi = diag(exp(d))
    """

    XY: Float[Array, "_ nh"]
    a: Float[Array, ""]
    d: Float[Array, " nh"]
    b: Float[Array, " nh"]

    def explicit(self) -> SandwichLayer:
        """Map to the layer's weights."""
        nh = self.d.size
        Q = polar_cayley(self.XY, self.a)
        psi = positive(self.d)
        root2 = jnp.sqrt(jnp.asarray(2, Q.dtype))
        return SandwichLayer(root2 * Q[nh:].T / psi[:, None], root2 * Q[:nh] * psi[None, :], self.b, psi)


def _sizes(model: "LBDN") -> dict:
    hidden, no = tuple(layer.d.size for layer in model.layers), model.b.size
    first = (model.layers[0].XY.shape[0] - hidden[0]) if hidden else (model.XY.shape[0] - no)
    return {"ni": first, "no": no, "hidden": hidden}


@registered(sizes=_sizes)
class LBDN(Parameterization):
    """Lipschitz-bounded deep network: `|phi(v1) - phi(v2)| <= |v1 - v2|` for every set of free arrays.

    ::

        h -> sqrt(2) A' Psi activation(sqrt(2) Psi^-1 B h + b)   for each hidden layer,
        h -> B h + b                                             last, linear

    Source: [WM23], Theorem 3.2 with gamma = 1.

    **Arguments:**

    - `ni`: number of features in.
    - `no`: number of features out.
    - `hidden`: widths of the hidden layers, `()` for an affine contraction.
    - `activation`: elementwise, slope in [0, 1].
    - `key`: seeds the initial values, one PRNG key.
    - `dtype`: of the free arrays, float32 or float64; default that of JAX.

    **Raises:** `InvalidModelError` for a size below 1, another dtype or an activation with a slope outside [0, 1].
    """

    layers: tuple[SandwichParameters, ...]
    XY: Float[Array, "_ no"]
    a: Float[Array, ""]
    b: Float[Array, " no"]
    activation: Activation = eqx.field(static=True)

    def __init__(
        self,
        ni: int,
        no: int,
        hidden: Sequence[int],
        *,
        activation: Activation = jax.nn.relu,
        key: PRNGKeyArray,
        dtype=None,
    ):
        check_sizes(ni=ni, no=no, **{f"hidden[{k}]": width for k, width in enumerate(hidden)})
        dtype = free_dtype(dtype)
        check_activation(activation, dtype)
        widths = (ni, *hidden, no)
        shapes = tuple((m + n, m) for n, m in itertools.pairwise(widths))
        weight_key, bias_key = split(key, 2)
        *inner, self.XY = lecun_normals(weight_key, shapes, dtype)
        biases = lecun_normals(bias_key, tuple((m,) for m in hidden), dtype)
        self.layers = tuple(
            SandwichParameters(XY, norm(XY), zeros(XY.shape[1], dtype), b)
            for XY, b in zip(inner, biases, strict=True)
        )
        self.a = norm(self.XY)
        self.b = zeros(no, dtype)
        self.activation = activation

    @exact_map
    def explicit(self) -> SandwichNetwork:
        """Map to the network's weights."""
        check_free(self, self.b)
        no = self.b.size
        B = polar_cayley(self.XY, self.a)[no:].T
        layers = tuple(layer.explicit() for layer in self.layers)
        return SandwichNetwork(layers, (1 - slack(B.dtype)) * B, self.b, self.activation)
