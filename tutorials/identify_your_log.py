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
# From a logged experiment to a model that carries a certificate: read, fit, compare with a linear model, certify, save, check again.
# The log is simulated here, so that you can run the page as it is; replace it by your own file.
#
# Run it as a script, `python tutorials/identify_your_log.py --out runs/tutorial`, or open it as a notebook
# (Jupyter with jupytext, or an editor with `# %%` cells). It takes a minute. `--quick` trains for a few epochs only.

# %%
import argparse
import tempfile
from pathlib import Path

import jax.random as jr
import numpy as np

import robustctl as rc
from robustctl.problems import heat_exchanger
from robustctl.recipe import Recipe

parser = argparse.ArgumentParser(description="From a simulated log to a certified model.")
parser.add_argument("--out", type=Path, help="folder for all that is written; default: a temporary one")
parser.add_argument("--quick", action="store_true", help="few epochs, to see that it runs")
given, _ = parser.parse_known_args()  # a notebook passes arguments of its own
out = given.out or Path(tempfile.mkdtemp(prefix="robustctl-"))
out.mkdir(parents=True, exist_ok=True)

# %% [markdown]
# ## The log
#
# The plant is a heat exchanger: a valve sets the flow of cold water, and the temperature at its outlet is measured. The file has a
# column of time stamps in seconds, and empty cells where the sensor failed.
#
# The valve is an equal-percentage one, whose flow grows fiftyfold from shut to open. At a small opening the water stays long: a little more
# flow cools it by a lot, and it takes a minute. At a large opening the same change does little, and in seconds. No linear model has both.


# %%
def write_log(path: Path, samples: int, seed: int, lost: slice) -> Path:
    """Write a simulated experiment as a csv file, with an empty cell for each sample in `lost`."""
    record = heat_exchanger(samples, seed=seed)
    u, y = record.experiments[0].u[:, 0], record.experiments[0].y[:, 0].copy()
    y[lost] = np.nan
    cells = ("" if np.isnan(outlet) else f"{outlet:.6g}" for outlet in y)
    rows = [f"{t:g},{valve:.6g},{cell}" for t, valve, cell in zip(record.time(), u, cells, strict=True)]
    path.write_text("\n".join(["time,valve,outlet", *rows]) + "\n", encoding="utf-8")
    return path


log = write_log(out / "log.csv", 1000, seed=0, lost=slice(200, 212))
fresh = write_log(out / "fresh.csv", 600, seed=1, lost=slice(0, 0))

# %% [markdown]
# `read` needs the names of the input columns, the names of the output columns, and the sample time: `dt=` in
# seconds, or `time=` with the name of a column of time stamps. It refuses invalid rows and names the row.
# Print the record and check it: sample time, channels, units, share of missing samples. The test is a separate experiment, `fresh.csv`;
# it is scored at the end and used for nothing else.

# %%
channels = {
    "inputs": "valve", "outputs": "outlet", "time": "time", "units": {"valve": "%", "outlet": "degC"}
}  # fmt: skip
record = rc.data.read(log, **channels)
test = rc.data.read(fresh, **channels)
print(record)

# %% [markdown]
# ## The line
#
# First a linear model, by a subspace method. It takes a second, and any network must beat it.

# %%
linear = rc.identify.subspace(record)
print(f"{linear.order} states, delay {linear.delay}")

# %% [markdown]
# ## Fit
#
# `auto` needs no settings. It trains contracting R2DNs that start at the linear model: for all weights, two trajectories under one input
# approach each other. Of each but the first, another quarter of the log is held out. The error there selects the size of the networks and
# the epoch, and the average of the networks is the model. It minimizes the error of a simulation, not of a one-step prediction. If no
# network predicts what was held out better than the linear model, it returns the linear model and reports it.
#
# `recipe` fixes settings, and what is left open is chosen, in up to five minutes. Here all are fixed, so that this page runs in one:
# leave `recipe` out for your own log.

# %%
nv, hidden, epochs = (4, (8,), 3) if given.quick else (16, (32,), 120)
recipe = Recipe(
    seeds=2, init="linear", order=linear.order, nx=max(linear.order, 4), nv=nv, hidden=hidden, epochs=epochs
)
fitted = rc.identify.auto(record, minutes=20, test=test, recipe=recipe, key=jr.key(0))
print(fitted)

# %% [markdown]
# ## Certify
#
# The certificate is computed in float64 from the matrices that run, and from nothing else. It is about the
# model: it says nothing about the accuracy of the model, nor about the exchanger.

# %%
certificate = rc.certify(fitted.model)
print(certificate)

# %% [markdown]
# ## Compared with the line, on a record that neither was fitted to
#
# NRMSE is the error of the free run over the standard deviation of the signal; `fit %` is 100 (1 - NRMSE), that of MATLAB's `compare` at an
# infinite horizon. In the figure the linear model is wrong at both ends: too weak at a small opening, too strong at a large one.

# %%
comparison = rc.compare_models({"subspace": linear.model, "R2DN": fitted.model}, test)
print(comparison)
rc.plot.compare_models(comparison.simulations).savefig(out / "beats_linear.png", dpi=120)

# %% [markdown]
# The report has residuals and training, too. If residuals correlate with an input at lags
# of zero and more, the model misses dynamics. Correlations inside the band prove little: slow residuals make the band wide.

# %%
report = rc.fit_report(
    fitted.model, test, fit=fitted, certificate=certificate, trained_on=record, linear=linear.model
)
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
valve = test.experiments[0].u[:200].astype(fitted.model.dtype)
figure = rc.plot.contraction(fitted.model, certificate, valve, key=jr.key(2))
figure.savefig(out / "contraction.png")

# %% [markdown]
# ## Save, load, check again
#
# One file contains weights, scaling, units, sample time and certificate. It contains no code, and every bit of it is
# checked when it is read. The last line here does the same as `robustctl certify exchanger.safetensors`.

# %%
rc.save(out / "exchanger.safetensors", fitted.model, certificate=certificate)
loaded = rc.load(out / "exchanger.safetensors")
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
