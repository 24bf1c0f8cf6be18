"""Benchmark problem 2: a learned observer for a reaction-diffusion equation, measured at its ends and middle.

[BWM25] Barbara, Wang, Manchester, "R2DN: Scalable parameterization of contracting and Lipschitz recurrent deep
networks", arXiv 2504.01250, Sec. V-B. Details that the paper does not state are from its code,
github.com/nic-barbara/R2DN at 5e65ac9: sub-steps, initial states, noise, the test's random key, the loss (summed over nodes,
averaged over a batch's samples) and its learning-rate schedule from `examples/utils/observer.py`; sizes, ReLU, 200 epochs and
the output fixed at `y = x`, without feedthrough, from `examples/train_observer.py`; initial values from `robustnn/r2dn.py` and
`ren_base.py`.

Differences: the published losses have 1.2e-7 added to them (`l2_norm` in `examples/utils/utils.py`); 100,000 pairs
make 200 batches of exactly 500, theirs are 99,999; data and model have separate random keys, so that no training
shares the test's noise; the last layer of the R2DN's network is linear, theirs is one more sandwich layer with
50 scales; and the REN does not have their 106 unused parameters of a feedthrough.

The fields are symmetric about the middle: the data contain no other states, and estimates forget such states by
contraction alone. `plants.ReactionDiffusion` is the same equation as a plant to control: its
boundary has a lag and its solver is adaptive. The published data come from one explicit scheme with a boundary that jumps,
which `simulate` repeats.
"""

import dataclasses
from operator import attrgetter
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from .. import nn
from ..errors import RobustctlError
from ..linalg import frobenius
from ..system import Parameterization, System

NODES, MIDDLE, LENGTH = 51, 25, 10.0
SUBSTEPS = {"parity": 4, "corrected": 5}
"""Euler sub-steps between two samples; the published code computes five and returns the state before the last."""

PUBLISHED = {
    "r2dn": dict(mean=6.3e-6, lowest=4.5e-6, highest=7.9e-6, parameters=95_894, seconds_per_epoch=0.590),
    "ren": dict(mean=8.3e-6, lowest=4.6e-6, highest=1.3e-5, parameters=94_665, seconds_per_epoch=0.796),
}
"""Training loss of the 200th epoch over ten seeds, and seconds on a GPU, read from the figures of [BWM25]."""


@dataclasses.dataclass(frozen=True)
class ObserverProtocol:
    """The published settings.

    **Arguments:**

    - `model`: "r2dn" or "ren".
    - `generator`: a key of `SUBSTEPS`.
    - `epochs`: of the training.
    - `batches`: per epoch.
    - `batch`: samples per batch.
    - `learning_rate`: at first.
    - `least_rate`: at the end.
    - `factor`: by which the rate is multiplied when the loss stops falling.
    - `patience`: epochs without a lower loss before that.
    - `test_samples`: of the test trajectory.

    **Raises:** `RobustctlError` for any other model or generator.
    """

    model: str = "r2dn"
    generator: str = "parity"
    epochs: int = 200
    batches: int = 200
    batch: int = 500
    learning_rate: float = 2e-3
    least_rate: float = 1e-6
    factor: float = 0.1
    patience: int = 10
    test_samples: int = 2000

    def __post_init__(self):
        """Refuse unknown names."""
        for name, given, known in (
            ("model", self.model, PUBLISHED),
            ("generator", self.generator, SUBSTEPS),
        ):
            if given not in known:
                raise RobustctlError(f"{name} must be one of {sorted(known)}, got {given!r}")


class Field(NamedTuple):
    """A simulated, dimensionless field: `xs[t]` on all nodes, and `ys[t]`, the boundary `b[t]` and the middle node."""

    xs: Float[Array, "T 51"]
    ys: Float[Array, "T 2"]


def euler(xi: Float[Array, " 51"], b: Float[Array, ""]) -> Float[Array, " 51"]:
    """Return the field one sub-step later.

    ::

        xi_t = xi_zz + R / 2,   R = xi (1 - xi) (xi - 1/2),   xi(0) = xi(10) = b,   dt = dz^2 / 10 = 0.004 s

    by central differences and Euler's rule; the ends take their new value after the inner nodes used the old one.
    """
    dz = LENGTH / (NODES - 1)
    x = xi[1:-1]
    rate = (xi[:-2] + xi[2:] - 2 * x) / dz**2 + x * (1 - x) * (x - 0.5) / 2
    return jnp.concatenate([b[None], x + 0.1 * dz**2 * rate, b[None]])


def sample(xi: Float[Array, " 51"], b: Float[Array, ""], generator: str) -> Float[Array, " 51"]:
    """Return the field one sample later: 0.016 s with "parity", 0.02 s with "corrected"."""
    for _ in range(SUBSTEPS[generator]):
        xi = euler(xi, b)
    return xi


