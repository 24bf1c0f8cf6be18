"""What the fuzz benchmarks share: their arguments, and the file of their results."""

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from robustctl.runs.provenance import provenance
from robustctl.store.json_text import write_json


def parser(doc: str | None, name: str) -> argparse.ArgumentParser:
    """Return the arguments of a benchmark with that docstring, whose results go to `results/NAME.json`."""
    made = argparse.ArgumentParser(description=(doc or "").split("\n", 1)[0])
    made.add_argument("--mutations", type=int, default=2000, help="damaged files of each kind")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--out", type=Path, default=Path(f"results/{name}.json"))
    return made


def finish(given: argparse.Namespace, found: dict[str, Any], results: Iterable[Mapping[str, Any]]) -> int:
    """Write what was found, and return the exit status: 1 where a result has an outcome that must not be."""
    given.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(given.out, provenance(given.seed) | found)
    return int(any(result["counts"]["other"] > 0 for result in results))
