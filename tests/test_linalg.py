import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from robustctl.linalg import (
    cayley,
    contraction,
    defect_factor,
    frobenius,
    gram,
    inverse,
    polar_gram,
    slack,
)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("shape", [(3, 3), (7, 3), (40, 16), (4, 1), (5, 0)])
@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0])
def test_cayley_has_orthonormal_columns(shape, scale, dtype):
    Q = np.asarray(cayley(scale * jr.normal(jr.key(0), shape, dtype)), np.float64)
    tolerance = 1e3 * max(scale, 1) * float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(Q.T @ Q, np.eye(shape[1]), atol=tolerance)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("scale", [1.0, 1e2, 1e4, 1e6])
def test_cayley_never_exceeds_one_however_inaccurate_the_solve(scale, dtype):
    for seed in range(5):
        Q = np.asarray(cayley(scale * jr.normal(jr.key(seed), (12, 5), dtype)), np.float64)
        assert np.linalg.norm(Q, 2) <= 1 + 10 * float(jnp.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("n", [150, 157])  # halved twice, and into unequal parts
def test_inverse_by_blocks_is_as_exact_as_at_once(n, dtype):
    X, Y = jr.normal(jr.key(0), (2, n, n), dtype) / n**0.5
    M = jnp.eye(n, dtype=dtype) + X - X.T + Y.T @ Y
    exact = np.linalg.inv(np.asarray(M, np.float64))
    np.testing.assert_allclose(jax.jit(inverse)(M), exact, atol=10 * float(jnp.finfo(dtype).eps))


@pytest.mark.parametrize("scale", [1.0, 1e2, 1e4])
def test_cayley_of_many_columns_never_exceeds_one(scale):
    for seed in range(3):
        Q = np.asarray(cayley(scale * jr.normal(jr.key(seed), (200, 160), jnp.float32)), np.float64)
        assert np.linalg.norm(Q, 2) <= 1 + 1e-6


def test_slopes_of_the_matrix_maps():
    X, Y = jr.normal(jr.key(0), (2, 80, 80)) / 10
    weights = jr.normal(jr.key(1), (80, 80))

    def slopes(gram, inverse):
        return jax.jit(jax.grad(lambda X: jnp.sum(weights * inverse(jnp.eye(80) + Y - Y.T + gram(X)))))(X)

    np.testing.assert_allclose(slopes(gram, inverse), slopes(lambda X: X.T @ X, jnp.linalg.inv), atol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("shape", [(2, 5), (5, 2), (3, 3), (1, 1)])
def test_contractions_stay_below_one(shape, dtype):
    a, b = shape
    for scale in (0.1, 1.0, 30.0, 1e4):
        N = contraction(scale * jr.normal(jr.key(1), (a + b, min(shape)), dtype), shape)
        assert N.shape == shape
        assert np.linalg.norm(np.asarray(N, np.float64), 2) < 1
        assert np.isfinite(defect_factor(N)).all()


def test_contractions_reach_the_boundary():
    G = jnp.concatenate([jnp.zeros((2, 2)), jnp.eye(2), jnp.zeros((1, 2))])
    norm = np.linalg.norm(np.asarray(contraction(G, (3, 2))), 2)
    np.testing.assert_allclose(norm, 1, rtol=1e-11)


def test_defect_factor_completes_the_square():
    N = contraction(jr.normal(jr.key(0), (7, 3)), (4, 3))
    M = defect_factor(N)
    np.testing.assert_allclose(M @ M.T + N.T @ N, np.eye(3), atol=1e-14)


def test_polar_gram_is_positive_definite_with_the_asked_size():
    X = jr.normal(jr.key(0), (2, 6)).at[1].set(0.0)
    H = polar_gram(jnp.zeros((6, 6)).at[:2].set(X), jnp.asarray(3.0))
    np.testing.assert_allclose(jnp.trace(H), 9.0 * (1 + slack(H.dtype)), rtol=1e-12)
    assert np.linalg.eigvalsh(H)[0] > 0


@pytest.mark.parametrize("scale", [1e-150, 1.0, 1e150])
def test_frobenius_does_not_overflow(scale):
    X = jr.normal(jr.key(0), (3, 4))
    np.testing.assert_allclose(frobenius(scale * X) / scale, np.linalg.norm(X), rtol=1e-12)


def test_frobenius_has_a_gradient_at_zero_and_the_right_one_elsewhere():
    assert np.isfinite(jax.grad(lambda X: frobenius(X))(jnp.zeros((2, 2)))).all()
    X = jr.normal(jr.key(0), (3, 4))
    np.testing.assert_allclose(jax.grad(lambda X: frobenius(X))(X), X / np.linalg.norm(X), rtol=1e-12)
