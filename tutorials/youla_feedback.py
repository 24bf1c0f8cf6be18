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
# # Youla feedback
#
# The plant is resonant and open-loop stable, the disturbance jumps, and the actuator saturates before it can cancel the disturbance. A
# controller learns to reject the disturbance, and the loop must be stable at every step of the training.
#
# In Youla's form the controller consists of a model of the plant and a stable system $Q$. $Q$ reads the innovation, the difference
# between plant and model, which does not depend on $Q$. So any certified $Q$ keeps the loop stable, and a bound on its gain bounds the
# gain of the loop.
#
# This is the published benchmark problem. Run it as a script, `python tutorials/youla_feedback.py --out runs/youla`, or open it as a
# notebook (Jupyter with jupytext, or an editor with `# %%` cells). It trains four policies in a few minutes on two CPU cores,
# at less than the published size; `--quick` trains two for a few epochs.

# %%
import argparse
import tempfile
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
import optax

import robustctl as rc
from robustctl.problems import youla_feedback as youla

parser = argparse.ArgumentParser(description="A certified controller that learns to reject disturbances.")
parser.add_argument("--out", type=Path, help="folder for all that is written; default: a temporary one")
parser.add_argument("--quick", action="store_true", help="few epochs and short episodes, to see that it runs")
given, _ = parser.parse_known_args()  # a notebook passes arguments of its own
out = given.out or Path(tempfile.mkdtemp(prefix="robustctl-"))
out.mkdir(parents=True, exist_ok=True)
epochs, batch, horizon, segment, size = (2, 4, 100, 50, 8) if given.quick else (60, 64, 800, 200, 32)
if jax.default_backend() == "cpu":
    print(
        "without a GPU: `python -m benchmarks youla` takes one to two minutes a seed on two cores, this page about as long; "
        "--quick shows in seconds that it runs"
    )

# %% [markdown]
# ## The loop
#
# $$
# z = T_0 d + T_1 u, \qquad u = \mathrm{sat}(Q(T_2 d)), \qquad \lvert u \rvert \le 5
# $$
#
# The disturbance $d$ is constant over 50 samples and at most 10, $z$ is the performance output, and the cost of a sample is
# $\lvert z\rvert + 10^{-4} u^2$. $T_0$, $T_1$ and $-T_2$ are the plant itself, which needs no stabilizing controller. Their H-infinity
# norms are the largest amplification of a sinusoid.

# %%
scenario = youla.YoulaScenario()
test = scenario.published_test()
test = test._replace(ws=test.ws[:batch, :horizon])
maps = [youla.resonance(sign) for sign in (1.0, 1.0, -1.0)]
n0, n1, n2 = (rc.classical.hinf_norm(rc.classical.to_control(T)) for T in maps)
print(f"norms of T0, T1, T2: {n0:.3f}, {n1:.3f}, {n2:.3f}")


@eqx.filter_jit
def episodes(q):
    """Return z and u of the test episodes under a Q, and their mean cost."""
    loop = scenario.loop(q, ())
    run = jax.vmap(lambda d: rc.rollout(loop, d).ys)(test.ws)
    return run, jnp.mean(jax.vmap(jax.vmap(scenario.cost))(run, test.ws))


zero = rc.loops.zero_gain(nu=1, ny=1)
before, cost_before = episodes(zero)
print(f"cost without control: {cost_before:.3f}")

# %% [markdown]
# ## Training
#
# Gradients go through the whole loop; each epoch draws new disturbances. A linear $Q$ comes first, as a reference without a network.
# Then networks, each with a bound $\gamma$ on its gain: a smaller one gives a stronger guarantee and less performance.


