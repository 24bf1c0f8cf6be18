"""Exported systems in NumPy alone: the numbers of JAX and, bit by bit, of the compiled C; no file makes it run anything else."""

import copy
import itertools
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import robustctl as rc
import robustctl.runtime
from robustctl.errors import InvalidModelError, ModelFileError
from robustctl.export.compiled import CompiledStep, built, find_compiler
from robustctl.runtime.check import RULES
from robustctl.runtime.compiled import _BLOCKS
from robustctl.runtime.numbers import in_order
from robustctl.runtime.operations import HANDLERS
from robustctl.runtime.program import blocks, walk
from robustctl.runtime.text import from_json, to_json

from .export_compiled import steps, traced_of
from .export_systems import CASES, inputs_of, sample_of, system_of
from .model_files import tamper

ROOT = Path(__file__).parent.parent
SAMPLES = 20
FUNCTIONS = {
    "exp", "exp2", "expm1", "log", "log1p", "cbrt", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh",
    "acosh", "atanh", "erf", "erfc", "pow", "atan2",
}  # fmt: skip
"""What C's mathematical library and NumPy round differently."""


def made(name):
    return traced_of(name, "float32")


def flat(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree) if np.size(leaf)]


def one_or_all(leaves):
    return leaves[0] if len(leaves) == 1 else tuple(leaves)


def run(step, us, count):
    """Return outputs and state of some samples."""
    x, ys = step.init_state(), []
    for k in range(count):
        x, y = step(x, one_or_all([leaf[k] for leaf in us]))
        ys.append(y)
    return x, ys


def kinds(program):
    return {op.kind for op in walk(program.operations)}


@pytest.mark.parametrize(
    "name", ["r2dn_tanh", "youla", "ekf", "own_arithmetic", "own_cond", "own_scan", "own_window"]
)
def test_the_step_of_a_file_is_that_of_jax(name, tmp_path):
    system, us = system_of(name), inputs_of(name, SAMPLES)
    path = rc.export.runtime(system, tmp_path / "file", u=sample_of(name))
    x, ys = run(robustctl.runtime.load(path), flat(us), SAMPLES)
    expected = jax.jit(lambda us: rc.rollout(system, us))(us)
    for found, wanted in zip(flat(x), flat(expected.x_final), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)
    for k, y in enumerate(ys):
        for found, wanted in zip(flat(y), flat(expected.ys), strict=True):
            np.testing.assert_allclose(found, wanted[k], rtol=1e-9, atol=1e-9)


@pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="needs a C compiler")
@pytest.mark.parametrize("name", CASES)
def test_the_step_is_that_of_the_exported_c_to_the_bit(name):
    """In single precision; where there are functions that C's library and NumPy round differently, to 1e-5."""
    check_bits(name, steps("float32")[name])


OPTIMIZED = ("r2dn", "ren", "lqg", "ukf", "pid", "mpc", "youla")


@pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="needs a C compiler")
@pytest.mark.parametrize(
    "name",
    [*OPTIMIZED, *(pytest.param(name, marks=pytest.mark.slow) for name in CASES if name not in OPTIMIZED)],
)
def test_the_bits_are_those_of_the_most_optimized_c_too(name):
    check_bits(name, CompiledStep(made(name), built(made(name).program, find_compiler())))


def check_bits(name, c):
    us = flat(inputs_of(name, SAMPLES, "float32"))
    step = robustctl.runtime.Step(made(name).program)
    structure = jax.tree.structure(sample_of(name))
    x, x_c = step.init_state(), c.init_state()
    for k in range(SAMPLES):
        now = [leaf[k] for leaf in us]
        x, y = step(x, one_or_all(now))
        x_c, y_c = c(x_c, jax.tree.unflatten(structure, unfolded(now, sample_of(name))))
        for found, wanted in zip(flat([y, x]), flat([y_c, x_c]), strict=True):
            if is_exact(name):
                assert found.tobytes() == wanted.tobytes(), k
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def is_exact(name):
    return not kinds(made(name).program) & FUNCTIONS


def unfolded(leaves, like):
    """Return the arrays of an input, those without entries included."""
    given = iter(leaves)
    return [next(given) if leaf.size else np.zeros(leaf.shape) for leaf in jax.tree.leaves(like)]


def test_systems_without_transcendental_functions_are_the_same_to_the_bit():
    for name in ("r2dn", "ren", "lqg", "ekf", "ukf", "youla", "alongside", "pid", "innovation"):
        assert is_exact(name)


def test_every_kind_of_operation_is_computed_and_checked():
    vocabulary = set(RULES)
    assert set(HANDLERS) | set(_BLOCKS) == vocabulary
    used = {kind for name in CASES for kind in kinds(made(name).program)}
    assert used <= vocabulary and len(used) > 40


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "shape", [(1, 5), (2, 1), (9, 1), (50, 1), (50, 2), (40, 3), (33, 8), (17, 4, 3), (65, 200)]
)
def test_sums_run_from_the_first_term_to_the_last(shape, dtype):
    x = np.random.default_rng(0).normal(size=shape).astype(dtype)
    total = x[0].copy()
    for row in x[1:]:
        total = total + row
    assert in_order(np.add, x).tobytes() == total.tobytes()


