"""The drift of steps in fixed point from the exact step of the same constants, of models and of other systems."""

import jax
import jax.random as jr
import numpy as np

import robustctl as rc
from robustctl.errors import InvalidModelError
from robustctl.runtime import Step

from .export_systems import inputs_of, sample_of, system_of
from .models import draw


def model(seed=0, rate=0.9):
    q = rc.nn.LipschitzR2DN(nu=2, nx=3, nv=4, ny=1, hidden=(5, 4), gamma=2.0, rate=rate, key=jr.key(seed))
    return draw(q, jr.key(seed + 1), 0.3)


def noise(step, count, seed=0):
    """Integers of each array of the input."""
    rng = np.random.default_rng(seed)
    return [step.integers(u.name, rng.uniform(-2, 2, (count, *u.value.shape))) for u in step.program.inputs]


def drifts(step, us):
    """Return the largest distance in the metric, that of each state, and that of the outputs, from the exact step.

    `us`: integers of each array of the input, time first.
    """
    exact, plain, P = Step(step.exact.program), Step(step.program), step.certificate.rate_proof.P
    states, inputs, ys = (
        [s.name for s in part] for part in (plain.program.state, plain.inputs, plain.outputs)
    )
    x, z = plain.init_state(), exact.init_state()
    found = []
    for k in range(len(us[0])):
        u = [each[k] for each in us]
        x, y = plain(x, structured(u))
        z, w = exact(z, structured([step.numbers(name, each) for name, each in zip(inputs, u, strict=True)]))
        e, of_y = (
            np.concatenate(
                [np.ravel(step.numbers(*pair) - other) for *pair, other in zip(names, a, b, strict=True)]
            )
            for names, a, b in ((states, arrays(x), arrays(z)), (ys, arrays(y), arrays(w)))
        )
        found.append((np.sqrt(e @ P @ e), np.abs(e), np.abs(of_y)))
    norms, states, outputs = zip(*found, strict=True)
    return max(norms), np.max(states, axis=0), np.max(outputs, axis=0)


def structured(arrays):
    return arrays[0] if len(arrays) == 1 else tuple(arrays)


def arrays(given):
    return given if isinstance(given, tuple) else (given,)


def bounded(step, us):
    measured, states, outputs = drifts(step, us)
    bound = step.drift
    assert not isinstance(bound, str), bound
    assert measured <= bound.bound
    assert np.all(states <= bound.state)
    assert np.all(outputs <= np.concatenate([np.ravel(of) for of in bound.outputs.values()]))
    return measured / bound.bound


# One array of state, and several; a tanh, and a logistic function written as one; the loop of a REN, and one in blocks.
FAST = ["delay", "series", "lqg", "youla", "kalman", "r2dn_tanh", "r2dn_sigmoid", "ren_lipschitz_tanh"]
SLOW = [
    "lead", "hinf", "scaled", "innovation", "corrected", "estimate_feedback", "ren", "parallel", "r2dn_no_hidden", "r2dn_dissipative",
    "r2dn_bypass", "r2dn_group_sort", "r2dn_householder", "ren_dissipative", "ren_in_blocks", "state_observer", "state_observer_ren",
    "stable_linear", "rescaled", "state_space",
]  # fmt: skip


def with_log(name, dtype, count=100):
    """A system of the list in the formats of a log, and the log as integers."""
    us = inputs_of(name, count)
    system = system_of(name)
    step = rc.export.fixed(
        system, dtype, u=sample_of(name), log=us, seconds=3.0, dt=None if system.dt else 0.1
    )
    given = [np.asarray(a) for a in jax.tree.leaves(us)]
    return step, [step.integers(u.name, a) for u, a in zip(step.program.inputs, given, strict=True)]


def share_of(name, dtype):
    """The share of its bound that the drift of a system of the list reaches; None without a bound, which must say why."""
    try:
        step, us = with_log(name, dtype, 200)
    except InvalidModelError as refused:
        # Rounded to few bits it is unstable.
        assert int(dtype[1:]) < 12 and "must stay finite" in str(refused)
        return None
    if step.certificate.rate_proof is None:
        assert "no contraction rate" in str(step.drift)
        return None
    if isinstance(step.drift, str):
        assert step.saturations
        return None
    return bounded(step, us)


def share_in_proven_ranges(seed, bits):
    """The share of its bound that the drift of a drawn model reaches, in ranges that are proven where that is possible."""
    step = rc.export.fixed(of_rate(seed), f"q{bits}", dt=0.1)
    return bounded(step, noise(step, 2000, seed))


def of_rate(seed):
    return model(seed, rate=[0.7, 0.9, 0.97, 0.99][seed % 4])
