"""`haetae user`: accounts from the command line, for the first one and for administrators locked out."""

import argparse
import getpass
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from core.clock import utc_iso
from core.config import Config
from core.db import make_engine, upgrade
from core.db.accounts import Grants, add_user, change_user, find_user, list_users, set_grants
from core.db.audit import write_audit
from core.errors import ConfigError, NotFound
from core.ids import NodeId
from core.security.passwords import Passwords, check_new_password
from core.security.permissions import Role
from core.security.tokens import KeyRing
from workers.commands.camera import configure

__all__ = ["add_parser"]


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("user", help="add, list and reset accounts")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = actions.add_parser("add", help="add an account; asks for its password, or reads it from standard input")
    add.add_argument("name")
    add.add_argument("--role", choices=list(Role), default=Role.ADMIN, help="viewer, operator or admin (admin)")
    add.add_argument("--all-cameras", action="store_true", help="sees every camera; an administrator does anyway")
    add.set_defaults(run=_add)
    reset = actions.add_parser("reset", help="set a new password; ends all sessions, takes the second factor away")
    reset.add_argument("name")
    reset.set_defaults(run=_reset)
    show = actions.add_parser("list", help="show all accounts")
    show.set_defaults(run=_list)
    rotate = actions.add_parser("rotate-keys", help="sign access tokens with a new key from now on")
    rotate.set_defaults(run=_rotate)


def _password(name: str) -> str:
    """Never from the command line, where everybody on the machine could read it."""
    if sys.stdin.isatty():
        first = getpass.getpass(f"password of {name}: ")
        if getpass.getpass("once more: ") != first:
            raise ConfigError("these were two different passwords")
    else:
        first = sys.stdin.readline().rstrip("\n")
    return check_new_password(first, name)


def _change(args: argparse.Namespace, action: str, change: Callable[[Any, Config, str], None]) -> None:
    config = configure(args)
    upgrade(config.database_url)
    engine = make_engine(config.database_url, writer=True)
    now = utc_iso(datetime.now(UTC))
    try:
        with engine.begin() as connection:
            change(connection, config, now)
            write_audit(
                connection,
                at=now,
                node_id=NodeId(config.node_id),
                actor=f"{getpass.getuser()} (command line)",
                action=action,
                target=args.name,
            )
    finally:
        engine.dispose()


def _add(args: argparse.Namespace) -> int:
    password = _password(args.name)

    def change(connection: Any, config: Config, now: str) -> None:
        user = add_user(
            connection,
            name=args.name,
            password_hash=Passwords().hash(password),
            role=Role(args.role),
            at=now,
            time_zone=config.site.time_zone,
        )
        set_grants(connection, user.id, Grants(all_cameras=args.all_cameras), at=now)

    _change(args, "user.created", change)
    print(f"added {args.name}, {args.role}")
    return 0


def _reset(args: argparse.Namespace) -> int:
    password = _password(args.name)

    def change(connection: Any, _config: Config, now: str) -> None:
        found = find_user(connection, args.name)
        if found is None:
            raise NotFound(f"there is no user {args.name!r}", "haetae user list shows those there are")
        change_user(
            connection,
            found.user.id,
            at=now,
            revoke=True,
            password_hash=Passwords().hash(password),
            enabled=True,
            totp_secret="",
            totp_recovery=[],
            failed_logins=0,
            login_after=None,
        )

    _change(args, "user.reset", change)
    print(f"{args.name} has a new password; all sessions have ended")
    return 0


def _list(args: argparse.Namespace) -> int:
    config = configure(args)
    upgrade(config.database_url)
    engine = make_engine(config.database_url)
    users = list_users(engine)
    engine.dispose()
    for user in users:
        off = "" if user.enabled else "  (off)"
        print(f"{user.name:<24} {user.role:<9} last login {(user.last_login_at or 'never')[:19]}{off}")
    if not users:
        print("no accounts yet: haetae user add NAME")
    return 0


def _rotate(args: argparse.Namespace) -> int:
    KeyRing(configure(args).secrets_dir).rotate()
    print("a new key signs from now on; tokens that the one before it signed stay good until they expire")
    return 0
