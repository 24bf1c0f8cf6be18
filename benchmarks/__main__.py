"""Commands that run the published benchmark problems: `python -m benchmarks PROBLEM`."""

import dataclasses
import sys
from pathlib import Path
from typing import Any, ClassVar, Literal

import jax

from robustctl.cli.arguments import run_command
from robustctl.errors import RobustctlError


@dataclasses.dataclass(frozen=True)
class Youla:
    """Youla feedback on a stable linear plant by the published protocol; an interrupted run is continued.

    Args:
        model: The network, at its published size.
        seeds: Number of seeds, starting with 0.
        quick: A few epochs, to check that it runs; the figures are meaningless.
        out: Folder for the results.
    """

    model: Literal["r2dn", "ren"] = "r2dn"
    seeds: int = 3
    quick: bool = False
    out: Path = Path("runs/benchmark")

    def __call__(self) -> int:
        """Run the command."""
        from robustctl.problems.youla_feedback import YoulaProtocol

        from .youla import benchmark

        fewer = {"epochs": 2, "batch": 4, "horizon": 100, "segment": 50} if self.quick else {}
        results = benchmark(YoulaProtocol(model=self.model, **fewer), _seeds(self.seeds), self.out)
        for run in results["runs"]:
            print(
                f"seed {run['seed']}: test cost {run['final_test_cost']:.4f}, {run['seconds_per_epoch']} s an epoch"
            )
        published = results["published"]
        print(
            f"mean {results['mean_final_test_cost']:.4f}; published {published['mean']} "
            f"[{published['lowest']}, {published['highest']}]; results in {self.out}"
        )
        return 0 if all(check["holds"] for run in results["runs"] for check in run["certificates"]) else 1


@dataclasses.dataclass(frozen=True)
class Pde:
    """A learned observer for a reaction-diffusion equation by the published protocol; an interrupted run is continued.

    Args:
        model: The network, at its published size.
        seeds: Number of seeds, starting with 0.
        quick: A few epochs on little data, to check that it runs; the figures are meaningless.
        generator: Data as published, or corrected by the sub-step that the published code drops.
        out: Folder for the results.
    """

    model: Literal["r2dn", "ren"] = "r2dn"
    seeds: int = 3
    quick: bool = False
    generator: Literal["parity", "corrected"] = "parity"
    out: Path = Path("runs/benchmark")

    def __call__(self) -> int:
        """Run the command."""
        from robustctl.problems.pde_observer import ObserverProtocol

        from .pde_observer import benchmark

        fewer = {"epochs": 3, "batches": 4, "batch": 50, "test_samples": 100} if self.quick else {}
        protocol = ObserverProtocol(model=self.model, generator=self.generator, **fewer)
        results = benchmark(protocol, _seeds(self.seeds), self.out)
        for run in results["runs"]:
            print(
                f"seed {run['seed']}: training loss {run['final_training_loss']:.3g}, "
                f"test NRMSE {run['test_nrmse']:.4f}, {run['seconds_per_epoch']} s an epoch"
            )
        published = results["published"]
        print(
            f"mean {results['mean_final_training_loss']:.3g}; published {published['mean']} "
            f"[{published['lowest']}, {published['highest']}]; results in {self.out}"
        )
        checks = [c for run in results["runs"] for c in (run["certificate"], *run["certificates"])]
        proven = all(check["holds"] for check in checks)
        return 0 if proven and all(run["convergence"]["within_bound"] for run in results["runs"]) else 1


@dataclasses.dataclass(frozen=True)
class _Unstable:
    """Youla on an unstable plant.

    Args:
        seeds: Number of seeds, starting with 0.
        quick: One gain and a few epochs, to check that it runs; the figures are meaningless.
        out: Folder for the results.
    """

    setting: ClassVar[str]
    seeds: int = 3
    quick: bool = False
    out: Path = Path("runs/benchmark")

    def __call__(self) -> int:
        """Run the command."""
        from robustctl.problems import unstable

        from .unstable import benchmark

        setting = getattr(unstable, self.setting)()
        setting, epochs = (unstable.quick(setting), 2) if self.quick else (setting, 100)
        results = benchmark(setting, _seeds(self.seeds), self.out, epochs=epochs)
        for name, cost in results["mean_relative_cost"].items():
            print(f"{name}: {cost:.3f} of the base controller's cost")
        print(f"results in {self.out}")
        guaranteed = [run for run in results["runs"] if run["policy"] != "LSTM"]
        return 0 if all(run["certificate"] for run in guaranteed) else 1


class MagneticSuspension(_Unstable):
    """Youla policies for a magnetically suspended ball: cost against the gain of Q, compared with an LSTM."""

    setting = "magnetic_suspension"


