"""An LBDN with fewer inputs, outputs and hidden neurons, in NumPy."""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from .sandwich import LBDN, SandwichNetwork


def smaller_network(phi: LBDN, left: Sequence[np.ndarray], means: Sequence[np.ndarray]) -> LBDN:
    """Return the LBDN without some of its inputs, hidden neurons and outputs, those that are left out held at their means.

    ::

        B~_k = B_k[left] S_(k-1),    A~_k = (I - B~_k B~_k')^(1/2),    S_k = A_k[left]' A~_k^-1

    With `h_k = S_k h~_k` each layer gives what it gave. S_k is a contraction as `A_k[left] A_k[left]' = I - B_k[left] B_k[left]'`, so each
    B~_k is one, and the smaller network is an LBDN.

    **Arguments:**

    - `phi`: the network.
    - `left`: indices, in order, of what is left of the inputs, of the neurons of each hidden layer, and of the outputs.
    - `means`: of all inputs and of all outputs of the activations of each hidden layer.
    """
    network: SandwichNetwork = phi.explicit()
    dtype = np.dtype(phi.b.dtype)
    first, *rows, last = left
    S = np.eye(network.ni)[:, first]
    # What the features that are left out contribute, as a constant
    constant = _left_out(means[0], first)
    layers = []
    for layer, free, rows_k, mean in zip(network.layers, phi.layers, rows, means[1:], strict=True):
        W_in, W_out, psi, b = (
            np.asarray(a, np.float64) for a in (layer.W_in, layer.W_out, layer.psi, layer.b)
        )
        B = ((psi[:, None] * W_in)[rows_k] / 2**0.5) @ S
        A = _complement(B)
        XY, a = _cayley_inverse(A, B)
        values = {"XY": XY, "a": a, "d": np.asarray(free.d)[rows_k], "b": (b + W_in @ constant)[rows_k]}
        layers.append(_with(free, values, dtype))
        A_T = (W_out / psi)[:, rows_k] / 2**0.5
        S = np.linalg.lstsq(A, A_T.T, rcond=1e-10)[0].T
        constant = W_out @ _left_out(mean, rows_k)
    W = np.asarray(network.W, np.float64)
    # The map multiplies the last layer by a number just below one, which W contains already.
    B = _shortened(W[last] @ S)
    XY, a = _cayley_inverse(_complement(B), B)
    values = {"XY": XY, "a": a, "b": (np.asarray(network.b, np.float64) + W @ constant)[last]}
    return eqx.tree_at(lambda m: m.layers, _with(phi, values, dtype), tuple(layers))


def _left_out(mean: np.ndarray, left: np.ndarray) -> np.ndarray:
    found = mean.copy()
    found[left] = 0
    return found


def _shortened(B: np.ndarray) -> np.ndarray:
    """Return a matrix with what rounding left above norm one removed."""
    return B / max(1.0, float(np.linalg.norm(B, 2)) if B.size else 1.0)


def _complement(B: np.ndarray) -> np.ndarray:
    """Return the symmetric A >= 0 with `A A + B B' = I`."""
    values, U = np.linalg.eigh(np.eye(len(B)) - B @ B.T)
    return (U * np.sqrt(np.maximum(values, 0))) @ U.T


def _cayley_inverse(A: np.ndarray, B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the free `XY` and `a` of `[A'; B']`, for a symmetric A >= 0.

    ::

        V = (I + A) / 2,    X = 0,    Y = -B' V^-1 / 2:     [2 V - I; -2 Y V] = [A; B'],    I + Y'Y = V^-1
    """
    Y = -np.linalg.solve((np.eye(len(A)) + A) / 2, B).T / 2
    XY = np.concatenate([np.zeros(A.shape), Y])
    return XY, np.asarray(np.linalg.norm(XY))


def _with(module, values: dict[str, np.ndarray], dtype):
    """Return a module with fields replaced."""
    names = list(values)
    arrays = [jnp.asarray(np.asarray(value, dtype)) for value in values.values()]
    return eqx.tree_at(lambda m: [getattr(m, name) for name in names], module, arrays)
