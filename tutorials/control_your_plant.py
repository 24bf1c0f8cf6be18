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
# # Control your plant
#
# From the equations of your plant to a learned policy with a certificate, to one page that compares it with a classical design, and to
# one page of evidence. The plant is a stirred tank with an exothermic reaction. It is open-loop unstable at the wanted temperature: if it
# is slightly too warm, it runs away. A sensor with noise measures the temperature, a computer sets the temperature of the coolant every
# two seconds, and the coolant has limits. Replace the plant by yours.
#
# Run it as a script, `python tutorials/control_your_plant.py --out runs/reactor`, or open it as a notebook (Jupyter with
# jupytext, or an editor with `# %%` cells). It takes minutes on two CPU cores; `--quick` trains for two epochs only.

# %%
import argparse
import shutil
import socket
import subprocess
import sys
import tempfile
import time
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

from robustctl.cli import main
from robustctl.plants import Imperfections, Plant, Sampled, Signal, Task, parameter
from robustctl.problems.unstable import costs

parser = argparse.ArgumentParser(description="From your plant to a certified policy, compared with an LQG.")
parser.add_argument("--out", type=Path, help="folder for all that is written; default: a temporary one")
parser.add_argument("--quick", action="store_true", help="two epochs and short episodes, to see that it runs")
given, _ = parser.parse_known_args()  # a notebook passes arguments of its own
out = given.out or Path(tempfile.mkdtemp(prefix="robustctl-"))
if out.exists() and not out.is_dir():
    parser.error(f"--out must be a folder, {out} is a file")
out.mkdir(parents=True, exist_ok=True)
epochs, horizon, batch, search = (2, 60, 8, 0) if given.quick else (200, 200, 64, 40)

# %% [markdown]
# ## The plant
#
# Write what you would pass to `ode45`: `rates` is $\dot x$, with time in seconds and every signal in its own unit. Uncertain numbers
# are `parameter`s: they can be drawn anew in each episode. The operating point is not zero, so the plant defines it in
# `operating_point`: the wanted temperature, and the coolant temperature that holds it.
#
# With the concentration $c$ of the reactant, the temperatures $T$ of the tank and $J$ of its jacket, the coolant temperature $u$ and
# the deviation $d$ of the feed temperature:
#
# $$
# \begin{aligned}
# \dot c &= q\,(c_{\mathrm{in}} - c) - r, \qquad r = k_0\, e^{-E/T}\, c \\
# \dot T &= q\,(T_{\mathrm{in}} + d - T) + h\, r - k\,(T - J) \\
# \dot J &= (u - J) / \mathrm{lag}
# \end{aligned}
# $$


# %%
@rc.registered(sizes=lambda plant: {})  # so that a file can hold a controller with this plant's model in it
class Reactor(Plant):
    """A stirred tank with an exothermic reaction A -> B, cooled through a jacket.

    Numbers: the reactor of Seborg, Edgar, Mellichamp, "Process Dynamics and Control", with time in seconds; jacket,
    limits and set point as here.
    """

    states = (Signal("concentration", "mol/L"), Signal("temperature", "K"), Signal("jacket", "K"))
    controls = (Signal("coolant", "K", 280.0, 320.0),)
    disturbances = (Signal("feed temperature", "K"),)
    outputs = (Signal("temperature", "K"),)

    flow: jax.Array = parameter(1 / 60, "1/s", "feed over volume")
    fed: jax.Array = parameter(1.0, "mol/L", "concentration of the feed")
    feed: jax.Array = parameter(350.0, "K", "temperature of the feed")
    speed: jax.Array = parameter(1.2e9, "1/s", "k0 of the reaction")
    activation: jax.Array = parameter(8750.0, "K", "E of the reaction over the gas constant")
    heat: jax.Array = parameter(209.2, "K L/mol", "of the reaction over the heat capacity")
    cooling: jax.Array = parameter(0.03487, "1/s", "of the jacket over the heat capacity")
    lag: jax.Array = parameter(10.0, "s", "of the jacket")
    wanted: jax.Array = parameter(350.0, "K", "set point")

    def rates(self, x, u, d):
        """Return dx/dt."""
        c, T, jacket = x
        reaction = self.speed * jnp.exp(-self.activation / T) * c
        warming = self.flow * (self.feed + d[0] - T) + self.heat * reaction
        cooled = warming - self.cooling * (T - jacket)
        return jnp.stack([self.flow * (self.fed - c) - reaction, cooled, (u[0] - jacket) / self.lag])

    def operating_point(self):
        """Return the equilibrium at the wanted temperature."""
        pace = self.speed * jnp.exp(-self.activation / self.wanted)
        c = self.flow * self.fed / (self.flow + pace)
        warming = self.flow * (self.feed - self.wanted) + self.heat * pace * c
        jacket = self.wanted - warming / self.cooling
        return jnp.stack([c, self.wanted, jacket]), jacket[None]


