"""An R2DN arranged for many steps: neighboring linear maps multiplied out once."""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..errors import InvalidModelError
from ..lft import LFT, block_diagonal, float64
from ..registry import registered
from ..system import System
from .activations import ACTIVATIONS, IN_NUMPY, Activation, neurons
from .folded_scan import folded_scan


@registered()
class FoldedR2DN(System):
    """The same map as the `ExplicitR2DN` that it came from, in one matrix product a layer.

    ::

        [r; z1] = G [x; u] + g,             h1 = activation(z1)
        h_k = activation(W_k h_{k-1} + b_k)
        [x+; y] = r + W h_L
    """

    G: Float[Array, "nz nxu"]
    g: Float[Array, " nz"]
    # Each layer has its own width.
    hidden: tuple[tuple[Float[Array, "_ _"], Float[Array, " _"]], ...]
    W: Float[Array, "nr _"]
    nx: int = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)

    @property
    def nu(self) -> int:
        """Number of inputs."""
        return self.G.shape[1] - self.nx

    @property
    def ny(self) -> int:
        """Number of outputs."""
        return self.W.shape[0] - self.nx

    def state_matrix(self) -> Float[Array, "{self.nx} {self.nx}"]:
        """Return the A of the R2DN that it came from."""
        return self.G[: self.nx, : self.nx]

    def init_state(self) -> Float[Array, " {self.nx}"]:
        """Return the zero state."""
        return jnp.zeros(self.nx, self.g.dtype)

    def step(self, x: Float[Array, " {self.nx}"], u: Float[Array, " nu"]) -> tuple[Array, Array]:
        """Return `(x_next, y)`."""
        n, xu = self.W.shape[0], jnp.concatenate([x, u])
        h = self.activation(self.G[n:] @ xu + self.g[n:])
        for W, b in self.hidden:
            h = self.activation(W @ h + b)

        def rows(start, end):
            return self.G[start:end] @ xu + self.g[start:end] + self.W[start:end] @ h

        # Apart, so that where y is not used, as in a one-step prediction, the compiler leaves it out.
        return rows(0, self.nx), rows(self.nx, n)

    def lft(self) -> LFT:
        """Return the form of the folded matrices, in which every neuron has a slope in [0, 1]."""
        first, G, W = self.nx, *float64(self.G, self.W)
        hidden = [float64(Wk)[0] for Wk, _ in self.hidden]
        n, sizes = len(W), [len(G) - len(W), *(len(Wk) for Wk in hidden)]
        nv, last = sum(sizes), sizes[-1]
        block, assumptions = neurons(nv, self.activation, (np.dtype(np.float64), self.W.dtype))
        into, between = np.zeros((nv, G.shape[1])), np.zeros((nv, nv))
        into[: sizes[0]] = G[n:]
        between[sizes[0] :, : nv - last] = block_diagonal(hidden)
        out = np.hstack([np.zeros((n, nv - last)), W])
        return LFT(
            G[:first, :first], out[:first], G[:first, first:], into[:, :first], between, into[:, first:],
            G[first:n, :first], out[first:], G[first:n, first:], (block,), assumptions,
        )  # fmt: skip

    def scan(self, x0: Float[Array, " {self.nx}"], us: Float[Array, "T nu"]) -> tuple[Array, Array, Array]:
        """Return `(xs, ys, x_final)` over a sequence; see `folded_scan`."""
        return folded_scan(self.activation, (self.G, self.g, self.hidden, self.W), x0, us)

    def numpy_step(self) -> tuple[Callable, np.ndarray]:
        """Return the same step on NumPy vectors, and the zero state."""
        if self.activation not in IN_NUMPY:
            raise InvalidModelError(
                f"the activation must be one of {', '.join(ACTIVATIONS)}, got {self.activation}"
            )
        G, g, W = (np.asarray(a) for a in (self.G, self.g, self.W))
        hidden = [(np.asarray(Wk), np.asarray(b)) for Wk, b in self.hidden]
        activation, nx, n = IN_NUMPY[self.activation], self.nx, self.W.shape[0]
        # Contiguous, or each product would copy the columns again.
        Gx, Gu = np.ascontiguousarray(G[:, :nx]), np.ascontiguousarray(G[:, nx:])

        def step(x: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            z = Gx @ x + Gu @ u + g
            h = activation(z[n:])
            for Wk, b in hidden:
                h = activation(Wk @ h + b)
            r = z[:n] + W @ h
            return r[:nx], r[nx:]

        return step, np.zeros(nx, g.dtype)


def fold(s, phi) -> FoldedR2DN:
    """Fold an `ExplicitR2DN` whose network `phi` is a `SandwichNetwork` with at least one hidden layer."""
    first, last = phi.layers[0], phi.layers[-1]
    out = jnp.concatenate([s.B1, s.D21])
    from_xu = jnp.concatenate(
        [
            jnp.concatenate([s.A, s.B2], axis=1),
            jnp.concatenate([s.C2, s.D22], axis=1),
            first.W_in @ jnp.concatenate([s.C1, s.D12], axis=1),
        ]
    )
    # The constant b of the last layer goes through B1 and D21 once, not at each sample.
    g = jnp.concatenate([jnp.concatenate([s.bx, s.by]) + out @ phi.b, first.W_in @ s.bv + first.b])
    # W_out of a layer and W_in of the next have no activation between them.
    hidden = tuple((b.W_in @ a.W_out, b.b) for a, b in zip(phi.layers, phi.layers[1:], strict=False))
    return FoldedR2DN(from_xu, g, hidden, out @ (phi.W @ last.W_out), s.bx.size, phi.activation)
