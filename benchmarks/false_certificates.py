"""Search for false certificates: certificates that hold in floating point and fail in exact arithmetic.

    python -m benchmarks.false_certificates --draws 2000 --out results/false_certificates.json

Free arrays of random sizes over twelve decades, random rates and gains; every certificate that holds is
verified in rational arithmetic. The process exits with 1 after a false one.
"""

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

import jax

sys.path.insert(0, str(Path(__file__).parent.parent))
jax.config.update("jax_enable_x64", True)

import jax.random as jr
import numpy as np

import robustctl as rc
from robustctl.runs.provenance import provenance
from robustctl.store.json_text import write_json
from tests.exact import proves
from tests.models import MODELS, SIZES, draw


def verify(rng: np.random.Generator, name: str, seed: int) -> str:
    log_scale, rate, gamma = rng.uniform(-6, 6), 10 ** rng.uniform(-4, 0), 10 ** rng.uniform(-2, 2)
    # Rates and gains are constants of a compiled map, which would be compiled again for each.
    with jax.disable_jit():
        system = _system(rng, name, seed, log_scale, rate, gamma)
    certificate = rc.certify(system, prove=False)
    if not certificate.holds:
        return "not certified"
    return "certified" if proves(system, certificate) else "FALSE"


def _system(rng, name, seed, log_scale, rate, gamma):
    dtype = (np.float32, np.float64)[int(rng.integers(2))]
    model = MODELS[name](
        **SIZES[int(rng.integers(3))], nx=2, nv=2, rate=rate, gamma=gamma, key=jr.key(seed), dtype=dtype
    )
    return draw(model, jr.key(seed), 10**log_scale).explicit()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    rng, begin = np.random.default_rng(given.seed), time.monotonic()
    counts = {name: Counter() for name in MODELS}
    for k in range(given.draws):
        name = list(MODELS)[k % len(MODELS)]
        counts[name][verify(rng, name, k)] += 1
    total = sum(counts.values(), Counter())
    results = provenance(given.seed) | {
        "draws": given.draws,
        "seconds": round(time.monotonic() - begin, 1),
        "counts": dict(total),
        "by_model": {name: dict(count) for name, count in counts.items()},
    }
    write_json(given.out, results)
    print(dict(total))
    return 1 if total["FALSE"] else 0


if __name__ == "__main__":
    sys.exit(main())
