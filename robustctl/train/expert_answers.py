"""What an expert does on a whole set of states, and how far a policy can be from it there."""

import dataclasses
import itertools
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..certificates import lipschitz
from ..checks import is_real, is_whole, of_type
from ..data import from_arrays
from ..errors import RobustctlError
from ..lft import is_linear
from ..scaled import Scaled
from ..system import Parameterization, System, explicit_of
from ..trajectory import rollout
from .demonstrations import Demonstrations, stateless

_MOST = 1_000_000
"""Questions to an expert: more states than a grid of these has, it cannot cover."""


class Constant(NamedTuple):
    """A number of a bound, and what it rests on.

    **Arguments:**

    - `value`: the number.
    - `standing`: `proven`, `searched`, `statistical` or `assumed`.
    - `how`: in words.
    """

    value: float
    standing: str
    how: str = ""


_STANDINGS = ("proven", "searched", "statistical", "assumed")
"""From the strongest to the weakest."""


def constant(value: Any, name: str) -> Constant:
    """Return a number as a `Constant`, one without standing as assumed, or raise `RobustctlError`."""
    found = value if isinstance(value, Constant) else Constant(value, "assumed", "given")
    if not is_real(found.value) or not 0 <= found.value < np.inf or found.standing not in _STANDINGS:
        raise RobustctlError(
            f"{name} must be a finite number of at least 0 or a rc.train.Constant, got {value!r}"
        )
    return found._replace(value=float(found.value))


def weakest(*constants: Constant) -> str:
    """Return the weakest standing of several numbers."""
    return max((c.standing for c in constants), key=_STANDINGS.index)


@dataclasses.dataclass(frozen=True, eq=False)
class ExpertAnswers:
    """An expert's actions on a grid that covers a set of states.

    ::

        |pi(x) - pi*(x)| <= eps + (alpha + alpha*) h =: e      for all x of the set
        eps = max over the grid |pi(x_i) - pi*(x_i)|,   h: from any x to the nearest x_i

    alpha and alpha* are the Lipschitz constants of the policy and the expert, and h the distance, over the set's half-widths.

    **Arguments:**

    - `x`: the states (N, nx).
    - `u`: the actions (N, nu).
    - `middle`: of the set (nx,).
    - `widths`: (nx, nx), which maps the unit cube or ball to the set.
    - `cover`: h.
    - `slopes`: of the expert over the grid's cells (M, nu, nx), over the set's widths.
    - `lipschitz`: alpha*.
    """

    x: np.ndarray
    u: np.ndarray
    middle: np.ndarray
    widths: np.ndarray
    cover: float
    slopes: np.ndarray
    lipschitz: Constant

    def demonstrations(self, dt: float) -> Demonstrations:
        """Return the answers as demonstrations, on which a policy without state can be trained.

        **Arguments:**

        - `dt`: sample time of the loop that the policy is for, seconds.
        """
        names = [f"u[{k}]" for k in range(self.u.shape[1])]
        states = [f"x[{k}]" for k in range(self.x.shape[1])]
        record = from_arrays(self.u, self.x, dt, inputs=names, outputs=states, name="answers")
        return Demonstrations(record, tolerance=np.inf)

    def error(self, policy: Parameterization | System, seconds: float = 20.0) -> Constant:
        """Return the bound e on the distance of a policy's action from the expert's, anywhere on the set.

        It is proven where the expert's Lipschitz constant is, but for the rounding of the networks' outputs.

        **Arguments:**

        - `policy`: without state.
        - `seconds`: time limit of the proof of its Lipschitz constant.

        **Raises:** `RobustctlError` for a policy with state or of another size.
        """
        system = without_state(policy, "the policy")
        found = asked(system, self.x)
        if found.shape != self.u.shape:
            raise RobustctlError(
                f"the policy must have the expert's {self.u.shape[1]} actions, got {found.shape[1]}"
            )
        eps = float(np.linalg.norm(found - self.u, axis=1).max())
        alpha = policy_lipschitz(system, self.widths, seconds)
        value = eps + (alpha.value + self.lipschitz.value) * self.cover
        how = (
            f"{eps:.4g} on {len(self.x):,} states that cover the set, and between them {self.cover:.4g} times the Lipschitz constants "
            f"{alpha.value:.4g} ({alpha.standing}) and {self.lipschitz.value:.4g} ({self.lipschitz.standing})"
        )
        return Constant(value, weakest(alpha, self.lipschitz), how)


