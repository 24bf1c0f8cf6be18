"""Problems and the engine: a problem of one's own, one-step prediction, and arguments that are no more."""

import ast
import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from jaxtyping import PyTree

import robustctl as rc
from robustctl.checks import renamed
from robustctl.errors import ArgumentError, RobustctlError

A, B = 0.8, 0.5
ROOT = Path(__file__).parent.parent


class Scalar(rc.System):
    """x[t+1] = a x[t] + b u[t]."""

    a: jax.Array
    b: jax.Array

    def init_state(self):
        return jnp.zeros(1)

    def step(self, x, u):
        return self.a * x + self.b * u, x


class Line(rc.Parameterization):
    """A scalar linear system with two free numbers, contracting for any of them."""

    a: jax.Array
    b: jax.Array

    def explicit(self):
        return Scalar(jnp.tanh(self.a), self.b)


def line():
    return Line(jnp.asarray(0.0), jnp.asarray(0.0))


def pairs(batches=5, samples=8):
    """Neighboring samples of x[t+1] = A x[t] + B u[t]."""
    x, u = jr.normal(jr.key(0), (2, batches, samples, 1))
    return x, u, A * x + B * u


def one_step(system, batch):
    x, u, x_next = batch
    return jnp.mean((jax.vmap(system.step)(x, u)[0] - x_next) ** 2)


class AverageLoss(rc.train.Objective):
    """The user's own: one gradient step over all batches, and the first one to validate."""

    fixed: PyTree
    batches: PyTree
    loss: Callable[..., Any]
    mesh: None = None

    def epoch(self, state, descend):
        def loss(trained, carry, batches):
            system = self.whole(trained).explicit()
            return jnp.mean(jax.vmap(lambda batch: self.loss(system, batch))(batches)), carry + 1

        return descend(state, loss, jnp.zeros((), int), jax.tree.map(lambda a: a[None], self.batches))

    def validate(self, trained):
        return self.loss(self.whole(trained).explicit(), jax.tree.map(lambda a: a[0], self.batches))


@dataclasses.dataclass(frozen=True)
class Average(rc.train.Problem):
    batches: PyTree
    weight: float = 1.0

    def prepare(self, model, key):
        trained, fixed = eqx.partition(model, eqx.is_inexact_array)
        return trained, AverageLoss(fixed, self.batches, one_step)

    def fingerprint(self, whole):
        return {"data": rc.runs.array_hash(self.batches), "model": rc.runs.model_hash(whole)}

    def settings(self):
        return {"weight": self.weight}


ADAM = optax.adam(0.05)
PROBLEMS = [rc.train.OneStep(pairs(), loss=one_step), Average(pairs())]


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: type(problem).__name__)
def test_a_problem_finds_the_system_that_made_its_data(problem):
    fitted = rc.train.train(problem, line(), epochs=200, optimizer=ADAM, monitor=None, key=jr.key(1))
    system = fitted.model.explicit()
    assert isinstance(fitted, rc.train.Outcome) and fitted.stopped == "finished" and fitted.trouble is None
    np.testing.assert_allclose([system.a, system.b], [A, B], atol=1e-2)


def test_the_first_step_is_one_of_sgd_by_hand():
    """From a = b = 0: the gradient of mean (a x + b u - x_next)^2, tanh'(0) = 1."""
    x, u, x_next = (np.asarray(a, np.float64) for a in pairs(1))
    fitted = rc.train.train(
        rc.train.OneStep(pairs(1), loss=one_step), line(), epochs=1, optimizer=optax.sgd(0.1), monitor=None, key=jr.key(1)
    )  # fmt: skip
    moved = [0.2 * np.mean(x_next * x), 0.2 * np.mean(x_next * u)]
    np.testing.assert_allclose([fitted.model.a, fitted.model.b], moved, rtol=1e-5)
    np.testing.assert_allclose(fitted.history["loss"], [np.mean(x_next**2)], rtol=1e-5)


def test_a_problem_of_ones_own_is_kept_stopped_and_resumed(tmp_path):
    problem = Average(pairs())
    whole = rc.train.train(problem, line(), epochs=6, optimizer=ADAM, monitor=None, key=jr.key(1))
    assert whole.best_epoch == int(np.argmin(whole.history["validation"]))
    run = rc.runs.Run(tmp_path, resume=True, settings={"rate": 0.05})
    given = dict(optimizer=ADAM, monitor=None, key=jr.key(1))
    rc.train.train(problem, line(), epochs=3, run=run, **given)
    resumed = rc.train.train(problem, line(), epochs=6, run=run, **given)
    assert all(np.array_equal(resumed.history[k], v, equal_nan=True) for k, v in whole.history.items())
    assert eqx.tree_equal(resumed.model, whole.model)
    for other, changed, name in (
        (Average(pairs(), weight=2.0), run, "settings"),
        (Average(pairs(4)), run, "data"),
        (problem, rc.runs.Run(tmp_path, resume=True, settings={"rate": 0.1}), "settings"),
    ):
        with pytest.raises(RobustctlError, match=f"resumed with the {name}"):
            rc.train.train(other, line(), epochs=6, run=changed, **given)


