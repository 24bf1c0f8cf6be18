"""Episodes of a task on a sampled plant, with or without a base controller."""

import equinox as eqx
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from ..plants import Plant, Sampled, Task, draw, randomized
from ..scenario import Episode, Scenario
from ..system import System
from .alongside import learned_with
from .feedback import Feedback, LoopOutput


class PlantScenario(Scenario):
    """A task on a sampled plant, with or without a base controller that the learned system adds to.

    **Arguments:** `task`; `sampled`: the plant with its imperfections; `base`: a controller that the learned system adds to: a
    `Base`, of which it becomes Youla's Q, any other that holds the plant, a PID say, which it then goes `Alongside`, or
    None for direct feedback; `spread`: relative half widths of the plant's parameters, `{"mass": 0.1}`, drawn anew each episode;
    `model`: of the twin that runs beside such a controller, the plant as given here where left out. It stays as it is when
    the plant is changed afterwards, by a fault say, as the model in a `Base` does.
    """

    task: Task
    sampled: Sampled
    base: System | None = None
    spread: dict[str, float] = eqx.field(static=True, default_factory=dict)
    model: Sampled | None = None

    def __post_init__(self):
        """Keep the plant as given for the twin."""
        self.model = self.sampled if self.model is None else self.model

    def draw(self, key: PRNGKeyArray, samples: int) -> Episode:
        """Draw parameters, initial state, disturbance, reference and noise."""
        plant_key, x_key, w_key = jr.split(key, 3)
        plant = randomized(self.sampled.plant, plant_key, **self.spread)
        return Episode(plant, self.task.initial_state(x_key), draw(self.task, self.sampled, w_key, samples))

    def loop(self, policy: System, plant: Plant) -> Feedback:
        """Close the loop, through the base controller if there is one; its model is of the plant that was not redrawn."""
        sampled = eqx.tree_at(lambda s: s.plant, self.sampled, plant)
        assert self.model is not None
        return Feedback(sampled, policy if self.base is None else learned_with(self.base, self.model, policy))

    def initial(self, loop: System, x0: Array) -> PyTree:
        """Return the loop's state with the plant at `x0` and the controller at rest."""
        assert isinstance(loop, Feedback)
        return self.sampled.state_at(x0), loop.policy.init_state()

    def cost(self, output: LoopOutput, w: PyTree) -> Float[Array, ""]:
        """Return the task's cost of one sample."""
        return self.task.cost(output.x.x, self.sampled.within_limits(output.u), w.r)

    def disturbance(self, w: PyTree) -> Array:
        """Return the plant's disturbance."""
        return w.d

    def disturbed(self, w: PyTree, d: Array) -> PyTree:
        """Return `w` with `d` added to the plant's disturbance."""
        return w._replace(d=w.d + d)
