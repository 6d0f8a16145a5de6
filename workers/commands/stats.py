"""`haetae stats`: events and coverage by day, week or month."""

import argparse
from datetime import date, datetime, timedelta
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from core.clock import time_zone
from core.db import make_engine, upgrade
from core.db.rollup import roll_up_changes
from core.db.statistics import Looked, Period, PeriodStatistics, Statistics, StatisticsQuery, StatisticsReader
from core.ids import check_camera_id
from workers.commands.camera import configure

__all__ = ["add_parser"]

LENGTHS = {Period.DAY: 14, Period.WEEK: 8 * 7, Period.MONTH: 365}
"""Days that are shown where nobody says since when."""


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("stats", help="count events by day, week or month")
    parser.add_argument("--by", choices=[str(one) for one in Period], default="day", help="day, week or month (day)")
    parser.add_argument("--first", type=_day, metavar="DATE", help="first day, as 2026-03-01 (two weeks ago)")
    parser.add_argument("--last", type=_day, metavar="DATE", help="last day (today)")
    parser.add_argument("--camera", action="append", default=[], metavar="NAME", help="of this camera; may be repeated")
    parser.add_argument("--time-zone", metavar="ZONE", help="whose days, as Asia/Seoul (site.time_zone)")
    parser.add_argument("--json", action="store_true", help="all of it, as JSON")
    parser.set_defaults(run=_run)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not a date: {text!r}; write 2026-03-01") from error


def _run(args: argparse.Namespace) -> int:
    config = configure(args)
    zone = args.time_zone or config.site.time_zone
    period = Period(args.by)
    today = datetime.now(time_zone(zone)).date()
    last = args.last or today
    query = StatisticsQuery(
        first=args.first or last - timedelta(days=LENGTHS[period] - 1),
        last=last,
        period=period,
        time_zone=zone,
        cameras=tuple(check_camera_id(name) for name in args.camera) or None,
    )
    upgrade(config.database_url)
    writer = make_engine(config.database_url, writer=True)
    roll_up_changes(writer)
    found = StatisticsReader(writer).read(query)
    writer.dispose()
    if args.json:
        print(msgspec.json.encode(found).decode())
    else:
        _show(found, zone)
    return 0


def _show(found: Statistics, zone: str) -> None:
    table = Table(title=f"days of {zone}", title_justify="left", box=None, pad_edge=False)
    table.add_column("from")
    for title in ("events", "watched", "highest"):
        table.add_column(title, justify="right")
    table.add_column("of which")
    for one in (*found.periods, found.total):
        begin = "total" if one is found.total else f"{one.begin:%Y-%m-%d %a}" + (" …" if one.partial else "")
        most = ", ".join(f"{n} {name}" for name, n in list(one.by_type.items())[:3])
        table.add_row(begin, _events(one), _watched(one), f"{one.peak_score:.1f}" if one.events else "", most)
    console = Console(highlight=False)
    console.print(table)
    trend = found.trend
    before = f"{trend.before} in the time before" + (f" ({trend.change:+.0%})" if trend.change is not None else "")
    usual = f"; usual for these days: {trend.usual:g}" if trend.usual is not None else ""
    console.print(f"{trend.events} events; {before}{usual}")


def _events(one: PeriodStatistics) -> str:
    """A count, or that there was nobody to count."""
    return "not watched" if not one.events and one.looked is Looked.NOT else str(one.events)


def _watched(one: PeriodStatistics) -> str:
    return f"{one.coverage:.0%}" if one.coverage is not None else "-"
