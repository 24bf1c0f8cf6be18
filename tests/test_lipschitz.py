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
from robustctl.certificates import GroupSort, Householder, Residual, lipschitz
from robustctl.certificates.lipschitz import by_recursion
from robustctl.certificates.networks import described
from robustctl.certificates.pointwise import POINTWISE
from robustctl.certificates.prove import least_gain
from robustctl.certificates.steps import centered, form_of, jacobians, slopes_everywhere, unit_ranges, values


def matrices(widths, seed):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(b, a)) / np.sqrt(a) for a, b in itertools.pairwise(widths)]


def by_patterns(W1, W2, slopes):
    """The largest norm over all patterns of slopes at their ends: every one is reached for some bias."""
    return max(np.linalg.norm(W2 * np.array(d) @ W1, 2) for d in itertools.product(slopes, repeat=len(W1)))


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "abs", "sigmoid", "silu"])
def test_one_hidden_layer_lies_between_all_patterns_and_the_norms(name):
    slopes = POINTWISE[name].lo, POINTWISE[name].hi
    for seed in range(6):
        W1, W2 = matrices((3, 6, 2), seed)
        upper = least_gain(described([W1, name, W2]).form).proof.value
        exact = by_patterns(W1, W2, slopes)
        product = np.linalg.norm(W1, 2) * np.linalg.norm(W2, 2) * max(map(abs, slopes))
        assert exact <= upper <= min(product * 1.0002, 1.15 * exact)


@pytest.mark.parametrize("norm", [2, np.inf])
def test_maxmin_lies_between_all_patterns_and_the_norms(norm):
    """Of each pair the larger comes first: two orders a pair."""
    for seed in range(6):
        W1, W2 = matrices((3, 6, 2), seed)
        orders = itertools.product([np.eye(2), np.eye(2)[::-1]], repeat=3)
        exact = max(np.linalg.norm(W2 @ rows(order) @ W1, norm) for order in orders)
        upper = lipschitz([W1, "maxmin", W2], norm=norm).upper
        assert exact <= upper <= (1.1 if norm == 2 else 1.25) * exact


def rows(order):
    P = np.zeros((6, 6))
    for k, block in enumerate(order):
        P[2 * k : 2 * k + 2, 2 * k : 2 * k + 2] = block
    return P


@pytest.mark.parametrize("activation", ["maxmin", GroupSort(4), Householder([1.0, 2.0]), "abs"])
def test_orthonormal_layers_with_activations_that_keep_norms_have_the_bound_one(activation):
    Q1, Q2, Q3 = (np.linalg.qr(W)[0] for W in matrices((4, 4, 4, 4), 0))
    bound = lipschitz([Q1, activation, Q2, activation, Q3])
    assert 1 - 1e-9 <= bound.lower <= bound.upper <= 1 + 1e-9
    assert bound.uppers["LipSDP"] <= 1 + 2e-4


def test_a_linear_network_has_its_norm():
    W1, W2 = matrices((3, 5, 2), 0)
    upper = lipschitz([W1, "identity", W2]).upper
    assert np.linalg.norm(W2 @ W1, 2) <= upper * (1 + 1e-9) and upper <= np.linalg.norm(
        W1, 2
    ) * np.linalg.norm(W2, 2) * (1 + 1e-9)
    assert upper == pytest.approx(np.linalg.norm(W2 @ W1, 2))
    assert lipschitz([W1]).upper == pytest.approx(np.linalg.norm(W1, 2))
    assert lipschitz([W1, W2], norm="inf").upper == pytest.approx(np.linalg.norm(W2 @ W1, np.inf))
    zero = lipschitz([0 * W1, "relu", W2])
    assert (zero.upper, zero.lower, zero.ratio) == (0, 0, 1)


