"""Commands on logs and models: a thin layer over `data`, `recipe`, `save`, `certify` and `fit_report`."""

import dataclasses
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import tyro

from ..errors import RobustctlError
from ..recipe import Recipe
from .advise import print_recommendations
from .arguments import arguments
from .reading import LogOptions, Logs, Reading, check_given
from .targets import check_differs, check_trained, check_writable

PROOFS = 0.05
"""Share of the time limit for the search of proofs."""

SEARCHED = ("epochs",)
"""Settings that a search changes even where they are given."""

Log = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="LOG")]
Model = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="MODEL")]


@dataclasses.dataclass(frozen=True)
class Demo:
    """Identify a simulated heat exchanger, in half a minute: train, compare with a linear model, certify, save.

    Args:
        out: Folder for the model and its report.
        seed: Random seed of the simulated logs and the training.
    """

    out: Path = Path("runs/demo")
    seed: int = 0

    @property
    def recipe(self) -> Recipe:
        """Model and training of the demonstration."""
        return Recipe(
            model="lipschitz",
            gamma=10.0,
            init="linear",
            nx=4,
            nv=8,
            hidden=(16,),
            seeds=1,
            validation=0.0,
            epochs=100,
            seed=self.seed,
        )

    @property
    def source(self) -> str:
        """What the records are read from; here they are simulated."""
        return "they"

    @property
    def model_file(self) -> Path:
        """The file that it writes."""
        return self.out / "exchanger.safetensors"

    def records(self):
        """Return the record to fit, and the one to test on."""
        from ..identify.recipe import check_recipe
        from ..problems import heat_exchanger

        check_recipe(self.recipe)
        return heat_exchanger(1000, seed=self.seed), heat_exchanger(600, seed=self.seed + 1)

    def into(self, folder: Path) -> "Demo":
        """Return the same command with another folder."""
        return dataclasses.replace(self, out=folder)

    def __call__(self) -> int:
        """Run the command."""
        from ..runs import Run

        print(
            "a simulated heat exchanger, valve -> outlet temperature: 1,000 samples to train on, 600 others to test on"
        )
        out = self.model_file
        check_trained(out, self.out)
        run = Run(self.out, resume=True, command=("demo", *arguments(self)))
        record, test = self.records()
        status = _identify(record, test, self.recipe, out, lambda recipe: run)
        for name, log in (("log", record), ("test", test)):
            _write_log(self.out / f"{name}.csv", log)
        print(f"logs to try the other commands on: {self.out / 'log.csv'}, {self.out / 'test.csv'}")
        return status


