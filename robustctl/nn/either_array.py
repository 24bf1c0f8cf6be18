"""Matrix operations on NumPy arrays as on those of JAX, so that one formula serves initial values and the map of free arrays.

Initial values are computed by NumPy: JAX would compile each operation for every size of a model.
"""

from types import ModuleType
from typing import Any

import jax.numpy as jnp
import numpy as np

from .. import linalg


def library(X: Any) -> ModuleType:
    """Return NumPy for its own arrays, else `jax.numpy`."""
    return np if isinstance(X, np.ndarray) else jnp


def gram(X: Any) -> Any:
    """Return `X'X`."""
    return X.T @ X if library(X) is np else linalg.gram(X)


def defect_factor(N: Any) -> Any:
    """Return the Cholesky factor `M` with `M M' = I - N'N`, for a contraction `N`."""
    if library(N) is np:
        return np.linalg.cholesky(np.eye(N.shape[1]) - N.T @ N)
    return linalg.defect_factor(N)


def divided(M: Any, *lefts: Any) -> tuple[Any, ...]:
    """Return `N M'^-1` for each `N`."""
    if library(M) is np:
        return tuple(np.linalg.solve(M, N.T).T for N in lefts)
    ends = np.cumsum([len(N) for N in lefts])[:-1]
    # One factorization for all, which the compiler would not find.
    return tuple(jnp.split(jnp.linalg.solve(M, jnp.concatenate(lefts).T).T, ends))


def solves(M: Any, *rights: Any) -> tuple[Any, ...]:
    """Return `M^-1 R` for each `R`."""
    if library(M) is np:
        return tuple(np.linalg.solve(M, R) for R in rights)
    ends = np.cumsum([R.shape[1] for R in rights])[:-1]
    return tuple(jnp.split(jnp.linalg.solve(M, jnp.concatenate(rights, axis=1)), ends, axis=1))
