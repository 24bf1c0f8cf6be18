"""From a system to a program: its step is traced once, at the shapes of its initial state and of one sample of the input."""

import contextlib
import re
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from ..checks import is_positive, of_type
from ..errors import InvalidModelError
from ..runtime.program import Program, Signals, State, Value
from ..system import Parameterization, System, dtype_of, explicit_of
from . import rules, rules_index, rules_linalg, rules_loops  # noqa: F401  # registers what they translate
from .prune import pruned
from .translate import Translator


class Traced(NamedTuple):
    """A program, and how a system's own arrays are arranged in it.

    **Arguments:**

    - `program`: the program.
    - `x`: the initial state, arrays of NumPy as the system arranges them.
    - `u`: one sample of the input.
    - `y`: shapes and dtypes of the output.
    """

    program: Program
    x: PyTree
    u: PyTree
    y: PyTree


def program(
    system: System | Parameterization,
    *,
    name: str = "model",
    dtype: Any = None,
    u: PyTree = None,
    dt: float | None = None,
) -> Program:
    """Return a system's step as a program without JAX.

    **Arguments:**

    - `system`: any system, or a parameterization, of which `explicit()` is taken. It is exported as `prepare()` arranges it, an R2DN
      with neighboring linear maps multiplied out.
    - `name`: an identifier, with which the names in its code begin.
    - `dtype`: `float32` or `float64`, to which its arrays are rounded; default that of its arrays.
    - `u`: one sample of the input, whose shapes count; needed for a system without `nu`.
    - `dt`: sample time in seconds; default the system's own.

    **Raises:** `InvalidModelError` for something else than a system, another dtype, a name that is no identifier or a keyword of C, NaN
    among the arrays, a step whose shapes change, and one that cannot be translated: the message names the operation and its
    place in the source.

    **Example:** ::

        pid = rc.classical.PID(4.0, 2.0, 0.4, dt=0.02, low=-1.0, high=1.0)
        assert rc.export.program(pid, name="pid").state
    """
    return traced(system, name=name, dtype=dtype, u=u, dt=dt).program


def traced(
    system: Any, *, name: str, dtype: Any = None, u: PyTree = None, dt: float | None = None, for_integers: bool = False
) -> Traced:  # fmt: skip
    """Return the program with the arrangement of its arrays; arguments and errors are those of `program`.

    `for_integers`: whether it is to be one that fixed point has, with `lax.scan` written out and the logistic function as a tanh.
    """
    check_name(name)
    with ready(system, dtype=dtype, u=u, dt=dt) as found:
        jaxpr, (after, y) = _jaxpr(found.system, found.x, found.u)
        _check_state(found.x, after)
        trees = found.x, found.u, y
        t = Translator(found.dtype.name, for_integers)
        made = _translated(t, found.system, jaxpr, trees, (name, found.dtype.name, found.dt))
    return Traced(made, jax.tree.map(np.asarray, found.x), jax.tree.map(np.asarray, found.u), y)


class Ready(NamedTuple):
    """A system as it is traced, its floats of one dtype, with its initial state and one sample of its input."""

    system: System
    x: PyTree
    u: PyTree
    dtype: np.dtype
    dt: float | None


@contextlib.contextmanager
def ready(system: Any, *, dtype: Any = None, u: PyTree = None, dt: float | None = None) -> Iterator[Ready]:
    """Check a system and prepare it; what is traced inside has the precision asked for."""
    system = of_type(
        explicit_of(system), System, "what is exported must be a System or a Parameterization",
        "of a design give its controller, of a python-control system rc.classical.policy(K, plant)", InvalidModelError,
    )  # fmt: skip
    dt = _sample_time(system, dt)
    system, dtype = prepared(system, dtype)
    # In the program's own precision JAX makes the constants that a step creates of that precision.
    with tracing(dtype):
        x = _in_dtype(jax.tree.map(jnp.asarray, system.init_state()), dtype)
        u = _in_dtype(jax.tree.map(jnp.asarray, _one_sample(system) if u is None else u), dtype)
        yield Ready(system, x, u, dtype, dt)


