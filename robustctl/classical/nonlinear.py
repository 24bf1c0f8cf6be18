"""Any system as a `control.NonlinearIOSystem`, for python-control's simulation, trimming and interconnection."""

import functools
from collections.abc import Callable, Sequence

import control as ct
import equinox as eqx
import jax
import numpy as np
from jaxtyping import PyTree

from ..checks import is_real
from ..errors import InvalidModelError
from .flat import chosen_names, flatten, in_float64
from .types import LinearLike, SystemLike


def to_nonlinear_io(
    system: SystemLike,
    *,
    dt: float | None = None,
    inputs: Sequence[str] | int | None = None,
    outputs: Sequence[str] | None = None,
    states: Sequence[str] | None = None,
    references: int = 0,
    u0: PyTree = None,
    name: str | None = None,
) -> ct.NonlinearIOSystem:
    """Convert any system, plant or loop to a `control.NonlinearIOSystem`.

    ::

        x+ = updfcn(t, x, u, params),    y = outfcn(t, x, u, params)        (dx/dt for a `Plant`, whose dt is 0)

    The callbacks take and return float64 NumPy vectors and compute in float64 even if 64-bit JAX is off,
    so that finite differences in python-control are accurate. A pytree of states becomes one vector. A `Plant` or
    `Sampled` has the input `[u, d]`, a feedback loop the input `[d, r]` and the output `[y, u]`.

    **Arguments:**

    - `system`: a system, a plant, or a feedback loop about a sampled plant
    - `dt`: seconds per sample, for a system that does not define its sample time
    - `inputs`: names, or a number if only the width is missing
    - `outputs`: names
    - `states`: names
    - `references`: number of references of a loop
    - `u0`: one sample of the input, for a system whose input is not one array
    - `name`: the name of the result

    **Raises:** `InvalidModelError` for a missing or contradicting `dt`, names that do not fit, and an unknown width of
    the input.

    **Example:** ::

        import control as ct
        tanks = rc.classical.to_nonlinear_io(rc.plants.TwoTanks())
        response = ct.input_output_response(tanks, [0.0, 1.0, 2.0], 0.0, [8.0, 12.0])
    """
    width = u0 if u0 is not None else inputs if inputs is None or is_real(inputs) else len(inputs)
    flat = flatten(system, width, references)
    update, output = _callbacks(flat.step)
    return ct.NonlinearIOSystem(
        update,
        output,
        inputs=chosen_names(inputs, flat.inputs, "inputs"),
        outputs=chosen_names(outputs, flat.outputs, "outputs"),
        states=chosen_names(states, flat.states, "states"),
        dt=sample_time(flat.dt, dt, system),
        name=name,
    )


def sample_time(known: float | None, given: float | None, system: SystemLike | LinearLike) -> float:
    """Return the sample time of a system or the one that was given for it.

    **Raises:** `InvalidModelError` if both are missing, if they differ, and if the given one is not a number of seconds.
    """
    kind = type(system).__name__
    if known is None and given is None:
        raise InvalidModelError(f"the sample time must be known, but a {kind} has none; give dt in seconds")
    if given is not None and not (is_real(given) and 0 <= given < np.inf):
        raise InvalidModelError(f"dt must be a finite number of seconds, got {given!r}")
    if known is not None and given is not None and not np.isclose(known, given, rtol=1e-9, atol=0):
        raise InvalidModelError(f"dt must be that of the system, {known} s, got {given} s; omit it")
    dt = given if known is None else known
    assert dt is not None
    return float(dt)


def _callbacks(step: Callable) -> tuple[Callable, Callable]:
    """Return `updfcn` and `outfcn`, compiled apart: each drops what only the other needs."""
    # Taken apart once: equinox.filter_jit would do it at every call, which takes longer than the step itself.
    arrays, rest = eqx.partition(step, eqx.is_array)
    leaves, structure = jax.tree.flatten(arrays)
    others, other_structure = jax.tree.flatten(rest)
    fixed = _Fixed((structure, other_structure, tuple(others)))

    @in_float64
    def call(part, x, u):
        return np.array(_part(fixed, part, leaves, np.asarray(x, float), np.asarray(u, float)))

    def update(t, x, u, params):
        return call(0, x, u)

    def output(t, x, u, params):
        return call(1, x, u)

    return update, output


class _Fixed:
    """What of a step is not an array, with its hash taken once; equal ones share a compiled function."""

    def __init__(self, parts: tuple):
        self.parts, self._hash = parts, hash(parts)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other) -> bool:
        return self is other or (isinstance(other, _Fixed) and self.parts == other.parts)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _part(fixed: _Fixed, part: int, leaves: list[jax.Array], x: jax.Array, u: jax.Array):
    structure, other_structure, others = fixed.parts
    step = eqx.combine(jax.tree.unflatten(structure, leaves), jax.tree.unflatten(other_structure, others))
    return step(x, u)[part]
