"""A training's state as one sealed file, and the newest file of a folder that can be read."""

import re
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from ..errors import ModelFileError, RobustctlError, RobustctlWarning
from ..pytrees import is_key
from ..store.atomic import write_atomic
from ..store.container import NewerFormatError, pack, unpack
from ..store.seal import shown

_NAME = re.compile(r"epoch_(\d{1,9})\.safetensors")
FEWEST = 2
"""Readable checkpoints that always stay: the newest may be damaged after it was written and verified."""


def save_checkpoint(folder: Path, epoch: int, tree: PyTree, header: dict[str, Any], keep: int) -> Path:
    """Write the arrays of `tree` as the checkpoint of `epoch`, verify it, then remove old ones.

    Of the readable ones the newest `keep` stay, and at least two.

    **Raises:** `OSError` where it cannot be written or reads back otherwise; the older ones are then still there.
    """
    path = folder / f"epoch_{epoch:07d}.safetensors"
    arrays = {name: np.asarray(_plain(leaf)) for name, leaf in _named(tree)}
    write_atomic(path, pack({"checkpoint": epoch, **header}, arrays))
    try:
        _read(path)
    except ModelFileError as error:
        raise OSError(f"{path} does not have the bytes that were written to it: {error}") from error
    _prune(folder, path, max(keep, FEWEST))
    return path


def _prune(folder: Path, newest: Path, keep: int) -> None:
    """Remove what is older than the `keep` newest that can be read, of which `newest` is one."""
    # A damaged file may have a higher epoch than the one just written: training then continued from an earlier one.
    older, left = [path for path in checkpoints(folder) if _epoch(path) < _epoch(newest)], keep - 1
    for path in older:
        if left == 0:
            path.unlink(missing_ok=True)
        elif _is_readable(path):
            left -= 1


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoint files of a folder, newest first."""
    return sorted((path for path in folder.glob("*") if _epoch(path) >= 0), key=_epoch, reverse=True)


def _epoch(path: Path) -> int:
    """Return the epoch that a checkpoint's name has, -1 for another file."""
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else -1


def latest(folder: Path) -> tuple[Path, dict[str, Any], dict[str, np.ndarray]] | None:
    """Return path, header and arrays of the newest checkpoint that can be read; warn of each that cannot.

    **Raises:** `NewerFormatError` for one that a newer version wrote.
    """
    for path in checkpoints(folder):
        try:
            return path, *_read(path)
        except NewerFormatError as error:
            raise NewerFormatError(f"the checkpoint {path} cannot be used: {error}") from error
        except (ModelFileError, OSError) as error:
            warnings.warn(
                f"the checkpoint {path} cannot be read and the one before is used: {error}",
                RobustctlWarning,
                stacklevel=2,
            )
    return None


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    header, arrays = unpack(path.read_bytes())
    epoch = header.get("checkpoint")
    if type(epoch) is not int or epoch != _epoch(path):
        raise ModelFileError(
            f"a checkpoint must have the number of its epoch, as its name has, got {shown(epoch)}; use another copy"
        )
    return header, arrays


def _is_readable(path: Path) -> bool:
    try:
        _read(path)
    except (ModelFileError, OSError):
        return False
    return True


def restore(template: PyTree, arrays: dict[str, np.ndarray], path: Path) -> PyTree:
    """Return `template` with the arrays of a checkpoint in place of those it has.

    **Raises:** `RobustctlError` where their names, shapes or dtypes differ: it is the checkpoint of another model.
    """
    wanted = {name: _plain(leaf) for name, leaf in _named(template)}
    for name in sorted(wanted.keys() ^ arrays.keys()):
        where = "only in the checkpoint" if name in arrays else "not in the checkpoint"
        raise _other(path, f"{name} is {where}")
    for name, leaf in wanted.items():
        here, there = (leaf.shape, leaf.dtype), (arrays[name].shape, arrays[name].dtype)
        if here != there:
            raise _other(path, f"{name} is {_shown(*there)} there and {_shown(*here)} here")
    leaves, structure = jax.tree.flatten(template)
    return structure.unflatten([_like(leaf, arrays[name]) for leaf, name in zip(leaves, wanted, strict=True)])


def _other(path: Path, what: str) -> RobustctlError:
    return RobustctlError(
        f"the checkpoint {path} must be of the model and optimizer that are trained, got one of others: {what}; "
        "give those it was written with, or another run folder"
    )


def _shown(shape: tuple[int, ...], dtype: Any) -> str:
    return f"{dtype}{list(shape)}"


def _named(tree: PyTree) -> list[tuple[str, jax.Array | np.ndarray]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [(jax.tree_util.keystr(path, simple=True, separator="."), leaf) for path, leaf in leaves]


def _plain(leaf: jax.Array | np.ndarray) -> jax.Array | np.ndarray:
    return jax.random.key_data(leaf) if is_key(leaf) else leaf


def _like(leaf: jax.Array | np.ndarray, array: np.ndarray) -> jax.Array | np.ndarray:
    if type(leaf) is np.ndarray:
        return array
    values = jnp.asarray(array)
    return jax.random.wrap_key_data(values, impl=jax.random.key_impl(leaf)) if is_key(leaf) else values
