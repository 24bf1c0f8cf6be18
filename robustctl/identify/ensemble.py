"""Several models of one record, trained as one: on whole experiments, or on random windows of long ones."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jax import lax
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from ..data import Record, Scaling, delay
from ..nn import Average
from ..runs.devices import one_by_one
from ..runs.fingerprint import data_hash, model_hash
from ..system import Parameterization, dtype_of
from ..train import Fit, LearnedState, RecordModel, mean_squared_error
from ..train.fitted_model import fitted_to
from ..train.optimizer import RAMP, rate_share
from ..train.problem import Descend, Objective, Outcome, Problem, State, Steps
from ..trajectory import rollout
from .members import Member, Members, Places, Trained, arrays_of, flattened, members_of, stacked
from .pieces import Pieces, cut_record, spans


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How gradient steps draw from a record.

    **Arguments:**

    - `piece`: most samples that are simulated one after the other; longer experiments are cut, the state carried over.
    - `window`: samples of a random window; 0: whole pieces, all of them at each step.
    - `batch`: windows at each step.
    - `steps`: gradient steps in an epoch.
    """

    piece: int
    window: int
    batch: int
    steps: int


@dataclasses.dataclass(frozen=True)
class Ensemble(Problem[Fit]):
    """Minimize the free-run error of several models on a record, each separately.

    ::

        min  mean over members k, measured samples t not held out of k of  (y_k[t] - y[t])^2

    The state at the start of each experiment is trained, too. Of each member another part of each experiment is held out, and the error
    of all members there selects the epoch that is returned: the members' mean has seen the whole record, and no member selects on what
    it was trained on.

    **Arguments:**

    - `record`: the experiments.
    - `held`: share of each experiment that is held out of each member, see `spans`.
    - `sampling`: how gradient steps draw.
    - `epochs`: of the schedule: flat for the first half, then falling to zero.
    - `learning_rate`: of the first half; the optimizer must be one of `separate_rates`.
    - `scaling`: of the signals.
    - `horizon`: samples from which the initial state of another record is estimated.
    - `delay`: samples by which each input acts late; () where none does.
    """

    record: Record
    held: float
    sampling: Sampling
    epochs: int
    learning_rate: float
    scaling: Scaling
    horizon: int
    delay: tuple[int, ...] = ()

    def prepare(self, model: Sequence[Member], key: PRNGKeyArray) -> tuple[Trained, "EnsembleObjective"]:
        """Return the arrays to train and the objective; `model`: the members, of equal shapes."""
        models = [member.model for member in model]
        dtype = dtype_of(models[0])
        late = max(self.delay, default=0)
        scaled = self.scaling.apply(self.record)
        scaled = delay(scaled, self.delay) if late else scaled
        held = spans(self.held, len(model))
        data = cut_record(scaled, held, late, self.sampling.piece, dtype)
        # The first members' spans are all that there are.
        alike = np.array([[own == span for own in held] for span in dict.fromkeys(held)], dtype)
        alike /= alike.sum(axis=1, keepdims=True)
        window = self.sampling.window if 0 < self.sampling.window < data.u.shape[1] else 0
        arrays, fixed = eqx.partition(stacked(models), eqx.is_inexact_array)
        first = np.flatnonzero(np.asarray(data.first))
        # Pieces inside of an experiment get their states from the pieces before.
        x0 = np.zeros((len(model), len(data.first), model[0].x0.shape[-1]), dtype)
        x0[:, first] = np.stack([member.x0 for member in model])
        trained, places = flattened(arrays, jnp.asarray(x0))
        objective = EnsembleObjective(
            fixed=fixed, places=places, data=data, alike=jnp.asarray(alike), key=key, epochs=jnp.asarray(self.epochs, jnp.int32),
            rate=jnp.asarray(self.learning_rate, dtype), window=window, batch=self.sampling.batch, steps=self.sampling.steps,
            held=self.held > 0, carry=window > 0 or first.size < data.first.size,
        )  # fmt: skip
        return trained, objective

    def fingerprint(self, whole: Members) -> dict[str, str]:
        """Return hashes of the record and of the untrained models."""
        return {"data": data_hash(self.record), "model": model_hash(whole.models)}

    def settings(self) -> dict[str, Any]:
        """Return how the record is drawn from."""
        return dataclasses.asdict(self.sampling) | {
            "held": self.held, "epochs": self.epochs, "learning_rate": self.learning_rate, "horizon": self.horizon,
            "delay": self.delay,
        }  # fmt: skip

    def result(self, outcome: Outcome) -> Fit:
        """Return the fit, whose model is the average of the members, or the only one."""
        values: dict[str, Any] = vars(outcome) | {"model": self.fitted(members_of(outcome.model.models))}
        return Fit(**values)

    def fitted(self, members: Sequence[Parameterization]) -> RecordModel:
        """Return members as a model in the record's units."""
        model = members[0] if len(members) == 1 else Average(tuple(members))
        r, zero = self.record, model.explicit().init_state()
        x0 = jax.tree.map(lambda a: jnp.zeros((len(r.experiments), *a.shape), a.dtype), zero)
        initial = LearnedState(x0=x0, horizon=self.horizon)
        return fitted_to(r, model, initial, self.scaling, self.delay)


