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
# # F-16 identification
#
# A shaker excites the right wing of an F-16 on the ground. The log has force and voltage of the shaker and three accelerations: at the
# shaker, and on both sides of the bolted joint between the wing tip and its payload. That joint opens and rubs, so the
# resonances shift with the amplitude. We want a model that simulates the accelerations at amplitudes that it was not trained on.
#
# The records are those of the published benchmark (DOI 10.4121/12954911). `--data FOLDER` names the unpacked archive; without it,
# the archive is downloaded once into the user's cache (148 MB, `pip install "robustctl[benchmarks]"`).
#
# Run it as a script, `python tutorials/identify_f16.py --out runs/f16`, or open it as a notebook (Jupyter with jupytext, or an
# editor with `# %%` cells). It trains for a few minutes on two CPU cores, at less than the published size. `--quick` runs a
# few epochs, whose scores have no meaning, and without `--data` on **a simulated stand-in** for the aircraft.

# %%
import argparse
import tempfile
from pathlib import Path

import jax
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
import optax

import robustctl as rc
from robustctl.errors import RobustctlError
from robustctl.identify.modal import modal_prior
from robustctl.problems import f16, f16_download

parser = argparse.ArgumentParser(description="From ground-vibration records to a certified model.")
parser.add_argument("--out", type=Path, help="folder for all that is written; default: a temporary one")
parser.add_argument("--data", type=Path, help="folder that the benchmark's archive was unpacked in")
parser.add_argument(
    "--quick", action="store_true", help="few epochs, on simulated records where --data names none"
)
given, _ = parser.parse_known_args()  # a notebook passes arguments of its own
out = given.out or Path(tempfile.mkdtemp(prefix="robustctl-"))
out.mkdir(parents=True, exist_ok=True)
simulated = given.quick and given.data is None
period = 1024 if simulated else 8192  # samples, of the excitation

# %% [markdown]
# ## The records
#
# There are seven records, each with several periods of the same excitation, at seven amplitudes: the levels. Levels 1, 3, 5 and 7 are
# for training, Levels 2, 4 and 6 for the test. The stand-in has the same channels: three masses in a row, the last one on a mount with
# hardening stiffness and friction.


# %%
def stand_in(periods: int = 3) -> dict[int, rc.data.Record]:
    """Simulate seven levels of the small structure by Runge-Kutta's method, all at once."""
    levels, rng = np.arange(1, 8)[:, None], np.random.default_rng(0)
    force = 5.0 * levels * np.tile(rc.data.multisine(period, highest=0.1, seed=0)[:, 0], periods)
    stiffness, damping = np.array([4000.0, 3000.0, 2000.0]), np.array([4.0, 3.0, 2.0])

    def accelerations(x, f):
        stretch, speed = (np.diff(part, axis=1, prepend=0.0) for part in (x[:, :3], x[:, 3:]))
        pull = stiffness * stretch + damping * speed
        pull[:, 2] += 2e6 * stretch[:, 2] ** 3 + 1.0 * np.tanh(speed[:, 2] / 0.05)
        return np.diff(pull, axis=1, append=0.0) + f[:, None] * np.array([1.0, 0.0, 0.0])  # each mass 1 kg

    def rates(x, f):
        return np.hstack([x[:, 3:], accelerations(x, f)])

    x, y, h = np.zeros((7, 6)), np.empty((7, force.shape[1], 3)), 1 / f16.RATE
    for t, f in enumerate(force.T):
        y[:, t] = accelerations(x, f)
        k1 = rates(x, f)
        k2 = rates(x + h / 2 * k1, f)
        k3 = rates(x + h / 2 * k2, f)
        x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + rates(x + h * k3, f))
    y += 0.01 * y[3].std() * rng.normal(size=y.shape)
    channels = {"inputs": list(f16.INPUTS), "outputs": list(f16.OUTPUTS)}
    channels |= {"input_units": ["N", "V"], "output_units": ["m/s^2"] * 3}
    us = np.stack([force, force / 100], axis=2)
    return {k + 1: rc.data.from_arrays(us[k], y[k], h, **channels) for k in range(7)}


