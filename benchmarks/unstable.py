"""Train Youla on the unstable plants for some gains and seeds, and write results and figure."""

import time
from collections.abc import Sequence
from pathlib import Path

import jax.random as jr
import numpy as np

import robustctl as rc
from robustctl.certificates import certify
from robustctl.loops import zero_gain
from robustctl.problems.unstable import Setting, costs, optimizer, under_faults
from robustctl.runs import Monitor
from robustctl.runs.provenance import provenance
from robustctl.store.json_text import write_json
from robustctl.system import Parameterization
from robustctl.train import PolicyGradient


def train(
    setting: Setting, policy: Parameterization, seed: int, epochs: int, *, progress: bool = True
) -> tuple[Parameterization, dict]:
    """Train one policy; return it and its scores, ready for JSON."""
    test = _test(setting)
    base = float(
        costs(
            setting.scenario, zero_gain(setting.scenario.sampled.ny, setting.scenario.sampled.nu), test
        ).mean()
    )
    begin = time.monotonic()
    problem = PolicyGradient(
        setting.scenario, horizon=setting.horizon, segment=setting.segment, batch=64, test=test
    )
    fitted = rc.train.train(
        problem, policy, epochs=epochs, optimizer=optimizer(epochs, setting.horizon // setting.segment),
        monitor=Monitor(progress=progress), key=jr.key(seed),
    )  # fmt: skip
    found = certify(fitted.policy, prove=False)
    return fitted.policy, {
        "seed": seed,
        "relative_cost": float(np.min(fitted.history["validation"])) / base,
        "base_cost": base,
        "stopped": fitted.stopped,
        "certificate": found.holds,
        "certified_gain": found.gamma,
        "seconds": round(time.monotonic() - begin, 1),
    }


def benchmark(
    setting: Setting,
    seeds: Sequence[int],
    folder: Path,
    *,
    epochs: int = 100,
    progress: bool = True,
) -> dict:
    """Train every gain and seed, and an LSTM as Q; write JSON and figure to the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    runs: list[dict] = []
    shown: dict[str, Parameterization] = {}
    for seed in seeds:
        key = jr.key(1000 + seed)
        candidates = {f"gamma {gamma:g}": setting.q(gamma, key) for gamma in setting.gammas} | {
            "LSTM": setting.lstm(key)
        }
        for name, policy in candidates.items():
            trained, scores = train(setting, policy, seed, epochs, progress=progress)
            runs.append({"policy": name} | scores)
            if seed == seeds[0]:
                shown[name] = trained
    results = {
        "problem": setting.name,
        **provenance(seeds[0]),
        "epochs": epochs,
        "published": dict(zip((f"gamma {g:g}" for g in setting.gammas), setting.published, strict=True)),
        "mean_relative_cost": {name: _mean(runs, name) for name in shown},
        "under_faults": under_faults(setting.scenario, shown, setting.horizon, jr.key(7)),
        "runs": runs,
    }
    path = folder / f"youla_{setting.name.replace(' ', '_')}.json"
    write_json(path, results)
    draw(results).savefig(path.with_suffix(".png"))
    return results


def _test(setting: Setting):
    return setting.scenario.draw_batch(jr.key(100), 64, setting.horizon)


def _mean(runs: list[dict], name: str) -> float:
    return float(np.mean([run["relative_cost"] for run in runs if run["policy"] == name]))


def draw(results: dict):
    """Draw cost relative to the base controller against the certified gain, with the published curve and the LSTM."""
    from robustctl.plot.canvas import BLUE, GREY, INK, SMALL, VERMILION, heading, panels

    figure, axes = panels(1, 1, (6.5, 3.6))
    ax = axes[0, 0]
    gammas = [float(name.split()[1]) for name in results["published"]]
    for run in results["runs"]:
        if run["policy"] != "LSTM":
            ax.plot(float(run["policy"].split()[1]), run["relative_cost"], "o", color=BLUE, markersize=4)
    mean = [results["mean_relative_cost"][name] for name in results["published"]]
    ax.plot(gammas, mean, color=BLUE, label="Youla-R2DN, certified; dots are seeds")
    ax.plot(
        gammas,
        list(results["published"].values()),
        color=INK,
        linestyle="--",
        label="Youla-REN, published, other base controller and cost",
    )
    ax.axhline(
        results["mean_relative_cost"]["LSTM"],
        color=VERMILION,
        linewidth=1.0,
        label="LSTM as Q, no guarantee",
    )
    ax.axhline(1.0, color=GREY, linewidth=1.0, label="base controller")
    ax.set_xscale("log")
    ax.set_xticks(gammas, [f"{g:g}" for g in gammas])
    ax.minorticks_off()
    ax.set_xlabel("gain bound of Q: control unit over innovation unit", fontsize=SMALL + 1)
    ax.set_ylabel("cost relative to the base controller", fontsize=SMALL + 1)
    ax.legend(frameon=False, fontsize=SMALL)
    heading(figure, f"Youla policies for the {results['problem']}: cost against the gain bound")
    return figure
