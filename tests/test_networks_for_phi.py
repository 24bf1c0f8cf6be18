"""Networks for phi: the bypass by elimination, orthogonal layers, activations that sort or reflect, and bad requests."""

from fractions import Fraction

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import robustctl as rc
from robustctl.certificates.networks import described
from robustctl.certificates.prove import least_gain
from robustctl.certificates.steps import values
from robustctl.errors import InvalidModelError
from robustctl.nn.group_activations import GroupActivation

from .exact import bypass_inequality, network_bounded
from .models import draw, drawn_systems

ACTIVATIONS = {
    "max_min": rc.nn.max_min,
    "GroupSort(3)": rc.nn.GroupSort(3),
    "ascending": rc.nn.GroupSort(6, descending=False),
    "Householder": rc.nn.Householder((1.0, 2.0, -2.0)),
}
each_activation = pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=ACTIVATIONS)


def orthogonal(activation, widths=(4, 6, 6, 3), dtype=jnp.float64):
    ni, *hidden, no = widths
    return rc.nn.Orthogonal(ni, no, hidden, activation=activation, key=jr.key(0), dtype=dtype)


def proven(form) -> float:
    proof = least_gain(form).proof
    assert proof is not None
    return proof.value


@eqx.filter_jit
def outputs(network, points):
    return jax.vmap(network)(points)


@eqx.filter_jit
def jacobians(network, points):
    return jax.vmap(jax.jacfwd(network))(points)


# The linear bypass


def sampled_norms(network, rng, count=20):
    """Norms of the Jacobians of random patterns of a ReLU network: `D22 + D21 (I - S D11)^-1 S D12`."""
    form = network.lft()
    # Neurons of unlike sizes on one scale, which a slope does not notice.
    size = np.sqrt(np.concatenate([np.asarray(layer.lam, float) for layer in network.layers]))
    D11, D12, D21 = size[:, None] * form.D11 / size, size[:, None] * form.D12, form.D21 / size
    for _ in range(count):
        S = np.diag(rng.integers(0, 2, len(D11)).astype(float))
        inner = np.linalg.solve(np.eye(len(S)) - S @ D11, S @ D12)
        yield np.linalg.norm(form.D22 + D21 @ inner, 2)


@pytest.mark.parametrize(
    ("ni", "no", "hidden", "dtype"),
    [
        (3, 2, (4,), jnp.float64),
        (1, 5, (8, 1), jnp.float64),
        (6, 6, (5, 7, 3), jnp.float64),
        (2, 1, (3, 3, 2, 4), jnp.float32),
        (4, 4, (6, 5), jnp.float32),
    ],
)
def test_random_bypass_networks_have_positive_pivots_and_no_false_bound(ni, no, hidden, dtype):
    """Sixty draws a case, 300 in all, of sizes 0.3 to 50: the inequality in exact arithmetic, and random activation patterns."""
    scales = np.random.default_rng(0).uniform(np.log10(0.3), np.log10(50), 60)
    model = rc.nn.BypassLBDN(ni, no, hidden, key=jr.key(0), dtype=dtype)
    rng, largest = np.random.default_rng(1), 0.0
    for k, network in enumerate(drawn_systems(model, 10**scales)):
        bound = network.lipschitz_bound()
        # An infinite bound is that of a pivot that is not positive.
        assert 0 < bound < 1
        found = max(sampled_norms(network, rng))
        assert found <= bound * (1 + 1e-9)
        largest = max(largest, found / bound)
        assert k % 12 or network_bounded(network, Fraction(bound))
    assert largest > 0.5


def test_a_bypass_network_is_that_of_the_published_inequality():
    """The map undone: `A Sig A' = U U'` and `(B + A G_L) D_L^-1 (B + A G_L)' = V V'`, pivots as in the elimination's definition."""
    model = draw(rc.nn.BypassLBDN(3, 2, (4, 5), key=jr.key(0), dtype=jnp.float64), jr.key(1), 0.7)
    network = model.explicit()
    D, G, total = np.eye(3), np.eye(3), np.zeros((3, 3))
    for layer in network.layers:
        C, Lam = np.asarray(layer.C), np.diag(np.asarray(layer.lam))
        D_inv = np.linalg.inv(D)
        total += G @ D_inv @ G.T
        G, D = G @ D_inv @ C.T @ Lam, 2 * Lam - Lam @ C @ D_inv @ C.T @ Lam
    A, last = np.asarray(network.A), np.asarray(network.B) + np.asarray(network.A) @ G
    gram = A @ total @ A.T + last @ np.linalg.inv(D) @ last.T
    X = np.asarray(model.UV) * float(model.a) / np.linalg.norm(np.asarray(model.UV))
    X, Y = X[:2], X[2:]
    UV = -2 * Y @ np.linalg.inv(np.eye(2) + X - X.T + Y.T @ Y)
    np.testing.assert_allclose(gram, UV.T @ UV, atol=1e-6)
    M, H = (np.asarray(matrix, float) for matrix in bypass_inequality(network))
    assert network.lipschitz_bound() ** 2 == pytest.approx(
        np.linalg.eigvalsh(H @ np.linalg.inv(M) @ H.T)[-1], rel=1e-7
    )


# Orthogonal layers


