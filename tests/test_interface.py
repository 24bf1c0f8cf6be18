"""What classes say of themselves: forms for proofs, claims, registration for files. Values from linear algebra."""

import control as ct
import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import robustctl as rc
from robustctl import lft
from robustctl.affine import affine_form
from robustctl.errors import InvalidModelError, RobustctlError


def matrices(seed, nx, nu, ny):
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(nx, nx))
    A /= 1.2 * np.abs(np.linalg.eigvals(A)).max()
    return A, rng.normal(size=(nx, nu)), rng.normal(size=(ny, nx)), 0.2 * rng.normal(size=(ny, nu))


def response(form, z):
    """The transfer matrix of a form without blocks."""
    return form.C2 @ np.linalg.solve(z * np.eye(form.nx) - form.A, form.B2) + form.D22


POINT = np.exp(0.7j)


def test_two_systems_in_series_multiply():
    first, second = lft.linear(*matrices(0, 3, 2, 4)), lft.linear(*matrices(1, 2, 4, 1))
    whole = lft.series(first, second)
    np.testing.assert_allclose(
        response(whole, POINT), response(second, POINT) @ response(first, POINT), rtol=1e-12
    )


def test_a_feedback_loop_is_that_of_python_control():
    plant, controller = matrices(2, 3, 1, 1), matrices(3, 2, 1, 1)
    F = np.array([[0.0, -1.0], [1.0, 0.0]])  # u = r - K y, and the controller reads y
    whole = lft.interconnect(
        [lft.linear(*plant), lft.linear(*controller)], F, [[1.0], [0.0]], [[1.0, 0.0]], [[0.0]]
    )
    wanted = ct.feedback(ct.ss(*plant, 1.0), ct.ss(*controller, 1.0))
    np.testing.assert_allclose(response(whole, POINT)[0, 0], wanted(POINT), rtol=1e-10)


def test_scales_go_into_the_ports():
    form = lft.linear(*matrices(4, 3, 2, 2))
    whole = lft.rescaled(form, [2.0, 0.1], [5.0, 3.0])
    np.testing.assert_allclose(
        response(whole, POINT), np.diag([5.0, 3.0]) @ response(form, POINT) @ np.diag([2.0, 0.1]), rtol=1e-12
    )


def test_an_algebraic_loop_without_a_solution_is_refused():
    gain = lft.static_gain(np.eye(1))
    with pytest.raises(InvalidModelError, match="sample of delay"):
        lft.interconnect([gain, gain], [[0, 1], [1, 0]], np.eye(2), np.eye(2), np.zeros((2, 2)))


@pytest.mark.parametrize(
    ("function", "lo", "hi"),
    [(np.tanh, 0.0, 1.0), (np.abs, -1.0, 1.0), (lambda v: 0.5 * v + np.sin(v), -0.5, 1.5)],
)
def test_the_form_of_slopes_is_never_negative_where_they_hold(function, lo, hi):
    rng = np.random.default_rng(0)
    block, T = lft.Slopes(np.full(3, lo), np.full(3, hi)), np.array([0.3, 1.0, 4.0])
    a, b = 3 * rng.normal(size=(2, 500, 3))
    both = np.hstack([a - b, function(a) - function(b)])
    assert np.einsum("ti,ij,tj->t", both, block.form(T), both).min() >= -1e-12
    outside = np.hstack([np.ones(3), np.full(3, hi + 0.1)])
    assert outside @ block.form(T) @ outside < 0


def test_an_affine_system_is_its_matrices():
    A, B, C, D = matrices(5, 3, 2, 1)
    pid = rc.classical.PID([2.0], [0.5], dt=0.1)
    form = affine_form(rc.StateSpace(A, B, C, D, 1.0), 2)
    for found, wanted in zip((form.A, form.B2, form.C2, form.D22), (A, B, C, D), strict=True):
        np.testing.assert_allclose(found, np.asarray(wanted), rtol=1e-6)
    assert pid.lft() is not None and rc.classical.PID([2.0], [0.5], dt=0.1, high=1.0).lft() is None


