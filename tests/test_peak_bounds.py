"""Peak bounds: against the exact peak gain of linear systems, and simulations of networks."""

import dataclasses

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import robustctl as rc
from robustctl.certificates import PeakBounds, peak_bounds, recheck
from robustctl.errors import InvalidModelError, RobustctlError

from .models import draw


def exact_peak(A, B, C, D):
    """The sum of the absolute impulse response of each output: the peak for inputs of at most one."""
    peak, X = np.abs(D).sum(1), B
    while np.abs(X).max() > 1e-14:
        peak, X = peak + np.abs(C @ X).sum(1), A @ X
    return peak


def random_system(rng):
    nx, nu = rng.integers(1, 6), rng.integers(1, 3)
    A = rng.normal(size=(nx, nx))
    A *= rng.uniform(0.3, 0.98) / np.abs(np.linalg.eigvals(A)).max()
    x, D = 10 ** rng.uniform(-4, 4, nx), rng.normal(size=(1, nu)) * rng.integers(2)
    return x[:, None] * A / x, x[:, None] * rng.normal(size=(nx, nu)), rng.normal(size=(1, nx)) / x, D


def test_peaks_of_linear_systems_are_never_below_the_exact_ones_and_near():
    rng, ratios = np.random.default_rng(1), []
    for _ in range(8):
        A, B, C, D = random_system(rng)
        found = peak_bounds(rc.StateSpace(*map(jnp.asarray, (A, B, C, D)), 1.0), np.ones(B.shape[1]))
        ratios.append(found.bounds["y[0]"] / exact_peak(A, B, C, D)[0])
    assert min(ratios) >= 1 and np.median(ratios) < 1.2 and max(ratios) < 2


def test_a_first_order_lag_is_exact():
    lag = rc.StateSpace(*(jnp.array([[v]]) for v in (0.9, 1.0, 2.0, 0.5)), 1.0)
    assert 2.05 <= peak_bounds(lag, [0.1]).bounds["y[0]"] < 2.052


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_simulated_networks_stay_in_the_tube(dtype):
    model = draw(
        rc.nn.ContractingR2DN(nu=2, nx=3, nv=4, ny=2, hidden=(4,), rate=0.9, key=jr.key(0), dtype=dtype),
        jr.key(1),
        1.0,
    )
    system = model.explicit()
    found = peak_bounds(model, [0.5, 0.2])
    keys = jr.split(jr.key(2), 2)
    nominal = np.asarray(jr.normal(keys[0], (60, 2), dtype) * 2)
    d = np.array([0.5, 0.2], dtype) * np.asarray(jr.rademacher(keys[1], (200, 60, 2), dtype))
    run = jax.jit(jax.vmap(lambda u: rc.rollout(system, u).ys))
    ys = np.asarray(run(jnp.asarray(np.concatenate([nominal + d, nominal[None]]))))
    ys, y0 = ys[:-1], ys[-1]
    low, high = found.tube(y0)
    assert np.all((low <= ys) & (ys <= high))
    # Not without content either: the worst of random signs comes within a factor of five
    assert np.all(np.abs(ys - y0).max((0, 1)) > 0.2 * np.array(list(found.bounds.values())))


def test_one_number_bounds_the_norm_and_a_name_one_input():
    A, B = np.diag([0.5, 0.5]), np.eye(2)
    both = rc.StateSpace(jnp.asarray(A), jnp.asarray(B), jnp.ones((1, 2)), jnp.zeros((1, 2)), 1.0)
    # sum of 0.5^k is 2: over inputs of norm 1, sqrt(2) times that; each at most 1, twice that; one alone, once
    for disturbance, exact in ((1.0, 2 * np.sqrt(2)), ([1.0, 1.0], 4.0), ({"u[1]": 1.0}, 2.0)):
        assert exact <= peak_bounds(both, disturbance).bounds["y[0]"] < exact * 1.002
    assert "2-norm of inputs up to 1" in str(peak_bounds(both, 1.0))


def loop_of_oscillator():
    plant = rc.plants.LinearPlant([[0.0, 1.0], [-4.0, -0.2]], [[0.0], [1.0]], [[1.0, 0.0]], Bd=[[0.0], [1.0]])
    sampled = rc.plants.Sampled(plant, 0.1)
    return sampled, rc.loops.feedback(
        sampled, rc.classical.lqg(sampled, [1.0, 1.0], 0.1, 0.1, 0.1).controller
    )


def test_a_loop_has_bounds_of_its_outputs_controls_and_states():
    sampled, loop = loop_of_oscillator()
    name = sampled.plant.disturbances[0].name
    found = peak_bounds(loop, {name: 0.3})
    assert list(found.bounds) == ["y[0]", "u[0]", "x[0]", "x[1]"]
    ws = rc.plants.undisturbed(sampled, 300)
    d = 0.3 * jr.rademacher(jr.key(0), (100, 15, 1), float)
    run = jax.vmap(lambda d: rc.loops.simulate(loop, ws._replace(d=jnp.repeat(d, 20, axis=0))))(d)
    signals = jnp.concatenate([run.y, run.u, run.x], axis=-1)
    reached = np.abs(np.asarray(signals)).max((0, 1)) / np.array(list(found.bounds.values()))
    assert np.all(reached <= 1) and np.all(reached > 0.3)
    noisy = peak_bounds(loop, {"noise of y[0]": 0.1}, outputs=["u[0]"])
    assert list(noisy.bounds) == ["u[0]"] and noisy.disturbance == {"noise of y[0]": 0.1}


