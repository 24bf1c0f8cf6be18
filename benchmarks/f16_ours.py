"""Our own settings for problem 1: a linear model fitted to spectra, and an R2DN that corrects it."""

import dataclasses

import optax
from jaxtyping import PRNGKeyArray

from robustctl import nn
from robustctl.data import Record, Scaling, average_periods, windows
from robustctl.identify.modal import modal_prior
from robustctl.problems.f16 import RATE, FitArguments, training
from robustctl.train import Identification

PERIOD = 8192
BAND = (2.0, 180.0)
"""Hz: the excitation begins at 2 Hz, and its harmonics fill the band of the sensors."""


@dataclasses.dataclass(frozen=True)
class F16Settings:
    """Differences from the published protocol, and their reasons.

    - Signals are scaled by the training levels alone.
    - The nine periods of a record repeat one multisine. A linear model of `modes` modes is fitted to the spectra of their mean
      and then fixed; an R2DN whose inputs are the plant's inputs and that model's states corrects it (`rc.nn.CorrectedR2DN`).
      One certificate holds for both.
    - Windows of `window` samples, after a washout of `washout` samples, in batches of `batch`: the gradient passes through
      the whole window. They start every `stride` samples, which does not divide the period: from windows at equal phases of
      every period, a model would learn the phase of the start, which other simulations do not have.
    - Adam with a rate that rises over a twentieth of the steps and falls to zero along a cosine, and a clipped gradient norm.
    """

    model: str = "r2dn"
    modes: int = 12
    nx: int = 40
    nv: int = 128
    hidden: tuple[int, ...] = (96,) * 4
    epochs: int = 80
    window: int = 1024
    washout: int = 1024
    stride: int = 1000
    batch: int = 16
    learning_rate: float = 3e-3
    clip: float = 1.0
    period: int = PERIOD

    def fit_arguments(self, records: dict[int, Record], key: PRNGKeyArray) -> FitArguments:
        """Return the arguments of `rc.fit` for one seed."""
        levels = training(records)
        scaling = Scaling.fit(levels)
        data = windows(levels, self.washout + self.window, self.stride)
        problem = Identification(data, scaling=scaling, washout=self.washout, batch_size=self.batch)
        model = self._model(average_periods(scaling.apply(levels), self.period), key)
        return FitArguments(problem, model, self.optimizer(len(data.experiments)))

    def optimizer(self, experiments: int) -> optax.GradientTransformation:
        """Return Adam with its schedule for so many windows."""
        steps = self.epochs * -(-experiments // self.batch)
        rate = optax.warmup_cosine_decay_schedule(0.0, self.learning_rate, max(steps // 20, 1), max(steps, 2))
        return optax.chain(optax.clip_by_global_norm(self.clip), optax.adam(rate))

    def _model(self, scaled: Record, key: PRNGKeyArray) -> nn.CorrectedR2DN:
        prior = modal_prior(scaled, self.modes, BAND)
        core = nn.ContractingR2DN(
            nu=scaled.nu + len(prior["A"]), nx=self.nx, nv=self.nv, ny=scaled.ny, hidden=self.hidden,
            init=nn.resonances(*BAND, dt=1 / RATE), key=key,
        )  # fmt: skip
        return nn.CorrectedR2DN(**prior, core=nn.quiet(core))
