"""A model as JSON and a table of arrays, and back: only registered classes and known functions, no code run.

===============================  =====================================================================
in the model                     in the structure
===============================  =====================================================================
None, bool, int, float, str      itself; a float must be finite, and comes back to the last bit
tuple                            list
JAX array, NumPy array, scalar   {"array": "jax" | "numpy" | "scalar"}, stored under its path, as in
                                 `core.X` or `layers.0.b`
activation                       {"function": name}
object or named tuple of a       {"class": name, "fields": {name: ...}}, an infinite limit as null where
registered class                 its class has it so
===============================  =====================================================================
"""

import dataclasses
import inspect
import math
from typing import Any, NoReturn

import equinox as eqx
import jax
import numpy as np

from .. import train  # noqa: F401 - fitted models and their parts are registered where they are defined
from ..errors import InvalidModelError, ModelFileError
from ..nn import ACTIVATIONS
from ..nn.activations import name_of as function_name
from ..pytrees import field_names, fields_of, traced
from ..registry import CLASSES, Registered, name_of
from ..store.seal import shown

# Equinox' own identity has no public name; a network without a final activation holds it.
_MLP_DEFAULTS = inspect.signature(eqx.nn.MLP.__init__).parameters
FUNCTIONS = {**ACTIVATIONS, "equinox.identity": _MLP_DEFAULTS["final_activation"].default}
"""The functions that a model file may name."""

DTYPES = frozenset(
    ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32",
     "float64", "complex64")
)  # fmt: skip
_DEEPEST = 32

Path = tuple[str, ...]


def encode(value: Any, path: Path, arrays: dict[str, np.ndarray]) -> Any:
    """Return the structure of `value`, and put its arrays into `arrays`. `path` leads to it from the model.

    **Raises:** `InvalidModelError` for a part that a model file cannot hold, with its path.
    """
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        if not math.isfinite(value):
            raise InvalidModelError(
                f"{_name(path)} must be a finite number, got {value!r}; keep it in an array"
            )
        return value
    if type(value) is tuple:
        return [encode(item, (*path, str(k)), arrays) for k, item in enumerate(value)]
    if eqx.is_array(value):
        return _encode_array(value, path, arrays)
    for name, function in FUNCTIONS.items():
        if value is function:
            return {"function": name}
    return _encode_object(value, path, arrays)


def _encode_object(value: Any, path: Path, arrays: dict[str, np.ndarray]) -> dict:
    name = name_of(type(value))
    if name is None:
        _refuse(value, path)
    null = CLASSES[name].null
    fields = {}
    for field, part in fields_of(value).items():
        stored = None if field in null and part == null[field] else part
        fields[field] = encode(stored, (*path, field), arrays)
    return {"class": name, "fields": fields}


def _refuse(value: Any, path: Path) -> NoReturn:
    match value:
        case eqx.Module():
            what = f"a {type(value).__name__}"
            hint = "register its class with @rc.registered(sizes=...), from which the shapes of its arrays follow"
        case _ if callable(value):
            what = f"the function {function_name(value)}"
            hint = f"use one of {', '.join(FUNCTIONS)}, or make it an equinox.Module with @rc.registered()"
        case _:
            what = f"a {type(value).__name__}"
            hint = f"use one of {', '.join(FUNCTIONS)}, or save its arrays yourself"
    raise InvalidModelError(
        f"{_name(path)} must be of a kind that a model file can name, got {what}, which cannot be saved; {hint}"
    )


def _encode_array(value: Any, path: Path, arrays: dict[str, np.ndarray]) -> dict:
    match value:
        case jax.Array():
            kind = "jax"
        case np.generic():
            kind = "scalar"
        case _:
            kind = "numpy"
    plain = kind != "numpy" or type(value) is np.ndarray
    unknown = traced(value)
    if unknown or not plain or value.dtype.name not in DTYPES:
        what = "a value being traced" if unknown else f"a {type(value).__name__} of {value.dtype.name}"
        raise InvalidModelError(
            f"{_name(path)} must be a plain array of numbers to be saved, got {what}; "
            f"save outside of jit, with one of the dtypes {', '.join(sorted(DTYPES))}"
        )
    arrays[_key(path)] = np.asarray(value)
    return {"array": kind}


