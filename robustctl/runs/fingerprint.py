"""What must stay the same for a run to be resumed: data, key and settings."""

import hashlib
import re
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PRNGKeyArray, PyTree

from ..data import Record
from ..errors import RobustctlError
from ..pytrees import is_key
from ..store.entries import entry


def data_hash(record: Record | None) -> str:
    """Return a hash of a record's samples, masks and sample time; names do not count."""
    if record is None:
        return "none"
    arrays = [a for e in record.experiments for a in (e.u, e.y, e.u_mask, e.y_mask)]
    return array_hash((record.dt, *arrays))


def array_hash(tree: PyTree) -> str:
    """Return a hash of all arrays and numbers of a tree, with their shapes and dtypes."""
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        if is_key(leaf):
            leaf = jax.random.key_data(leaf)
        if eqx.is_array_like(leaf):
            array = np.asarray(leaf)
            found.update(f"{array.dtype}{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def model_hash(model: PyTree) -> str:
    """Return a hash of what training does not change in a model: classes, functions by name, settings and other numbers."""
    trained, fixed = eqx.partition(model, eqx.is_inexact_array)
    structure = re.sub(r" at 0x[0-9a-f]+", "", str(jax.tree.structure(trained)))
    return hashlib.sha256((structure + array_hash(fixed)).encode()).hexdigest()


def fingerprint(key: PRNGKeyArray, settings: dict[str, Any], **hashes: str) -> dict[str, str]:
    """Return what must stay the same for a run to be resumed: data, key and settings, as text."""
    words = ", ".join(f"{name}={value!r}" for name, value in settings.items())
    return {**hashes, "key": str(jax.random.key_data(key).tolist()), "settings": words}


def check_fingerprint(stored: dict[str, Any], here: dict[str, str], where: str) -> None:
    """Raise `RobustctlError` for the first value of `here` that differs in what a run stored; `where`: the file that it is from."""
    there = entry(stored, "identity", dict) or {}
    for name, value in here.items():
        if there.get(name) != value:
            was, now = (str(text)[:160] for text in (there.get(name), value))
            raise RobustctlError(
                f"a run is resumed with the {name} that it was begun with; {where} has {was}, got {now}. "
                f"Give the same {name}, or another run folder"
            )
