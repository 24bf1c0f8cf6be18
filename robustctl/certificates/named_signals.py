"""The form of a system between its disturbances and its outputs, by name."""

from typing import NamedTuple

import numpy as np

from ..errors import ModelError
from ..lft import LFT
from ..system import StrictlyProper, System
from .faults import form_fault


class Signals(NamedTuple):
    """A form, and the names of its inputs and outputs with the outputs' units."""

    form: LFT
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    units: tuple[str, ...]


def signals_of(system: System) -> Signals:
    """Return the form of a system with named signals; of a loop from its plant's disturbances to outputs, controls and states.

    **Raises:** `ModelError` for a system that does not describe itself, or switches between modes.
    """
    if not isinstance(system, System) or (form := system.lft()) is None:
        raise ModelError(
            f"the system must describe itself, and {type(system).__name__} has no lft(); a nonlinear plant has one on a box: "
            "rc.certificates.region"
        )
    if len(system.modes()) > 1:
        raise ModelError(
            "the system must not switch between modes, got flags among its inputs; take one of its modes()"
        )
    if fault := form_fault(form):
        raise ModelError(fault)
    plant = getattr(system, "plant", None)
    if isinstance(plant, StrictlyProper):
        return _of_loop(system, plant, form)
    return Signals(
        form,
        _names(system.inputs, "u", form.nu),
        _names(system.outputs, "y", form.ny),
        _units(system.output_units, form.ny),
    )


def _of_loop(loop: System, plant: StrictlyProper, form: LFT) -> Signals:
    """The references among the inputs are shared by both trajectories; among the outputs they are constant."""
    inner = getattr(plant, "plant", None)
    d = tuple(s.name for s in inner.disturbances) if inner is not None else ()
    names, units = _names(loop.outputs, "y", form.ny), _units(loop.output_units, form.ny)
    moved = np.flatnonzero(np.any(form.C2, axis=1) | np.any(form.D21, axis=1))
    form = form._replace(
        B2=form.B2[:, : len(d)], D12=form.D12[:, : len(d)], D22=form.D22[moved][:, : len(d)], C2=form.C2[moved],
        D21=form.D21[moved],
    )  # fmt: skip
    names, units = (tuple(each[k] for k in moved) for each in (names, units))
    # States that are measured are outputs already.
    more = [(k, s) for k, s in enumerate(inner.states if inner is not None else ()) if s.name not in names]
    if more:
        form = form._replace(
            C2=np.vstack([form.C2, np.eye(form.nx)[[k for k, _ in more]]]),
            D21=np.pad(form.D21, ((0, len(more)), (0, 0))), D22=np.pad(form.D22, ((0, len(more)), (0, 0))),
        )  # fmt: skip
    return Signals(form, d, names + tuple(s.name for _, s in more), units + tuple(s.unit for _, s in more))


def _names(known: tuple[str, ...] | None, letter: str, count: int) -> tuple[str, ...]:
    return (
        known if known is not None and len(known) == count else tuple(f"{letter}[{k}]" for k in range(count))
    )


def _units(known: tuple[str, ...] | None, count: int) -> tuple[str, ...]:
    return known if known is not None and len(known) == count else ("",) * count
