"""Gains of loops whose model error has a weight: against formulas of linear loops, and of a loop in which states are copied."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import robustctl as rc
from robustctl.certificates import LoopCertificate, ModelError, recheck
from robustctl.certificates.coordinates import opened
from robustctl.certificates.gain_of_stability import gain_of_stability
from robustctl.certificates.loop_gains import ports_of, stable, whole_form
from robustctl.certificates.model_error import with_errors
from robustctl.certificates.prove import Found, least_gain
from robustctl.linalg import response
from robustctl.loops import ModelPlant, ParallelModel, Youla, feedback

DT = 0.1
WEIGHT = rc.StateSpace([[0.8, 0.3], [-0.3, 0.8]], [[0.5], [0.2]], [[0.3, -0.2]], [[0.4]], dt=DT)
"""Of order two, with a peak at 3.6 rad/s."""


def lag_model(nx=3, seed=0):
    """A stable linear model, of unlike time constants."""
    rng = np.random.default_rng(seed)
    A = np.diag(np.linspace(0.5, 0.95, nx)) + np.diag(0.2 * np.ones(nx - 1), 1)
    return rc.StateSpace(A, 0.3 * rng.normal(size=(nx, 1)), 0.3 * rng.normal(size=(1, nx)), [[0.0]], dt=DT)


def with_constant_scale(loop, error, source, target):
    """The gain that one constant multiplier of the error proves of a linear loop, over grids of frequencies and multipliers.

    ::

        [q; y] = M [p; u],     M' diag(t, 1) M < diag(t, g)      at every frequency
    """
    whole = with_errors(ports_of(loop), [])
    z = np.exp(1j * np.linspace(0, np.pi, 4000))

    def between(a, b):
        A, _, B, _, _, _, C, _, D = whole.between(a, b).matrices
        return response(A, B, C, D, z)[:, 0, 0]

    A, _, B, *_, C, _, D = error.weight.matrices
    W = error.gain * response(A, B, C, D, z)[:, 0, 0]
    into = {"output": "n", "input": "plant input"}[error.at]
    qp, qu = W * between(into, "plant input"), W * between(source, "plant input")
    yp, yu = between(into, target), between(source, target)

    def squared(logarithm):
        t = np.exp(logarithm)
        room = t * (1 - np.abs(qp) ** 2) - np.abs(yp) ** 2
        if not np.all(room > 0):
            return np.inf
        mixed = np.abs(t * qp.conj() * qu + yp.conj() * yu) ** 2 / room
        return np.max(t * np.abs(qu) ** 2 + np.abs(yu) ** 2 + mixed)

    grid = np.linspace(-12.0, 15.0, 400)
    k = int(np.argmin([squared(s) for s in grid]))
    fine = np.linspace(grid[k - 1], grid[k + 1], 400)
    return np.sqrt(min(squared(s) for s in fine))


@pytest.mark.parametrize(("at", "gain"), [("output", 0.015), ("input", 0.6)])
def test_gains_with_a_weighted_error_are_those_of_the_best_constant_multiplier(at, gain):
    loop = feedback(ModelPlant(lag_model()), rc.classical.PID(0.8, 0.4, dt=DT))
    error = ModelError(gain, at, WEIGHT)
    pairs = [("d", "y"), ("n", "u"), ("n", "y")]
    found = rc.certify(loop, gains=pairs, error=error)
    for pair in pairs:
        exact = with_constant_scale(loop, error, *pair)
        assert exact * (1 - 1e-3) <= found.gains[pair] <= 1.01 * exact
    recheck(LoopCertificate.from_json(found.to_json()), loop)


def copied_loop():
    """A policy about a model that the controller runs as a copy, a state of which no disturbance moves the difference to the plant's."""
    plant = ModelPlant(lag_model(4))
    q = rc.nn.LipschitzR2DN(nu=1, nx=3, nv=4, ny=1, hidden=(5,), gamma=0.5, key=jr.key(0), dtype=jnp.float64)
    return feedback(plant, Youla(ParallelModel(plant, [0.0]), q.explicit()))


def test_a_loop_with_copied_states_and_a_weight_has_gains():
    loop, error = copied_loop(), ModelError(0.5, "output", WEIGHT)
    pairs = [("n", "y"), ("n", "u")]
    nominal, found = (rc.certify(loop, gains=pairs, error=e) for e in (None, error))
    assert found.holds and not found.unproven
    for pair in pairs:
        assert nominal.gains[pair] < found.gains[pair]
    recheck(LoopCertificate.from_json(found.to_json()), loop)


def test_what_proves_stability_proves_a_gain():
    loop, error = copied_loop(), ModelError(0.5, "output", WEIGHT)
    ports = with_errors(ports_of(loop), [error])
    whole = whole_form(ports)
    stability = stable(whole, np.inf, True).proof
    assert stability is not None
    for pair in [("n", "y"), ("n", "u")]:
        form = opened(ports.between(*pair))
        least, other = least_gain(form, np.inf, whole).proof, gain_of_stability(form, stability).proof
        assert least and other
        assert least.value <= other.value < 100 * least.value


def test_a_gain_that_is_not_the_least_says_so(monkeypatch):
    loop = feedback(ModelPlant(lag_model()), rc.classical.PID(0.8, 0.4, dt=DT))
    least = rc.certify(loop, gains=[("n", "y")]).gains["n", "y"]
    monkeypatch.setattr(
        "robustctl.certificates.loop_gains.least_gain", lambda *given: Found(None, "none was found")
    )
    found = rc.certify(loop, gains=[("n", "y")])
    assert least <= found.gains["n", "y"] < 100 * least and "proof of stability" in found.unproven[0]
    recheck(found, loop)