plant = Reactor()
sampled = Sampled(plant, 2.0, Imperfections(saturate=True, noise=0.2))  # a sample is 2 s, the noise 0.2 K
print("equilibrium at", *plant.operating_point(), "with the poles", rc.loops.plant_poles(sampled))

# %% [markdown]
# One pole is outside the unit circle, so the reactor always needs a controller.
#
# ## The task
#
# The feed comes from several stores, and its temperature jumps when they are switched. The switches are not measured. The cost of a
# sample is one at a temperature error of half a kelvin, plus a small cost of the coolant's deviation.


# %%
class HoldTemperature(Task):
    """Hold the temperature while the feed is switched between stores, every 80 s on average."""

    def initial_state(self, key):
        """Start up to 1 K off."""
        x, _ = self.plant.operating_point()
        return x + jnp.stack([jnp.zeros(()), jr.uniform(key, (), minval=-1.0, maxval=1.0), jnp.zeros(())])

    def disturbance(self, key, samples):
        """Draw a feed temperature up to 6 K off, a new one at each switch."""
        level_key, switch_key = jr.split(key)
        levels = jr.uniform(level_key, (samples, 1), minval=-6.0, maxval=6.0)
        return levels[jnp.cumsum(jr.bernoulli(switch_key, 1 / 40, (samples,))) - 1]

    def cost(self, x, u, r):
        """Return the cost of one sample."""
        x_e, u_e = self.plant.operating_point()
        return ((x[1] - x_e[1]) / 0.5) ** 2 + 0.05 * ((u[0] - u_e[0]) / 5.0) ** 2


task = HoldTemperature(plant)

# %% [markdown]
# ## The classical design
#
# The classical design is an LQG with an integrator on the temperature. Its weights on state and control are those of the task. Three
# parameters remain to tune: the weight of the integrator, and the variances of the process noise of the Kalman filter in the
# concentration and the temperature. For a fair comparison the LQG is tuned, too: we evaluate a grid on random episodes and keep the
# best.

# %%
scenario = rc.loops.PlantScenario(task, sampled)
trial = scenario.draw_batch(jr.key(1), batch, horizon)
linear = rc.classical.linear_model(sampled)  # once, for all designs
Q, R, V = [0.0, 1 / 0.5**2, 0.0], [0.05 / 5.0**2], [0.2**2]


def lqg(integral, mixing, warming):
    """Return an LQG for the weight of its integrator, and variances of the process noise in mol/L and K."""
    return rc.classical.lqg(linear, [*Q, integral], R, [mixing, warming, 1e-4], V, integral=True).controller


steps = (1e-3,) if given.quick else (1e-4, 1e-3, 1e-2, 1e-1)
grid = [(i, m, w) for i in steps for m in (1e-6, 1e-5, 1e-4, 1e-3) for w in (*steps, 0.3)]
tested = {values: float(costs(scenario, lqg(*values), trial).mean()) for values in grid}
tuned = min(tested, key=tested.get)
print(
    f"LQG: {len(tested)} tested, costs {min(tested.values()):.4g} to {max(tested.values()):.4g}; best {tuned}"
)

# %% [markdown]
# ## The policy
#
# The base controller is a Kalman filter and an LQR for the linearized plant, without the integrator. A learned system $q$ reads the
# innovation of the Kalman filter and adds to the coolant temperature (Youla's form). With an exact model and no
# disturbance, $q$ cannot make the loop unstable, whatever it learns.
#
# $q$ is a Lipschitz R2DN: a change of 1 K of the innovation changes the coolant by at most 120 K, in norm. Its output is small at first.

# %%
base = rc.classical.linear_base(sampled, Q, R, [*tuned[1:], 1e-4], V)
learning = rc.loops.PlantScenario(task, sampled, base, spread={"cooling": 0.03})

q = learning.q(gamma=30.0, u_scale=(0.5,), y_scale=(2.0,), activation=jnp.tanh, key=jr.key(2))
shutil.rmtree(out / "training", ignore_errors=True)  # of an earlier run
adam = optax.adam(optax.cosine_decay_schedule(1e-2, 4 * epochs))  # four steps an epoch
fitted = rc.fit_policy(
    q, learning, horizon=horizon, segment=horizon // 4, batch=batch, epochs=epochs,
    optimizer=optax.chain(optax.clip_by_global_norm(1.0), adam), run=out / "training", monitor=None, key=jr.key(3),
)  # fmt: skip
cost = fitted.history["validation"]
print(f"cost of a sample: {cost[0]:.4g} after an epoch, {min(cost):.4g} at best, in {fitted.seconds:.0f} s")

