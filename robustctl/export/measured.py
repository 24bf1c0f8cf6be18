"""What a compiler, its tools and a run on this machine say of an exported step."""

import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import PyTree

from ..runtime.step import Step
from ..system import System, step_by_step
from .compiled import CompiledStep, compiled_in
from .trace import Traced, tracing

STRICT = (
    "-std=c99", "-O2", "-Wall", "-Wextra", "-pedantic", "-Wconversion", "-Wsign-conversion", "-Wdouble-promotion", "-Wvla",
)  # fmt: skip

_EXACT = {"float32": 1e-6, "float64": 1e-12}
"""Largest difference to the system's own step, relative to the largest output."""


@contextmanager
def library(folder: Path, made: Traced, compiler: Sequence[str]) -> Iterator[CompiledStep]:
    """Compile the C files of a folder elsewhere, and yield their step."""
    with tempfile.TemporaryDirectory(prefix="robustctl-") as name:
        copy = Path(name)
        for suffix in ("c", "h"):
            shutil.copy(folder / f"{made.program.name}.{suffix}", copy)
        yield CompiledStep(made, compiled_in(copy, made.program.name, compiler))


def noise(system: System, made: Traced, samples: int, seed: int = 0) -> PyTree:
    """Return samples of every input, uniform over its known range, flags 0 or 1."""
    leaves, structure = jax.tree.flatten(made.u)
    draw = [np.asarray(jr.uniform(key, (samples, *leaf.shape), minval=-2.0, maxval=2.0))
            for key, leaf in zip(jr.split(jr.key(seed), len(leaves)), leaves, strict=True)]  # fmt: skip
    if len(leaves) == 1 and leaves[0].shape == (system.nu,):
        middle, size = system.input_range()
        draw[0] = middle + size * draw[0]
        for k in system.flags:
            draw[0][:, k] = draw[0][:, k] > 0
    return structure.unflatten([u.astype(leaf.dtype) for u, leaf in zip(draw, leaves, strict=True)])


def parity(system: System, made: Traced, step: CompiledStep, us: PyTree) -> dict[str, Any]:
    """Return how far outputs and final states of C are from those of the system in JAX, and whether those of NumPy are the same bits."""
    with tracing(np.dtype(made.program.dtype)):
        run = jax.jit(lambda x, us: step_by_step(lambda x, u: system.step(x, u), x, us)[1:])
        ys, x = jax.tree.map(np.asarray, run(jax.tree.map(jnp.asarray, made.x), jax.tree.map(jnp.asarray, us)))
    x_c, ys_c = step.loop(step.init_state(), us)
    pairs = list(zip(jax.tree.leaves((ys, x)), jax.tree.leaves((ys_c, x_c)), strict=True))
    largest = max((_difference(a, b) for a, b in pairs), default=0.0)
    short = jax.tree.map(lambda a: a[:200], us)
    return {
        "samples": len(jax.tree.leaves(us)[0]), "largest_difference": largest, "allowed": _EXACT[made.program.dtype],
        "same_bits_as_numpy": _same_bits(made, step, short),
    }  # fmt: skip


def _difference(a: np.ndarray, b: np.ndarray) -> float:
    if not a.size:
        return 0.0
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    wrong = np.where(np.isfinite(a) == np.isfinite(b), np.abs(np.nan_to_num(a) - np.nan_to_num(b)), np.inf)
    return float(wrong.max() / max(np.abs(np.nan_to_num(a)).max(), 1e-30))


def _same_bits(made: Traced, step: CompiledStep, us: PyTree) -> bool:
    """Return whether the step in NumPy, whose sums have the same order, gives the same bits."""
    plain = Step(made.program)
    x, _, leaves = plain.init_state(), None, [a for a in jax.tree.leaves(us) if 0 not in a.shape]
    _, ys = step.loop(step.init_state(), us)
    wanted = [a for a in jax.tree.leaves(ys) if 0 not in a.shape]
    for k in range(len(leaves[0]) if leaves else 0):
        x, y = plain(x, leaves[0][k] if len(leaves) == 1 else tuple(a[k] for a in leaves))
        given = y if len(wanted) > 1 else (y,)
        if any(a.tobytes() != b[k].astype(a.dtype).tobytes() for a, b in zip(given, wanted, strict=True)):
            return False
    return True


def compiled_facts(folder: Path, name: str, compiler: Sequence[str]) -> dict[str, Any]:
    """Return warnings, undefined symbols and stack of a C file, each a text that says so where a tool is missing."""
    with tempfile.TemporaryDirectory(prefix="robustctl-") as temporary:
        made = Path(temporary) / "step.o"
        command = [*compiler, *STRICT, "-fstack-usage", "-c", str(folder / f"{name}.c"), "-o", str(made)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = [line for line in done.stderr.splitlines() if re.search(r"\b(warning|error):", line)]
        stacks = list(Path(temporary).glob("*.su"))
        return {
            "flags": list(STRICT), "warnings": lines, "undefined_symbols": _undefined(made),
            "stack_bytes": _stack(stacks[0].read_text()) if stacks else "not measured: the compiler has no -fstack-usage",
            "cppcheck": _cppcheck(folder / f"{name}.c"),
        }  # fmt: skip


def _undefined(made: Path) -> list[str] | str:
    if not shutil.which("nm") or not made.exists():
        return "not measured: nm was not found"
    done = subprocess.run(["nm", "-u", str(made)], capture_output=True, text=True, check=False)
    return sorted(line.split()[-1] for line in done.stdout.splitlines() if line.strip())


def _stack(text: str) -> int:
    """Return the frames of all functions together, which no chain of calls exceeds: none calls itself."""
    return sum(int(line.split("\t")[1]) for line in text.splitlines())


def _cppcheck(source: Path) -> list[str] | str:
    if not shutil.which("cppcheck"):
        return "not checked: cppcheck was not found"
    command = ["cppcheck", "--addon=misra", "--quiet", "--template={id}:{line}", str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return sorted(line for line in done.stderr.splitlines() if line)


def times(step: CompiledStep, us: PyTree, calls: int = 200, block: int = 50) -> dict[str, float | str]:
    """Return microseconds of a step in C, over blocks of steps, on this machine: not a worst-case execution time."""
    x, part = step.init_state(), jax.tree.map(lambda a: a[:block], us)
    found = []
    for _ in range(calls):
        begin = time.perf_counter()
        step.loop(x, part)
        found.append(1e6 * (time.perf_counter() - begin) / block)
    median, high = np.percentile(found, [50, 99.9])
    about = "of blocks of 50 steps on the machine named below; no worst-case execution time, for which aiT or OTAWA are made"
    return {"median_us": float(median), "p99_9_us": float(high), "max_us": float(np.max(found)), "what": about}