if simulated:
    print("SIMULATED STAND-IN, not the aircraft: give --data for the measured records")
    records = stand_in()
else:
    try:
        records = f16.load(given.data or f16_download.download())
    except RobustctlError as error:
        raise SystemExit(
            f"{error}\n--data FOLDER names the unpacked archive; --quick uses a simulated stand-in"
        ) from None

print(records[1])
for level, record in records.items():
    u, y = record.experiments[0].u, record.experiments[0].y
    use = "training" if level in f16.TRAIN else "test"
    print(f"level {level}, {use}: force {u[:, 0].std():.3g} N, acceleration {y[:, 1].std():.3g} m/s^2 rms")

# %% [markdown]
# ## Frequency responses
#
# The excitation is periodic, so the mean over periods is less noisy, and the difference between periods is noise. The figure shows
# acceleration over force at each frequency: for a linear structure, the curves of all levels would coincide.


# %%
def lines(signal: np.ndarray, first: int = 1) -> np.ndarray:
    """Return the amplitude of each frequency (period / 2 + 1, ...), the mean over the periods from `first` on."""
    periods = signal.reshape(-1, period, *signal.shape[1:])[first:]
    return 2 / period * np.fft.rfft(periods.mean(axis=0), axis=0)


frequency = np.fft.rfftfreq(period, 1 / f16.RATE)
forces = {level: lines(record.experiments[0].u[:, 0]) for level, record in records.items()}
excited = np.abs(forces[7]) > 0.1 * np.abs(forces[7]).max()

figure, ax = plt.subplots(figsize=(7.5, 3.6), layout="constrained")
for level in (1, 4, 7):
    ratio = lines(records[level].experiments[0].y[:, 1])[excited] / forces[level][excited]
    ax.semilogy(frequency[excited], np.abs(ratio), linewidth=0.9, label=f"level {level}")
ax.set(xlabel="frequency [Hz]", ylabel=f"{f16.OUTPUTS[1]} / force [1/kg]")
ax.set_title("the resonances shift with the amplitude" + " (simulated stand-in)" * simulated, loc="left")
ax.legend(frameon=False)
figure.savefig(out / "record.png", dpi=120)

# %% [markdown]
# ## The line
#
# First a linear model of the mean period of each training level, by a subspace method: what any network must beat.

# %%
levels = f16.training(records)
train = rc.data.average_periods(levels, period)
linear = rc.identify.subspace(train, delay=0)
print(f"subspace model: {linear.order} states")

# %% [markdown]
# ## Fit
#
# A contracting R2DN corrects a linear model that is made for vibrations: damped oscillations, fitted to the spectra of the mean
# periods. They remain fixed, and the R2DN begins with oscillations in the same band, at first without effect. One certificate
# holds for both. In this way the network does not have to find resonances of low damping.
#
# Each `segment` of samples gives one gradient step, with the state carried along; the first samples, with the transient from the zero
# state, do not count.

