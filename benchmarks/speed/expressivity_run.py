"""Time and train every size of the expressivity study, and write results and figure."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from robustctl.runs.provenance import provenance
from robustctl.store.json_text import write_json

from .expressivity import PASSES, PUBLISHED, QUICK, TARGET, Study, differences, errors, slope, times
from .timing import check_quiet


def benchmark(folder: Path, *, study: Study | None = None, quick: bool = False) -> dict[str, Any]:
    """Time and then train all sizes; print a line each, write `expressivity.json` and `.png` to `folder`, return the results.

    **Raises:** `RobustctlError` on a busy machine, unless `quick`, whose figures are meaningless.
    """
    study = (QUICK if quick else Study()) if study is None else study
    machine = {} if quick else check_quiet()
    rows = []
    for (kind, size), row in times(study).items():  # before training, which would keep the machine busy
        rows.append({"model": kind, "size": size, **row, **errors(study, kind, size)})
        print(_line(rows[-1]), flush=True)
    slopes = {kind: {name: slope(*_points(rows, kind, name)) for name in PASSES} for kind in PUBLISHED}
    results = {
        "problem": "expressivity", "quick": quick, **provenance(study.seeds - 1),
        **machine, "study": dataclasses.asdict(study), "differences_to_published": differences(study), "slopes": slopes,
        "published_slopes": PUBLISHED, "target": TARGET, "target_met": _met(slopes["R2DN"]), "rows": rows,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "expressivity.json", results)
    figure(results).savefig(folder / "expressivity.png")
    return results


def _points(rows: list[dict], kind: str, name: str) -> np.ndarray:
    """1 / NRMSE and ms (2, n) of every seed of every size, as for the published lines."""
    found = [
        (1 / error, row[f"{name}_ms"]) for row in rows if row["model"] == kind for error in row["test_nrmse"]
    ]
    return np.asarray(found).T


def _met(slopes: dict[str, dict[str, float]]) -> bool:
    return all(found["slope"] <= TARGET for found in slopes.values())


def _line(row: dict) -> str:
    found = ", ".join(f"{100 * error:.3f}" for error in row["test_nrmse"])
    return (
        f"{row['model']:<5}{row['size']:>4}{row['parameters']:>8} parameters {row['inference_ms']:>9.3f} ms"
        f"{row['gradient_ms']:>9.3f} ms  NRMSE {found} %, trained in {row['training_seconds']:.0f} s"
    )


def figure(results: dict):
    """Draw time against 1 / NRMSE with the fitted lines, inference and gradient in two panels."""
    from robustctl.plot.canvas import BLUE, ORANGE, SMALL, heading, panels

    drawn, axes = panels(1, 2, (4.6, 3.6))
    for ax, name in zip(axes[0], PASSES, strict=True):
        for kind, color, marker in (("R2DN", BLUE, "D"), ("REN", ORANGE, "o")):
            x, ms = _points(results["rows"], kind, name)
            found, published = results["slopes"][kind][name], results["published_slopes"][kind][name]
            label = f"{kind}: slope {found['slope']:.2f} ({found['error']:.2f}); published {published:g}"
            ax.loglog(x, ms, marker, color=color, markersize=4, alpha=0.8)
            ends = np.array([x.min(), x.max()])
            ax.loglog(ends, found["at_one"] * ends ** found["slope"], ":", color=color, label=label)
        ax.set_xlabel("1 / NRMSE", fontsize=SMALL + 1)
        ax.set_ylabel(f"{name} [ms]", fontsize=SMALL + 1)
        ax.legend(frameon=False, fontsize=SMALL, loc="lower left", bbox_to_anchor=(0, 1))
    study = results["study"]
    heading(
        drawn, "Time against expressivity",
        f"{study['sequences']} sequences of {study['horizon']} samples on {results['device']}; each size trained for "
        f"{study['steps']} steps from {study['seeds']} seeds",
    )  # fmt: skip
    return drawn
