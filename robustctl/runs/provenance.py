"""What every generated result carries: seed, versions, machine and commit."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import jax

PACKAGES = (
    "robustctl",
    "jax",
    "equinox",
    "diffrax",
    "optax",
    "control",
    "numpy",
    "scipy",
    "pandas",
    "fastparquet",
    "h5py",
)


def provenance(seed: int) -> dict:
    """Seed, package versions, machine, device and git commit of a run."""
    return {"seed": seed, **environment()}


def environment() -> dict:
    """Package versions, machine, JAX's device and git commit of this package."""
    return {
        "versions": {"python": platform.python_version(), **_versions()},
        "machine": {"platform": f"{platform.system()} {platform.machine()}", "cpus": os.cpu_count()},
        "device": jax.devices()[0].device_kind,
        "commit": commit(Path(__file__).parent),
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit(folder: Path) -> str:
    """Return the git commit that a folder is at, "unknown" outside of git."""
    command = ["git", "rev-parse", "--verify", "HEAD"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()
