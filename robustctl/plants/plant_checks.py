"""What a plant of one's own must be, checked when it is made, so that no later error has to be traced back to it."""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from ..checks import are_all
from ..errors import InvalidModelError
from ..pytrees import fields_of, shape_of
from .signal import Signal

if TYPE_CHECKING:
    from .plant import Plant

GROUPS = ("states", "controls", "disturbances", "outputs")
"""The plant's tuples of signals."""


def check_plant(plant: "Plant", own_output: bool) -> None:
    """Check signals, fields and equations of a plant; nothing is computed, only shapes.

    **Arguments:**

    - `plant`: the plant.
    - `own_output`: whether its class defines `output`; the default one needs outputs that are states.

    **Raises:** `InvalidModelError` for the first mistake, with what to write instead.
    """
    for group in GROUPS:
        _check_signals(plant, group, getattr(plant, group, None))
    if not own_output:
        _check_outputs(plant)
    _check_fields(plant)
    _check_equations(plant, own_output)


def _check_signals(plant: "Plant", group: str, given: Any) -> None:
    wanted = f"{type(plant).__name__}.{group} must be a tuple of rc.plants.Signal with different names"
    fields = {field.name for field in dataclasses.fields(plant) if not field.metadata.get("static")}
    match given:
        case None:
            found = f'which is missing; write {group} = (rc.plants.Signal("name", "unit"),), or () for none'
        case Signal():
            found = (
                f"got one Signal; with a comma it is a tuple: {group} = (rc.plants.Signal({given.name!r}),)"
            )
        case _ if not are_all(given, Signal):
            found = f'got {given!r}; write rc.plants.Signal("speed", "m/s") in place of "speed"'
        case _ if len({s.name for s in given}) != len(given):
            found = f"got {[s.name for s in given]}"
        case _ if wrong := [s for s in given if not (are_all([s.name], str) and s.low < s.high)]:
            found = f"whose name is a text and low below high; got {wrong[0]}"
        case _ if group in fields:
            found = f"got a field; write {group}: ClassVar = (...), an attribute of the class"
        case _:
            return
    raise InvalidModelError(f"{wanted}, {found}")


def _check_outputs(plant: "Plant") -> None:
    states = [s.name for s in plant.states]
    unknown = [s.name for s in plant.outputs if s.name not in states]
    if unknown:
        raise InvalidModelError(
            f"{type(plant).__name__}.outputs must be states, of which it has {states}, got {unknown}; measure anything else by a "
            "method output(self, x) that returns the outputs as one array"
        )


def _check_fields(plant: "Plant") -> None:
    """Refuse physical numbers that are no arrays: they could not be trained, randomized or given another dtype."""
    values = fields_of(plant)
    for field in dataclasses.fields(plant):
        name, value = field.name, values[field.name]
        static = field.metadata.get("static") or "unit" in field.metadata
        if not static and isinstance(value, float | list | tuple | np.ndarray | np.number):
            raise InvalidModelError(
                f"{type(plant).__name__}.{name} must be declared as a physical parameter, {name}: Array = "
                f"rc.plants.parameter(value, unit), or as fixed by equinox.field(static=True), got {value!r}"
            )


def _check_equations(plant: "Plant", own_output: bool) -> None:
    nx, nu, nd, ny = map(len, (plant.states, plant.controls, plant.disturbances, plant.outputs))
    point = _traced(plant, "operating_point()", plant.operating_point)
    match point:
        case tuple((x, u)) if (shape_of(x), shape_of(u)) == ((nx,), (nu,)):
            pass
        case _:
            raise InvalidModelError(
                f"{type(plant).__name__}.operating_point() must return two arrays (x, u) of shapes {(nx,)} and {(nu,)}, got {point}"
            )
    d = jax.ShapeDtypeStruct((nd,), x.dtype)
    _check_array(plant, "rates(x, u, d)", _traced(plant, "rates(x, u, d)", plant.rates, x, u, d), nx)
    if own_output:
        _check_array(plant, "output(x)", _traced(plant, "output(x)", plant.output, x), ny)
    _check_array(plant, "constrain(x)", _traced(plant, "constrain(x)", plant.constrain, x), nx)


def _traced(plant: "Plant", what: str, function: Callable, *args: jax.ShapeDtypeStruct) -> Any:
    """Return the shapes of what one of the plant's functions returns."""
    try:
        return jax.eval_shape(lambda *given: function(*given), *args)
    except Exception as error:
        shapes = ", ".join(str(a.shape) for a in args) or "no arguments"
        raise InvalidModelError(
            f"{type(plant).__name__}.{what} must compute with jax.numpy, and with jnp.where in place of if; for shapes {shapes} it "
            f"raised: {error}"
        ) from error


def _check_array(plant: "Plant", what: str, found: Any, count: int) -> None:
    if shape_of(found) == (count,) and jnp.issubdtype(found.dtype, jnp.complexfloating):
        raise InvalidModelError(f"{type(plant).__name__}.{what} must return real numbers, got {found.dtype}")
    if shape_of(found) != (count,):
        raise InvalidModelError(
            f"{type(plant).__name__}.{what} must return one array of shape {(count,)}, got {found}; jnp.stack makes an array of a list"
        )
