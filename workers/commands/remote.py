"""`haetae --url URL …`: the same commands, asked of a Haetae on another machine through its API."""

import argparse
import os
from datetime import UTC, datetime, timedelta

import msgspec
from rich.console import Console
from rich.table import Table

from core.cameras import Light
from core.clock import utc_iso
from core.errors import ConfigError
from core.rest.cameras import VersionIn
from core.rest.client import Client
from core.rest.events import EventOut
from workers.commands.camera import BY_LIGHT, parse_duration, version_table

__all__ = ["KEY_VARIABLE", "run_remote"]

KEY_VARIABLE = "HAETAE_API_KEY"
"""The key is not an argument: everybody on a machine can read those."""


def run_remote(args: argparse.Namespace) -> int:
    """Carries out a command at `args.api`; raises ApiProblem, and ConfigError for what only works on the machine."""
    commands = {"events": _events, "stats": _stats, "camera": _camera}
    if args.command not in commands:
        raise ConfigError(f"haetae {args.command} works on the machine itself", "leave --url out, over there")
    key = os.environ.get(KEY_VARIABLE, "")
    if not key:
        raise ConfigError(
            "there is no API key", f"put one into the variable {KEY_VARIABLE}: POST /api/v1/keys makes it"
        )
    with Client(args.api, key=key) as client:
        return commands[args.command](client, args)


def _moment(text: str | None) -> str | None:
    if text and "-" not in text:
        return utc_iso(datetime.now(UTC) - timedelta(seconds=parse_duration(text)))
    return text


def _events(client: Client, args: argparse.Namespace) -> int:
    if args.follow:
        raise ConfigError("events cannot be followed with --url yet", "ask again, or use the machine itself")
    page = client.list_events(
        camera_id=[args.camera] if args.camera else None,
        from_=_moment(args.since),
        to=_moment(args.until),
        vlm_type=args.type or None,
        severity=args.severity or None,
        min_score=args.min_score,
        acknowledged=False if args.unacknowledged else None,
        text=args.text or None,
        limit=min(args.limit, 500),
    )
    for event in reversed(page.events):
        print(msgspec.json.encode(event).decode() if args.json else _line(event))
    if not page.events and not args.json:
        print("no events")
    return 0


def _line(event: EventOut) -> str:
    length = "now    " if event.state == "open" else f"{event.duration_s:5.1f} s"
    began = event.began_at[:19].replace("T", " ")
    return (
        f"{began}  {event.camera_id:<16} {length}  score {event.peak_score:4.1f}  "
        f"{event.severity:<8} {event.reason or event.vlm_type}"
    )


def _stats(client: Client, args: argparse.Namespace) -> int:
    found = client.get_statistics(
        period=args.by,
        from_=args.first,
        to=args.last,
        time_zone=args.time_zone,
        camera_id=args.camera or None,
    )
    if args.json:
        print(msgspec.json.encode(found).decode())
        return 0
    table = Table("from", "events", "watched", title=f"days of {found.time_zone}", title_justify="left", box=None)
    for period in found.periods:
        counted = "not watched" if not period.events and period.looked == "not" else str(period.events)
        watched = f"{period.coverage:.0%}" if period.coverage is not None else "-"
        table.add_row(period.begin + (" …" if period.partial else ""), counted, watched)
    Console(highlight=False).print(table)
    return 0


def _camera(client: Client, args: argparse.Namespace) -> int:
    if args.action == "list":
        return _list(client, as_json=args.json)
    if args.action == "versions":
        return _versions(client, args.name, args.light, as_json=args.json)
    if args.action == "rollback":
        return _rollback(client, args.name, args.version, args.light)
    actions = {"start": client.start_camera, "stop": client.stop_camera, "remove": client.remove_camera}
    if args.action not in actions:
        raise ConfigError(f"haetae camera {args.action} works on the machine itself", "or ask the API directly")
    actions[args.action](args.name)
    print({"start": "starting", "stop": "stopping", "remove": "removed"}[args.action], args.name)
    return 0


def _versions(client: Client, name: str, light: Light | None, *, as_json: bool) -> int:
    found = client.list_normality(name, light=light)
    if as_json:
        print(msgspec.json.encode(found).decode())
        return 0
    Console().print(version_table(found, lambda at: at) if found else "it has learned nothing yet")
    return 0


def _rollback(client: Client, name: str, version: int | None, light: Light) -> int:
    if version is None:
        known = client.list_normality(name, light=light)
        used = next((one for one in known if one.in_use), None)
        earlier = [
            one.version
            for one in known
            if used and one.kept and one.vad_type == used.vad_type and one.version < used.version
        ]
        if not earlier:
            raise ConfigError(
                f"{name} has no version before that in use", "haetae camera versions shows those there are"
            )
        version = max(earlier)
    client.use_normality(name, VersionIn(version=version, light=light))
    print(f"{name} judges {BY_LIGHT[light]} by version {version} from now on")
    return 0


def _list(client: Client, *, as_json: bool) -> int:
    cameras = client.list_cameras()
    if as_json:
        print(msgspec.json.encode(cameras).decode())
        return 0
    table = Table("camera", "wanted", "is", "frames", "why")
    for camera in cameras:
        seen = camera.observed
        wanted = "running" if camera.enabled else "stopped"
        if seen:
            table.add_row(camera.id, wanted, seen.phase, str(seen.frames), seen.reason)
        else:
            table.add_row(camera.id, wanted, "?", "", "the manager does not answer")
    Console().print(table if cameras else "no cameras")
    return 0
