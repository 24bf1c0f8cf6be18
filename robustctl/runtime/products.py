"""Products and factorizations of matrices whose sums are taken in the order of their terms, as the exported C takes them."""

import math
from collections.abc import Callable

import numpy as np

from .numbers import in_order
from .program import Value

Array = np.ndarray
_MOST_TERMS = 1 << 16
"""Products of more terms are summed one term at a time: all at once would take this much memory."""


def product(a: Value, b: Value) -> Callable:
    """Return `x @ y` of vectors, matrices or stacks of them, each sum in order from its first term."""
    left, right = len(a.shape) > 1, len(b.shape) > 1
    if a.data is not None and left and not right and a.size <= _MOST_TERMS:
        return _of_constant(np.ascontiguousarray(a.data.T))
    terms, most = a.shape[-1], math.prod(a.shape) * math.prod(b.shape[-1:] if right else ()) > _MOST_TERMS

    def multiply(a: Array, b: Array) -> Array:
        x = np.ascontiguousarray(np.moveaxis(a, -1, 0))
        y = np.ascontiguousarray(np.moveaxis(b, -2 if right else 0, 0))
        x, y = x[..., None] if right else x, np.expand_dims(y, -1 - right) if left else y
        if not most:
            return in_order(np.add, np.multiply(x, y, order="C"))
        total = x[0] * y[0]
        for k in range(1, terms):
            total = total + x[k] * y[k]
        return total

    return multiply


def _of_constant(columns: Array) -> Callable:
    """Return the product of a constant matrix, its columns in rows, and a vector: what nearly all products are."""
    sum_of_rows, sums, times = np.add.reduce, np.add.accumulate, np.multiply
    if columns.shape[1] == 1:
        # NumPy sums a single contiguous row by halves.
        row = columns[:, 0]
        return lambda a, b: sums(row * b)[-1:]

    def multiply(a: Array, b: Array) -> Array:
        return sum_of_rows(times(columns, b[:, None], order="C"))

    return multiply


def lu(x: Array) -> tuple[Array, ...]:
    """Return L and U packed, pivots and permutation of each matrix, rows exchanged for the largest pivot."""
    return _stacked(_lu, x)


def _lu(x: Array) -> tuple[Array, Array, Array]:
    a, n = x.copy(), len(x)
    pivots, permutation = np.zeros(n, np.int32), np.arange(n, dtype=np.int32)
    for k in range(n):
        column = np.abs(a[k:, k])
        p = k + (0 if np.isnan(column[0]) else int(np.argmax(np.where(np.isnan(column), -1, column))))
        pivots[k] = p
        if p != k:
            a[[k, p]], permutation[[k, p]] = a[[p, k]], permutation[[p, k]]
        if a[k, k] != 0:
            a[k + 1 :, k] /= a[k, k]
        a[k + 1 :, k + 1 :] -= a[k + 1 :, k, None] * a[k, k + 1 :]
    return a, pivots, permutation


def cholesky(x: Array) -> Array:
    """Return the lower factor of each matrix, from its lower triangle; NaN for one that is not positive definite."""
    return _stacked(_cholesky, x)[0]


def _cholesky(x: Array) -> tuple[Array]:
    a = np.tril(x)
    for j in range(len(a)):
        for k in range(j):
            a[j:, j] -= a[j:, k] * a[j, k]
        if not a[j, j] > 0:
            return (np.full_like(a, np.nan),)
        a[j, j] = np.sqrt(a[j, j])
        a[j + 1 :, j] /= a[j, j]
    return (a,)


def triangular_solve(a: Array, b: Array, lower: bool, unit: bool) -> Array:
    """Return `a^-1 b` for triangular matrices."""
    x, n = b.copy(), b.shape[-2]
    order = range(n) if lower else range(n - 1, -1, -1)
    for r, i in enumerate(order):
        for k in order[:r]:
            x[..., i, :] -= a[..., i, k, None] * x[..., k, :]
        if not unit:
            x[..., i, :] /= a[..., i, i, None]
    return x


def _stacked(one: Callable[[Array], tuple], x: Array) -> tuple[Array, ...]:
    """Return the results of a function for each matrix of a stack, stacked."""
    if x.ndim == 2:
        return one(x)
    found = zip(*(one(matrix) for matrix in x.reshape(-1, *x.shape[-2:])), strict=True)
    return tuple(np.stack(each).reshape(*x.shape[:-2], *each[0].shape) for each in found)
