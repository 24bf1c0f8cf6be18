"""What a system consists of: its arrays, numbers, functions and classes, and hashes of them."""

import dataclasses
import functools
import hashlib
import inspect
import types
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import numpy as np

from ..pytrees import fields_of, is_key, items_of
from ..system import Certifiable, System

_LIBRARIES = ("jax", "jaxlib", "numpy", "equinox", "robustctl", "builtins")


def arrays(system: System) -> Iterator[tuple[str, Any]]:
    """Yield the positions and values of a system's arrays, static fields apart."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(system):
        if eqx.is_array(leaf):
            yield jax.tree_util.keystr(path), leaf


def weights_sha256(system: System) -> str:
    """Return the sha256 of every array of a system: its position, dtype, shape and bytes."""
    digest = hashlib.sha256()
    for position, leaf in arrays(system):
        array = np.asarray(leaf)
        digest.update(f"{position} {array.dtype.str} {array.shape};".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def fingerprint(system: System) -> str:
    """Return the sha256 of all that decides what a system computes: classes, arrays, static fields and functions.

    Functions of libraries count by name, others by name, code, defaults and closure.
    """
    digest = hashlib.sha256()
    for position, part in content(system):
        digest.update(f"{position} ".encode() + _bytes_of(part) + b";")
    return digest.hexdigest()


def content(value: Any, position: str = "") -> Iterator[tuple[str, Any]]:
    """Yield positions and values of everything in a value, and the class of everything that has parts."""
    match value:
        case type():
            yield position, value
        case _ if dataclasses.is_dataclass(value):
            yield position, type(value)
            for name, part in fields_of(value).items():
                yield from content(part, f"{position}.{name}")
        case tuple() | list() | dict():
            yield position, type(value)
            for key, item in items_of(value):
                yield from content(item, f"{position}[{key!r}]")
        case functools.partial():
            yield from content((value.func, value.args, value.keywords), position)
        case types.FunctionType() if not _of_library(value):
            yield position, value
            # Two lambdas of one name may differ in what they close over alone.
            cells = [cell.cell_contents for cell in value.__closure__ or ()]
            yield from content((value.__defaults__, value.__kwdefaults__, cells), position)
        case _:
            yield position, value


def own_descriptions(system: System) -> tuple[str, ...]:
    """Return the classes in a system whose `lft()` was not written in this package, so that its agreement is assumed."""
    found = [part for _, part in content(system) if isinstance(part, type) and issubclass(part, Certifiable)]
    written = {part.__name__: next(c for c in part.__mro__ if "lft" in vars(c)) for part in found}
    return tuple(name for name, owner in written.items() if not _of_library(owner))


def _of_library(value: Any) -> bool:
    return _attribute(value, "__module__").split(".")[0] in _LIBRARIES


def _attribute(function: Any, name: str) -> str:
    """An attribute of a function or class, "" where it has none: objects that can be called need no name."""
    return getattr(function, name, None) or ""


def _bytes_of(part: Any) -> bytes:
    if is_key(part):
        part = jax.random.key_data(part)
    if eqx.is_array(part):
        array = np.asarray(part)
        return f"{array.dtype.str} {array.shape}".encode() + np.ascontiguousarray(array).tobytes()
    if callable(part):
        plain: Any = inspect.unwrap(part)
        name = f"{_attribute(plain, '__module__')}.{_attribute(plain, '__qualname__') or repr(plain)}"
        code = getattr(plain, "__code__", None)
        return name.encode() + (b"" if code is None or _of_library(plain) else _code(code))
    return f"{type(part).__name__} {part!r}".encode()


def _code(constant: Any) -> bytes:
    """The instructions of a function, its constants and the functions inside it; its line numbers do not count."""
    match constant:
        case types.CodeType(co_code=code, co_consts=inner, co_names=names):
            # Its repr has an address, which is another one in every process.
            return b" ".join([code, *map(_code, inner), repr(names).encode()])
        case _:
            return repr(constant).encode()


def dtypes(system: System) -> str:
    """Return the dtypes of a system's arrays, in words."""
    return ", ".join(sorted({str(array.dtype) for _, array in arrays(system)}))