def decode(node: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Return the model that `encode` wrote, its fields set as they were and no constructor called.

    **Raises:** `ModelFileError` for a structure or arrays that `encode` does not write, and for arrays in
    64 bits where JAX runs in 32.
    """
    # Arrays are taken out as they are used, so that one that nothing reads is found.
    left = dict(arrays)
    model = _decode(node, ("model",), left)
    if left:
        raise ModelFileError(
            f"every array must belong to a field, got also {_some(left)}; save the model again"
        )
    return model


def _decode(node: Any, path: Path, left: dict[str, np.ndarray]) -> Any:
    # Before Python's own limit, which would end in a RecursionError without a position.
    if len(path) > _DEEPEST:
        raise ModelFileError(f"a model must be at most {_DEEPEST} levels deep, got more at {_name(path[:4])}")
    if node is None or type(node) in (bool, int, str) or (type(node) is float and math.isfinite(node)):
        return node
    if type(node) is list:
        return tuple(_decode(item, (*path, str(k)), left) for k, item in enumerate(node))
    if type(node) is dict and node.keys() == {"array"}:
        return _decode_array(node["array"], path, left)
    if type(node) is dict and node.keys() == {"function"}:
        return _look_up(node["function"], FUNCTIONS, "functions", path)
    if type(node) is dict and node.keys() == {"class", "fields"}:
        return _decode_object(node, path, left)
    raise ModelFileError(
        f"{_name(path)} must be what rc.save writes, got {shown(node)}; save the model again"
    )


def _decode_object(node: dict, path: Path, left: dict[str, np.ndarray]) -> Any:
    cls, _, null = _class_named(node["class"], path)
    given, defaults = node["fields"], _defaults(cls)
    # A field that a newer version added has a default, which is what older files mean.
    needed = [
        name for name in field_names(cls) if name not in defaults or (type(given) is dict and name in given)
    ]
    if type(given) is not dict or given.keys() != set(needed):
        got = _some(given) if type(given) is dict else type(given).__name__
        raise ModelFileError(
            f"{_name(path)} must have exactly the fields {', '.join(needed)} of {node['class']}, got {got}; "
            "load it with the robustctl that wrote it, and save again"
        )
    fields = {name: _decode(given[name], (*path, name), left) for name in needed}
    fields = {name: null.get(name) if part is None else part for name, part in fields.items()}
    if issubclass(cls, tuple):
        return cls(**fields)
    # No constructor is called: it could compute anything. Its checks are run below.
    self = object.__new__(cls)
    for name, part in (defaults | fields).items():
        object.__setattr__(self, name, part)
    _run_checks(self, path)
    return self


def _defaults(cls: type) -> dict[str, Any]:
    """Return the defaults of the fields of a dataclass or module; none of a named tuple, which is written whole."""
    if issubclass(cls, tuple):
        return {}
    return {f.name: f.default for f in dataclasses.fields(cls) if f.default is not dataclasses.MISSING}


def import_all() -> None:
    """Import every room of this package whose classes a file may hold."""
    # Slow to import: a file that names none of their classes does without.
    from .. import classical, loops, plants  # noqa: F401


def _class_named(name: Any, path: Path) -> Registered:
    if type(name) is str and name not in CLASSES:
        import_all()
    return _look_up(name, CLASSES, "classes", path)


def _run_checks(value: Any, path: Path) -> None:
    """Run the checks that follow a constructor: `__check_init__` of every parent for modules, `__post_init__` else."""
    name = "__check_init__" if isinstance(value, eqx.Module) else "__post_init__"
    try:
        for cls in type(value).__mro__:
            if name in vars(cls):
                vars(cls)[name](value)
    # A check may trip over anything: its parts have not been compared with each other yet.
    except Exception as error:
        raise ModelFileError(
            f"{_name(path)} must be what rc.save writes, got one that fails with: {error}"
        ) from error


def _decode_array(kind: Any, path: Path, left: dict[str, np.ndarray]) -> Any:
    array = left.pop(_key(path), None)
    if array is None or kind not in ("jax", "numpy", "scalar") or (kind == "scalar" and array.shape):
        raise ModelFileError(
            f"{_name(path)} must be an array of the file's table, got {shown(kind)} and "
            f"{'none there' if array is None else f'shape {array.shape}'}; save the model again"
        )
    if kind == "numpy":
        return array.copy()
    if kind == "scalar":
        return array[()]
    if jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
        raise ModelFileError(
            f"{_name(path)} is {array.dtype} and must stay so, got a JAX that runs in 32 bits; call "
            'jax.config.update("jax_enable_x64", True) before any array is made'
        )
    return jax.device_put(array.copy())  # jnp.array compiles a program for each shape


def _look_up(name: Any, table: dict[str, Any], what: str, path: Path) -> Any:
    if type(name) is not str or name not in table:
        raise ModelFileError(
            f"{_name(path)} must be one of the known {what} {', '.join(table)}, got {shown(name)}; "
            "upgrade robustctl or save the model again"
        )
    return table[name]


def _key(path: Path) -> str:
    return ".".join(path[1:])


def _name(path: Path) -> str:
    return ".".join(path)


def _some(names: Any) -> str:
    names = [str(name)[:40] for name in names]
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
