"""A system's step as a program, what its C looks like, and what cannot be exported."""

import ctypes
import re
import subprocess
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax import lax

import robustctl as rc
from robustctl.errors import InvalidModelError, RobustctlError
from robustctl.export.c_print import KINDS
from robustctl.export.compiled import find_compiler
from robustctl.runtime import program as table
from robustctl.runtime.program import BINARY, COMPARE, UNARY, walk

from .export_compiled import compiled, compiler


def system(step, x=None, nu=1, dt=0.1):
    """A system of a user's own with a given step."""

    class Own(rc.System):
        def init_state(self):
            return jnp.zeros(2) if x is None else x

        def step(self, x, u):
            return step(x, u)

    Own.nu, Own.dt = nu, dt  # pyright: ignore[reportAttributeAccessIssue]
    return Own()


def kinds(program):
    return [op.kind for op in walk(program.operations)]


def r2dn(dtype=jnp.float64, **settings):
    sizes = {"nu": 1, "nx": 3, "nv": 4, "ny": 1, "hidden": (5,)} | settings
    return rc.nn.ContractingR2DN(**sizes, key=jr.key(0), dtype=dtype)  # pyright: ignore[reportArgumentType]


def test_an_r2dn_is_folded_first():
    made = rc.export.program(r2dn())
    # A product for each layer and port; the offsets of state and output are zero, and are not added.
    assert sorted(kinds(made)) == [*["add"] * 3, "concatenate", *["dot"] * 5, "max"]
    assert (
        made.dtype == "float64"
        and made.dt is None
        and rc.export.program(r2dn(jnp.float32)).dtype == "float32"
    )


def test_only_what_is_needed_is_left_and_equal_operations_are_one():
    twice = jnp.arange(4.0).reshape(2, 2)

    def step(x, u):
        ignored = jnp.exp(x) @ (twice + 1.0)
        total, _ = lax.scan(
            lambda s, k: ((s[0] + x[0] * k, s[1] + ignored[0]), jnp.sin(x) * k), (0.0, 0.0), jnp.arange(3.0)
        )
        return (twice + 0.0) @ x + jnp.tanh(u)[0], jnp.sinh(jnp.tanh(u)) + (2.0 * twice)[0, 1] + total[0]

    made = rc.export.program(system(step))
    found = kinds(made)
    assert found.count("tanh") == found.count("dot") == 1 and not {"exp", "sin"} & set(found)
    (loop,) = (op for op in made.operations if op.kind == "loop")
    assert len(loop.results) == loop.params["carries"] == 1
    assert len([v for v in made.constants if v.shape == (2, 2)]) == 1


def test_programs_have_the_kinds_of_the_table():
    named = set(re.findall(r"^`(\w+)`", table.__doc__ or "", re.MULTILINE)) | {*UNARY, *BINARY, *COMPARE}
    assert set(KINDS) == named


def header_of(tmp_path, made, **settings):
    return (rc.export.c(made, tmp_path / "out", **settings) / "model.h").read_text()


def test_signals_have_their_names_and_units(tmp_path):
    names = {
        "dt": 0.02,
        "inputs": ("valve 1", "for"),
        "outputs": ("level", "level "),
        "input_units": ("%", ""),
        "output_units": ("m", "m"),
    }
    one = jnp.ones(2)
    text = header_of(tmp_path, rc.Scaled(r2dn(nu=2, ny=2).explicit(), 0 * one, one, 0 * one, one, **names))  # pyright: ignore[reportArgumentType]
    assert "double valve_1; /* valve 1 [%] */" in text and "double for_; /* for */" in text
    assert "double level; /* [m] */" in text and "double level_; /* level  [m] */" in text
    assert "#define MODEL_DT 0.02" in text


def test_flags_of_lost_samples_are_named(tmp_path):
    model = rc.nn.InnovationR2DN(nu=1, nx=2, nv=2, ny=1, hidden=(2,), key=jr.key(0)).explicit()
    one = jnp.ones(1)
    names = {"dt": 1.0, "inputs": ("u", "y", "y measured"), "outputs": ("y",)}
    text = header_of(tmp_path, rc.Scaled(model, jnp.zeros(3), jnp.ones(3), 0 * one, one, **names))  # pyright: ignore[reportArgumentType]
    assert "double y_measured; /* y measured 1 where measured, else 0 */" in text


