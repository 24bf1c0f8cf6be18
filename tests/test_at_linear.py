"""The start at a linear model: its linear part is the one asked, inside the guarantee; the inverses of the maps against the maps."""

import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.linalg
import scipy.signal

import robustctl as rc
from robustctl.errors import InvalidModelError, RobustctlWarning
from robustctl.linalg import contraction, polar_gram, slack
from robustctl.nn.bounded_real import bounded_real
from robustctl.nn.inverse import invert_bounded_real, invert_contraction, invert_polar_gram

DTYPES = [jnp.float32, jnp.float64]
LIKE = {jnp.float32: 1e-5, jnp.float64: 1e-12}
KINDS = ("Contracting", "Lipschitz", "Dissipative")
CLASSES = ("R2DN", "REN")


def system(seed, n=4, nu=2, ny=3, slowest=0.9):
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(n, n))
    A *= slowest / np.abs(np.linalg.eigvals(A)).max()
    offsets = {"bx": rng.normal(size=n), "by": rng.normal(size=ny)}
    return (A, rng.normal(size=(n, nu)), rng.normal(size=(ny, n)), 0.3 * rng.normal(size=(ny, nu))), offsets


def guarantee(kind, rate=1.0, gamma=500.0, nu=2, ny=3):
    return {
        "Contracting": lambda: rc.nn.Contracting(rate),
        "Lipschitz": lambda: rc.nn.Lipschitz(gamma, rate),
        "Dissipative": lambda: rc.nn.Dissipative(
            -np.eye(ny) / gamma, 0.1 * np.ones((nu, ny)), gamma * np.eye(nu), rate
        ),
    }[kind]()


def build(cls, given, init, nx=6, nv=5, nu=2, ny=3, seed=0, dtype=None, **settings):
    hidden = {"hidden": (5,)} if cls == "R2DN" else {}
    return getattr(rc.nn, cls)(
        given, nu=nu, nx=nx, nv=nv, ny=ny, init=init, key=jr.key(seed), dtype=dtype, **hidden, **settings
    )


def linear_part(explicit):
    return tuple(np.asarray(M, np.float64) for M in (explicit.A, explicit.B2, explicit.C2, explicit.D22))


def impulse(matrices, count=12):
    A, B, C, D = matrices
    return np.stack([D, *(C @ np.linalg.matrix_power(A, k) @ B for k in range(count))])


def rest(matrices, bx, by):
    """The output at rest, without input."""
    A, _, C, _ = matrices
    return C @ np.linalg.solve(np.eye(len(A)) - A, bx) + by


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rate", [1.0, 0.95])
def test_the_linear_part_is_the_one_asked(cls, kind, dtype, rate):
    asked, offsets = system(0)
    given = guarantee(kind, rate)
    init = rc.nn.at_linear(*asked, **offsets)
    assert init.given_up(given, dtype) < 1e-6
    explicit = build(cls, given, init, dtype=dtype).explicit()
    found, truth = impulse(linear_part(explicit)), impulse(asked)
    np.testing.assert_allclose(found, truth, atol=LIKE[dtype] * np.abs(truth).max())
    at_rest = rest(linear_part(explicit), np.asarray(explicit.bx), np.asarray(explicit.by))
    np.testing.assert_allclose(at_rest, rest(asked, **offsets), rtol=10 * LIKE[dtype])
    certificate = rc.certify(explicit, prove=False)
    assert certificate.holds, str(certificate)
    assert certificate.rate <= rate and certificate.rate_found <= rate * (1 + 1e-6)


@pytest.mark.parametrize("cls", CLASSES)
def test_further_states_neither_see_the_input_nor_show_at_the_output(cls):
    explicit = build(cls, guarantee("Contracting"), rc.nn.at_linear(*system(1)[0]), nx=9).explicit()
    np.testing.assert_allclose(explicit.B2[4:], 0, atol=1e-12)
    np.testing.assert_allclose(explicit.C2[:, 4:], 0, atol=1e-12)
    assert np.asarray(explicit.B1)[4:].any() and np.asarray(explicit.C1)[:, 4:].any()


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_is_near_the_linear_one(cls, kind):
    asked, _ = system(2)
    u = np.random.default_rng(0).normal(size=(300, 2))
    explicit = build(cls, guarantee(kind), rc.nn.at_linear(*asked, u=u)).explicit()
    y = np.asarray(rc.rollout(explicit, jnp.asarray(u)).ys)
    _, truth, _ = scipy.signal.dlsim((*asked, 1.0), u)
    assert np.sqrt(np.mean((y - truth) ** 2) / np.var(truth)) < 0.15


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_the_network_sees_features_of_size_one(scale):
    (A, B, C, D), _ = system(3)
    u = scale * np.random.default_rng(0).normal(size=(400, 2))
    explicit = build(
        "R2DN", guarantee("Contracting"), rc.nn.at_linear(A, B, C, D, u=u), nx=4, nv=8
    ).explicit()
    found, states = linear_part(explicit), np.zeros((400, 4))
    for t in range(399):
        states[t + 1] = found[0] @ states[t] + found[1] @ u[t]
    assert 0.5 < np.sqrt(np.mean((states @ np.asarray(explicit.C1).T) ** 2)) < 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cls", CLASSES)
