"""Start a model near zero output, with every free array still free to move."""

from typing import TypeVar, cast

from ..errors import InvalidModelError
from ..system import Parameterization

_M = TypeVar("_M", bound=Parameterization)


def quiet(model: _M, factor: float = 1e-2) -> _M:
    """Return the model with its output scaled down by `factor`, so that its output is small at first.

    For a policy that adds to a base controller: training then starts from the base controller and not from
    noise around it. The guarantee holds for every value of the free arrays, so also for these.

    **Arguments:**

    - `model`: a parameterization whose class has a method `quiet(factor)`.
    - `factor`: what its output arrays are multiplied by, positive.

    **Raises:** `InvalidModelError` for a model without an output that can be scaled, and a factor that is not positive.
    """
    if not factor > 0:
        raise InvalidModelError(
            f"factor must be positive, got {factor}; at zero some gradients would be zero too"
        )
    return cast(_M, model.quiet(factor))
