"""Certificates in exact arithmetic: true where they say so, next to the boundary, and as elimination of fractions has it."""

import numpy as np
import pytest

from robustctl.certificates.dissipation import Inequality, margin
from robustctl.certificates.exactly import margin_exactly
from robustctl.lft import Claim, linear

from .exact import positive_definite, rational


def of(A, P, rate=1.0):
    """The inequality `A'PA - rate^2 P < 0` of a linear system, and its metric."""
    A, P = np.asarray(A, float), np.asarray(P, float)
    n = len(A)
    form = linear(A, np.zeros((n, 1)), np.zeros((1, n)), np.zeros((1, 1)))
    return Inequality(form, Claim(rate, P), np.zeros((0, 0))), P


@pytest.mark.parametrize("a", [1 - 2.0**-53, -(1 - 2.0**-53), 0.5, 0.0])
def test_the_last_number_below_one_contracts_and_one_does_not(a):
    f, P = of([[a]], [[3.0]])
    assert margin_exactly(f, P) < 0
    assert abs(a) < 0.6 or not margin(f, P) < 0
    assert margin_exactly(*of([[1.0]], [[3.0]])) == np.inf
    assert margin_exactly(*of([[a]], [[-3.0]])) == np.inf
    # V falls by a^2 a sample, and no faster
    assert margin_exactly(*of([[0.5]], [[3.0]], rate=0.5)) == np.inf
    assert margin_exactly(*of([[0.5]], [[3.0]], rate=0.5 + 2.0**-53)) < 0


def test_it_agrees_with_an_elimination_of_fractions():
    rng, found = np.random.default_rng(0), []
    for _ in range(60):
        n = int(rng.integers(2, 6))
        Q, _ = np.linalg.qr(rng.normal(size=(n, n)))
        units = np.exp2(rng.integers(-30, 30, n))
        A = units[:, None] * (Q * (1 + 2e-16 * rng.integers(-6, 3))) / units
        P = np.diag(units**-2.0)
        true = positive_definite(rational(P) - rational(A).T @ rational(P) @ rational(A))
        found.append(margin_exactly(*of(A, P)) < 0)
        # What lies below 2^-60 of the diagonal is not claimed.
        assert true or not found[-1]
    assert 5 < sum(found) < 55


def test_what_is_rounded_too_large_or_not_finite_is_not_decided():
    f, P = of([[0.5]], [[1.0]])
    assert margin_exactly(f._replace(form=f.form._replace(roundings=1.0)), P) == np.inf
    assert margin_exactly(*of(0.5 * np.eye(60), np.eye(60))) == np.inf
    assert margin_exactly(*of([[np.nan]], [[1.0]])) == np.inf
