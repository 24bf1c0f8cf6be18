"""What a compiler, its tools and a run on this machine find of an exported step."""

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

from ..errors import InvalidModelError
from ..runtime.step import Step
from ..system import System, step_by_step
from .compiled import CompiledStep, compiled_in
from .misra import misra
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


def of_log(made: Traced, log: PyTree, most: int) -> PyTree:
    """Return the first samples of a log, at most so many, as the step takes them.

    **Raises:** `InvalidModelError` for another number of arrays, other shapes, and numbers that are not finite.
    """
    leaves, structure = jax.tree.flatten(made.u)
    given = [np.asarray(a) for a in jax.tree.leaves(log)]
    shapes = [leaf.shape for leaf in leaves]
    if [a.shape[1:] for a in given] != shapes or len({len(a) for a in given}) != 1 or not len(given[0]):
        raise InvalidModelError(
            f"log must have samples of shapes {shapes}, time first, got arrays of shapes {[a.shape for a in given]}"
        )
    if not all(np.isfinite(a).all() for a in given):
        raise InvalidModelError(
            "log must be finite, got NaN or infinite samples; fill or leave out what was not measured"
        )
    return structure.unflatten([a[:most].astype(leaf.dtype) for a, leaf in zip(given, leaves, strict=True)])


def parity(system: System, made: Traced, step: CompiledStep, us: PyTree) -> dict[str, Any]:
    """Return how far one step in C is from one in JAX, along a trajectory, and whether the bits are those of the step in NumPy.

    Each step starts from the state that JAX reached, so that a controller that integrates does not add up its rounding.
    """
    with tracing(np.dtype(made.program.dtype)):
        run = jax.jit(lambda x, us: step_by_step(lambda x, u: system.step(x, u), x, us))
        xs, ys, last = jax.tree.map(np.asarray, run(*jax.tree.map(jnp.asarray, (made.x, us))))
    samples = len(jax.tree.leaves(us)[0])
    found = [step(*jax.tree.map(lambda a, k=k: a[k], (xs, us))) for k in range(samples)]
    given = jax.tree.map(lambda *each: np.stack(each), *found)
    after = jax.tree.map(lambda a, b: np.concatenate([a[1:], b[None]]), xs, last)
    pairs = zip(jax.tree.leaves((after, ys)), jax.tree.leaves(given), strict=True)
    first = in_both(made, step, jax.tree.map(lambda a: a[:500], us))
    return {
        "samples": samples, "largest_difference": max((_difference(a, b) for a, b in pairs), default=0.0),
        "allowed": _EXACT[made.program.dtype], "same_bits_as_numpy": all(a.tobytes() == b.tobytes() for a, b in first),
    }  # fmt: skip


def _difference(a: np.ndarray, b: np.ndarray) -> float:
    """Return the largest difference of two arrays, relative to the largest entry."""
    if not a.size:
        return 0.0
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    same, size = (a == b) | (np.isnan(a) & np.isnan(b)), np.abs(np.where(np.isfinite(a), a, 0.0)).max()
    return float(np.where(same, 0.0, np.abs(a - b)).max() / max(size, np.finfo(np.float64).tiny))


def in_both(made: Traced, step: CompiledStep, us: PyTree) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Give each array of the outputs of the step in NumPy, whose sums have the same order, and that of the step in C, sample by sample."""
    plain, (_, ys) = Step(made.program), step.loop(step.init_state(), us)
    inputs, outputs = ([a for a in jax.tree.leaves(tree) if 0 not in a.shape] for tree in (us, ys))
    x = plain.init_state()
    for k in range(len(jax.tree.leaves(us)[0])):
        x, y = plain(x, inputs[0][k] if len(inputs) == 1 else tuple(a[k] for a in inputs))
        yield from zip((y,) if len(outputs) == 1 else y, [a[k] for a in outputs], strict=True)


def compiled_facts(folder: Path, name: str, compiler: Sequence[str]) -> dict[str, Any]:
    """Return warnings, undefined symbols and stack of a C file, each a text where a tool is missing."""
    with tempfile.TemporaryDirectory(prefix="robustctl-") as temporary:
        made = Path(temporary) / "step.o"
        command = [*compiler, *STRICT, "-fstack-usage", "-c", str(folder / f"{name}.c"), "-o", str(made)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = [line for line in done.stderr.splitlines() if re.search(r"\b(warning|error):", line)]
        stacks = list(Path(temporary).glob("*.su"))
        rules, why = misra(folder / f"{name}.c")
        return {
            "flags": list(STRICT), "warnings": lines, "undefined_symbols": _undefined(made),
            "stack_bytes": _stack(stacks[0].read_text()) if stacks else "not measured: the compiler has no -fstack-usage",
            "cppcheck": rules or why,
        }  # fmt: skip


def _undefined(made: Path) -> list[str] | str:
    if not shutil.which("nm") or not made.exists():
        return "not measured: nm was not found"
    done = subprocess.run(["nm", "-u", str(made)], capture_output=True, text=True, check=False)
    return sorted(line.split()[-1] for line in done.stdout.splitlines() if line.strip())


def _stack(text: str) -> int:
    """Return the frames of all functions together, which no chain of calls exceeds: none calls itself."""
    return sum(int(line.split("\t")[1]) for line in text.splitlines())


def times(step: CompiledStep, us: PyTree, calls: int = 200) -> dict[str, float | str]:
    """Return microseconds of a step in C on this machine, of runs of many steps: not a worst-case execution time."""
    x, count, found = step.init_state(), len(jax.tree.leaves(us)[0]), []
    for _ in range(calls):
        begin = time.perf_counter()
        step.loop(x, us)
        found.append(1e6 * (time.perf_counter() - begin) / count)
    median, high = np.percentile(found, [50, 99.9])
    about = (
        f"means of {calls} runs of {count} steps; aiT and OTAWA, for example, give worst-case execution times"
    )
    return {
        "median_us": float(median),
        "p99_9_us": float(high),
        "max_us": float(np.max(found)),
        "what": about,
    }
