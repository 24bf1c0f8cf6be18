"""A system's step in C, compiled here and called from Python."""

import atexit
import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from ..errors import InvalidModelError, RobustctlError
from ..runtime.program import Program, Value, dtypes_of
from ..system import Parameterization, System
from .c_files import files
from .targets import write_texts
from .trace import Traced, traced

FLAGS = ("-std=c99", "-O3", "-march=native", "-ffp-contract=off", "-shared", "-fPIC")
"""The numbers are the same with every level of optimization, since no product and sum are contracted to one operation."""

# One step after another in C: input and output are arrays of structs.
_RUN = """
#include "NAME.c"
void NAME_run(long count, NAME_state *state, const NAME_inputs *inputs, NAME_outputs *outputs);
void NAME_run(long count, NAME_state *state, const NAME_inputs *inputs, NAME_outputs *outputs)
{
    for (long k = 0; k < count; k++) {
        NAME_step(state, inputs + k, outputs + k);
    }
}
"""


class CompiledStep:
    """A step in C as a function of Python: `step(x, u) -> (x_next, y)`; `rc.export.compile` makes it.

    States, inputs and outputs are arranged as the system's own, as arrays of NumPy. `step.init_state()` is where the state starts.
    Each thread needs its own step, because its arguments lie in memory that the calls share.
    """

    def __init__(self, made: Traced, library: Path):
        self._made = made
        program = made.program
        # Loaded for as long as the step lives, which keeps the memory it is called with.
        loaded = ctypes.CDLL(str(library))
        self._step, self._run = (loaded[f"{program.name}_{what}"] for what in ("step", "run"))
        self._step.restype = self._run.restype = None
        self._x, self._u, self._y = (
            _Struct(program, parts)
            for parts in (
                [(s.name, s.value) for s in program.state],
                [(s.name, s.value) for s in program.inputs],
                [(s.name, s.value) for s in program.outputs],
            )
        )
        self._pointers = tuple(struct.pointer(struct.one) for struct in (self._x, self._u, self._y))
        self._trees = [_Tree(tree) for tree in (made.x, made.u, made.y)]

    @property
    def program(self) -> Program:
        """The program that was compiled."""
        return self._made.program

    def init_state(self) -> PyTree:
        """Return the state that it starts from."""
        return jax.tree.map(np.array, self._made.x)

    def __call__(self, x: PyTree, u: PyTree) -> tuple[PyTree, PyTree]:
        """Return `(x_next, y)` of one sample.

        **Raises:** `InvalidModelError` for a state or an input of other shapes.
        """
        of_x, of_u, of_y = self._trees
        self._x.write(self._x.views, of_x.leaves(x, "the state"))
        self._u.write(self._u.views, of_u.leaves(u, "the input"))
        self._step(*self._pointers)
        return of_x.tree(self._x.read(self._x.views)), of_y.tree(self._y.read(self._y.views))

    def loop(self, x: PyTree, us: PyTree) -> tuple[PyTree, PyTree]:
        """Return `(x_final, ys)` of a sequence of inputs, time first; the loop runs in C.

        **Raises:** `InvalidModelError` for a state or inputs of other shapes.
        """
        of_x, of_u, of_y = self._trees
        given = of_u.leaves(us, "the input", time=True)
        count = of_u.steps(us)
        inputs, outputs = self._u.many(count), self._y.many(count)
        self._x.write(self._x.views, of_x.leaves(x, "the state"))
        self._u.write(self._u.views_of(inputs, count), given)
        self._run(ctypes.c_long(count), self._pointers[0], self._u.pointer(inputs), self._y.pointer(outputs))
        ys = self._y.read(self._y.views_of(outputs, count))
        return of_x.tree(self._x.read(self._x.views)), of_y.tree(ys, count)


class _Struct:
    """A struct of C as an array of NumPy: its bytes, and a view of each of its arrays."""

    def __init__(self, program: Program, parts: Sequence[tuple[str, Value]]):
        kinds = dtypes_of(program.dtype)
        fields = [(name, kinds[value.dtype], value.shape) for name, value in parts]
        # `align` is the layout of C; a struct that has nothing else has a char.
        self.dtype = np.dtype(fields or [("nothing", "int8")], align=True)
        self.names = [name for name, _, _ in fields]
        self.one = self.many(1)
        shapes = [value.shape for _, value in parts]
        self.views = [
            view.reshape(shape) for view, shape in zip(self.views_of(self.one, 1), shapes, strict=True)
        ]

    def many(self, count: int) -> np.ndarray:
        """Return that many structs of zeros."""
        return np.zeros(max(count, 1), self.dtype)

    def views_of(self, array: np.ndarray, count: int) -> list[np.ndarray]:
        """Return the field of each name, time first."""
        return [array[name][:count] for name in self.names]

    @staticmethod
    def pointer(array: np.ndarray) -> ctypes.c_void_p:
        """Return the address of an array of structs."""
        return ctypes.c_void_p(array.ctypes.data)

    @staticmethod
    def write(views: list[np.ndarray], leaves: list[np.ndarray]) -> None:
        """Write an array to each view."""
        for view, leaf in zip(views, leaves, strict=True):
            view[...] = leaf

    @staticmethod
    def read(views: list[np.ndarray]) -> list[np.ndarray]:
        """Return a copy of each view."""
        return [view.copy() for view in views]


