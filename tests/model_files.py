"""Model files altered and sealed again, as someone could who wants them to pass."""

from pathlib import Path

import equinox as eqx
import jax
import numpy as np

from robustctl.store.container import pack, unpack


def tamper(path: Path, change) -> None:
    """Alter header and arrays in place, and seal the file again."""
    header, arrays = unpack(path.read_bytes())
    del header["sha256"]
    change(header, arrays)
    path.write_bytes(pack(header, arrays))


def fields(header, *names):
    node = header["structure"]
    for name in names:
        node = node["fields"][name]
    return node["fields"]


def edit(*names, **values):
    return lambda header, arrays: fields(header, *names).update(values)


def assert_same(loaded, saved) -> None:
    """The same tree of the same types, and equal leaves; compared in NumPy, which compiles nothing."""
    (ours, structure), (theirs, other) = jax.tree.flatten(loaded), jax.tree.flatten(saved)
    assert structure == other and list(map(type, ours)) == list(map(type, theirs))
    for a, b in zip(ours, theirs, strict=True):
        if eqx.is_array(a) or isinstance(a, np.ndarray | np.generic):
            assert a.dtype == b.dtype
            assert np.array_equal(_numbers(a), _numbers(b))
        else:
            assert a == b


def _numbers(a):
    return np.asarray(jax.random.key_data(a) if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key) else a)