@dataclasses.dataclass(frozen=True)
class FitLog:
    """Fit a model with a certificate to a logged experiment, test it in free run and save it.

    Args:
        log: The record, or several files with one experiment each: csv and other text, xlsx, parquet, mat, hdf5 or NumPy.
        inputs: Columns of the plant's inputs.
        outputs: Columns of the plant's outputs.
        dt: Sample time in seconds; or give the column of time stamps.
        time: Column of time stamps: numbers, dates or times of day; or a column of dates and one of times of day.
        test: Another record with the same channels; the log itself where only `test_inputs` or `test_outputs` are given.
        test_inputs: The test record's columns in the order of `inputs`, where they are named differently.
        test_outputs: The test record's columns in the order of `outputs`, where they are named differently.
        reading: How the logs are written.
        recipe: Model and training; what is not given is chosen from the log.
        out: Model file; default: the log's name with the suffix .safetensors, in the working folder.
        run: Run folder, for training log, checkpoints and report; default: the model's name without its suffix.
        resume: Continue the run in that folder; the result is the same as without the interruption.
    """

    log: Logs
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    dt: float | None = None
    time: tuple[str, ...] = ()
    test: Path | None = None
    test_inputs: tuple[str, ...] | None = None
    test_outputs: tuple[str, ...] | None = None
    reading: LogOptions = dataclasses.field(default_factory=Reading)
    recipe: Annotated[Recipe, tyro.conf.arg(name="")] = dataclasses.field(default_factory=Recipe)
    out: Path | None = None
    run: Path | None = None
    resume: bool = False

    @property
    def source(self) -> str:
        """What the records are read from."""
        return ", ".join(map(str, self.log))

    @property
    def model_file(self) -> Path:
        """The file that it writes."""
        return self.out or Path(self.log[0].stem + ".safetensors")

    def records(self):
        """Return the record to fit, and the one to test on, or None."""
        record = self.reading.record(self.log, self.inputs, self.outputs, self.dt, self.time)
        test = None
        if self.test or self.test_inputs or self.test_outputs:
            inputs, outputs = self.test_inputs or self.inputs, self.test_outputs or self.outputs
            reading = self.reading.renamed(self.inputs, inputs)
            test = reading.record(self.test or self.log, inputs, outputs, self.dt, self.time)
            test = dataclasses.replace(test, inputs=record.inputs, outputs=record.outputs)
        return record, test

    def into(self, folder: Path) -> "FitLog":
        """Return the same command for a new run in another folder, which also gets the model file."""
        return dataclasses.replace(self, run=folder, out=folder / "model.safetensors", resume=False)

    def __call__(self) -> int:
        """Run the command."""
        from ..runs import Run
        from ..runs.run_folder import check_not_begun

        check_given(self.log)
        out = self.model_file
        folder = self.run or out.with_suffix("")
        check_trained(out, folder, log=self.log, test=self.test)
        check_not_begun(folder, self.resume)

        def run(recipe: Recipe) -> Run:
            # The command that gives this model again, without a search and without a time limit that could end it elsewhere.
            made = dataclasses.replace(self, recipe=recipe, resume=False)
            return Run(folder, self.resume, command=("fit", *arguments(made)))

        return _identify(
            *self.records(), _begun(folder, self.recipe) if self.resume else self.recipe, out, run
        )


@dataclasses.dataclass(frozen=True)
class Certify:
    """Verify a saved model's guarantee from its matrices; exit status 1 if it does not hold.

    It prints what the construction promises, the smallest gain and rate that could be proven, and a gain searched from below.

    Args:
        model: The model file.
        json: Print the certificate as JSON.
        prove: Search the smallest gain and rate that can be proven.
        search: Search for a gain from below.
        seconds: Time limit of the proofs.
    """

    model: Model
    json: bool = False
    prove: bool = True
    search: bool = True
    seconds: float = 60.0

    def __call__(self) -> int:
        """Run the command."""
        from ..certificates import certify
        from ..io import load

        found = certify(load(self.model), prove=self.prove, seconds=self.seconds, search=self.search)
        print(found.to_json() if self.json else found)
        return 0 if found.holds else 1


@dataclasses.dataclass(frozen=True)
class Simulate:
    """Simulate a log with a saved model in free run, score it, and write the simulated outputs.

    Args:
        model: The model file.
        log: The record, with the model's channels and sample time.
        inputs: The log's columns in the order of the model's inputs, where they are named differently.
        outputs: The log's columns in the order of the model's outputs, where they are named differently.
        time: Column of time stamps, which shows gaps and another sample time; without it each row is one sample.
        reading: How the log is written.
        out: csv file for the simulated outputs; default: the log's name with .simulated.csv, in the working folder.
        report: Folder for a report with figures; default: no report.
    """

    model: Model
    log: Log
    inputs: tuple[str, ...] | None = None
    outputs: tuple[str, ...] | None = None
    time: tuple[str, ...] = ()
    reading: LogOptions = dataclasses.field(default_factory=Reading)
    out: Path | None = None
    report: Path | None = None

    def __call__(self) -> int:
        """Run the command."""
        from ..io import load
        from ..reports import fit_report
        from ..train.record_model import check_fitted

        out = self.out or Path(self.log.stem + ".simulated.csv")
        check_differs("out", out, log=self.log, model=self.model)
        model = load(self.model)
        check_fitted(model, f"the model in {self.model}")
        record = self.reading.record_for(model, self.log, self.inputs, self.outputs, self.time)
        made = fit_report(model, record)
        print(made)
        made.simulation.to_csv(out)
        print(f"simulated outputs: {out}")
        if self.report:
            made.save(self.report)
            print(f"report: {self.report}")
        return 0


