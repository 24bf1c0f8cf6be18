"""An exported folder is checked from its files alone."""

import json
import random
import shutil

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import robustctl as rc
from robustctl.cli import main
from robustctl.errors import InvalidModelError, RobustctlError
from robustctl.export import constants
from robustctl.export import folder as module
from robustctl.export.c_files import source
from robustctl.export.constants import difference
from robustctl.export.count import operations
from robustctl.export.trace import traced
from robustctl.runtime.program import Operation, Program, Value

from .models import draw

SAMPLES = 60


def model():
    q = rc.nn.LipschitzR2DN(nu=2, nx=3, nv=4, ny=1, hidden=(5, 4), gamma=2.0, rate=0.9, key=jr.key(0))
    return draw(q, jr.key(1), 0.3)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    try:
        module.find_compiler()
    except RobustctlError as error:
        pytest.skip(str(error))
    return rc.export.package(model(), tmp_path_factory.mktemp("exported"), name="q", dt=0.1, samples=SAMPLES)


@pytest.fixture
def copy(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / "copy")


def folded():
    return model().explicit().prepare()


@pytest.mark.parametrize("slope", [0.0, 1.0])
def test_the_form_of_folded_matrices_is_that_of_the_step(slope):
    # With biases this large every neuron has one slope, and the step is affine.
    bias = 1e3 if slope else -1e3
    with jax.enable_x64(True):
        s = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), folded())
        s = eqx.tree_at(
            lambda s: (s.g, s.hidden), s,
            (s.g.at[len(s.W) :].set(bias), tuple((W, jnp.full_like(b, bias)) for W, b in s.hidden)),
        )  # fmt: skip
        f, rng = s.lft(), np.random.default_rng(0)
        x, u = rng.normal(size=(2, 3)), rng.normal(size=(2, 2))
        (xa, ya), (xb, yb) = (s.step(jnp.asarray(p), jnp.asarray(q)) for p, q in zip(x, u, strict=True))
    dx, du = x[0] - x[1], u[0] - u[1]
    dw = slope * np.linalg.solve(np.eye(len(f.D11)) - slope * f.D11, f.C1 @ dx + f.D12 @ du)
    np.testing.assert_allclose(xa - xb, f.A @ dx + f.B1 @ dw + f.B2 @ du, rtol=0, atol=1e-9)
    np.testing.assert_allclose(ya - yb, f.C2 @ dx + f.D21 @ dw + f.D22 @ du, rtol=0, atol=1e-9)


def test_a_folder_holds_the_proof_of_its_constants(exported):
    about = json.loads((exported / "export.json").read_text())
    certificate = rc.certificates.Certificate.from_json(about["certificate"])
    # The construction promises both for other matrices than the rounded ones of the C file.
    assert certificate.gain_proof.value <= 2.0 * 1.001 and certificate.rate_proof.value <= 0.9 * 1.001
    assert (
        rc.certificates.lower_bound(rc.load(exported / "q.safetensors")).value <= certificate.gain_proof.value
    )
    assert about["parity"]["largest_difference"] <= 1e-6 and about["parity"]["same_bits_as_numpy"]
    assert about["facts"]["warnings"] == [] and set(about["files"]) == {"q.c", "q.h", "q.safetensors"}
    # Matrices of 9 by 5, 4 by 5 and 4 by 4 numbers: [r; z1] = G [x; u] + g, h2 = W2 h1 + b2, r + W h2.
    assert about["operations"] == {"add": 9 * 5 + 4 * 5 + 4 * 4, "compare": 9, "mul": 9 * 5 + 4 * 5 + 4 * 4}


def test_a_folder_is_as_it_was_exported(exported):
    found = rc.export.check(exported, samples=SAMPLES)
    assert found.holds and not found.skipped, str(found)
    assert "proven of the constants" in str(found)


def test_every_edited_constant_is_found():
    text = source(traced(folded(), name="q", dt=0.1).program)
    places = [m for m in constants._NUMBER.finditer(text) if "0x" in m[0]]
    rng = random.Random(0)
    for _ in range(200):
        match = rng.choice(places)
        at = rng.randrange(match.start() + 4, match.start() + match[0].index("p"))
        digit = text[at]
        other = rng.choice([d for d in "123456789abcdef" if d != digit]) if digit != "." else "0"
        edited = text[:at] + other + text[at + 1 :]
        assert difference(edited, text), match[0]
    assert not difference(text, text)


