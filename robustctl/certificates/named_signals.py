"""The form of a system between its disturbances and its outputs, by name."""

from typing import NamedTuple

import numpy as np

from ..errors import InvalidModelError
from ..lft import LFT
from ..system import System
from .faults import form_fault, system_fault


class Signals(NamedTuple):
    """A form, and the names of its inputs and outputs with the outputs' units."""

    form: LFT
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    units: tuple[str, ...]


def signals_of(system: System) -> Signals:
    """Return the form of a system with named signals; of a loop from disturbances and noise to outputs, controls and states.

    **Raises:** `InvalidModelError` for a system that does not describe itself, or switches between modes.
    """
    if not isinstance(system, System) or (form := system.lft()) is None:
        raise InvalidModelError(
            f"the system must describe itself, and {type(system).__name__} has no lft(); a nonlinear plant has one on a box: "
            "rc.certificates.region"
        )
    if len(system.modes()) > 1:
        raise InvalidModelError(
            "the system must not switch between modes, got flags among its inputs; take one of its modes()"
        )
    if fault := system_fault(system) or form_fault(form):
        raise InvalidModelError(fault)
    if (of_loop := _of_loop(system)) is not None:
        return of_loop
    return Signals(
        form,
        _names(system.inputs, "u", form.nu),
        _names(system.outputs, "y", form.ny),
        _units(system.output_units, form.ny),
    )


def _of_loop(loop: System) -> Signals | None:
    """Return the signals of a feedback loop; None of any other system."""
    from ..loops import Feedback  # slow to import

    if not isinstance(loop, Feedback) or (known := loop.ports()) is None:
        return None
    # A plant in continuous time, sampled, has names for disturbances and states.
    plant, inner = loop.plant, loop.sampled and loop.sampled.plant
    columns, rows = ([known.inputs.get(name, ()) for name in "dn"], [known.outputs[name] for name in "yu"])
    disturbances = _names(tuple(s.name for s in inner.disturbances) if inner else None, "d", len(columns[0]))
    (y, y_units), (u, u_units) = (
        (_names(names, letter, len(at)), _units(units, len(at)))
        for letter, at, names, units in zip(
            "yu", rows, (plant.outputs, plant.inputs), (plant.output_units, plant.input_units), strict=True
        )
    )
    # States that are measured are outputs already.
    more = {k: s for k, s in enumerate(inner.states if inner else ()) if s.name not in y}
    form, taken, seen, pad = (
        known.form,
        [*columns[0], *columns[1]],
        [*rows[0], *rows[1]],
        ((0, len(more)), (0, 0)),
    )
    form = form._replace(
        B2=form.B2[:, taken], D12=form.D12[:, taken], C2=np.vstack([form.C2[seen], np.eye(form.nx)[list(more)]]),
        D21=np.pad(form.D21[seen], pad), D22=np.pad(form.D22[seen][:, taken], pad),
    )  # fmt: skip
    return Signals(
        form, (*disturbances, *(f"noise of {name}" for name in y)), (*y, *u, *(s.name for s in more.values())),
        (*y_units, *u_units, *(s.unit for s in more.values())),
    )  # fmt: skip


def _names(known: tuple[str, ...] | None, letter: str, count: int) -> tuple[str, ...]:
    return (
        known if known is not None and len(known) == count else tuple(f"{letter}[{k}]" for k in range(count))
    )


def _units(known: tuple[str, ...] | None, count: int) -> tuple[str, ...]:
    return known if known is not None and len(known) == count else ("",) * count
