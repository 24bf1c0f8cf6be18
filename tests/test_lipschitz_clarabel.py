"""Lipschitz bounds against another solver: inequalities as they were published, written for cvxpy and solved by Clarabel."""

import itertools

import numpy as np
import pytest

from robustctl.certificates import GroupSort, Householder, lipschitz
from robustctl.certificates.infinity import infinity_bound
from robustctl.certificates.local import Box, slope_ranges
from robustctl.certificates.networks import described
from robustctl.certificates.prove import least_gain
from robustctl.certificates.steps import centered, form_of, unit_ranges

cvxpy = pytest.importorskip("cvxpy")
pytest.importorskip("clarabel")


def matrices(widths, seed):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(b, a)) / np.sqrt(a) for a, b in itertools.pairwise(widths)]


def solved(objective, Z, *others):
    problem = cvxpy.Problem(cvxpy.Minimize(objective), [(Z + Z.T) / 2 << 0, *others])
    tolerance = 1e-6 if others else 1e-8
    problem.solve(solver=cvxpy.CLARABEL, tol_gap_abs=tolerance, tol_gap_rel=tolerance, tol_feas=tolerance)
    assert problem.status == "optimal"
    return float(problem.value)


def by_groups(W0, W1, J, changes=True):
    """Theorem of P. Pauli et al., ICLR 2024, for one hidden layer of groups whose activation keeps J s; see `changes`.

    T = diag(lam) x I + diag(gam) x J, and P and S of J alone; without `changes` P = S = 0.
    """
    n, g = len(W0), len(J)
    groups = [np.kron(np.diag(row), M) for row in np.eye(n // g) for M in (np.eye(g), J)]
    lam, gam, nu, tau = (cvxpy.Variable(n // g, nonneg=k == 0) for k in range(4))
    ones, kept = groups[::2], groups[1::2]
    T = sum(lam[k] * ones[k] + gam[k] * kept[k] for k in range(n // g))
    P, S = (sum(x[k] * kept[k] * changes for k in range(n // g)) for x in (nu, tau))
    rho = cvxpy.Variable()
    top = W0.T @ (T - 2 * S) @ W0 - rho * np.eye(W0.shape[1])
    corner = W0.T @ (P + S)
    # The optimum is approached as these grow: without limits the solver reports an inaccurate one.
    limits = [cvxpy.abs(x) <= 1e4 for x in (gam, nu, tau)]
    return np.sqrt(solved(rho, cvxpy.bmat([[top, corner], [corner.T, -T - 2 * P + W1.T @ W1]]), *limits))


@pytest.mark.parametrize("seed", range(10))
def test_maxmin_has_the_bound_of_the_published_constraints(seed):
    W0, W1 = matrices((8, 16, 3), seed)
    bound = lipschitz([W0, "maxmin", W1]).uppers["LipSDP"]
    assert bound == pytest.approx(by_groups(W0, W1, np.ones((2, 2))), rel=1e-4)
    assert bound < by_groups(W0, W1, np.ones((2, 2)), changes=False)


def test_larger_groups_have_the_bound_of_the_published_constraints():
    W0, W1 = matrices((6, 15, 3), 0)
    for activation, J in (
        (GroupSort(5), np.ones((5, 5))),
        (Householder([1.0, 2.0, -2.0]), np.eye(3) - np.outer([1, 2, -2], [1, 2, -2]) / 9),
    ):
        bound = lipschitz([W0, activation, W1]).uppers["LipSDP"]
        published = by_groups(W0, W1, J)
        assert bound == pytest.approx(published, rel=1e-3)


def lipsdp(form, inputs):
    """The inequality of M. Fazlyab et al., NeurIPS 2019, with `inputs` in place of rho I."""
    N = form.D11.shape[1]
    V, W = np.hstack([form.D11, form.D12]), np.eye(N, N + form.nu)
    Y, U = np.hstack([form.D21, form.D22]), np.eye(N + form.nu)[N:]
    lo, hi = (np.concatenate([getattr(block, side) for block in form.blocks]) for side in ("lo", "hi"))
    T = cvxpy.diag(cvxpy.Variable(N, nonneg=True))
    below, above = W - lo[:, None] * V, hi[:, None] * V - W
    return below.T @ T @ above + above.T @ T @ below + Y.T @ Y - U.T @ inputs @ U


@pytest.mark.parametrize("names", [("relu", "relu"), ("abs", "sigmoid"), ("leaky_relu", "silu")])
def test_both_norms_agree_with_clarabel(names):
    A, B, C = matrices((3, 5, 5, 2), 0)
    form = described([A, names[0], B, names[1], C]).form
    rho = cvxpy.Variable()
    two = np.sqrt(solved(rho, lipsdp(form, rho * np.eye(3))))
    assert least_gain(form).proof.value == pytest.approx(two, rel=1e-3)
    outputs = []
    for c in range(2):
        tau = cvxpy.Variable(3)
        row = form._replace(D21=form.D21[[c]], D22=form.D22[[c]], C2=form.C2[[c]])
        outputs.append(np.sqrt(solved(cvxpy.sum(tau), lipsdp(row, cvxpy.diag(tau)))))
    assert infinity_bound(form, np.full(2, 1e9), np.inf) == pytest.approx(max(outputs), rel=1e-3)


def test_the_local_inequality_agrees_with_clarabel():
    A, B, C = matrices((3, 5, 5, 2), 1)
    known = described([(A, 0.3 * A[:, 0]), "tanh", B, "relu", C])
    ranges = slope_ranges(known.chain, known.sizes, Box(-0.5 * np.ones((1, 3)), 0.5 * np.ones((1, 3))))
    here = [(lo[0], hi[0]) for lo, hi in ranges]
    inside = centered(known.chain, here)
    rho = cvxpy.Variable()
    expected = np.sqrt(solved(rho, lipsdp(form_of(known.chain, here), rho * np.eye(3))))
    assert least_gain(form_of(inside, unit_ranges(inside))).proof.value == pytest.approx(expected, rel=1e-3)
