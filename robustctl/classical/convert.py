"""Linear systems to and from python-control, with every number unchanged."""

import warnings
from collections.abc import Sequence
from typing import Any

import control as ct
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from typing_extensions import TypeIs

from ..errors import InvalidModelError, RobustctlError, RobustctlWarning
from ..nn import LinearSystem
from ..plants import LinearPlant, Signal
from ..state_space import StateSpace
from .nonlinear import sample_time
from .types import ControlLike, LinearLike, typed


def from_control(
    system: ControlLike,
    *,
    input_units: Sequence[str] | None = None,
    output_units: Sequence[str] | None = None,
) -> StateSpace | LinearPlant:
    """Convert a linear system of python-control to robustctl, with its numbers, names and dt.

    ::

        dt > 0:  robustctl.StateSpace        dt = 0:  robustctl.plants.LinearPlant, with D = 0

    A transfer function is realized first (see `realize`).

    **Arguments:**

    - `system`: a `control.StateSpace` or `control.TransferFunction`
    - `input_units`: one label per input; python-control has none
    - `output_units`: one label per output

    **Raises:** `RobustctlError` for any other class and a transfer function that is not proper; `InvalidModelError` for a `dt`
    of True or None, another number of units, and a continuous-time system with D.

    **Warns:** `RobustctlWarning` if numbers lose digits because 64-bit JAX is off.

    **Example:** ::

        import control as ct
        plant = rc.classical.from_control(ct.tf([1.0], [1.0, 0.4, 1.0]), input_units=["N"], output_units=["m"])
    """
    sys = typed(realize(system))
    if sys.dt is None or sys.dt is True:
        raise InvalidModelError(
            f"dt must be a number, got {sys.dt}, which leaves the sample time open; set system.dt to 0 (continuous time) "
            "or to seconds"
        )
    A, B, C, D = map(_in_default_dtype, "ABCD", (sys.A, sys.B, sys.C, sys.D))
    if sys.dt > 0:
        names = {"inputs": sys.input_labels, "outputs": sys.output_labels, "states": sys.state_labels}
        units = {"input_units": input_units, "output_units": output_units}
        return StateSpace(A, B, C, D, float(sys.dt), **names, **units)
    if np.any(D):
        raise InvalidModelError(
            f"a continuous-time plant must have D = 0, because a controller reads y before it chooses u, got D = "
            f"{D.tolist()}; sample it with control.c2d, or add the actuator's lag to it"
        )
    controls = _signals(sys.input_labels, input_units, "input_units")
    outputs = _signals(sys.output_labels, output_units, "output_units")
    return LinearPlant(A, B, C, states=sys.state_labels, controls=controls, outputs=outputs)


def _signals(names: list[str], units: Sequence[str] | None, what: str) -> list[Signal]:
    units = [""] * len(names) if units is None else list(units)
    if len(units) != len(names):
        raise InvalidModelError(f"{what} must be {len(names)} units, one per channel, got {units}")
    return [Signal(name, unit) for name, unit in zip(names, units, strict=True)]


def to_control(system: LinearLike, *, dt: float | None = None) -> ct.StateSpace:
    """Convert a linear system of robustctl to a `control.StateSpace`, with its numbers, names and dt.

    `StateSpace` has its own dt. `LinearPlant` has dt = 0; its inputs are the controls (`linearize` includes the
    disturbances). A system of python-control is returned as a `control.StateSpace`.

    **Arguments:**

    - `system`: the linear system
    - `dt`: seconds per sample, needed for a learned `LinearSystem`

    **Raises:** `InvalidModelError` for a nonlinear or affine system (see `linearize`), for one without inputs, and for a `dt` that is
    missing or not the system's own.
    """
    match system:
        case ct.StateSpace() | ct.TransferFunction():
            return realize(system)
        case LinearPlant():
            return _from_plant(system)
        case StateSpace():
            signals = {"inputs": system.inputs, "outputs": system.outputs, "states": system.states}
            names = {kind: list(group) for kind, group in signals.items()}
            time = sample_time(system.dt, dt, system)
        case LinearSystem():
            if np.any(np.asarray(system.bx)) or np.any(np.asarray(system.by)):
                raise InvalidModelError(
                    "a linear system must have bx = by = 0, got offsets; robustctl.classical.linearize gives the system "
                    "in deviations from a point"
                )
            names, time = {}, sample_time(None, dt, system)
        case _:
            raise InvalidModelError(
                f"the system must be a StateSpace, LinearSystem or LinearPlant, got {type(system).__name__}; use "
                "robustctl.classical.linearize or to_nonlinear_io"
            )
    matrices = [np.asarray(M, float) for M in (system.A, system.B, system.C, system.D)]
    check_inputs(system.nu)
    return ct.StateSpace(*matrices, time, **names)


def check_inputs(nu: int) -> None:
    """Raise `InvalidModelError` for a system without inputs: python-control does not take its empty D."""
    if not nu:
        raise InvalidModelError(
            "the system must have at least one input for python-control, got none; give it an input of zeros"
        )


