"""What cppcheck finds of the MISRA C:2012 rules in an exported step."""

import collections
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

DEVIATIONS = {
    "misra-c2012-2.5": "constants of the header are for the program that includes it",
    "misra-c2012-8.7": "NAME_init and NAME_step are for the program that includes the header",
    "misra-c2012-8.9": "tables of constants are at the top of the file, wherever they are used",
    "misra-c2012-10.3": "whole numbers among floats become floats, which is exact",
    "misra-c2012-10.4": "whole numbers among floats become floats, which is exact",
    "misra-c2012-10.6": "a small whole number that a condition chooses becomes an int32_t, which is exact",
    "misra-c2012-10.8": "integers wrap around as those of JAX do, which numbers without a sign do in C",
    "misra-c2012-12.1": "products in sums and in indices have no parentheses",
    "misra-c2012-12.3": "the file's own exp and tanh declare several constants in a line",
    "misra-c2012-15.5": "the conversion to an integer returns where the number is outside of its range",
    "misra-c2012-19.2": "the file's own exp and tanh make a power of two from its bits by a union",
}
"""Rules that the code does not follow, each with the reason."""


def find_cppcheck() -> str | None:
    """Return the program cppcheck, of the system or of this Python's packages; None where there is none."""
    return shutil.which("cppcheck") or shutil.which("cppcheck", path=str(Path(sys.executable).parent))


def misra(source: Path) -> tuple[dict[str, Any] | None, str]:
    """Return how often each rule is broken in a C file, those without a listed reason apart; None, and why, where that is unknown."""
    program = find_cppcheck()
    if program is None:
        return None, "not checked: cppcheck was not found"
    # Rules are reported as style; the header's are those of the file.
    command = [program, "--addon=misra", "--enable=style", "--quiet", "--template={id}", source.name]
    done = subprocess.run(command, cwd=source.parent, capture_output=True, text=True, check=False)
    lines = done.stderr.splitlines()
    if done.returncode or any("rror" in line for line in lines):
        return None, f"not checked: cppcheck reported {done.stderr.strip()[:200]}"
    found = collections.Counter(line for line in lines if line.startswith("misra"))
    counts = {
        "version": _version(program),
        "deviations": {rule: {"count": n, "reason": DEVIATIONS[rule]} for rule, n in sorted(found.items()) if rule in DEVIATIONS},
        "others": {rule: n for rule, n in sorted(found.items()) if rule not in DEVIATIONS},
    }  # fmt: skip
    return counts, ""


def _version(program: str) -> str:
    return subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout.strip()


def other_rules(source: Path, before: dict[str, Any] | None) -> tuple[list[str], list[str]]:
    """Return what differs from the record of the same version of cppcheck, and what is not compared, in words."""
    if before is None:
        return [], []
    now, why = misra(source)
    if now is None:
        return [], [f"the MISRA rules: {why}"]
    if now["version"] != before.get("version"):
        return [], [
            f"the MISRA rules: {now['version']} is here, and {before.get('version')} was at the export"
        ]
    return ([] if now == before else ["cppcheck finds other MISRA rules than at the export"]), []
