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
# # From a log to a certified loop
#
# You have a log, and you want a learned controller that is proven to be stable although the model is a little wrong. The steps are:
# a linear model of the log; the error of this model over frequency, from a second log; the largest gain of a learned policy that this
# error allows; a policy of that gain, trained on the model; a certificate of the loop for all errors of that size. At each step the page
# states what is statistics and what is proof.
#
# Run it as a script, `python tutorials/certify_from_data.py --out runs/certify`, or open it as a notebook (Jupyter with jupytext, or an
# editor with `# %%` cells). It takes a minute or two on two CPU cores; `--quick` trains for a few epochs only.

# %%
import argparse
import tempfile
from pathlib import Path

try:
    import robustctl as rc
except ModuleNotFoundError as missing:
    raise SystemExit(f"{missing}; install robustctl into this Python: pip install . in its folder") from None

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from robustctl.plants.exogenous import Exogenous
from robustctl.scenario import Episode, Scenario

parser = argparse.ArgumentParser(
    description="From a log to a loop that is certified with the error of its model."
)
parser.add_argument("--out", type=Path, help="folder for all that is written; default: a temporary one")
parser.add_argument("--quick", action="store_true", help="few epochs, to check that it runs")
given, _ = parser.parse_known_args()  # a notebook passes arguments of its own
out = given.out or Path(tempfile.mkdtemp(prefix="robustctl-"))
if out.exists() and not out.is_dir():
    parser.error(f"--out must be a folder, {out} is a file")
out.mkdir(parents=True, exist_ok=True)
epochs = 5 if given.quick else 150

# %% [markdown]
# ## The plant, which only logs show
#
# Two tanks in cascade: a pump fills the upper one, the level of the lower one is measured. The flows go with the square root of the
# levels, so no linear model is exact. The voltage is a random level every 16 s, which also excites fast dynamics: what an input does not
# excite, no log can show.

# %%
DT, POINT = 2.0, 3.0  # seconds, volts


def flows(h, u, inflow=0.0):
    """Return the rates of the levels."""
    upper, lower = np.sqrt(h)
    return np.array([-0.055 * upper + 0.04 * u, 0.055 * upper - 0.05 * lower + inflow])


def advance(h, u, inflow=0.0):
    """Return the levels after one sample."""
    for _ in range(10):
        h = np.maximum(h + DT / 10 * flows(h, u, inflow), 0.0)
    return h


SETTLED = np.array([(0.04 * POINT / 0.055) ** 2, (0.04 * POINT / 0.05) ** 2])


def logged(samples, seed):
    """Return a log around the operating point, with sensor noise."""
    rng, h, y = np.random.default_rng(seed), SETTLED, []
    u = POINT + rc.data.steps(samples, low=-0.5, high=0.5, hold=8, seed=seed)[:, 0]
    for voltage in u:
        y.append(h[1])
        h = advance(h, voltage)
    y = np.array(y) + 0.02 * rng.normal(size=samples)
    return rc.data.from_arrays(
        u, y, DT, inputs=["pump"], outputs=["level"], input_units=["V"], output_units=["V"]
    )


# %% [markdown]
# ## A linear model
#
# The subspace method chooses order and delay itself. Free run on a fresh log:

# %%
fit = rc.identify.subspace(logged(2000, seed=0))
fresh = logged(4000, seed=1)
print(fit)
print(f"fit on a fresh log {rc.simulate(fit.model, fresh).scores().fit_percent[0]:.1f} %")

# %% [markdown]
# ## Its error over frequency
#
# The second log shows how wrong the model is: the gain from the pump to what the model leaves unexplained, with an upper bound that holds
# with 95 % confidence at all seen frequencies together, and a stable filter $W$ above it. This is statistics. It is about inputs like
# those of the log, and about the band in which the log has power; the text names the rest.

# %%
error = rc.identify.model_error(fit.model, fresh)
print(error)
rc.plot.model_error(error).savefig(out / "model_error.png")

# %% [markdown]
# ## The largest gain that this error allows
#
# The policy is Youla's $q$ with the model in parallel: it reads the innovation, what the plant does and the model does not expect, and
# adds to a constant pump voltage. If the model were exact, every stable $q$ would leave the loop stable. With an error within $W$ the gain
# of $q$ has a limit. From here on all is proof: it holds for every error within $W$, linear or not.

