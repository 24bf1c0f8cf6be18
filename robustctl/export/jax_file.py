"""Export from JAX to JAX: the step as it is compiled, without the classes that made it."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jax import export, jit, tree_util
from jaxtyping import PyTree

from ..errors import InvalidModelError
from ..system import Parameterization, System
from .targets import check_folder
from .trace import Ready, check_name, ready

_PLATFORMS = {"cpu", "cuda", "rocm", "tpu"}


def jax(  # read as rc.export.jax
    system: System | Parameterization,
    folder: str | os.PathLike[str],
    *,
    name: str = "model",
    platforms: Sequence[str] = ("cpu", "cuda"),
    dtype: Any = None,
    u: PyTree = None,
    dt: float | None = None,
) -> Path:
    """Write a system's step for Python with JAX alone, by `jax.export`, and return the folder.

    ::

        init, step = (jax.export.deserialize((folder / f"NAME_{what}.jax").read_bytes()).call for what in ("init", "step"))
        x = init()
        x, y = step(x, u)

    State, input and output are each the tuple of their arrays, in the order of `jax.tree.leaves`, and a single array is itself. The
    functions can be called within `jax.jit` and `lax.scan`, but have no gradients and no batches by `jax.vmap`. JAX reads a file for at
    least six months after it was written.

    **Arguments:**

    - `system`: any system, or a parameterization, of which `explicit()` is taken.
    - `folder`: a new or empty folder, for `NAME_init.jax` and `NAME_step.jax`.
    - `name`: an identifier.
    - `platforms`: where the functions can run, of `cpu`, `cuda`, `rocm` and `tpu`.
    - `dtype`: `float32` or `float64`; default that of its arrays. In `float64` the reader needs `jax_enable_x64`.
    - `u`: one sample of the input, whose shapes count; needed for a system without `nu`.
    - `dt`: sample time in seconds, checked against the system's own.

    **Raises:** `InvalidModelError` for a folder in use, an unknown platform, an operation that one of them lacks, and a system, name, dtype
    or input that `program` refuses.

    **Example:** ::

        import tempfile
        pid = rc.classical.PID(4.0, 2.0, 0.4, dt=0.02, low=-1.0, high=1.0)
        folder = rc.export.jax(pid, tempfile.mkdtemp(), name="pid")
        step = jax.export.deserialize((folder / "pid_step.jax").read_bytes()).call
    """
    folder = Path(folder)
    check_folder(folder)
    check_name(name)
    if not platforms or not set(platforms) <= _PLATFORMS:
        raise InvalidModelError(f"platforms must be some of {sorted(_PLATFORMS)}, got {tuple(platforms)}")
    with ready(system, dtype=dtype, u=u, dt=dt) as found:
        given = packed(found.x), packed(found.u)
        files = {
            "init": _serialized(lambda: given[0], (), platforms),
            "step": _serialized(_step(found), given, platforms),
        }
    folder.mkdir(parents=True, exist_ok=True)
    for what, data in files.items():
        (folder / f"{name}_{what}.jax").write_bytes(data)
    return folder


def _step(found: Ready) -> Callable:
    """Return the step on packed arrays."""

    def step(x: Any, u: Any) -> tuple[Any, Any]:
        after, y = found.system.step(_unpacked(x, found.x), _unpacked(u, found.u))
        return packed(after), packed(y)

    return step


def packed(tree: PyTree) -> Any:
    """Return the tuple of a pytree's arrays, a single one as itself."""
    leaves = tree_util.tree_leaves(tree)
    return leaves[0] if len(leaves) == 1 else tuple(leaves)


def _unpacked(given: Any, like: PyTree) -> PyTree:
    structure = tree_util.tree_structure(like)
    return tree_util.tree_unflatten(structure, [given] if structure.num_leaves == 1 else given)


def _serialized(function: Callable, arguments: tuple, platforms: Sequence[str]) -> bytes:
    """Return a function for these platforms as bytes.

    **Raises:** `InvalidModelError` where JAX cannot write it for one of them.
    """
    try:
        return bytes(export.export(jit(function), platforms=tuple(platforms))(*arguments).serialize())
    except (ValueError, NotImplementedError, TypeError, RuntimeError) as error:
        raise InvalidModelError(
            f"the step must be one that JAX can write for each of platforms, {tuple(platforms)}; give fewer, for example ('cpu',). JAX "
            f"reported: {str(error).splitlines()[0]}"
        ) from error