# %% [markdown]
# ## What is proven
#
# The certificate is about $q$, in the units of its signals. The last lines of the report below state in words what follows for the
# loop: the reactor is not linear and its coolant saturates, so the gain of the loop is local.

# %%
print(rc.certify(fitted.policy))

# %% [markdown]
# ## What is measured
#
# The report compares the loops on episodes that neither the grid nor the training used. Compare the cost first, and then the
# robustness: the disk margin bounds simultaneous errors of gain and phase, and a search looks for the worst disturbance. A policy
# that was trained on switches may be worse than the LQG under other disturbances; the figure of its worst disturbance shows which.

# %%
loops = {"LQG, tuned": scenario.loop(lqg(*tuned)), "Youla-R2DN": learning.loop(fitted.policy.explicit())}
policies = {name: loop.policy for name, loop in loops.items()}
report = rc.robustness.report(
    loops, task=task, horizon=horizon, count=4 if given.quick else 64, search=search, seed=4, title="Reactor"
)
print(report)

before, after = (report.loops[name] for name in policies)
print(f"cost {100 - 100 * after.episodes.cost / before.episodes.cost:.1f} % below that of the LQG")

# %% [markdown]
# ## A plant that differs from the model
#
# Fouling of the walls reduces the heat transfer. The controllers keep the model that they were designed with.

# %%
for share in (1.0, 0.97, 0.94):
    fouled = Sampled(Reactor(cooling=share * plant.cooling), sampled.dt, sampled.imperfections)
    there = rc.loops.PlantScenario(task, fouled)
    episodes = there.draw_batch(jr.key(5), batch, horizon)
    found = {name: float(costs(there, policy, episodes).mean()) for name, policy in policies.items()}
    print(f"cooling at {share:.0%}:", ", ".join(f"{name} {value:.4g}" for name, value in found.items()))

# %% [markdown]
# ## Save it and run it
#
# The report is one page with the table and all figures; the policy is one file, which is checked when it is loaded. On the plant, call
# `step` once per sample.


# %%
for path in report.save(out / "report"):
    print(path)
rc.save(out / "reactor_policy.safetensors", fitted.policy)

loaded = rc.load(out / "reactor_policy.safetensors")
print("certified again:", rc.certify(loaded, prove=False).holds)
controller = learning.loop(loaded.explicit()).policy
step = jax.jit(lambda state, reading: controller.step(state, reading))
state = controller.init_state()
for reading in (350.1, 350.6, 351.3):
    state, coolant = step(state, jnp.asarray([reading]))
    print(f"{reading} K read, coolant to {float(sampled.within_limits(coolant)[0]):.2f} K")

# %% [markdown]
# ## A guard
#
# The certificate covers what was modeled. A sensor that hangs, a reading that comes too late or a number that is not finite was not. A
# guard runs a fallback in parallel, here the base controller without $q$, and applies its output in the same sample: after three equal
# readings in a row, which noise rules out otherwise, outside of 330 K to 370 K, and for NaN, which stands for a late reading.
#
# How often does it interfere while all is well? We count, in 10,000 episodes with feed temperatures that switch between -6 K and +6 K at
# their own pace each, from every sample to never. We also count the episodes in which the temperature is more than 10 K off.

# %%
fallback = rc.loops.Youla(base, rc.loops.zero_gain(nu=1, ny=1))
x_e, u_e = plant.operating_point()
guarded = rc.loops.Guarded(
    controller, rc.loops.Limits([280.0], [320.0]), fallback, y_low=[330.0], y_high=[370.0], stale_after=2,
    y0=x_e[1:2], u0=u_e, plant=sampled,
)  # fmt: skip
band = rc.loops.StateLimits([[0.0, 1.0, 0.0], [0.0, -1.0, 0.0]], [x_e[1] + 10.0, 10.0 - x_e[1]])
loop = rc.loops.feedback(sampled, guarded)
counted = rc.loops.guard_coverage(loop, [6.0], episodes=100 if given.quick else 10_000, limits=band)
print(counted)
counted.save(out / "guard.json")
rc.save(out / "guarded_loop.safetensors", loop)

hung = rc.rollout(guarded, jnp.full((4, 1), 350.2))
late = rc.rollout(guarded, jnp.array([[350.2], [350.1], [jnp.nan], [350.3]]))
for name, run in (("a sensor that hangs", hung), ("a late reading", late)):
    print(f"{name}: passed, changed and fallback samples {run.x_final.counts}")

