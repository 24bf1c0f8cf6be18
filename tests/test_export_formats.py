"""Steps in ONNX, MATLAB and JAX alone are the system's own step."""

import json
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from scipy.io import loadmat, savemat

import robustctl as rc
from robustctl.errors import InvalidModelError, RobustctlError
from robustctl.export import c_print, matlab_print, onnx_graph

from .export_systems import CASES, inputs_of, sample_of, system_of
from .test_export_c import in_jax

FEW = ["r2dn", "lstm", "kalman", "ukf", "loop", "own_window", "own_cond", "own_arithmetic"]


class Functions(rc.System):
    """A user's own: each function of an entry, at what inputs may be, infinite and NaN too."""

    nu, ny, dt = 9, 9 * 33, 0.1

    def init_state(self):
        return jnp.zeros(1)

    def step(self, x, u):
        v, k = u[::-1], jnp.round(jnp.clip(jnp.nan_to_num(u), -99, 99)).astype(int)
        found = [
            jnp.exp(u), jnp.exp2(u), jnp.expm1(u), jnp.log(u), jnp.log1p(u), jnp.sqrt(u), jnp.cbrt(u), jnp.sin(u), jnp.cos(u), jnp.tan(u),
            jnp.arcsin(u), jnp.arccos(u), jnp.arctan(u), jnp.sinh(u), jnp.cosh(u), jnp.tanh(u), jnp.arcsinh(u), jnp.arccosh(u),
            jnp.arctanh(u), lax.erf(u), lax.erfc(u), jnp.round(u), lax.round(u), jnp.sign(u), jnp.maximum(u, v), jnp.minimum(u, v),
            jnp.fmod(u, v), jnp.arctan2(u, v), u**v, jnp.where(jnp.isfinite(u), u, 7.0), 1.0 * lax.div(k, k[::-1]),
            1.0 * lax.rem(k, k[::-1]), 1.0 * u.astype(int),
        ]  # fmt: skip
        return x, jnp.concatenate(found)


SPECIAL = np.array([0.3, -0.7, 1e-7, 2.5, -3.5, 0.0, np.inf, -np.inf, np.nan])


def expected(system, u, dtype):
    with jax.enable_x64(dtype == "float64"), jax.numpy_dtype_promotion("standard"):
        return np.asarray(system.step(jnp.zeros(1, dtype), jnp.asarray(u, dtype))[1])


def runner(file):
    return pytest.importorskip("onnxruntime").InferenceSession(str(file), providers=["CPUExecutionProvider"])


# Between two orders of summation a Cholesky factor of float32 differs by more than a sum does: 1.03e-6 here.
BOUND = {"ukf": 4e-6, "mpc": 1e-5}  # of the MPC: the tolerance at which its iteration stops, `test_export_c`


def near(a, b, size, bound=1e-6):
    a, b = np.asarray(a, float).ravel(), np.asarray(b, float).ravel()
    assert np.isfinite(b).all()
    np.testing.assert_allclose(a, b, rtol=0, atol=bound * max(size, np.abs(b).max(initial=0), 1e-30))


def kept(tree):
    return [leaf for leaf in jax.tree.leaves(tree) if leaf.size]


def check_onnx(name, folder, count):
    """From the same state each time: what rounding does to a whole trajectory is the system's own doing."""
    file = rc.export.onnx(system_of(name), folder, dtype="float32", u=sample_of(name))
    run, us = runner(file), inputs_of(name, count, "float32")
    xs, ys, x_final = in_jax(name, us, "float32")
    after = jax.tree.map(lambda a, last: np.concatenate([a[1:], last[None]]), xs, x_final)
    given, wanted = kept((xs, us)), kept((ys, after))
    sizes = [np.abs(leaf.astype(float)).max() for leaf in wanted]
    names = [each.name for each in run.get_inputs()]
    for k in range(count):
        found = run.run(None, {n: np.asarray(a[k]) for n, a in zip(names, given, strict=True)})
        for a, b, size in zip(found, wanted, sizes, strict=True):
            assert a.shape == b[k].shape and a.dtype == b.dtype
            near(a, b[k], size, BOUND.get(name, 1e-6))


@pytest.mark.parametrize("name", FEW)
def test_the_step_in_onnx_is_the_system_s_own(tmp_path, name):
    pytest.importorskip("onnx")
    check_onnx(name, tmp_path, 20)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_every_step_in_onnx_is_the_system_s_own(tmp_path, name):
    pytest.importorskip("onnx")
    check_onnx(name, tmp_path, 300)