class _Tree:
    """How a system arranges its arrays, those without entries included, which C does not have."""

    def __init__(self, like: PyTree):
        self.likes, self.structure = jax.tree.flatten(like)
        self.kept = [0 not in leaf.shape for leaf in self.likes]
        self.single = len(self.likes) == 1 and self.kept[0] and jax.tree.structure(0) == self.structure

    def leaves(self, tree: PyTree, what: str, *, time: bool = False) -> list[np.ndarray]:
        """Return the arrays of a pytree that have entries."""
        leaves = [tree] if self.single else self.structure.flatten_up_to(tree)
        found = []
        for leaf, like, kept in zip(leaves, self.likes, self.kept, strict=True):
            array = np.asarray(leaf)
            if array.shape[time:] != like.shape or array.ndim < time:
                raise InvalidModelError(
                    f"{what} must have arrays of shape {'(time, ...) of ' * time}{like.shape}, got {array.shape}"
                )
            if kept:
                found.append(array)
        return found

    def steps(self, tree: PyTree) -> int:
        """Return the length of a sequence."""
        lengths = {np.shape(leaf)[0] for leaf in jax.tree.leaves(tree)}
        if len(lengths) != 1:
            raise InvalidModelError(f"all inputs must have the same length, got {sorted(lengths)}")
        return lengths.pop()

    def tree(self, arrays: list[np.ndarray], count: int | None = None) -> PyTree:
        """Return arrays arranged as the system does."""
        if self.single:
            return arrays[0]
        given, time = iter(arrays), () if count is None else (count,)
        leaves = [
            next(given) if kept else np.zeros((*time, *like.shape), like.dtype)
            for like, kept in zip(self.likes, self.kept, strict=True)
        ]
        return jax.tree.unflatten(self.structure, leaves)


def compile(  # read as rc.export.compile
    system: System | Parameterization,
    *,
    dtype: Any = None,
    u: PyTree = None,
) -> CompiledStep:
    """Compile a system's step by this machine's C compiler, and return it as a function `step(x, u) -> (x_next, y)`.

    **Arguments:**

    - `system`: any system, or a parameterization, of which `explicit()` is taken.
    - `dtype`: `float32` or `float64`; default that of its arrays.
    - `u`: one sample of the input, whose shapes count; needed for a system without `nu`.

    **Raises:** `RobustctlError` without a compiler; `InvalidModelError` for all that `program` refuses.

    **Example:** ::

        pid = rc.classical.PID(4.0, 2.0, 0.4, dt=0.02, low=-1.0, high=1.0)
        step = rc.export.compile(pid)
        x, u = step(step.init_state(), np.array([0.1, 0.0]))
    """
    compiler = find_compiler()
    made = traced(system, name="model", dtype=dtype, u=u)
    return CompiledStep(made, built(made.program, compiler))


def find_compiler() -> list[str]:
    """Return the command of a C compiler: that of the environment variable CC, the system's, or that of the package ziglang.

    **Raises:** `RobustctlError` where there is none.
    """
    named = os.environ.get("CC", "").split()
    for command in (named, ["cc"], ["gcc"], ["clang"]):
        if command and shutil.which(command[0]):
            return command
    try:
        import ziglang  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise RobustctlError(
            "a C compiler must be installed, and neither cc, gcc nor clang was found; install one, name it by the environment "
            "variable CC, or pip install ziglang"
        ) from error
    return [sys.executable, "-m", "ziglang", "cc"]


_built: dict[str, Path] = {}


def built(program: Program, compiler: Sequence[str]) -> Path:
    """Return the shared library of a program, compiled once in this process.

    **Raises:** `RobustctlError` where the compiler fails.
    """
    texts = files(program)
    key = hashlib.sha256("\0".join([*texts.values(), *compiler]).encode()).hexdigest()
    if key not in _built:
        # A folder that only this user can write to, and only this process uses.
        folder = Path(tempfile.mkdtemp(prefix="robustctl-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        write_texts(folder, texts)
        _built[key] = compiled_in(folder, program.name, compiler)
    return _built[key]


def looped(name: str) -> str:
    """Return a C file that includes a step's and adds a loop over samples."""
    return _RUN.replace("NAME", name)


def compiled_in(folder: Path, name: str, compiler: Sequence[str]) -> Path:
    """Compile the C files in a folder, with a loop over samples, and return the shared library.

    **Raises:** `RobustctlError` where the compiler fails.
    """
    (folder / "run.c").write_text(looped(name), encoding="utf-8")
    run_compiler([*compiler, *FLAGS, "run.c", "-o", "step.so", "-lm"], folder)
    return folder / "step.so"


def run_compiler(command: Sequence[str], folder: Path) -> None:
    """Run a command of a compiler in a folder.

    **Raises:** `RobustctlError` where it fails.
    """
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RobustctlError(
            f"the C compiler must compile the step; {' '.join(command)} reported: {done.stderr[:2000]}"
        )