# %% [markdown]
# ## Compile it, and run it in another process
#
# Python is not needed on the plant. The whole controller, Kalman filter, gain and $q$, becomes C99 in one folder, with a record of how
# far the compiled step is from the one above, its arithmetic, memory and time. `rc.export.check` makes all of it again from the files
# alone. Of a stable model the record has a proof, too; this controller need not be stable alone, only in its loop.

# %%
shutil.rmtree(out / "controller", ignore_errors=True)  # of an earlier run
folder = rc.export.package(controller, out / "controller", name="reactor", dtype="float32")
print("written:", *sorted(path.name for path in folder.iterdir()))
print(rc.export.check(folder))

# %% [markdown]
# Here a process of its own stands for the target: a loop of a few lines that receives one reading by UDP, calls `reactor_step` and
# sends the coolant temperature back. The plant is simulated on this side. Such a loop runs on every system with sockets; on a
# microcontroller the two calls are those of its converters.

# %%
LOOP = """
#include <arpa/inet.h>
#include <stdlib.h>
#include <sys/socket.h>
#include "reactor.c"

int main(int argc, char **argv)
{
    int link = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in here = {0}, other;
    reactor_state state;
    reactor_inputs inputs;
    reactor_outputs outputs;

    here.sin_family = AF_INET;
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    here.sin_port = htons((unsigned short)atoi(argv[argc - 1]));
    if (link < 0 || bind(link, (struct sockaddr *)&here, sizeof here) != 0) {
        return 1;
    }
    reactor_init(&state);
    for (;;) {
        socklen_t size = sizeof other;
        recvfrom(link, &inputs, sizeof inputs, 0, (struct sockaddr *)&other, &size);
        reactor_step(&state, &inputs, &outputs);
        sendto(link, &outputs, sizeof outputs, 0, (struct sockaddr *)&other, size);
    }
}
"""


def compiled():
    """Compile the loop; None without a C compiler or sockets of Unix."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform == "win32":
        return None
    (out / "loop.c").write_text(LOOP)
    flags = ["-std=gnu99", "-O2", "-ffp-contract=off", "-I", str(folder)]
    subprocess.run([compiler, *flags, str(out / "loop.c"), "-o", str(out / "loop"), "-lm"], check=True)
    return out / "loop"


def over_udp(program, samples):
    """Return the readings, the coolant temperatures that came back, and the seconds of each exchange."""
    w, x = sampled.undisturbed(), sampled.init_state()
    output, advance = eqx.filter_jit(sampled.output), eqx.filter_jit(sampled.advance)
    x = eqx.tree_at(lambda x: x.x, x, x.x + jnp.array([0.0, 1.0, 0.0]))  # 1 K too warm
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        address = free.getsockname()
    target, found = subprocess.Popen([program, str(address[1])]), []
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
            link.settimeout(10)
            time.sleep(0.5)  # until the process listens
            for _ in range(samples):
                reading = np.asarray(output(x, w), np.float32)
                begin = time.perf_counter()
                link.sendto(reading.tobytes(), address)
                coolant = np.frombuffer(link.recv(64), np.float32)
                found.append((reading, coolant, time.perf_counter() - begin))
                x = advance(x, jnp.asarray(coolant), w)
    finally:
        target.kill()
    return [np.array(part) for part in zip(*found, strict=True)]


program = compiled()
if program is None:
    print("no C compiler here, or no sockets of Unix: the loop is not run")
else:
    readings, coolants, seconds = over_udp(program, 60 if given.quick else 300)
    state, expected = controller.init_state(), []
    for reading in readings:
        state, coolant = step(state, jnp.asarray(reading))
        expected.append(np.asarray(coolant))
    print(f"temperature from {readings[0, 0]:.2f} K to {readings[-1, 0]:.2f} K")
    print(f"largest difference to the controller in JAX {np.abs(np.array(expected) - coolants).max():.1g} K")
    print(f"median time of an exchange {1e6 * np.median(seconds):.0f} us")

# %% [markdown]
# ## One page of evidence
#
# `robustctl evidence FOLDER` checks again what a folder holds, certificates, the exported code, the first episodes of the guard's, and
# writes one page with a line for each: whether it holds, the files with their hashes, and the command that repeats it. A file that is
# changed afterwards turns its line red. The page lists what is assumed, too. It names clauses of the practice for run-time assurance, ASTM
# F3269, that a line can support, and claims no conformity.
#
# The command is called here, because this process knows the class `Reactor`. For a plant in your own module,
# `robustctl evidence runs/reactor --module my_plant` does the same in a terminal.

# %%
status = main(["evidence", str(out)])
print("exit status", status)