# %%
band, modes = ((2.0, 20.0), 3) if simulated else ((2.0, 180.0), 12)  # Hz, of the resonances
segment, washout = (128, 128) if given.quick else (256, 512)
epochs, size = (3, 8) if given.quick else (150, 40)
scaling = rc.data.Scaling.fit(levels)
oscillations = modal_prior(scaling.apply(train), modes, band)
core = rc.nn.ContractingR2DN(
    nu=train.nu + len(oscillations["A"]), nx=size, nv=size, ny=train.ny, hidden=(size, size),
    init=rc.nn.resonances(*band, dt=train.dt), key=jr.key(0),
)  # fmt: skip
problem = rc.train.Identification(train, scaling=scaling, washout=washout, segment=segment)
r2dn = rc.train.train(
    problem,
    rc.nn.CorrectedR2DN(**oscillations, core=rc.nn.quiet(core)),
    optimizer=rc.train.clipped_adam(optax.cosine_decay_schedule(3e-3, epochs * period // segment)),
    epochs=epochs,
    key=jr.key(1),
)
print(r2dn)
models = {"subspace": linear.model, "R2DN": r2dn.model}

if jax.default_backend() == "cpu" and not given.quick:
    published = f16.F16Protocol()
    ratio = published.epochs * f16.SAMPLES / (epochs * period)
    print(
        f"without a GPU: `python -m benchmarks f16` has {ratio:.3g} times the samples of this training and a larger network, "
        f"so expect more than {ratio * r2dn.seconds / 60:.0f} minutes a seed; --quick, of either, shows that it runs"
    )

# %% [markdown]
# ## Certify
#
# Two simulations under the same force converge to each other, for every force and all initial states. So the model cannot diverge at
# an untested amplitude. The test levels show whether it is accurate there.

# %%
certificate = rc.certify(r2dn.model, prove=False)
print(certificate)

# %% [markdown]
# ## Test on levels that were not trained on
#
# The test is a free run over the whole record, from the zero state; the first 100 samples are excluded. The error is relative to the
# size of the signal, with one scaling for all levels, as published. For the measured records, published scores are printed for
# comparison. If the R2DN is no better than the linear model, it needs more states and a longer training.

# %%
simulations = {
    name: {level: rc.simulate(model, records[level]).y_hat[0] for level in f16.TEST}
    for name, model in models.items()
}
for name, outputs in simulations.items():
    scores = f16.test_scores(outputs, records)
    by_level = ", ".join(f"level {level} {score:.3f}" for level, score in scores["nrmse_by_level"].items())
    print(f"{name}: test NRMSE {scores['nrmse']:.3f}, fit {100 * (1 - scores['nrmse']):.1f} % ({by_level})")
    print(f"  level 6, rms error [m/s^2]: {', '.join(f'{e:.3f}' for e in scores['rmse']['6'])}")
if simulated:
    print("simulated stand-in: these scores say nothing about the aircraft")
else:
    for name, score in f16.REFERENCES.items():
        print(f"for comparison, {name}: {score:.3f}")

# %% [markdown]
# ## The error in frequency and time
#
# The figure shows the error on a test level at each frequency, and in time. No model can simulate the scatter from period to period.

# %%
level = 6
y = records[level].experiments[0].y[:, 1]
errors = {name: y - outputs[level][:, 1] for name, outputs in simulations.items()}
scatter = y.reshape(-1, period)[1:]
shown = slice(period, period + 400)
time = records[level].time()[shown]

figure, axes = plt.subplots(2, 1, figsize=(7.5, 6), layout="constrained")
axes[0].semilogy(frequency[excited], np.abs(lines(y))[excited], color="0.6", linewidth=0.8, label="measured")
axes[1].plot(time, y[shown], color="0.6", linewidth=0.8)
for name, error in errors.items():
    axes[0].semilogy(frequency[excited], np.abs(lines(error))[excited], linewidth=0.8, label=f"error, {name}")
    axes[1].plot(time, error[shown], linewidth=0.9)
noise = 2 / period * np.fft.rfft(scatter - scatter.mean(axis=0), axis=1).std(axis=0) / len(scatter) ** 0.5
axes[0].semilogy(frequency[excited], noise[excited], color="0.2", linewidth=0.6, label="scatter of the mean")
axes[0].set(xlabel="frequency [Hz]", ylabel=f"{f16.OUTPUTS[1]} [m/s²]")
axes[1].set(xlabel="time [s]", ylabel=f"{f16.OUTPUTS[1]} [m/s²]")
figure.legend(loc="outside lower center", frameon=False, ncols=4)
axes[0].set_title(f"level {level}, not trained on" + " (simulated stand-in)" * simulated, loc="left")
figure.savefig(out / "errors.png", dpi=120)

# %% [markdown]
# ## Save
#
# One file contains weights, scaling, units and certificate; `robustctl certify f16.safetensors` checks it again.


# %%
rc.save(out / "f16.safetensors", r2dn.model, certificate=certificate)
print(f"model and figures: {out}")
