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
# # Identify your log
#
# From a logged experiment to a model that carries a certificate: read, split, fit, test, save, check again.
# The log is simulated here, so that you can run the page as it is; replace it by your own file.
#
# Run it as a script, `python tutorials/identify_your_log.py --out runs/tutorial`, or open it as a notebook
# (Jupyter with jupytext, or an editor with `# %%` cells). `--quick` trains for a few epochs only.

# %%
import argparse
import tempfile
from pathlib import Path

import jax.random as jr
import numpy as np
import optax

import robustctl as rc
from robustctl.problems import two_tanks

parser = argparse.ArgumentParser(description="From a simulated log to a certified model.")
parser.add_argument("--out", type=Path, help="folder for all that is written; default: a temporary one")
parser.add_argument("--quick", action="store_true", help="few epochs, to see that it runs")
given, _ = parser.parse_known_args()  # a notebook passes arguments of its own
out = given.out or Path(tempfile.mkdtemp(prefix="robustctl-"))
out.mkdir(parents=True, exist_ok=True)
epochs = 5 if given.quick else 800

# %% [markdown]
# ## The log
#
# The plant is two tanks in cascade: a pump fills the upper tank, which drains into the lower tank, which has an outlet. A sensor
# measures the lower level and saturates. The file has a column of time stamps in seconds, and empty cells where
# the sensor failed.


# %%
def write_log(path: Path, samples: int, seed: int, lost: slice) -> Path:
    """Write a simulated experiment as a csv file, with an empty cell for each sample in `lost`."""
    record = two_tanks(samples, seed=seed)
    u, y = record.experiments[0].u[:, 0], record.experiments[0].y[:, 0].copy()
    y[lost] = np.nan
    cells = ("" if np.isnan(level) else f"{level:.6g}" for level in y)
    rows = [f"{t:g},{pump:.6g},{cell}" for t, pump, cell in zip(record.time(), u, cells, strict=True)]
    path.write_text("\n".join(["time,pump,level", *rows]) + "\n", encoding="utf-8")
    return path


log = write_log(out / "log.csv", 1000, seed=0, lost=slice(400, 412))
fresh = write_log(out / "fresh.csv", 600, seed=1, lost=slice(0, 0))

# %% [markdown]
# `read` needs the names of the input columns, the names of the output columns, and the sample time: `dt=` in
# seconds, or `time=` with the name of a column of time stamps. It refuses invalid rows and names the row.
# Print the record and check it: sample time, channels, units, share of missing samples.

# %%
channels = {"inputs": "pump", "outputs": "level", "time": "time", "units": {"pump": "V", "level": "V"}}
record = rc.data.read(log, **channels)
print(record)

# %% [markdown]
# ## Split in time
#
# The first part is for training, the last part for validation: it selects the best epoch. Nothing is shuffled, because neighboring
# samples are too similar to test each other. The last part should last several time constants of the plant; otherwise its score depends
# on chance. The test is a separate experiment, `fresh.csv`.

# %%
train, validation = rc.data.split(record, (0.8, 0.2))
test = rc.data.read(fresh, **channels)

# %% [markdown]
# ## Fit
#
# The model is a Lipschitz R2DN: for all weights, two trajectories under one input approach each other, and its gain from
# input to output is at most `gamma`, here 10 between signals scaled to standard deviation one.
#
# Training minimizes the error of a simulation, not of a one-step prediction. The log is cut into windows; a small
# network estimates the state at sample 20 of each window from the 20 samples before it (the warm-up), and the
# rest is simulated from there. The same network initializes the simulation of later records.

# %%
warm_up = 20
model = rc.nn.LipschitzR2DN(
    nu=1, nx=4, nv=8, ny=1, hidden=(16,), gamma=10.0, init=rc.nn.long_memory, key=jr.key(0)
)
problem = rc.train.Identification(
    rc.data.windows(train, warm_up + 300, stride=30),
    validation=validation,
    scaling=rc.data.Scaling.fit(train),
    initial=rc.train.warm_up(warm_up),
)
fitted = rc.train.train(
    problem,
    model,
    optimizer=optax.chain(optax.clip(10.0), optax.adam(optax.cosine_decay_schedule(1e-2, epochs))),
    epochs=epochs,
    key=jr.key(1),
)
print(fitted)

# %% [markdown]
# ## Certify
#
# The certificate is computed in float64 from the matrices that run, and from nothing else. It is about the
# model: it says nothing about the accuracy of the model, nor about the tanks.

# %%
certificate = rc.certify(fitted.model)
print(certificate)

# %% [markdown]
# ## Test on a record that was not trained on
#
# `fit %` is that of MATLAB's `compare` at an infinite horizon. If residuals correlate with an input at lags
# of zero and more, the model misses dynamics. Correlations inside the band prove little: slow residuals make the band wide.

# %%
report = rc.fit_report(fitted.model, test, fit=fitted, certificate=certificate, trained_on=record)
print(report)
for path in report.save(out / "report"):
    print(path)

# %% [markdown]
# ## See the contraction
#
# The figure shows six initial states and one input. The lower panel shows the distance of each trajectory to the first, in the metric
# of the certificate: none can exceed the dashed line. The model has a guaranteed rate of 1, which means only
# that distances do not grow; the certificate finds how fast the trained model shrinks them.

# %%
pump = test.experiments[0].u[:200].astype(fitted.model.dtype)
figure = rc.plot.contraction(fitted.model, certificate, pump, key=jr.key(2))
figure.savefig(out / "contraction.png")

# %% [markdown]
# ## Save, load, check again
#
# One file contains weights, scaling, units, sample time and certificate. It contains no code, and every bit of it is
# checked when it is read. The last line here does the same as `robustctl certify tanks.safetensors`.

# %%
rc.save(out / "tanks.safetensors", fitted.model, certificate=certificate)
loaded = rc.load(out / "tanks.safetensors")
again = rc.certify(loaded, prove=False)
print(again.holds, again.weights_sha256 == certificate.weights_sha256)

# %% [markdown]
# ## Use the model
#
# `simulate` simulates a record and scores the result. `explicit()` returns the system itself, in the units of the log:
# one `step` per sample, for your own filter, observer or controller.


# %%
simulation = rc.simulate(loaded, test)
simulation.to_csv(out / "fresh.simulated.csv")
print(simulation.scores().fit_percent)

system = loaded.explicit()
trajectory = rc.rollout(system, test.experiments[0].u.astype(loaded.dtype))
print(trajectory.ys.shape)