def lag():
    return rc.StateSpace(*(jnp.array([[v]]) for v in (0.9, 1.0, 1.0, 0.0)), 1.0)


FAULTS = {
    "name": (lambda: peak_bounds(lag(), {"v": 1.0}), RobustctlError, "an input of the system"),
    "output": (lambda: peak_bounds(lag(), [1.0], outputs=["z"]), RobustctlError, "an output must be"),
    "negative": (lambda: peak_bounds(lag(), [-1.0]), RobustctlError, "positive and finite"),
    "infinite": (lambda: peak_bounds(lag(), np.inf), RobustctlError, "positive and finite"),
    "number": (lambda: peak_bounds(lag(), [1.0, 1.0]), RobustctlError, "one bound for each of 1 inputs"),
    "seconds": (lambda: peak_bounds(lag(), [1.0], seconds=0.0), RobustctlError, "seconds must be positive"),
    "gru": (lambda: peak_bounds(rc.nn.GRU(nu=1, nx=2, ny=1, key=jr.key(0)), [1.0]), InvalidModelError, "must describe itself"),
    "tube": (lambda: peak_bounds(lag(), [1.0]).tube(np.zeros((5, 2))), RobustctlError, "must have the 1 outputs"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_named(name):
    make, kind, message = FAULTS[name]
    with pytest.raises(kind, match=message):
        make()


def test_an_unstable_system_has_no_bound_and_says_why():
    system = rc.StateSpace(*(jnp.array([[v]]) for v in (1.1, 1.0, 1.0, 0.0)), 1.0)
    found = peak_bounds(system, [1.0])
    assert found.bounds["y[0]"] == np.inf and "poles 1.1" in found.unproven and "poles 1.1" in str(found)


def two_lags():
    """Outputs: a lag with a direct path, another lag, and one that nothing moves."""
    A, B, C, D = np.diag([0.9, 0.5]), np.eye(2), np.diag([1.0, 2.0, 0.0])[:, :2], np.zeros((3, 2))
    D[0, 0] = 0.5
    return rc.StateSpace(*map(jnp.asarray, (A, B, C, D)), 1.0)


@pytest.mark.parametrize("disturbance", [0.1, [0.1, 0.2], {"u[1]": 0.3}], ids=["norm", "each", "named"])
def test_bounds_are_stored_and_checked_again_without_a_search(disturbance, monkeypatch):
    system = two_lags()
    found = peak_bounds(system, disturbance)

    def searched(*given, **settings):
        raise AssertionError("a recheck must not search")

    monkeypatch.setattr("robustctl.certificates.peak.solve", searched)
    again = PeakBounds.from_json(found.to_json())
    assert again.to_json() == found.to_json() and again.bounds["y[2]"] == 0.0
    recheck(again, system)
    changed = rc.StateSpace(*(M * 1.001 for M in (system.A, system.B, system.C, system.D)), 1.0)
    with pytest.raises(RobustctlError, match="other parts or weights"):
        recheck(again, changed)


def test_tampered_bounds_are_refused():
    model = draw(rc.nn.ContractingR2DN(nu=1, nx=2, nv=2, ny=1, hidden=(3,), key=jr.key(0)), jr.key(1), 1.0)
    found = peak_bounds(model, [0.5])
    recheck(PeakBounds.from_json(found.to_json()), model)
    (name,), proof = found.proofs, found.proofs["y[0]"]

    def with_proof(**changed):
        other = dataclasses.replace(proof, **changed)
        return dataclasses.replace(
            found, proofs={name: other}, bounds={name: other.value}, rates={name: other.rate}
        )

    tampered = {
        "a smaller bound": dataclasses.replace(found, bounds={name: found.bounds[name] / 2}),
        "a faster rate": with_proof(rate=proof.rate / 2),
        "a rate that was not proven": dataclasses.replace(found, rates={name: 0.1}),
        "lighter disturbances": with_proof(mu=proof.mu / 10),
        "a lighter direct path": with_proof(P=proof.P / 10, mu=proof.mu / 10),
        "a larger disturbance": dataclasses.replace(found, disturbance={"u[0]": -1.0}),
        "no proof": dataclasses.replace(found, proofs={}),
        "negative multipliers": with_proof(multipliers=tuple(-t for t in proof.multipliers)),
        "no multipliers": with_proof(multipliers=()),
        "an indefinite metric": with_proof(P=-proof.P),
    }
    for other in tampered.values():
        with pytest.raises(RobustctlError, match="must"):
            recheck(other, model)
    unproven = dataclasses.replace(
        found, bounds={name: float("inf")}, proofs={}, rates={}, unproven="no time"
    )
    recheck(PeakBounds.from_json(unproven.to_json()), model)
