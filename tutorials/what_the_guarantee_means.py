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
# # What the guarantee means
#
# You want to use a learned model in a product, and you must state exactly what is guaranteed. This page answers with figures:
# trajectories that forget their initial state, gains found by a search below the proven gains, models without a guarantee that
# were trained on the same log and what disproves one, and finally what is *not* guaranteed, and what is proven of a loop instead.
#
# Run it as a script, `python tutorials/what_the_guarantee_means.py --out runs/guarantee`, or open it as a notebook (Jupyter
# with jupytext, or an editor with `# %%` cells). It takes minutes on two CPU cores; `--quick` only shows that it runs.

# %%
import argparse
import tempfile
from pathlib import Path

try:
    import robustctl as rc
except ModuleNotFoundError as missing:
    raise SystemExit(f"{missing}; install robustctl into this Python: pip install . in its folder") from None

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from robustctl.plot.canvas import BLUE, CYCLE, GREY, INK, SHADE, SMALL, heading, panels
from robustctl.problems import two_tanks

parser = argparse.ArgumentParser(description="What a certificate means, in pictures, and what it does not.")
parser.add_argument("--out", type=Path, help="folder for all that is written; default: a temporary one")
parser.add_argument("--quick", action="store_true", help="few epochs and short searches, to see that it runs")
given, _ = parser.parse_known_args()  # a notebook passes arguments of its own
out = given.out or Path(tempfile.mkdtemp(prefix="robustctl-"))
if out.exists() and not out.is_dir():
    parser.error(f"--out must be a folder, {out} is a file")
out.mkdir(parents=True, exist_ok=True)
epochs, seeds, search, gammas = (2, 1, 3, (5.0,)) if given.quick else (200, 3, 200, (5.0, 1.0, 2.0, 20.0))

# %% [markdown]
# ## One log and one training for all models
#
# The plant is two tanks; the input is the pump voltage, the output the level of the lower tank. Every model on this page is trained by
# the same function on the same log. A second log selects the best epoch, and a third log tests the model.

# %%
log, validation, test = two_tanks(2000, seed=0), two_tanks(400, seed=2), two_tanks(600, seed=1)
adam = optax.adam(optax.cosine_decay_schedule(1e-2, 3 * epochs))  # three steps an epoch
optimizer = optax.chain(optax.clip(10.0), adam)


def train(build, count=1, log=log, validation=validation):
    """Train `count` models from as many seeds, and return them."""
    problem = rc.train.Identification(
        rc.data.windows(log, 220, stride=50), validation=validation, scaling=rc.data.Scaling.fit(log),
        initial=rc.train.warm_up(20), batch_size=12,
    )  # fmt: skip
    fits = rc.train.train_seeds(
        problem, build, keys=jr.split(jr.key(0), count), epochs=epochs, optimizer=optimizer, monitor=None
    )
    return [fit.model for fit in fits]


def percent(model, record=test):
    """Return the fit in percent, in free run."""
    return float(rc.simulate(model, record).scores().fit_percent[0])


def certified(gamma):
    """Return what builds a Lipschitz R2DN that forgets at least 1.2 % a sample."""
    return lambda key: rc.nn.LipschitzR2DN(
        nu=1, nx=4, nv=8, ny=1, hidden=(16,), gamma=gamma, rate=0.988, init=rc.nn.long_memory, key=key
    )


trained = {"Lipschitz R2DN": train(certified(gammas[0]), seeds)}
model = trained["Lipschitz R2DN"][0]

# %% [markdown]
# ## It forgets its initial state
#
# The proof in the certificate contains a metric $P$ and a rate. For any two trajectories $x$ and $x'$ under one input:
#
# $$
# \lVert x_t - x'_t \rVert_P \le \mathrm{rate}^t \, \lVert x_0 - x'_0 \rVert_P
# $$
#
# This bound is the dashed line in the figure. It needs no simulation. Ten initial states are only ten examples. So a search looks for
# the pair of states and the input with which two trajectories approach each other most slowly: it cannot exceed the proven rate.

# %%
certificate = rc.certify(model)
print(certificate)
us = jnp.asarray(test.experiments[0].u[:240], model.dtype)
rc.plot.contraction(model, certificate, us, states=10, spread=2.0, key=jr.key(1)).savefig(out / "forgets.png")

inner = model.parameterization.explicit()  # on signals of standard deviation one
proof = certificate.rate_proof  # its metric proves the smallest rate that was found
P = jnp.asarray(proof.P, model.dtype)
slowest = rc.certificates.contraction_lower_bound(inner, 1, P, key=jr.key(2), steps=search)
print(f"rate proven {proof.value:.5g}, slowest found {slowest.value:.5g}, by chance {slowest.sampled:.5g}")
print("the search stayed below:", slowest.value <= proof.value)

