"""From a jaxpr, JAX's form of a traced function, to operations: inlined, constants evaluated, equal operations once."""

import collections
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

from ..errors import InvalidModelError
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
    """

    def __init__(self, dtype: str):
        self.dtype = np.dtype(dtype)
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
        return self.run(jaxpr.jaxpr, jaxpr.consts, args)

    def run(self, jaxpr: Any, consts: Sequence[Any], args: Sequence[Known]) -> list[Known]:
        """Translate a jaxpr, given its constants and arguments."""
        known: dict[Any, Known] = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *args), strict=True))

        def read(atom: Any) -> Known:
            return atom.val if isinstance(atom, Literal) else known[atom]

        for eqn in jaxpr.eqns:
            try:
                results = self._equation(eqn, [read(atom) for atom in eqn.invars])
            except InvalidModelError as error:
                raise _placed(error, eqn) from error
            known.update(zip(eqn.outvars, results, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _equation(self, eqn: Any, operands: list[Known]) -> Sequence[Known]:
        name, shapes = eqn.primitive.name, [v.aval.shape for v in eqn.outvars]
        # Arrays without entries are constants; a program has none of them.
        if shapes and all(0 in shape for shape in shapes):
            return [np.zeros(v.aval.shape, v.aval.dtype) for v in eqn.outvars]
        if (inner := inlined(name, eqn.params, operands)) is not None:
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


_BODIES = {
    "jit": "jaxpr", "pjit": "jaxpr", "checkpoint": "jaxpr", "remat2": "jaxpr", "closed_call": "call_jaxpr", "core_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr",
}  # fmt: skip


def inlined(name: str, params: dict, operands: list[Known]) -> tuple[ClosedJaxpr, list[Known]] | None:
    """Return the jaxpr that a call runs, and its arguments; None for another primitive."""
    if name == "custom_linear_solve":
        counts = params["const_lengths"]
        before = counts.matvec + counts.vecmat
        right = operands[sum(counts) :]
        return params["jaxprs"].solve, [*operands[before : before + counts.solve], *right]
    if name not in _BODIES:
        return None
    body = params[_BODIES[name]]
    return (body if isinstance(body, ClosedJaxpr) else ClosedJaxpr(body, ())), operands


def _platform(platforms: tuple) -> int:
    """Return the branch that JAX itself takes on a CPU."""
    named = [k for k, names in enumerate(platforms) if names is not None and "cpu" in names]
    return named[0] if named else platforms.index(None)


def _constant(known: Known) -> bool:
    return not isinstance(known, Value) or known.data is not None


def _plain(atom: Any) -> bool:
    """Return whether a program has values of this dtype."""
    return jax.dtypes.issubdtype(atom.aval.dtype, np.floating) or str(atom.aval.dtype) in DTYPES


def _evaluated(eqn: Any, operands: list[Known]) -> Sequence[Known]:
    """Evaluate an equation, the same at every step, once."""
    arrays = [jax.numpy.asarray(known.data) if isinstance(known, Value) else known for known in operands]
    found = eqn.primitive.bind(*arrays, **eqn.params)
    return found if eqn.primitive.multiple_results else [found]


class Placed(InvalidModelError):
    """A `InvalidModelError` that names a line of the source."""


def _placed(error: InvalidModelError, eqn: Any) -> InvalidModelError:
    place = _place(eqn)
    # JAX's own functions have none: the call of them has.
    if isinstance(error, Placed) or not place:
        return error
    return Placed(f"{error} ({eqn.primitive.name} at {place})")


def _place(eqn: Any) -> str:
    """Return file, line and function of an equation, as far as JAX knows them."""
    try:
        from jax._src.source_info_util import summarize  # JAX has no public name for it
    except ImportError:
        return ""
    return summarize(eqn.source_info)