def test_a_step_is_pickled_and_keeps_names_units_and_sample_time(tmp_path):
    path = rc.export.runtime(system_of("scaled"), tmp_path, name="plant")
    assert path == tmp_path / "program.safetensors"
    step = pickle.loads(pickle.dumps(robustctl.runtime.load(tmp_path)))
    assert (step.dt, step.program.name) == (0.02, "plant")
    (u,), (y,) = step.inputs, step.outputs
    assert (u.labels, u.units) == (("valve 1", "for"), ("%", ""))
    assert (y.labels, y.units) == (("level*/", "90 %"), ("m", "K"))
    before = robustctl.runtime.load(path)
    for one, other in zip(run(step, [np.ones((3, 2))], 3), run(before, [np.ones((3, 2))], 3), strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_is_returned_may_be_changed_in_place():
    step = robustctl.runtime.Step(rc.export.program(rc.loops.Delay(jnp.array([1.0]), 2)))
    x, y = step(step.init_state(), np.array([5.0]))
    x[:], y[:] = 7.0, 7.0
    after, first = step(step.init_state(), np.array([5.0]))
    assert first == 1.0 and after.tolist() == [[1.0], [5.0]]


def test_the_numpy_steps_of_an_r2dn_agree():
    system = system_of("r2dn")
    fast, x = rc.nn.numpy_step(system)
    step = robustctl.runtime.Step(rc.export.program(system))
    u = np.array([0.3, -2.0])
    for found, wanted in zip(step(x, u), fast(x, u), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-12)


def test_arrays_of_other_shapes_are_refused():
    step = robustctl.runtime.Step(rc.export.program(system_of("r2dn")))
    with pytest.raises(
        InvalidModelError, match=r"u must be one sample, an array of shape \(2,\), got shape \(1,\)"
    ):
        step(step.init_state(), np.ones(1))
    with pytest.raises(InvalidModelError, match=r"the state must be one sample, an array of shape \(4,\)"):
        step(np.ones(3), np.ones(2))
    pid = robustctl.runtime.Step(rc.export.program(system_of("pid")))
    with pytest.raises(InvalidModelError, match="the state must be a tuple of 3 arrays, got 2"):
        pid(pid.init_state()[:2], np.ones(2))


# Without JAX


def program(code: str, **environment: str) -> str:
    env = os.environ | environment
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=env, check=True
    )
    return done.stdout.strip()


def test_it_imports_numpy_alone_and_runs_without_anything_else(tmp_path):
    path = rc.export.runtime(system_of("lqg"), tmp_path)
    code = f"""
import sys
import numpy
before = set(sys.modules)
import robustctl.runtime
step = robustctl.runtime.load({str(path)!r})
x, u = step(step.init_state(), numpy.array([0.1]))
print(sorted({{m.split(".")[0] for m in set(sys.modules) - before}} - set(sys.stdlib_module_names)), u.shape)"""
    assert program(code) == "['robustctl'] (1,)"


@pytest.mark.slow
def test_its_import_takes_little_longer_than_that_of_numpy(tmp_path):
    """At most 1.2 times, in processor time, the least of several; compiled beforehand, as an installed package is."""
    compiled = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(tmp_path)}
    times: dict[str, list[float]] = {"numpy": [], "robustctl.runtime": []}
    for _ in range(10):
        for name, found in times.items():
            code = f"import time; t = time.process_time(); import {name}; print(time.process_time() - t)"
            found.append(float(program(code, **compiled)))
    assert min(times["robustctl.runtime"]) <= 1.2 * min(times["numpy"])


# Files that are damaged, cut off, of another kind or altered


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> bytes:
    path = rc.export.runtime(system_of("own_cond"), tmp_path_factory.mktemp("runtime") / "file")
    return path.read_bytes()


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "step.safetensors"


def test_flipped_bits_and_cut_files_are_noticed(saved, path):
    rng = np.random.default_rng(0)
    for k in range(60):
        data = bytearray(saved)
        data[rng.integers(len(saved))] ^= 1 << int(rng.integers(8))
        path.write_bytes(data if k % 2 else saved[: rng.integers(len(saved))])
        with pytest.raises(ModelFileError, match=r"step\.safetensors: "):
            robustctl.runtime.load(path)


def test_other_files_are_refused(path):
    rc.save(path, system_of("pid"))
    with pytest.raises(
        ModelFileError, match=r"must hold a program, got an object .*; rc\.load reads a model"
    ):
        robustctl.runtime.load(path)
    rc.export.runtime(system_of("pid"), path)
    with pytest.raises(ModelFileError, match=r"must hold a model, got a program .*robustctl\.runtime\.load"):
        rc.load(path)
    with pytest.raises(FileNotFoundError):
        robustctl.runtime.load(path.parent)


def at(path_in, value):
    """Return a change of one entry of the program's JSON."""

    def change(header, arrays):
        node = header["program"]
        for key in path_in[:-1]:
            node = node[key]
        node[path_in[-1]] = value

    return change


