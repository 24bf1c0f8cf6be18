"""Networks of orthogonal matrices with activations that sort or reflect: 1-Lipschitz, and gradients keep their norm."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..checks import check_sizes
from ..errors import InvalidModelError
from ..lft import LFT, series, static_gain
from ..linalg import exact_map, polar_cayley, slack
from ..registry import registered
from ..system import Certifiable, Parameterization
from .activations import name_of
from .arrays import check_free, check_one, check_shapes, free_dtype
from .group_activations import GroupSort, Householder, max_min
from .initializers import lecun_normals, split
from .numpy_maps import norm


@registered()
class OrthogonalLayer(eqx.Module):
    """`h -> W h + b`."""

    W: Float[Array, "no ni"]
    b: Float[Array, " no"]


@registered()
class OrthogonalNetwork(Certifiable):
    """An explicit `Orthogonal`: matrices with the activation between them. Call it on one vector."""

    layers: tuple[OrthogonalLayer, ...]
    activation: GroupSort | Householder

    @property
    def ni(self) -> int:
        """Number of features in."""
        return self.layers[0].W.shape[-1]

    @property
    def b(self) -> Float[Array, " no"]:
        """Offset of the output."""
        return self.layers[-1].b

    def __call__(self, h: Float[Array, " ni"]) -> Float[Array, " no"]:
        """Evaluate the network on one feature vector."""
        check_one(self, self.b)
        *hidden, last = self.layers
        for layer in hidden:
            h = self.activation(layer.W @ h + layer.b)
        return last.W @ h + last.b

    def lipschitz_bound(self) -> float:
        """Product of the norms of the weights that run, in float64, and of what rounds an activation's unit vector."""
        self._check()
        matrices = [np.asarray(layer.W, np.float64) for layer in self.layers]
        if not all(np.isfinite(W).all() for W in matrices):
            return float("inf")
        activations = self.activation.gain(self.b.dtype) ** (len(matrices) - 1)
        return math.prod(float(np.linalg.norm(W, 2)) for W in matrices) * activations

    def lft(self) -> LFT:
        """Return the form without state: matrices, and the form of the activation between them."""
        self._check()
        first, *rest = (static_gain(layer.W) for layer in self.layers)
        form = first
        for matrix in rest:
            form = series(series(form, self.activation.form(form.ny, self.b.dtype)), matrix)
        return form

    def _check(self) -> None:
        """Raise `InvalidModelError` for arrays that do not fit each other."""
        check_one(self, self.b)
        n = self.ni
        for layer in self.layers:
            no = layer.b.size
            check_shapes(layer, W=(no, n), b=(no,))
            n = no


@registered()
class OrthogonalParameters(eqx.Module):
    """Free arrays of one orthogonal matrix: `Cayley(a XY / |XY|_F)` or, where it has fewer rows than columns, its transpose."""

    XY: Float[Array, "_ _"]
    a: Float[Array, ""]
    b: Float[Array, " no"]

    def explicit(self) -> OrthogonalLayer:
        """Map to the layer's weights."""
        Q = (1 - slack(self.XY.dtype)) * polar_cayley(self.XY, self.a)
        return OrthogonalLayer(Q if len(Q) == self.b.size else Q.T, self.b)


def _sizes(model: "Orthogonal") -> dict[str, Any]:
    *hidden, no = (layer.b.size for layer in model.layers)
    first = model.layers[0].XY.shape
    ni = first[1] if first[0] == model.layers[0].b.size else first[0]
    return {"ni": ni, "no": no, "hidden": tuple(hidden), "activation": model.activation}


@registered(sizes=_sizes)
class Orthogonal(Parameterization):
    """Network of orthogonal matrices: `|phi(v1) - phi(v2)| <= |v1 - v2|` for every set of free arrays.

    ::

        h -> activation(Q h + b)   for each hidden layer,      h -> Q h + b   last

    with `Q'Q = I` or `Q Q' = I`, by the Cayley map. Square layers and the activation keep the norm of a gradient, up to
    `eps^(3/4)` of the dtype. It does not need slopes in [0, 1]: as `phi` of an R2DN a 1-Lipschitz network is enough.
    Source: Anil, Lucas, Grosse, ICML 2019; the Cayley map as in [WM23].

    **Arguments:**

    - `ni`: number of features in.
    - `no`: number of features out.
    - `hidden`: widths of the hidden layers, multiples of the activation's size of a group.
    - `activation`: `max_min`, a `GroupSort` or a `Householder`.
    - `key`: seeds the initial values, one PRNG key.
    - `dtype`: of the free arrays, float32 or float64; default that of JAX.

    **Raises:** `InvalidModelError` for a size below 1, another dtype or activation, and a width that is not made of whole groups.

    **Example:** ::

        phi = rc.nn.Orthogonal(8, 8, (16, 16), key=jax.random.key(1))
        model = rc.nn.LipschitzR2DN(nu=1, nx=4, nv=8, ny=1, gamma=2.0, phi=phi, key=jax.random.key(0))
    """

    layers: tuple[OrthogonalParameters, ...]
    activation: GroupSort | Householder

    def __init__(
        self, ni: int, no: int, hidden: Sequence[int], *, activation: GroupSort | Householder = max_min,
        key: PRNGKeyArray, dtype=None,
    ):  # fmt: skip
        widths = {f"hidden[{k}]": width for k, width in enumerate(hidden)}
        check_sizes(ni=ni, no=no, **widths)
        dtype = free_dtype(dtype)
        if not isinstance(activation, GroupSort | Householder):
            raise InvalidModelError(
                f"activation must be max_min, a GroupSort or a Householder, got {name_of(activation)}; use LBDN for one of one "
                "signal with slopes in [0, 1]"
            )
        for name, width in widths.items():
            activation.check_width(name, width)
        sizes = tuple(itertools.pairwise((ni, *hidden, no)))
        weight_key, bias_key = split(key, 2)
        weights = lecun_normals(weight_key, tuple((max(s), min(s)) for s in sizes), dtype)
        biases = lecun_normals(bias_key, tuple((m,) for _, m in sizes), dtype)
        self.layers = tuple(
            OrthogonalParameters(XY, norm(XY), b) for XY, b in zip(weights, biases, strict=True)
        )
        self.activation = activation

    @exact_map
    def explicit(self) -> OrthogonalNetwork:
        """Map to the network's weights."""
        check_free(self, self.layers[-1].b)
        return OrthogonalNetwork(tuple(layer.explicit() for layer in self.layers), self.activation)
