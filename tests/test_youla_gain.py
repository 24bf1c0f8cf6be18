"""The closed loop's certified gain: its maps, its norm, and that no learned Q passes it."""

import dataclasses

import control as ct
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import robustctl as rc
from robustctl.classical import hinf_norm, linear_base, youla_gain
from robustctl.errors import InvalidModelError
from robustctl.loops import Feedback, ModelBased, Youla, internal_model
from robustctl.plants import Imperfections, LinearPlant, Sampled, Signal, undisturbed

from .plants_list import sampled
from .responses import largest_gain

LIMITED = Signal(
    "u[0]", low=-1.0, high=1.0
)  # where saturation is on; without limits there would be nothing to clip


@pytest.fixture(scope="module")
def plant():
    """An unstable oscillator with two disturbances."""
    matrices = [[0.0, 1.0], [2.0, -0.3]], [[0.0], [1.0]], [[1.0, 0.0]]
    return Sampled(LinearPlant(*matrices, Bd=np.eye(2), controls=[LIMITED]), 0.1)


@pytest.fixture(scope="module")
def base(plant):
    return linear_base(plant, [1.0, 1.0], [0.1], [1.0, 1.0], [0.1])


def test_no_disturbance_is_amplified_beyond_the_certified_gain(plant, base):
    """Gradient ascent through the closed loop with a certified Q comes near the bound and not above it."""
    q = rc.nn.LipschitzR2DN(nu=1, nx=2, nv=3, ny=1, gamma=0.7, hidden=(4,), key=jr.key(0))
    found = youla_gain(plant, base, rc.certify(q, prove=False).gamma)
    assert found.certified and "every two disturbances" in found.statement

    class Seen(rc.System):
        """The loop from d to y alone."""

        loop: Feedback

        def init_state(self):
            return self.loop.init_state()

        def step(self, x, u):
            w = self.loop.plant.undisturbed()._replace(d=u)
            x_next, out = self.loop.step(x, w)
            return x_next, out.y

    seen = Seen(Feedback(plant, Youla(base, q.explicit())))
    reached = rc.certificates.gain_lower_bound(seen, 2, key=jr.key(1), horizon=80, steps=150, starts=3)
    assert 0.3 * found.gain < reached.value <= found.gain


@pytest.mark.parametrize(
    "imperfections",
    [
        Imperfections(saturate=True),
        Imperfections(rate_limit=1.0),
        Imperfections(resolution=0.1),
        Imperfections(jitter=0.1),
    ],
)
def test_only_a_loop_that_is_linear_in_every_sample_is_certified(plant, base, imperfections):
    real = dataclasses.replace(plant, imperfections=imperfections)
    assert not youla_gain(real, base, 1.0).certified
    noisy = dataclasses.replace(
        plant, imperfections=Imperfections(noise=0.1)
    )  # adds to what d does, and changes none of it
    assert youla_gain(noisy, base, 1.0).certified


def test_the_maps_are_those_of_the_loop(plant, base):
    found = youla_gain(plant, base, 1.0, performance=lambda x, u: jnp.concatenate([x, u]))
    assert [t.D.shape for t in (found.t0, found.t1, found.t2)] == [(3, 2), (3, 1), (1, 2)]
    grid = np.linspace(1e-3, np.pi / 0.1, 2000)
    for t, norm in zip((found.t0, found.t1, found.t2), found.norms, strict=True):
        response = np.moveaxis(t(np.exp(1j * grid * 0.1)), -1, 0)
        largest = np.linalg.svd(response.reshape(len(grid), *t.D.shape), compute_uv=False).max()
        assert 0.999 * norm < largest <= norm * (1 + 1e-9)


def test_a_nonlinear_plant_gets_a_weaker_statement():
    system = sampled("magnetic suspension")
    found = youla_gain(
        system, linear_base(system, [4e4, 0.4, 0.0], [1e-3], [1e-8, 1e-4, 1e-4], [1e-8]), 100.0
    )
    assert not found.certified and "tube" in found.statement and "local, not certified" in str(found)
    limited = LinearPlant([[-1.0]], [[1.0]], [[1.0]], controls=[LIMITED])
    stable = Sampled(limited, 0.1, Imperfections(saturate=True))
    assert not youla_gain(stable, internal_model(stable), 1.0).certified


def test_saturation_without_limits_is_linear():
    unlimited = Sampled(LinearPlant([[-1.0]], [[1.0]], [[1.0]]), 0.1, Imperfections(saturate=True))
    assert youla_gain(unlimited, internal_model(unlimited), 1.0).certified


def test_a_law_or_correction_that_is_not_known_to_be_linear_is_not_certified(plant, base):
    """The loop with u = -K x - 2 x^3 has the linearization of the linear one, and diverges from one step of size 2."""
    cubic = ModelBased(base.model, base.correct, lambda x: base.law(x) - 2 * x[:1] ** 3)
    assert not youla_gain(plant, cubic, 1.0).certified