@each_activation
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_an_orthogonal_network_is_one_lipschitz(activation, dtype):
    model = orthogonal(activation, dtype=dtype)
    for network in drawn_systems(model, [0.1, 1.0, (0.01, 100.0)]):
        bound = network.lipschitz_bound()
        assert 1 - 1e-4 < bound <= 1 and network_bounded(network, Fraction(bound) * (1 + Fraction(1, 10**11)))
        found = np.linalg.norm(
            np.asarray(jacobians(network, jr.normal(jr.key(1), (64, 4), dtype)), float), 2, axis=(1, 2)
        )
        assert found.max() <= bound * (1 + 64 * float(jnp.finfo(dtype).eps))
        a, b = jr.normal(jr.key(2), (2, 200, 4), dtype)
        moved = np.linalg.norm(np.asarray(outputs(network, a) - outputs(network, b), float), axis=1)
        assert np.all(moved <= np.linalg.norm(np.asarray(a - b, float), axis=1) * (1 + 1e-5))


@each_activation
def test_square_layers_keep_the_norm_of_every_gradient(activation):
    network = draw(orthogonal(activation, (6, 6, 6, 6)), jr.key(1), 1.0).explicit()
    found = np.linalg.svd(jacobians(network, jr.normal(jr.key(2), (32, 6))), compute_uv=False)
    np.testing.assert_allclose(found, 1.0, atol=1e-10)


@each_activation
def test_an_activation_alone_has_the_constant_one(activation: GroupActivation):
    form = activation.form(6, np.float64)
    # What a proof is stopped at is at most this much above the least gain.
    assert 1 - 1e-9 <= proven(form) <= 1.0002
    assert 1 <= activation.gain(np.float64) <= 1 + 1e-15


@each_activation
def test_activations_are_their_definitions(activation):
    z = np.random.default_rng(0).normal(size=(6,))
    groups = z.reshape(-1, activation.size)
    if isinstance(activation, rc.nn.GroupSort):
        expected = np.sort(groups, axis=1)[:, :: -1 if activation.descending else 1]
    else:
        v = np.asarray([1.0, 2.0, -2.0]) / 3
        expected = np.where((groups @ v)[:, None] >= 0, groups, groups @ (np.eye(3) - 2 * np.outer(v, v)))
    np.testing.assert_allclose(activation(jnp.asarray(z)), expected.ravel(), atol=1e-15)


@pytest.mark.parametrize("name", [*ACTIVATIONS, "bypass"])
def test_the_form_is_that_of_the_network(name):
    """Against the chain of layers that bounds of feed-forward networks read, which computes what the network does."""
    bypass = rc.nn.BypassLBDN(4, 3, (5, 2), key=jr.key(0), dtype=jnp.float64)
    model = bypass if name == "bypass" else orthogonal(ACTIVATIONS[name])
    network = draw(model, jr.key(1), 1.0).explicit()
    # Not orthogonal, so that the bound is no matter of the product of norms.
    network = jax.tree.map(
        lambda a: a + 0.3 * jnp.sin(jnp.arange(a.size, dtype=a.dtype)).reshape(a.shape) if a.ndim == 2 else a,
        network,
    )
    points = np.random.default_rng(0).normal(size=(8, 4))
    read = described(network)
    np.testing.assert_allclose(values(read.chain, points), outputs(network, jnp.asarray(points)), atol=1e-12)
    of_form, of_chain = proven(network.lft()), proven(read.form)
    assert of_form == pytest.approx(of_chain, rel=1e-4)
    found = np.linalg.norm(jacobians(network, jnp.asarray(10 * points)), 2, axis=(1, 2)).max()
    assert found <= of_form < read.product() * (1 + 1e-9)


# As phi


@pytest.mark.parametrize("name", ["MaxMin", "bypass"])
def test_a_proof_opens_the_network_to_its_neurons(name):
    phi = {
        "MaxMin": lambda: rc.nn.Orthogonal(4, 4, (4,), key=jr.key(1)),
        "bypass": lambda: rc.nn.BypassLBDN(4, 4, (3,), key=jr.key(1)),
    }[name]()
    model = rc.nn.LipschitzR2DN(nu=1, nx=2, nv=4, ny=1, gamma=2.0, phi=phi, key=jr.key(0))
    found = rc.certify(model)
    assert (
        found.holds and found.gamma is not None and found.gamma < 2.0 * (1 - 1e-3) and not found.assumptions
    )


REFUSED = {
    "nv = 4": lambda: rc.nn.ContractingR2DN(nu=1, nx=2, nv=4, ny=1, phi=orthogonal(rc.nn.max_min, (3, 2, 4)), key=jr.key(0)),
    "features to 4, got an output of shape": lambda: rc.nn.ContractingR2DN(
        nu=1, nx=2, nv=4, ny=1, phi=rc.nn.BypassLBDN(4, 3, (2,), key=jr.key(0)), key=jr.key(0)
    ),
    r"hidden\[1\] must be a multiple of 3.*got 4; use 6": lambda: orthogonal(rc.nn.GroupSort(3), (2, 3, 4, 2)),
    r"hidden\[0\] must be a multiple of 2.*Householder, got 3": lambda: orthogonal(rc.nn.Householder((1, 1)), (2, 3, 2)),
    "max_min, a GroupSort or a Householder.*use LBDN": lambda: orthogonal(jax.nn.relu),
    "at least one width": lambda: rc.nn.BypassLBDN(2, 2, (), key=jr.key(0)),
    "slope": lambda: rc.nn.BypassLBDN(2, 2, (3,), activation=jnp.sin, key=jr.key(0)),
    "at least 2 signals, got 1": lambda: rc.nn.GroupSort(1),
    "one vector": lambda: rc.nn.Householder([[1.0, 2.0]]),
    "not all zero": lambda: rc.nn.Householder([0.0, 0.0]),
    "2 finite": lambda: rc.nn.Householder([1.0, np.nan]),
}  # fmt: skip


@pytest.mark.parametrize("message", REFUSED)
@pytest.mark.usefixtures("as_installed")
def test_bad_requests_are_refused(message):
    with pytest.raises(InvalidModelError, match=message):
        REFUSED[message]()