def prepared(system: System, dtype: Any) -> tuple[System, np.dtype]:
    """Return a system as it is exported, arranged for many steps and rounded to a precision, and that precision.

    **Raises:** `InvalidModelError` for another dtype than float32 and float64, and for NaN among the arrays.
    """
    _check_numbers(system)
    dtype = _dtype(system, dtype)
    with tracing(_own_dtype(system)):
        system = system.prepare()
    with tracing(dtype):
        return _in_dtype(system, dtype), dtype


@contextlib.contextmanager
def tracing(dtype: Any) -> Iterator[None]:
    """Trace with a precision, and with JAX's own rules for mixed dtypes and ranks, whatever the user has set."""
    with (
        jax.enable_x64(dtype == np.float64),
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
        warnings.catch_warnings(),
    ):
        # Arrays in float64 that a step has from elsewhere are rounded, as asked for.
        warnings.filterwarnings("ignore", "Explicitly requested dtype", UserWarning)
        yield


def _translated(t: Translator, system: System, jaxpr: Any, trees: tuple, about: tuple) -> Program:
    x, u, y = trees
    name, dtype, dt = about
    arguments = [_argument(t, leaf) for leaf in jax.tree.leaves((x, u))]
    with jax.ensure_compile_time_eval():
        found = [t.value(known) for known in t.closed(jaxpr, arguments)]
    n = len(jax.tree.leaves(x))
    starts = [np.asarray(leaf) for leaf in jax.tree.leaves(x)]
    state = tuple(
        State(label, value, after, start.astype(t.dtype) if value.dtype == "float" else start)
        for label, value, after, start in zip(_names("x", x), arguments, found[:n], starts, strict=False)
        if start.size
    )
    inputs = _signals("u", u, arguments[n:], system.inputs, system.input_units, system.flags)
    outputs = _signals("y", y, found[n:], system.outputs, system.output_units)
    return pruned(Program(name, dt, dtype, state, inputs, outputs, tuple(t.operations)))


def _argument(t: Translator, leaf: Any) -> Any:
    """Return the value of a leaf of state or input; arrays without entries are constants."""
    return Value(leaf.shape, t.kind(leaf.dtype)) if leaf.size else np.asarray(leaf)


def _signals(
    base: str, tree: PyTree, values: list, labels: Any, units: Any, flags: tuple[int, ...] = ()
) -> tuple[Signals, ...]:
    named = [pair for pair in zip(_names(base, tree), values, strict=True) if pair[1].size]
    if len(named) != 1 or len(named[0][1].shape) != 1:
        return tuple(Signals(name, value) for name, value in named)
    ((name, value),) = named
    known = [
        tuple(each) if each is not None and len(each) == value.size else None for each in (labels, units)
    ]
    return (Signals(name, value, *known, flags=tuple(flags)),)


def _names(base: str, tree: PyTree) -> list[str]:
    """Return an identifier for each leaf: `x` for a single array, `x_plant_queue` for one in a structure."""
    names: list[str] = []
    for path, _ in jax.tree_util.tree_leaves_with_path(tree):
        inside = re.sub(r"\W+", "_", jax.tree_util.keystr(path, simple=True, separator="_"), flags=re.ASCII)
        name = f"{base}_{inside.strip('_')}" if path else base
        while name in names:
            name += "_"
        names.append(name)
    return names


def _jaxpr(system: System, x: PyTree, u: PyTree) -> Any:
    """Trace the step.

    **Raises:** `InvalidModelError` where it does not take the shapes, or depends on values in Python.
    """
    try:
        return jax.make_jaxpr(lambda x, u: system.step(x, u), return_shape=True)(x, u)
    except jax.errors.ConcretizationTypeError as error:
        raise InvalidModelError(
            f"step must compute the same operations whatever the values are, so that it can be traced; use jnp.where, lax.cond or "
            f"lax.scan in place of Python's if and while. It raised: {str(error).splitlines()[0]}"
        ) from error
    except (TypeError, ValueError, IndexError) as error:
        shapes = [jax.tree.map(jnp.shape, tree) for tree in (x, u)]
        raise InvalidModelError(
            f"step must take a state and one sample of shapes {shapes[0]} and {shapes[1]}; give u=, one sample of the input, for a "
            f"system that reads another. It raised: {error}"
        ) from error