# %%
def learn(q):
    """Train a Q on the scenario, with its certificate checked every tenth epoch."""
    steps = epochs * (horizon // segment)
    problem = rc.train.PolicyGradient(scenario, horizon=horizon, segment=segment, batch=batch, test=test)
    fitted = rc.train.train(
        problem, q, epochs=epochs, key=jr.key(1),
        optimizer=rc.train.clipped_adam(optax.cosine_decay_schedule(5e-3, steps)),
        monitor=rc.runs.Monitor(callback=rc.certificates.certificate_margin),
    )  # fmt: skip
    margins = fitted.history["certificate_margin"]
    checked = margins[~np.isnan(margins)]
    print(
        f"  certified {np.sum(checked < 0)} of {len(checked)} times while it was trained, {fitted.seconds:.0f} s"
    )
    return fitted.policy


def network(gamma):
    """Return an untrained Q whose gain is at most gamma; inputs and outputs are of the order of 5."""
    q = rc.nn.LipschitzR2DN(
        nu=1, nx=10, nv=size, ny=1, hidden=(size, size), gamma=gamma, activation=jax.nn.tanh, init=rc.nn.long_memory, key=jr.key(0)
    )  # fmt: skip
    return rc.Rescaled(q, u_scale=(5.0,), y_scale=(5.0,))


untrained = {"linear": rc.nn.StableLinear(nu=1, nx=10, ny=1, init=rc.nn.long_memory, key=jr.key(0))}
gammas = (4.0,) if given.quick else (1.0, 4.0, 16.0)
untrained |= {f"R2DN, gamma {gamma:g}": network(gamma) for gamma in gammas}
policies = {}
for name, q in untrained.items():
    print(name)
    policies[name] = learn(q)

# %% [markdown]
# ## Performance and guarantee
#
# With a $Q$ of gain $\gamma$ the gain of the loop from $d$ to $z$ is at most
# $\lVert T_0\rVert + \lVert T_1\rVert\, \gamma\, \lVert T_2\rVert$; the saturation does not change
# this bound. If the plant differs from its model by a stable error, the loop stays stable as long as the gain of the error is
# below $1 / \gamma$ (small-gain theorem), here as a share of the plant's own gain. The linear $Q$ is contracting, but its gain was not
# bounded.

# %%
for name, policy in policies.items():
    cost, proven = episodes(policy.explicit())[1], rc.certify(policy, prove=False)
    line = f"{name}: cost {cost:.3f}, {cost / cost_before:.0%} of that without control"
    if proven.gamma is not None:
        bound, share = n0 + n1 * proven.gamma * n2, 1 / (proven.gamma * n1)
        line += f"; loop gain at most {bound:.3g}, plant may be {share:.0%} off"
    print(line)

# %% [markdown]
# ## Certify
#
# We keep the policy with the lowest cost among those with a bound.

# %%
bounded = [name for name in policies if name != "linear"]
best = min(bounded, key=lambda name: episodes(policies[name].explicit())[1])
certificate = rc.certify(policies[best], prove=False)
print(best, certificate, sep="\n")

# %% [markdown]
# ## A disturbance episode

# %%
after, cost_after = episodes(policies[best].explicit())
shown = slice(0, 400)
figure, axes = plt.subplots(3, 1, figsize=(7.5, 6), sharex=True, layout="constrained")
axes[0].plot(test.ws[0, shown, 0], color="k", linewidth=0.9)
axes[1].plot(before.z[0, shown, 0], color="0.6", label=f"without control, cost {cost_before:.2f}")
axes[1].plot(after.z[0, shown, 0], label=f"{best}, cost {cost_after:.2f}")
axes[2].plot(after.u[0, shown, 0], linewidth=1.1)
for ax, label in zip(axes, ("disturbance d", "output z", "control u"), strict=True):
    ax.set_ylabel(label)
axes[1].legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
axes[2].set_xlabel("sample")
figure.savefig(out / "episode.png", dpi=120)

# %% [markdown]
# ## Save
#
# The file contains $Q$ in the units of its signals; `robustctl certify youla.safetensors` checks it again. For your own plant, use it in
# `rc.loops.Youla(base, q)`, see `docs/closed-loop.md`.


# %%
rc.save(out / "youla.safetensors", policies[best], certificate=certificate)
print(f"policy and figure: {out}")
