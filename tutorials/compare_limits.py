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
# # Limits: a guarded policy and tube MPC
#
# The classical controller that keeps limits on states under bounded disturbances is tube MPC. Its rival here is a learned policy under a
# guard. Both get the same plant, the same limits, the same assumed disturbance and the same cost, and are compared in the same episodes
# with the policy alone and with the fallback alone: how often a limit is exceeded, and what keeping it costs.
#
# Run it as a script, `python tutorials/compare_limits.py --out runs/limits`, or open it as a notebook (Jupyter with jupytext, or an editor
# with `# %%` cells). It takes three to four minutes on two CPU cores; `--quick` trains for two epochs only. It needs qpax:
# `pip install "robustctl[mpc]"`.

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
from robustctl.plants import Imperfections, LinearPlant, Sampled, Signal, Task

parser = argparse.ArgumentParser(
    description="A guarded learned policy and tube MPC, limits and costs compared."
)
parser.add_argument("--out", type=Path, help="folder for all that is written; default: a temporary one")
parser.add_argument("--quick", action="store_true", help="two epochs and few episodes, to see that it runs")
given, _ = parser.parse_known_args()  # a notebook passes arguments of its own
out = given.out or Path(tempfile.mkdtemp(prefix="robustctl-"))
out.mkdir(parents=True, exist_ok=True)
epochs, episodes, horizon = (2, 20, 60) if given.quick else (100, 2000, 60)

# %% [markdown]
# ## The plant and its limits
#
# A carriage of 1 kg with a motor of 1 N. Position and speed are measured every 0.1 s, and pushes of up to 0.2 N act on it. It must stay
# within 1 m of the middle, and must not exceed 0.5 m/s. In a sample, with the push as a number d between -1 and 1:
#
# $$ x^+ = A x + B u + E d, \qquad \lvert d\rvert \le 1 $$

# %%
carriage = LinearPlant(
    [[0.0, 1.0], [0.0, 0.0]], [[0.0], [1.0]], np.eye(2), states=[Signal("position", "m"), Signal("speed", "m/s")],
    controls=[Signal("force", "N", -1.0, 1.0)], disturbances=[Signal("push", "N")],
    outputs=[Signal("position", "m"), Signal("speed", "m/s")],
)  # fmt: skip
sampled = Sampled(carriage, 0.1, Imperfections(saturate=True))
most = np.array([1.0, 0.5])
push = 0.2
model = rc.classical.linear_model(sampled).system
A, B = np.asarray(model.A), np.asarray(model.B)
E = push * B  # a push acts where the force does

# %% [markdown]
# ## The task
#
# Bring the carriage to the middle from anywhere, fast. The cost is the one that the MPC minimizes. Pushes have their largest size always:
# against the motion or with it, constant or switching at a pace of their own in each episode.

# %%
Q, R = np.array([10.0, 0.1]), 0.05


class ToTheMiddle(Task):
    """Start at rest within 0.8 m, with pushes of full size."""

    size: float = push

    def initial_state(self, key):
        """Draw the position."""
        return jnp.stack([jr.uniform(key, (), minval=-0.8, maxval=0.8), jnp.zeros(())])

    def disturbance(self, key, samples):
        """Draw pushes whose sign switches, in some episodes never and in others in every sample."""
        often_key, sign_key, switch_key = jr.split(key, 3)
        often = jnp.exp(jr.uniform(often_key, (), minval=-np.log(samples), maxval=0.0))
        switched = jnp.cumsum(jr.bernoulli(switch_key, often, (samples, 1)), axis=0) + jr.bernoulli(sign_key)
        return self.size * jnp.where(switched % 2 == 1, -1.0, 1.0)

    def cost(self, x, u, r):
        """Return the cost of one sample."""
        return Q[0] * x[0] ** 2 + Q[1] * x[1] ** 2 + R * u[0] ** 2


scenario = rc.loops.PlantScenario(ToTheMiddle(carriage), sampled)

# %% [markdown]
# ## The learned policy
#
# A Lipschitz R2DN, which is contracting and whose gain is bounded, trained on the cost alone: nothing in it is about the limits of the
# states. Its output is small at first.

# %%
network = rc.nn.quiet(rc.nn.LipschitzR2DN(nu=2, nx=4, nv=8, ny=1, hidden=(16,), gamma=20.0, key=jr.key(0)))
fitted = rc.fit_policy(
    network, scenario, horizon=horizon, segment=horizon, batch=64, epochs=epochs,
    optimizer=optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(1e-2, epochs))),
    monitor=None, key=jr.key(1),
)  # fmt: skip
policy = fitted.policy.explicit()
print(
    f"cost of a sample: {fitted.history['validation'][0]:.4g} after an epoch, {min(fitted.history['validation']):.4g} at best"
)

# %% [markdown]
# ## The guard
#
# The fallback is a cautious LQR. The largest set of states in which it keeps all limits under every push, its own force included, is a
# polytope. The guard lets a control pass if no push can lead the next state out of that set, and changes it as little as possible
# otherwise.