def test_seeds_differ_in_the_network_alone(cls, kind):
    """So that they have initial states in common."""
    init = rc.nn.at_linear(*system(5)[0])
    one, other = (build(cls, guarantee(kind), init, seed=seed).explicit() for seed in range(2))
    for mine, its in zip(linear_part(one), linear_part(other), strict=True):
        np.testing.assert_allclose(mine, its, rtol=1e-9, atol=1e-12)
    assert np.abs(one.B1 - other.B1).max() > 0


DEMANDS = [(1.0, 500.0), (1.0, 0.02), (0.6, 5.0), (0.05, 5.0), (1e-2, 0.5)]
"""Rates and gains: one that allows the linear model, and some that do not allow it by far."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_start_holds_and_so_does_what_training_makes_of_it(cls, kind, dtype):
    for k, (rate, gamma) in enumerate(DEMANDS):
        asked, offsets = system(k, n=3, nu=1, ny=1, slowest=(0.9, 0.9999)[k % 2])
        init, sizes = rc.nn.at_linear(*asked, **offsets), {"nu": 1, "ny": 1}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RobustctlWarning)
            model = build(
                cls, guarantee(kind, rate, gamma, **sizes), init, nx=4, seed=k, dtype=dtype, **sizes
            )
        free, fixed = eqx.partition(model, eqx.is_inexact_array)
        for one in (
            model,
            *(eqx.combine(jax.tree.map(lambda a, c=c: c * a, free), fixed) for c in (3.0, -0.1)),
        ):
            certificate = rc.certify(one, prove=False)
            assert certificate.holds, str(certificate)
            assert certificate.rate <= rate
            assert kind != "Lipschitz" or certificate.gamma <= gamma * (1 + 1e-6)


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_free_array_but_the_offset_of_a_relu_has_a_gradient(cls, kind):
    model = build(cls, guarantee(kind), rc.nn.at_linear(*system(4)[0]), nx=6, activation=jnp.tanh)
    us = jr.normal(jr.key(8), (30, 2))

    @eqx.filter_jit
    @eqx.filter_grad
    def gradient(model):
        return jnp.sum(jnp.sin(rc.rollout(model.explicit(), us, jnp.ones(6)).ys))

    for path, leaf in jax.tree.leaves_with_path(gradient(model)):
        assert np.isfinite(leaf).all() and np.any(leaf != 0), jax.tree_util.keystr(path)


def test_slow_modes_move_onto_the_circle_of_the_rate_and_the_rest_stays():
    A = scipy.linalg.block_diag(0.99, [[0.4, 0.3], [-0.3, 0.4]])
    B, C = np.ones((3, 1)), np.array([[0.1, 1.0, 0.5]])
    init, given = rc.nn.at_linear(A, B, C, [[0.2]]), rc.nn.Contracting(0.95)
    with pytest.warns(RobustctlWarning, match=r"gives up \d+\.\d% of the impulse response"):
        model = build("R2DN", given, init, nx=3, nu=1, ny=1, dtype=jnp.float64)
    poles = np.sort_complex(np.linalg.eigvals(linear_part(model.explicit())[0]))
    np.testing.assert_allclose(poles, [0.4 - 0.3j, 0.4 + 0.3j, 0.95], rtol=3e-6)
    found, truth = (impulse(m, 3000) for m in (linear_part(model.explicit()), (A, B, C, np.array([[0.2]]))))
    lost = np.sqrt(np.sum((found - truth) ** 2) / np.sum(truth**2))
    assert init.given_up(given, jnp.float64) == pytest.approx(lost, rel=1e-6)
    # No other B loses less: the error is orthogonal to the impulse response of each state.
    pole, _, output, _ = linear_part(model.explicit())
    per_state = impulse((pole, np.eye(3), output, np.zeros((1, 3))), 3000)[1:]
    np.testing.assert_allclose(np.einsum("toi,tou->iu", per_state, (found - truth)[1:]), 0, atol=1e-6)


def test_a_gain_that_is_too_large_is_reduced_to_the_bound():
    asked = ([[0.9]], [[1.0]], [[1.0]], [[0.0]])  # gain 10
    init = rc.nn.at_linear(*asked)
    assert init.given_up(rc.nn.Lipschitz(10.1)) < 1e-6
    lost = [init.given_up(rc.nn.Lipschitz(gamma)) for gamma in (9.0, 5.0, 1.0)]
    assert 0 < lost[0] < lost[1] < lost[2] < 1
    with pytest.warns(RobustctlWarning, match="use a larger rate or gamma"):
        explicit = build("R2DN", rc.nn.Lipschitz(5.0), init, nx=1, nu=1, ny=1).explicit()
    A, B, C, D = linear_part(explicit)
    gain = float((C @ np.linalg.solve(np.eye(1) - A, B) + D)[0, 0])
    assert 4.8 < gain < 5.0
    assert rc.certify(explicit, prove=False).gamma <= 5.0 * (1 + 1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(2, 3), (3, 3), (4, 1), (0, 2)])
def test_the_inverse_of_a_contraction(shape, dtype):
    N = np.random.default_rng(0).normal(size=shape)
    for size in (0.0, 0.5, 0.999):
        asked = size * N / max(np.linalg.norm(N, 2), 1e-9) if N.size else N
        G = jnp.asarray(invert_contraction(asked, dtype), dtype)
        np.testing.assert_allclose(contraction(G, shape), asked, atol=LIKE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_inverse_of_the_polar_form(dtype):
    M = np.random.default_rng(0).normal(size=(6, 6))
    H = M @ M.T + 0.1 * np.eye(6)
    X = jnp.asarray(invert_polar_gram(H, slack(dtype)), dtype)
    np.testing.assert_allclose(polar_gram(X, jnp.linalg.norm(X)), H, atol=LIKE[dtype] * np.abs(H).max())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rate", [1.0, 0.7])
def test_the_inverse_of_the_bounded_real_map(rate, dtype):
    """A system of gain below one in the metric P, from its own inequality."""
    rng = np.random.default_rng(1)
    nx, ns, nr = 3, 2, 4
    M = rng.normal(size=(nx + nr, nx + ns))
    M *= 0.9 / np.linalg.norm(M, 2)
    root = rng.normal(size=(nx, nx)) + 2 * np.eye(nx)
    A = rate * np.linalg.solve(root, M[:nx, :nx] @ root)
    B, C, D = np.linalg.solve(root, M[:nx, nx:]), rate * M[nx:, :nx] @ root, M[nx:, nx:]
    E = rate**2 * root.T @ root
    X = invert_bounded_real(E, E @ A, rate**2 * E, E @ B, C, D, rate, slack(dtype))
    given = (jnp.asarray(V, dtype) for V in (X, np.linalg.norm(X), np.zeros((nx, nx)), E @ B, C, D))
    found = bounded_real(*given, rate)
    for mine, asked in zip(found, (A, B, root.T @ root), strict=True):
        np.testing.assert_allclose(mine, asked, atol=20 * LIKE[dtype] * np.abs(asked).max())


def test_matrices_outside_the_inequality_have_no_inverse():
    eye = np.eye(2)
    ports = np.zeros((2, 0)), np.zeros((0, 2)), np.zeros((0, 0))
    assert np.isnan(invert_bounded_real(eye, 1.1 * eye, eye, *ports, 1.0, 1e-6)).all()


WRONG = {
    "unstable": (([[1.01]], [[1.0]], [[1.0]], [[0.0]]), {}, "stable, but A has an eigenvalue of size 1.01"),
    "integrating": (([[1.0]], [[1.0]], [[1.0]], [[0.0]]), {}, "differences"),
    "shape of A": (([[0.5, 0.1]], [[1.0]], [[1.0]], [[0.0]]), {}, "A must be finite and of shape"),
    "shape of B": (([[0.5]], [[1.0], [1.0]], [[1.0]], [[0.0]]), {}, "B must be finite and of shape"),
    "not finite": (([[0.5]], [[np.nan]], [[1.0]], [[0.0]]), {}, "B must be finite"),
    "offset": (([[0.5]], [[1.0]], [[1.0]], [[0.0]]), {"by": [1.0, 2.0]}, "by must be finite and of shape"),
    "inputs": (([[0.5]], [[1.0]], [[1.0]], [[0.0]]), {"u": np.ones((5, 2))}, r"u must be .* \(T, 1\)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_bad_input_is_refused(name):
    matrices, settings, text = WRONG[name]
    with pytest.raises(InvalidModelError, match=text):
        rc.nn.at_linear(*matrices, **settings)


def test_a_model_of_other_sizes_is_refused():
    init = rc.nn.at_linear(*system(0)[0])
    with pytest.raises(
        InvalidModelError, match=r"nx must be at least the order 4 .* got 3; use nx=4 or more"
    ):
        build("R2DN", guarantee("Contracting"), init, nx=3)
    with pytest.raises(InvalidModelError, match=r"inputs and outputs .* 2 and 3, got 1 and 3"):
        build("REN", guarantee("Contracting"), init, nu=1)
    with pytest.raises(InvalidModelError, match="R2DN or a REN"):
        rc.nn.StableLinear(nu=2, nx=4, ny=3, init=init, key=jr.key(0))


def test_a_start_without_effect_of_the_input_is_finite():
    explicit = build(
        "R2DN",
        guarantee("Contracting"),
        rc.nn.at_linear([[0.5]], [[0.0]], [[0.0]], [[0.0]]),
        nx=1,
        nu=1,
        ny=1,
    ).explicit()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(eqx.filter(explicit, eqx.is_array)))
