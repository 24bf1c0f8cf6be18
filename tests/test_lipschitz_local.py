"""Lipschitz bounds on boxes: against all activation patterns inside, and bounds for all inputs."""

import itertools

import numpy as np
import pytest
from scipy.optimize import linprog

from robustctl.certificates import GroupSort, Householder, Residual, lipschitz
from robustctl.certificates.local import Box, local_bound, product_lines, propagated
from robustctl.certificates.networks import described
from robustctl.certificates.pointwise import POINTWISE, kinked
from robustctl.certificates.steps import jacobians, largest_norm, values


def random_network(rng, activations, widths):
    """Layers with biases around the activations given, widths fitting."""
    layers = []
    for (a, b), name in itertools.zip_longest(itertools.pairwise(widths), activations):
        layers += [(rng.normal(size=(b, a)) * np.sqrt(2 / a), 0.3 * rng.normal(size=b)), name]
    return layers[:-1]


def box_of(rng, ni, half):
    middle = rng.normal(size=ni)
    return middle - half, middle + half


@pytest.mark.parametrize("name", [*POINTWISE, "prelu"])
def test_slopes_and_lines_bound_an_activation(name):
    activation = kinked(np.linspace(-1.5, 2.5, 400)) if name == "prelu" else POINTWISE[name]
    rng = np.random.default_rng(0)
    l = rng.normal(size=400) * 10 ** rng.uniform(-3, 1.2, 400)
    u = l + 10 ** rng.uniform(-9, 1.2, 400)
    lo, hi = activation.slopes(l, u)
    a, b, c, d = activation.lines(l, u)
    share = np.linspace(0, 1, 201)[:, None]
    v = np.minimum(l + share * (u - l), u)
    w, slope = activation.value(v), activation.slope(v)
    # What rounding does to the left and right sides themselves.
    rounding = 1e-14 * (1 + np.abs(v))
    assert np.all(w >= a * v + b - rounding) and np.all(w <= c * v + d + rounding)
    assert np.all(slope[1:-1] >= lo - 1e-15) and np.all(slope[1:-1] <= hi + 1e-15)
    assert np.all(lo >= activation.lo) and np.all(hi <= activation.hi)
    # The derivative is that of the values.
    step = 1e-6 * (1 + np.abs(v))
    quotient = (activation.value(v + step) - activation.value(v - step)) / (2 * step)
    smooth = np.abs(v) > 2 * step
    smooth &= np.abs(np.abs(v) - 1) > 2 * step
    np.testing.assert_allclose(quotient[smooth], slope[smooth], atol=1e-5)


def test_lines_bound_products_of_a_slope_and_a_number():
    rng = np.random.default_rng(0)
    (lo, hi), (l, u) = (np.sort(rng.normal(size=(2, 300)), axis=0) for _ in range(2))
    a, b, c, d = product_lines(lo, hi, l, u)
    for s, t in itertools.product(np.linspace(0, 1, 11), repeat=2):
        slope, x = lo + s * (hi - lo), l + t * (u - l)
        assert np.all(slope * x >= a * x + b - 1e-12) and np.all(slope * x <= c * x + d + 1e-12)


def patterns_inside(layers, lower, upper):
    """Jacobians of a ReLU network of all activation patterns that some open part of the box has."""
    *hidden, (W_out, _) = layers[::2]
    for pattern in itertools.product([0.0, 1.0], repeat=sum(len(W) for W, _ in hidden)):
        A, a, rows, at = np.eye(lower.size), np.zeros(lower.size), [], 0
        for W, b in hidden:
            active, at = np.array(pattern[at : at + len(W)]), at + len(W)
            A, a = W @ A, W @ a + b
            # sign (A x + a) >= t
            rows.append(
                np.column_stack([(1 - 2 * active)[:, None] * A, np.ones(len(W)), (2 * active - 1) * a])
            )
            A, a = active[:, None] * A, active * a
        M = np.vstack(rows)
        found = linprog(
            np.eye(lower.size + 1)[-1] * -1,
            M[:, :-1],
            M[:, -1],
            bounds=[*zip(lower, upper, strict=True), (None, 1)],
        )
        if found.status == 0 and -found.fun > 1e-9:
            yield W_out @ A


