"""The command line."""

import sys

import robustctl

from ..errors import RobustctlError
from .arguments import parsed
from .benchmark import Benchmark
from .models import Certify, Demo, Fit, Simulate
from .new import New
from .report import Report
from .rerun import Rerun
from .watch import Watch


def main(argv: list[str] | None = None) -> int:
    """Run `robustctl`; exit status 0: done, 1: a certificate does not hold, 2: bad input, 130: interrupted."""
    commands = {
        "demo": Demo, "fit": Fit, "watch": Watch, "rerun": Rerun, "certify": Certify, "simulate": Simulate, "report": Report,
        "benchmark": Benchmark, "new": New,
    }  # fmt: skip
    if (sys.argv[1:] if argv is None else argv) == ["--version"]:
        print(f"robustctl {robustctl.__version__}")
        return 0
    try:
        return parsed(commands, argv)()
    except (RobustctlError, OSError) as error:
        print(f"robustctl: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("robustctl: interrupted", file=sys.stderr)
        return 130