NETWORKS = {
    "relu and tanh": lambda W: [W[0], "relu", W[1], "tanh", W[2]],
    "residual": lambda W: [W[0], "relu", Residual([W[1], "abs", W[1].T]), W[2]],
    "groups": lambda W: [W[0], GroupSort(4), W[1], Householder([1.0, 0.5]), W[2]],
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_recursion_is_sound_and_near_the_inequality(name):
    network = described(NETWORKS[name](matrices((4, 8, 8, 3), 1)))
    exact = least_gain(network.form).proof.value
    chain = centered(network.grouped, slopes_everywhere(network.grouped))
    found = by_recursion(chain, time.monotonic() + 20)
    assert exact * (1 - 1e-3) <= found <= 1.05 * exact < 0.98 * network.product()
    # Slopes around their middles describe the same network.
    assert least_gain(form_of(chain, unit_ranges(chain))).proof.value == pytest.approx(exact, rel=1e-3)


def test_where_the_interior_point_does_not_fit_the_recursion_bounds(monkeypatch):
    monkeypatch.setattr("robustctl.certificates.prove.estimate", lambda m, N, modes=1: (1e9, 0.0))
    W = matrices((4, 8, 8, 3), 1)
    network = [W[0], "relu", W[1], "tanh", W[2]]
    two, most = lipschitz(network, seconds=20.0), lipschitz(network, norm=jnp.inf, seconds=20.0)
    assert two.lower <= two.upper == two.uppers["recursion of LipSDP"] < 0.9 * two.uppers["product of norms"]
    assert most.lower <= most.upper <= 2 * two.upper * (1 + 1e-6)


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
    assert bound.uppers["product of norms"] == pytest.approx(lbdn.explicit().lipschitz_bound())
    static = rc.nn.LipschitzStatic(nu=3, ny=2, gamma=3.0, hidden=(4,), key=jr.key(0), dtype=jnp.float64)
    assert lipschitz(static).upper <= 3 * (1 + 1e-9)
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32) if eqx.is_inexact_array(leaf) else leaf, mlp)
    of_single = lipschitz([np.asarray(W, np.float32) if k % 2 == 0 else W for k, W in enumerate(listed)])
    assert lipschitz(single).upper == pytest.approx(of_single.upper, rel=1e-12)
    assert of_single.lower <= of_single.upper


def parts_of_all_kinds():
    keys = jr.split(jr.key(0), 5)
    linear = [eqx.nn.Linear(4, 4, key=key, dtype=jnp.float64) for key in keys[:3]]
    mlp = eqx.nn.MLP(4, 4, 5, 2, eqx.nn.PReLU(0.3), jax.nn.sigmoid, dtype=jnp.float64, key=keys[3])
    leaky = eqx.nn.Lambda(jax.nn.leaky_relu)
    nest = eqx.nn.Sequential(
        [linear[0], leaky, eqx.nn.Sequential([mlp, eqx.nn.Identity()]), eqx.nn.Lambda(eqx.nn.PReLU(2.0))]
    )
    return linear[1:], nest, rc.nn.LBDN(4, 4, (5,), key=keys[4], dtype=jnp.float64).explicit()


def test_a_chain_computes_what_its_network_does():
    (inner, outer), nest, lbdn = parts_of_all_kinds()
    skip = np.random.default_rng(0).normal(size=(4, 4))
    network = [
        nest,
        Residual([inner, jax.nn.softplus, GroupSort(4), Residual(lbdn)], skip),
        "silu",
        (skip, skip[0]),
    ]

    def composed(u):
        s = nest(u)
        branch = jnp.sort(jax.nn.softplus(inner(s)))[::-1]
        return skip @ jax.nn.silu(skip @ s + branch + lbdn(branch)) + skip[0]

    points = np.random.default_rng(1).normal(size=(8, 4))
    chain = described(network).chain
    with jax.numpy_dtype_promotion("standard"):
        np.testing.assert_allclose(values(chain, points), jax.jit(jax.vmap(composed))(points), atol=1e-12)
        np.testing.assert_allclose(
            jacobians(chain, points), jax.jit(jax.vmap(jax.jacfwd(composed)))(points), atol=1e-12
        )
    bound = lipschitz([*network, outer])
    assert bound.lower <= bound.upper < bound.uppers["product of norms"] and not bound.assumptions


@pytest.mark.parametrize("size", [2, 3, 5])
def test_sorting_and_reflecting_activations(size):
    z = np.random.default_rng(0).normal(size=(16, 2 * size))
    groups = np.sort(z.reshape(16, 2, size), axis=-1)
    one = np.eye(2 * size)
    np.testing.assert_allclose(
        values(described([one, GroupSort(size, descending=False)]).chain, z),
        groups.reshape(16, -1),
        atol=1e-12,
    )
    np.testing.assert_allclose(
        values(described([one, GroupSort(size)]).chain, z), groups[..., ::-1].reshape(16, -1), atol=1e-12
    )
    v = np.arange(1.0, size + 1)
    parts = z.reshape(16, 2, size)
    reflected = parts - 2 * (parts @ v)[..., None] * v / (v @ v)
    expected = np.where((parts @ v)[..., None] >= 0, parts, reflected)
    np.testing.assert_allclose(
        values(described([one, Householder(v)]).chain, z), expected.reshape(16, -1), atol=1e-12
    )


