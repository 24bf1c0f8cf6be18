"""The structure: what may import what, and what an import costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = [
    "errors",
    "checks",
    "store",
    "linalg",
    "lft",
    "registry",
    "system",
    "scaled",
    "affine",
    "parallel",
    "trajectory",
    "state_space",
    "scenario",
    "nn",
    "data",
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


def test_importing_stays_light_and_silent():
    code = (
        "import sys, robustctl; heavy = [m for m in ('matplotlib', 'control', 'pandas', 'h5py', 'gymnasium', 'diffrax') "
        "if m in sys.modules]; print(heavy); import jax._src.xla_bridge as b; assert not b._backends"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.stdout.strip(), done.stderr, done.returncode) == ("[]", "", 0)
