"""The structure: what may import what, and what an import costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import robustctl as rc

ROOT = Path(__file__).parent.parent
ROOMS = [
    "errors",
    "checks",
    "pytrees",
    "jaxprs",
    "recipe",
    "store",
    "runtime",
    "linalg",
    "slopes",
    "lft",
    "registry",
    "certifiable",
    "system",
    "ports",
    "scaled",
    "delayed",
    "affine",
    "parallel",
    "trajectory",
    "state_space",
    "scenario",
    "nn",
    "data",
    "linear",
    "advice",
    "plants",
    "loops",
    "certificates",
    "runs",
    "train",
    "identify",
    "plot",
    "reports",
    "classical",
    "robustness",
    "io",
    "export",
    "evidence",
    "observers",
    "problems",
    "cli",
]
"""Each room imports from rooms named before it."""


def sources():
    return sorted((ROOT / "robustctl").rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(ROOT / "robustctl").parts[0].removesuffix(".py")


def imported_rooms(path: Path):
    """Rooms that a file imports from, relative or absolute."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            full = (*base, *(node.module or "").split("."))
            names = [full] if len(full) > 1 and full[1] else [(*full[:1], alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [tuple(alias.name.split(".")) for alias in node.names]
        else:
            continue
        for name in names:
            if name[0] == "robustctl" and len(name) > 1 and name[1]:
                yield name[1]


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(ROOT)))
def test_rooms_import_downwards_only(path):
    here = room(path)
    if here == "__init__" or here == "__main__":
        return
    assert here in ROOMS, f"{here} has no place in the list of rooms"
    for other in imported_rooms(path):
        if other != here:
            assert ROOMS.index(other) < ROOMS.index(here), f"{path} imports {other}, which stands above it"


def test_envs_do_not_reach_into_the_package_from_above():
    for path in sources():
        assert "robustctl_envs" not in path.read_text(), f"{path} imports the environments"


SLOW = (
    "matplotlib", "control", "pandas", "h5py", "gymnasium", "diffrax", "tqdm", "tyro", "scipy.signal", "scipy.stats", "scipy.optimize",
    "scipy.ndimage", "scipy.interpolate",
)  # fmt: skip
"""What a training or a certificate does without, and what takes long to import."""
ALL_BUT_SCIPYS = [
    name
    for name in rc.__all__
    if name not in ("classical", "loops", "observers", "plants", "problems", "robustness")
]


def imported(code: str, *among: str) -> str:
    """Return which of those modules a program has imported at its end; it may print nothing and start no JAX backend."""
    code += f"""
import sys
print([m for m in {among} if m in sys.modules])
assert "jax" not in sys.modules or not sys.modules["jax._src.xla_bridge"]._backends"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.stderr, done.returncode) == ("", 0)
    return done.stdout.strip()


def test_importing_stays_light_and_silent():
    assert imported("import robustctl", "jax", "equinox", "optax", "numpy", "scipy", *SLOW) == "[]"
    assert (
        imported(f"import robustctl; [getattr(robustctl, name) for name in {ALL_BUT_SCIPYS}]", *SLOW) == "[]"
    )


def test_the_command_line_helps_without_jax():
    code = """
import contextlib, io
from robustctl.cli import main
for command in ["--help"], ["fit", "--help"], ["--version"]:
    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.suppress(SystemExit):
        main(command)
    assert said.getvalue()"""
    assert imported(code, "jax", "equinox", "optax", "numpy", "scipy", *set(SLOW) - {"tyro"}) == "[]"


def test_names_at_the_top_are_the_ones_that_editors_see():
    """The tables that names are imported by, and the imports for type checkers, say the same."""
    tree = ast.parse((ROOT / "robustctl/__init__.py").read_text())
    seen = {
        (alias.name, node.module)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level
        for alias in node.names
    }
    assert seen == {(name, None) for name in rc._ROOMS} | set(rc._NAMES.items())
    assert set(rc.__all__) == {name for name, _ in seen} <= set(dir(rc))
    for name in rc.__all__:
        assert getattr(rc, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = rc.nothing


def test_loading_a_model_needs_no_further_import():
    """Classes are registered where they are defined: the room that loads imports all of those."""
    code = """
import robustctl as rc
rc.load
from robustctl.io.structure import import_all
from robustctl.registry import CLASSES
import_all()  # which load calls for a class that it does not know yet
known = set(CLASSES)
assert len(known) > 20 and [getattr(rc, room) for room in rc.__all__] and set(CLASSES) == known, set(CLASSES) - known"""
    assert imported(code) == "[]"


def parameters(function: ast.FunctionDef) -> int:
    given = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return sum(a.arg not in ("self", "cls") for a in given)


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(ROOT)))
def test_files_and_parameter_lists_stay_short(path):
    """Constructors apart, which may take one argument a field."""
    text = path.read_text()
    assert text.count("\n") <= 350, f"{path} has more than 350 lines; divide it"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and node.name != "__init__":
            assert parameters(node) <= 10, (
                f"{path}: {node.name} takes more than 10 parameters; group them in a settings object"
            )