@pytest.mark.parametrize("name", ["r2dn", "kalman", "own_cond"])
def test_a_sequence_in_onnx_is_its_steps(tmp_path, name):
    pytest.importorskip("onnx")
    files = [
        rc.export.onnx(system_of(name), tmp_path / f"{k}.onnx", sequence=bool(k), dtype="float32", u=sample_of(name))
        for k in range(2)
    ]  # fmt: skip
    one, all_ = map(runner, files)
    about = json.loads(one.get_modelmeta().custom_metadata_map["robustctl"])
    types = {"tensor(float)": np.float32, "tensor(bool)": bool, "tensor(int32)": np.int32}
    kinds = {each.name: types[each.type] for each in one.get_inputs()}
    start = {key: np.array(x, kinds[key]) for key, x in about["start"].items()}
    us = kept(inputs_of(name, 12, "float32"))
    names = [each.name for each in one.get_inputs() if each.name not in start]
    whole = all_.run(None, start | dict(zip(names, us, strict=True)))
    x, ys = start, []
    for k in range(12):
        given = x | {n: u[k] for n, u in zip(names, us, strict=True)}
        outputs = [each.name for each in one.get_outputs()]
        found = dict(zip(outputs, one.run(None, given), strict=True))
        x = {key: found.pop(f"next_{key}") for key in start}
        ys.append(list(found.values()))
    for a, b in zip(whole, [*map(np.stack, zip(*ys, strict=True)), *x.values()], strict=True):
        np.testing.assert_array_equal(a, b)


def test_functions_in_onnx_at_zero_infinity_and_nan(tmp_path):
    pytest.importorskip("onnx")
    run = runner(rc.export.onnx(Functions(), tmp_path, dtype="float32"))
    given = {"u": SPECIAL.astype("float32"), "x": np.zeros(1, "float32")}
    found = run.run(["y"], {each.name: given[each.name] for each in run.get_inputs()})[0]
    np.testing.assert_allclose(found, expected(Functions(), SPECIAL, "float32"), rtol=2e-6, atol=2e-7)


OCTAVE = shutil.which("octave-cli") or shutil.which("octave")
DRIVER = """
for which = 1:numel(all_names)
  name = all_names{which}; addpath(fullfile(root, name)); in = load(fullfile(root, name, 'in.mat'));
  s = feval([name '_init']); fields = in.order; Y = []; X = [];
  for k = 1:in.count
    if numel(fields) == 1, u = in.(fields{1})(k, :).'; else, u = struct(); end
    if numel(fields) > 1, for j = 1:numel(fields), u.(fields{j}) = in.(fields{j})(k, :).'; end, end
    [s, y] = feval([name '_step'], s, u);
    if isstruct(y), y = struct2cell(y); else, y = {y}; end
    v = struct2cell(s); x = []; for j = 1:numel(v), x = [x; double(v{j}(:))]; end
    w = []; for j = 1:numel(y), w = [w; double(y{j}(:))]; end
    X(:, k) = x; Y(:, k) = w;
  end
  save('-v6', fullfile(root, name, 'out.mat'), 'X', 'Y');
end
"""


def in_octave(folder, systems):
    """Run steps in one process of Octave, and return states and outputs, one column a sample, by name."""
    if OCTAVE is None:
        pytest.skip("GNU Octave is not installed")
    for name, (system, us, settings) in systems.items():
        rc.export.matlab(system, folder / name, name=name, **settings)
        made = rc.export.program(system, **settings)
        leaves = {s.name: leaf.reshape(len(leaf), -1) for s, leaf in zip(made.inputs, kept(us), strict=True)}
        order = np.array(list(leaves), object)
        savemat(
            folder / name / "in.mat", leaves | {"order": order, "count": len(next(iter(leaves.values())))}
        )
    listed = ", ".join(f"'{name}'" for name in systems)
    (folder / "run.m").write_text(f"root = '{folder}'; all_names = {{{listed}}};\n{DRIVER}")
    done = subprocess.run([OCTAVE, "--norc", "-q", "run.m"], cwd=folder, capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = {name: loadmat(folder / name / "out.mat") for name in systems}
    return {name: (each["X"], each["Y"]) for name, each in found.items()}


def check_matlab(names, folder, dtype, count, tolerance):
    settings = {name: {"dtype": dtype, "u": sample_of(name)} for name in names}
    us = {name: inputs_of(name, count, dtype) for name in names}
    # `static` is a keyword of C.
    named = {f"m_{name}": (system_of(name), us[name], settings[name]) for name in names}
    for name, (X, Y) in zip(names, in_octave(folder, named).values(), strict=True):
        xs, ys, x_final = in_jax(name, us[name], dtype)
        after = jax.tree.map(lambda a, last: np.concatenate([a[1:], last[None]]), xs, x_final)
        for a, tree in ((X, after), (Y, ys)):
            columns = [leaf.reshape(count, -1).astype(float) for leaf in kept(tree)]
            if columns:
                b = np.concatenate(columns, 1).T
                np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max(), err_msg=name)