class RotaryPendulum(_Unstable):
    """Youla policies for a rotary pendulum: cost against the gain of Q, compared with an LSTM."""

    setting = "rotary_pendulum"


@dataclasses.dataclass(frozen=True)
class Speed:
    """Times of the R2DN at the published sizes: against the published arrangement and against rivals.

    Args:
        gpu: Measure instead what concerns only accelerators: the recurrence as one kernel, the loop as one graph, iterations
            over all samples, each against the scan.
        quick: Tiny sizes, to check that it runs; the figures are meaningless.
        out: Folder for the results.
    """

    gpu: bool = False
    quick: bool = False
    out: Path = Path("runs/benchmark")

    def __call__(self) -> int:
        """Run the command."""
        from .speed import accelerator, measure

        (accelerator if self.gpu else measure).benchmark(self.out, quick=self.quick)
        print(f"results in {self.out}")
        return 0


@dataclasses.dataclass(frozen=True)
class Expressivity:
    """Time against accuracy: R2DN and REN of many sizes fitted to one curve, the published study.

    Args:
        quick: Tiny sizes and little training, to check that it runs; the figures are meaningless.
        out: Folder for the results.
    """

    quick: bool = False
    out: Path = Path("runs/benchmark")

    def __call__(self) -> int:
        """Run the command."""
        from .speed.expressivity_run import benchmark

        results = benchmark(self.out, quick=self.quick)
        for kind, slopes in results["slopes"].items():
            for name, found in slopes.items():
                published = results["published_slopes"][kind][name]
                print(
                    f"{kind} {name}: slope {found['slope']:.3f} ({found['error']:.3f}), published {published:g}"
                )
        print(f"results in {self.out}")
        return 0


@dataclasses.dataclass(frozen=True)
class F16:
    """Identify an F-16's ground vibration; an interrupted benchmark is continued.

    Args:
        model: By the published protocol R2DN or REN at their published sizes, an R2DN with a bounded gain, an LSTM of equal
            size, or a linear model; "ours" for an R2DN with our own settings.
        seeds: Number of seeds, starting with 0.
        data: Folder in which the archive was unpacked; default: download it (148 MB).
        quick: Two epochs, to check that it runs; the figures are meaningless.
        out: Folder for runs and results.
    """

    model: Literal["r2dn", "ren", "lipschitz", "lstm", "linear", "ours"] = "r2dn"
    seeds: int = 3
    data: Path | None = None
    quick: bool = False
    out: Path = Path("runs/benchmark")

    def __call__(self) -> int:
        """Run the command."""
        from robustctl.problems import f16, f16_download

        from . import f16 as f16_run
        from . import f16_ours

        seeds = _seeds(self.seeds)
        fewer: dict[str, Any] = {"epochs": 2} if self.quick else {}
        records = f16.load(self.data or f16_download.download())
        ours = self.model == "ours"
        protocol = f16_ours.F16Settings(**fewer) if ours else f16.F16Protocol(model=self.model, **fewer)
        results = f16_run.benchmark(protocol, seeds, records, self.out)
        for run in results["runs"]:
            print(
                f"seed {run['seed']}: training loss {run['final_training_loss']:.3f}, test NRMSE {run['test']['nrmse']:.3f}, "
                f"{run['seconds_per_epoch']} s an epoch"
            )
        print(f"mean test NRMSE {results['mean_test_nrmse']:.3f}; results in {self.out}")
        return 1 if any(run["certificate_holds"] is False for run in results["runs"]) else 0


COMMANDS: dict[str, Any] = {
    "f16": F16, "youla": Youla, "pde": Pde, "magnetic-suspension": MagneticSuspension, "rotary-pendulum": RotaryPendulum,
    "speed": Speed, "expressivity": Expressivity,
}  # fmt: skip


def _seeds(count: int) -> range:
    if count < 1:
        raise RobustctlError(f"seeds must be at least 1, got {count}")
    return range(count)


def main(argv: list[str] | None = None) -> int:
    """Run a published benchmark problem and write its results and figure."""
    arguments = sys.argv[1:] if argv is None else argv
    trains = bool(arguments) and hasattr(COMMANDS.get(arguments[0]), "seeds")
    if trains and "--quick" not in arguments and jax.default_backend() == "cpu":
        print(
            "JAX found no GPU: a full run takes minutes to an hour per seed on a few CPU cores; --quick checks that it runs",
            file=sys.stderr,
        )
    return run_command(COMMANDS, arguments, "python -m benchmarks")


if __name__ == "__main__":
    sys.exit(main())
