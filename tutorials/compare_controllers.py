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
# # Compare controllers
#
# Five controllers stabilize a magnetically suspended ball and an inverted pendulum: LQG, H-infinity, model-predictive control, a
# learned R2DN on top of a base controller, and an LSTM in place of the R2DN. All get the same report, on one page: the cost, step
# responses, stability margins, and the worst disturbance found. Limits of states under disturbances, tube MPC against a guarded policy, are
# compared in `tutorials/compare_limits.py`.
#
# Run it as a script, `python tutorials/compare_controllers.py --out runs/compare`, or open it as a notebook (Jupyter with
# jupytext, or an editor with `# %%` cells). It trains four networks, which takes minutes on two CPU cores;
# `--quick` uses one plant and two epochs. It needs qpax: `pip install "robustctl[mpc]"`.

# %%
import argparse
import tempfile
from pathlib import Path

import control as ct
import jax.random as jr
import numpy as np
import scipy.linalg

import robustctl as rc
from robustctl.problems import unstable

parser = argparse.ArgumentParser(
    description="LQG, H-infinity, MPC, Youla-R2DN and LSTM, compared on one page."
)
parser.add_argument("--out", type=Path, help="folder for all that is written; default: a temporary one")
parser.add_argument(
    "--quick", action="store_true", help="one plant, two epochs and short episodes, to see that it runs"
)
given, _ = parser.parse_known_args()  # a notebook passes arguments of its own
out = given.out or Path(tempfile.mkdtemp(prefix="robustctl-"))
out.mkdir(parents=True, exist_ok=True)
epochs, horizon, episodes, search = (2, 100, 4, 4) if given.quick else (100, 500, 32, 60)

# %% [markdown]
# ## Two unstable plants
#
# Each plant is sampled at 100 Hz, with noisy sensors and a voltage limit. Its task draws random forces on it, and the weights of an LQG
# design are given.

# %%
settings = [unstable.magnetic_suspension(), unstable.rotary_pendulum()][: 1 if given.quick else 2]
for setting in settings:
    plant = setting.scenario.sampled.plant
    signals = {
        kind: [f"{s.name} [{s.unit}]" for s in getattr(plant, kind)]
        for kind in ("controls", "outputs", "disturbances")
    }
    print(setting.name, signals)

# %% [markdown]
# ## Three classical designs
#
# H-infinity uses the weights of the LQG as gains: the same errors and the same noise, but the worst case in place of
# the mean. The bound is set 10 % above the optimum, where the controller is better conditioned. The predictive controller
# plans 15 samples within the voltage limits, from the estimate of a Kalman filter.


# %%
def h_infinity(sampled, Q, R, W, V):
    """Return the H-infinity controller with the LQG's weights."""
    P = rc.classical.linear_model(sampled).system
    q, r, w, v = (np.diag(np.sqrt(weight)) for weight in (Q, R, W, V))
    n, m, p = P.nstates, P.ninputs, P.noutputs
    generalized = ct.StateSpace(
        P.A,
        np.hstack([w, np.zeros((n, p)), P.B]),
        np.vstack([q, np.zeros((m, n)), P.C]),
        scipy.linalg.block_diag(np.zeros((n, n)), np.zeros((m, p)), np.zeros((p, m)))
        + np.block(
            [[np.zeros((n, n + p + m))], [np.zeros((m, n + p)), r], [np.zeros((p, n)), v, np.zeros((p, m))]]
        ),
        sampled.dt,
    )
    best = rc.classical.hinf(generalized, p, m).gamma
    return rc.classical.policy(rc.classical.hinf(generalized, p, m, gamma=1.1 * best).K, sampled, error=False)


def predictive(sampled, Q, R, W, V):
    """Return linear model-predictive control on a Kalman filter's estimate."""
    estimator = rc.classical.kalman(sampled, W, V).estimator
    return rc.classical.EstimateFeedback(estimator, rc.classical.mpc(sampled, Q, R, horizon=15).controller)


# %% [markdown]
# ## Two learned controllers
#
# Both add to the same base controller and read only its innovation. The gain of the R2DN is bounded whatever it learns;
# the LSTM has no guarantee.


# %%
def learned(setting, q, seed):
    """Train q on top of the setting's base controller."""
    steps = max(horizon // setting.segment, 1)
    fitted = rc.fit_policy(
        q, setting.scenario, horizon=horizon, segment=min(setting.segment, horizon), batch=64, epochs=epochs,
        optimizer=unstable.optimizer(epochs, steps), monitor=None, key=jr.key(seed),
    )  # fmt: skip
    cost = fitted.history["validation"]
    print(
        f"{setting.name}, {type(q.parameterization).__name__}: cost {cost[0]:.4g} after an epoch, {min(cost):.4g} at best"
    )
    return fitted.policy


# %% [markdown]
# ## The report
#
# Step responses, episodes and the worst disturbance are simulated with the nonlinear loops; margins, Bode and Nyquist diagrams
# use their exact linearizations. The table shows the performance of each controller and its price in robustness.


# %%
def compare(setting):
    """Return the report on the setting's five loops, having saved the R2DN."""
    sampled, base = setting.scenario.sampled, setting.scenario.base
    name = setting.name.replace(" ", "_")
    r2dn = learned(setting, setting.q(setting.gammas[0], jr.key(0)), 1)
    lstm = learned(setting, setting.lstm(jr.key(0)), 1)
    rc.save(out / f"{name}.safetensors", r2dn)
    print(rc.certify(rc.load(out / f"{name}.safetensors")))
    policies = {
        "LQG": rc.classical.lqg(sampled, *setting.weights).controller,
        "H-infinity": h_infinity(sampled, *setting.weights),
        "MPC": predictive(sampled, *setting.weights),
        "Youla-R2DN": rc.loops.Youla(base, r2dn.explicit()),
        "LSTM": rc.loops.Youla(base, lstm.explicit()),
    }
    loops = {policy: rc.loops.feedback(sampled, system) for policy, system in policies.items()}
    return rc.robustness.report(
        loops, setting.scenario.task, title=setting.name, horizon=horizon, count=episodes, search=search
    )


reports = [compare(setting) for setting in settings]
for made in reports:
    made.save(out / made.title.replace(" ", "_"))
    print(made, end="\n\n")

# %% [markdown]
# ## One page

# %%
title = "Five controllers on two unstable plants"
(out / "comparison.html").write_text(rc.robustness.page(reports, title=title), encoding="utf-8")
print(f"page: {out / 'comparison.html'}")
