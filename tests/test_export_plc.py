"""The step in structured text, in a small interpreter, is the step in NumPy to the bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import robustctl as rc
from robustctl.errors import InvalidModelError
from robustctl.export.emit import emitted
from robustctl.export.limits import Known
from robustctl.runtime import Step

from .export_systems import inputs_of, sample_of, system_of
from .structured_text import Block


def text_of(system, dtype="float32", u=None, dt=None):
    made = rc.export.program(system, name="my__model_", dtype=dtype, u=u, dt=dt)
    return made, emitted("plc", made, None, Known()).files["my__model_.st"]


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("scaled", "float32"), ("r2dn_leaky_relu", "float64"), ("pid", "float32"), ("pid_reads", "float32"), ("delay", "float32"),
        ("lqg", "float64"),
    ],
)  # fmt: skip
def test_the_step_in_structured_text_is_the_step(name, dtype):
    made, text = text_of(system_of(name), dtype, sample_of(name), getattr(system_of(name), "dt", None) or 0.1)
    assert "FUNCTION_BLOCK my_model_step" in text
    step, block = Step(made), Block(text)
    x, first = step.init_state(), None
    for u in inputs_of(name, 20, dtype):
        x, y = step(x, u)
        found = block(list(u))
        np.testing.assert_array_equal(np.array(found, dtype), np.ravel(y))
        first = found if first is None else first
    assert block(list(inputs_of(name, 20, dtype)[0]), reset=True) == first


class Layouts(rc.System):
    """Matrices that are cut, turned, joined and multiplied; bools and a counter."""

    nu, ny, dt = 6, 17, 0.1

    def init_state(self):
        return jnp.arange(6.0).reshape(2, 3), jnp.asarray(0), jnp.asarray([True, False])

    def step(self, x, u):
        matrix, count, on = x
        given = u.reshape(3, 2)
        product = matrix @ given
        turned = jnp.where(on[0] & ~on[1], given[::-1].T, 2.0 * given.T) + matrix[:, ::2][:, :1]
        parts = [
            product.ravel(),
            turned.ravel(),
            u @ given.repeat(2, 0)[:, :1],
            jnp.max(turned, 0),
            product.sum(1)[::-1],
        ]
        y = jnp.concatenate([*parts, jnp.ones(2) * count])
        return (jnp.concatenate([turned[:, :2], matrix[:, :1]], 1) / 4, count + 1, on[::-1]), y


def test_arrays_are_cut_turned_and_joined():
    made, text = text_of(Layouts())
    step, block = Step(made), Block(text)
    x = step.init_state()
    for u in np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32):
        x, y = step(x, u)
        np.testing.assert_array_equal(np.array(block(list(u)), np.float32), y)


def test_what_structured_text_does_not_have_is_named():
    with pytest.raises(InvalidModelError, match="this one has tanh"):
        text_of(rc.nn.LSTM(nu=1, nx=3, ny=1, key=jax.random.key(0)), u=jnp.zeros(1), dt=0.1)