@eqx.filter_jit
def simulate(
    xi: Float[Array, " 51"], b: Float[Array, ""], noise: Float[Array, " T"], generator: str
) -> Field:
    """Return the `T + 1` samples of a field from its initial state.

    ::

        xi[t+1] = sample(xi[t], b[t]),   b[t+1] = clip(b[t] + noise[t], 0, 1),   y[t] = (b[t], xi[t] at the middle)

    The boundary value measured at t acts from t on: the ends of `xi[t]` are still `b[t-1]`.

    **Arguments:**

    - `xi`: the initial field (51,).
    - `b`: the initial boundary value.
    - `noise`: increments of the boundary value (T,).
    - `generator`: a key of `SUBSTEPS`.
    """

    def body(carry, w):
        xi, b = carry
        return (sample(xi, b, generator), jnp.clip(b + w, 0.0, 1.0)), carry

    last, (xs, bs) = lax.scan(body, (xi, b), noise)
    xs, bs = jnp.concatenate([xs, last[0][None]]), jnp.concatenate([bs, last[1][None]])
    return Field(xs, jnp.stack([bs, xs[:, MIDDLE]], axis=1))


class Pairs(NamedTuple):
    """Neighboring samples, in batches: predict `x_next` from the field `x` and the measurement `y`."""

    x_next: Float[Array, "batches batch 51"]
    x: Float[Array, "batches batch 51"]
    y: Float[Array, "batches batch 2"]


def training_pairs(protocol: ObserverProtocol, key: PRNGKeyArray) -> Pairs:
    """Draw one long trajectory from zero and cut it into batches of consecutive samples, in one random order."""
    noise_key, order_key = jr.split(key)
    count = protocol.batches * protocol.batch
    zero = jnp.zeros(NODES)
    field = simulate(zero, zero[0], 0.05 * jr.normal(noise_key, (count,)), protocol.generator)
    order = jr.permutation(order_key, protocol.batches)
    pairs = Pairs(field.xs[1:], field.xs[:-1], field.ys[:-1])
    return Pairs(*(a.reshape(protocol.batches, protocol.batch, -1)[order] for a in pairs))


def published_test(protocol: ObserverProtocol) -> Field:
    """Return the published test, the same for all seeds: from `xi = 1` and `b = 0.5`, with the noise of random key 0."""
    noise = 0.05 * jr.normal(jr.key(0), (protocol.test_samples,))
    one = jnp.ones(NODES)
    return simulate(one, one[0] / 2, noise, protocol.generator)


def observer(protocol: ObserverProtocol, key: PRNGKeyArray) -> Parameterization:
    """Return the published configuration with its initial values; its state is the estimate, and so is its output.

    ::

        x^[t+1] = f(x^[t], y[t]),    output x^[t];      initially  A = I - diag(e),  e uniform on [0.0001, 0.05]

    Initially biases and the R2DN's `B1` and `C1` are zero, and `B2`, `D12` and the network's weights are normal, truncated at
    two deviations, with variance one over their *rows*: the published code's "long_memory".
    """
    own_key, core_key, b_key, d_key, phi_key = jr.split(key, 5)
    shared: dict[str, Any] = dict(nu=2, nx=NODES, ny=NODES, activation=jax.nn.relu, key=own_key)
    eye, B2 = jnp.eye(NODES), _by_rows(b_key, (NODES, 2))
    if protocol.model == "ren":
        X, D12 = _slow(core_key, 200), _by_rows(d_key, (200, 2))
        arrays = dict(B2_imp=B2, D12_imp=D12, D21=jnp.zeros((NODES, 200)))
        model: Any = nn.ContractingREN(nv=200, **shared)
    else:
        X, D12 = _slow(core_key, 0), _by_rows(d_key, (50, 2))
        model = nn.ContractingR2DN(nv=50, hidden=(96,) * 4, **shared)
        none = dict(B1_imp=jnp.zeros((NODES, 50)), C1=jnp.zeros((50, NODES)), D21=jnp.zeros((NODES, 50)))
        arrays = none | dict(B2=B2, D12=D12, phi=_network(model.core.phi, phi_key))
    arrays |= dict(X=X, p=frobenius(X), Y=eye, C2=eye)
    return eqx.tree_at(lambda m: attrgetter(*arrays)(m.core), model, tuple(arrays.values()))


def _by_rows(key: PRNGKeyArray, shape: tuple[int, ...]) -> Array:
    """Normal, truncated at two deviations, with variance one over the number of rows."""
    cut = 0.87962566  # standard deviation of a unit normal truncated at two
    return jr.truncated_normal(key, -2.0, 2.0, shape) / (cut * shape[0] ** 0.5)


