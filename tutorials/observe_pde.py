# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # PDE observer from data
#
# A quantity diffuses and reacts along a rod, for example a temperature or a concentration. It is measured at the ends and in the
# middle, and needed everywhere. This page uses no equations, only a log of the whole field of 51 nodes from a test bench.
# From the log it trains an observer whose state is the field, and which forgets a wrong initial state at a proven rate.
#
# The rod is that of the published benchmark; it is simulated. Run the page as a script in a source checkout,
# `python tutorials/observe_pde.py --out runs/pde`, or open it as a notebook (Jupyter with jupytext, or an editor with `# %%` cells). It
# trains for a few minutes on two CPU cores, at less than the published size; `--quick` trains for a few epochs on a short log.

# %%
import argparse
import tempfile
import warnings
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
import optax

import robustctl as rc
from benchmarks import pde_observer as pde_observer_run
from robustctl.problems import pde_observer as pde

parser = argparse.ArgumentParser(description="From a log of a field to a certified observer.")
parser.add_argument("--out", type=Path, help="folder for all that is written; default: a temporary one")
parser.add_argument("--quick", action="store_true", help="few epochs on a short log, to see that it runs")
given, _ = parser.parse_known_args()  # a notebook passes arguments of its own
out = given.out or Path(tempfile.mkdtemp(prefix="robustctl-"))
out.mkdir(parents=True, exist_ok=True)
samples, window, epochs, size = (800, 200, 2, 8) if given.quick else (20_000, 1000, 150, 32)
if jax.default_backend() == "cpu":
    print(
        "without a GPU: `python -m benchmarks pde` takes some five minutes a seed on two cores, this page less; "
        "--quick shows in seconds that it runs"
    )

# %% [markdown]
# ## The log
#
# The value at both ends varies randomly between 0 and 1, and the middle follows slowly. The end is an input, because it drives the
# field.

# %%
noise = 0.05 * jr.normal(jr.key(0), (samples - 1,))
field = pde.simulate(jnp.zeros(pde.NODES), jnp.zeros(()), noise, "parity")
xs, ys = np.asarray(field.xs, float), np.asarray(field.ys, float)
nodes = [f"node {k}" for k in range(pde.NODES)]
substep = 0.1 * (pde.LENGTH / (pde.NODES - 1)) ** 2  # seconds
record = rc.data.from_arrays(
    ys[:, :1], np.hstack([ys[:, 1:], xs]), pde.SUBSTEPS["parity"] * substep,
    inputs=["end"], outputs=["middle", *nodes], name="test bench",
)  # fmt: skip
made = rc.observers.for_observer(record, measured="middle", estimated=nodes)
print(f"{samples} samples of {made.dt:g} s; reads {made.inputs}, estimates {made.ny} nodes")

# %% [markdown]
# ## An observer whose state is the field
#
# The contracting R2DN takes a rate: with 0.998, the effect of a wrong initial state after 1000 samples is proven to be at most 14 %
# ($0.998^{1000} = 0.135$) in the model's metric. An observer of the rod from these measurements must be able to converge at this rate;
# otherwise the fit degrades.
#
# The input matrix is scaled down, so that initially the slow modes do not integrate the input to fields far outside of [0, 1].

# %%
core = rc.nn.ContractingR2DN(
    nu=2, nx=pde.NODES, nv=size, ny=pde.NODES, hidden=(size, size), rate=0.998, init=rc.nn.long_memory, key=jr.key(1)
)  # fmt: skip
core = eqx.tree_at(lambda m: m.core.B2, core, 0.02 * core.core.B2)

# %% [markdown]
# ## Fit
#
# The loss has two terms. First, the estimation error along the log from a wrong initial state (zero): `fit` uses windows of the log,
# with one gradient step per segment. Second, `one_step_penalty`: one step from the true field should give the next true
# field, on a part of the log. Signals are between 0 and 1 and need no scaling, so the state is the field in its own unit.

