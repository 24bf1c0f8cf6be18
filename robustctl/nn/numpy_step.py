"""A trained model without JAX: one sample at a time in NumPy, for a control loop in Python."""

from collections.abc import Callable

import numpy as np

from ..checks import of_type
from ..errors import InvalidModelError
from ..system import System

Step = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def numpy_step(system: System) -> tuple[Step, np.ndarray]:
    """Return `step(x, u) -> (x_next, y)` on NumPy vectors, and the initial state.

    The same numbers as the system's own step to rounding, without the tens of microseconds that a call into JAX costs. It needs
    the weights and NumPy alone, and keeps their dtype.

    **Arguments:**

    - `system`: an explicit R2DN with hidden layers, one in its signals' units, as `fitted.model.explicit()` gives, or
      any other system whose class has a method `numpy_step`.

    **Raises:** `InvalidModelError` for another system, and an activation that is not in `rc.nn.ACTIVATIONS`; the step of a system in its
    signals' units for an input of another shape.
    """
    of_type(system, System, "numpy_step needs a system", "give its explicit()", InvalidModelError)
    found = system.numpy_step()
    if found is None:
        raise InvalidModelError(
            f"the system must be an explicit R2DN with a hidden layer, got {type(system).__name__}; robustctl.runtime steps any "
            "system that rc.export.runtime has written, and rc.export.compile in C"
        )
    return found
