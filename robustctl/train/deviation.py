"""How far a policy's loop can be from its expert's, and how much more it can cost."""

import dataclasses
from typing import Any

import numpy as np

from ..checks import is_real, of_type, weight
from ..errors import RobustctlError
from ..system import Parameterization, System
from .contracting_loop import ContractingLoop
from .expert_answers import Constant, constant, policy_lipschitz, without_state

_MODEL = "both loops are about the linear model, under the same disturbances"

_EVERYWHERE = "the states of both loops stay where the error of the action and the rate hold"


@dataclasses.dataclass(frozen=True, eq=False)
class DeviationBound:
    """How far a policy's loop can be from its expert's, printed with what each number rests on.

    ::

        |x_t - x*_t|_P <= r^t |x_0 - x*_0|_P + b e / (1 - r) + b alpha n / (1 - r)

    **Arguments:**

    - `loop`: metric P, rate r and gain b.
    - `error`: e, how far the policy's action can be from the expert's.
    - `alpha`: Lipschitz constant of the policy, units of actions over the metric.
    - `noise`: n, the largest error of the measured state, in the metric.
    - `assumptions`: what was assumed and not checked, in words.
    """

    loop: ContractingLoop
    error: Constant
    alpha: Constant
    noise: Constant
    assumptions: tuple[str, ...] = ()

    @property
    def imitation(self) -> float:
        """The term of the error of the action, in the metric: it falls with the Lipschitz constant that a policy is allowed."""
        return self.loop.gain * self.error.value / (1 - self.loop.rate.value)

    @property
    def measurement(self) -> float:
        """The term of the error of the measured state, in the metric: it grows with the Lipschitz constant."""
        return self.loop.gain * self.alpha.value * self.noise.value / (1 - self.loop.rate.value)

    @property
    def total(self) -> float:
        """Both terms: the bound at all times, from equal starts."""
        return self.imitation + self.measurement

    @property
    def states(self) -> np.ndarray:
        """The bound of each state (nx,), in its unit, from equal starts."""
        return self.total * self._per_state

    @property
    def action(self) -> float:
        """The bound of the difference of the two loops' actions, from equal starts; e must hold at the states of the expert's loop."""
        return self.error.value + self.alpha.value * (self.total + self.noise.value)

    @property
    def _per_state(self) -> np.ndarray:
        return np.sqrt(np.diag(np.linalg.inv(self.loop.P)))

    def over_time(self, samples: int, start: Any = None) -> np.ndarray:
        """Return the bound in the metric at each of so many samples, (samples,).

        **Arguments:**

        - `samples`: how many.
        - `start`: the difference (nx,) of the initial states, default zero.
        """
        powers = self.loop.rate.value ** np.arange(samples)
        begin = (
            0.0 if start is None else float(np.linalg.norm(self.loop.root @ np.asarray(start, np.float64)))
        )
        return powers * begin + (1 - powers) * self.total

    def cost_at_most(self, expert: float, Q: Any, R: Any) -> float:
        """Return a bound on the policy's mean cost per sample of an episode, from equal starts under equal disturbances.

        ::

            cost = mean of x' Q x + u' R u:      sqrt(cost) <= sqrt(expert's) + sqrt(|Q| of the states' bound + |R| of the actions')

        **Arguments:**

        - `expert`: the expert's mean cost of the episode, about the same equilibrium.
        - `Q`: weight of the state, (nx, nx) or its diagonal, symmetric and positive semidefinite.
        - `R`: weight of the action, likewise.

        **Raises:** `RobustctlError` for a cost below 0, and other weights.
        """
        if not is_real(expert) or not 0 <= expert < np.inf:
            raise RobustctlError(f"the expert's cost must be a finite number of at least 0, got {expert!r}")
        Q, R = (
            weight(w, n, name, definite=False)
            for w, n, name in ((Q, len(self.loop.P), "Q"), (R, self.loop.B.shape[1], "R"))
        )
        inverse = np.linalg.inv(self.loop.root)
        states = np.linalg.norm(inverse.T @ Q @ inverse, 2) * self.total**2
        return float((np.sqrt(expert) + np.sqrt(states + np.linalg.norm(R, 2) * self.action**2)) ** 2)

    def __str__(self) -> str:
        lines = [
            f"deviation from the expert's loop, from equal starts: at most {self.total:.6g} in the metric P"
        ]
        lines += [f"  state {k}: at most {bound:.6g}" for k, bound in enumerate(self.states)]
        lines.append(
            f"  by errors of the action {self.imitation:.6g}, by errors of the measurement {self.measurement:.6g}"
        )
        gain = Constant(self.loop.gain, "proven", "of the plant's model")
        named = (
            ("rate", self.loop.rate),
            ("gain", gain),
            ("action error", self.error),
            ("alpha", self.alpha),
            ("noise", self.noise),
        )
        lines += [f"  {name:<14}{c.value:<12.6g}{c.standing:<12}{c.how}".rstrip() for name, c in named]
        return "\n".join([*lines, *(f"  assumed: {text}" for text in self.assumptions)])