# %%
plant = rc.loops.ModelPlant(fit.model.explicit(), u0=[POINT])
base = rc.loops.ParallelModel(plant, [POINT])
unknown = rc.certificates.ModelError(gain=1.0, at="output", weight=error.W)
allowed = rc.certificates.allowed_gamma(plant, base, unknown)
print(f"the largest gain of q that is proven: {allowed.gamma:.3g} V per V {allowed.reason}")

# %% [markdown]
# ## A policy of that gain
#
# A Lipschitz R2DN has the gain that it is given, whatever the training does. It is trained on the model with steps of a disturbance at
# the output, and pays for the squared deviation of the level and a little for the voltage. The gain is 5 % below the limit.


# %%
class HoldTheLevel(Scenario):
    """Steps of a disturbance at the output of the model, to be compensated."""

    plant: rc.loops.ModelPlant
    base: rc.loops.ParallelModel
    level: float

    def draw(self, key, samples):
        """Draw levels of 40 samples for the disturbance."""
        levels = jnp.repeat(jr.uniform(key, (samples // 40 + 1, 1), minval=-1.0), 40, axis=0)[:samples]
        nothing = jnp.zeros((samples, 0))
        return Episode((), (), Exogenous(nothing, nothing, levels, jnp.zeros(samples)))

    def loop(self, policy, plant=None):
        """Close the loop about the model."""
        return rc.loops.feedback(self.plant, rc.loops.Youla(self.base, policy))

    def initial(self, loop, x0):
        """Start at the operating point."""
        return loop.init_state()

    def cost(self, output, w):
        """Return the squared deviations of level and voltage."""
        return jnp.sum((output.y - self.level) ** 2) + 0.02 * jnp.sum((output.u - POINT) ** 2)

    def disturbance(self, w):
        """Return the disturbance."""
        return w.noise

    def disturbed(self, w, d):
        """Return the episode with a larger disturbance."""
        return w._replace(noise=w.noise + d)


level = float(fit.model.scaling.y_mean[0])
q = rc.nn.LipschitzR2DN(
    nu=1, nx=4, nv=8, ny=1, hidden=(16,), gamma=0.95 * allowed.gamma, init=rc.nn.long_memory, key=jr.key(0)
)
scenario = HoldTheLevel(plant, base, level)
adam = optax.chain(optax.clip(10.0), optax.adam(optax.cosine_decay_schedule(1e-2, epochs)))
trained = rc.fit_policy(
    q.quiet(), scenario, horizon=160, batch=8, epochs=epochs, optimizer=adam, monitor=None, key=jr.key(1)
)
policy = trained.policy.explicit()

# %% [markdown]
# ## The certificate of the loop
#
# Two proofs together are the certificate of the loop, by the incremental small-gain theorem. The first is the one above: no error within
# $W$ lets the innovation depend on $q$ with a gain of more than the inverse of the allowed one. The second is the certificate of the
# trained policy, whose proven gain is smaller. Assumed is one thing: that the plant differs from the model by no more than $W$.

# %%
certificate = rc.certify(policy)
print(certificate)
gain = certificate.gamma or float("inf")  # None where none is proven
stable = certificate.holds and gain < allowed.gamma
print(f"gain of q: {gain:.3g} proven, {allowed.gamma:.3g} allowed V per V")
print(f"the loop is stable for every error within {allowed.gamma / gain:.3g} W: {stable}")

# %% [markdown]
# ## The plant itself
#
# The controller on the simulated tanks, with an inflow into the lower tank that the model knows nothing of, from sample 50 on.


# %%
@jax.jit
def control(state, y):
    """Return the controller's next state and the voltage."""
    return controller.step(state, y)


def held(controller, samples=400):
    """Return the level of the lower tank under a controller."""
    state, h, levels = controller.init_state(), SETTLED, []
    for t in range(samples):
        state, u = control(state, jnp.asarray(h[1:], jnp.float32))
        h = advance(h, float(u[0]), 0.01 * (t >= 50))
        levels.append(h[1])
    return np.array(levels)


controller = rc.loops.Youla(base, policy)
with_policy = held(controller)
constant = SETTLED
for t in range(400):
    constant = advance(constant, POINT, 0.01 * (t >= 50))
print(
    f"deviation after 800 s: {with_policy[-1] - level:+.2f} V with the policy, {constant[1] - level:+.2f} V at a constant voltage"
)
print(f"certified: {stable}")