def without(name):
    return lambda header, arrays: arrays.pop(name)


def nan(header, arrays):
    arrays["start.1"] = np.full_like(arrays["start.1"], np.nan)


def each(header, kind):
    """Return the first operation of a kind."""
    return next(op for op in header["program"]["operations"] if op["kind"] == kind)


ALTERED = {
    "operation": (at(["operations", 0, "kind"], "os.system"), "os.system"),
    "kind of no name": (at(["operations", 0, "kind"], []), "must be what rc.export.runtime writes"),
    "version": (at(["version"], 2), "version must be 1, got 2"),
    "dtype": (at(["dtype"], "float16"), "float32 or float64"),
    "other precision": (at(["dtype"], "float32"), "dtype float32"),
    "dt": (at(["dt"], -1.0), "dt must be a positive number"),
    "value": (at(["operations", 0, "operands", 0], 10**6), "a value must be one of"),
    "value of no kind": (at(["operations", 0, "operands", 0], "x"), "a value must be one of"),
    "negative value": (at(["operations", 0, "operands", 0], -1), "a value must be one of"),
    "value of the future": (lambda h, a: h["program"]["operations"].reverse(), "must read what was computed before|must give"),
    "more params": (at(["operations", 0, "code"], "print()"), "must have"),
    "no operations": (at(["operations"], []), "results must read what was computed before"),
    "shape": (lambda h, a: h["program"]["values"][0][0].append(3), "must"),
    "huge shape": (lambda h, a: h["program"]["values"][-1].__setitem__(0, [2**40]), "must"),
    "shape whose size overflows": (lambda h, a: h["program"]["values"][-1].__setitem__(0, [2**32, 2**32]), "entries"),
    "endless loop": (lambda h, a: each(h, "while").update(most=10**15), "a step must compute at most"),
    "shape of no kind": (lambda h, a: h["program"]["values"][0].__setitem__(0, "x"), "must"),
    "NaN": (nan, "start.1 must have no NaN"),
    "start": (without("start.1"), "start.1 must be an array of shape"),
    "labels": (at(["inputs", 0, "labels"], ["a", "b", "c"]), "labels must be one text"),
    "flags": (at(["inputs", 0, "flags"], [7]), "flags must be positions"),
    "no values": (lambda h, a: h["program"].pop("values"), "must be what rc.export.runtime writes"),
    "state": (lambda h, a: h["program"]["state"][0].update(after=h["program"]["state"][1]["after"]), "must keep its shape"),
    "branch": (at(["operations", -1, "body"], 3), "must"),
}  # fmt: skip


@pytest.mark.parametrize("name", ALTERED)
def test_altered_programs_are_refused_even_with_the_right_hash(name, saved, path):
    change, message = ALTERED[name]
    path.write_bytes(saved)
    tamper(path, change)
    with pytest.raises(ModelFileError, match=message) as caught:
        robustctl.runtime.load(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("name", ["own_cond", "own_arithmetic", "own_window", "ekf"])
def test_random_changes_of_a_program_are_refused_or_still_step(name):
    """One number, word or list of the JSON changed: never another error, and never a step of another shape than its program's."""
    program, arrays = to_json(made(name).program)
    text = json.dumps(program)
    rng, refused = np.random.default_rng(1), 0
    values = [None, -1, 0, 1, 3, 10**9, "x", "add", 0.5, True, [], {}, [0], [10**9]]
    nodes = len(list(holders(program)))
    for k in rng.integers(nodes, size=300):
        node = json.loads(text)
        holder, key = next(itertools.islice(holders(node), int(k), None))
        holder[key] = copy.deepcopy(values[rng.integers(len(values))])
        try:
            found = from_json(node, arrays)
        except ModelFileError:
            refused += 1
            continue
        if max((op.params["length"] for op in walk(found.operations) if op.kind == "loop"), default=0) < 1000:
            step = robustctl.runtime.Step(found)
            u = [np.zeros(s.value.shape) for s in found.inputs]
            x, y = step(step.init_state(), one_or_all(u))
            assert [a.shape for a in flat(x)] == [s.value.shape for s in found.state]
            assert [a.shape for a in flat(y)] == [s.value.shape for s in found.outputs]
    assert refused > 100


def holders(node):
    """Yield where each entry of a JSON value is held."""
    for key in node if isinstance(node, dict) else range(len(node)):
        yield node, key
        if isinstance(node[key], dict | list):
            yield from holders(node[key])


@pytest.mark.parametrize("name", CASES)
def test_json_and_back_is_the_same_program(name):
    before = made(name).program
    node, arrays = to_json(before)
    after = from_json(json.loads(json.dumps(node)), arrays)
    again, others = to_json(after)
    assert again == node and arrays.keys() == others.keys()
    assert [o.kind for o in walk(after.operations)] == [o.kind for o in walk(before.operations)]
    assert sum(len(blocks(o)) for o in walk(after.operations)) == sum(
        len(blocks(o)) for o in walk(before.operations)
    )
