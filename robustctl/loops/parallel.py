"""Two controllers whose controls are added."""

from jaxtyping import Array, PyTree
from typing_extensions import override

from ..errors import InvalidModelError
from ..lft import LFT, joined, signals
from ..registry import registered
from .feedback import Pair, check_sample_time
from .parts import Of, forms, narrowed


@registered(name="loops.Parallel")
class Parallel(Pair):
    """Two systems that read the same signals, their outputs added: a controller and a learned policy, for example.

    ::

        y[t] = first(u[t]) + second(u[t])

    Nothing is promised of a loop with it; `rc.certify` of the loop finds out.

    **Arguments:**

    - `first`: a controller, for example a `PID`.
    - `second`: a learned system of as many outputs. Its inputs are those of both: a first that can do without references reads none
      that the second does not read.

    **Raises:** `InvalidModelError` for systems of different sample times.
    """

    nu, ny = Of("second"), Of("second")

    def __check_init__(self):
        """Refuse parts of different sample times."""
        check_sample_time("first", self.first, "second's", self.second)

    @override
    def check_parts(self) -> None:
        if None not in (self.first.ny, self.second.ny) and self.first.ny != self.second.ny:
            raise InvalidModelError(
                f"both must have as many outputs, got {self.first.ny} and {self.second.ny}"
            )

    @override
    def lft(self) -> LFT | None:
        """Return the sum of both forms."""
        parts = forms(self.first, self.second)
        if parts is None:
            return None
        parts[0] = narrowed(parts[0], parts[1].nu)
        y1, y2, u = signals(parts, parts[1].nu)
        return joined(parts, [u, u], [y1 + y2])

    @override
    def step(self, x: tuple[PyTree, PyTree], u: Array) -> tuple[tuple[PyTree, PyTree], Array]:
        """Return `(x_next, y)`."""
        first, y1 = self.first.step(x[0], u)
        second, y2 = self.second.step(x[1], u)
        return (first, second), y1 + y2

    @override
    def prepare(self) -> "Parallel":
        """Return the same with its parts prepared for many steps."""
        return Parallel(self.first.prepare(), self.second.prepare())
