"""A step in fixed point: its integers, its certificate, and the bound on its drift."""

import json
import shutil
import subprocess
from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import robustctl as rc
from benchmarks import fixed_drift
from robustctl.cli import main
from robustctl.errors import InvalidModelError, RobustctlError
from robustctl.export import fixed_formats, fixed_ranges, matlab_print
from robustctl.export.compiled import CompiledStep, built, find_compiler
from robustctl.export.fixed_folder import integer_noise
from robustctl.export.fixed_lower import RULES, lowered
from robustctl.export.fixed_ranges import Box
from robustctl.export.matlab_print import Script
from robustctl.export.trace import prepared, traced, tracing
from robustctl.runtime import Step
from robustctl.runtime.check import check as check_program
from robustctl.runtime.compiled import Compiled
from robustctl.runtime.numbers import rescaled
from robustctl.runtime.program import Operation, Program, Signals, Value
from robustctl.system import explicit_of

from .export_systems import sample_of, system_of
from .fixed_drift import (
    FAST,
    SLOW,
    arrays,
    bounded,
    drifts,
    model,
    noise,
    share_in_proven_ranges,
    share_of,
    structured,
    with_log,
)
from .processes import ROOT


def pid():
    return rc.classical.PID(4.0, 2.0, 0.4, dt=0.02, low=-1.0, high=1.0)


def linear():
    arrays = ([[0.9, 0.2], [-0.1, 0.8]], [[0.0], [1.0]], [[1.0, 0.0]], [[0.0]])
    A, B, C, D = (jnp.array(a) for a in arrays)
    return rc.StateSpace(A, B, C, D, 0.1)


SYSTEMS = {
    "r2dn": model, "pid": pid, "linear": linear, "tanh": lambda: system_of("ren_lipschitz_tanh"), "youla": lambda: system_of("youla"),
}  # fmt: skip
LOG = np.random.default_rng(4).uniform(-2, 2, (500, 2))
"""Of a model's inputs: with it nothing has to be proven of ranges, which takes seconds."""


@pytest.mark.parametrize(
    "x, shift",
    [(7, 1), (-7, 1), (6, 2), (-6, 2), (5, 2), (-(2**63), 62), (2**62, 40), (3, -3), (-9, -40), (0, -5)],
)
def test_rescale_rounds_to_the_nearest_and_saturates(x, shift):
    exact = abs(x) * 2**-shift if shift < 0 else (2 * abs(x) + 2**shift) // 2 ** (shift + 1)
    wanted = int(np.sign(x)) * min(exact, 32767)
    assert rescaled(np.array([x], np.int64), shift, 32767).tolist() == [wanted]


@pytest.mark.parametrize("bits", [4, 8, 15, 24, 31])
def test_a_format_has_the_most_fractional_bits_that_fit(bits):
    most = 2**bits - 1
    for size in (1.0, 0.999, 2.0, 3.7, 100.0, 1e-3, most * 2.0**-3):
        n = fixed_formats.fraction(size, bits)
        assert round(size * 2.0**n) <= most
        assert round(size * 2.0 ** (n + 1)) > most


@pytest.mark.parametrize("bits", [8, 15, 31])
def test_sums_of_products_fit_into_64_bits(bits):
    data = np.random.default_rng(0).uniform(-1, 1, (3, 500)) * 0.99
    n = fixed_formats.constant_fraction(data, bits)
    rows = [sum(abs(int(v)) for v in row) for row in fixed_formats.integers(data, n)]
    assert max(rows) * 2**bits <= 2**62


@pytest.mark.parametrize("dtype", ["q7", "q15", "q31"])
@pytest.mark.parametrize("name", SYSTEMS)
def test_the_integers_of_c_are_those_of_numpy(name, dtype):
    try:
        compiler = find_compiler()
    except RobustctlError as error:
        pytest.skip(str(error))
    log = {"r2dn": LOG, "tanh": LOG, "youla": LOG[:, :1]}.get(name)
    system = SYSTEMS[name]()
    step = rc.export.fixed(system, dtype, dt=None if explicit_of(system).dt else 0.1, log=log)
    check_program(step.program)
    (us,), plain = noise(step, 200), Step(step.program)
    compiled = CompiledStep(step.traced, built(step.program, compiler))
    _, ys = compiled.loop(compiled.init_state(), us)
    x = plain.init_state()
    for u, wanted in zip(us, ys, strict=True):
        x, y = plain(x, u)
        assert np.array_equal(y, wanted)


