"""MATLAB files up to v7."""

from __future__ import annotations

import struct
import zlib
from typing import Any, NamedTuple

import numpy as np

from .limits import MOST_NAMES, Arrays, check_size, numeric
from .matlab_objects import (
    Found,
    element_error,
    experiments,
    no_element_error,
    object_error,
    signal,
    split_name,
    struct_error,
)

MATRIX, COMPRESSED = 14, 15
OPAQUE = 17  # class of an object
HEADER, TAG = 128, 8  # bytes of the file's header, and before each element
START = 4096  # bytes of a variable that hold its name, of 63 characters at most, and its shape
LABELS = ("Name", "label", "blockName")  # of a signal, as dSPACE and Simulink save it


class Variable(NamedTuple):
    """Name, shape and, for an object, class of one variable."""

    name: str
    shape: tuple[int, ...]
    kind: str


def load_mat(path: str, names: list[str]) -> tuple[list[str], Arrays]:
    """Variables of a MATLAB file up to v7; ``a/b`` is field b of struct a, ``a(2)`` and ``a{2}`` are elements."""
    from scipy.io.matlab import loadmat

    everything = variables(path)
    listed = {variable.name: variable for variable in everything}
    roots = {split_name(name)[0][0] for name in names} & set(listed)
    for root in roots:
        if listed[root].kind:
            raise object_error(root, listed[root].kind)
        check_size(root, listed[root].shape, 1, path)
    # With no name at all, loadmat would load everything.
    content = loadmat(path, appendmat=False, variable_names=sorted(roots)) if roots else {}
    found, inside = {}, []
    for name in names:
        (root, index), *parts = split_name(name)
        if root in content:
            where = root if index is None else f"{root}({index})"
            refuse_objects(content[root], where)
            value = resolve(element(content[root], index, root), parts, where)
            if value is None:
                inside += numeric_names(content[root], root)
            else:
                found[name] = value
    return [*(variable.name for variable in everything), *dict.fromkeys(inside[:MOST_NAMES])], found


def variables(path: str) -> list[Variable]:
    """Variables at the top of a file, of which SciPy cannot list the objects."""
    from scipy.io.matlab import matfile_version, whosmat

    if matfile_version(path, appendmat=False)[0] == 0:  # MATLAB 4 has no objects
        return [Variable(name, shape, "") for name, shape, _ in whosmat(path, appendmat=False)]
    found = []
    with open(path, "rb") as file:
        order = "<" if file.read(HEADER)[126:] == b"IM" else ">"
        at = HEADER
        while len(start := file.read(START)) >= TAG:
            kind, length = struct.unpack_from(order + "II", start)
            if kind == COMPRESSED:
                start = zlib.decompressobj().decompress(start[TAG:], START)
                kind = struct.unpack_from(order + "I", start)[0]
            if kind != MATRIX:
                raise ValueError(f"an element of type {kind} where a variable must be")
            found.append(_variable(start, order))
            at += TAG + length
            file.seek(at)
    return [variable for variable in found if variable.name]


def _variable(body: bytes, order: str) -> Variable:
    flags, at = _element(body, 8, order)
    second, at = _element(body, at, order)
    third, at = _element(body, at, order)
    if struct.unpack_from(order + "I", flags)[0] & 0xFF == OPAQUE:  # name, type system and class
        kind, _ = _element(body, at, order)
        return Variable(second.decode("latin1"), (), kind.decode("latin1"))
    shape = struct.unpack(f"{order}{len(second) // 4}i", second[: len(second) // 4 * 4])
    return Variable(third.decode("latin1"), shape, "")


def _element(body: bytes, at: int, order: str) -> tuple[bytes, int]:
    kind, length = struct.unpack_from(order + "II", body, at)
    if kind >> 16:  # up to 4 bytes are packed into the tag
        return body[at + 4 : at + 4 + (kind >> 16)], at + 8
    return body[at + 8 : at + 8 + length], at + 8 + -(-length // 8) * 8


def element(value: Any, index: int | None, where: str) -> Any:
    """Element `index`, counted from 1, of a cell or struct array; all of it for None."""
    if index is None:
        return value
    if not (is_cell(value) or value.dtype.names):
        raise no_element_error(where)
    if index > value.size:
        raise element_error(where, value.size, index)
    return value.ravel(order="F")[index - 1 : index]


def resolve(value: Any, parts: list[tuple[str, int | None]], where: str) -> Found:
    """Array at the path `parts` below `where`, one a cell for the cells of experiments, None where there is none."""
    refuse_objects(value, where)
    if is_cell(value):
        return experiments([resolve(item, parts, where) for item in value.ravel(order="F")], where)
    fields = value.dtype.names or ()
    if not parts:
        if fields:
            raise struct_error(where, fields)
        return [numeric(where, value)]
    (field, index), *rest = parts
    if field not in fields:
        return None
    inside, items = f"{where}/{field}", value[field].ravel(order="F")
    found = [resolve(element(item, index, inside), rest, inside) for item in items]
    return found[0] if len(found) == 1 else signal(found, where, labels(value))


def labels(array: Any) -> list[str]:
    """Names of the signals in a struct array, where it holds them."""
    for field in LABELS:
        if field in array.dtype.names:
            texts = [np.asarray(item).ravel() for item in array[field].ravel(order="F")]
            return ["".join(map(str, text)) for text in texts]
    return []


def is_cell(value: np.ndarray) -> bool:
    """Whether loadmat gave a cell array."""
    return value.dtype == object


def is_object(value: Any) -> bool:
    """Whether loadmat gave an object of a MATLAB class, whose numbers it does not know."""
    from scipy.io.matlab import MatlabOpaque

    return isinstance(value, MatlabOpaque)


def refuse_objects(value: Any, name: str) -> None:
    """Raise Unusable for what is no array, cell or struct."""
    from scipy.io.matlab import MatlabFunction, MatlabOpaque
    from scipy.sparse import issparse

    match value:
        case MatlabOpaque():
            raise object_error(name, bytes(value["s2"].flat[0]).decode("latin1"))
        case MatlabFunction():
            raise object_error(name, "function handle")
        case _ if issparse(value):
            raise object_error(name, "sparse matrix")


def numeric_names(value: Any, where: str) -> list[str]:
    """Names by which the arrays inside a struct are read."""
    fields = value.dtype.names
    if not fields or not value.size or is_object(value):
        return [where]
    inside = [numeric_names(value[field].flat[0], f"{where}/{field}") for field in fields]
    return [name for names in inside for name in names]
