"""Episodes of a task on a sampled plant, with or without a base controller."""

from collections.abc import Sequence
from typing import cast

import equinox as eqx
import jax
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray, PyTree
from typing_extensions import override

from ..errors import InvalidModelError
from ..nn import LipschitzR2DN, long_memory
from ..nn.activations import Activation
from ..plants import Plant, Sampled, Task, draw, randomized
from ..plants.plant import check_spread
from ..scaled import Rescaled
from ..scenario import Episode, Scenario
from ..system import Parameterization, System
from .alongside import learned_with
from .feedback import Feedback, LoopOutput, feedback


class PlantScenario(Scenario):
    """A task on a sampled plant, with or without a base controller that the learned system adds to.

    **Arguments:**

    - `task`: what disturbs the plant, and what a sample costs.
    - `sampled`: the plant with its imperfections.
    - `base`: a controller that the learned system adds to: a `Base`, of which it becomes Youla's Q; any other that
      stabilizes the plant, for example a `PID`, to which it is added by `Alongside`; None for direct feedback.
    - `spread`: relative half widths of the plant's parameters, `{"mass": 0.1}`, drawn again for each episode.
    - `model`: model for `Alongside`; default the plant as given here. It does not change when the plant is
      changed afterwards, for example by a fault; nor does the model in a `Base`.
    """

    task: Task
    sampled: Sampled
    base: System | None = None
    spread: dict[str, float] = eqx.field(static=True, default_factory=dict)
    model: Sampled | None = None

    def __post_init__(self):
        """Take the plant as given for the model where none is."""
        self.model = self.sampled if self.model is None else self.model

    def __check_init__(self):
        """Refuse spreads that no episode could be drawn with."""
        check_spread(self.sampled.plant, self.spread)

    @override
    def draw(self, key: PRNGKeyArray, samples: int) -> Episode:
        """Draw parameters, initial state, disturbance, reference and noise."""
        plant_key, x_key, w_key = jr.split(key, 3)
        plant = randomized(self.sampled.plant, plant_key, **self.spread)
        return Episode(plant, self.task.initial_state(x_key), draw(self.task, self.sampled, w_key, samples))

    @property
    def references(self) -> int:
        """Number of references in the task."""
        return eqx.filter_eval_shape(self.task.reference, jr.key(0), 1).shape[1]

    def q(
        self, *, gamma: float, u_scale: Sequence[float], y_scale: Sequence[float], nx: int = 8, nv: int = 16,
        hidden: Sequence[int] = (32,), activation: Activation = jax.nn.relu, key: PRNGKeyArray,
    ) -> Parameterization:  # fmt: skip
        """Return an R2DN of bounded gain to train: its sizes from the plant, its output scaled down.

        It reads the plant's outputs, or with a base controller the innovation, and the references; it gives the controls,
        or with a base controller what is added to them.

        **Arguments:**

        - `gamma`: bound on the gain between signals divided by their scales.
        - `u_scale`, `y_scale`: typical sizes of what it reads, one a signal, and of what it gives.
        - `nx`, `nv`: numbers of states and of the network's inputs.
        - `hidden`, `activation`: widths and activation of the network.

        **Raises:** `InvalidModelError` for scales that are not one a signal.
        """
        nu, ny = self.sampled.ny + self.references, self.sampled.nu
        if (len(u_scale), len(y_scale)) != (nu, ny):
            raise InvalidModelError(
                f"there must be {nu} u_scale, one for each output and reference, and {ny} y_scale, one for each control, got "
                f"{len(u_scale)} and {len(y_scale)}"
            )
        inner = LipschitzR2DN(
            nu=nu, nx=nx, nv=nv, ny=ny, hidden=hidden, gamma=gamma, activation=activation, init=long_memory, key=key
        )  # fmt: skip
        return Rescaled(inner, u_scale, y_scale).quiet()

    @override
    def loop(self, policy: System, plant: Plant | None = None) -> Feedback:
        """Close the loop about a drawn plant, or the nominal one, through the base controller if there is one.

        The base controller's model stays that of the nominal plant. `policy` of the loop is the whole controller.

        **Raises:** without `plant`, as `feedback`.
        """
        assert self.model is not None
        controller = policy if self.base is None else learned_with(self.base, self.model, policy)
        if plant is None:
            return feedback(self.sampled, controller, self.sampled.undisturbed(self.references))
        drawn = eqx.tree_at(lambda s: s.plant, self.sampled, plant)
        return Feedback(drawn, controller, self.sampled.ny + self.references)

    @override
    def initial(self, loop: System, x0: Array) -> PyTree:
        """Return the loop's state with the plant at `x0` and the controller in its initial state."""
        return self.sampled.state_at(x0), cast(Feedback, loop).policy.init_state()

    @override
    def cost(self, output: LoopOutput, w: PyTree) -> Float[Array, ""]:
        """Return the task's cost of one sample."""
        return self.task.cost(output.x.x, self.sampled.within_limits(output.u), w.r)

    @override
    def disturbance(self, w: PyTree) -> Array:
        """Return the plant's disturbance."""
        return w.d

    @override
    def disturbed(self, w: PyTree, d: Array) -> PyTree:
        """Return `w` with `d` added to the plant's disturbance."""
        return w._replace(d=w.d + d)
