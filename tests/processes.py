"""Python as a reader runs it: in a process and a folder of its own, without the tests' strict settings."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
QUICKER = (
    "XLA_FLAGS",
    *(name for name in os.environ if name.startswith(("JAX_COMPILATION_CACHE", "JAX_PERSISTENT_CACHE"))),
)
"""What makes a process compile less, and leaves its results as they are."""


def run(folder: Path, *arguments: str) -> str:
    """Run Python in a folder; return what it printed."""
    command = [sys.executable, "-W", "error::UserWarning", *arguments]
    environment = {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "envs")]),
        "JAX_PLATFORMS": "cpu", "OPENBLAS_NUM_THREADS": "1", "MPLBACKEND": "Agg",
        "PATH": "/usr/bin:/bin", "HOME": str(folder),
        **{name: os.environ[name] for name in QUICKER},
    }  # fmt: skip
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
