"""From a jaxpr, JAX's form of a traced function, to operations: inlined, constants evaluated, equal operations once."""

import collections
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr

from ..errors import InvalidModelError
from ..jaxprs import called, walk
from ..runtime.program import DTYPES, Block, Operation, Value, registers
from .fold import BY_NUMPY, folded

Known = Any
"""What the environment holds of a variable: a `Value`, or an array where it is the same at every step."""
RULES: dict[str, Callable[..., Any]] = {}
"""What translates a primitive, by its name: `(translator, Call, *operands)`, operands as values."""
rule = registers(RULES)


class Call(NamedTuple):
    """A primitive as its rule sees it.

    **Arguments:**

    - `name`: of the primitive.
    - `params`: its parameters.
    - `types`: shape and kind of dtype of each result.
    """

    name: str
    params: dict[str, Any]
    types: tuple[tuple[tuple[int, ...], str], ...]


class Translator:
    """Collects the operations of a program while its jaxpr is gone through.

    **Arguments:**

    - `dtype`: of the program.
    - `for_integers`: whether scans are written out, and the logistic function is written as a tanh.
    """

    def __init__(self, dtype: str, for_integers: bool = False):
        self.dtype, self.for_integers = np.dtype(dtype), for_integers
        self.operations: list[Operation] = []
        self.seen: collections.ChainMap = collections.ChainMap()
        self.constants: dict[Any, Value] = {}
        self.permutations: dict[Value, Value] = {}

    def kind(self, dtype: Any) -> str:
        """Return a program's word for a dtype.

        **Raises:** `InvalidModelError` for one that programs do not have.
        """
        if jax.dtypes.issubdtype(dtype, np.floating):
            return "float"
        if str(dtype) in DTYPES:
            return str(dtype)
        raise InvalidModelError(
            f"arrays must be real numbers, int32, int64 or bool, got {dtype}; random numbers and complex ones are not exported"
        )

    def constant(self, array: Any) -> Value:
        """Return a constant; equal ones are one."""
        array = np.asarray(array)
        if array.dtype == np.int64 and self.dtype == np.float32:
            array = array.astype(np.int32)  # as JAX does it without 64 bits
        kind = self.kind(array.dtype)
        array = np.array(array, self.dtype if kind == "float" else array.dtype, order="C")
        key = kind, array.shape, array.tobytes()
        return self.constants.setdefault(key, Value(array.shape, kind, array))

    def value(self, known: Known) -> Value:
        """Return what the environment holds as a value."""
        return known if isinstance(known, Value) else self.constant(known)

    def emit(
        self, kind: str, operands: Sequence[Value], shape: Sequence[int], dtype: str, **params: Any
    ) -> Value:
        """Return the result of an operation with one."""
        return self.emit_all(kind, operands, [(tuple(shape), dtype)], **params)[0]

    def emit_all(
        self, kind: str, operands: Sequence[Value], types: Sequence[tuple], **params: Any
    ) -> tuple[Value, ...]:
        """Return the results of an operation, of an equal earlier one where there is one."""
        if (found := folded(kind, operands, types, params)) is not None:
            return (self.constant(found),)
        key = kind, tuple(operands), tuple(types), repr(sorted(params.items()))
        # The same numbers twice, where both output and state need an estimate, for example.
        if key not in self.seen:
            results = tuple(Value(tuple(map(int, shape)), dtype) for shape, dtype in types)
            self.operations.append(Operation(kind, tuple(operands), results, params))
            self.seen[key] = results
        return self.seen[key]

    def block(self, inputs: Sequence[Value], body: Callable[[], Sequence[Known]]) -> Block:
        """Return the operations that `body` emits as a block."""
        outer, self.operations, self.seen = self.operations, [], self.seen.new_child()
        try:
            outputs = tuple(self.value(known) for known in body())
            return Block(tuple(inputs), tuple(self.operations), outputs)
        finally:
            self.operations, self.seen = outer, self.seen.parents

    def closed(self, jaxpr: ClosedJaxpr, args: Sequence[Known]) -> list[Known]:
        """Translate a jaxpr with its constants, and return what its results are."""
        return walk(jaxpr, args, self._placed, lambda array: array)

    def _placed(self, eqn: Any, operands: list[Known]) -> Sequence[Known]:
        """Translate an equation; an error names its line of the source, the innermost one that is known."""
        try:
            return self._equation(eqn, operands)
        except PlacedError:
            raise
        except InvalidModelError as error:
            # JAX's own functions have none: the call of them has.
            if not (place := _place(eqn)):
                raise
            raise PlacedError(f"{error} ({eqn.primitive.name} at {place})") from error

    def _equation(self, eqn: Any, operands: list[Known]) -> Sequence[Known]:
        name, shapes = eqn.primitive.name, [v.aval.shape for v in eqn.outvars]
        # Arrays without entries are constants; a program has none of them.
        if shapes and all(0 in shape for shape in shapes):
            return [np.zeros(v.aval.shape, v.aval.dtype) for v in eqn.outvars]
        if (inner := inlined(eqn, operands)) is not None:
            return self.closed(*inner)
        if name == "platform_index":
            return [np.int32(_platform(eqn.params["platforms"]))]
        by_numpy = name in BY_NUMPY and all(map(_plain, (*eqn.invars, *eqn.outvars)))
        if not eqn.effects and all(map(_constant, operands)) and not by_numpy:
            return _evaluated(eqn, operands)
        if name not in RULES:
            raise InvalidModelError(
                f"every operation of step must have a translation, and JAX's {name} has none; write it with arithmetic, comparisons, "
                "jnp.where, products, lax.scan, lax.cond or small linear solves"
            )
        types = tuple((v.aval.shape, self.kind(v.aval.dtype)) for v in eqn.outvars)
        found = RULES[name](self, Call(name, eqn.params, types), *map(self.value, operands))
        return found if isinstance(found, list | tuple) else [found]


