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
# # Train by reinforcement, and by gradients
#
# Why not reinforcement learning? This page is a baseline for the answer. One Gymnasium environment, two tanks and a
# pump, has four controllers: proximal policy optimization (PPO), which explores actions and reinforces those with a high reward; the
# same kind of policy trained by the gradient through the simulated loop; a policy with memory and a certificate, also trained by that
# gradient; and an LQG as a reference. All are evaluated in the environment, on the same seeds: cost, number of samples, seconds, and
# guarantee.
#
# Run it as a script, `python tutorials/train_by_reinforcement.py --out runs/reinforcement`, or open it as a notebook (Jupyter
# with jupytext, or an editor with `# %%` cells). It takes minutes on two CPU cores; `--quick` only shows that it runs.

# %%
import argparse
import json
import tempfile
import time
from pathlib import Path

try:
    import gymnasium as gym

    import robustctl as rc
    import robustctl_envs
except ModuleNotFoundError as missing:
    raise SystemExit(f"{missing}; install robustctl into this Python: pip install . in its folder") from None

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from robustctl.plants import Imperfections
from robustctl.plot.canvas import CYCLE, SMALL, heading, panels
from robustctl_envs.ppo import PPO, train_ppo

parser = argparse.ArgumentParser(description="PPO and gradients through the loop on one environment.")
parser.add_argument("--out", type=Path, help="folder for all that is written; default: a temporary one")
parser.add_argument("--quick", action="store_true", help="a few updates and epochs, to see that it runs")
given, _ = parser.parse_known_args()  # a notebook passes arguments of its own
out = given.out or Path(tempfile.mkdtemp(prefix="robustctl-"))
if out.exists() and not out.is_dir():
    parser.error(f"--out must be a folder, {out} is a file")
out.mkdir(parents=True, exist_ok=True)
settings = PPO(num_envs=8, samples=40) if given.quick else PPO(num_envs=64, samples=300)
budgets, epochs, batch, count = ((1,), 2, 4, 4) if given.quick else ((10, 40, 160), 100, 32, 64)

# %% [markdown]
# ## One environment
#
# A pump fills the upper tank, which drains into the lower one. The controller reads the lower level, with 1 mm of noise, and sets
# the pump between 0 and 10 V. Unknown inflows change every 100 s. An action in [-1, 1] is mapped onto the pump's limits, and the
# reward is minus the task's cost.

# %%
NAME, imperfections = "TwoTanks", Imperfections(saturate=True, noise=0.1)
environment = robustctl_envs.functional(NAME, imperfections=imperfections)
sampled, task = environment.sampled, environment.task
print([f"{s.name} [{s.unit}]" for s in environment.observed], "->", sampled.plant.controls)


def evaluate(controller, seed=0):
    """Return the cost of each sample and episode (T, B), played in the environment."""
    envs = gym.make_vec(f"robustctl/{NAME}-v0", num_envs=count, imperfections=imperfections)
    act = robustctl_envs.Policy(controller, envs)
    observation, _ = envs.reset(seed=seed)
    costs = []
    for _ in range(task.horizon):
        observation, reward, *_ = envs.step(act(observation))
        costs.append(-reward)
    return np.stack(costs)


# %% [markdown]
# ## PPO
#
# The policy is a network without memory, from the level to the pump voltage, which explores with random actions. It needs no model, only
# the observations and rewards of the environment. That is its strength, on a plant that can be run for a million samples. Each budget is
# a separate training, because the learning rate falls to zero at its end; it is evaluated without the random part of the actions.

# %%
controllers, seconds, samples, curves = {}, {}, {}, {"PPO": []}
for updates in budgets:
    begin = time.perf_counter()
    controllers["PPO"] = train_ppo(environment, updates=updates, settings=settings, key=jr.key(0)).controller
    seconds["PPO"] = time.perf_counter() - begin
    samples["PPO"] = updates * settings.num_envs * settings.samples
    curves["PPO"].append((samples["PPO"], float(evaluate(controllers["PPO"]).mean())))
    print(f"PPO: {samples['PPO']:,} samples, cost of a sample {curves['PPO'][-1][1]:.4g}")

