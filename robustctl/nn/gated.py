"""The gated networks that others start from, under the same interface and without any guarantee."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..checks import check_sizes
from ..pytrees import shape_of
from ..registry import registered
from ..state_space import DirectPath
from ..system import Parameterization
from .arrays import check_free, check_one, free_dtype
from .initializers import draw, lecun_normals, split
from .numpy_maps import zeros


@registered(sizes=lambda cell: {"nu": cell.weight_ih.shape[1], "nx": cell.weight_hh.shape[0] // 3})
class ParaGRUCell(eqx.Module):
    """A gated recurrent unit whose gates see only the own state of each unit."""

    weight_ih: Float[Array, "three_nx nu"]
    weight_hh: Float[Array, " three_nx"]
    bias: Float[Array, " three_nx"]

    def __init__(self, nu: int, nx: int, *, dtype=None, key: PRNGKeyArray):
        # The arrays of Equinox's cell, of which the recurrent ones are a diagonal.
        cell = eqx.nn.GRUCell(nu, nx, dtype=dtype, key=key)
        assert cell.bias is not None
        self.weight_ih, self.weight_hh, self.bias = cell.weight_ih, cell.weight_hh[:, 0], cell.bias

    def __call__(self, u: Float[Array, " nu"], h: Float[Array, " nx"]) -> Float[Array, " nx"]:
        """Return the next state."""
        reset, update, new = jnp.split(self.weight_ih @ u + self.bias, 3)
        to_reset, to_update, to_new = jnp.split(self.weight_hh, 3)
        z, r = jax.nn.sigmoid(update + to_update * h), jax.nn.sigmoid(reset + to_reset * h)
        n = jnp.tanh(new + to_new * (r * h))
        return n + z * (h - n)


@registered()
class GatedSystem(DirectPath):
    """A gated cell with a linear readout, ready to step; it carries no guarantee.

    ::

        h+ = cell(u, h),   y = C h+ + D u + by

    The state is `x = h` of a GRU (nx) and `x = [h; c]` of an LSTM (2 nx). The readout sees the new hidden
    state, as is usual, so that the input reaches the output through the gates within the same sample.
    """

    cell: "eqx.nn.GRUCell | eqx.nn.LSTMCell | ParaGRUCell"
    C: Float[Array, "ny nx"]
    D: Float[Array, "ny nu"]
    by: Float[Array, " ny"]

    def init_state(self) -> Float[Array, " _"]:
        """Return the zero state."""
        return jnp.zeros((2 if self._has_cell else 1) * self.C.shape[1], self.C.dtype)

    @property
    def _has_cell(self) -> bool:
        """An LSTM carries its cell c besides its output h."""
        return isinstance(self.cell, eqx.nn.LSTMCell)

    def step(
        self, x: Float[Array, " nh"], u: Float[Array, " {self.D.shape[1]}"]
    ) -> tuple[Float[Array, " nh"], Float[Array, " {self.C.shape[0]}"]]:
        """Return `(x_next, y)`."""
        check_one(self, self.by)
        cell: Any = self.cell
        if self._has_cell:
            h, c = jnp.split(x, 2)
            h, c = cell(u, (h, c))
            x_next = jnp.concatenate([h, c])
        else:
            h = x_next = cell(u, x)
        return x_next, self.C @ h + self.D @ u + self.by


def _sizes(model) -> dict:
    (ny, nx), nu = model.system.C.shape, model.system.D.shape[1]
    return {"nu": nu, "nx": nx, "ny": ny}


class Gated(Parameterization):
    """Base of the gated networks, whose free arrays are those of the system itself."""

    system: GatedSystem

    def explicit(self) -> GatedSystem:
        """Return the model: its arrays are the free ones."""
        check_free(self, self.system.by)
        return self.system

    def quiet(self, factor: float = 1e-2) -> "Gated":
        """Return the model with its readout of the state multiplied by `factor`."""
        return eqx.tree_at(lambda m: m.system.C, self, factor * self.system.C)


@registered(sizes=_sizes)
class GRU(Gated):
    """Gated recurrent unit with a linear readout: a baseline with no guarantee of any kind.

    Source: Cho et al., "Learning phrase representations using RNN encoder-decoder", EMNLP 2014, as
    `equinox.nn.GRUCell`.

    **Arguments:**

    - `nu`: number of inputs.
    - `nx`: number of states.
    - `ny`: number of outputs.
    - `key`: seeds the initial values, one PRNG key.
    - `dtype`: of the free arrays, float32 or float64; default that of JAX.

    **Raises:** `InvalidModelError` for a size below 1 or another dtype.
    """

    def __init__(self, *, nu: int, nx: int, ny: int, key: PRNGKeyArray, dtype=None):
        self.system = _gated(eqx.nn.GRUCell, nu, nx, ny, key, dtype)


@registered(sizes=_sizes)
class ParaGRU(Gated):
    """Gated recurrent unit with diagonal recurrences and a linear readout: a baseline with no guarantee of any kind.

    ::

        z = sigmoid(a_z * h + B_z u + b_z),    r = sigmoid(a_r * h + B_r u + b_r)
        n = tanh(a_n * (r * h) + B_n u + b_n),    h+ = n + z * (h - n),    y = C h+ + D u + by

    with elementwise products: a `GRU` whose recurrent matrices are diagonal, so that its Jacobian in the state is diagonal, too.

    Source: Danieli et al., "ParaRNN: unlocking parallel training of nonlinear RNNs for large language models", arXiv 2510.21450.

    **Arguments:**

    - `nu`: number of inputs.
    - `nx`: number of states.
    - `ny`: number of outputs.
    - `key`: seeds the initial values, one PRNG key.
    - `dtype`: of the free arrays, float32 or float64; default that of JAX.

    **Raises:** `InvalidModelError` for a size below 1 or another dtype.
    """

    def __init__(self, *, nu: int, nx: int, ny: int, key: PRNGKeyArray, dtype=None):
        self.system = _gated(ParaGRUCell, nu, nx, ny, key, dtype)


@registered(sizes=_sizes)
class LSTM(Gated):
    """Long short-term memory with a linear readout: a baseline with no guarantee of any kind.

    Source: Hochreiter, Schmidhuber, "Long short-term memory", Neural Computation 1997, as
    `equinox.nn.LSTMCell`.

    **Arguments:**

    - `nu`: number of inputs.
    - `nx`: number of hidden units; the state has twice as many.
    - `ny`: number of outputs.
    - `key`: seeds the initial values, one PRNG key.
    - `dtype`: of the free arrays, float32 or float64; default that of JAX.

    **Raises:** `InvalidModelError` for a size below 1 or another dtype.
    """

    def __init__(self, *, nu: int, nx: int, ny: int, key: PRNGKeyArray, dtype=None):
        self.system = _gated(eqx.nn.LSTMCell, nu, nx, ny, key, dtype)


def _gated(cell, nu, nx, ny, key, dtype) -> GatedSystem:
    check_sizes(nu=nu, nx=nx, ny=ny)
    dtype = free_dtype(dtype)
    cell_key, C_key = split(key, 2)
    (C,) = lecun_normals(C_key, ((ny, nx),), dtype)
    return GatedSystem(
        cell=_drawn(lambda key: cell(nu, nx, dtype=dtype, key=key), nx, cell_key),
        C=C,
        D=zeros((ny, nu), dtype),
        by=zeros(ny, dtype),
    )


def _drawn(build, nx: int, key):
    """Draw every array of the cell as Equinox does, uniform in `[-1, 1] / sqrt(nx)`, without compiling."""
    like, fixed = eqx.partition(eqx.filter_eval_shape(build, key), lambda a: shape_of(a) is not None)
    leaves, structure = jax.tree.flatten(like)
    shapes, bound = [leaf.shape for leaf in leaves], 1 / math.sqrt(nx)
    # Uniform with the bound of Equinox and PyTorch.
    arrays = draw(lambda rng: [rng.uniform(-bound, bound, s) for s in shapes], shapes, leaves[0].dtype, key)
    return eqx.combine(jax.tree.unflatten(structure, arrays), fixed)