def inlined(eqn: Any, operands: list[Known]) -> tuple[ClosedJaxpr, list[Known]] | None:
    """Return the jaxpr that a call runs, and its arguments; None for another primitive."""
    if eqn.primitive.name == "custom_linear_solve":
        counts = eqn.params["const_lengths"]
        before = counts.matvec + counts.vecmat
        right = operands[sum(counts) :]
        return eqn.params["jaxprs"].solve, [*operands[before : before + counts.solve], *right]
    body = called(eqn)
    return None if body is None else (body, operands)


def _platform(platforms: tuple) -> int:
    """Return the branch that JAX itself takes on a CPU."""
    named = [k for k, names in enumerate(platforms) if names is not None and "cpu" in names]
    return named[0] if named else platforms.index(None)


def _array(known: Known) -> Any:
    """Return the array of what is the same at every step; None for anything else."""
    return known.data if isinstance(known, Value) else known


def _constant(known: Known) -> bool:
    return _array(known) is not None


def _plain(atom: Any) -> bool:
    """Return whether a program has values of this dtype."""
    return jax.dtypes.issubdtype(atom.aval.dtype, np.floating) or str(atom.aval.dtype) in DTYPES


def _evaluated(eqn: Any, operands: list[Known]) -> Sequence[Known]:
    """Evaluate an equation, the same at every step, once."""
    found = eqn.primitive.bind(*map(_array, operands), **eqn.params)
    return found if eqn.primitive.multiple_results else [found]


class PlacedError(InvalidModelError):
    """An `InvalidModelError` that names a line of the source."""


def _place(eqn: Any) -> str:
    """Return file, line and function of an equation, as far as JAX knows them."""
    try:
        from jax._src.source_info_util import summarize  # JAX has no public name for it
    except ImportError:
        return ""
    return summarize(eqn.source_info)