def test_a_pair_reflected_about_its_difference_is_maxmin():
    W1, W2 = matrices((3, 6, 2), 0)
    found = [lipschitz([W1, name, W2]).upper for name in ("maxmin", GroupSort(2), Householder([1, -1]))]
    assert found == pytest.approx([found[0]] * 3, rel=1e-4)


def test_a_final_activation_is_a_layer():
    mlp = eqx.nn.MLP(2, 2, 3, 1, final_activation=jax.nn.sigmoid, dtype=jnp.float64, key=jr.key(1))
    W1, W2 = (np.asarray(layer.weight) for layer in mlp.layers)
    form = described(mlp).form
    assert [block.hi[0] for block in form.blocks] == [1, 0.25]
    assert least_gain(form).proof.value <= np.linalg.norm(W1, 2) * np.linalg.norm(W2, 2) / 4 * 1.0002


def test_an_activation_that_is_tried_and_not_known_is_an_assumption():
    W1, W2 = matrices((3, 4, 2), 0)
    bound = lipschitz([W1, lambda v: jnp.tanh(v) / 2, W2])
    assert "not proven" in bound.assumptions[0] and "assumed: " in str(bound)
    assert bound.lower <= bound.upper <= lipschitz([W1, "tanh", W2]).upper * 1.0002


def test_a_bound_is_printed_as_a_table():
    text = str(lipschitz([*matrices((3, 2), 0)], norm="inf"))
    head, row = text.splitlines()[:2]
    assert [word in head for word in ("infinity norm", "upper", "lower", "ratio", "seconds")] == [True] * 5
    assert len(row.split()) == 6 and "product of norms" in text


W1, W2 = matrices((3, 4, 2), 0)
STATEFUL = eqx.nn.BatchNorm(3, "batch", dtype=jnp.float64, mode="batch")
FAULTS = {
    "one of relu": [W1, "swish", W2], "fit each other": [W1, "relu", W1], "begin with a matrix": ["relu", W1],
    "a finite matrix": [np.ones(3)], "even number": [np.ones((3, 2)), "maxmin", np.ones((1, 3))],
    "must be an LBDN": jnp.tanh, "not finite; train again": [W1 * np.nan, "relu", W2],
    "multiple of 3": [W1, GroupSort(3)], "have a layer": [], "bias must be 4": [(W1, np.ones(3))],
    "as its skip": [W1, Residual([W2])], "no state, got BatchNorm": eqx.nn.Sequential([STATEFUL]),
    "no state, got GRUCell": eqx.nn.GRUCell(2, 2, key=jr.key(0)), "got LayerNorm": [W1, eqx.nn.LayerNorm(4)],
    "no state, got ExplicitR2DN": rc.nn.ContractingR2DN(nu=1, nx=1, nv=2, ny=1, hidden=(2,), key=jr.key(0)),
    "at most 6000 signals.*GB.*prune": [np.ones((4000, 1)), "relu", np.ones((1, 4000))],
    "slope below zero": [W1, eqx.nn.PReLU(np.nan)], "product of the layers": [1e200 * W1, "relu", 1e200 * W2],
    "slope in": eqx.nn.MLP(2, 2, 3, 1, jnp.sin, key=jr.key(0)), "'scalar'": eqx.nn.Linear("scalar", 2, key=jr.key(0)),
    "without scan": eqx.nn.MLP(2, 2, 3, 3, scan=True, key=jr.key(0)), "a layer must be a matrix": [W1, {"a": 1}],
}  # fmt: skip


@pytest.mark.parametrize("text", FAULTS)
def test_what_is_no_network_is_refused(text):
    with pytest.raises(rc.errors.RobustctlError, match=text):
        lipschitz(FAULTS[text])


def test_settings_without_a_meaning_are_refused():
    for text, given in {
        "seconds": {"seconds": 0.0}, "norm must be 2 or infinity.*got 1": {"norm": 1}, "got 'two'": {"norm": "two"},
        "each of 3 inputs": {"box": ([0.0], [1.0])}, "a pair": {"box": 1.0}, "must be bounded": {"box": ([-np.inf] * 3, [1.0] * 3)},
        "lower < upper.*1 and 0 for input 1": {"box": ([0.0, 1.0, 0.0], [1.0, 0.0, 1.0])},
    }.items():  # fmt: skip
        with pytest.raises(rc.errors.RobustctlError, match=text):
            lipschitz([W1, "relu", W2], **given)
    for wrong in (lambda: GroupSort(1), lambda: Householder([0.0, 0.0])):
        with pytest.raises(rc.errors.RobustctlError, match="at least 2"):
            wrong()
