"""Types of what classical designs take and return."""

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, Union, cast

import jax
import numpy as np
import numpy.typing as npt

from ..nn import LinearSystem
from ..plants import LinearPlant, Plant, Sampled
from ..state_space import StateSpace
from ..system import System

if TYPE_CHECKING:
    import control as ct

    from .model import Model

ArrayLike: TypeAlias = npt.ArrayLike | jax.Array
"""Numbers: an array, nested lists, or one number."""

# python-control and the `Model` that is made with it are named in strings, so that these types cost no import.
ControlLike: TypeAlias = Union["ct.StateSpace", "ct.TransferFunction", "Realization"]
"""A linear system of python-control."""

LinearLike: TypeAlias = StateSpace | LinearPlant | LinearSystem | ControlLike
"""A linear system, of robustctl or of python-control."""

PlantLike: TypeAlias = Union[Plant, Sampled, LinearLike, "Model"]
"""What a design is made for: a plant, linearized at its operating point, or a linear system."""

SystemLike: TypeAlias = System | Plant
"""What can be linearized or converted: a system, a sampled plant, a loop, or a plant in continuous time."""


class Realization(Protocol):
    """A `control.StateSpace` with the types that python-control does not declare.

    ::

        x+ = A x + B u,   y = C x + D u,     (dx/dt where dt is 0)
    """

    A: np.ndarray
    B: np.ndarray
    C: np.ndarray
    D: np.ndarray
    dt: Any  # float, or what a design refuses: True and None
    nstates: int
    ninputs: int
    noutputs: int
    input_labels: list[str]
    output_labels: list[str]
    state_labels: list[str]

    def poles(self) -> np.ndarray:
        """Return the eigenvalues of A."""
        ...

    def __call__(self, x: Any) -> Any:
        """Return the frequency response at the complex numbers `x`."""
        ...

    def __getitem__(self, key: Any) -> "Realization":
        """Return the subsystem of chosen outputs and inputs."""
        ...


def typed(system: "ct.StateSpace | Realization") -> Realization:
    """Return the same object under the type whose matrices are arrays."""
    return cast(Realization, system)


def untyped(system: Realization) -> "ct.StateSpace":
    """Return the same object under python-control's own type, for its functions and for users."""
    return cast("ct.StateSpace", system)