def _check_state(x: PyTree, after: PyTree) -> None:
    """Refuse a state whose shapes or dtypes a step changes."""
    before, now = ([(a.shape, str(a.dtype)) for a in jax.tree.leaves(tree)] for tree in (x, after))
    if jax.tree.structure(x) != jax.tree.structure(after) or before != now:
        raise InvalidModelError(
            f"the state must keep its shapes and dtypes, got {before} before a step and {now} after it"
        )


def _one_sample(system: System) -> PyTree:
    """Return one sample of a system's input.

    **Raises:** `InvalidModelError` where the class does not define it.
    """
    if system.nu is not None and type(system).undisturbed is System.undisturbed:
        return jnp.zeros(system.nu)  # without the dtype of a state, which a static system lacks
    try:
        return system.one_sample()
    except InvalidModelError as error:
        raise InvalidModelError(
            f"one sample of the input must be known, and {type(system).__name__} does not define how many inputs it has; give u=, for "
            "example jnp.zeros(2), or a pair (control, measured output) for an estimator"
        ) from error


def _sample_time(system: System, dt: float | None) -> float | None:
    own = system.dt
    if dt is None:
        return own
    if not is_positive(dt) or (own is not None and not np.isclose(own, dt, rtol=1e-9, atol=0)):
        raise InvalidModelError(
            f"dt must be the positive sample time in seconds that the system was made for, {own}, got {dt!r}"
        )
    return float(dt)


def _dtype(system: System, dtype: Any) -> np.dtype:
    try:
        found = np.dtype(_own_dtype(system) if dtype is None else dtype)
    except TypeError:
        found = None
    if found not in (np.float32, np.float64):
        raise InvalidModelError(
            f"dtype must be float32 or float64, got {dtype if found is None else found}; fixed point, q4 to q31, is for C"
        )
    return found


def _own_dtype(system: System) -> Any:
    """Return the dtype of a system's arrays, of its state where it has none, JAX's own where that has none either."""
    for tree in (system, system.init_state()):
        if any(eqx.is_inexact_array(leaf) for leaf in jax.tree.leaves(tree)):
            return dtype_of(tree)
    return jnp.zeros(()).dtype


def _in_dtype(tree: PyTree, dtype: np.dtype) -> PyTree:
    """Return a pytree with its floating-point arrays rounded to a dtype."""

    def rounded(leaf: Any) -> Any:
        if not eqx.is_inexact_array(leaf) or leaf.dtype == dtype:
            return leaf
        return jax.device_put(np.asarray(leaf).astype(dtype))

    return jax.tree.map(rounded, tree)


def _check_numbers(system: System) -> None:
    """Refuse NaN and complex numbers among the arrays."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(system):
        if eqx.is_inexact_array(leaf) and (np.iscomplexobj(leaf) or np.isnan(leaf).any()):
            raise InvalidModelError(
                f"every array of the system must be real and without NaN, and {jax.tree_util.keystr(path)} is not"
            )


KEYWORDS = frozenset(
    re.findall(
        r"\w+",
        """alignas alignof and and_eq asm auto bitand bitor bool break case catch char class compl const constexpr const_cast continue
        decltype default delete do double dynamic_cast else enum explicit export extern false float for friend goto if inline int long
        mutable namespace new noexcept not not_eq nullptr operator or or_eq private protected public register reinterpret_cast restrict
        return short signed sizeof static static_assert static_cast struct switch template this thread_local throw true try typedef
        typeid typename typeof union unsigned using virtual void volatile wchar_t while xor xor_eq""",
    )
)
"""Of C and C++."""


def check_name(name: Any) -> None:
    """Raise `InvalidModelError` unless a name is an identifier that is no keyword of C or C++."""
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or name in KEYWORDS:
        raise InvalidModelError(
            f"name must be an identifier, a letter and then letters, digits and underscores, and no keyword of C or C++, got {name!r}"
        )