SOURCES = ["model.c"]


def test_the_code_is_also_cpp_and_calls_only_what_it_names(tmp_path):
    model = rc.nn.LSTM(nu=1, nx=3, ny=1, key=jr.key(0), dtype=jnp.float32)
    folder = rc.export.c(model, tmp_path, dt=0.1, own_functions=False)
    compiled(folder, SOURCES, "-x", "c++", "-Wall", "-Wextra", "-Werror", "-c", "-o", "cpp.o")
    compiled(folder, SOURCES, "-std=c99", "-O2", "-c", "-o", "c.o")
    listed = subprocess.run(["nm", "-u", "c.o"], cwd=folder, capture_output=True, text=True, check=False)
    named = re.search(r"Calls of math.h: (.*)\.", (folder / "model.c").read_text())
    assert named and named[1].split(", ") == ["expf", "tanhf"]
    if listed.returncode == 0:
        # Compilers make calls of these two of loops that copy or clear.
        assert set(re.findall(r"U (\w+)", listed.stdout)) - {"memcpy", "memset"} == {"expf", "tanhf"}


def in_order(W, x):
    """A product as C sums it: from the first term to the last."""
    total = W[:, 0] * x[0]
    for k in range(1, x.size):
        total = total + W[:, k] * x[k]
    return total


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_relu_model_is_equal_to_numpy_of_the_same_order_in_every_bit(tmp_path, dtype):
    """At any level of optimization, also where the compiler would contract products and sums."""
    model = r2dn(jnp.float64, nx=5, nv=6, nu=2, ny=2, hidden=(9, 7)).explicit().prepare()
    folded = jax.tree.map(lambda a: np.asarray(a, dtype), model)
    step = rc.export.compile(model, dtype=dtype)
    us = np.random.default_rng(0).normal(size=(300, 2)).astype(dtype)
    x, ys = step.init_state(), []
    n = folded.W.shape[0]
    for u in us:
        xu = np.concatenate([x, u])
        h = np.maximum(in_order(folded.G[n:], xu) + folded.g[n:], 0)
        for W, b in folded.hidden:
            h = np.maximum(in_order(W, h) + b, 0)
        r = (in_order(folded.G[:n], xu) + folded.g[:n]) + in_order(folded.W, h)
        x, y = r[:5], r[5:]
        ys.append(y)
    x_final, found = step.loop(step.init_state(), us)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, ys)
    np.testing.assert_array_equal(x_final, x)
    folder = rc.export.c(model, tmp_path / "c", dtype=dtype, dt=1.0)
    (folder / "main.c").write_text(MAIN.replace("REAL", "float" if dtype == np.float32 else "double"))
    us.tofile(folder / "in.bin")
    for k, flags in enumerate((["-O0"], ["-std=gnu99", "-O3", "-march=native"])):
        compiled(folder, ["main.c", "model.c"], *flags, "-o", f"run{k}")
        subprocess.run([str(folder / f"run{k}"), str(us.shape[0])], cwd=folder, check=True)
        np.testing.assert_array_equal(np.fromfile(folder / "out.bin", dtype).reshape(-1, 2), ys)


MAIN = """
#include <stdio.h>
#include <stdlib.h>
#include "model.h"
int main(int count, char **given)
{
    FILE *in = fopen("in.bin", "rb"), *out = fopen("out.bin", "wb");
    model_state state;
    model_inputs u;
    model_outputs y;
    model_init(&state);
    for (int k = 0; k < atoi(given[count - 1]); k++) {
        if (fread(&u, sizeof u, 1, in) != 1) {
            return 1;
        }
        model_step(&state, &u, &y);
        fwrite(&y, sizeof y, 1, out);
    }
    return fclose(out);
}
"""


def test_nan_is_not_hidden_by_a_relu_or_a_limit():
    limited = rc.classical.PID(1.0, dt=0.1, low=-1.0, high=1.0)
    for made in (r2dn(nu=2).explicit(), limited):
        step = rc.export.compile(made)
        assert np.isnan(step(step.init_state(), np.array([np.nan, 0.0]))[1]).all()


