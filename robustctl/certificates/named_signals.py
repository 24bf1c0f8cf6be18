"""The form of a system between its disturbances and its outputs, by name."""

from typing import NamedTuple

import numpy as np

from ..errors import ModelError
from ..lft import LFT
from ..system import System
from .faults import form_fault


class Signals(NamedTuple):
    """A form, and the names of its inputs and outputs with the outputs' units."""

    form: LFT
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    units: tuple[str, ...]


def signals_of(system: System) -> Signals:
    """Return the form of a system with named signals; of a loop from disturbances and noise to outputs, controls and states.

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
    if (of_loop := _of_loop(system)) is not None:
        return of_loop
    return Signals(
        form,
        _names(system.inputs, "u", form.nu),
        _names(system.outputs, "y", form.ny),
        _units(system.output_units, form.ny),
    )


def _of_loop(loop: System) -> Signals | None:
    """Return the signals of a loop about a plant in continuous time, sampled; None of any other system."""
    ports = getattr(loop, "ports", None)
    sampled = getattr(loop, "plant", None)
    plant = getattr(sampled, "plant", None)
    if ports is None or plant is None or sampled is None or (known := ports()) is None:
        return None
    d = {s.name: k for s, k in zip(plant.disturbances, known.inputs.get("d", ()), strict=False)}
    noise = {f"noise of {name}": k for name, k in zip(sampled.outputs, known.inputs["n"], strict=True)}
    columns = [*d.values(), *noise.values()]
    rows = [*known.outputs["y"], *known.outputs["u"]]
    named = [*plant.outputs, *plant.controls]
    # States that are measured are outputs already.
    more = {k: s for k, s in enumerate(plant.states) if s not in plant.outputs}
    form, pad = known.form, ((0, len(more)), (0, 0))
    form = form._replace(
        B2=form.B2[:, columns], D12=form.D12[:, columns], C2=np.vstack([form.C2[rows], np.eye(form.nx)[list(more)]]),
        D21=np.pad(form.D21[rows], pad), D22=np.pad(form.D22[rows][:, columns], pad),
    )  # fmt: skip
    named += more.values()
    return Signals(form, (*d, *noise), tuple(s.name for s in named), tuple(s.unit for s in named))


def _names(known: tuple[str, ...] | None, letter: str, count: int) -> tuple[str, ...]:
    return (
        known if known is not None and len(known) == count else tuple(f"{letter}[{k}]" for k in range(count))
    )


def _units(known: tuple[str, ...] | None, count: int) -> tuple[str, ...]:
    return known if known is not None and len(known) == count else ("",) * count
