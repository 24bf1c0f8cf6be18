"""MATLAB files with what SciPy does not write: objects, packed elements, and the references of v7.3."""

import struct
import zlib

import numpy as np

DOUBLE, STRUCT, UINT32, OPAQUE = 6, 2, 13, 17
OBJECT = (3707764736, 2, 1, 1, 1, 1)  # what MATLAB stores of any object beside its private subsystem


def _element(kind, payload):
    return struct.pack("<II", kind, len(payload)) + payload + bytes(-len(payload) % 8)


def _matrix(flags, *parts):
    return _element(14, _element(6, struct.pack("<II", flags, 0)) + b"".join(parts))


def _name(name):
    return _element(1, name.encode())


def _shape(*shape):
    return _element(5, struct.pack(f"<{len(shape)}i", *shape))


def numbers(name, values):
    """A column of doubles."""
    return _matrix(
        DOUBLE, _shape(len(values), 1), _name(name), _element(9, np.asarray(values, "<f8").tobytes())
    )


def thing(name, kind):
    """An object of class `kind`."""
    ids = _matrix(UINT32, _shape(6, 1), _name(""), _element(6, struct.pack("<6I", *OBJECT)))
    return _matrix(OPAQUE, _name(name), _name("MCOS"), _name(kind), ids)


def structure(name, **fields):
    """A struct with the fields given, whose own names are empty."""
    names = b"".join(field.encode().ljust(8, b"\0") for field in fields)
    return _matrix(STRUCT, _shape(1, 1), _name(name), _shape(8), _element(1, names), *fields.values())


def write_mat(path, *variables, packed=False):
    """A file up to v7."""
    if packed:
        packs = [zlib.compress(variable) for variable in variables]
        variables = [struct.pack("<II", 15, len(pack)) + pack for pack in packs]
    head = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x100) + b"IM"
    path.write_bytes(head + b"".join(variables))


def write_mat73(path, arrays, objects, cells, struct_arrays, sparse):
    """A v7.3 file: HDF5 with reversed axes, and a reference for each element of a cell or struct array."""
    import h5py

    with h5py.File(path, "w", userblock_size=512) as file:

        def references(items):
            held = [
                file.create_dataset(f"#refs#/{len(file.require_group('#refs#'))}", data=np.atleast_2d(i))
                for i in items
            ]
            return np.array([dataset.ref for dataset in held], h5py.ref_dtype)[None]

        for name, values in arrays.items():
            file.create_dataset(name, data=values[None]).attrs["MATLAB_class"] = np.bytes_("double")
        for name, kind in objects.items():
            file.create_dataset(name, data=np.array([OBJECT], np.uint32))
            file[name].attrs.update(MATLAB_class=np.bytes_(kind), MATLAB_object_decode=np.int32(3))
        for name, items in cells.items():
            file.create_dataset(name, data=references(items)).attrs["MATLAB_class"] = np.bytes_("cell")
        for name, fields in struct_arrays.items():
            for field, items in fields.items():
                file.create_dataset(f"{name}/{field}", data=references(items))
            file[name].attrs["MATLAB_class"] = np.bytes_("struct")
        for name in sparse:
            file.create_group(name).attrs["MATLAB_sparse"] = np.uint64(3)
