"""Search for false certificates over every class of model and of loop, edited, subclassed, scaled, rounded and reloaded.

    python -m benchmarks.certificate_oracle --count 5000 --seed 0

Each certificate that holds is proven again in rational arithmetic (`tests/oracle.py`, which calls nothing of the package's
proofs), and attacked by simulation in float64. The process exits with 1 after a false one.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import jax

sys.path.insert(0, str(Path(__file__).parent.parent))
jax.config.update("jax_enable_x64", True)

import numpy as np

import robustctl as rc
from robustctl.errors import RobustctlError
from robustctl.runs.provenance import provenance
from robustctl.store.json_text import write_json
from tests.oracle import is_true
from tests.oracle_loops import loop_is_true

from .certificate_oracle_cases import EDITS, MODELS, Case, drawn
from .certificate_oracle_loops import is_loop
from .certificate_oracle_steps import attack

OUT = Path("results/certificate_oracle.json")


def verdict(case: Case, rng: np.random.Generator) -> tuple[str, str]:
    """The outcome of a case, and what was wrong with it: "true", "not certified", "refused", "FALSE"."""
    try:
        certificate = rc.certify(case.model, prove=False)
    except RobustctlError as error:
        return "refused", str(error)
    if not certificate.holds:
        return "not certified", certificate.reason
    if not case.lawful:
        return "FALSE", "a system that steps otherwise than its matrices was certified"
    system = case.model.explicit() if isinstance(case.model, rc.Parameterization) else case.model
    proven = loop_is_true if is_loop(system) else is_true
    if not proven(system, certificate):
        return "FALSE", "the inequality fails in rational arithmetic"
    found = attack(system, certificate, rng)
    return ("FALSE", found) if found else ("true", "")


def run(count: int, seed: int) -> dict[str, Any]:
    """The outcomes of `count` cases, by model and by edit, and the cases that went wrong."""
    by_model: dict[str, Counter] = {name: Counter() for name in MODELS}
    by_edit: dict[str, Counter] = {name: Counter() for name in EDITS}
    wrong: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for k in range(count):
            rng = np.random.default_rng((seed, k))
            model, edit = list(MODELS)[k % len(MODELS)], ""
            try:
                case = None
                while case is None:  # not every edit applies to every model
                    edit = str(rng.choice(list(EDITS)))
                    case = drawn(model, edit, rng, Path(folder))
                outcome, text = verdict(case, rng)
            except Exception as error:  # a raw error is a fault, but no false certificate
                outcome, text = "error", f"{type(error).__name__}: {error}"
            by_model[model][outcome] += 1
            by_edit[edit][outcome] += 1
            if outcome in ("FALSE", "error"):
                wrong.append(
                    {"case": k, "model": model, "edit": edit, "outcome": outcome, "text": text[:300]}
                )
    total = sum(by_model.values(), Counter())
    tables = {"by_model": by_model, "by_edit": by_edit}
    return {"counts": dict(total), "wrong": wrong} | {
        name: {key: dict(counts) for key, counts in table.items()} for name, table in tables.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    begin = time.monotonic()
    found = run(given.count, given.seed)
    results = (
        provenance(given.seed) | {"count": given.count, "seconds": round(time.monotonic() - begin, 1)} | found
    )
    write_json(given.out, results)
    print(found["counts"], *found["wrong"], sep="\n")
    return 1 if found["counts"].get("FALSE") else 0


if __name__ == "__main__":
    sys.exit(main())