def _from_plant(plant: LinearPlant) -> ct.StateSpace:
    A, B, C = (np.asarray(M, float) for M in (plant.A, plant.B, plant.C))
    signals = {"inputs": plant.controls, "outputs": plant.outputs, "states": plant.states}
    names = {kind: [s.name for s in group] for kind, group in signals.items()}
    return ct.StateSpace(A, B, C, np.zeros((len(C), B.shape[1])), 0, **names)


def is_of_control(system: Any) -> TypeIs[ct.StateSpace | ct.TransferFunction]:
    """Return whether a value is a linear system of python-control that has a realization."""
    return isinstance(system, ct.StateSpace | ct.TransferFunction)


def realize(system: ControlLike) -> ct.StateSpace:
    """Return a state-space system; a transfer function is realized column by column in controllable form.

    ::

        column k:  x+ = A_k x + [1 0 ... 0]' u_k,    y = sum over k of  C_k x_k + D_k u_k

    Each column gets the common denominator of its entries, so the realization is exact and controllable
    within the column, and minimal for one input without cancellations. Slycot is not needed. Source: Kailath,
    "Linear Systems", 1980, section 6.1.

    **Raises:** `RobustctlError` for any other class, and an entry that is not proper.
    """
    match system:
        case ct.StateSpace():
            return system
        case ct.TransferFunction():
            return _columns_of(system)
        case ct.FrequencyResponseData():
            do = "; fit a control.ss(A, B, C, D) to the response"
        case _:
            do = ""
    raise RobustctlError(
        f"the system must be a control.StateSpace or control.TransferFunction, got {type(system).__name__}{do}"
    )


def _columns_of(system: ct.TransferFunction) -> ct.StateSpace:
    columns = [_column(system, k) for k in range(system.ninputs)]
    A = np.asarray(scipy.linalg.block_diag(*(c[0] for c in columns)))
    B = np.asarray(scipy.linalg.block_diag(*(c[1] for c in columns)))
    nx = sum(c[0].shape[0] for c in columns)
    A, B = A.reshape(nx, nx), B.reshape(nx, system.ninputs)
    C, D = np.hstack([c[2] for c in columns]), np.hstack([c[3] for c in columns])
    names = {"inputs": system.input_labels, "outputs": system.output_labels}
    return ct.StateSpace(A, B, C, D, system.dt, **names)


def _column(system: ct.TransferFunction, k: int) -> tuple[np.ndarray, ...]:
    """Return A, B, C, D from input k to all outputs."""
    num_array, den_array = np.asarray(system.num_array), np.asarray(system.den_array)
    entries = [_monic(num_array[i, k], den_array[i, k]) for i in range(system.noutputs)]
    for i, (num, den) in enumerate(entries):
        if num.size > den.size:
            raise RobustctlError(
                f"every entry must be proper, got degree {num.size - 1} over {den.size - 1} from input {k} to output "
                f"{i}; add poles far outside the band of interest"
            )
    # The common denominator is the product of the distinct ones. Equal polynomials are recognized digit by digit
    # only: factors that agree up to rounding would cancel inexactly.
    factors: list[np.ndarray] = []
    for _, den in entries:
        if not any(den.size == f.size and np.array_equal(den, f) for f in factors):
            factors.append(den)
    common = _product(factors)
    nums = []
    for num, den in entries:
        others = [f for f in factors if not (den.size == f.size and np.array_equal(den, f))]
        full = np.polymul(num, _product(others))
        nums.append(np.concatenate([np.zeros(common.size - full.size), full]))
    if common.size == 1:
        return np.zeros((0, 0)), np.zeros((0, 1)), np.zeros((len(nums), 0)), np.array(nums)
    num, nx = np.array(nums), common.size - 1
    # Controllable form. The leading coefficient of each numerator is its direct part; what is left of the numerator
    # after D times the denominator is C.
    A = np.vstack([-common[1:], np.eye(nx - 1, nx)])
    return A, np.eye(nx, 1), num[:, 1:] - num[:, :1] * common[1:], num[:, :1]


def _monic(num: np.ndarray, den: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    num, den = np.trim_zeros(np.asarray(num, float), "f"), np.trim_zeros(np.asarray(den, float), "f")
    return (num if num.size else np.zeros(1)) / den[0], den / den[0]


def _product(factors: list[np.ndarray]) -> np.ndarray:
    product = np.ones(1)
    for factor in factors:
        product = np.polymul(product, factor)
    return product


def _in_default_dtype(letter: str, M: np.ndarray) -> np.ndarray:
    """Return a matrix in the default floating-point type, with a warning if that loses digits."""
    converted = np.asarray(jnp.asarray(M, jnp.result_type(float)))
    if not np.array_equal(converted, M):
        warnings.warn(
            f"{letter} is rounded to 32 bits because 64-bit JAX is off; "
            'jax.config.update("jax_enable_x64", True) at the start of the program preserves every digit',
            RobustctlWarning,
            stacklevel=4,  # the line that calls `from_control`
        )
    return converted