def ask(expert: System, states: Any, cells: int = 50) -> ExpertAnswers:
    """Ask an expert for its action on a grid that covers a set of states.

    **Arguments:**

    - `expert`: a system without state from the plant's state to the action, for example the controller of `rc.classical.mpc`.
    - `states`: a box `(low, high)`, or a `rc.loops.Ellipsoid`.
    - `cells`: of the grid along each axis.

    **Raises:** `RobustctlError` for an expert with state or one whose actions are not finite, another set, and a grid of more than a
    million states.

    **Example:** ::

        gain = rc.loops.Gain(jnp.array([[-1.0, -0.5]]), jnp.zeros(2), jnp.zeros(1))
        print(rc.train.ask(gain, ([-1.0, -2.0], [1.0, 2.0]), cells=10).lipschitz)
    """
    middle, widths, ball = _set(states)
    n = middle.size
    if not is_whole(cells, 2) or cells**n > _MOST:
        raise RobustctlError(
            f"cells must be a whole number of at least 2 with at most {_MOST:,} cells in all, got {cells!r} for {n} states; more states "
            "than a few cannot be covered: take rc.train.held_out_error"
        )
    system = without_state(expert, "the expert")
    axis = (np.arange(cells) + 0.5) * 2 / cells - 1
    z = np.stack(np.meshgrid(*[axis] * n, indexing="ij"), axis=-1)
    z, cover = z.reshape(-1, n), float(np.sqrt(n)) / cells
    inside = np.linalg.norm(z, axis=1) <= 1 + cover if ball else np.ones(len(z), bool)
    x = z[inside] @ widths.T + middle
    u = asked(system, x)
    finite = np.isfinite(u).all(axis=1)
    if not finite.all():
        first = int(np.argmin(finite))
        raise RobustctlError(
            f"the expert's actions must be finite, got {u[first]} at {x[first]}; take a smaller set"
        )
    grid = np.full((len(z), u.shape[1]), np.nan)
    grid[inside] = u
    slopes = _slopes(grid.reshape(*[cells] * n, -1), inside.reshape([cells] * n), 2 / cells)
    return ExpertAnswers(x, u, middle, widths, cover, slopes, _lipschitz_of(system, widths, slopes))


def _set(states: Any) -> tuple[np.ndarray, np.ndarray, bool]:
    """Return middle and widths of a set, and whether it is a ball."""
    from ..loops import Ellipsoid  # slow to import
    from ..loops.state_sets import metric_root

    if isinstance(states, Ellipsoid):
        return np.asarray(states.middle, np.float64), np.linalg.inv(metric_root(states.P)), True
    try:
        low, high = (np.atleast_1d(np.asarray(side, np.float64)) for side in states)
    except (TypeError, ValueError) as error:
        raise RobustctlError(
            f"states must be a box (low, high) or a rc.loops.Ellipsoid, got {states!r}"
        ) from error
    if (
        low.shape != high.shape
        or low.ndim != 1
        or not (np.isfinite(low) & np.isfinite(high) & (low < high)).all()
    ):
        raise RobustctlError(f"a box must have finite low < high for each state, got {low} and {high}")
    return (low + high) / 2, np.diag((high - low) / 2), False


def _slopes(u: np.ndarray, inside: np.ndarray, width: float) -> np.ndarray:
    """Return the differences of the actions along each axis, over the set's widths, one matrix a cell (M, nu, nx)."""
    n = inside.ndim
    base = (slice(None, -1),) * n
    along = [
        u[tuple(slice(1, None) if k == axis else slice(None, -1) for k in range(n))] - u[base]
        for axis in range(n)
    ]
    # A cell counts where all corners that the differences use are inside.
    counts = inside[base].copy()
    for axis in range(n):
        counts &= inside[tuple(slice(1, None) if k == axis else slice(None, -1) for k in range(n))]
    return np.stack(along, axis=-1)[counts] / width


def _lipschitz_of(expert: System, widths: np.ndarray, slopes: np.ndarray) -> Constant:
    form = expert.lft()
    if form is not None and is_linear(form):
        return Constant(
            float(np.linalg.norm(form.D22 @ widths, 2)) * (1 + 1e-12), "proven", "the expert is linear"
        )
    found = float(np.linalg.norm(slopes, 2, axis=(1, 2)).max())
    return Constant(
        found, "searched", f"largest slope of the expert between neighbors among {len(slopes):,} cells"
    )