def deviation_bound(
    policy: Parameterization | System, loop: ContractingLoop, error: Constant | float, *, noise: Any = None,
    radius: float | None = None, seconds: float = 20.0,
) -> DeviationBound:  # fmt: skip
    """Bound how far a policy's loop can be from that of the expert it imitates: how much worse than the expert it can be.

    ::

        x+ = A x + B pi(x + n),    x*+ = A x* + B pi*(x*):      |x_t - x*_t|_P <= r^t |x_0 - x*_0|_P + b (e + alpha |n|_P) / (1 - r)

    With the expert's loop contracting, e must hold on the states of the policy's loop; with the policy's, on those of the expert's
    loop; for the bounds of action and cost always on those of the expert's. Both loops are about one linear plant, under the same
    disturbances.

    **Arguments:**

    - `policy`: without state, from the plant's state to the action.
    - `loop`: which contracts.
    - `error`: e, from `rc.train.ask(...).error(policy)` or `rc.train.held_out_error`; a number is assumed.
    - `noise`: the largest error of each measured state (nx,), default none.
    - `radius`: where `error` and a searched rate hold, `|x|_P <= radius` about the equilibrium of the loop that contracts: with this the
      undisturbed loops, from starts inside, are proven to stay there.
    - `seconds`: time limit of the proof of alpha.

    **Raises:** `RobustctlError` for a policy with state, parts that do not fit, and a radius that the policy's loop may leave.
    """
    of_type(
        loop,
        ContractingLoop,
        "loop must be a rc.train.ContractingLoop",
        "its linear, searched and of_policy make one",
    )
    system = without_state(policy, "the policy")
    nx, nu = loop.B.shape
    if system.nu not in (None, nx) or system.ny not in (None, nu):
        raise RobustctlError(
            f"the policy must read the loop's {nx} states and have its {nu} actions, got {system.nu} inputs and {system.ny} outputs"
        )
    alpha = policy_lipschitz(system, np.linalg.inv(loop.root), seconds)
    found = DeviationBound(loop, constant(error, "error"), alpha, _size(loop, noise), (_MODEL, _EVERYWHERE))
    if radius is None:
        return found
    if not found.total <= radius:
        raise RobustctlError(
            f"the loop must stay where the error of the action holds, |x|_P <= {radius:.4g}, got a bound of {found.total:.4g}; "
            f"{_advice(found, radius)}"
        )
    inside = f"error and rate hold where |x|_P <= {radius:.6g} about the equilibrium, starts are inside, and nothing disturbs the loops"
    return dataclasses.replace(found, assumptions=(_MODEL, inside))


def _advice(bound: DeviationBound, radius: float) -> str:
    if bound.measurement >= radius:
        return f"errors of the measurement alone reach {bound.measurement:.4g}: train with a smaller gamma, or ask on a larger set"
    allowed = (radius - bound.measurement) * (1 - bound.loop.rate.value) / bound.loop.gain
    return f"train the policy until its error is at most {allowed:.4g}, or ask on a larger set"


def _size(loop: ContractingLoop, noise: Any) -> Constant:
    """Return the largest error of the measured state in the metric."""
    from ..loops.state_sets import box_radius  # slow to import

    n = len(loop.P)
    size = np.zeros(n) if noise is None else np.asarray(noise, np.float64)
    if size.shape != (n,) or not (np.isfinite(size) & (size >= 0)).all():
        raise RobustctlError(
            f"noise must have a finite bound of at least 0 for each of {n} states, got {noise!r}"
        )
    how = "given for each state" if size.any() else "none"
    return Constant(box_radius(loop.root, np.diag(size)), "assumed", how)