# %% [markdown]
# ## Its gain is bounded
#
# If the difference of two inputs has the norm $\lVert\Delta u\rVert$, the difference of the outputs has at most the norm
# $\gamma \lVert\Delta u\rVert$. The model is built for one $\gamma$, the promise; `certify` searches the smallest one that it can
# prove of the trained matrices. Gradient ascent looks for the worst pair of inputs. The gain that it finds is a lower bound, the
# proven gain an upper bound, and the true gain lies between. All are in standard deviations of the log's signals. Tests with random
# inputs give far smaller values. The right panel shows the price: if the promised $\gamma$ is below the gain of the plant, the fit
# degrades.

# %%
models = {gammas[0]: model} | {gamma: train(certified(gamma))[0] for gamma in gammas[1:]}
rows = []
for asked, fitted in sorted(models.items()):
    part = fitted.parameterization.explicit()
    proven = rc.certify(part)
    found = rc.certificates.gain_lower_bound(part, 1, key=jr.key(3), horizon=200, steps=search)
    rows.append((asked, proven.gamma, found.value, found.sampled, percent(fitted)))
    print(f"gamma {asked:g} promised, {proven.holds}: ", end="")
    print("{1:.3g} proven, found {2:.3g}, by chance {3:.3g}, fit {4:.1f} %".format(*rows[-1]))

promised, bound, found, chance, fits = np.transpose(rows)
figure, ((left, right),) = panels(1, 2, (4.4, 3.2))
left.fill_between(
    promised, bound, 2 * promised.max(), color=BLUE, alpha=0.13, linewidth=0, label="proven impossible"
)
left.loglog(promised, promised, "--", color=INK, linewidth=1, label="promised")
left.loglog(promised, found, "o-", color=CYCLE[0], label="worst that a search found")
left.loglog(promised, chance, "s:", color=GREY, label="worst of random pairs")
left.set_ylabel("gain [1]", fontsize=SMALL)
left.legend(frameon=False, fontsize=SMALL, loc="upper left")
right.semilogx(promised, fits, "o-", color=CYCLE[2])
right.set_ylabel("fit on another log [%]", fontsize=SMALL)
for ax in (left, right):
    ax.set_xlabel("promised gamma [1]", fontsize=SMALL)
heading(figure, "The gain that is promised, proven and found, and what it costs")
figure.savefig(out / "gains.png")

# %% [markdown]
# ## Models without the guarantee
#
# Two common models, with the same training: a GRU, and a neural state-space model, a network that gives the change of the
# state. Nothing ensures that they forget their past.


# %%
class Increments(rc.System):
    """A common neural state-space model: x+ = x + f(x, u), y = C x, with a network f and no constraint."""

    f: eqx.nn.MLP
    C: jax.Array

    def init_state(self):
        """Return the zero state."""
        return jnp.zeros(self.C.shape[1])

    def step(self, x, u):
        """Return `(x_next, y)`."""
        return x + self.f(jnp.concatenate([x, u])), self.C @ x


class NeuralStateSpace(rc.Parameterization):
    """Its arrays are the free ones."""

    system: Increments

    def __init__(self, key):
        f_key, C_key = jr.split(key)
        f = eqx.nn.MLP(5, 4, 24, 1, key=f_key)
        slow = eqx.tree_at(lambda m: m.layers[-1].weight, f, replace_fn=lambda W: 0.1 * W)
        self.system = Increments(slow, 0.5 * jr.normal(C_key, (1, 4)))

    def explicit(self):
        """Return the model."""
        return self.system


trained["GRU"] = train(lambda key: rc.nn.GRU(nu=1, nx=8, ny=1, key=key), seeds)
trained["neural state-space"] = train(NeuralStateSpace, seeds)

# %% [markdown]
# The test: each model is driven by 32 past inputs, ten minutes of random pump voltages from the log's range. Then one voltage is held
# for half an hour. The tanks forget: their final level depends on the voltage alone. The final level of a model that does not
# forget depends on the past input too.

# %%
VOLTS = jnp.linspace(0.0, 8.0, 33)
low, high = log.experiments[0].u.min(), log.experiments[0].u.max()
inside = np.asarray((low <= VOLTS) & (high >= VOLTS))
pasts = jnp.repeat(jr.uniform(jr.key(4), (32, 10, 1), minval=low, maxval=high), 30, axis=1)


@eqx.filter_jit
def ends(system):
    """Return the level (past, volt) after each past and a voltage held for 1000 samples."""
    x = jax.vmap(lambda past: rc.rollout(system, past).x_final)(pasts)
    held = jnp.tile(VOLTS[:, None, None], (1, 1000, 1))
    return jax.vmap(lambda x: jax.vmap(lambda u: rc.rollout(system, u, x).ys[-1, 0])(held))(x)