# %% [markdown]
# ## Gradients through the loop
#
# The environment is a pure function of plant, task and policy, so the cost has a gradient with respect to the policy's
# arrays. Each sample then gives not only the reward of an action, but also the direction of improvement. This needs a differentiable
# model. All plants here are differentiable.
#
# First the same kind of policy: a network without memory. It works on deviations from the operating point.

# %%
x_e, u_e = sampled.plant.operating_point()


class Deviations(rc.Parameterization):
    """A policy in deviations from the operating point: u = u_e + 2 V inner((y - y_e) / 1 cm)."""

    inner: rc.Parameterization

    def explicit(self):
        """Map to the policy in the signals' units."""
        y_e = sampled.plant.output(x_e)
        return rc.Scaled(self.inner.explicit(), y_e, jnp.ones_like(y_e), u_e, 2.0 * jnp.ones_like(u_e))


def by_gradient(name, policy, base=None):
    """Train a policy, directly or on top of a base controller, and count what it took."""
    adam = optax.adam(optax.cosine_decay_schedule(5e-3, 3 * epochs))  # three steps an epoch
    fitted = rc.fit_policy(
        policy, rc.loops.PlantScenario(task, sampled, base), horizon=task.horizon, segment=task.horizon // 3, batch=batch,
        epochs=epochs, optimizer=optax.chain(optax.clip_by_global_norm(1.0), adam), monitor=None, key=jr.key(1),
    )  # fmt: skip
    seconds[name] = fitted.seconds
    samples[name] = 2 * epochs * batch * task.horizon  # half of them to choose the best epoch
    spent, best = (
        np.linspace(0, samples[name], epochs + 1),
        np.minimum.accumulate(fitted.history["validation"]),
    )
    curves[name] = list(zip(spent[1:], best, strict=True))
    return fitted.policy


network = rc.nn.LipschitzStatic(nu=1, ny=1, hidden=(64, 64), gamma=10.0, activation=jnp.tanh, key=jr.key(2))
static = by_gradient("static, by gradient", Deviations(network))

# %% [markdown]
# Then a policy with memory, on top of a base controller: a Kalman filter and an LQR. The weights of state and control are those of the
# task; the process noise of the filter is tuned on a grid. A Lipschitz R2DN reads the innovation of the filter. With an exact model and
# no disturbance, it cannot make the loop unstable.

# %%
linear = rc.classical.linear_model(sampled)
Q, R, V = [0.0, 1.0], [0.1], [0.1**2]
grid = [(w, i) for w in (0.1, 0.01, 0.03, 0.3) for i in (0.0, 1e-3, 1e-2)][: 1 if given.quick else None]


def lqg(inflow, integral):
    """Return an LQG for a variance of the upper level's noise in cm^2, and the weight of an integrator (0: none)."""
    if integral:
        return rc.classical.lqg(linear, [*Q, integral], R, [inflow, 1e-4], V, integral=True).controller
    return rc.classical.lqg(linear, Q, R, [inflow, 1e-4], V).controller


tested = {values: float(evaluate(lqg(*values)).mean()) for values in grid}
tuned = min(tested, key=tested.get)
controllers["LQG"] = lqg(*tuned)
print(
    f"LQG: {len(tested)} tested, cost {max(tested.values()):.4g} to {min(tested.values()):.4g}; best {tuned}"
)

base = rc.classical.linear_base(sampled, Q, R, [tuned[0], 1e-4], V)
q = rc.nn.LipschitzR2DN(
    nu=1, nx=6, nv=12, ny=1, hidden=(24,), gamma=5.0, activation=jnp.tanh, init=rc.nn.long_memory, key=jr.key(3)
)  # fmt: skip
q = rc.nn.quiet(rc.Rescaled(q, u_scale=(0.1,), y_scale=(1.0,)))
learned = by_gradient("Youla-R2DN, by gradient", q, base)
controllers |= {
    "static, by gradient": static.explicit(),
    "Youla-R2DN, by gradient": rc.loops.Youla(base, learned.explicit()),
}

