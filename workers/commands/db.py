"""`haetae db`: the database's own affairs."""

import argparse
from typing import Any

from core.db import upgrade
from workers.commands.camera import configure

__all__ = ["add_parser"]


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("db", help="bring the database up to date")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("upgrade", help="migrate to the newest revision").set_defaults(run=_upgrade)


def _upgrade(args: argparse.Namespace) -> int:
    upgrade(configure(args).database_url)
    print("the database is up to date")
    return 0