figure, axes = panels(1, len(trained), (3.4, 3.2), sharey=True)
for ax, (name, group) in zip(axes[0], trained.items(), strict=True):
    for k, one in enumerate(group):
        levels = np.asarray(ends(one.explicit()), np.float64)
        apart = np.nan_to_num(np.ptp(levels, axis=0), nan=np.inf)
        print(
            f"{name}, seed {k}: fit {percent(one):.1f} %, certificate {rc.certify(one, prove=False).holds}; ",
            end="",
        )
        print(
            f"pasts end {apart[inside].max():.2g} V apart inside the log's range, {apart.max():.2g} V at worst"
        )
        ax.plot(
            VOLTS, np.clip(np.nan_to_num(levels, nan=20.0), -5, 20).T, ".", markersize=2.5, color=CYCLE[k]
        )
    ax.axvspan(low, high, color=SHADE, linewidth=0, zorder=0)
    ax.set_title(name, fontsize=SMALL + 1)
    ax.set_xlabel("voltage held [V]", fontsize=SMALL)
axes[0, 0].set_ylabel("level at the end [V]", fontsize=SMALL)
heading(figure, "Where 32 pasts end", "a color a seed; gray: voltages of the log; cut off at -5 and 20 V")
figure.savefig(out / "rests.png")

# %% [markdown]
# A single point for each voltage and seed means that the past was forgotten, for these pasts and voltages. For the R2DN this was known
# before, for all pasts, all inputs and all seeds. For the others it is an observation, and the fit does not show which seed to trust. A
# model that passed at one voltage may fail at the next.
#
# `counterexample` searches for such an input: constant inputs, several initial states, equilibria and their linearizations. What it
# returns can be replayed, and disproves contraction. Where it finds nothing, nothing is proven.

# %%
drawn = False
for name, group in trained.items():
    for k, one in enumerate(group):
        disproof = rc.certificates.counterexample(one)
        print(f"{name}, seed {k}: {disproof or 'no counterexample found'}")
        if disproof is not None and not drawn:
            drawn = True
            rc.plot.counterexample(one, disproof, samples=600).savefig(out / "counterexample.png")

# %% [markdown]
# ## What is not guaranteed
#
# **Accuracy.** An untrained model has the same certificate. Outside the log's range a model may forget perfectly and be wrong: the
# sensor of these tanks reads 0 to 10 V, whatever the curve in the figure shows.
#
# **The plant.** A tank without an outlet never forgets. A model of it that forgets is wrong, and certified. `advise` finds this in the
# log.

# %%
print("untrained, certified:", rc.certify(certified(gammas[0])(jr.key(5)), prove=False).holds)


def closed(record):
    """Return the record of a tank without an outlet under the same pump, and a drain that balances it in the mean."""
    u = record.experiments[0].u
    return rc.data.from_arrays(u, np.cumsum(u - u.mean(), axis=0), record.dt)


wrong = train(certified(gammas[0]), seeds, closed(log), closed(validation))[0]
print(
    f"closed tank, certified: {rc.certify(wrong, prove=False).holds}; fit where it was trained {percent(wrong, closed(log)):.1f} %"
)
print(str(rc.advice.advise(closed(log))).splitlines()[1])

# %% [markdown]
# **A loop around it.** Feedback of the level to the pump makes a different system, of which the model's certificate says nothing. By the
# small-gain theorem a gain $k$ keeps it stable if $k \gamma < 1$, which is little. `certify` of the loop looks inside the model and proves
# more, or reports what is wrong.

# %%
plant = rc.loops.ModelPlant(inner)


def proportional(k):
    """Return the loop of the model and u = -k y."""
    return rc.loops.feedback(plant, rc.loops.Gain(jnp.asarray([[-k]]), jnp.zeros(1), jnp.zeros(1)))


for k in (0.9 / gammas[0], 1.0, 30.0):
    closed_loop = rc.certify(proportional(k), gains=[("d", "y")])
    print(f"k = {k:.3g}: {closed_loop.gains or closed_loop.reason}")

# %% [markdown]
# **The plant is not the model.** Let the true output differ from the model's by an unknown, causal error whose gain is at most
# $\varepsilon$: the table shows the gain from a disturbance of the pump to the level that is proven for each $\varepsilon$, and the last
# line the largest $\varepsilon$ with which the loop is proven to be stable. The page *Certify a loop* shows how an
# $\varepsilon$ is found from a log.

# %%
print(rc.certificates.error_table(proportional(1.0), [0.0, 0.05, 0.1, 0.2, 0.3]))
print(f"largest error: {rc.certificates.largest_error(proportional(1.0)).gain:.3g}")

# %% [markdown]
# **Limits, rounding, other plants.** A certificate does not cover the limits of an actuator, the float32 rounding of a running
# simulation, or a plant that ages. Keep your interlocks.
#
# ## Save the model


# %%
rc.save(out / "tanks.safetensors", model, certificate=certificate)
print("certified again:", rc.certify(rc.load(out / "tanks.safetensors"), prove=False).holds)
print(f"written: {', '.join(sorted(path.name for path in out.iterdir()))}")
