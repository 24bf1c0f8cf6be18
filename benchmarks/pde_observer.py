"""Train problem 2 for some seeds, certify, measure convergence and test error, and write results and figures."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import PRNGKeyArray

import robustctl as rc
from robustctl.certificates import Certificate, certificate_margin, certify
from robustctl.problems import pde_observer as pde
from robustctl.problems.pde_observer import Field, ObserverProtocol
from robustctl.runs.provenance import provenance
from robustctl.store.json_text import write_json
from robustctl.system import Parameterization
from robustctl.trajectory import rollout

from .runs import certificates, commit, draw_seeds, parameters, seconds_per_epoch


def one_step_optimizer(protocol: ObserverProtocol) -> optax.GradientTransformationExtraArgs:
    """Return the published training's: Adam, its steps scaled by what `reduce_on_plateau` made of the epochs before."""
    adam = optax.adam(protocol.learning_rate)
    least = protocol.least_rate / protocol.learning_rate
    plateau = optax.contrib.reduce_on_plateau(
        protocol.factor, protocol.patience, min_scale=least, accumulation_size=protocol.batches
    )

    def init(params):
        return adam.init(params), plateau.init(params)

    def update(updates, state, params=None, *, value):
        # The step itself takes the scale of the epochs before: Optax's own would lower it one step early.
        updates, moments = adam.update(updates, state[0], params)
        _, reduced = plateau.update({}, state[1], value=value)
        return optax.tree.scale(state[1].scale, updates), (moments, reduced)

    return optax.GradientTransformationExtraArgs(init, update)


def train(
    protocol: ObserverProtocol, seed: int, folder: Path, *, progress: bool = True
) -> tuple[Parameterization, dict]:
    """Train one seed, continuing a run in `folder`, and certify every twentieth epoch.

    Returns the last model, as published, and its scores, ready for JSON.
    """
    data_key, model_key, start_key = jr.split(jr.key(seed), 3)
    pairs = pde.training_pairs(protocol, data_key)
    settings = dataclasses.asdict(protocol)
    del settings["epochs"]
    problem = rc.train.OneStep(pairs, loss=pde.one_step_loss, free=pde.free)
    fitted = rc.train.train(
        problem, pde.observer(protocol, model_key), epochs=protocol.epochs, optimizer=one_step_optimizer(protocol),
        run=rc.runs.Run(folder, resume=True, settings=settings), key=jr.key(seed),
        monitor=rc.runs.Monitor(progress=progress, callback=certificate_margin, every=20),
    )  # fmt: skip
    model, history = fitted.model, fitted.history
    free, fixed = pde.split(model)
    return model, {
        "seed": seed,
        "commit": commit(folder),
        "trained_parameters": parameters(free),
        "fixed_parameters": parameters(fixed),
        "final_training_loss": float(history["loss"][-1]),
        "references": pde.references(pairs, pde.published_test(protocol)),
        **scores(model, protocol, start_key),
        "certificates": certificates(history),
        "final_learning_rate": protocol.learning_rate * float(fitted.optimizer_state[1].scale),
        "stopped": fitted.stopped,
        "seconds_per_epoch": seconds_per_epoch(folder),
        "training_loss": history["loss"].tolist(),
    }


def scores(model: Parameterization, protocol: ObserverProtocol, key: PRNGKeyArray) -> dict:
    """Return test errors, certificate and convergence of a trained observer."""
    system, found, test = model.explicit(), certify(model, prove=False), pde.published_test(protocol)
    xs, estimates = np.asarray(test.xs), np.asarray(rollout(system, test.ys).xs)
    shown = ("holds", "margin", "rate", "rate_found", "phi_bound")
    return {
        **pde.test_errors(xs, estimates),
        "certificate": {name: getattr(found, name) for name in shown},
        "convergence": convergence(system, found, test, key),
    }


def convergence(system: Any, found: Certificate, test: Field, key: PRNGKeyArray, states: int = 10) -> dict:
    """Compare estimates from random states, uniform on [0, 1] at every node, with the one from zero, in float64.

    ::

        worst_ratio = max over states, t > 0 of   |dx[t]|_P / (rate^t |dx[0]|_P),     |dx|_P = sqrt(dx' P dx)

    with the certificate's metric, which guarantees at most 1, for the model's claimed `rate` and for
    the smaller `rate_found` that the metric proves. Distances of at most a hundred roundings of the state are
    ignored. `distance_left`: the largest `|dx[T]|_P / |dx[0]|_P` at the end. `within_bound`: both ratios are at most 1.
    """
    if not found.holds or found.P is None or found.rate is None or found.rate_found is None:
        return {"within_bound": False}
    z = _from_random_states(system, test, key, states) @ np.linalg.cholesky(found.P)
    distance = np.linalg.norm(z[1:] - z[0], axis=2)
    floor = 100 * np.finfo(np.float64).eps * np.linalg.norm(z, axis=2).max()
    relative = np.where(distance > floor, distance, 0.0) / distance[:, :1]
    t = np.arange(relative.shape[1])
    worst = [float(np.max((relative / rate**t)[:, 1:])) for rate in (found.rate, found.rate_found)]
    return {
        "within_bound": max(worst) <= 1,
        "states": states,
        "samples": len(t),
        "worst_ratio": worst[0],
        "worst_ratio_at_rate_found": worst[1],
        "distance_left": float(relative[:, -1].max()),
    }


