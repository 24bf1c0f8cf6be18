"""The command line."""

import sys

import tyro

from ..errors import RobustctlError
from .benchmark import Benchmark
from .models import Certify, Demo, Fit, Simulate
from .report import Report


def main(argv: list[str] | None = None) -> int:
    """Run `robustctl`; exit status 0: done, 1: a certificate does not hold, 2: bad input, 130: interrupted."""
    commands = {
        "demo": Demo, "fit": Fit, "certify": Certify, "simulate": Simulate, "report": Report, "benchmark": Benchmark,
    }  # fmt: skip
    bare = (tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes)
    command = tyro.extras.subcommand_cli_from_dict(commands, args=argv, prog="robustctl", config=bare)
    try:
        return command.run()
    except (RobustctlError, FileNotFoundError) as error:
        print(f"robustctl: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("robustctl: interrupted", file=sys.stderr)
        return 130
