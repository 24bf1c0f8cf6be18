"""Certificates of loops: the rounding of their products, and what exact arithmetic makes of them."""

import dataclasses
from fractions import Fraction

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import robustctl as rc
from benchmarks.certificate_oracle_loops import LOOPS
from robustctl.lft import interconnect, linear

from .exact import rational
from .oracle_loops import loop_is_true


def inverse(M):
    """The inverse of a matrix of fractions."""
    n, both = len(M), np.hstack([M, rational(np.eye(len(M)))])
    for k in range(n):
        pivot = next(row for row in range(k, n) if both[row, k] != 0)
        both[[k, pivot]] = both[[pivot, k]]
        both[k] = both[k] / both[k, k]
        for row in range(n):
            if row != k:
                both[row] = both[row] - both[row, k] * both[k]
    return both[:, n:]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("cancel", [False, True], ids=["any", "cancelling"])
def test_joined_matrices_are_rounded_once(dtype, cancel):
    rng = np.random.default_rng(0)
    A, B, C, D = (rng.normal(size=s).astype(dtype) for s in ((3, 3), (3, 2), (2, 3), (2, 2)))
    F = rng.normal(size=(2, 2))
    if cancel:  # A + B F C, whose entries are 1e-10 of their terms
        D, A = 0 * D, (-B.astype(float) @ F @ C * (1 + 1e-10)).astype(dtype)
    form = interconnect([linear(A, B, C, D)], F, np.eye(2), np.eye(2), np.zeros((2, 2)))
    a, b, c, d, f = (rational(M) for M in (A, B, C, D, F))
    y = inverse(rational(np.eye(2)) - d @ f) @ np.hstack([c, d])
    exact = np.hstack([a, b @ rational(np.eye(2))]) + b @ f @ y
    found = np.hstack([form.A, form.B2])
    # one rounding to float64, and that of the products, which is below it where the longest floating-point numbers are longer
    own = np.abs(exact.astype(float)) * 2.0**-53
    longest = float(np.finfo(np.longdouble).eps)
    sizes = np.hstack([np.abs(A), np.abs(B)]) + np.abs(B) @ np.abs(F) @ np.abs(y.astype(float))
    error = np.array(
        [
            [abs(Fraction(float(m)) - e) for m, e in zip(*rows, strict=True)]
            for rows in zip(found, exact, strict=True)
        ]
    )
    assert np.all(error.astype(float) <= own * (1 + 1e-9) + 100 * longest * sizes)
    assert form.roundings == 1 and (cancel or not form.assumptions)


def test_products_of_products_count_more_and_far_cancellation_is_stated():
    one = linear([[1.0 + 1e-13]], [[1.0]], [[1.0]], [[0.0]])
    wires = ([[-1.0]], [[1.0]], [[1.0]], [[0.0]])
    once = interconnect([one], *wires)
    twice = interconnect([once], *wires)
    assert one.roundings == 0 and once.roundings == 1
    # its own rounding, and once each for the input and the output in 1e-13 - 1 * 1
    assert twice.roundings == pytest.approx(3)
    again = interconnect([rc.lft.rescaled(one, [1.0], [1.0])], *wires)
    # numbers that are rounded themselves leave 1e-13 without a certain digit
    assert any("cancel" in text for text in again.assumptions)


def test_the_rounding_of_products_of_products_is_bounded_in_exact_arithmetic():
    """Three loops, one about the other: the rows' errors are within the roundings that are counted, and these are few."""
    rng = np.random.default_rng(0)
    for _ in range(10):
        A, B, C = (rng.normal(size=s) for s in ((3, 3), (3, 2), (2, 3)))
        form = linear(A, B, C, np.zeros((2, 2)))
        a, b, c = (rational(M) for M in (A, B, C))
        for _ in range(3):
            F = rng.normal(size=(2, 2))
            form = interconnect([form], F, np.eye(2), np.eye(2), np.zeros((2, 2)))
            a = a + b @ rational(F) @ c
        off = np.linalg.norm((rational(form.A) - a).astype(float), axis=1)
        assert np.all(off <= form.roundings * 2.0**-52 * np.linalg.norm(form.A, axis=1))
        assert form.roundings < 64**2 and not form.assumptions


def test_signals_that_are_only_led_on_are_not_rounded_again():
    form = linear(np.diag([0.3, 0.4]), np.ones((2, 1)), np.ones((1, 2)), np.zeros((1, 1)))
    for depth in range(1, 8):
        form = interconnect([form], [[0.0]], [[1.0]], [[1.0]], [[0.0]])
        assert form.roundings == depth


@pytest.mark.parametrize("kind", list(LOOPS))
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_a_certificate_of_a_loop_is_true_in_exact_arithmetic(kind, dtype):
    rng = np.random.default_rng(7)
    for draw in range(20):  # some loops are not stable
        system = LOOPS[kind](rng, jr.key(draw), dtype)
        certificate = rc.certify(system, prove=False)
        if certificate.holds:
            break
    assert certificate.holds and loop_is_true(system, certificate)
    other = dataclasses.replace(certificate, rate_found=certificate.rate_found / 2)
    assert not loop_is_true(system, other)