def test_the_same_number_written_otherwise_is_another_line_and_no_other_constant():
    assert difference("x = 0x1p-1f;", "x = 0x1.0p-1f;").startswith("line 1 is 'x = 0x1p-1f;'")
    assert difference("x = -0x0p+0f;", "x = 0.0f;") == "line 1 is -0x0p+0f, and must be 0.0f"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda text: text.replace("0x1.", "0x1.0", 1), "must be 0x1."),
        (lambda text: text.replace("i < ", "i <= ", 1), "is not|line"),
        (lambda text: text.replace("+ ", "- ", 1), "line"),
    ],
)
def test_an_edited_c_file_is_named(copy, edit, message):
    path = copy / "q.c"
    path.write_text(edit(path.read_text()))
    found = rc.export.check(copy, samples=5)
    assert not found.holds and "q.c was changed" in found.faults[0]
    assert found.skipped == ("the compiled step: the code is not the exported one",)
    assert any(word in str(found) for word in message.split("|")), str(found)


def test_missing_and_foreign_files_are_named(copy):
    about = json.loads((copy / "export.json").read_text())
    pid = rc.classical.PID(2.0, 1.0, dt=0.1)
    about["certificate"] = rc.certify(pid, prove=False).to_json()
    (copy / "export.json").write_text(json.dumps(about))
    assert "the certificate is of other constants" in rc.export.check(copy, samples=5).faults
    (copy / "q.h").unlink()
    assert rc.export.check(copy, samples=5).faults[0] == "q.h is missing"


def test_a_larger_promise_is_not_proven(copy):
    about = json.loads((copy / "export.json").read_text())
    stored = json.loads(about["certificate"])
    stored["gamma"] = stored["gain_proof"]["value"] = 0.5 * stored["gamma"]
    about["certificate"] = json.dumps(stored)
    (copy / "export.json").write_text(json.dumps(about))
    assert any(fault.startswith("the certificate") for fault in rc.export.check(copy, samples=5).faults)


def test_without_a_compiler_files_are_written_and_the_rest_is_skipped(tmp_path, monkeypatch):
    def none():
        raise RobustctlError("a C compiler must be installed, and neither cc, gcc nor clang was found")

    monkeypatch.setattr(module, "find_compiler", none)
    folder = rc.export.package(rc.classical.PID(2.0, 1.0, dt=0.1), tmp_path / "pid", name="pid")
    found = rc.export.check(folder)
    assert found.holds and "C compiler" in found.skipped[0] and (folder / "pid.c").exists()


class Own(rc.System):
    """A system of a class that no file can name."""

    gain: jax.Array
    nu = ny = 1
    dt = 0.1

    def init_state(self):
        return jnp.zeros(1)

    def step(self, x, u):
        return 0.5 * x + u, self.gain * x


def test_a_system_that_cannot_be_saved_is_exported_and_only_its_files_are_checked(tmp_path):
    folder = rc.export.package(Own(jnp.ones(1)), tmp_path / "own", samples=SAMPLES)
    found = rc.export.check(folder)
    assert found.holds and "registered" in found.skipped[0]


def test_bad_folders_are_refused(exported, tmp_path):
    with pytest.raises(InvalidModelError, match="the folder must be new or empty"):
        rc.export.package(model(), exported)
    with pytest.raises(InvalidModelError, match="the sample time must be known"):
        rc.export.package(model(), tmp_path / "new")
    with pytest.raises(RobustctlError, match=r"must hold the export\.json"):
        rc.export.check(tmp_path)
    (tmp_path / "export.json").write_text('{"format": 1}')
    with pytest.raises(RobustctlError, match="without name, dtype"):
        rc.export.check(tmp_path)


def test_the_command_exports_and_checks(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rc.save("my-pid.safetensors", rc.classical.PID(2.0, 1.0, dt=0.1))
    assert main(["export", "my-pid.safetensors", "--out", "c", "--name", "pid"]) == 0
    assert main(["export", "c", "--check"]) == 0
    (tmp_path / "c" / "pid.h").write_text("")
    assert main(["export", "c", "--check"]) == 1
    assert "pid.h was changed" in capsys.readouterr().out
    assert main(["export", "my-pid.safetensors", "--to", "runtime"]) == 0
    assert (tmp_path / "my-pid-runtime" / "program.safetensors").exists()
    assert main(["export", "my-pid.safetensors", "--out", "."]) == 2


def test_operations_inside_loops_count_with_their_length():
    x, y, z = (Value((3,), "float") for _ in range(3))
    body = module.count._counted([Operation("add", (x, y), (z,), {})])
    assert body == {"add": 3} and module.count._times(body, 4) == {"add": 12}
    program = Program(
        "p",
        0.1,
        "float32",
        (),
        (),
        (),
        (Operation("dot", (Value((2, 3), "float"), x), (Value((2,), "float"),), {}),),
    )
    assert operations(program) == {"add": 4, "mul": 6}
