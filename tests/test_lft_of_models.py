"""What models say of themselves for proofs: sizes of their steps, and forms that agree with them between two points."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import robustctl as rc
from robustctl.lft import Bounded, Slopes

from .models import EVERY, SIZES, draw, stepped


def explicit(name, size=0, **kw):
    settings = dict(nx=3, nv=4, rate=0.9, gamma=2.0, key=jr.key(0)) | kw
    return draw(EVERY[name](**SIZES[size], **settings), jr.key(1), 1.0).explicit()


SYSTEMS = {
    **{name: lambda name=name: explicit(name) for name in EVERY},
    "StableLinear": lambda: rc.nn.StableLinear(nu=1, nx=3, ny=3, key=jr.key(0)).explicit(),
    "LipschitzStatic": lambda: rc.nn.LipschitzStatic(nu=1, ny=3, gamma=2.0, key=jr.key(0)).explicit(),
}
WITHOUT = {
    "GRU": lambda: rc.nn.GRU(nu=1, nx=3, ny=3, key=jr.key(0)).explicit(),
    "LSTM": lambda: rc.nn.LSTM(nu=1, nx=3, ny=3, key=jr.key(0)).explicit(),
    "InnovationR2DN": lambda: rc.nn.InnovationR2DN(nu=1, nx=3, nv=4, ny=2, nz=1, key=jr.key(0)).explicit(),
}
# Its form is that of several layers, of which a step shows the last one alone.
FOLDED = {"FoldedR2DN": lambda: explicit("ContractingR2DN").prepare()}


@pytest.mark.parametrize("make", (SYSTEMS | WITHOUT | FOLDED).values(), ids=SYSTEMS | WITHOUT | FOLDED)
def test_a_system_knows_the_sizes_of_its_signals(make):
    system = make()
    x, y = stepped(system, system.init_state(), jnp.zeros(system.nu))
    assert y.shape == (system.ny,)
    form = system.lft()
    if form is not None:
        assert (form.nx, form.nu, form.ny) == (flat(x).size, system.nu, system.ny)
        assert (
            sum(b.nv for b in form.blocks) == len(form.C1)
            and sum(b.nw for b in form.blocks) == form.B1.shape[1]
        )


@pytest.mark.parametrize("make", WITHOUT.values(), ids=WITHOUT)
def test_systems_without_a_guarantee_claim_nothing(make):
    assert make().lft() is None and make().claim is None


def test_folded_matrices_have_a_form_and_claim_nothing():
    (make,) = FOLDED.values()
    assert make().claim is None and all(isinstance(block, Slopes) for block in make().lft().blocks)


def flat(tree):
    return np.asarray(ravel_pytree(tree)[0], np.float64)


def differences(system):
    """Two samples of a system, apart: differences of x, u, x+ and y."""
    x, unravel = ravel_pytree(system.init_state())
    xs, us = jr.normal(jr.key(2), (2, x.size)), jr.normal(jr.key(3), (2, system.nu))
    (next0, y0), (next1, y1) = (system.step(unravel(x), u) for x, u in zip(xs, us, strict=True))
    return (*(flat(a) - flat(b) for a, b in ((xs[0], xs[1]), (us[0], us[1]), (next0, next1), (y0, y1))),)


@pytest.mark.parametrize("make", SYSTEMS.values(), ids=SYSTEMS)
def test_some_output_of_the_blocks_explains_a_step_within_their_bounds(make):
    """The least-squares w of `[x+; y] - [A x + B2 u; C2 x + D22 u] = [B1; D21] w` leaves nothing over."""
    system = make()
    form, (dx, du, dx_next, dy) = system.lft(), differences(system)
    rest = np.concatenate([dx_next - form.A @ dx - form.B2 @ du, dy - form.C2 @ dx - form.D22 @ du])
    dw = np.linalg.lstsq(np.vstack([form.B1, form.D21]), rest)[0]
    np.testing.assert_allclose(np.vstack([form.B1, form.D21]) @ dw, rest, atol=1e-10)
    dv, at_v, at_w = form.C1 @ dx + form.D11 @ dw + form.D12 @ du, 0, 0
    for block in form.blocks:
        v, w = dv[at_v : at_v + block.nv], dw[at_w : at_w + block.nw]
        if isinstance(block, Bounded):
            assert np.linalg.norm(w) <= block.gain * np.linalg.norm(v) + 1e-12
        else:
            assert np.all((w - block.lo * v) * (block.hi * v - w) >= -1e-12 * v**2)
        at_v, at_w = at_v + block.nv, at_w + block.nw


@pytest.mark.parametrize("hidden", [(), (6,), (7, 3, 5)])
def test_a_sandwich_network_is_its_form_with_its_activations_put_in(hidden):
    phi = draw(rc.nn.LBDN(4, 2, hidden, key=jr.key(0)), jr.key(1), 1.0).explicit()
    phi = jax.tree.map(lambda a: jnp.zeros_like(a) if jnp.ndim(a) == 1 else a, phi)  # without its biases
    form, h = phi.lft(), np.asarray(jr.normal(jr.key(2), (4,)))
    assert [block.nv for block in form.blocks] == list(hidden) and form.assumptions == ()
    w = np.zeros(sum(hidden))
    for _ in hidden:  # one layer more is right after each pass
        w = np.maximum(form.D11 @ w + form.D12 @ h, 0)
    np.testing.assert_allclose(form.D21 @ w + form.D22 @ h, phi(jnp.asarray(h)), atol=1e-12)


def test_slopes_of_a_ren_hold_of_the_entries_that_its_layer_reads():
    ren = explicit("LipschitzREN")
    raised = eqx.tree_at(lambda s: s.D11, ren, ren.D11 + jnp.triu(jnp.ones_like(ren.D11)))
    x, u = jnp.ones(3), jnp.ones(1)
    assert all(jnp.array_equal(a, b) for a, b in zip(ren.step(x, u), raised.step(x, u), strict=True))
    assert np.array_equal(raised.lft().D11, ren.lft().D11)
    (block,), (Lambda,) = ren.lft().blocks, ren.claim.multipliers
    assert isinstance(block, Slopes) and np.array_equal(Lambda, ren.Lambda)


def half(z):
    return jax.nn.relu(z) / 2


def test_an_own_activation_is_an_assumption():
    for name in ("ContractingR2DN", "ContractingREN"):
        assert explicit(name).lft().assumptions == ()
        (assumption,) = explicit(name, activation=half).lft().assumptions
        assert "activation" in assumption
    network = eqx.nn.MLP(4, 4, 5, 1, half, key=jr.key(0))
    scaled = eqx.tree_at(lambda m: m.layers[0].weight, network, replace_fn=lambda W: W / 10)
    assert "activation" in explicit("ContractingR2DN", phi=scaled).lft().assumptions[0]


def test_a_network_without_a_bound_is_a_block_without_one():
    (block,) = explicit("ContractingR2DN", phi=lambda v: 0.5 * jnp.sin(v)).lft().blocks
    assert block.gain == np.inf and block.inside is None


def test_an_overridden_step_takes_no_description_over():
    class Louder(rc.nn.ExplicitR2DN):
        def step(self, x, u):
            x_next, y = super().step(x, u)
            return x_next, 2 * y

    class Steeper(type(explicit("ContractingR2DN").phi)):
        def __call__(self, h):
            return 2 * super().__call__(h)

    system = explicit("LipschitzR2DN")
    louder = Louder(**{name: getattr(system, name) for name in system.__dataclass_fields__})
    assert system.lft() is not None and louder.lft() is None and louder.claim is None
    phi = system.phi
    assert phi.lft() is not None and Steeper(phi.layers, phi.W, phi.b, phi.activation).lft() is None


def test_an_innovation_system_switches_between_its_patterns():
    """Under each pattern the step with that pattern in its input is the step of the mode."""
    system = WITHOUT["InnovationR2DN"]()
    modes = system.modes()
    assert len(modes) == 4
    x, u, y = jnp.ones(3), jnp.ones(1), jnp.asarray([0.3, -2.0])
    for mode, seen in zip(modes, ([0, 0], [0, 1], [1, 0], [1, 1]), strict=True):
        found = mode.step(x, jnp.concatenate([u, y]))
        expected = system.step(x, jnp.concatenate([u, y, jnp.asarray(seen, float)]))
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-12)


def test_a_static_networks_claim_leaves_room_on_both_sides():
    system = SYSTEMS["LipschitzStatic"]()
    form, claim = system.lft(), system.claim
    (block,), (multiplier,), (Q, S, R) = form.blocks, claim.multipliers, claim.supply
    V, W, U = np.hstack([form.D11, form.D12]), np.eye(3, 4), np.eye(1, 4, 3)
    Y = np.hstack([form.D21, form.D22])
    M = (
        np.vstack([V, W]).T @ block.form(multiplier) @ np.vstack([V, W])
        - Y.T @ Q @ Y
        - U.T @ R @ U
        - 2 * U.T @ S @ Y
    )
    assert np.linalg.eigvalsh((M + M.T) / 2).max() < 0