# %%
K = np.asarray(rc.classical.lqr(sampled, [1.0, 1.0], [1.0]).K)
rows = np.vstack([np.eye(2), -np.eye(2), -K, K])
limits = rc.loops.StateLimits(rows, [*most, *most, 1.0, 1.0])
kept = rc.loops.maximal_invariant_set(A - B @ K, limits, E)
fallback = rc.loops.Gain(-jnp.asarray(K, jnp.float32), jnp.zeros(2), jnp.zeros(1))
guard = rc.loops.InvariantSet(Sampled(carriage, 0.1), kept, E, low=[-1.0], high=[1.0])
guarded = rc.loops.Guarded(policy, guard, fallback, plant=sampled)
print(f"the set has {len(kept.limit)} half-spaces")

# %% [markdown]
# ## Tube MPC
#
# It plans 15 samples, with limits that are narrower by what pushes can do until then, and ends in the set of its own LQR.

# %%
tube = rc.classical.tube_mpc(sampled, Q, R, E, horizon=15, x_low=-most, x_high=most, iterations=30).controller

# %% [markdown]
# ## Limits and costs
#
# All four in the same episodes, first with pushes of the assumed size, then with three times that size, for which neither is made. A state
# counts as beyond a limit if it exceeds it by more than a ten-thousandth, the accuracy of a quadratic program in 32-bit arithmetic.


# %%
@eqx.filter_jit
def run(controller, batch):
    """Return states, forces and costs of the episodes, and the last state of the controller."""

    def one(episode):
        loop = scenario.loop(controller, episode.plant)
        found = rc.rollout(loop, episode.ws, scenario.initial(loop, episode.x0))
        cost = jnp.mean(jax.vmap(scenario.cost)(found.ys, episode.ws))
        return found.xs[0].x, found.ys.u, cost, found.x_final[1]

    return jax.lax.map(one, batch, batch_size=100)


controllers = {
    "policy alone": policy,
    "guarded policy": guarded,
    "tube MPC": tube,
    "fallback alone": fallback,
}
ran = {}
for times in (1, 3):
    there = rc.loops.PlantScenario(ToTheMiddle(carriage, size=times * push), sampled)
    batch = there.draw_batch(jr.key(2), episodes, horizon)
    print(f"\n{episodes} episodes with pushes of {times} times the assumed size")
    print(f"{'':16}{'episodes beyond a limit':>24}{'largest share of a limit':>26}{'cost of a sample':>18}")
    for name, controller in controllers.items():
        xs, us, cost, last = run(controller, batch)
        share = np.abs(np.asarray(xs) / most)
        ran[name, times] = np.asarray(xs), share
        beyond = int((share > 1 + 1e-4).any((1, 2)).sum())
        print(f"{name:16}{beyond:24}{share.max():26.4f}{float(cost.mean()):18.4f}")
        if name == "guarded policy":
            counts = np.asarray(last.counts).sum(0) / np.asarray(last.counts).sum()
            print(
                f"{'':16}passed {counts[0]:.1%}, changed {counts[1]:.1%}, fallback {counts[2]:.1%} of the samples"
            )

# %% [markdown]
# ## One episode
#
# From the same start under the same pushes. The policy alone goes through the limit of the speed. The guard and tube MPC leave what a push
# may add, and move along that.

# %%
start = int(np.abs(ran["policy alone", 1][0][:, 0, 0]).argmax())
figure, axes = plt.subplots(figsize=(6, 4))
for name in controllers:
    x = ran[name, 1][0][start]
    axes.plot(
        x[:, 0], x[:, 1], "--" if name == "tube MPC" else "-", label=name
    )  # it moves as the guarded policy does
axes.plot(
    most[0] * np.array([-1, 1, 1, -1, -1]), most[1] * np.array([-1, -1, 1, 1, -1]), "k:", label="limits"
)
axes.set_xlabel("position [m]")
axes.set_ylabel("speed [m/s]")
axes.legend(loc="lower left")
figure.savefig(out / "limits.png", dpi=120, bbox_inches="tight")
print(f"figure: {out / 'limits.png'}")

# %% [markdown]
# ## What each one guarantees
#
# All of it is for the linear model above, measured states, and pushes of the assumed size.
#
# - **Policy alone:** it is contracting, and its gain from state to force is at most 20. Nothing is proven about limits.
# - **Guarded policy:** from any state of the set, the limits hold for ever, whatever the network computes, and a control always exists:
#   proven by the polytope. Where a control passes it is the network's, bit for bit; every other sample is counted. Nothing is proven about
#   the cost.
# - **Tube MPC:** from any state with a plan, the limits hold for ever, to the accuracy of the solver; elsewhere they are exceeded as
#   little as possible. The plan is optimal for the model without pushes. A quadratic program runs in every sample.
# - **Fallback alone:** from any state of the set, the limits hold for ever: it is what the set was made of.
#
# Beyond the assumed size nothing is proven for any of them. Not every limit that is exceeded there is a fallback sample of the guard: from
# outside of its set it still finds a control that brings the carriage back, for pushes of the size that it assumes. Assume the size that
# occurs.
