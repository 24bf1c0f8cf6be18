"""Traced functions as JAX writes them, jaxprs: gone through equation by equation, with the bodies of calls."""

from collections.abc import Callable, Sequence
from typing import Any

from jax.extend.core import ClosedJaxpr, Literal

_BODIES = {
    "jit": "jaxpr", "pjit": "jaxpr", "checkpoint": "jaxpr", "remat2": "jaxpr", "closed_call": "call_jaxpr", "core_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr", "custom_lin": "call_jaxpr",
}  # fmt: skip
"""Operations that call another program, and the parameter that holds it."""


def called(equation: Any) -> ClosedJaxpr | None:
    """Return the program that an equation calls, without the rules for derivatives that come with it; None for another operation."""
    name = _BODIES.get(equation.primitive.name)
    if name is None:
        return None
    body: Any = equation.params[name]
    return body if isinstance(body, ClosedJaxpr) else ClosedJaxpr(body, ())


def walk(
    traced: ClosedJaxpr,
    args: Sequence[Any],
    results: Callable[[Any, list], Sequence[Any]],
    constant: Callable[[Any], Any],
) -> list[Any]:
    """Return what is found of a program's outputs, from what is known of its arguments.

    **Arguments:**

    - `traced`: the program.
    - `args`: what is known of each argument.
    - `results`: what is found of an equation's results, given the equation and what is known of its operands.
    - `constant`: what is known of a constant.
    """  # fmt: skip
    jaxpr: Any = traced.jaxpr
    known: dict[Any, Any] = dict(zip(jaxpr.constvars, map(constant, traced.consts), strict=True))
    known.update(zip(jaxpr.invars, args, strict=True))

    def read(atom: Any) -> Any:
        return constant(atom.val) if isinstance(atom, Literal) else known[atom]

    for equation in jaxpr.eqns:
        known.update(zip(equation.outvars, results(equation, list(map(read, equation.invars))), strict=True))
    return list(map(read, jaxpr.outvars))
