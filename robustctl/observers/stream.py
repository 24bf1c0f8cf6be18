"""A trained observer alongside a running plant: one sample per call, with missing and implausible samples."""

import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree
from numpy.typing import ArrayLike

from ..data.record_checks import MEASURED, as_names
from ..errors import DataError, RobustctlWarning
from ..system import System
from ..train import RecordModel
from ..train.trained_range import Departure, departures, outside


class Estimate(NamedTuple):
    """An observer's output at one sample.

    **Arguments:**

    - `values`: (nz,), in the estimated channels' units
    - `stale`: (ny,), seconds since the last measurement of each measured channel, infinite before the first
    """

    values: np.ndarray
    stale: np.ndarray


class Stream:
    """An observer with a state from call to call.

    ::

        x+, estimate = step(x, [u, y]),     with y[k] the last value that was measured

    A sample that is NaN, infinite, outside its limits or too large for the model's dtype counts as not measured: the last
    measured value is held (before the first, the training mean), and the flag, if the observer was trained with flags, is
    0. The observer's input is therefore always finite, so its guarantees hold throughout: the estimate remains finite, and
    two estimates with the same samples converge at the certified rate, whatever was lost before.

    **Arguments:**

    - `model`: the model that `rc.fit` made from a record of `for_observer`
    - `measured`: the names given there
    - `limits`: lowest and highest possible value of a channel, by its name; a saturated sensor reads the end of its range,
      so give limits just inside

    **Raises:** `DataError` for channels that the model does not have.

    **Example:** ::

        sampled = rc.plants.Sampled(rc.plants.TwoTanks(), 2.0)
        log = rc.observers.simulate_log(sampled, [rc.data.multisine(100, rms=0.1)], key=jax.random.key(0))
        record = rc.observers.for_observer(log, "lower", ("true upper", "true lower"))
        core = rc.nn.ContractingR2DN(nu=2, nx=2, nv=2, ny=2, hidden=(2,), key=jax.random.key(1))
        model = rc.fit(rc.nn.StateObserver(core), record, epochs=1, key=jax.random.key(2)).model
        stream = rc.observers.Stream(model, measured="lower")
        estimate = stream(2.9, np.nan)          # once per sample; NaN for a sample that was not measured
    """

    def __init__(
        self,
        model: RecordModel,
        measured: Sequence[str] | str,
        *,
        limits: Mapping[str, tuple[float, float]] | None = None,
    ):
        self.measured, self.estimated = as_names(measured, "measured"), model.outputs
        self.dt = model.dt
        limits = {} if limits is None else dict(limits)
        for name in (*self.measured, *limits):
            if name not in model.inputs:
                raise DataError(
                    f"{name!r} must be a channel that the observer reads, which are {model.inputs}"
                )
        flags = [f"{name}{MEASURED}" for name in self.measured]
        self.flagged = all(flag in model.inputs for flag in flags)
        self.controls = tuple(n for n in model.inputs if n not in self.measured and n not in flags)
        read = (*self.controls, *self.measured)
        self._limits = np.asarray([limits.get(name, (-np.inf, np.inf)) for name in read], float)
        # A scaled input of at most sqrt(largest number), so that its square, in norms, is finite
        self._most = (
            float(np.sqrt(np.finfo(model.dtype).max))
            * model.scaling.u_std[[model.inputs.index(n) for n in read]]
        )
        self._ranges = (
            None if model.trained is None else [model.trained.u[model.inputs.index(n)] for n in read]
        )
        self._read, self._units = read, [model.input_units[model.inputs.index(n)] for n in read]
        # Channels in the order of the model's inputs, which the record's names set
        self._order = [(*read, *(flags if self.flagged else ())).index(name) for name in model.inputs]
        self._mean = np.asarray([model.scaling.u_mean[model.inputs.index(name)] for name in read])
        self._dtype = model.dtype
        self._system: System = model.explicit().prepare()
        self.reset()

    def reset(self) -> None:
        """Return to the observer's own initial state, before any measurement."""
        self._x: PyTree = self._system.init_state()
        self._held = self._mean.copy()
        self._stale = np.full(len(self.measured), np.inf)
        self._samples, self._beyond = np.zeros((2, len(self._read)), int)
        self._excess, self._warned = np.zeros(len(self._read)), False

    def outside(self) -> tuple[Departure, ...]:
        """Return which channels left the range that the model was trained in since the last `reset`, in which share of the samples.

        The first time that there are any, there is a RobustctlWarning. Older files have no ranges, so that nothing leaves them.
        """
        if self._ranges is None:
            return ()
        return tuple(
            departures(self._read, self._units, self._ranges, self._beyond, self._samples, self._excess)
        )

    def _compare(self, given: np.ndarray, good: np.ndarray) -> None:
        if self._ranges is None:
            return
        beyond, excess = outside(given[None], good[None], self._ranges)
        self._samples, self._beyond = self._samples + good, self._beyond + beyond
        self._excess = np.maximum(self._excess, excess)
        if not self._warned and beyond.any() and (found := self.outside()):
            self._warned = True
            text = f"{'; '.join(map(str, found))}: the observer extrapolates there"
            warnings.warn(text, RobustctlWarning, stacklevel=3)

    def __call__(self, u: ArrayLike, y: ArrayLike) -> Estimate:
        """Take one sample of the controls (nu,) and of the measured channels (ny,), and return the estimate.

        **Raises:** `DataError` for another number of channels; the observer's state is then unchanged.
        """
        given = np.concatenate([self._checked(u, self.controls), self._checked(y, self.measured)])
        # A comparison with NaN is False, so NaN counts as not measured.
        good = (
            (np.abs(given - self._mean) < self._most)
            & (given >= self._limits[:, 0])
            & (given <= self._limits[:, 1])
        )
        self._held = np.where(good, given, self._held)
        self._compare(given, good)
        measured = good[len(self.controls) :]
        self._stale = np.where(measured, 0.0, self._stale + self.dt)
        v = np.concatenate([self._held, measured.astype(float)]) if self.flagged else self._held
        self._x, values = _step(self._system, self._x, jnp.asarray(v[self._order], self._dtype))
        return Estimate(np.asarray(values, float), self._stale)

    def skip(self, samples: int) -> Estimate:
        """Advance over missing samples, with the last values held, and return the estimate.

        **Raises:** `DataError` for a number below 1.
        """
        if samples < 1:
            raise DataError(f"samples must be at least 1, got {samples}")
        # The steps are the same as for NaN samples, so the state is exactly that of calls without measurements.
        nothing = np.full(len(self.controls), np.nan), np.full(len(self.measured), np.nan)
        for _ in range(samples - 1):
            self(*nothing)
        return self(*nothing)

    def _checked(self, values: ArrayLike, names: tuple[str, ...]) -> np.ndarray:
        array = np.atleast_1d(np.asarray(values, float))
        if array.shape != (len(names),):
            raise DataError(f"there must be one number for each of {names}, got shape {array.shape}")
        return array


@eqx.filter_jit
def _step(system: System, x: PyTree, u: Array) -> tuple[PyTree, Array]:
    with jax.named_scope("observer"):
        return system.step(x, u)