class EnsembleObjective(Objective):
    """The free-run error of stacked models: packed data and settings. The schedule's length is an array: another compiles nothing.

    `alike`: for each span that is held out, the shares of the members that it is held out of.
    """

    fixed: PyTree
    places: Places = eqx.field(static=True)
    data: Pieces
    alike: Float[Array, "s k"]
    key: PRNGKeyArray
    epochs: Int[Array, ""]
    rate: Float[Array, ""]
    window: int = eqx.field(static=True)
    batch: int = eqx.field(static=True)
    steps: int = eqx.field(static=True)
    held: bool = eqx.field(static=True)
    carry: bool = eqx.field(static=True)
    mesh: Mesh | None = eqx.field(static=True, default=None)

    def epoch(self, state: State, descend: Descend) -> tuple[State, Steps]:
        """Set the rate, carry the states over from piece to piece, and take the gradient steps."""
        x0, xs = self._carried(state.trained)
        share = rate_share(state.epoch, self.epochs, max(RAMP // self.steps, 1))
        rate = self.rate * share.astype(self.rate.dtype)
        opt_state = optax.tree.set(state.opt_state, learning_rate=rate)
        state = state._replace(trained=state.trained._replace(x0=x0), opt_state=opt_state)
        if not self.window:
            whole = jnp.arange(self.steps)
            return descend(state, lambda own, _, __: (self._piece_loss(own), None), None, whole)
        drawn = self._draw(jr.fold_in(self.key, state.epoch))
        return descend(state, lambda own, _, chosen: (self._window_loss(own, xs, chosen), None), None, drawn)

    def validate(self, trained: Trained) -> Array | None:
        """Return the error on the parts held out, each predicted by the mean of the members that it was held out of."""
        if not self.held:
            return None
        data, mine = self.data, self.data.held_pieces
        ys = self._runs(trained, data.u[mine], trained.x0[:, mine])[0]
        means = jnp.tensordot(self.alike, ys, 1)
        y, held = jnp.broadcast_to(data.y[mine], means.shape), data.held[: len(means), mine]
        return mean_squared_error(*(a.reshape(-1, *a.shape[2:]) for a in (means, y, held)))

    def shown(self, trained: Trained) -> Any:
        """Return the stacked models."""
        return eqx.combine(arrays_of(trained, self.places), self.fixed)

    def whole(self, trained: Trained) -> Members:
        """Return the stacked models with the initial states."""
        return Members(self.shown(trained), trained.x0)

    def _runs(
        self, trained: Trained, us: Array, x0: Array, keep: bool = False
    ) -> tuple[Array, Array, Array | None]:
        return runs(self.shown(trained), us, x0, keep)

    def _carried(self, trained: Trained) -> tuple[Array, Array | None]:
        """Return the state at the start of each piece as the piece before ends with it, and with windows all states."""
        if not self.carry:
            return trained.x0, None
        _, last, xs = self._runs(trained, self.data.u, trained.x0, keep=bool(self.window))
        carried = jnp.where(self.data.first[None, :, None], trained.x0, last[:, self.data.before])
        return carried, xs

    def _piece_loss(self, trained: Trained) -> Array:
        data, mine = self.data, self.data.fit_pieces
        x0 = trained.x0[:, mine]
        x0 = jnp.where(data.first[mine][None, :, None], x0, lax.stop_gradient(x0))
        ys = self._runs(trained, data.u[mine], x0)[0]
        return jnp.mean(
            jax.vmap(lambda y, fit: mean_squared_error(y, data.y[mine], fit))(ys, data.fit[:, mine])
        )

    def _draw(self, key: PRNGKeyArray) -> tuple[Array, Array]:
        of_piece, of_start = jr.split(key)
        shape = (self.steps, self.batch)
        p = self.data.fit_pieces[jr.randint(of_piece, shape, 0, self.data.fit_pieces.size)]
        return p, jr.randint(of_start, shape, 0, self.data.u.shape[1] - self.window + 1)

    def _window_loss(self, trained: Trained, xs: Array | None, chosen: tuple[Array, Array]) -> Array:
        p, t = chosen
        assert xs is not None
        x0 = lax.stop_gradient(xs)[:, p, t]

        def window(a):
            return jax.vmap(lambda p, t: lax.dynamic_slice_in_dim(a[p], t, self.window))(p, t)

        ys = self._runs(trained, window(self.data.u), x0)[0]
        y, masks = window(self.data.y), jax.vmap(window)(self.data.fit)
        return jnp.mean(jax.vmap(lambda own, mask: mean_squared_error(own, y, mask))(ys, masks))


def runs(models: Any, us: Array, x0: Array, keep: bool) -> tuple[Array, Array, Array | None]:
    """Return outputs (k, P, T, ny), last states, and where asked for all states, of stacked models from `x0` (k, P, nx)."""
    rest = []

    def explicit(own):
        arrays, other = eqx.partition(eqx.combine(own, static).explicit(), eqx.is_array)
        rest.append(other)
        return arrays

    moved, static = eqx.partition(models, eqx.is_array)
    # Batched factorizations can wait for each other on a CPU, as in `train.seeds`.
    systems = one_by_one(explicit)(moved)

    def of_member(arrays, x0):
        system = eqx.combine(arrays, rest[0])
        state = ravel_pytree(system.init_state())[1]

        def one(u, x):
            run = rollout(system, u, state(x))
            xs = jax.vmap(lambda x: ravel_pytree(x)[0])(run.xs) if keep else None
            return run.ys, ravel_pytree(run.x_final)[0], xs

        return jax.vmap(one)(us, x0)

    return jax.vmap(of_member)(systems, x0)


@functools.lru_cache(maxsize=8)
def separate_rates(linear_share: float) -> optax.GradientTransformation:
    """Return Adam on clipped gradients whose linear arrays learn at a share of the rate, which the problem sets at each epoch."""

    def slowed(updates, params=None):
        return updates._replace(linear=updates.linear * linear_share)

    # The number only makes the state's entry: the problem replaces it before the first step.
    rate = optax.inject_hyperparams(optax.scale_by_learning_rate)(learning_rate=1e-2)
    return optax.chain(optax.clip(10.0), optax.scale_by_adam(), optax.stateless(slowed), rate)