def _begun(folder: Path, recipe: Recipe) -> Recipe:
    """Return the settings of a run that has begun, which the search chose; those given where there is none, or where they are complete."""
    from ..identify.search import is_complete
    from ..runs.run_folder import SETTINGS
    from ..store.entries import entry
    from ..store.json_text import parse_object
    from .arguments import rebuilt

    if is_complete(recipe) or not (folder / SETTINGS).exists():
        return recipe
    try:
        words = entry(parse_object((folder / SETTINGS).read_bytes()), "command", list)
    except ValueError as error:
        raise RobustctlError(
            f"{folder / SETTINGS} must describe the run, but it is damaged: {error}; give another --run"
        ) from error
    chosen = rebuilt({"fit": FitLog}, words).recipe
    usual = {f.name: f.default for f in dataclasses.fields(Recipe) if f.name not in SEARCHED}
    given = {
        name: value
        for name, value in dataclasses.asdict(recipe).items()
        if name in usual and value != usual[name]
    }
    return dataclasses.replace(chosen, **given)


def _identify(record, test, recipe: Recipe, out: Path, run_of) -> int:
    """Fit a record, save the model and its report; `run_of`: from the settings that were chosen to the run folder."""
    from ..certificates import certify
    from ..identify.auto import trained
    from ..identify.recipe import check_length, check_record
    from ..identify.search import Clock, choose
    from ..reports import fit_report
    from ..runs.monitor import SHOWN
    from ..runs.repetition import SCORES
    from ..store.json_text import write_json

    print(record)
    tested = record if test is None else test
    check_length(tested, recipe)
    check_record(record, recipe)
    check_writable(out)
    print_recommendations(record)
    clock = Clock(recipe.minutes)
    say = clock.lines(SHOWN)
    choice = choose(record, recipe, clock, say)
    run = run_of(choice.recipe)
    fitted = trained(choice, record, clock, test=test, run=run)
    # Before the certificate, which takes a while, and the report, which may refuse the test record
    _save(fitted.model, out, Path(run.folder))
    say("trained and saved; compiling the checks of the certificate and proving the smallest gain and rate")
    proof = certify(fitted.model, search=True, seconds=max(PROOFS * 60 * recipe.minutes, 1.0))
    say("simulating the report's record" if test is None else "simulating the test record")
    linear = None if choice.linear is None else choice.linear.model
    made = fit_report(fitted.model, tested, fit=fitted, certificate=proof, trained_on=record, linear=linear)
    try:
        made.save(run.folder)
        write_json(Path(run.folder) / SCORES, fitted.scores)
    except OSError as error:
        raise RobustctlError(
            f"the model is in {out}, but its report could not be written to {run.folder}: {error.strerror or error}; make room, "
            "and give the same command with --resume"
        ) from error
    print(made)
    if choice.note:
        print(choice.note)
    print(f"model: {out}    report: {run.folder}")
    return 0 if proof.holds or recipe.model in ("gru", "lstm") else 1


def _write_log(path: Path, record) -> None:
    """Write a record of one experiment as a csv file without time stamps."""
    import numpy as np

    e = record.experiments[0]
    table, names = np.hstack([e.u, e.y]), ",".join(record.inputs + record.outputs)
    np.savetxt(path, table, fmt="%.6g", delimiter=",", header=names, comments="")


def _save(model, out: Path, folder: Path) -> None:
    """Save a trained model, in the run folder where `out` can no longer be written.

    **Raises:** `RobustctlError` with how to get the model.
    """
    from ..io import save

    try:
        save(out, model)
    except OSError as error:
        there, spare = "", folder / "model.safetensors"
        with suppress(OSError):
            save(spare, model)
            there = f"it is in {spare}: copy it from there, or "
        raise RobustctlError(
            f"the model was trained, but {out} could not be written: {error.strerror or error}; {there}give the same command "
            f"with --run {folder} --resume and an --out that can be written, which does not train again"
        ) from error
