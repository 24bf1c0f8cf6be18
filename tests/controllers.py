"""One list of every controller, estimator and loop that a file can hold whole."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import robustctl as rc
from robustctl import classical, loops, plants

KEY = jr.key(0)


def tanks(**imperfections):
    given = plants.Imperfections(**imperfections)
    return plants.Sampled(plants.TwoTanks(), 2.0, given)


def cart():
    signals = (plants.Signal("force", "N", -3.0, 3.0),)
    plant = plants.LinearPlant(
        [[0.0, 1.0], [0.0, -0.5]], [[0.0], [1.0]], [[1.0, 0.0]], controls=signals, outputs=["position"]
    )
    return plants.Sampled(plant, 0.1, plants.Imperfections(saturate=True, delay=1))


def design(**kw):
    return classical.lqg(cart(), [1.0, 1.0, 0.1] + [1.0] * bool(kw), 1.0, 0.1 * np.ones(3), 0.1, **kw)


def base(**kw):
    return classical.linear_base(tanks(saturate=True), np.ones(2 + bool(kw)), 1.0, 0.1, 0.1, **kw)


def q(nu=1, dtype=None):
    model = rc.nn.LipschitzR2DN(nu=nu, nx=3, nv=4, ny=1, hidden=(4, 5), gamma=2.0, dtype=dtype, key=KEY)
    return model.explicit()


def lag():
    named = dict(inputs=["valve"], outputs=["level"], input_units=["%"], output_units=["m"])
    return rc.StateSpace([[0.9, 0.1], [0.0, 0.5]], [[0.1], [1.0]], [[1.0, 0.0]], [[0.0]], dt=0.1, **named)


def pid(**kw):
    return classical.PID(2.0, 1.0, 0.1, dt=0.1, **kw)


def guarded_filter():
    barrier = loops.Barrier(lag(), loops.StateLimits([[1.0, 0.0]], [9.0]), 0.5)
    return loops.AllOf((loops.Limits(-1.0, 1.0), loops.RateLimit(per_second=5.0, dt=0.1), barrier))


def guarded_prediction():
    """Two controls, so that the QP of several half-spaces, the way to the fallback and every set of states are in it."""
    plant = rc.StateSpace(0.9 * np.eye(2), 0.1 * np.eye(2), np.eye(2), np.zeros((2, 2)), dt=0.1)
    rows, disturbance = [[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]], 0.01 * np.eye(2)
    limits, tube = loops.StateLimits(rows, [1.0, 1.0, 1.0]), loops.Tube.linear(0.9 * np.eye(2), disturbance)
    kept = loops.maximal_invariant_set(0.9 * np.eye(2), limits, disturbance)
    predicted = loops.Predicted(
        plant, limits, 3, tube=tube, terminal=tube.ellipsoid(limits), error=[0.01, 0.01], low=-1.0, high=1.0
    )
    filter = loops.AllOf((loops.InvariantSet(plant, kept, disturbance, error=[0.01, 0.01]), predicted))
    return loops.Guarded(
        loops.Gain(-jnp.eye(2), jnp.ones(2), jnp.zeros(2)), filter, loops.zero_gain(2, 2), back=1
    )


def governor():
    servo = loops.Gain(jnp.array([[-0.4, 0.5]]), jnp.zeros(2), jnp.zeros(1))
    plant = rc.StateSpace([[0.9]], [[1.0]], [[1.0]], [[0.0]], dt=0.1)
    return loops.ReferenceGovernor(
        plant, servo, loops.StateLimits([[1.0]], [1.0]), [0.05], low=-1.0, high=1.0
    )


def estimate_feedback(estimator):
    return classical.EstimateFeedback(estimator, classical.lqr(tanks(), [1.0, 1.0], 1.0).controller)


def first_order():
    return plants.Sampled(plants.LinearPlant([[-1.0]], [[1.0]], [[1.0]]), 0.1)


def hinf():
    return classical.mixed_sensitivity(first_order(), 0.5, 0.1, None).controller


MODELS = {
    "R2DN": dict(cls=rc.nn.ContractingR2DN, nv=4, hidden=(5,)),
    "dissipative REN": dict(cls=rc.nn.DissipativeREN, nv=4, **rc.nn.passive(2)),
    "stable linear": dict(cls=rc.nn.StableLinear),
    "GRU": dict(cls=rc.nn.GRU),
    "ParaGRU": dict(cls=rc.nn.ParaGRU),
    "LSTM": dict(cls=rc.nn.LSTM),
    "static": dict(cls=rc.nn.LipschitzStatic, gamma=2.0, hidden=(4,)),
    "input-convex": dict(cls=rc.nn.InputConvexRNN, gamma=2.0),
    "stack": dict(cls=rc.nn.Stack, states=3, layers=2, nv=2, hidden=(4,), gamma=2.0),
    "innovation": dict(cls=rc.nn.InnovationR2DN, nv=4, hidden=(5,)),
    "observer": dict(cls=rc.nn.ContractingR2DN, nv=4, hidden=(5,)),
}


def explicit(name):
    kw = dict(MODELS[name])
    cls, states = kw.pop("cls"), {} if name in ("static", "stack") else {"nx": 3}
    model = cls(nu=2, ny=2, **states, **kw, key=KEY)
    return (rc.nn.StateObserver(model) if name == "observer" else model).explicit()


def with_phi(network):
    phi = network(4, 4, (6,), key=KEY)
    return rc.nn.LipschitzR2DN(nu=2, nx=3, nv=4, ny=1, gamma=2.0, phi=phi, key=KEY).explicit()


def average():
    models = [rc.nn.ContractingR2DN(nu=2, nx=2, nv=3, ny=1, hidden=(4,), key=key) for key in jr.split(KEY)]
    return rc.nn.Average(models).explicit()


CONTROLLERS = {
    **{f"explicit {name}": lambda name=name: explicit(name) for name in MODELS},
    "prepared R2DN": lambda: explicit("R2DN").prepare(),
    "R2DN with a bypass": lambda: with_phi(rc.nn.BypassLBDN),
    "R2DN of orthogonal layers": lambda: with_phi(rc.nn.Orthogonal),
    "LPV": lambda: rc.nn.LPV(rc.nn.Lipschitz(2.0), nu=3, nx=3, nv=4, ny=1, schedule=(1,), key=KEY).explicit(),
    "average": lambda: average(),
    "prepared average": lambda: average().prepare(),
    "scaled": lambda: rc.Rescaled(
        rc.nn.ContractingR2DN(nu=2, nx=2, nv=3, ny=1, hidden=(4,), key=KEY), (1e-3, 2.0), (5.0,)
    ).explicit(),
    "StateSpace": lag,
    "delayed": lambda: rc.Delayed(lag(), (3,)),
    "PID": lambda: pid(low=-1.0, high=1.0),
    "two PIDs": lambda: classical.PID(
        [1.0, 2.0], 0.5, [0.0, 0.5], dt=0.1, reads=[[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]]
    ),
    "LQR": lambda: classical.lqr(tanks(), [1.0, 1.0], 1.0).controller,
    "LQR with integrators": lambda: (
        classical.lqr(tanks(), [1.0, 1.0, 1.0], 1.0, integral=[[0.0, 1.0]]).controller
    ),
    "LQG": lambda: design().controller,
    "LQG with integrators": lambda: design(integral=True).controller,
    "LQG with integrators and limits": lambda: design(integral=True, limits=(-2.0, 2.0)).controller,
    "LQR with integrators and limits": lambda: (
        classical.lqr(tanks(), [1.0, 1.0, 1.0], 1.0, integral=[[0.0, 1.0]], limits=(0.5, 6.0)).controller
    ),
    "LQG of a continuous plant": lambda: (
        classical.lqg(
            plants.TwoTanks(), np.ones(3), 1.0, 0.1 * np.ones(2), 0.1, integral=True, dt=2.0
        ).controller
    ),
    "pole placement": lambda: classical.pole_placement(tanks(), [0.8, 0.85]).controller,
    "pole placement with observer": lambda: (
        classical.pole_placement(tanks(), [0.8, 0.85], [0.4, 0.5]).controller
    ),
    "H-infinity": hinf,
    "error feedback": lambda: classical.policy(
        rc.StateSpace([[0.5]], [[1.0]], [[2.0]], [[12.0]], dt=2.0), tanks()
    ),
    "Kalman": lambda: classical.kalman(tanks(), 0.1 * np.ones(2), 0.1).estimator,
    "EKF": lambda: classical.extended_kalman(tanks(saturate=True), 0.1 * np.ones(2), 0.1),
    "UKF": lambda: classical.unscented_kalman(tanks(), 0.1 * np.ones(2), 0.1),
    "moving horizon": lambda: classical.moving_horizon(
        tanks(saturate=True, delay=1), 0.1, 0.1, horizon=3, x_limits=(0.0, [np.inf, 20.0])
    ),
    "moving horizon of a model": lambda: classical.moving_horizon(
        loops.ModelPlant(lag()), 0.1, 0.1, horizon=2
    ),
    "feedback of a Kalman filter": lambda: estimate_feedback(
        classical.kalman(tanks(), 0.1 * np.ones(2), 0.1).estimator
    ),
    "feedback of an EKF": lambda: estimate_feedback(
        classical.extended_kalman(tanks(), 0.1 * np.ones(2), 0.1)
    ),
    "MPC": lambda: classical.mpc(tanks(), [1.0, 1.0], 1.0, horizon=3, x_high=[12.0, 12.0]).controller,
    "nonlinear MPC": lambda: (
        classical.nonlinear_mpc(tanks(saturate=True, delay=1), [1.0, 1.0], 1.0, horizon=3).controller
    ),
    "base": base,
    "base with integrators": lambda: base(integral=True),
    "internal model": lambda: loops.internal_model(tanks()),
    "Youla": lambda: loops.Youla(base(), q()),
    "Youla with references": lambda: loops.Youla(base(integral=True), q(nu=2)),
    "Youla of an identified model": lambda: loops.Youla(
        loops.ParallelModel(loops.ModelPlant(lag(), delay=2)), q()
    ),
    "prepared Youla": lambda: loops.Youla(loops.internal_model(first_order()), q()).prepare(),
    "alongside": lambda: loops.Alongside(
        classical.PID(0.5, 0.01, dt=2.0, y0=10.0, u0=3.0), loops.noiseless(tanks(resolution=0.1)), q()
    ),
    "parallel": lambda: loops.Parallel(pid(), q(nu=2)),
    "guarded": lambda: loops.Guarded(pid(), guarded_filter(), pid(low=-1.0, high=1.0), stale_after=3),
    "guarded by sets": guarded_prediction,
    "reference governor": governor,
    "tube MPC": lambda: (
        classical.tube_mpc(tanks(), [1.0, 1.0], 1.0, [0.02, 0.02], horizon=3, x_high=12.0).controller
    ),
    "convex MPC": lambda: classical.convex_mpc(
        rc.nn.InputConvexRNN(nu=1, nx=3, ny=2, gamma=2.0, direct=False, key=KEY),
        classical.ConvexCost(y_weight=1.0, u_weight=0.1),
        u_low=0.0,
        u_high=2.0,
        y_high=[1.0, np.inf],
        horizon=3,
    ),
    "series": lambda: loops.Series(loops.Delay(jnp.zeros(1), 3), loops.Series(lag(), loops.zero_gain(1, 2))),
    "loop": lambda: loops.feedback(cart(), design().controller),
    "loop of a model": lambda: loops.feedback(loops.ModelPlant(lag()), pid()),
    "Youla's map": lambda: loops.YoulaMap(lag(), lag(), lag(), q(), float("inf")),
    "sampled plant": lambda: plants.Sampled(
        plants.QuadrupleTank(), 2.0, plants.Imperfections(noise=(0.1, 0.2), jitter=0.1), substeps=2
    ),
    "reactor": lambda: plants.Sampled(plants.StirredTankReactor(), 6.0),
    "adaptive steps": lambda: plants.Sampled(plants.CartPole(), 0.02, solver=plants.sampled.dfx.Tsit5()),
}
"""Name: what makes it."""


def sample(system, key, scale=1.0):
    """Return a state near the initial one and one sample of the input, drawn at random."""
    return perturbed((system.init_state(), system.one_sample()), key, scale)


def perturbed(tree, key, scale):
    leaves, structure = jax.tree.flatten(tree)
    keys = jr.split(key, len(leaves))
    moved = [
        leaf + scale * jr.normal(k, leaf.shape, leaf.dtype)
        if jnp.issubdtype(leaf.dtype, jnp.inexact)
        else leaf
        for leaf, k in zip(leaves, keys, strict=True)
    ]
    return jax.tree.unflatten(structure, moved)
