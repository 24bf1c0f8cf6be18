"""Proven gains against another solver: the same inequality written out for cvxpy and solved by Clarabel."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import robustctl as rc
from robustctl.certificates.coordinates import opened
from robustctl.certificates.model_error import with_errors
from robustctl.certificates.prove import least_gain
from robustctl.lft import LFT, Bounded, Slopes

cvxpy = pytest.importorskip("cvxpy")
pytest.importorskip("clarabel")


def random_form(seed, nx, blocks):
    """A stable linear part around blocks that feed forward, weak enough for a finite gain."""
    rng = np.random.default_rng(seed)
    nv, nu, ny = sum(block.nv for block in blocks), 2, 2
    A = rng.normal(size=(nx, nx))
    A *= 0.6 / max(np.abs(np.linalg.eigvals(A)).max(initial=0.0), 1e-9)
    D11 = np.tril(rng.normal(size=(nv, nv)), -1)
    for k, block in enumerate(blocks):
        if isinstance(block, Bounded):
            D11[k : k + block.nv, k : k + block.nv] = 0
    B1, B2, C1, D12, C2, D21, D22 = (
        0.2 * rng.normal(size=shape)
        for shape in ((nx, nv), (nx, nu), (nv, nx), (nv, nu), (ny, nx), (ny, nv), (ny, nu))
    )
    return LFT(A, B1, B2, C1, 0.2 * D11, D12, C2, D21, D22, blocks)


def by_clarabel(form):
    nx, nv, nu = form.nx, len(form.C1), form.nu
    X0, W, U = np.split(np.eye(nx + nv + nu), [nx, nx + nv])
    S, V, Y = (
        np.hstack(M)
        for M in ((form.A, form.B1, form.B2), (form.C1, form.D11, form.D12), (form.C2, form.D21, form.D22))
    )
    g = cvxpy.Variable()
    Z = g * (U.T @ U) - Y.T @ Y
    if nx:
        P = cvxpy.Variable((nx, nx), symmetric=True)
        Z = Z + X0.T @ P @ X0 - S.T @ P @ S
    at = 0
    for block in form.blocks:
        v, w = V[at : at + block.nv], W[at : at + block.nw]
        at += block.nv
        T = cvxpy.Variable(1 if isinstance(block, Bounded) else block.nv, nonneg=True)
        if isinstance(block, Bounded):
            Z = Z + T[0] * (w.T @ w - block.gain**2 * v.T @ v)
            continue
        for k in range(block.nv):
            a, b = w[k] - block.lo[k] * v[k], w[k] - block.hi[k] * v[k]
            Z = Z + T[k] * (np.outer(a, b) + np.outer(b, a))
    problem = cvxpy.Problem(cvxpy.Minimize(g), [(Z + Z.T) / 2 >> 0])
    problem.solve(solver=cvxpy.CLARABEL)
    assert problem.status == "optimal"
    return float(np.sqrt(g.value))


@pytest.mark.parametrize("nx", [0, 3])
@pytest.mark.parametrize("kind", ["slopes", "signed slopes", "with a bounded block"])
def test_the_interior_point_agrees_with_clarabel(nx, kind):
    one = np.ones(3)
    blocks = {
        "slopes": (Slopes(0 * one, one),),
        "signed slopes": (Slopes(-0.5 * one, one), Slopes(0.1 * one, 0.9 * one)),
        "with a bounded block": (Bounded(2, 2, 0.5), Slopes(0 * one, one)),
    }[kind]
    for seed in range(3):
        form = random_form(seed, nx, blocks)
        assert least_gain(form).proof.value == pytest.approx(by_clarabel(form), rel=1e-3)


def test_a_loop_with_a_model_error_agrees_with_clarabel():
    model = rc.nn.LipschitzR2DN(
        nu=1, nx=1, nv=2, ny=1, hidden=(3,), gamma=1.0, key=jr.key(0), dtype=jnp.float64
    )
    controller = rc.StateSpace([[0.5]], [[0.2]], [[1.0]], [[-0.3]], dt=1.0)
    loop, error = rc.loops.feedback(rc.loops.ModelPlant(model), controller), rc.certificates.ModelError(0.3)
    form = opened(with_errors(loop.ports(), [error]).between("d", "y"))
    assert any(isinstance(block, Slopes) for block in form.blocks)
    found = rc.certify(loop, gains=[("d", "y")], error=error)
    assert found.gains["d", "y"] == pytest.approx(by_clarabel(form), rel=1e-3)
