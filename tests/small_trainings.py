"""Small trainings as a process of its own, one of several perhaps: `python -m tests.small_trainings OUT [PORT PROCESS]`.

Writes what became of them to the file OUT as JSON.
"""

import json
import signal
import sys
from pathlib import Path

import jax
import jax.random as jr
import numpy as np

import robustctl as rc
from robustctl.errors import RobustctlError
from robustctl.problems.youla_feedback import YoulaScenario
from robustctl.train import engine, identification, policy

from . import trainings

EPOCHS = 25  # of two gradient steps each
SETTINGS = dict(optimizer=rc.train.clipped_adam(1e-2), progress=False)


def record():
    """Eight experiments of 40 samples."""
    u = np.random.default_rng(0).normal(size=(8, 40))
    y = [np.convolve(e, [0.0, 1.0, 0.5])[:40] for e in u]
    return rc.data.from_arrays(list(u), y, 0.1)


def model():
    return rc.nn.ContractingR2DN(nu=1, nx=2, nv=2, ny=1, hidden=(3,), key=jr.key(0))


def fit(**changed):
    given = dict(epochs=EPOCHS, segment=20, key=jr.key(1)) | SETTINGS | changed
    return trainings.fit(model(), record(), **given)


def fit_policy(**changed):
    given = dict(epochs=EPOCHS, horizon=40, segment=20, batch=8, key=jr.key(1)) | SETTINGS | changed
    return trainings.fit_policy(model(), YoulaScenario(), **given)


def fit_seeds(devices):
    """The last losses of as many seeds as there are devices."""

    def build(key):
        return rc.nn.ContractingR2DN(nu=1, nx=2, nv=2, ny=1, hidden=(3,), key=key)

    keys = jr.split(jr.key(2), len(jax.devices()))
    fits = trainings.fit_seeds(
        build, record(), keys=keys, devices=devices, epochs=EPOCHS, segment=20, **SETTINGS
    )
    return [float(fitted.history["loss"][-1]) for fitted in fits]


def costs(fitted):
    return {name: fitted.history[name].tolist() for name in ("loss", "validation", "gradient_norm")}


def watch_the_arrays(seen):
    """Note on how many devices states are, and the part of the batch that each device gets."""

    def note(module, name, of):
        real = getattr(module, name)

        def wrapped(*args):
            found = real(*args)
            of(args, found)
            return found

        setattr(module, name, wrapped)

    def state(args, found):
        seen["devices"] = sorted({len(a.sharding.device_set) for a in jax.tree.leaves(found)})

    def part(args, found):
        if args[1] is not None:
            largest = max(jax.tree.leaves(found), key=lambda a: a.size)
            shape = largest.shape
            jax.debug.inspect_array_sharding(
                largest, callback=lambda s: seen["parts"].append(s.shard_shape(shape)[0])
            )

    note(engine, "run_epochs", state)
    note(identification, "spread", part)
    note(policy, "spread", part)


def alone():
    """On one device and on all."""
    seen = {"parts": []}
    watch_the_arrays(seen)
    found = {}
    for devices in (1, len(jax.devices())):
        for train in (fit, fit_policy):
            seen["parts"].clear()
            found[f"{train.__name__} {devices}"] = costs(train(devices=devices))
            found[f"{train.__name__} {devices} arrays"] = dict(seen, parts=list(seen["parts"]))
        found[f"fit_seeds {devices}"] = fit_seeds(devices)
    return found


class Interrupt:
    """Ctrl-C at the third epoch."""

    def epoch(self, number, row):
        if number == 3:
            signal.raise_signal(signal.SIGINT)

    def close(self, stopped):
        pass


def refused(train=fit, **settings):
    try:
        train(**settings)
    except RobustctlError as error:
        return str(error)


def together(folder: Path):
    """On the devices of both processes; the folder of the first training is another one in each."""
    process, devices = jax.process_index(), len(jax.devices())
    kept = dict(devices=devices, run=folder / "policy")
    stopped = fit_policy(**kept, watchers=[Interrupt()] if process == 1 else [])
    return {
        "fit": costs(fit(devices=devices, run=folder / f"fit of {process}")),
        "fit_policy": costs(fit_policy(**kept | dict(run=rc.runs.Run(folder / "policy", resume=True)))),
        "stopped": [stopped.stopped, len(stopped.history["loss"])],
        "other keys": refused(devices=devices, key=jr.key(process)),
        "other folders": refused(devices=devices, run=folder / "policy"),
        "too few": refused(devices=devices // 2),
        "seeds": refused(fit_seeds, devices=devices),
    }


def main(out, port=None, process=None):
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    if port is not None:
        jax.distributed.initialize(f"127.0.0.1:{port}", 2, int(process), initialization_timeout=60)
    Path(out).write_text(json.dumps(alone() if port is None else together(Path(out).parent)))


if __name__ == "__main__":
    main(*sys.argv[1:])
