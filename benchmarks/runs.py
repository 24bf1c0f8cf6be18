"""Summaries and figures of the benchmarks' training runs."""

import json
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np

from robustctl.runs.run_folder import LOG, SETTINGS
from robustctl.runs.watchers import read_log


def certificates(history: dict[str, np.ndarray]) -> list[dict]:
    """Return the epoch, the margin, and whether the certificate holds, each time that it was computed."""
    margins = history["certificate_margin"]
    known = np.flatnonzero(~np.isnan(margins))
    return [{"epoch": int(k) + 1, "holds": bool(margins[k] < 0), "margin": float(margins[k])} for k in known]


def seconds_per_epoch(run: Path) -> float | None:
    """Return the median over the epochs after the first, which compiles; None for fewer than two.

    The median excludes the pause of an interrupted run and the few epochs that certify the model.
    """
    times = [row["time"] for row in read_log(run / LOG)[0]]
    return round(float(np.median(np.diff(times))), 3) if len(times) > 1 else None


def commit(run: Path) -> str:
    """Return the commit of this package at the start of a run; its results may be evaluated at a later commit."""
    return json.loads((run / SETTINGS).read_text(encoding="utf-8"))["commit"]


def parameters(model: Any) -> int:
    """Return the number of free parameters of a model."""
    return sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array)))


def draw_seeds(
    results: dict,
    curve: str,
    label: str,
    epochs: int,
    *lines: str,
    references: dict[str, float] | None = None,
):
    """Draw `curve` of every run against epochs, with the published band if there is one.

    **Arguments:**

    - `results`: with `runs` and `published`.
    - `curve`: the name of the values in each run.
    - `label`: of the vertical axis.
    - `epochs`: of the published training.
    - `lines`: of the heading.
    - `references`: other values to compare with, by name.
    """
    from robustctl.plot.canvas import CYCLE, INK, SMALL, heading, panels

    figure, axes = panels(1, 1, (6.5, 3.6))
    ax = axes[0, 0]
    runs = results["runs"]
    many = {"color": CYCLE[0], "linewidth": 0.7, "label": f"{len(runs)} seeds"}  # for more seeds than colors
    for k, run in enumerate(runs):
        style = {"color": CYCLE[k % len(CYCLE)], "linewidth": 1.2, "label": f"seed {run['seed']}"}
        if len(runs) > len(CYCLE):
            style = many | ({"label": None} if k else {})
        ax.plot(np.arange(1, len(run[curve]) + 1), run[curve], **style)
    if (published := results["published"]) is not None:
        after = f"published, after {epochs} epochs"
        ax.axhline(published["mean"], color=INK, linestyle="--", linewidth=1, label=after)
        ax.axhspan(published["lowest"], published["highest"], color=INK, alpha=0.15)
    ax.set_yscale("log")
    ax.set_xlabel("epoch", fontsize=SMALL + 1)
    ax.set_ylabel(label, fontsize=SMALL + 1)
    for name, value in (references or {}).items():
        ax.axhline(value, color=INK, linestyle=":", linewidth=1, label=name)
    ax.legend(frameon=False, fontsize=SMALL)
    heading(figure, *lines)
    return figure
