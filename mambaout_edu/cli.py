"""The command line, `mambaout-edu`. Each command imports what it needs when it runs."""

import argparse
import sys
from collections.abc import Sequence

from mambaout_edu import __version__
from mambaout_edu.strings import text

__all__ = ["main"]


def _doctor(options: argparse.Namespace) -> int:
    from mambaout_edu import doctor

    found = doctor.report()
    print(found)
    return 0 if found.healthy else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mambaout-edu", description=text("cli", "description"))
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")
    doctor = commands.add_parser("doctor", help=text("cli", "doctor_help"), description=text("cli", "doctor_help"))
    doctor.set_defaults(run=_doctor)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 when all is well.

    Raises SystemExit for a command or an option that does not exist, as argparse does.

    >>> main(["--version"])
    Traceback (most recent call last):
    SystemExit: 0
    """
    options = _parser().parse_args(argv)
    return int(options.run(options))


if __name__ == "__main__":
    sys.exit(main())
