"""The `haetae` command: reads what is asked and hands it to the command's own module."""

import argparse
import importlib
import os
import sys
from pathlib import Path

from core.errors import HaetaeError
from core.version import VERSION

__all__ = ["main"]

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

COMMANDS = {
    "up": "run everything on this machine: cameras, inference, logger",
    "watch": "look for anomalies in video files",
    "camera": "probe, add, list, start, stop and remove cameras",
    "fit": "have a camera learn from files, or anew",
    "evaluate": "measure detection on a labelled folder",
    "events": "show what was seen",
    "doctor": "check this machine, and say what to do",
    "health": "say whether everything runs",
    "frames": "show every frame ring, live",
    "metrics": "print what all processes measure, for Prometheus",
    "replay": "judge a stored event again, and show what differs",
    "evaluate-flows": "compare agent flows on stored events",
    "stats": "count events by day, week or month",
    "notify": "channels, rules, and what was sent to whom",
    "user": "add, list and reset accounts",
    "db": "upgrade, check, back up, restore or move the database",
}


def main(argv: list[str] | None = None) -> int:
    """Runs one command; an error is one line on stderr, with a hint where there is one, and exit code 2."""
    words = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog="haetae", description="Video-anomaly surveillance.")
    parser.add_argument("--config", type=Path, metavar="FILE", help="configuration (default: ./haetae.toml)")
    parser.add_argument("--data", metavar="DIR", help="data folder (default: ./var)")
    parser.add_argument(
        "--url",
        dest="api",
        metavar="URL",
        default=os.environ.get("HAETAE_URL", ""),
        help="ask a Haetae on another machine, by its API",
    )
    parser.add_argument("--version", dest="say_version", action="store_true", help="say which version this is")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")
    wanted = next((word for word in words if word in COMMANDS), None)
    for name, text in COMMANDS.items():
        if name == wanted:
            importlib.import_module(f"workers.commands.{name.replace('-', '_')}").add_parser(subparsers)
        else:
            subparsers.add_parser(name, help=text)
    args = parser.parse_args(words)
    if args.say_version:
        print(f"haetae {VERSION}")
        return 0
    if not args.command:
        parser.print_help()
        return EXIT_USAGE
    try:
        if args.api:
            from workers.commands.remote import run_remote  # noqa: PLC0415 - most commands do without

            return run_remote(args)
        return args.run(args)
    except HaetaeError as error:
        print(f"haetae: {error}" + (f"\n  {error.hint}" if error.hint else ""), file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return EXIT_USAGE


if __name__ == "__main__":
    sys.exit(main())