def test_a_base_that_hears_q_is_refused(plant, base):
    wrong = Sampled(LinearPlant([[0.0, 1.0], [1.5, -0.3]], [[0.0], [1.0]], [[1.0, 0.0]]), 0.1)
    with pytest.raises(InvalidModelError, match="must not depend on Q's output"):
        youla_gain(plant, ModelBased(wrong, base.correct, base.law), 1.0)


@pytest.mark.parametrize("lags", [1, 5])
def test_a_wrong_model_is_refused_however_late_it_answers(lags):
    """The first samples of lags in a row are next to nothing, though the model's gain is off by half."""

    def row(gain):
        A = np.diag(np.full(lags, -1.0)) + np.diag(np.ones(lags - 1), -1)
        return Sampled(LinearPlant(A, gain * np.eye(lags)[:, :1], np.eye(lags)[-1:]), 1e-3)

    assert youla_gain(row(1.0), internal_model(row(1.0)), 3.0).certified
    with pytest.raises(InvalidModelError, match=r"gain from there is 0\.5 where that of the reading is 1;"):
        youla_gain(row(1.0), internal_model(row(1.5)), 3.0)


def test_the_gain_does_not_depend_on_the_units_of_the_states():
    """A damped spring, its position in meters and in nanometres."""
    plants = [
        Sampled(LinearPlant([[0, s], [-4 / s, -4.0]], [[0.0], [1.0]], [[1 / s, 0.0]]), 0.01)
        for s in (1.0, 1e9)
    ]
    gains = [youla_gain(plant, internal_model(plant), 1.0).gain for plant in plants]
    np.testing.assert_allclose(gains[1], gains[0], rtol=1e-6)


def test_a_q_with_offsets_keeps_the_gain_of_the_deviation(plant, base):
    """Without a disturbance its offsets move the output, so that no gain times |d| could bound the output itself."""
    q = rc.nn.LipschitzR2DN(nu=1, nx=2, nv=3, ny=1, gamma=0.7, hidden=(4,), key=jr.key(0))
    loop = Feedback(plant, Youla(base, q.explicit()))
    still = undisturbed(plant, 100)
    d = 1e-3 * jnp.sin(jnp.arange(100.0))[:, None] * jnp.ones((1, 2))
    without, with_d = (rc.rollout(loop, w).ys.y for w in (still, still._replace(d=d)))
    gain = youla_gain(plant, base, rc.certify(q, prove=False).gamma).gain
    assert jnp.linalg.norm(with_d - without) <= gain * jnp.linalg.norm(d) < jnp.linalg.norm(without)


@pytest.mark.parametrize("gamma", [-1.0, float("nan"), float("inf")])
def test_a_gain_that_means_nothing_is_refused(plant, base, gamma):
    with pytest.raises(InvalidModelError, match="gamma must be"):
        youla_gain(plant, base, gamma)


@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (1, 3), (2, 3)])
@pytest.mark.parametrize("dt", [0, 0.1])
def test_the_norm_of_any_shape_is_the_largest_gain_on_a_grid(shape, dt):
    rng = np.random.default_rng(sum(shape))
    A = rng.normal(size=(4, 4))
    A = (
        A / (1.3 * np.abs(np.linalg.eigvals(A)).max())
        if dt
        else A - (np.linalg.eigvals(A).real.max() + 0.3) * np.eye(4)
    )
    system = ct.StateSpace(
        A, rng.normal(size=(4, shape[1])), rng.normal(size=(shape[0], 4)), rng.normal(size=shape), dt
    )
    grid = np.concatenate([[0.0], np.logspace(-4, 4, 20000) if not dt else np.linspace(0, np.pi, 20000)])
    largest, norm = largest_gain(system, 1j * grid if not dt else np.exp(1j * grid)), hinf_norm(system)
    assert largest <= norm * (1 + 1e-9) and norm < 1.001 * largest


def test_the_norm_is_found_where_the_bisection_ends_too_low():
    """Slow modes that are strongly coupled one way: the largest gain is at a pole's frequency."""
    A = [
        [9.99973e-01, 0, -2.06777, -2.00326, -3.05945e-02, 9.55169],
        [0, 9.99999e-01, 2.36414e-04, -4.86705, -5.03351, -5.23440],
        [0, -1.10630e-03, 9.99999e-01, 0, 2.73707, 55.5212],
        [0, 0, 0, 5.96513e-01, 0, -4.77723e-01],
        [0, 0, 0, 0, 7.34975e-01, 3.81630e-03],
        [0, 0, 0, 0, -3.68119e-04, 7.34975e-01],
    ]
    B, C = [[-1], [-1], [1], [1], [-1], [1]], [[33396.3, 1309.23, -5901.59, -13772.0, 3598.65, -15698.2]]
    system = ct.StateSpace(A, B, C, [[0]], 0.01)
    near = np.angle(system.poles())[None] + np.linspace(-1e-5, 1e-5, 201)[:, None]
    largest = np.abs(system(np.exp(1j * near.ravel()))).max()
    assert largest <= hinf_norm(system) * (1 + 1e-3)


def test_an_unstable_system_has_no_norm():
    with pytest.raises(InvalidModelError, match="must be stable"):
        hinf_norm(ct.StateSpace([[1.1]], [[1.0]], [[1.0]], [[0.0]], 0.1))