# %%
windows = rc.data.windows(made, window, window)
some = rc.data.windows(made, min(200, window), window)
steps = epochs * window // 100
unscaled = rc.data.Scaling.identity(2, pde.NODES)
problem = rc.train.Identification(
    windows, scaling=unscaled, segment=100, regularizer=rc.observers.one_step_penalty(some, weight=1e4, scaling=unscaled)
)  # fmt: skip
fitted = rc.train.train(
    problem, rc.nn.StateObserver(core), epochs=epochs, key=jr.key(2),
    optimizer=rc.train.clipped_adam(optax.cosine_decay_schedule(2e-3, steps)),
)  # fmt: skip
print(fitted)

# %% [markdown]
# ## Certify
#
# The certificate is about the observer: two estimates that read the same measurements approach each other at this rate, for all
# measurements and all initial states.

# %%
certificate = rc.certify(fitted.model, prove=False)
print(certificate)

# %% [markdown]
# ## Test
#
# In the published test the field starts at 1 everywhere and the estimate at 0, with measurements that were not trained on.

# %%
protocol = pde.ObserverProtocol(test_samples=300 if given.quick else 2000)
test = pde.published_test(protocol)
estimates = np.asarray(rc.rollout(fitted.model.explicit(), test.ys).xs)
for name, error in pde.test_errors(np.asarray(test.xs), estimates).items():
    print(f"{name}: {error:.4f}")
pde_observer_run.draw_field(fitted.model, protocol).savefig(out / "field.png")

# %% [markdown]
# ## Ten random initial states
#
# Estimates start from ten random fields, with one record of measurements. The distance of each to the estimate from zero stays below
# both proven lines: the line of the guaranteed rate, and the line of the smaller rate that the certificate found. `convergence` computes
# this in float64; its ratios, the largest distance over the line, are at most 1. The figure is in float32, down to its rounding.

# %%
found = pde_observer_run.convergence(fitted.model.explicit(), certificate, test, jr.key(3), states=10)
print(found)

starts = jnp.concatenate([jnp.zeros((1, pde.NODES)), jr.uniform(jr.key(3), (10, pde.NODES))])
runs = np.asarray(jax.vmap(lambda x: rc.rollout(fitted.model.explicit(), test.ys, x).xs)(starts), float)
distance = np.linalg.norm((runs[1:] - runs[:1]) @ np.linalg.cholesky(certificate.P), axis=2)
node = pde.NODES // 4
figure, axes = plt.subplots(2, 1, figsize=(7.5, 5), sharex=True, layout="constrained")
axes[0].plot(runs[1:, :, node].T, linewidth=0.7)
axes[0].plot(test.xs[:, node], color="k", linewidth=1.4, label=f"field, {nodes[node]}")
axes[1].semilogy((distance / distance[:, :1]).T, linewidth=0.7)
for rate, style, what in ((certificate.rate, "k--", "guaranteed"), (certificate.rate_found, "k:", "found")):
    axes[1].semilogy(rate ** np.arange(len(test.ys)), style, label=f"proven, {what}: {rate:.4f}$^t$")
axes[0].set(ylabel="estimates")
axes[1].set(xlabel="sample", ylim=(1e-7, 2), ylabel="distance in P,\nrelative to its first")
for ax in axes:
    ax.legend(frameon=False)
figure.savefig(out / "starts.png", dpi=120)

# %% [markdown]
# ## Save it and run it with the rod
#
# The loaded observer takes one sample per call. Here the sensor in the middle fails for some samples: the last value is held, and the
# estimate reports its age. A stream also warns of measurements outside of the range that the model was trained in; here they are printed
# at the end. A short log covers less than a long one.


# %%
rc.save(out / "observer.safetensors", fitted.model, certificate=certificate)
stream = rc.observers.Stream(
    rc.load(out / "observer.safetensors"), measured="middle", limits={"middle": (-0.5, 1.5)}
)
with warnings.catch_warnings(action="ignore", category=rc.errors.RobustctlWarning):
    for t, (end, middle) in enumerate(np.asarray(test.ys)):
        estimate = stream(end, np.nan if 130 <= t < 180 else middle)
        if t % 40 == 0 and t <= 280:
            error = np.sqrt(np.mean((estimate.values - test.xs[t]) ** 2))
            print(f"sample {t}: rms error {error:.3f}, middle measured {estimate.stale[0]:.2f} s ago")
print(*stream.outside() or ["all measurements inside of the trained range"], sep="\n")
print(f"observer and figures: {out}")
