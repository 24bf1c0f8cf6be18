"""Identify a model from a log: read, split, fit, certify, test, save.

    python NAME.py             a minute or two on two CPU cores
    python NAME.py --quick     a few epochs, to check that it runs

The log is simulated: a heat exchanger, whose gain and speed change with the opening of its valve. The lines to change for your own
log are marked CHANGE.
docs/identification.md and tutorials/identify_your_log.py of robustctl explain each step.
"""

import argparse
from pathlib import Path

import jax.random as jr

import robustctl as rc
from robustctl.problems import heat_exchanger


def read_log() -> tuple[rc.data.Record, rc.data.Record]:
    """Return the record to train on, and another experiment to test on."""
    # CHANGE to your files: rc.data.read("log.csv", inputs=["valve"], outputs=["outlet"], dt=2.0, units={"valve": "%"})
    # With a single file: train, test = rc.data.split(record, (0.75, 0.25))
    return heat_exchanger(1000, seed=0), heat_exchanger(600, seed=1)


def main(quick: bool, out: Path) -> None:
    """Train, certify, test and save."""
    out.mkdir(parents=True, exist_ok=True)
    record, test = read_log()
    print(record)
    if not quick:
        print(rc.advice.advise(record))  # what the log shows before training
    # The line that a network must beat; the network starts there, with at least its states and its delay.
    linear = rc.identify.subspace(record)
    print(f"linear model: {linear.order} states, delay {linear.delay}")

    # CHANGE the sizes: larger ones while the error on `test` falls. rc.nn.Lipschitz(gamma=10.0) bounds the gain, too, between signals
    # scaled to standard deviation one. rc.identify.auto(record, key=jr.key(0)) chooses all this, in minutes.
    begin = rc.identify.start(record, linear, rc.nn.Contracting(), nv=16, hidden=(32,), key=jr.key(0))
    epochs = 3 if quick else 500
    problem = rc.train.Identification(record, scaling=begin.scaling, initial=begin.initial, delay=begin.delay)
    fitted = rc.train.train(
        problem, begin.model, optimizer=rc.train.two_rate_adam(epochs), epochs=epochs, key=jr.key(1)
    )
    print(fitted)

    certificate = rc.certify(fitted.model)
    print(certificate)  # of the model, for every input and initial state; the report shows how well it fits
    file = out / "NAME.safetensors"
    # Before the report, which refuses other channel names.
    rc.save(file, fitted.model, certificate=certificate)
    print(rc.compare_models({"linear": linear.model, "network": fitted.model}, test))
    report = rc.fit_report(
        fitted.model, test, fit=fitted, certificate=certificate, trained_on=record, linear=linear.model
    )
    print(report)
    report.save(out / "report")
    print(f"model: {file}    report: {out / 'report'}")


def use(file: Path) -> None:
    """Load the saved model and step it, in the units of the log."""
    loaded = rc.load(file)
    system, (_, test) = loaded.explicit(), read_log()
    trajectory = rc.rollout(system, test.experiments[0].u[:100].astype(loaded.dtype))
    print(f"100 samples simulated again; the last output is {trajectory.ys[-1]} {test.output_units}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("runs/NAME"), help="folder for all output files")
    parser.add_argument("--quick", action="store_true", help="few epochs, to check that it runs")
    given = parser.parse_args()
    main(given.quick, given.out)
    use(given.out / "NAME.safetensors")