# %% [markdown]
# ## Comparison in the environment
#
# All controllers get the same episodes, which none of them was trained on.

# %%
names = ("LQG", "PPO", "static, by gradient", "Youla-R2DN, by gradient")
played = {name: evaluate(controllers[name], seed=10_000) for name in names}
results = {
    name: {
        "cost": float(cost.mean()),
        "worst": float(cost.mean(axis=0).max()),
        "samples": samples.get(name, 0),
        "seconds": seconds.get(name, 0.0),
    }
    for name, cost in played.items()
}
print(f"{'':26}{'cost':>10}{'worst':>10}{'samples':>12}{'seconds':>10}")
for name, r in results.items():
    print(f"{name:26}{r['cost']:10.4g}{r['worst']:10.4g}{r['samples']:12,}{r['seconds']:10.1f}")

# %% [markdown]
# ## The guarantee of each
#
# PPO's network has no guarantee: its behavior in untested states is unknown. The gain of the static network is bounded, so a
# measurement error changes the control by at most gamma times the error. But the small-gain theorem proves the loop of plant and network
# stable only if the product of their gains is below one. The R2DN on top of the model has a guarantee in the loop.

# %%
for name, policy in (("PPO", controllers["PPO"]), ("static", static), ("Youla-R2DN", learned)):
    print(f"{name}: {rc.certify(policy)}\n")
gain, gamma = rc.classical.hinf_norm(linear.system), rc.certify(static).gamma
small = "below one: stable" if gain * gamma < 1 else "not below one: nothing is proven"
print(f"small gain: {gain:.3g} cm/V of the tanks near equilibrium times {gamma:.3g} V/cm is {small}")
print(rc.classical.youla_gain(sampled, base, rc.certify(learned).gamma))

# %% [markdown]
# ## Figure
#
# Left: the best cost of each training over the number of samples; a cross is the cost in the final comparison. Right: the mean over the
# episodes of that comparison, sample by sample; they start with a level error, and the inflow changes every 100 s.

# %%
figure, axes = panels(1, 2, (5.2, 3.6))
left, right = axes[0]
for color, (name, cost) in zip(CYCLE, played.items(), strict=False):
    style = {"color": color, "linewidth": 1.4, "label": name}
    if name in curves:
        left.plot(*np.transpose(curves[name]), marker="." if name == "PPO" else "", **style)
        left.plot(samples[name], cost.mean(), "x", color=color)
    else:
        left.axhline(cost.mean(), linestyle="--", **style)
    right.semilogy(sampled.dt * np.arange(len(cost)), cost.mean(axis=1), **style)
left.set_xscale("log")
left.set_yscale("log")
left.set_xlabel("samples of the plant", fontsize=SMALL)
left.set_ylabel("cost of a sample", fontsize=SMALL)
left.legend(frameon=False, fontsize=SMALL)
right.set_xlabel("time [s]", fontsize=SMALL)
right.set_ylabel("mean cost of a sample", fontsize=SMALL)
heading(figure, "Two tanks: reinforcement and gradients through the loop")
figure.savefig(out / "comparison.png")

# %% [markdown]
# ## Limits of this comparison
#
# A gradient is only as good as the model: PPO learns from the plant itself, the gradient from the equations. One seed of
# one environment is an example, not a study; tune the settings of `PPO` before you conclude anything about it. Tuning does not change
# the difference in kind: a guarantee that holds before and after training, or none.


# %%
rc.save(out / "tanks_policy.safetensors", learned)
(out / "comparison.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
print("certified again:", rc.certify(rc.load(out / "tanks_policy.safetensors"), prove=False).holds)
print(f"written: {', '.join(sorted(path.name for path in out.iterdir()))}")