def _from_random_states(system: Any, test: Field, key: PRNGKeyArray, states: int) -> np.ndarray:
    """The estimates (1 + states, T, 51) from zero and from random states, in float64 with the weights as they are."""
    ys = np.asarray(test.ys, np.float64)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64) if eqx.is_inexact_array(a) else a, system)
        starts = jnp.concatenate([jnp.zeros((1, pde.NODES)), jr.uniform(key, (states, pde.NODES))])
        return np.asarray(jax.vmap(lambda x: rollout(wide, jnp.asarray(ys), x).xs)(starts))


def benchmark(
    protocol: ObserverProtocol, seeds: Sequence[int], folder: Path, *, progress: bool = True
) -> dict:
    """Train every seed; write `pde_MODEL.json` and two figures to the folder after each, return the results.

    The figures are `pde_MODEL.png`, the losses, and `pde_MODEL_field.png`, the test of the first seed. The names of
    the corrected generator's end in `_corrected`. The runs are stored in `pde_MODEL_seed_N`, and an interrupted benchmark
    continues them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = f"pde_{protocol.model}" + "_corrected" * (protocol.generator == "corrected")
    runs: list[dict] = []
    results: dict = {}
    for seed in seeds:
        model, one = train(protocol, seed, folder / f"{name}_seed_{seed}", progress=progress)
        runs.append(one)
        results = _results(protocol, seed, runs)
        write_json(folder / f"{name}.json", results)
        draw_losses(results).savefig(folder / f"{name}.png")
        if seed == seeds[0]:
            draw_field(model, protocol).savefig(folder / f"{name}_field.png")
    return results


def _results(protocol: ObserverProtocol, seed: int, runs: list[dict]) -> dict:
    losses = [one["final_training_loss"] for one in runs]
    return {
        "problem": "pde",
        **provenance(seed),
        "protocol": dataclasses.asdict(protocol),
        "published": pde.PUBLISHED[protocol.model],
        "mean_final_training_loss": float(np.mean(losses)),
        "highest_final_training_loss": max(losses),
        "runs": runs,
    }


def draw_losses(results: dict):
    """Draw the training loss of every seed against epochs, with the published band and an affine observer."""
    final = ", ".join(f"{one['final_training_loss']:.3g}" for one in results["runs"])
    affine = results["runs"][0]["references"]["affine_fit"]["loss"]
    return draw_seeds(
        results, "training_loss", "one-step loss, mean $|dx|^2$", 200,
        f"Reaction-diffusion observer, contracting {results['protocol']['model'].upper()}",
        f"training loss at the end: {final}", references={"affine least squares, no guarantee": affine},
    )  # fmt: skip


def draw_field(model: Parameterization, protocol: ObserverProtocol):
    """Draw the test over space and time: the field, the estimate from zero, and the size of its error."""
    from matplotlib.colors import LogNorm, Normalize

    from robustctl.plot.canvas import SMALL, heading, panels

    test = pde.published_test(protocol)
    xs, estimates = np.asarray(test.xs), np.asarray(rollout(model.explicit(), test.ys).xs)
    shown = {
        "field": (xs, Normalize(0, 1)),
        "estimate": (estimates, Normalize(0, 1)),
        "|error|": (np.abs(xs - estimates), LogNorm(1e-4, 1.0)),
    }
    figure, axes = panels(len(shown), 1, (7.5, 1.7), sharex=True)
    extent = (0.0, len(xs) - 1.0, 0.0, pde.LENGTH)
    for ax, (label, (values, norm)) in zip(axes[:, 0], shown.items(), strict=True):
        image = ax.imshow(values.T, origin="lower", aspect="auto", extent=extent, norm=norm)
        ax.grid(False)
        ax.set_ylabel(f"{label}\nz", fontsize=SMALL + 1)
        figure.colorbar(image, ax=ax, pad=0.01).ax.tick_params(labelsize=SMALL)
    axes[-1, 0].set_xlabel("sample", fontsize=SMALL + 1)
    title = f"Reaction-diffusion observer, contracting {protocol.model.upper()}: the test"
    all_samples, last_half = pde.test_errors(xs, estimates).values()
    heading(figure, title, f"NRMSE {all_samples:.4f} over all samples, {last_half:.4f} over the last half")
    return figure