class Lag(rc.System):
    """A user's own system: two independent lags."""

    a: jnp.ndarray

    def init_state(self):
        return jnp.zeros_like(self.a)

    def step(self, x, u):
        return self.a * x + u, x

    @property
    def nu(self):
        return self.a.size

    def lft(self):
        eye = np.eye(2)
        return lft.linear(np.diag(np.asarray(self.a)), eye, eye, np.zeros((2, 2)))


class Wrong(Lag):
    """Its step does something else than its parent's form says, and it defines none."""

    def step(self, x, u):
        return 2 * x + u, x


class Wronger(Lag):
    """Its form is of another size than its step."""

    def lft(self):
        return lft.linear(*matrices(0, 3, 2, 2))


class Named(Lag):
    """It adds a name, and steps as its parent does."""

    @property
    def inputs(self):
        return ("left", "right")


def test_an_own_system_is_certified_from_its_form_alone():
    found = rc.certify(Lag(jnp.array([0.5, -0.9])), prove=False)
    assert found.holds and found.rate == 1.0 and 0.9 <= found.rate_found <= 1.0
    assert not rc.certify(Lag(jnp.array([0.5, 1.1])), prove=False).holds


def test_a_subclass_that_steps_otherwise_makes_no_claim():
    system = Wrong(jnp.array([0.5, 0.9]))
    assert (
        system.lft() is None and system.claim is None and "no claim" in rc.certify(system, prove=False).reason
    )
    assert rc.certify(Named(jnp.array([0.5, 0.9])), prove=False).holds


def test_a_subclass_of_ours_that_steps_otherwise_makes_no_claim():
    inner = rc.nn.ContractingR2DN(nu=1, nx=2, nv=2, ny=1, hidden=(3,), key=jr.key(0)).explicit()

    class Doubled(type(inner)):
        def step(self, x, u):
            return super().step(2 * x, u)

    doubled = object.__new__(Doubled)
    for name, value in vars(inner).items():
        object.__setattr__(doubled, name, value)
    assert rc.certify(inner, prove=False).holds
    assert doubled.lft() is None and doubled.claim is None


def test_a_network_that_computes_otherwise_than_its_parent_has_no_bound():
    network = rc.nn.LBDN(2, 2, (3,), key=jr.key(0)).explicit()

    class Louder(type(network)):
        def __call__(self, h):
            return 100 * super().__call__(h)

    class LouderMLP(eqx.nn.MLP):
        def __call__(self, x, *, key=None):
            return 100 * super().__call__(x)

    louder = Louder(network.layers, network.W, network.b, network.activation)
    assert rc.nn.lipschitz_bound(network) <= 1 and rc.nn.lipschitz_bound(louder) is None
    assert rc.nn.lipschitz_bound(LouderMLP(2, 2, 3, 1, key=jr.key(0))) is None


def test_a_form_of_other_sizes_than_the_step_is_refused():
    with pytest.raises(InvalidModelError, match=r"must describe what its step does.*'states': 2"):
        rc.certify(Wronger(jnp.array([0.5, 0.9])), prove=False)


class Unregistered(rc.Parameterization):
    a: jnp.ndarray

    def explicit(self):
        return Lag(jnp.tanh(self.a))


class Other(eqx.Module):
    pass


def test_a_class_that_is_not_registered_is_refused_with_how_to_register_it(tmp_path):
    with pytest.raises(InvalidModelError, match=r"Unregistered.*@rc\.registered"):
        rc.save(tmp_path / "x.safetensors", Unregistered(jnp.ones(2)))
    assert not list(tmp_path.iterdir())


def test_two_classes_do_not_share_a_name_in_files():
    with pytest.raises(RobustctlError, match="another name"):
        rc.registered(name="LBDN")(Other)


def test_a_model_that_cannot_be_quieted_says_what_to_define():
    with pytest.raises(InvalidModelError, match=r"Unregistered.*quiet\(factor\)"):
        rc.nn.quiet(Unregistered(jnp.ones(2)))
