"""Strict JAX for every test: 64 bits, no silent promotion of dtypes or ranks, shapes checked at run time."""

import atexit
import importlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
# jaxlib spreads a batch of LAPACK calls over XLA's threads and waits in one of them for the others. On two cores, with two threads, two
# factorizations under jax.vmap that do not depend on each other wait for ever; of sixteen threads some are free.
os.environ.setdefault("NPROC", "16")

# Compiling is nearly all of a test's time; these make it up to four times shorter. XLA aborts on a flag that it does
# not know, so a process of its own tries them first; the workers of pytest-xdist inherit what it found.
QUICK_TO_COMPILE = (
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1",
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false",
    "--xla_backend_optimization_level=0",
    "",
)
# Eight devices on two busy cores may wait for each other longer than the 40 seconds after which XLA ends the process.
PATIENT = "--xla_cpu_collective_call_terminate_timeout_seconds=300 --xla_cpu_collective_timeout_seconds=300"


def known(flags: str) -> bool:
    command = [sys.executable, "-c", "import jax; jax.devices()"]
    return subprocess.run(command, env=os.environ | {"XLA_FLAGS": flags}, capture_output=True).returncode == 0


if "XLA_FLAGS" not in os.environ:
    quick = next(filter(known, QUICK_TO_COMPILE))
    os.environ["XLA_FLAGS"] = next(filter(known, (f"{quick} {PATIENT}", quick)))

# What one process compiled, the others read: the workers and the programs that tests start, which inherit this.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="robustctl-tests-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

import jax

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

from .type_checks import install

# The rooms that compute with JAX; the others check their input themselves, which the tests are to see.
CHECKED = ("linalg", "system", "parallel", "trajectory", "nn", "certificates", "runs", "train", "identify")
with install([f"robustctl.{room}" for room in CHECKED]):
    for room in (*CHECKED, "io", "reports"):  # the last two import the rest of the checked ones
        importlib.import_module(f"robustctl.{room}")

import gc

import hypothesis
import jaxtyping
import pytest

# Tracing makes many small objects that live long; looking through all of them again and again takes a twentieth of the time.
gc.freeze()
gc.set_threshold(20_000, 20, 50)

hypothesis.settings.register_profile(
    "robustctl", deadline=None, derandomize=True, database=None, max_examples=20
)
hypothesis.settings.load_profile("robustctl")


@pytest.fixture
def as_installed():
    """For calls with arguments of a wrong type: users have no run-time type checks before ours."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(autouse=True, scope="module")
def forget_compiled_functions():
    """Every compiled function holds memory maps, of which a process may have 65,530: a long run ends without this.

    What earlier modules compiled serves later ones, so it is forgotten only when a third of the maps are in use.
    """
    yield
    maps = pathlib.Path("/proc/self/maps")
    if not maps.exists() or len(maps.read_bytes().splitlines()) > 20_000:
        jax.clear_caches()


def pytest_configure(config):
    """Make our own warnings errors; not in pyproject.toml, where the filter would import the package before the hook."""
    config.addinivalue_line("filterwarnings", "error::robustctl.errors.RobustctlWarning")
