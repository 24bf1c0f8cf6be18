"""The run-time type checks of the tests: jaxtyping's where an annotation has a shape, beartype's alone everywhere else.

jaxtyping binds the arguments of each call and checks them twice, so that it knows the sizes of axes; without axes the checks are the same.
"""

import functools
import types
from typing import Any, get_args, get_type_hints

import jaxtyping
from beartype import beartype
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import TypeCheckError, install_import_hook

with_shapes = jaxtyping.jaxtyped


def resolved(function: types.FunctionType) -> dict[str, Any]:
    """The annotations of a function; `Any` for those that refer to what is not there at run time, as jaxtyping does."""
    hints = {}
    for name, hint in function.__annotations__.items():
        alone = types.FunctionType((lambda: None).__code__, function.__globals__)
        alone.__annotations__ = {name: hint}
        try:
            hints |= get_type_hints(alone, include_extras=True)
        except Exception:  # evaluating a string may raise anything
            hints[name] = Any
    return hints


def has_shape(hint: Any) -> bool:
    parts = hint if isinstance(hint, list) else get_args(hint)
    return type(hint).__module__.startswith("jaxtyping") or any(map(has_shape, parts))


def checked(function: types.FunctionType) -> Any:
    """A function that checks its arguments and its result; itself where nothing is annotated."""
    if not function.__annotations__:
        return function
    hints = resolved(function)
    if any(map(has_shape, hints.values())):
        return with_shapes(function, typechecker=beartype)
    twin = types.FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    twin.__kwdefaults__, twin.__annotations__ = function.__kwdefaults__, hints
    twin.__qualname__, twin.__module__ = function.__qualname__, function.__module__
    twin = beartype(twin)

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        __tracebackhide__ = True
        if jaxtyping.config.jaxtyping_disable:
            return function(*args, **kwargs)
        try:
            return twin(*args, **kwargs)
        except BeartypeCallHintViolation as error:
            raise TypeCheckError(
                f"the annotations of {function.__qualname__} do not hold: {error}"
            ) from error

    return wrapped


def jaxtyped(*given: Any, **settings: Any) -> Any:
    """jaxtyping's own, except for what the import hook writes before each function: a decorator with a checker."""
    if given or settings.get("typechecker") is None:
        return with_shapes(*given, **settings)
    return lambda made: (
        checked(made) if isinstance(made, types.FunctionType) else with_shapes(made, **settings)
    )


def install(rooms: list[str]):
    """Return the context in which rooms are imported with checks; functions inside of functions are decorated later too."""
    jaxtyping.jaxtyped = jaxtyped
    return install_import_hook(rooms, "beartype.beartype")
