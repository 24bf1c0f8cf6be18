"""The GPU kernels of a folded R2DN give what its plain scans give, where they are interpreted, and lower for a GPU."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.speed import accelerator, fused_scan
from benchmarks.speed.cases import CASES, small
from robustctl.nn import activations, folded_scan
from robustctl.nn.layout import Layout

ROWS = Layout(rows=True)
SIZES = {  # nx, ny, nu, hidden widths, sequences, samples
    "odd": (4, 3, 2, (6, 5), 3, 7),
    "one layer, one of all": (1, 1, 1, (1,), 1, 1),
    "one sample": (5, 2, 3, (17, 9, 16), 2, 1),
    "states and outputs in segments of their own sizes": (15, 20, 2, (7,), 2, 3),
    "wider than a segment": (130, 3, 2, (140, 12, 257), 2, 3),
    "blocks of two, the last not full": (3, 2, 1, (5, 5), 131, 3),
    "blocks of four, the last not full": (3, 2, 1, (5, 5), 401, 2),
}


def normal(key, *shape, size=1.0):
    """By NumPy: JAX would compile a draw for every shape."""
    return jax.device_put((size * np.random.default_rng(key).normal(size=shape)).astype(np.float32))


def weights(nx, ny, nu, hidden):
    n, widths = nx + ny, list(hidden)
    scaled = lambda key, *shape: normal(key, *shape, size=0.7 / np.sqrt(shape[-1]))  # noqa: E731
    layers = itertools.pairwise(widths)
    between = tuple((scaled(10 + k, b, a), normal(20 + k, b)) for k, (a, b) in enumerate(layers))
    return scaled(0, n + widths[0], nx + nu), normal(1, n + widths[0]), between, scaled(2, n, widths[-1])


def close(ours, theirs):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype == jnp.float32
        np.testing.assert_allclose(a, b, atol=1e-6 * max(1, np.abs(b).max()), rtol=0)


@pytest.mark.parametrize("size", SIZES)
def test_forward_is_the_scan(size):
    nx, ny, nu, hidden, batch, samples = SIZES[size]
    args = weights(nx, ny, nu, hidden), normal(3, batch, nx), normal(4, samples, batch, nu)
    ours = jax.jit(lambda *args: fused_scan.forward(jnp.tanh, *args, interpret=True))(*args)
    close(ours, jax.jit(lambda *args: folded_scan._forward(jnp.tanh, ROWS, *args))(*args))


@pytest.mark.parametrize("size", SIZES)
def test_adjoint_is_the_scan_backwards(size):
    nx, ny, nu, hidden, batch, samples = SIZES[size]
    angles = [normal(10 + k, samples, batch, width) for k, width in enumerate(hidden)]
    slopes = [jax.device_put(np.abs(np.sin(angle))) for angle in angles]
    bars = normal(3, batch, nx), normal(4, samples, batch, nx), normal(5, samples, batch, ny)

    def scan(w, *rest):
        G, _, between, W = w
        maps = jax.tree.map(lambda M: ROWS.transposed(M, batch), (G, [Wk for Wk, _ in between], W))
        return folded_scan._adjoint(ROWS, maps, *rest)

    args = weights(nx, ny, nu, hidden), *bars, slopes
    ours = jax.jit(lambda *args: fused_scan.adjoint(*args, interpret=True))(*args)
    close(ours, jax.jit(scan)(*args))


@pytest.mark.parametrize("name", ["relu", "sigmoid", "softplus"])
def test_entries_beyond_a_width_do_no_harm(name):
    """They become `activation(0)`, which of some is not zero."""
    activation = activations.ACTIVATIONS[name]
    args = weights(4, 3, 2, (6, 5)), normal(3, 2, 4), normal(4, 5, 2, 2)
    ours = jax.jit(lambda *args: fused_scan.forward(activation, *args, interpret=True))(*args)
    close(ours, jax.jit(lambda *args: folded_scan._forward(activation, ROWS, *args))(*args))


def test_batches_of_models():
    """As training over seeds does: weights that differ from element to element."""
    both = jax.tree.map(lambda a: jnp.stack([a, 0.5 * a]), weights(4, 3, 2, (6, 5)))
    x0, us = normal(3, 2, 4), normal(4, 5, 2, 2)
    found = jax.jit(jax.vmap(lambda w: fused_scan.forward(jnp.tanh, w, x0, us, interpret=True)))(both)
    close(found, jax.jit(jax.vmap(lambda w: folded_scan._forward(jnp.tanh, ROWS, w, x0, us)))(both))


@pytest.mark.parametrize("batch", [1, 512])
@pytest.mark.parametrize("name", CASES)
def test_lowers_for_a_gpu_at_the_published_sizes(name, batch):
    case, samples = CASES[name], 10
    w = weights(case.nx, case.ny, case.nu, case.hidden)
    x, y, u = (normal(0, samples, batch, width) for width in (case.nx, case.ny, case.nu))
    slopes = [normal(0, samples, batch, width) for width in case.hidden]
    forward = jax.jit(lambda *a: fused_scan.forward(case.activation, *a)).trace(w, x[0], u)
    adjoint = jax.jit(fused_scan.adjoint).trace(w, x[0], x, y, slopes)
    for traced in (forward, adjoint):
        try:
            text = traced.lower(lowering_platforms=("cuda",)).as_text()
        except (ImportError, RuntimeError) as e:
            pytest.skip(f"this JAX cannot lower a kernel for a GPU without one: {e}")
        assert text.count("triton") == 1


def test_suits_only_single_precision_on_a_gpu(monkeypatch):
    w, us = weights(4, 3, 2, (6, 5)), normal(4, 5, 2, 2)
    assert not fused_scan.suits(w, us)  # a CPU
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "devices", lambda: [type("Device", (), {"device_kind": "NVIDIA H100"})])
    assert fused_scan.suits(w, us)
    assert not fused_scan.suits(w, us.astype(jnp.float64))
    seen = []
    long = jax.ShapeDtypeStruct((10**6, 512, 2), jnp.float32)
    jax.eval_shape(lambda us: seen.append(fused_scan.suits(w, us)), long)
    assert seen == [False]


@pytest.fixture
def interpreted(monkeypatch):
    """Let the kernels be taken on a CPU; returns how often each was."""
    calls = []
    for name in ("forward", "adjoint"):
        plain = getattr(fused_scan, name)
        fn = lambda *args, name=name, plain=plain: calls.append(name) or plain(*args, interpret=True)  # noqa: E731
        monkeypatch.setattr(fused_scan, name, fn)
    monkeypatch.setattr(fused_scan, "suits", lambda *args: True)
    return calls


@pytest.mark.parametrize("vectors", [40, 10_000])
def test_a_gradient_through_the_kernels(monkeypatch, interpreted, vectors):
    """In chunks with some samples left over, and all at once; a batch that the scan would lay out as columns."""
    monkeypatch.setattr(folded_scan, "_VECTORS", {"cpu": vectors})
    w, x0, us, weight = weights(4, 3, 2, (6, 5)), normal(3, 18, 4), normal(4, 18, 5, 2), normal(5, 18, 5, 3)

    def cost(w, x0, us, scan):
        xs, ys, x_final = scan(jnp.tanh, w, x0, us)
        return jnp.sum(weight * ys) + jnp.sum(jnp.sin(xs)) + jnp.sum(x_final**3)

    scans = fused_scan.fused_scan, accelerator._scan
    slope = jax.jit(jax.value_and_grad(cost, (0, 1, 2)), static_argnums=3)
    found, expected = (slope(w, x0, us, scan) for scan in scans)
    assert set(interpreted) == {"forward", "adjoint"}
    close(found, expected)


def test_what_does_not_suit_goes_by_the_scan():
    w, x0, us = weights(4, 3, 2, (6, 5)), normal(3, 2, 4), normal(4, 2, 5, 2)
    close(fused_scan.fused_scan(jnp.tanh, w, x0, us), accelerator._scan(jnp.tanh, w, x0, us))


def test_the_benchmark_compares_them(interpreted):
    row = accelerator.compare(small(CASES["youla"]), 2, 3, True, 1, accelerator.kernels())
    assert {"forward", "adjoint"} == set(interpreted) and row["difference"]["fused"] < 1e-5
    assert not row["failed"]
