"""`haetae metrics`: prints what all processes measure, in Prometheus' text format."""

import argparse
import sys
from typing import Any

from core.config import load_config
from core.exposition import gather

__all__ = ["add_parser"]


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("metrics", help="print what all processes measure, for Prometheus")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    config = load_config(args.config, **({"paths": {"data": args.data}} if args.data else {}))
    sys.stdout.buffer.write(gather(config))
    return 0
