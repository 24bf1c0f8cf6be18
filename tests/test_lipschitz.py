"""Lipschitz bounds of networks: against all activation patterns, the product of norms, and known values."""

import itertools
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import robustctl as rc
from robustctl.certificates import lipschitz
from robustctl.certificates.lipschitz import by_recursion
from robustctl.certificates.networks import SLOPES, described
from robustctl.certificates.prove import least_gain
from robustctl.errors import RobustctlError


def matrices(widths, seed):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(b, a)) / np.sqrt(a) for a, b in itertools.pairwise(widths)]


def by_patterns(W1, W2, slopes):
    """The largest norm over all patterns of slopes at their ends: every one is reached for some bias."""
    return max(np.linalg.norm(W2 * np.array(d) @ W1, 2) for d in itertools.product(slopes, repeat=len(W1)))


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "abs", "sigmoid", "silu"])
def test_one_hidden_layer_lies_between_all_patterns_and_the_norms(name):
    for seed in range(6):
        W1, W2 = matrices((3, 6, 2), seed)
        upper = least_gain(described([W1, name, W2]).form).proof.value
        exact = by_patterns(W1, W2, SLOPES[name])
        product = np.linalg.norm(W1, 2) * np.linalg.norm(W2, 2) * max(map(abs, SLOPES[name]))
        assert exact <= upper <= min(product * 1.0002, 1.15 * exact)


def test_maxmin_lies_between_all_patterns_and_the_norms():
    """Of each pair the larger comes first: two orders a pair."""
    for seed in range(6):
        W1, W2 = matrices((3, 6, 2), seed)
        orders = itertools.product([np.eye(2), np.eye(2)[::-1]], repeat=3)
        exact = max(np.linalg.norm(W2 @ rows(order) @ W1, 2) for order in orders)
        upper = least_gain(described([W1, "maxmin", W2]).form).proof.value
        assert exact <= upper <= 1.1 * exact


def rows(order):
    P = np.zeros((6, 6))
    for k, block in enumerate(order):
        P[2 * k : 2 * k + 2, 2 * k : 2 * k + 2] = block
    return P


def test_orthonormal_layers_with_maxmin_have_the_bound_one():
    Q1, Q2, Q3 = (np.linalg.qr(W)[0] for W in matrices((4, 4, 4, 4), 0))
    bound = lipschitz([Q1, "maxmin", Q2, "maxmin", Q3])
    assert 1 - 1e-9 <= bound.lower <= bound.upper <= 1 + 1e-9


def test_a_linear_network_has_its_norm():
    W1, W2 = matrices((3, 5, 2), 0)
    upper = lipschitz([W1, "identity", W2]).upper
    assert np.linalg.norm(W2 @ W1, 2) <= upper * (1 + 1e-9) and upper <= np.linalg.norm(
        W1, 2
    ) * np.linalg.norm(W2, 2) * (1 + 1e-9)
    assert lipschitz([W1]).upper == pytest.approx(np.linalg.norm(W1, 2))


def test_the_recursion_is_sound_and_near_the_inequality():
    W = matrices((4, 8, 8, 3), 1)
    network = described([W[0], "relu", W[1], "tanh", W[2]])
    exact = least_gain(network.form).proof.value
    found = by_recursion(network.form, network.matrices, time.monotonic() + 20)
    assert exact * (1 - 1e-3) <= found <= 1.05 * exact < 0.9 * network.product
    assert by_recursion(network.form, (), time.monotonic()) == np.inf


def test_the_networks_of_the_package_and_of_equinox():
    lbdn = rc.nn.LBDN(3, 2, (4, 5), key=jr.key(0), dtype=jnp.float64)
    mlp = eqx.nn.MLP(3, 2, 6, 2, jnp.tanh, dtype=jnp.float64, key=jr.key(0))
    weights = [np.asarray(layer.weight) for layer in mlp.layers]
    listed = [weights[0], "tanh", weights[1], "tanh", weights[2]]
    a, b = lipschitz(mlp), lipschitz(listed)
    assert a.upper == pytest.approx(b.upper, rel=1e-6) and 0 < a.lower <= a.upper and b.lower <= b.upper
    assert a.upper < np.prod([np.linalg.norm(W, 2) for W in weights])
    bound = lipschitz(lbdn)
    assert 0 < bound.lower <= bound.upper < lbdn.explicit().lipschitz_bound() <= 1 and bound.seconds > 0
    phi = lbdn.explicit()
    chained = described(phi).matrices
    np.testing.assert_allclose(chained[-1], phi.W @ phi.layers[-1].W_out, atol=1e-12)


def test_a_final_activation_is_a_layer():
    mlp = eqx.nn.MLP(2, 2, 3, 1, final_activation=jax.nn.sigmoid, dtype=jnp.float64, key=jr.key(1))
    W1, W2 = (np.asarray(layer.weight) for layer in mlp.layers)
    form = described(mlp).form
    assert [block.hi[0] for block in form.blocks] == [1, 0.25]
    assert least_gain(form).proof.value <= np.linalg.norm(W1, 2) * np.linalg.norm(W2, 2) / 4 * 1.0002
    assert described(mlp).matrices[-1].shape == (2, 2)


def test_what_is_no_network_is_refused():
    W1, W2 = matrices((3, 4, 2), 0)
    faults = {
        "one of relu": [W1, "swish", W2], "fit each other": [W1, "relu", W1], "begin and end": [W1, "relu"],
        "a finite matrix": [np.ones(3)], "even number": [np.ones((3, 2)), "maxmin", np.ones((1, 3))],
        "must be an LBDN": jnp.tanh,
    }  # fmt: skip
    for text, network in faults.items():
        with pytest.raises(RobustctlError, match=text):
            lipschitz(network)
    with pytest.raises(RobustctlError, match="slope"):
        lipschitz(eqx.nn.MLP(2, 2, 3, 1, jnp.sin, key=jr.key(0)))
    with pytest.raises(RobustctlError, match="seconds"):
        lipschitz([W1], seconds=0.0)