def test_seeds_of_a_problem_of_ones_own_end_as_alone():
    keys = jr.split(jr.key(0), 2)

    def build(key):
        return Line(*jr.normal(key, (2,)))

    given = dict(epochs=5, optimizer=ADAM, monitor=None)
    together = rc.train.train_seeds(Average(pairs()), build, keys=keys, **given)
    for key, each in zip(keys, together, strict=True):
        begin, key = jr.split(key)
        alone = rc.train.train(Average(pairs()), build(begin), key=key, **given)
        np.testing.assert_allclose(each.history["loss"], alone.history["loss"], rtol=1e-6)


def test_what_a_training_is_not_given_rightly_is_refused(as_installed):
    for wrong, message in (
        (lambda: rc.train.train(pairs(), line(), epochs=1, key=jr.key(0)), "must be a rc.train.Problem"),
        (lambda: rc.train.OneStep((jnp.ones((2, 3)), jnp.ones((3, 3))), one_step), "as many batches"),
        (lambda: rc.train.OneStep((), one_step), "as many batches"),
        (lambda: rc.train.train(PROBLEMS[0], 1.0, epochs=1, key=jr.key(0)), "must be a Parameterization"),
        (lambda: rc.train.train(PROBLEMS[0], line(), epochs=1, patience=1, key=jr.key(0)), "validation loss"),
        (lambda: rc.runs.Monitor(every=0), "every must be a whole number"),
        (
            lambda: rc.train.fit_seeds(line, None, keys=[], monitor=rc.runs.Monitor(callback=print)),
            "a rc.data.Record",
        ),
        (
            lambda: rc.train.train_seeds(
                PROBLEMS[0], line, keys=[], epochs=1, monitor=rc.runs.Monitor(callback=print)
            ),
            "no callback",
        ),
    ):
        with pytest.raises(RobustctlError, match=message):
            wrong()


OLD = [
    (rc.fit, "resume", r"rc\.runs\.Run\(folder, resume=True\)"),
    (rc.fit, "progress", "monitor=None"),
    (rc.fit, "watchers", r"rc\.runs\.Monitor\(watchers"),
    (rc.fit, "inspect", r"rc\.runs\.Monitor\(callback"),
    (rc.fit, "segment", r"rc\.train\.Identification\(record, segment=...\)"),
    (rc.fit, "patience", r"rc\.train\.train"),
    (rc.fit_policy, "adversary", r"rc\.train\.PolicyGradient\(scenario, adversary="),
    (rc.fit_policy, "devices", r"rc\.train\.train"),
    (rc.train.imitate, "rounds", r"rc\.train\.Imitation\(expert, scenario, rounds="),
    (rc.train.fit_seeds, "batch_size", r"rc\.train\.Identification"),
    (rc.train.fit_seeds, "inspect", "no run folder and no callback"),
    (rc.runs.Monitor, "inspect_every", "every"),
    (rc.train.train, "inspect_every", r"callback=..., every="),
]


@pytest.mark.parametrize(("called", "old", "new"), OLD)
def test_an_old_argument_is_answered_with_the_new_one(called, old, new, as_installed):
    with pytest.raises(ArgumentError, match=f"got {old}; give .*{new}"):
        called(**{old: None})


@pytest.mark.parametrize(
    "settings", [rc.runs.Run, rc.runs.Monitor, rc.train.Identification, rc.train.PolicyGradient]
)
def test_an_unknown_setting_is_answered_with_those_there_are(settings, as_installed):
    first = next(iter(inspect.signature(settings).parameters))
    with pytest.raises(ArgumentError, match=f"{settings.__name__} must .* got washot; it takes {first}"):
        settings(washot=3)


def test_a_renamed_function_is_called_as_before():
    @renamed(old="new")
    def double(new, *, times=2):
        """Twice."""
        return new * times

    assert double(3) == 6 and double(new=3, times=3) == 9 and double.__doc__ == "Twice."
    with pytest.raises(TypeError):  # Python's own: `new` is missing
        double()


def parameters(function: ast.FunctionDef) -> int:
    return len(function.args.posonlyargs + function.args.args + function.args.kwonlyargs)


@pytest.mark.parametrize("path", [p for room in ("train", "runs") for p in sorted((ROOT / "robustctl" / room).glob("*.py"))],
                         ids=lambda path: path.name)  # fmt: skip
def test_no_function_has_more_than_ten_parameters(path):
    functions = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef))
    assert {f.name: parameters(f) for f in functions if parameters(f) > 10} == {}
