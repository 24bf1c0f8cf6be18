"""A user's own guaranteed model and own plant, from public names alone: trained, saved, certified, in a loop, in both reports."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import robustctl as rc


class Modes(rc.System):
    """Independent lags between two matrices: x+ = a x + B u, y = C x + D u."""

    a: jax.Array
    B: jax.Array
    C: jax.Array
    D: jax.Array

    nu = property(lambda self: self.B.shape[1])
    ny = property(lambda self: self.C.shape[0])

    def init_state(self):
        return jnp.zeros_like(self.a)

    def step(self, x, u):
        return self.a * x + self.B @ u, self.C @ x + self.D @ u

    def lft(self):
        return rc.lft.linear(np.diag(np.asarray(self.a)), self.B, self.C, self.D)

    @property
    def claim(self):
        return rc.lft.Claim(rate=0.99, P=np.eye(self.a.size))


@rc.registered(sizes=lambda m: {"nu": m.B.shape[1], "nx": m.B.shape[0], "ny": m.C.shape[0]})
class OwnModel(rc.Parameterization):
    """Lags that forget by 1 % a sample or faster, whatever the free arrays: a = 0.99 tanh(free)."""

    free: jax.Array
    B: jax.Array
    C: jax.Array
    D: jax.Array

    def __init__(self, nu, nx, ny, *, key):
        b, c = jr.split(key)
        self.free = jnp.linspace(0.5, 2.0, nx)
        self.B, self.C, self.D = jr.normal(b, (nx, nu)), jr.normal(c, (ny, nx)), jnp.zeros((ny, nu))

    def explicit(self):
        return Modes(0.99 * jnp.tanh(self.free), self.B, self.C, self.D)

    def quiet(self, factor=1e-2):
        return eqx.tree_at(lambda m: (m.C, m.D), self, (factor * self.C, factor * self.D))


class Heater(rc.plants.Plant):
    """A heated block that radiates: not linear."""

    states = outputs = (rc.plants.Signal("temperature", "K"),)
    controls = (rc.plants.Signal("heat", "W"),)
    disturbances = (rc.plants.Signal("draft", "K"),)

    def rates(self, x, u, d):
        return u + d - x - 0.1 * x**3


def test_own_model_from_a_log_to_a_report(tmp_path):
    record = rc.problems.two_tanks(200, seed=0)
    fitted = rc.fit(OwnModel(1, 2, 1, key=jr.key(0)), record, epochs=30, monitor=None, key=jr.key(1))
    assert fitted.history["loss"][-1] < fitted.history["loss"][0]
    rc.save(tmp_path / "own.safetensors", fitted.model)
    loaded = rc.load(tmp_path / "own.safetensors")
    assert eqx.tree_equal(loaded, fitted.model)
    found = rc.certify(loaded, prove=False)
    assert found.holds and found.rate == 0.99 and found.model == "Modes"
    report = rc.fit_report(loaded, record, certificate=found)
    assert "HOLDS" in str(report)
    assert loaded.explicit().dt == record.dt and loaded.explicit().inputs == record.inputs


class OwnRecordModel(rc.train.RecordModel):
    """A model of a record with a gain on its output, and without a delay, a trained range or an innovation gain."""

    parameterization: rc.Parameterization
    initial: eqx.Module
    scaling: rc.data.Scaling = eqx.field(static=True)
    dt: float = eqx.field(static=True)
    inputs: tuple = eqx.field(static=True)
    outputs: tuple = eqx.field(static=True)
    input_units: tuple = eqx.field(static=True)
    output_units: tuple = eqx.field(static=True)

    def explicit(self):
        scales = (jnp.asarray(a, self.dtype) for a in vars(self.scaling).values())
        return rc.Scaled(self.parameterization.explicit(), *scales, dt=self.dt)


def test_own_model_of_a_record_is_treated_as_what_fit_returns():
    record = rc.problems.two_tanks(120, seed=0)
    kind = rc.train.linear_warm_up(10)  # from the lft() of Modes
    model = OwnModel(1, 2, 1, key=jr.key(0))
    fitted = rc.fit(model, record, initial=kind, epochs=2, monitor=None, key=jr.key(1)).model
    names = (
        "parameterization",
        "initial",
        "scaling",
        "dt",
        "inputs",
        "outputs",
        "input_units",
        "output_units",
    )
    own = OwnRecordModel(*(getattr(fitted, name) for name in names))
    for run in (rc.simulate, lambda m, r: rc.compare_models({"one": m}, r)):
        assert str(run(own, record)) == str(run(fitted, record))
    assert own.trained is None and own.late == 0


def test_own_model_as_a_policy_on_an_own_plant():
    sampled = rc.plants.Sampled(Heater(), 0.2)
    scenario = rc.loops.PlantScenario(
        rc.plants.Task(sampled.plant), sampled, rc.loops.internal_model(sampled)
    )
    policy = rc.nn.quiet(OwnModel(1, 2, 1, key=jr.key(0)))
    fitted = rc.fit_policy(policy, scenario, horizon=20, epochs=3, monitor=None, key=jr.key(1))
    assert rc.certify(fitted.policy, prove=False).holds
    report = rc.robustness.report({"own": scenario.loop(fitted.policy.explicit())}, horizon=30, search=0)
    assert "own" in str(report)