def test_the_integers_of_onnx_are_those_of_numpy():
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    from robustctl.export.onnx_file import _model

    step = rc.export.fixed(model(), "q31", dt=0.1, log=LOG)
    run = runtime.InferenceSession(_model(onnx, step.program, False).SerializeToString())
    plain = Step(step.program)
    x = plain.init_state()
    for u in noise(step, 20)[0]:
        y, after = run.run(None, {"x": x, "u": u})
        x, wanted = plain(x, u)
        assert np.array_equal(y, wanted) and np.array_equal(after, x)


def test_a_rescaled_integer_has_a_form_in_matlab():
    x, y = Value((3,), "int64"), Value((3,), "int32")
    script = Script("float32")
    script.names[x] = "x"
    for shift, x_, wanted in ((2, 6, 2), (2, -6, -2), (-3, 9, 72), (0, -99, -80)):
        matlab_print.KINDS["rescale"](script, Operation("rescale", (x,), (y,), {"shift": shift, "limit": 80}))
        formula = script.lines[-1].split("=")[1].strip(" ;").replace("^", "**").replace(".*", "*")
        names = {"x": x_, "abs": abs, "floor": np.floor, "sign": np.sign, "min": min}
        assert eval(formula, names) == wanted


def test_no_integer_leaves_what_c_defines(tmp_path):
    """With inputs at and beyond all ends, under the sanitizer of undefined behavior and the compiler's strict warnings."""
    if not shutil.which("gcc"):
        pytest.skip("gcc was not found")
    rc.export.c(model(), tmp_path / "q", name="q", dtype="q31", dt=0.1, log=LOG)
    rc.export.c(pid(), tmp_path / "pid", name="pid", dtype="q15")
    text = """
#include <stdio.h>
#include "q/q.h"
#include "pid/pid.h"
int main(void) {
    static const int32_t ends[4] = {INT32_MIN, INT32_MAX, 0, -1};
    q_state x; q_inputs u; q_outputs y; pid_state px; pid_inputs pu; pid_outputs py;
    q_init(&x); pid_init(&px);
    for (int k = 0; k < 64; k++) {
        u.u[0] = ends[k % 4]; u.u[1] = ends[(k / 4) % 4]; pu.u[0] = ends[k % 4]; pu.u[1] = ends[(k / 4) % 4];
        q_step(&x, &u, &y); pid_step(&px, &pu, &py);
    }
    printf("%d %d %d", (int)pid_integer(1e30f, PID_U_SCALE), (int)pid_integer(-0.5f, 1.0f), (int)q_integer(0.0 / 0.0 * 1.0, 1.0));
    return 0;
}"""
    (tmp_path / "main.c").write_text(text)
    flags = [
        f"-W{w}"
        for w in ("all", "extra", "conversion", "sign-conversion", "double-promotion", "vla", "error")
    ]
    command = [
        "gcc",
        "-std=c99",
        "-pedantic",
        *flags,
        "-fsanitize=undefined",
        "-fno-sanitize-recover=all",
        "main.c",
        "q/q.c",
        "pid/pid.c",
    ]
    made = subprocess.run([*command, "-o", "main"], cwd=tmp_path, capture_output=True, text=True, check=False)
    if "cannot find" in made.stderr:
        pytest.skip("gcc has no sanitizer here")
    assert not made.returncode, made.stderr
    done = subprocess.run(["./main"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "32767 -1 0")


@cache
def in_proven_ranges():
    """A model in q15, whose ranges take seconds to prove."""
    return rc.export.fixed(model(), "q15", dt=0.1, seconds=10.0)


@pytest.mark.parametrize("bits", [8, 15, 24])
def test_the_drift_stays_below_its_bound(bits):
    for seed in range(2):
        q15 = seed == 0 and bits == 15
        step = in_proven_ranges() if q15 else rc.export.fixed(model(seed), f"q{bits}", dt=0.1, log=LOG)
        # Above a thousandth of it: the bound says something.
        assert bounded(step, noise(step, 400, seed)) > 1e-3


@pytest.mark.parametrize("name", [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_the_drift_of_other_systems_stays_below_its_bound(name):
    step, us = with_log(name, "q14")
    assert not step.saturations
    check_program(step.program)
    share = bounded(step, us)
    # A delay passes on what it is given; the metric of a large REN is far from that of its error.
    assert share == 0 if name == "delay" else share > 1e-5


PROVEN = ("delay", "lead", "hinf", "scaled", "innovation", "corrected")


def late():
    return rc.loops.Series(rc.loops.Delay(jnp.array([0.5]), 2), linear())


def named_system(name):
    """A system and one sample of its input; two arrays of state in the first one."""
    return (late(), None) if name == "late" else (system_of(name), sample_of(name))


@pytest.mark.parametrize(
    "name",
    ["late", "lqg", *(pytest.param(name, marks=pytest.mark.slow) for name in PROVEN)],
)
def test_the_drift_in_proven_ranges_stays_below_its_bound(name):
    system, u = named_system(name)
    step = rc.export.fixed(system, "q14", u=u, seconds=6.0 if name == "lqg" else 3.0)
    us = integer_noise(step.system, step.traced, step.lowered, 200)
    assert not step.saturated(step.numbers(step.program.inputs[0].name, us))
    assert bounded(step, [us]) > 1e-4
    assert step.ranges == "proven" or name not in ("late", "lqg")
    assert step.never_saturates or name != "late"


def test_few_bits_leave_a_drift_within_its_bound_or_words_why_there_is_none():
    assert share_of("kalman", "q8") <= 1
    assert share_of("rescaled", "q8") is None


@pytest.mark.parametrize("bits", [4, 8, 12, 15, 24, 31])
def test_a_tanh_of_integers_is_as_near_as_stated(bits):
    """All operands up to 12 bits, with many and few fractional bits; some of more."""
    most, rng = (1 << bits) - 1, np.random.default_rng(bits)
    for n in (max(-1, bits - 31), 0, 2, bits // 2, bits - 2, bits, bits + 3):
        x = Value((most + 1 if bits <= 12 else 4000,), "float")
        y = Value(x.shape, "float")
        program = Program(
            "t",
            None,
            "float64",
            (),
            (Signals("u", x),),
            (Signals("y", y),),
            (Operation("tanh", (x,), (y,), {}),),
        )
        low = lowered(program, {x: most * 2.0**-n, y: 1.0}, bits)
        check_program(low.program)
        given = np.arange(most + 1) if bits <= 12 else rng.integers(0, most + 1, x.shape)
        assert low.fractions == {"u": n, "y": bits - 1}
        ((found, known),) = low.approximated.items()
        for sign in (1, -1):
            us = (sign * given).astype(np.int32)
            _, ys = Step(low.program)((), us)
            error = np.abs(ys * 2.0 ** (1 - bits) - np.tanh(us * 2.0**-n))
            stated = known.error * 2.0 ** (-n) / known.factor
            assert error.max() <= stated + 2.0**-bits
            # No more than the rounding of the result and half of that, where int32 has room for the polynomials.
            assert stated <= 2.0**-bits or bits > 27
            assert np.all(np.abs(ys) <= most)
        assert found.dtype == "int32"


def test_states_of_forms_are_in_the_order_of_arrays():
    """For two trajectories `dx+ - A dx - B2 du` is in the span of B1; without blocks it is zero."""
    rng = np.random.default_rng(1)
    for name in FAST:
        ready, _ = prepared(system_of(name), np.float64)
        form = ready.lft()
        if form is None or form.nx < 2:
            continue
        with tracing(np.float64):
            program = traced(ready, name="m", dtype=np.float64, u=sample_of(name)).program
        step = Step(program)
        shapes = [[s.value.shape for s in part] for part in (program.state, program.inputs)]
        ends = []
        for _ in range(2):
            x, u = ([1e-3 * rng.normal(size=shape) for shape in each] for each in shapes)
            after, _ = step(structured(x), structured(u))
            ends.append([np.concatenate([np.ravel(a) for a in each]) for each in (x, u, arrays(after))])
        dx, du, dx_next = (a - b for a, b in zip(*ends, strict=True))
        rest = dx_next - form.A @ dx - form.B2 @ du
        w = np.linalg.lstsq(form.B1, rest, rcond=None)[0] if form.B1.size else np.zeros(form.B1.shape[1])
        assert np.allclose(form.B1 @ w, rest, atol=1e-12), name


@pytest.mark.slow
@pytest.mark.parametrize("seed, bits", [(0, 8), (3, 24)])
def test_the_drift_of_models_in_proven_ranges_stays_below_its_bound(seed, bits):
    share_in_proven_ranges(seed, bits)


def test_the_drifts_of_twenty_models_and_of_all_systems_are_recorded():
    found = json.loads((ROOT / "results" / "fixed_drift.json").read_text("utf-8"))
    assert len(found["models"]) == 20
    assert all(set(row["shares"]) == set(map(str, fixed_drift.OF_MODELS)) for row in found["models"])
    assert [row["system"] for row in found["systems"]] == [*FAST, *SLOW]
    assert fixed_drift.holds(found)


def test_a_wrong_rounding_exceeds_the_bound():
    step = rc.export.fixed(linear(), "q15")
    low = step.lowered
    operations = tuple(
        op if op.kind != "rescale" or op.params["shift"] <= 0 else
        type(op)(op.kind, op.operands, op.results, op.params | {"limit": 40}) for op in low.program.operations
    )  # fmt: skip
    program = low.program.__class__(**{**low.program.__dict__, "operations": operations})
    broken = step.__class__(
        **{**step.__dict__, "lowered": low.__class__(**{**low.__dict__, "program": program})}
    )
    assert drifts(broken, noise(step, 100))[0] > step.drift.bound  # pyright: ignore[reportAttributeAccessIssue]


def test_the_certificate_is_of_the_constants_in_the_file():
    step = rc.export.fixed(model(), "q11", dt=0.1, log=LOG)
    assert step.constants_as_certified
    scaled = [np.asarray(a) for a in jax.tree.leaves(eqx.filter(step.system, eqx.is_array))]
    for a in scaled:
        n = fixed_formats.constant_fraction(a, 11)
        assert np.array_equal(a * 2.0**n, np.round(a * 2.0**n))
        assert np.abs(a * 2.0**n).max() <= 2**11 - 1
    with jax.enable_x64(True):
        rc.certificates.recheck(step.certificate, step.system)


def test_a_rate_too_near_to_1_needs_more_bits():
    # With 6 bits the pole 0.999 is rounded to 1.
    A, B, C, D = (jnp.array([[a]]) for a in (0.999, 1.0, 1.0, 0.0))
    slow = rc.StateSpace(A, B, C, D, 0.1)
    step = rc.export.fixed(slow, "q6")
    assert step.certificate.rate_proof is None
    assert step.saturations["state x"]
    assert step.drift == "no contraction rate below 1 is proven of these constants"
    # 0.999 is below 1 once half a unit of its format is at most 0.001: 2^-(n + 1) < 0.001 from n = 9 on.
    assert rc.export.bits_needed(slow) == 9


def test_a_log_larger_than_the_range_is_counted():
    step = rc.export.fixed(linear(), "q15", log=np.full((50, 1), 1.0))
    assert not step.saturations and not step.saturated(np.full((50, 1), -1.0))
    # Of the format for 2.0 half of all samples are outside.
    assert step.saturated(np.tile([[0.0], [1e6]], (25, 1)))["input u"] == 25
    # No format reaches 2^31, so that all inputs and with them states are saturated.
    huge = rc.export.fixed(linear(), "q15", log=np.full((50, 1), 1e12))
    assert huge.saturations["input u"] == 50 and "input u 50 times" in str(huge.drift)
    with pytest.raises(InvalidModelError, match="log must have samples of shapes"):
        rc.export.fixed(linear(), log=np.zeros((50, 2)))
    with pytest.raises(InvalidModelError, match="must stay finite"):
        rc.export.fixed(linear(), log=np.full((5, 1), np.nan))


def test_proven_ranges_hold_for_the_worst_input():
    """For a linear system the largest state is known: the sum of the sizes of its impulse response."""
    step = rc.export.fixed(linear(), "q15")
    assert step.ranges == "proven" and step.never_saturates and not step.saturations
    A, B = np.array([[0.9, 0.2], [-0.1, 0.8]]), np.array([0.0, 1.0])
    response = np.array([np.linalg.matrix_power(A, k) @ B for k in range(300)])
    reach = (2**15 - 1) * 2.0 ** -step.lowered.fractions["u"]
    worst = reach * np.abs(response).sum(axis=0)
    box = (2**15 - 1) * 2.0 ** -step.lowered.fractions["x"]
    # Of two states one format, a power of two.
    assert worst.max() <= box <= 4 * worst.max()
    for row in response.T:
        us = reach * np.sign(row[::-1])[:, None]
        assert not step.saturated(us * (1 - 2.0**-15))


def test_values_of_a_step_lie_in_their_boxes():
    step = in_proven_ranges()
    program, rng = step.exact.program, np.random.default_rng(0)
    (s,), (u,) = program.state, program.inputs
    ends = [
        Box(np.full(v.shape, -size), np.full(v.shape, size)) for v, size in ((s.value, 3.0), (u.value, 2.0))
    ]
    found = fixed_ranges.boxes(program, ends[:1], ends[1:])
    compiled = Compiled(program)
    at = compiled.at(list(found))
    for _ in range(50):
        m = list(compiled.template)
        for v, box in ((s.value, ends[0]), (u.value, ends[1])):
            (position,) = compiled.at([v])
            m[position] = rng.uniform(box.low, box.high)
        for run in compiled.runs:
            run(m)
        for (low, high), position in zip(found.values(), at, strict=True):
            assert np.all(low - 1e-9 <= m[position]) and np.all(m[position] <= high + 1e-9)
    drift = step.drift.state  # pyright: ignore[reportAttributeAccessIssue]
    assert step.never_saturates
    # From a state that is anywhere, it may saturate.
    assert not fixed_ranges.never_saturates(step.lowered, [Box(np.full(3, -1e3), np.full(3, 1e3))], drift)


def test_where_ranges_are_not_proven_it_is_said():
    assert rc.export.fixed(pid()).ranges == "seen: no contraction rate below 1 is proven"
    assert rc.export.fixed(linear(), log=np.ones((20, 1))).ranges == "seen: a log was given"


class Rooted(rc.System):
    nu, ny, dt = 1, 1, 0.1

    def init_state(self):
        return jnp.zeros(1)

    def step(self, x, u):
        return jnp.sqrt(x + u), x


def test_what_fixed_point_does_not_have_is_named(tmp_path):
    with pytest.raises(InvalidModelError, match="has sqrt"):
        rc.export.fixed(Rooted())
    for dtype in ("q3", "q32", "q150"):
        with pytest.raises(InvalidModelError, match="q4 to q31"):
            rc.export.c(linear(), tmp_path / "c", dtype=dtype)
    with pytest.raises(InvalidModelError, match="fixed-point format"):
        rc.export.fixed(linear(), "float32")
    with pytest.raises(InvalidModelError, match="margin must be at least 1"):
        rc.export.fixed(linear(), margin=0.5)
    assert "sqrt" not in RULES


def test_a_folder_in_fixed_point_is_checked_from_its_files_alone(tmp_path):
    try:
        find_compiler()
    except RobustctlError as error:
        pytest.skip(str(error))
    folder = rc.export.package(model(), tmp_path / "q", name="q", dtype="q15", dt=0.1, samples=50, log=LOG)
    found = rc.export.check(folder, samples=50)
    assert found.holds, str(found)
    assert found.certificate is not None and found.certificate.rate_proof
    about = json.loads((folder / "export.json").read_text())
    assert about["parity"]["same_bits_as_numpy"] and not about["facts"]["warnings"]
    assert about["fixed_point"]["constants_as_certified"]
    for change in (
        ("drift", about["drift"] | {"bound": 1e-9}),
        ("fixed_point", about["fixed_point"] | {"sizes": [1.0]}),
    ):
        (folder / "export.json").write_text(json.dumps(about | dict([change])))
        assert not rc.export.check(folder, samples=50).holds
    (folder / "export.json").write_text(json.dumps(about))
    text = (folder / "q.c").read_text()
    (folder / "q.c").write_text(text.replace("INT64_C(4)", "INT64_C(5)", 1).replace("32767", "32766", 1))
    assert not rc.export.check(folder, samples=50).holds


def test_the_command_takes_fixed_point(tmp_path, capsys):
    rc.save(tmp_path / "pid.safetensors", pid())
    assert (
        main(["export", str(tmp_path / "pid.safetensors"), "--dtype", "q15", "--out", str(tmp_path / "out")])
        == 0
    )
    assert "#define PID_U_SCALE" in (tmp_path / "out" / "pid.h").read_text()
    assert (
        main(
            ["export", str(tmp_path / "pid.safetensors"), "--dtype", "q99", "--out", str(tmp_path / "other")]
        )
        != 0
    )
    assert "q4 to q31" in capsys.readouterr().err


def test_the_drift_of_floats_is_recorded(tmp_path):
    folder = rc.export.package(model(), tmp_path / "q", name="q", dtype="float32", dt=0.1, samples=20)
    found = json.loads((folder / "export.json").read_text())["drift"]
    assert "not proven" in found["for"]
    # A step in float32 from a step in float64 of the same constants.
    q, _ = prepared(model().explicit(), np.float32)
    with jax.enable_x64(True):
        exact = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), q)
        us = np.asarray(jr.uniform(jr.key(0), (300, 2), minval=-2.0, maxval=2.0), np.float32)
        _, ys, _ = exact.scan(jnp.zeros(3), jnp.asarray(us, jnp.float64))
    plain = Step(rc.export.program(q, dtype=np.float32))
    x, most = plain.init_state(), 0.0
    for u, y in zip(us, np.asarray(ys), strict=True):
        x, given = plain(x, u)
        most = max(most, float(np.abs(given - y).max()))
    assert 0 < most <= max(found["outputs"]["y"])
