"""The command line."""

import sys

import robustctl

from .advise import Advise
from .arguments import run_command
from .compare import Compare
from .compiled import keep_compiled
from .evidence import Evidence
from .export import Export
from .models import Certify, Demo, FitLog, Simulate
from .new import New
from .report import Report
from .rerun import Rerun
from .watch import Watch


def main(argv: list[str] | None = None) -> int:
    """Run `robustctl`; exit status 0: done, 1: a certificate does not hold, 2: bad input, 130: interrupted."""
    commands = {
        "demo": Demo, "advise": Advise, "fit": FitLog, "watch": Watch, "rerun": Rerun, "certify": Certify, "simulate": Simulate,
        "compare": Compare, "report": Report, "new": New, "export": Export, "evidence": Evidence,
    }  # fmt: skip
    if (sys.argv[1:] if argv is None else argv) == ["--version"]:
        print(f"robustctl {robustctl.__version__}")
        return 0
    keep_compiled()
    return run_command(commands, argv, "robustctl")
