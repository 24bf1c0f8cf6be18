"""A step in C is the system's own step."""

import subprocess
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from .export_compiled import compiler, steps, written
from .export_systems import CASES, inputs_of, system_of


def in_dtype(system, dtype):
    return jax.tree.map(lambda a: jnp.asarray(np.asarray(a), dtype) if eqx.is_inexact_array(a) else a, system)


def in_jax(name, us, dtype):
    """The system's own states, the one after the last sample too, and outputs."""
    with jax.enable_x64(dtype == "float64"), jax.numpy_dtype_promotion("standard"):
        system = in_dtype(system_of(name), dtype)

        def body(x, u):
            x_next, y = system.step(x, u)
            return x_next, (x, y)

        x_final, (xs, ys) = jax.jit(partial(lax.scan, body))(in_dtype(system.init_state(), dtype), us)
    return jax.tree.map(np.asarray, (xs, ys, x_final))


def assert_near(found, expected, tolerance):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        assert np.isfinite(b).all()
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(np.abs(b).max(initial=0), 1e-30))


def check_doubles(step, name, count):
    us = inputs_of(name, count)
    _, ys, x_final = in_jax(name, us, "float64")
    x, found = step.loop(step.init_state(), us)
    assert_near((x, found), (x_final, ys), 1e-12)


# The covariance is a sum of squares of differences of points around the estimate, `P_ii = sum w d^2`. Where a point is rounded to another
# neighbor, at 8 to 16 by e = 2^-20, it changes by `2 e sum w |d| <= 2 e sqrt(P_ii)`: of P = 1.276, the largest, 1.69e-6. JAX's own
# float32 is off by 1.13e-6 from exact arithmetic, as is that of C; between the two there are 1.03e-6.
#
# The interior point method of the MPC stops at a tolerance of 1e-4 in float32, `classical.qp`. Where rounding decides whether an iterate
# is the last, two that are correct differ by it: in one of a thousand samples by 7e-5 of 8.5 V, as JAX's own float32 and float64 do.
BOUND = {"ukf": 1.69e-6, "mpc": 1e-5}


def check_floats(step, name, count, dtype="float32"):
    """From the same state each time: what rounding does to a whole trajectory is the system's own doing."""
    check_each(step, name, inputs_of(name, count, dtype), count, dtype)


def check_each(step, name, us, count, dtype):
    xs, ys, x_final = in_jax(name, us, dtype)
    at = [jax.tree.map(lambda a, k=k: a[k], (xs, us)) for k in range(count)]
    found = [step(*each) for each in at]
    after = jax.tree.map(lambda a, last: np.concatenate([a[1:], last[None]]), xs, x_final)
    stacked = jax.tree.map(lambda *each: np.stack(each), *found)
    assert_near(stacked, (after, ys), BOUND.get(name, 1e-6) if dtype == "float32" else 1e-12)


@pytest.mark.parametrize("name", CASES)
def test_the_step_in_c_is_the_system_s_own(name):
    check_doubles(steps("float64")[name], name, 200)


@pytest.mark.parametrize(
    "name", ["r2dn", "ren_in_blocks", "lstm", "scaled", "ekf", "alongside", "own_window", "own_cond"]
)
def test_in_single_precision_too(name):
    check_floats(steps("float32")[name], name, 100)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_over_many_samples_and_in_both_precisions(name):
    if name not in UNSTABLE:
        check_doubles(steps("float64")[name], name, 10_000)
        check_floats(steps("float32")[name], name, 10_000)
        return
    # From the start again and again: alone, such a system leaves every range.
    for dtype in ("float64", "float32"):
        us = inputs_of(name, 2000, dtype)
        for k in range(0, 2000, 200):
            part = jax.tree.map(lambda a, k=k: a[k : k + 200], us)
            check_each(steps(dtype)[name], name, part, 200, dtype)


UNSTABLE = {"alongside", "cart_pole"}


TRY = """
{
    static NAME_state s;
    static NAME_inputs u;
    static NAME_outputs y;
    double v[sizeof u / sizeof(double) + 1];
    NAME_init(&s);
    for (int k = 0; k < 500; k++) {
        for (size_t i = 0; i < sizeof u / sizeof(double); i++) {
            v[i] = rand() / (double)RAND_MAX * 2 - 1;
        }
        memcpy(&u, v, sizeof u);
        NAME_step(&s, &u, &y);
    }
}
"""


@pytest.mark.slow
def test_nothing_undefined_happens(tmp_path):
    """Under the sanitizers of addresses and undefined behavior, every system of the list in one program."""
    made = written(tmp_path, "float64")
    body = "".join(TRY.replace("NAME", each.program.name) for each in made.values())
    heads = '#include <stdlib.h>\n#include <string.h>\n#include "all.c"\n'
    (tmp_path / "main.c").write_text(f"{heads}int main(void)\n{{{body}return 0;\n}}\n")
    sanitize = "-fsanitize=address,undefined,float-cast-overflow,float-divide-by-zero"
    command = [*compiler(), "-std=c99", "-O1", sanitize, "main.c", "-o", "main", "-lm"]
    if subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode:
        pytest.skip("the compiler has no sanitizers")
    done = subprocess.run([str(tmp_path / "main")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