def test_a_compiled_step_refuses_other_shapes_and_keeps_its_arguments():
    step = rc.export.compile(r2dn(nu=2))
    x = step.init_state()
    after, y = step(x, np.ones(2))
    assert not x.any() and after.any() and step(x, np.ones(2))[1] == y
    for wrong in (np.ones(1), np.ones((2, 1)), 1.0):
        with pytest.raises(InvalidModelError, match=r"the input must have arrays of shape \(2,\)"):
            step(x, wrong)
    with pytest.raises(InvalidModelError, match="the state must have arrays of shape"):
        step(np.zeros(2), np.ones(2))
    with pytest.raises(InvalidModelError, match=r"arrays of shape \(time, ...\) of \(2,\), got \(2,\)"):
        step.loop(x, np.ones(2))
    assert step.loop(x, np.zeros((0, 2)))[1].shape == (0, 1)


def test_without_a_compiler_it_says_so(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setitem(__import__("sys").modules, "ziglang", None)
    with pytest.raises(RobustctlError, match="a C compiler must be installed"):
        rc.export.compile(r2dn())
    with pytest.raises(RobustctlError):
        find_compiler()


def random_step(x, u):
    return x, u + jr.normal(jr.fold_in(jr.key(0), x[0].astype(int)), (1,))


def unbounded(x, u):
    return x, lax.while_loop(lambda s: jnp.abs(s[0]) > 0.1, lambda s: s / 2, u)


def called_back(x, u):
    return x, jax.pure_callback(np.sin, jax.ShapeDtypeStruct((1,), u.dtype), u)


def decomposed(x, u):
    return x, jnp.linalg.svd(jnp.outer(x, x), compute_uv=False)


def bits(x, u):
    return x, jnp.where(jnp.floor(u).astype(int) & 3 == 1, u, -u)


@pytest.mark.parametrize(
    ("step", "says"),
    [
        (random_step, "random numbers and complex ones are not exported"),
        (unbounded, "a loop must end after a number of turns that is known beforehand"),
        (called_back, "every operation of step must have a translation, and JAX's pure_callback has none"),
        (decomposed, "JAX's svd has none"),
        (bits, "bits of integers are not exported"),
    ],
)
def test_what_has_no_translation_is_named_with_its_place(step, says):
    with pytest.raises(InvalidModelError, match=re.escape(says)) as raised:
        rc.export.program(system(step))
    assert re.search(rf"test_export\.py:\d+.*{step.__name__}", str(raised.value))


def test_bad_systems_are_refused():
    program: Any = rc.export.program
    with pytest.raises(
        InvalidModelError,
        match="must be a System or a Parameterization, got LQR; of a design give its controller",
    ):
        program(rc.classical.lqr(rc.plants.Sampled(rc.plants.TwoTanks(), 2.0), [1.0, 1.0], 1.0))
    with pytest.raises(InvalidModelError, match="dtype must be float32 or float64, got float16"):
        program(r2dn(), dtype=jnp.float16)
    with pytest.raises(
        InvalidModelError, match=r"every array of the system must be real and without NaN, and \.bx is not"
    ):
        program(jax.tree.map(lambda a: a * np.nan if a.shape == (3,) else a, r2dn().explicit()))
    with pytest.raises(InvalidModelError, match="in place of Python's if and while"):
        program(system(lambda x, u: (x, u if u[0] > 0 else -u)))
    with pytest.raises(InvalidModelError, match="the state must keep its shapes and dtypes"):
        program(system(lambda x, u: (jnp.concatenate([x, u]), u)))
    with pytest.raises(InvalidModelError, match="give u=, one sample of the input"):
        program(system(lambda x, u: (x, jnp.eye(2) @ u)))
    with pytest.raises(InvalidModelError, match="does not define how many inputs it has; give u="):
        program(system(lambda x, u: (x, u), nu=None))  # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidModelError, match="dt must be the positive sample time"):
        program(system(lambda x, u: (x, u)), dt=0.2)


@pytest.mark.parametrize("name", ["for", "class", "1st", "a b", "", "tänk", None, "_x"])
def test_names_that_c_does_not_have_are_refused(name):
    with pytest.raises(InvalidModelError, match="name must be an identifier"):
        rc.export.program(r2dn(), name=name)


def test_where_files_may_not_be_written(tmp_path):
    with pytest.raises(InvalidModelError, match="the sample time must be known"):
        rc.export.c(r2dn(), tmp_path)
    assert not list(tmp_path.iterdir())
    rc.export.c(r2dn(), tmp_path, dt=0.1)
    for used in (tmp_path, tmp_path / "model.c"):
        with pytest.raises(InvalidModelError, match="the folder must be new or empty"):
            rc.export.c(r2dn(), used, dt=0.1)


def test_a_bounded_search_is_exported_and_a_system_without_state_too(tmp_path):
    assert compiler()
    controller = rc.loops.Gain(jnp.array([[2.0]]), jnp.zeros(1), jnp.ones(1))
    step = rc.export.compile(controller)
    assert step((), np.array([3.0])) == ((), 7.0)
    text = (rc.export.c(controller, tmp_path, dt=1.0) / "model.h").read_text()
    assert "char nothing;" in text


FUNCTIONS = """
#include "model.c"
double exp_of(double a) { return OWN_exp(a); }
double tanh_of(double a) { return OWN_tanh(a); }
void exp_all(double a[], int n) { for (int k = 0; k < n; k++) { a[k] = OWN_exp(a[k]); } }
void tanh_all(double a[], int n) { for (int k = 0; k < n; k++) { a[k] = OWN_tanh(a[k]); } }
"""


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_its_own_functions_are_as_exact_as_they_say(tmp_path, dtype):
    """Compared with NumPy's in extended precision; as vector code they give the same bits."""
    folder = rc.export.c(rc.nn.LSTM(nu=1, nx=2, ny=1, key=jr.key(0)), tmp_path, dtype=dtype, dt=0.1)
    text = (folder / "model.c").read_text()
    assert "Calls of math.h: none." in text
    compiled(folder, SOURCES, "-x", "c++", "-Wall", "-Wextra", "-Werror", "-c", "-o", "cpp.o")
    real = "float" if dtype == np.float32 else "double"
    (folder / "own.c").write_text(FUNCTIONS.replace("OWN", "model").replace("double a", f"{real} a"))
    flags = ["-std=c99", "-ffp-contract=off", "-shared", "-fPIC"]
    compiled(folder, ["own.c"], *flags, "-O1", "-o", "own.so")
    compiled(folder, ["own.c"], *flags, "-O3", "-march=native", "-o", "vector.so")
    library, vector = (ctypes.CDLL(str(folder / name)) for name in ("own.so", "vector.so"))
    kind = ctypes.c_float if dtype == np.float32 else ctypes.c_double
    rng, largest = np.random.default_rng(0), np.log(np.finfo(dtype).max)
    sizes = 10.0 ** rng.uniform(-8, 3, 4000)
    points = np.concatenate([sizes, -sizes, rng.uniform(-2, 2, 4000), [0.0, 0.35, largest]]).astype(dtype)
    for name, most in (("exp", 2), ("tanh", 3)):
        call = library[f"{name}_of"]
        call.argtypes, call.restype = [kind], ctypes.c_double
        found = np.array([call(a) for a in points])
        together = points.copy()
        vector[f"{name}_all"](together.ctypes.data_as(ctypes.c_void_p), together.size)
        np.testing.assert_array_equal(together, found)
        exact = getattr(np, name)(points.astype(np.longdouble))
        assert (found[exact > np.finfo(dtype).max] == np.inf).all()
        usual = (np.abs(exact) > np.finfo(dtype).tiny) & (exact < np.finfo(dtype).max)
        error = np.abs(found - exact)[usual] / np.spacing(np.abs(exact[usual]).astype(dtype))
        assert error.max() < most, (name, float(error.max()))
        assert np.abs(found - exact)[~usual & (exact < 1)].max(initial=0) <= 2 * np.finfo(dtype).tiny
        assert np.isnan(call(np.nan)) and call(-np.inf) == (0 if name == "exp" else -1)
