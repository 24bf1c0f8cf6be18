"""A step in fixed point: its integers, its certificate, and the bound on its drift."""

import json
import shutil
import subprocess

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import robustctl as rc
from robustctl.cli import main
from robustctl.errors import InvalidModelError, RobustctlError
from robustctl.export import fixed_formats, fixed_ranges, matlab_print
from robustctl.export.compiled import CompiledStep, built, find_compiler
from robustctl.export.fixed_folder import integer_noise
from robustctl.export.fixed_lower import RULES
from robustctl.export.fixed_ranges import Box
from robustctl.export.matlab_print import Script
from robustctl.export.trace import prepared
from robustctl.runtime import Step
from robustctl.runtime.check import check as check_program
from robustctl.runtime.compiled import Compiled
from robustctl.runtime.numbers import rescaled
from robustctl.runtime.program import Operation, Value

from .export_systems import sample_of, system_of
from .models import draw


def model(seed=0, rate=0.9):
    q = rc.nn.LipschitzR2DN(nu=2, nx=3, nv=4, ny=1, hidden=(5, 4), gamma=2.0, rate=rate, key=jr.key(seed))
    return draw(q, jr.key(seed + 1), 0.3)


def pid():
    return rc.classical.PID(4.0, 2.0, 0.4, dt=0.02, low=-1.0, high=1.0)


def linear():
    arrays = ([[0.9, 0.2], [-0.1, 0.8]], [[0.0], [1.0]], [[1.0, 0.0]], [[0.0]])
    A, B, C, D = (jnp.array(a) for a in arrays)
    return rc.StateSpace(A, B, C, D, 0.1)


SYSTEMS = {"r2dn": model, "pid": pid, "linear": linear}
LOG = np.random.default_rng(4).uniform(-2, 2, (500, 2))
"""Of a model's inputs: with it nothing has to be proven of ranges, which takes seconds."""


def noise(step, count, seed=0):
    rng, found = np.random.default_rng(seed), []
    for u in step.program.inputs:
        found.append(step.integers(u.name, rng.uniform(-2, 2, (count, *u.value.shape))))
    return found[0]


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
    log = LOG if name == "r2dn" else None
    step = rc.export.fixed(SYSTEMS[name](), dtype, dt=None if name != "r2dn" else 0.1, log=log)
    check_program(step.program)
    us, plain = noise(step, 200), Step(step.program)
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
    for u in noise(step, 20):
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


def drifts(step, us):
    """Return the largest distance in the metric, that of each state, and that of the outputs, from the exact step."""
    exact, plain, P = Step(step.exact.program), Step(step.program), step.certificate.rate_proof.P
    (of_x,), (of_u,), (of_y,) = (
        [s.name for s in part] for part in (plain.program.state, plain.inputs, plain.outputs)
    )
    x, z = plain.init_state(), exact.init_state()
    found = []
    for u in us:
        x, y = plain(x, u)
        z, w = exact(z, step.numbers(of_u, u))
        e = (step.numbers(of_x, x) - z).ravel()
        found.append((np.sqrt(e @ P @ e), np.abs(e), np.abs(step.numbers(of_y, y) - w)))
    norms, states, outputs = zip(*found, strict=True)
    return max(norms), np.max(states, axis=0), np.max(outputs, axis=0)


def bounded(step, us):
    measured, states, outputs = drifts(step, us)
    bound = step.drift
    assert not isinstance(bound, str), bound
    assert measured <= bound.bound
    assert np.all(states <= bound.state.ravel())
    (of_outputs,) = bound.outputs.values()
    assert np.all(outputs <= of_outputs)
    return measured / bound.bound


@pytest.mark.parametrize("bits", [8, 15, 24])
def test_the_drift_stays_below_its_bound(bits):
    for seed in range(2):
        step = rc.export.fixed(model(seed), f"q{bits}", dt=0.1, log=LOG if seed else None)
        # Above a thousandth of it: the bound says something.
        assert bounded(step, noise(step, 400, seed)) > 1e-3


@pytest.mark.parametrize("name", ["delay", "lead", "hinf", "scaled", "innovation", "corrected"])
def test_the_drift_of_other_systems_stays_below_its_bound(name):
    step = rc.export.fixed(system_of(name), "q14", u=sample_of(name), seconds=3.0)
    us = integer_noise(step.system, step.traced, step.lowered, 200)
    assert not step.saturated(step.numbers(step.program.inputs[0].name, us))
    assert bounded(step, us) > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_the_drift_of_twenty_models_stays_below_its_bound(seed):
    q = model(seed, rate=[0.7, 0.9, 0.97, 0.99][seed % 4])
    for bits in (8, 12, 15, 20, 24):
        step = rc.export.fixed(q, f"q{bits}", dt=0.1)
        bounded(step, noise(step, 2000, seed))
    assert rc.export.bits_needed(q) is not None


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
    step = rc.export.fixed(model(), "q12", dt=0.1, seconds=10.0)
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
    assert not fixed_ranges.never_saturates(step.lowered, Box(np.full(3, -1e3), np.full(3, 1e3)), drift)


def test_where_ranges_are_not_proven_it_is_said():
    assert rc.export.fixed(pid()).ranges == "seen: no contraction rate below 1 is proven"
    assert rc.export.fixed(linear(), log=np.ones((20, 1))).ranges == "seen: a log was given"


class Squashed(rc.System):
    nu, ny, dt = 1, 1, 0.1

    def init_state(self):
        return jnp.zeros(1)

    def step(self, x, u):
        return jnp.tanh(x + u), x


def test_what_fixed_point_does_not_have_is_named(tmp_path):
    with pytest.raises(InvalidModelError, match="has tanh"):
        rc.export.fixed(Squashed())
    for dtype in ("q3", "q32", "q150"):
        with pytest.raises(InvalidModelError, match="q4 to q31"):
            rc.export.c(linear(), tmp_path / "c", dtype=dtype)
    with pytest.raises(InvalidModelError, match="fixed-point format"):
        rc.export.fixed(linear(), "float32")
    with pytest.raises(InvalidModelError, match="margin must be at least 1"):
        rc.export.fixed(linear(), margin=0.5)
    assert "tanh" not in RULES


def test_a_folder_in_fixed_point_is_checked_from_its_files_alone(tmp_path):
    try:
        find_compiler()
    except RobustctlError as error:
        pytest.skip(str(error))
    folder = rc.export.package(model(), tmp_path / "q", name="q", dtype="q15", dt=0.1, samples=50)
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
