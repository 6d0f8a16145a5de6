"""Roll-ups: events and watched time by quarters of an hour, counted anew wherever something changed.

Counting is idempotent: a quarter's rows are replaced by what the events and the score history say now. What retention
has deleted cannot be counted again: in quarters of which something was deleted, counts only grow.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, Integer, bindparam, literal_column, select, text

from core.clock import utc_iso
from core.db.counters import counter, set_counter, take_numbers
from core.db.day_pack import QUARTERS_A_DAY, pack_days
from core.db.engine import quarter_of
from core.db.tables import EventRow, ScoreHistoryRow

__all__ = ["QUARTER_S", "mark_deleted", "quarter_at", "quarter_begin", "roll_up_changes", "roll_up_range"]

QUARTER_S = 900
CHANGES = 5_000
"""Changed events or minutes that one transaction takes in, at most."""
RANGE = 192
"""Quarters that one transaction counts anew, at most: two days."""


def quarter_at(moment: datetime) -> int:
    """The quarter of an hour since 1970, UTC, in which it lies."""
    return int(moment.timestamp() // QUARTER_S)


def quarter_begin(quarter: int) -> str:
    """When it begins, RFC 3339 UTC."""
    return utc_iso(datetime.fromtimestamp(quarter * QUARTER_S, UTC))


def mark_deleted(connection: Connection, kind: str, before: int) -> None:
    """To be called where "events" or "scores" of quarters before `before` are deleted, in the same transaction."""
    if before > counter(connection, f"{kind}-kept-since"):
        set_counter(connection, f"{kind}-kept-since", before)


def roll_up_changes(engine: Engine) -> int:
    """Counts the quarters of what was committed since this ran last; returns how many those were."""
    counted = 0
    kinds: tuple[tuple[str, Any], ...] = (("events", EventRow), ("scores", ScoreHistoryRow))
    for kind, row in kinds:
        more = True
        while more:
            with engine.begin() as connection:
                last, now = counter(connection, f"{kind}-counted"), counter(connection, kind)
                changed = select(row.sequence).where(row.sequence > last).order_by(row.sequence)
                upto = connection.execute(changed.offset(CHANGES - 1).limit(1)).scalar()
                more = upto is not None
                upto = now if upto is None else upto
                if upto <= last:
                    break
                expression = quarter_of(connection, "began_at") if kind == "events" else "(minute / 15)"
                found = select(literal_column(expression, Integer)).where(row.sequence > last, row.sequence <= upto)
                quarters: list[int] = sorted(connection.execute(found.distinct()).scalars().all())
                for first, end in _runs(quarters):
                    _count(connection, kind, first, end)
                pack_days(connection, (quarter // QUARTERS_A_DAY for quarter in quarters))
                set_counter(connection, f"{kind}-counted", upto)
                if quarters:
                    take_numbers(connection, "statistics", 1)
                counted += len(quarters)
    return counted


def roll_up_range(engine: Engine, first: int, end: int) -> None:
    """Counts the quarters from `first` up to, not including, `end` anew."""
    for begin in range(first, end, RANGE):
        with engine.begin() as connection:
            for kind in ("events", "scores"):
                _count(connection, kind, begin, min(end, begin + RANGE))
            pack_days(connection, (quarter // QUARTERS_A_DAY for quarter in range(begin, min(end, begin + RANGE))))
            take_numbers(connection, "statistics", 1)


def _runs(quarters: list[int]) -> list[tuple[int, int]]:
    """Neighbouring numbers as (first, end), end not included."""
    runs: list[tuple[int, int]] = []
    for quarter in quarters:
        if runs and runs[-1][1] == quarter:
            runs[-1] = (runs[-1][0], quarter + 1)
        else:
            runs.append((quarter, quarter + 1))
    return runs


_EVENTS = """
INSERT INTO event_statistics (bucket, camera_id, vlm_type, severity, events, peak_score, duration_s)
SELECT {quarter}, camera_id, vlm_type, severity, count(*), max(peak_score), sum(end_s - begin_s)
FROM events WHERE began_at >= :since AND began_at < :until
GROUP BY 1, camera_id, vlm_type, severity
ON CONFLICT (bucket, camera_id, vlm_type, severity) DO UPDATE SET
    events = excluded.events, peak_score = excluded.peak_score, duration_s = excluded.duration_s
    WHERE excluded.events >= event_statistics.events
"""
_COVERAGE = """
INSERT INTO coverage (bucket, camera_id, up_s, watched_s)
SELECT minute / 15, camera_id, sum(up_s), sum(watched_s)
FROM score_history WHERE minute >= :first * 15 AND minute < :end * 15
GROUP BY 1, camera_id
ON CONFLICT (bucket, camera_id) DO UPDATE SET up_s = excluded.up_s, watched_s = excluded.watched_s
    WHERE excluded.up_s >= coverage.up_s
"""


def _count(connection: Connection, kind: str, first: int, end: int) -> None:
    """Counts first..end-1; rows that nothing is counted for any more go, where all that was counted is still kept."""
    table, insert = ("event_statistics", _EVENTS) if kind == "events" else ("coverage", _COVERAGE)
    kept_since = counter(connection, f"{kind}-kept-since")
    drop = text(f"DELETE FROM {table} WHERE bucket >= :first AND bucket < :end")  # noqa: S608 - names of ours
    connection.execute(drop, {"first": max(first, kept_since), "end": end})
    if kind == "events":
        began_at = EventRow.began_at.type
        statement = text(insert.format(quarter=quarter_of(connection, "began_at"))).bindparams(
            bindparam("since", type_=began_at), bindparam("until", type_=began_at)
        )
        connection.execute(statement, {"since": quarter_begin(first), "until": quarter_begin(end)})
    else:
        connection.execute(text(insert), {"first": first, "end": end})
