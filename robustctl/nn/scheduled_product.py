"""Products of Householder factors that a schedule chooses: of norm at most one whatever it is."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..checks import check_sizes
from ..lft import BOUND_ROUNDING, LFT, Bounded, block_form, float64
from ..linalg import exact_map, frobenius
from ..registry import registered
from ..system import Certifiable, Parameterization
from .arrays import check_free, check_shapes, free_dtype
from .initializers import draw

EQUAL_SCHEDULES = "both trajectories have the same schedule, which may be any and as fast as it likes"

_REFLECTION = 5.0
"""First logit of a reflection, 2 sigmoid(5) = 1.987: two along one vector are almost the identity."""


@registered()
class HouseholderProduct(Certifiable):
    """The map `v -> (I - beta_1 k_1 k_1') ... (I - beta_m k_m k_m') v`, what a `ScheduledProduct` is at one schedule.

    **Arguments:**

    - `k`: vectors (factors, nv) of length at most one.
    - `beta`: (factors,), from 0 to 2.
    """

    k: Float[Array, "factors nv"]
    beta: Float[Array, " factors"]

    def __call__(self, v: Float[Array, " nv"]) -> Float[Array, " nv"]:
        """Return the product of the matrix and one vector."""
        for j in reversed(range(len(self.beta))):
            v = v - self.beta[j] * (self.k[j] @ v) * self.k[j]
        return v

    def lipschitz_bound(self) -> float:
        """Product of the factors' norms, in float64: 1 of every `ScheduledProduct`, at every schedule."""
        check_shapes(self, beta=(len(self.k),))
        k, beta = float64(self.k, self.beta)
        norms = np.maximum(1.0, np.abs(1.0 - beta * np.sum(k**2, axis=1)))
        # A norm that rounding alone takes above one is one: beta stays so far below 2.
        return float(np.prod(np.where(norms <= 1 + BOUND_ROUNDING / 8, 1.0, norms)))

    def lft(self) -> LFT:
        """Return the form without state: one block with the bound, which a schedule that changes at every sample keeps."""
        nv = self.k.shape[1]
        return block_form(Bounded(nv, nv, self.lipschitz_bound()))._replace(assumptions=(EQUAL_SCHEDULES,))


def _sizes(model: "ScheduledProduct") -> dict[str, Any]:
    (factors, nv, _), (hidden, scheduled) = model.K.shape, model.W.shape
    return {"nv": nv, "scheduled": scheduled, "factors": factors, "hidden": hidden}


@registered(sizes=_sizes)
class ScheduledProduct(Parameterization):
    """Product of Householder factors that depend on a schedule p, of norm at most one whatever p and the free arrays.

    ::

        H(p) = (I - beta_1 k_1 k_1') ... (I - beta_m k_m k_m'),     k_j = K_j f / |K_j f|,     beta_j = 2 sigmoid(q_j f)
        f = [1; p; tanh(W p + b)]

    With beta = 2 a factor is a reflection, two of which are a rotation; with beta = 1 it is a projection, with 0 the identity.
    Source: Siems et al., "DeltaProduct", arXiv 2502.10297, where p is the input of a layer.

    **Arguments:**

    - `nv`: width.
    - `scheduled`: number of entries of the schedule.
    - `factors`: m; an even number starts near the identity.
    - `hidden`: width of the hidden layer that reads the schedule.
    - `key`: seeds the initial values, one PRNG key.
    - `dtype`: of the free arrays, float32 or float64; default that of JAX.

    **Raises:** `InvalidModelError` for a size below 1 and another dtype.
    """

    W: Float[Array, "hidden scheduled"]
    b: Float[Array, " hidden"]
    K: Float[Array, "factors nv features"]
    q: Float[Array, "factors features"]

    def __init__(
        self, nv: int, scheduled: int, *, factors: int = 2, hidden: int = 8, key: PRNGKeyArray, dtype=None
    ):
        check_sizes(nv=nv, scheduled=scheduled, factors=factors, hidden=hidden)
        shapes = [
            (hidden, scheduled),
            (hidden,),
            (factors, nv, 1 + scheduled + hidden),
            (factors, 1 + scheduled + hidden),
        ]
        self.W, self.b, self.K, self.q = draw(lambda rng: _first(rng, shapes), shapes, free_dtype(dtype), key)

    @property
    def features(self) -> int:
        """Number of entries of f."""
        return self.q.shape[1]

    def read(self, p: Float[Array, " scheduled"]) -> Float[Array, " features"]:
        """Return f; entries of p beyond the root of the largest number of its dtype count as that."""
        # Near the largest number a norm divides by numbers whose reciprocal is flushed to zero, and k gets a length of thousands.
        most = float(jnp.finfo(self.b.dtype).max) ** 0.5
        p = jnp.clip(p, -most, most)
        return jnp.concatenate([jnp.ones(1, self.b.dtype), p, jnp.tanh(self.W @ p + self.b)])

    def at(self, f: Float[Array, " features"]) -> HouseholderProduct:
        """Return the product for what `read` returned."""
        k = jax.vmap(lambda a: a / frobenius(a))(self.K @ f)
        # |k|^2 rounds to at most 1 + (nv + 8) eps: with beta |k|^2 <= 2 no factor has a norm above one.
        most = 2 / (1 + (k.shape[1] + 8) * float(jnp.finfo(k.dtype).eps))
        return HouseholderProduct(k, most * jax.nn.sigmoid(self.q @ f))

    @exact_map
    def explicit(self) -> HouseholderProduct:
        """Map to the product at a schedule of zeros."""
        check_free(self, self.b)
        return self.at(self.read(jnp.zeros(self.W.shape[1], self.b.dtype)))


def _first(rng: np.random.Generator, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    """Return random features of the schedule, and pairs of reflections along almost the same vector."""
    W, b, K, q = (rng.standard_normal(shape) for shape in shapes)
    factors, nv, features = K.shape
    # Next to unit vectors, of which there is one for each pair.
    K, q = 0.3 / np.sqrt(nv * features) * K, 0.1 / np.sqrt(features) * q
    first = rng.standard_normal((-(-factors // 2), nv))
    K[:, :, 0] = (first / np.linalg.norm(first, axis=1, keepdims=True)).repeat(2, axis=0)[:factors]
    # The last of an odd number has no partner: it starts near the identity itself.
    q[:, 0] = np.where(np.arange(factors) < factors // 2 * 2, _REFLECTION, -_REFLECTION)
    return [W / np.sqrt(W.shape[1]), b, K, q]