def without_state(system: Parameterization | System, what: str) -> System:
    """Return a system that has no state, or raise `RobustctlError`."""
    system = of_type(explicit_of(system), System, f"{what} must be a system or a parameterization")
    if not stateless(system):
        raise RobustctlError(
            f"{what} must have no state, so that its action is a function of what it reads, got {type(system).__name__}; "
            "take rc.train.held_out_error for the error, and certify the loop"
        )
    return system


@eqx.filter_jit
def _asked(system: System, x):
    return jax.lax.map(lambda one: system.step(system.init_state(), one)[1], x, batch_size=4096)


def asked(system: System, x: np.ndarray) -> np.ndarray:
    """Return the outputs (N, nu) of a system without state."""
    return np.asarray(_asked(system, jnp.asarray(x)), np.float64)


def policy_lipschitz(policy: System, widths: np.ndarray, seconds: float = 20.0) -> Constant:
    """Return the proven Lipschitz constant of a policy of coordinates z, `x = widths z`.

    **Arguments:**

    - `policy`: without state.
    - `widths`: (nx, n).
    - `seconds`: time limit.

    **Raises:** `RobustctlError` for what is no feed-forward network.
    """
    form = policy.lft()
    if form is not None and is_linear(form):
        return Constant(
            float(np.linalg.norm(form.D22 @ widths, 2)) * (1 + 1e-12), "proven", "the policy is linear"
        )
    layers: list[Any] = [policy]
    if isinstance(policy, Scaled):
        u, y = (np.asarray(a, np.float64) for a in (policy.u_std, policy.y_std))
        layers, widths = [policy.system, np.diag(y)], widths / u[:, None]
    bound = lipschitz([widths, *layers], seconds=seconds)
    return Constant(
        bound.upper,
        "assumed" if bound.assumptions else "proven",
        "; ".join(bound.assumptions),
    )


def held_out_error(
    policy: Parameterization | System, demonstrations: Demonstrations, confidence: float = 0.95
) -> Constant:
    """Return the largest distance of a policy's action from the expert's on episodes that it was not trained on.

    ::

        P(an episode has a larger one) <= 1 - (1 - confidence)^(1/N),     N episodes, drawn like those to come

    Each experiment with a sample that counts is one episode. For policies with and without state. Episodes of the expert's loop
    have no states that only the policy's loop visits: for a bound on the deviation take the loop of
    `rc.train.ContractingLoop.of_policy`.

    **Arguments:**

    - `policy`: from measurements to actions.
    - `demonstrations`: the episodes.
    - `confidence`: of the statement, in (0, 1).

    **Raises:** `RobustctlError` for a confidence outside of (0, 1), a policy of another size, and actions that are not finite.
    """
    if not is_real(confidence) or not 0 < confidence < 1:
        raise RobustctlError(f"confidence must be in (0, 1), got {confidence!r}")
    system, record = explicit_of(policy), demonstrations.as_record()
    largest = 0.0
    for _, group in itertools.groupby(
        sorted(record.experiments, key=lambda e: e.samples), key=lambda e: e.samples
    ):
        same = list(group)
        y = jnp.asarray(np.stack([e.u for e in same]))
        found = np.asarray(jax.vmap(lambda y: rollout(system, y).ys)(y), np.float64)
        if found.shape != (shape := (*y.shape[:2], record.ny)):
            raise RobustctlError(
                f"the policy must have the {record.ny} actions of the record, got {found.shape} for {shape}"
            )
        mask = np.stack([e.y_mask.all(axis=1) for e in same])
        if not np.isfinite(found[mask]).all():
            raise RobustctlError(
                "the policy's actions must be finite on all episodes, got NaN or infinity; certify it, or train it with a smaller gamma"
            )
        apart = np.linalg.norm(found - np.stack([e.y for e in same]), axis=2)
        largest = max(largest, float(np.where(mask, apart, 0.0).max()))
    count = sum(bool(e.y_mask.all(axis=1).any()) for e in record.experiments)
    share = 1 - (1 - confidence) ** (1 / count)
    how = f"largest of {count:,} episodes: at most {100 * share:.2g} % of episodes exceed it, with a confidence of {100 * confidence:.4g} %"
    return Constant(largest, "statistical", how)
