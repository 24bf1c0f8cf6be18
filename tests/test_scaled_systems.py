"""Units change no result: designs and norms of systems whose states, signals and time were scaled, against the unscaled ones."""

import warnings

import control as ct
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from robustctl import classical
from robustctl.classical.riccati import riccati
from robustctl.errors import InvalidModelError, RobustctlWarning
from robustctl.plants import LinearPlant, Sampled

from .scaled_systems import carex, darex, generalized, random_plant, rescaled, scales


@pytest.mark.parametrize("dt", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_designs_do_not_depend_on_units(seed, dt):
    rng = np.random.default_rng(seed)
    P = random_plant(rng, dt)
    n, m, p = P.nstates, P.ninputs, P.noutputs
    x, u, y, rate = scales(rng, n, m, p, dt)
    own = rescaled(P, x, u, y, rate)
    Q, R, W, V = (np.diag(rng.uniform(0.1, 2, k)) for k in (n, m, n, p))
    K = classical.lqr(P, Q, R).K
    scaled = classical.lqr(own, Q / x / x[:, None], R / u / u[:, None]).K
    np.testing.assert_allclose(scaled / u[:, None] * x, K, rtol=1e-6, atol=1e-9 * np.abs(K).max())
    L = classical.kalman(P, W, V).L
    # an intensity is a variance times a time
    scaled = classical.kalman(own, W * x * x[:, None] * rate, V * y * y[:, None] / rate).L
    np.testing.assert_allclose(scaled / x[:, None] * y / rate, L, rtol=1e-6, atol=1e-9 * np.abs(L).max())
    poles = rng.uniform(-0.5, 0.5, n) if dt else -rng.uniform(0.5, 3, n)
    K = classical.pole_placement(P, poles).K
    scaled = classical.pole_placement(own, poles * rate).K
    np.testing.assert_allclose(scaled / u[:, None] * x, K, rtol=1e-6, atol=1e-6 * np.abs(K).max())


@pytest.mark.parametrize("dt", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(2))
def test_synthesis_does_not_depend_on_units(seed, dt):
    rng = np.random.default_rng(seed)
    P = random_plant(rng, dt)
    n, m, p = P.nstates, P.ninputs, P.noutputs
    x, u, y, rate = scales(rng, n, m, p, dt)
    w, z = 10 ** rng.uniform(-9, 9, 2)
    whole, nz, nw = generalized(rng, P)
    own = rescaled(
        whole, x, np.concatenate([np.full(nw, 1 / w), u]), np.concatenate([np.full(nz, z), y]), rate
    )
    found, scaled = classical.hinf(whole, p, m), classical.hinf(own, p, m)
    np.testing.assert_allclose(scaled.gamma, found.gamma * w * z, rtol=1e-6)
    at = np.exp(0.7j) if dt else 0.7j
    K = scaled.K(at if dt else at * rate).reshape(m, p) / u[:, None] * y
    np.testing.assert_allclose(K, found.K(at).reshape(m, p), rtol=1e-6, atol=1e-6 * np.abs(K).max())
    h2 = classical.h2(own, p, m).norm / (w * z * np.sqrt(rate))
    np.testing.assert_allclose(h2, classical.h2(whole, p, m).norm, rtol=1e-6)


@pytest.mark.parametrize("size", [1e-9, 1e9])
def test_one_performance_output_in_other_units(size):
    # dx/dt = u + w1, z = (size x, u), y = x + w2
    P = ct.ss(0, [[1, 0, 1]], [[size], [0], [1]], [[0, 0, 0], [0, 0, 1], [0, 1, 0]])
    found = classical.hinf(P, 1, 1)
    assert classical.hinf_norm(found.CL) <= found.gamma * (1 + 1e-6)
    with pytest.raises(InvalidModelError, match="gamma must be above"):
        classical.hinf(P, 1, 1, gamma=found.gamma * 0.99)


@pytest.mark.parametrize("inertia", [1e10, 1e-10])
def test_a_double_integrator_is_controllable_whatever_its_inertia(inertia):
    P = ct.ss([[0, 1.0], [0, 0]], [[0], [1 / inertia]], [[1.0, 0]], 0)
    # Q = I, R = 1 / J^2: the poles of s^4 - s^2 + 1, a Butterworth pattern with damping cos(30 deg)
    expected = np.array([-np.sqrt(3) / 2 + 0.5j, -np.sqrt(3) / 2 - 0.5j])
    found = classical.lqr(P, np.eye(2), [[1 / inertia**2]]).E
    np.testing.assert_allclose(np.sort_complex(found), np.sort_complex(expected), rtol=1e-9)
    K = classical.pole_placement(P, [-1.0, -2.0]).K
    np.testing.assert_allclose(K, [[2 * inertia, 3 * inertia]], rtol=1e-9)


@pytest.mark.parametrize("rate", [1e-9, 1e-3, 1.0, 1e6, 1e9])
def test_the_norm_does_not_depend_on_time(rate):
    # w0^2 / (s^2 + 2 d w0 s + w0^2) has the peak 1 / (2 d sqrt(1 - d^2))
    d = 0.01
    A, B, C = np.array([[0, 1.0], [-1, -2 * d]]), np.array([[0], [1.0]]), np.array([[1.0, 0]])
    peak = 1 / (2 * d * np.sqrt(1 - d**2))
    norm = classical.hinf_norm(ct.ss(A * rate, B * rate, C, 0, 0))
    assert peak <= norm * (1 + 1e-12) and norm <= peak * (1 + 1e-5)
    lag = classical.hinf_norm(ct.ss([[-rate]], [[rate]], [[1.0]], 0, 0))
    assert 1 <= lag <= 1 + 1e-5


@pytest.mark.parametrize("pole", [1 - 1e-6, 1 - 1e-8, 1e-9 - 1])
def test_the_norm_of_a_discrete_lag_near_the_boundary(pole):
    a = 1 - abs(pole)
    assert 1 <= classical.hinf_norm(ct.ss([[pole]], [[a]], [[1.0]], 0, 1.0)) <= 1 + 1e-5


@pytest.mark.parametrize("dt", [0.0, 1.0])
def test_a_transfer_function_that_is_zero_has_the_norm_zero(dt):
    A = np.array([[0.5, 0.1], [0, 0.4]]) * (1 if dt else -1)
    assert classical.hinf_norm(ct.ss(A, [[1.0], [0]], [[0, 1.0]], [[0.0]], dt)) == 0
    # the same in turned coordinates, where it is zero up to rounding only
    T = np.array([[0.8, 0.6], [-0.6, 0.8]])
    assert classical.hinf_norm(ct.ss(T @ A @ T.T, T @ [[1.0], [0]], [[0, 1.0]] @ T.T, [[0.0]], dt)) < 1e-12


def test_the_norm_where_the_direct_path_has_it():
    A, B, C, D = np.diag([-1e6, -2e6]), np.ones((2, 1)) * 1e6, np.array([[-1e9, 0.0]]), [[2e9]]
    # D - 1e9 1e6 / (s + 1e6): 1e9 at zero, 2e9 at infinity, which it approaches from below
    norm = classical.hinf_norm(ct.ss(A, B, C, D, 0))
    assert 2e9 <= norm <= 2e9 * (1 + 1e-5)


@pytest.mark.parametrize("case", [*carex(), *darex()], ids=lambda case: case.name)
def test_ill_conditioned_riccati_equations_of_the_collections(case):
    found = riccati(case.A, case.B, case.Q, case.R, None, case.discrete)
    assert case.residual(found.X) < 1e-7
    radius = np.abs(found.poles).max() if case.discrete else np.exp(found.poles.real.max())
    assert radius < 1
    if case.X is not None:
        np.testing.assert_allclose(found.X, case.X, rtol=case.rtol, atol=case.rtol * np.abs(case.X).max())


@pytest.mark.parametrize("seed", range(3))
def test_stiff_linear_plants_are_sampled_exactly(seed):
    rng = np.random.default_rng(seed)
    n = 4
    T = scipy.linalg.qr(rng.normal(size=(n, n)))[0]
    A = T @ np.diag(-(10 ** rng.uniform(-2, 5, n))) @ T.T
    plant = LinearPlant(A, rng.normal(size=(n, 1)), np.eye(n), Bd=rng.normal(size=(n, 2)))
    sampled = Sampled(plant, 0.05)
    exact = scipy.linalg.expm(0.05 * np.block([[A, plant.B, plant.Bd], [np.zeros((3, n + 3))]]))[:n]
    x, v = rng.normal(size=n), rng.normal(size=3)
    w = sampled.undisturbed()._replace(d=jnp.asarray(v[1:]))
    wanted = exact @ np.concatenate([x, v])
    for s in (sampled, sampled.prepare()):
        after = s.advance(s.state_at(jnp.asarray(x)), jnp.asarray(v[:1]), w).x
        np.testing.assert_allclose(after, wanted, rtol=1e-9, atol=1e-9 * np.abs(wanted).max())
    np.testing.assert_allclose(sampled.lft().A[:n, :n], exact[:, :n], atol=1e-9)


def test_gradients_go_through_the_matrices_of_a_sampled_plant():
    A, B, dt = jnp.array([[0.0, 1.0], [-4.0, -30.0]]), jnp.array([[0.0], [1.0]]), 0.2

    def after(k):
        plant = Sampled(LinearPlant(np.asarray(A), np.asarray(B), np.eye(2)), dt)
        plant = eqx.tree_at(lambda s: s.plant.A, plant, A.at[1, 0].set(-k))
        return plant.advance(plant.state_at(jnp.array([1.0, 0.0])), jnp.zeros(1), plant.undisturbed()).x[0]

    slope = jax.jit(jax.grad(after))(4.0)
    low, high = (scipy.linalg.expm(dt * np.array([[0, 1], [-k, -30.0]]))[0, 0] for k in (4 - 1e-5, 4 + 1e-5))
    np.testing.assert_allclose(slope, (high - low) / 2e-5, rtol=1e-6)


def test_weights_that_cannot_be_met_are_named():
    G = ct.ss([[0.0, 1], [-1, -0.5]], [[0], [1.0]], [[1.0, 0]], 0)
    with pytest.warns(RobustctlWarning, match=r"decided by W2 K S at|decided by W1 S at"):
        design = classical.mixed_sensitivity(G, 1e4, 1e4)
    assert design.gamma > 10
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classical.mixed_sensitivity(G, 0.5, 0.5)