def _slow(key: PRNGKeyArray, nv: int) -> Array:
    """The `X` with E = P = I, F = I - diag(e), no coupling to the neurons, and a random D11 between them."""
    e_key, D_key = jr.split(key)
    F = jnp.eye(NODES) - jnp.diag(jr.uniform(e_key, (NODES,), minval=1e-4, maxval=0.05))  # X exists for e > 0
    D = _by_rows(D_key, (nv, nv)) if nv else jnp.zeros((0, 0))
    # The neurons' block 2 Lambda - D - D' must be positive definite: its smallest eigenvalue becomes 2e-4.
    most = jnp.max(jnp.linalg.eigvalsh(D + D.T)) if nv else 0.0
    neurons = (most + 2e-4) * jnp.eye(nv) - D - D.T
    none = jnp.zeros((NODES, nv))
    # The parameterization reads E, F, P and the neurons' block from H = X' X: E = P = I on its diagonal, F off it.
    H = jnp.block([[jnp.eye(NODES), none, F], [none.T, neurons, none.T], [F, none, jnp.eye(NODES)]])
    return jnp.linalg.cholesky(H).T


def _network(phi: nn.LBDN, key: PRNGKeyArray) -> nn.LBDN:
    """The network with the published initial weights and without biases."""
    free = [layer.XY for layer in phi.layers] + [phi.XY]
    XYs = [_by_rows(k, XY.shape) for k, XY in zip(jr.split(key, len(free)), free, strict=True)]
    inner = [_with(layer, XY, jnp.zeros_like(layer.b)) for layer, XY in zip(phi.layers, XYs, strict=False)]
    return _with(eqx.tree_at(lambda p: p.layers, phi, tuple(inner)), XYs[-1], phi.b)


def _with(layer, XY: Array, b: Array):
    """A layer with other weights and biases, and the size `a` of those weights."""
    return eqx.tree_at(lambda p: (p.XY, p.a, p.b), layer, (XY, frobenius(XY), b))


def free(model: Parameterization) -> PyTree:
    """Return which arrays are trained, as a tree of booleans; the output map `C2 D21 D22 by` is fixed at the identity."""
    floats = jax.tree.map(eqx.is_inexact_array, model)
    return eqx.tree_at(lambda m: [m.core.C2, m.core.D21, m.core.D22, m.core.by], floats, [False] * 4)


def split(model: Parameterization) -> tuple[PyTree, PyTree]:
    """Return the trained and the fixed arrays."""
    return eqx.partition(model, free(model))


def one_step_loss(system: System, batch: Pairs) -> Float[Array, ""]:
    """Return the mean of `|x[t+1] - f(x[t], y[t])|^2` over one batch, summed over the nodes."""
    prepared = system.prepare()
    predicted = jax.vmap(lambda x, y: prepared.step(x, y)[0])(batch.x, batch.y)
    return jnp.mean(jnp.sum((batch.x_next - predicted) ** 2, axis=1))


def test_errors(xs: Float[np.ndarray, "T 51"], estimates: Float[np.ndarray, "T 51"]) -> dict[str, float]:
    """Return `sqrt(mean (x - x^)^2 / mean x^2)` over all samples and nodes, as published, and over the last half."""

    def nrmse(x, e):
        return float(np.sqrt(np.mean((x - e) ** 2) / np.mean(x**2)))

    half = len(xs) // 2
    return {"test_nrmse": nrmse(xs, estimates), "test_nrmse_last_half": nrmse(xs[half:], estimates[half:])}


def references(pairs: Pairs, test: Field) -> dict:
    """Return reference scores: of no change, and of an affine observer by least squares, which has no guarantee.

    ::

        x[t+1] = x[t],      x[t+1] = A x[t] + B y[t] + c

    The observer is fitted to the training pairs in float64, without directions at the level of the data's rounding errors.
    """
    x_next, x, y = (np.asarray(a, np.float64).reshape(-1, a.shape[-1]) for a in pairs)
    known = np.hstack([x, y, np.ones((len(x), 1))])
    # The pairs are float32: singular values below 1e-6 of the largest are rounding errors.
    fit = np.linalg.lstsq(known, x_next, rcond=1e-6)[0]
    xs, ys = (np.asarray(a, np.float64) for a in test)
    estimates = np.zeros_like(xs)
    for t in range(len(xs) - 1):
        estimates[t + 1] = np.concatenate([estimates[t], ys[t], [1.0]]) @ fit
    return {
        "no_change": {"loss": float(np.mean(np.sum((x_next - x) ** 2, axis=1)))},
        "affine_fit": {
            "loss": float(np.mean(np.sum((x_next - known @ fit) ** 2, axis=1))),
            "spectral_radius": float(np.max(np.abs(np.linalg.eigvals(fit[:NODES])))),
            **test_errors(xs, estimates),
        },
    }
