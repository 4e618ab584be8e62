"""The command line, `mambaout-edu`. Each command imports what it needs when it runs."""

import argparse
import sys
from collections.abc import Sequence

from mambaout_edu import __version__
from mambaout_edu.cli_train import add_training_commands
from mambaout_edu.strings import text

__all__ = ["main"]


def _doctor(options: argparse.Namespace) -> int:
    from mambaout_edu import doctor

    found = doctor.report()
    print(found)
    return 0 if found.healthy else 1


def _convert(options: argparse.Namespace) -> int:
    try:
        from mambaout_edu.models.convert import convert_file

        done = convert_file(options.source, options.target, options.model, options.to, options.key, force=options.force)
    except (OSError, ValueError) as error:
        print(text("cli", "convert_refused", error=error), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(text("cli", "convert_interrupted"), file=sys.stderr)
        return 130
    print(done)
    return 0


def _add_convert(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    convert = commands.add_parser(
        "convert",
        help=text("cli", "convert_help"),
        description=text("cli", "convert_description"),
        epilog=text("cli", "convert_examples"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    convert.add_argument("source", help=text("cli", "convert_source"))
    convert.add_argument("target", help=text("cli", "convert_target"))
    convert.add_argument("--model", metavar="NAME", help=text("cli", "convert_model_option"))
    convert.add_argument(
        "--to", choices=("ours", "timm", "official"), default="ours", help=text("cli", "convert_to_option")
    )
    convert.add_argument("--key", help=text("cli", "convert_key_option"))
    convert.add_argument("--force", action="store_true", help=text("cli", "convert_force_option"))
    convert.set_defaults(run=_convert)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mambaout-edu", description=text("cli", "description"))
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")
    doctor = commands.add_parser("doctor", help=text("cli", "doctor_help"), description=text("cli", "doctor_help"))
    doctor.set_defaults(run=_doctor)
    _add_convert(commands)
    add_training_commands(commands)
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
