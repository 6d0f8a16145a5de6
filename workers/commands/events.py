"""`haetae events`: shows what was seen, or what is being seen."""

import argparse
import re
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import zmq

from core.clock import local_text, time_zone, utc_iso
from core.config import Config
from core.db import make_engine, upgrade
from core.db.event_pages import EventFilter, iterate_events
from core.errors import ConfigError
from core.events import AnomalyEvent, EventState, Severity
from core.ids import check_camera_id
from core.wire.feeds import FeedSubscriber
from core.wire.messages import Committed
from workers.commands.camera import configure, parse_duration

__all__ = ["add_parser", "describe", "moment"]


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("events", help="show what was seen")
    parser.add_argument("--camera", metavar="NAME", help="of this camera only")
    parser.add_argument("--since", metavar="TIME", help="1h, 30m, or a time such as 2026-03-01T18:00Z")
    parser.add_argument("--until", metavar="TIME", help="before this time")
    parser.add_argument("--type", metavar="TYPE", action="append", default=[], help="of this type; may be repeated")
    parser.add_argument(
        "--severity",
        metavar="S",
        action="append",
        default=[],
        choices=list(Severity),
        help="info, low, medium, high or critical",
    )
    parser.add_argument("--min-score", type=float, metavar="N", help="with at least this score")
    parser.add_argument("--text", default="", metavar="TEXT", help="with this in the description or the reason")
    parser.add_argument("--unacknowledged", action="store_true", help="that nobody took note of")
    parser.add_argument("--limit", type=int, default=50, metavar="N", help="at most so many, newest first (50)")
    parser.add_argument("--json", action="store_true", help="a JSON line each")
    parser.add_argument("--follow", action="store_true", help="go on with what happens from now on")
    parser.set_defaults(run=_run)


def describe(event: AnomalyEvent, zone: ZoneInfo) -> str:
    """One line for a person, with times of this zone."""
    length = f"{event.end_s - event.begin_s:5.1f} s" if event.state is not EventState.OPEN else "now    "
    mark = "  (provisional)" if event.provisional else ""
    cut = "  (interrupted)" if event.state is EventState.INTERRUPTED else ""
    return (
        f"{local_text(event.began_at, zone)}  {event.camera_id:<16} {length}  score {event.peak_score:4.1f}  "
        f"{event.severity:<8} {event.reason or event.vlm_type}{mark}{cut}"
    )


def moment(text: str, zone: ZoneInfo) -> str:
    """So long ago; or a time, of this zone where it does not name one."""
    if re.fullmatch(r"[\d.]+[smh]?", text):
        return utc_iso(datetime.now(UTC) - timedelta(seconds=parse_duration(text)))
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"not a time: {text!r}", "write 1h, 30m, or 2026-03-01T18:00Z") from error
    return utc_iso(at if at.tzinfo else at.replace(tzinfo=zone))


def _run(args: argparse.Namespace) -> int:
    if args.limit < 1:
        raise ConfigError("--limit must be 1 or more")
    camera_id = check_camera_id(args.camera) if args.camera else None
    config = configure(args)
    zone = time_zone(config.site.time_zone)
    wanted = EventFilter(
        cameras=(camera_id,) if camera_id else None,
        since=moment(args.since, zone) if args.since else None,
        until=moment(args.until, zone) if args.until else None,
        types=tuple(args.type),
        severities=tuple(Severity(one) for one in args.severity),
        min_score=args.min_score,
        acknowledged=False if args.unacknowledged else None,
        text=args.text,
    )
    upgrade(config.database_url)
    engine = make_engine(config.database_url)
    found = [stored.event for stored in islice(iterate_events(engine, wanted), args.limit)]
    engine.dispose()
    shown_in = None if args.json else zone
    for event in reversed(found):
        _show(event, shown_in)
    if args.follow:
        _follow(config, camera_id or "", shown_in)
    elif not found and not args.json:
        print(f"no events of {camera_id}" if camera_id else "no events")
    return 0


def _show(event: AnomalyEvent, zone: ZoneInfo | None) -> None:
    """As JSON where there is no zone."""
    print(describe(event, zone) if zone else msgspec.json.encode(event).decode(), flush=True)


def _follow(config: Config, camera_id: str, zone: ZoneInfo | None) -> None:
    """Prints what is committed from now on, until Ctrl-C; each opening and each end once."""
    shown: dict[str, EventState] = {}
    with zmq.Context() as context:
        feed = FeedSubscriber(context, config.endpoint("logger-feed"), Committed)
        try:
            while True:
                for topic, _, message in feed.receive(1.0):
                    event = message.event
                    if camera_id in {"", topic} and shown.get(event.id) != event.state:
                        shown[event.id] = event.state
                        _show(event, zone)
                for key in list(shown)[:-1000]:
                    del shown[key]
        finally:
            feed.close()
