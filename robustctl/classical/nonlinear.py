"""Any system as a `control.NonlinearIOSystem`, for python-control's simulation, trimming and interconnection."""

from collections.abc import Callable, Sequence
from typing import Any

import control as ct
import jax
import jax.numpy as jnp
import numpy as np

from ..errors import ModelError
from .flat import chosen_names, flatten, in_float64


def to_nonlinear_io(
    system: Any,
    *,
    dt: float | None = None,
    inputs: Sequence[str] | int | None = None,
    outputs: Sequence[str] | None = None,
    states: Sequence[str] | None = None,
    references: int = 0,
    u0: Any = None,
    name: str | None = None,
) -> ct.NonlinearIOSystem:
    """Return any system, plant or loop as a `control.NonlinearIOSystem`.

    ::

        x+ = updfcn(t, x, u, params),    y = outfcn(t, x, u, params)        (dx/dt for a `Plant`, whose dt is 0)

    The callbacks take and give float64 NumPy vectors and compute in float64 even where 64-bit JAX is off,
    so that finite differences in python-control keep their digits. Pytrees of states are laid out in one
    vector. A `Plant` or `Sampled` has the input `[u, d]`, a feedback loop `[d, r]` and the output `[y, u]`.

    **Arguments:** `dt`: seconds a sample, needed where the system does not know it; `inputs outputs states`:
    names (a number for `inputs` where only the width is missing); `references`: how many a loop has; `u0`: one
    sample of the input for a system whose input is not one array.

    **Raises:** `ModelError` for a missing or contradicting `dt`, names that do not fit, and an unknown width of
    the input.
    """
    width = u0 if u0 is not None else inputs if isinstance(inputs, int) or inputs is None else len(inputs)
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


def sample_time(known: float | None, given: float | None, system: Any) -> float:
    """Return the sample time that a system knows or that was given.

    **Raises:** `ModelError` where neither is there, they differ, or the one given is no number of seconds.
    """
    kind = type(system).__name__
    if known is None and given is None:
        raise ModelError(f"a {kind} does not know its sample time; give dt in seconds")
    if given is not None and (isinstance(given, bool) or not 0 <= given < np.inf):
        raise ModelError(f"dt must be a finite number of seconds, got {given!r}")
    if known is not None and given is not None and not np.isclose(known, given, rtol=1e-9, atol=0):
        raise ModelError(f"dt must be that of the system, {known} s, got {given} s; leave it out")
    dt = given if known is None else known
    assert dt is not None
    return float(dt)


def _callbacks(step: Callable) -> tuple[Callable, Callable]:
    compiled = [jax.jit(lambda x, u, k=k: step(x, u)[k]) for k in range(2)]

    @in_float64
    def call(function, x, u):
        return np.array(function(jnp.asarray(x, jnp.float64), jnp.asarray(u, jnp.float64)))

    def update(t, x, u, params):
        return call(compiled[0], x, u)

    def output(t, x, u, params):
        return call(compiled[1], x, u)

    return update, output