@pytest.mark.parametrize("norm", [2, np.inf])
def test_tiny_relu_networks_against_all_patterns_inside_the_box(norm):
    for seed, widths in enumerate([(2, 6, 2), (2, 3, 4, 2), (1, 5, 2), (3, 4, 2, 2), (2, 4, 3, 1)]):
        rng = np.random.default_rng(seed)
        layers = random_network(rng, ["relu"] * (len(widths) - 2), widths)
        lower, upper = box_of(rng, widths[0], 0.6)
        exact = max(np.linalg.norm(J, norm) for J in patterns_inside(layers, lower, upper))
        bound = lipschitz(layers, (lower, upper), norm, seconds=4.0)
        assert bound.lower <= exact * (1 + 1e-9) and exact <= bound.upper * (1 + 1e-9)
        assert bound.upper <= 1.01 * exact


ARCHITECTURES = {
    "relu": ["relu", "relu"], "leaky": ["leaky_relu", "relu"], "tanh": ["tanh", "tanh"], "softplus": ["softplus", "sigmoid"],
    "silu": ["silu", "hard_tanh"], "abs": ["abs", "abs"], "maxmin": ["maxmin", "maxmin"], "sort": [GroupSort(3), GroupSort(6)],
    "householder": [Householder([1.0, -2.0, 0.5]), "tanh"],
}  # fmt: skip


def of_kind(kind, rng, ni):
    if kind == "residual":
        first, inner, last = random_network(rng, [None, None], (ni, 6, 6, 2))[::2]
        return [first, Residual([inner, "tanh"], 0.5 * np.eye(6)), "relu", last]
    return random_network(rng, ARCHITECTURES[kind], (ni, 6, 6, 2))


@pytest.mark.parametrize("kind", [*ARCHITECTURES, "residual"])
def test_bounds_contain_what_they_bound(kind):
    rng = np.random.default_rng(0)
    for ni, norm in ((2, 2.0), (5, np.inf)):
        network = of_kind(kind, rng, ni)
        known = described(network)
        lower, upper = box_of(rng, ni, 0.4)
        points = rng.uniform(lower, upper, (500, ni))
        box = Box(lower[None], upper[None])

        def lines(k, l, u, steps=known.chain.steps):
            return steps[k].activation.lines(l, u)

        *_, (l, u) = propagated(known.chain, known.sizes, box, lines)
        outputs = values(known.chain, points)
        assert np.all(l <= outputs) and np.all(outputs <= u)
        norms = largest_norm(jacobians(known.chain, points), norm)
        found = local_bound(known.chain, known.sizes, box, norm)
        assert norms.max() <= found.upper[0]
        everywhere, here = (
            lipschitz(network, norm=norm),
            lipschitz(network, (lower, upper), norm, seconds=4.0),
        )
        assert norms.max() <= here.upper <= everywhere.upper and here.lower <= here.upper
        assert everywhere.lower <= everywhere.upper


def test_a_smaller_box_has_a_smaller_bound_and_a_tiny_one_the_norm_at_its_middle():
    rng = np.random.default_rng(0)
    network = random_network(rng, ["tanh", "relu"], (6, 8, 8, 2))
    middle, found = rng.normal(size=6), []
    for half in (1.0, 0.3, 0.1, 1e-9):
        bound = lipschitz(network, (middle - half, middle + half))
        found.append(min(bound.uppers["Jacobians on the box"], bound.uppers["local LipSDP"]))
    assert found == sorted(found, reverse=True)
    at = np.linalg.norm(jacobians(described(network).chain, middle[None])[0], 2)
    assert at * (1 - 1e-6) <= found[-1] <= at * (1 + 1e-6)


def test_dividing_the_box_nears_the_lower_bound():
    rng = np.random.default_rng(0)
    network = random_network(rng, ["tanh", "tanh"], (2, 16, 16, 2))
    bound = lipschitz(network, (-0.3 * np.ones(2), 0.3 * np.ones(2)), seconds=6.0)
    assert bound.ratio <= 1.05 and "Jacobians on parts of the box" in bound.uppers


def test_a_box_on_which_every_neuron_is_linear():
    network = [(np.eye(2), np.array([5.0, -5.0])), "relu", np.array([[3.0, 4.0]])]
    bound = lipschitz(network, ([-1.0, -1.0], [1.0, 1.0]))
    assert bound.lower == pytest.approx(3) and 3 <= bound.upper <= 3 * (1 + 1e-9)