def test_steps_in_octave_are_the_systems_own(tmp_path):
    check_matlab(FEW, tmp_path, "float64", 10, 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_step_in_octave_is_the_system_s_own(tmp_path, dtype):
    check_matlab(list(CASES), tmp_path, dtype, 20, 1e-10 if dtype == "float64" else 1e-4)


def test_functions_in_octave_at_zero_infinity_and_nan(tmp_path):
    us = np.stack([SPECIAL] * 2)
    _, Y = in_octave(tmp_path, {"functions": (Functions(), us, {"dtype": "float64"})})["functions"]
    wanted = expected(Functions(), SPECIAL, "float64")
    np.testing.assert_allclose(Y[:, 0], wanted, rtol=1e-13, atol=1e-15)


def test_the_mat_file_has_the_system_s_own_matrices(tmp_path):
    model = system_of("r2dn")
    folder = rc.export.matlab(model, tmp_path / "out", name="r", dt=0.1)
    held = loadmat(folder / "r.mat", simplify_cells=True)
    np.testing.assert_array_equal(held["matrices"]["A"], model.A)
    assert held["dt"] == 0.1
    assert "function state = r_init()" in (folder / "r_init.m").read_text()


def test_every_kind_of_operation_has_a_form_in_onnx_and_matlab():
    assert set(onnx_graph.KINDS) == set(matlab_print.KINDS) == set(c_print.KINDS)


@pytest.mark.parametrize("name", ["r2dn", "kalman", "own_cond"])
def test_the_step_for_jax_alone_is_the_system_s_own(tmp_path, name):
    folder = rc.export.jax(system_of(name), tmp_path, dtype="float32", u=sample_of(name))
    init, step = (jax.export.deserialize((folder / f"model_{what}.jax").read_bytes()).call for what in ("init", "step"))  # pyright: ignore  # fmt: skip
    us = inputs_of(name, 10, "float32")
    _, ys, x_final = in_jax(name, us, "float32")
    leaves = jax.tree.leaves(us)
    x, found = lax.scan(step, init(), leaves[0] if len(leaves) == 1 else tuple(leaves))
    for a, b in zip(jax.tree.leaves((x, found)), jax.tree.leaves((x_final, ys)), strict=True):
        near(a, b, 0)


def missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)


def test_what_cannot_be_written_is_said(tmp_path, monkeypatch):
    pid = rc.classical.PID(4.0, 2.0, 0.4, dt=0.02)
    (tmp_path / "model.onnx").write_text("")
    for write in (rc.export.matlab, rc.export.jax):
        with pytest.raises(InvalidModelError, match="the folder must be new or empty"):
            write(pid, tmp_path)
        with pytest.raises(InvalidModelError, match="identifier"):
            write(pid, tmp_path / "new", name="for")
    with pytest.raises(InvalidModelError, match="at most 63 letters"):
        rc.export.matlab(pid, tmp_path / "new", name="a" * 60)
    with pytest.raises(InvalidModelError, match="platforms"):
        rc.export.jax(pid, tmp_path / "new", platforms=("abacus",))
    if "onnx" in sys.modules or __import__("importlib").util.find_spec("onnx"):
        with pytest.raises(InvalidModelError, match="the file must be new"):
            rc.export.onnx(pid, tmp_path)
    missing(monkeypatch)
    with pytest.raises(RobustctlError, match=r'pip install "robustctl\[export\]"'):
        rc.export.onnx(pid, tmp_path / "new")
    assert not (tmp_path / "new").exists()
