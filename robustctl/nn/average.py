"""The average of several models: their outputs' mean, as one certified system."""

from collections.abc import Callable, Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from ..checks import of_type
from ..errors import InvalidModelError
from ..lft import LFT, Claim, block_diagonal, joined, signals
from ..registry import registered
from ..system import Parameterization, System


@registered()
class AverageSystem(System):
    """Systems that read the same input, and the mean of their outputs, ready to step.

    ::

        x_i+, y_i = step_i(x_i, u),      y = mean_i y_i

    The state is a vector: those of all members, one after the other.

    **Arguments:**

    - `members`: systems of equal numbers of inputs and outputs.
    """

    members: tuple[System, ...]

    @property
    def nu(self) -> int:
        """Number of inputs."""
        return self.members[0].nu

    @property
    def ny(self) -> int:
        """Number of outputs."""
        return self.members[0].ny

    def branches(self) -> tuple[System, ...]:
        """Return the members."""
        return self.members

    def lft(self) -> LFT | None:
        """Return the members' forms, one after the other, with the mean of their outputs; None where one has none."""
        known = [member.lft() for member in self.members]
        parts = [part for part in known if part is not None]
        if len(parts) < len(known):
            return None
        *ys, u = signals(parts, self.nu)
        return joined(parts, [u] * len(parts), [np.sum(ys, axis=0) / len(parts)])

    @property
    def claim(self) -> Claim | None:
        """What follows from the members' claims: the slowest rate with the mean of the storage functions.

        ::

            V = mean_i V_i,      mean_i dy_i' Q dy_i <= dy' Q dy  for Q < 0

        The supply rate is theirs where `Q` and `S` are the same for all, with the mean of `R`; otherwise contraction alone is claimed.
        """
        known = [member.claim for member in self.members]
        claims = [claim for claim in known if claim is not None]
        if len(claims) < len(known):
            return None
        rate, k = max(claim.rate for claim in claims), len(claims)
        metrics = [claim.P for claim in claims if claim.P is not None]
        multipliers = [claim.multipliers for claim in claims if claim.multipliers is not None]
        if len(metrics) < k or len(multipliers) < k:
            return Claim(rate, None, _shared_supply(claims))
        scaled = tuple(np.asarray(each) / k for own in multipliers for each in own)
        P = block_diagonal([np.asarray(metric) for metric in metrics]) / k
        return Claim(rate, P, _shared_supply(claims), scaled)

    def init_state(self) -> Float[Array, " nx"]:
        """Return the members' initial states, one after the other."""
        return jnp.concatenate([ravel_pytree(member.init_state())[0] for member in self.members])

    def step(
        self, x: Float[Array, " nx"], u: Float[Array, " nu"]
    ) -> tuple[Float[Array, " nx"], Float[Array, " ny"]]:
        """Return `(x_next, y)`."""
        states, ys, at = [], [], 0
        for member in self.members:
            zero, own = ravel_pytree(member.init_state())
            x_next, y = member.step(own(x[at : at + zero.size]), u)
            states, ys, at = [*states, ravel_pytree(x_next)[0]], [*ys, y], at + zero.size
        return jnp.concatenate(states), sum(ys[1:], ys[0]) / len(ys)

    def prepare(self) -> "AverageSystem":
        """Return the same with its members prepared for many steps."""
        return AverageSystem(tuple(member.prepare() for member in self.members))

    def numpy_step(self) -> tuple[Callable, np.ndarray] | None:
        """Return the members' steps in NumPy, one after the other; None where one has none."""
        found = [member.numpy_step() for member in self.members]
        known = [each for each in found if each is not None]
        if len(known) < len(found):
            return None
        steps, starts = zip(*known, strict=True)
        cuts = np.cumsum([start.size for start in starts])[:-1]

        def step(x: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            parts = zip(steps, np.split(x, cuts), strict=True)
            states, ys = zip(*(own(part, u) for own, part in parts), strict=True)
            return np.concatenate(states), np.sum(ys, axis=0) / len(ys)

        return step, np.concatenate(starts)


def _shared_supply(claims: Sequence[Claim]) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    supplies = [claim.supply for claim in claims if claim.supply is not None]
    if len(supplies) < len(claims):
        return None
    (Q, S, R), *others = supplies
    if not all(np.array_equal(Q, other[0]) and np.array_equal(S, other[1]) for other in others):
        return None
    # The mean of equal matrices is rounded, and promises less than the matrices.
    return (
        Q,
        S,
        R
        if all(np.array_equal(R, other[2]) for other in others)
        else np.mean([s[2] for s in supplies], axis=0),
    )


@registered()
class Average(Parameterization):
    """The mean of several models' outputs, one model with the guarantee of its parts.

    ::

        x_i+, y_i = f_i(x_i, u),      y = (y_1 + ... + y_k) / k

    Errors of independently trained models cancel in part, so that the mean of a few seeds is usually better than each. The mean of
    contracting models contracts at the slowest rate, and that of models with one gain bound keeps it.

    **Arguments:**

    - `members`: parameterizations of systems with equal numbers of inputs and outputs.

    **Raises:** `InvalidModelError` for no members, and for members that do not fit each other.

    **Example:** ::

        keys = jax.random.split(jax.random.key(0), 3)
        models = [rc.nn.LipschitzR2DN(nu=1, nx=2, nv=4, ny=1, gamma=2.0, hidden=(4,), key=key) for key in keys]
        print(rc.certify(rc.nn.Average(models), prove=False).gamma)
    """

    members: tuple[Parameterization, ...] = eqx.field(converter=tuple)

    def __check_init__(self):
        """Refuse members that do not fit each other."""
        must = (
            "the members of an average must be one or more parameterizations of systems with equal numbers of "
            "inputs and outputs"
        )
        found = []
        for member in self.members:
            model = of_type(member, Parameterization, must, error=InvalidModelError)
            system = of_type(eqx.filter_eval_shape(model.explicit), System, must, error=InvalidModelError)
            found.append((system.nu, system.ny))
        if len(set(found)) != 1:
            raise InvalidModelError(f"{must}, got (inputs, outputs) {found}")

    @property
    def label(self) -> str:
        """The members' labels."""
        kinds = dict.fromkeys(member.label for member in self.members)
        return f"Average of {len(self.members)} {' and '.join(kinds)}"

    def explicit(self) -> AverageSystem:
        """Map to the systems of all members."""
        return AverageSystem(tuple(member.explicit() for member in self.members))

    def quiet(self, factor: float = 1e-2) -> "Average":
        """Return the average of the members' scaled-down versions."""
        return Average(tuple(member.quiet(factor) for member in self.members))
