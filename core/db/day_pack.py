"""DayPack: the roll-ups of one UTC day in one row, so that a month of statistics is read in some thirty.

Derived from event_statistics and coverage in the transaction that writes those, and read instead of them: counting
tens of thousands of rows a month costs a database ten times what numpy takes for the same numbers.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
from sqlalchemy import Connection, delete, select

from core.db.engine import upsert
from core.db.tables import CoverageRow, DayPackRow, EventStatisticsRow

__all__ = ["COVERAGE", "EVENTS", "QUARTERS_A_DAY", "Counted", "load_days", "pack_days"]

QUARTERS_A_DAY = 96
EVENTS = np.dtype(
    [
        ("quarter", "<i4"),
        ("camera", "<u2"),
        ("type", "<u2"),
        ("severity", "<u2"),
        ("events", "<u4"),
        ("peak", "<f4"),
        ("duration", "<f4"),
    ]
)
COVERAGE = np.dtype([("quarter", "<i4"), ("camera", "<u2"), ("up", "<u2"), ("watched", "<u2")])


class _Pack(msgspec.Struct, array_like=True):
    """Arrays of EVENTS and COVERAGE; the names that their numbers stand for."""

    cameras: list[str]
    types: list[str]
    severities: list[str]
    events: bytes
    coverage: bytes


class Counted(msgspec.Struct):
    """Rows of several days together, by field, quarters rising; and the names that the numbers stand for.

    `events` has the fields of EVENTS, (N,) each; `coverage` those of COVERAGE, (M,) each.
    """

    cameras: list[str]
    types: list[str]
    severities: list[str]
    events: dict[str, Any]
    coverage: dict[str, Any]


class _Names:
    """Numbers for names, in the order of their coming."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def number(self, name: str) -> int:
        return self.numbers.setdefault(name, len(self.numbers))

    def of(self, names: Sequence[str]) -> Any:
        """(len(names),) uint16: their numbers here."""
        return np.array([self.number(name) for name in names], np.uint16)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Pack)


def pack_days(connection: Connection, days: Iterable[int]) -> None:
    """Packs what is counted of UTC days (since 1970) anew."""
    for day in sorted(set(days)):
        first, end = day * QUARTERS_A_DAY, (day + 1) * QUARTERS_A_DAY
        cameras, types, severities = _Names(), _Names(), _Names()
        row = EventStatisticsRow
        found = connection.execute(
            select(row.bucket, row.camera_id, row.vlm_type, row.severity, row.events, row.peak_score, row.duration_s)
            .where(row.bucket >= first, row.bucket < end)
            .order_by(row.bucket)
        )
        events = [
            (bucket, cameras.number(camera), types.number(kind), severities.number(severity), *sums)
            for bucket, camera, kind, severity, *sums in found
        ]
        covered = connection.execute(
            select(CoverageRow.bucket, CoverageRow.camera_id, CoverageRow.up_s, CoverageRow.watched_s)
            .where(CoverageRow.bucket >= first, CoverageRow.bucket < end)
            .order_by(CoverageRow.bucket)
        )
        coverage = [(bucket, cameras.number(camera), *sums) for bucket, camera, *sums in covered]
        if not events and not coverage:
            connection.execute(delete(DayPackRow).where(DayPackRow.day == day))
            continue
        pack = _Pack(
            list(cameras.numbers),
            list(types.numbers),
            list(severities.numbers),
            np.array(events, EVENTS).tobytes(),
            np.array(coverage, COVERAGE).tobytes(),
        )
        statement = upsert(connection, DayPackRow)
        statement = statement.on_conflict_do_update(
            index_elements=[DayPackRow.day], set_={"data": statement.excluded.data}
        )
        connection.execute(statement, {"day": day, "data": _encoder.encode(pack)})


def load_days(connection: Connection, first: int, end: int) -> Counted:
    """What is counted of the quarters from `first` up to, not including, `end`."""
    query = select(DayPackRow.data).where(
        DayPackRow.day >= first // QUARTERS_A_DAY, DayPackRow.day <= (end - 1) // QUARTERS_A_DAY
    )
    cameras, types, severities = _Names(), _Names(), _Names()
    events: dict[str, list[Any]] = {name: [np.empty(0, EVENTS[name])] for name in EVENTS.names or ()}
    coverage: dict[str, list[Any]] = {name: [np.empty(0, COVERAGE[name])] for name in COVERAGE.names or ()}
    for data in connection.execute(query.order_by(DayPackRow.day)).scalars():
        pack = _decoder.decode(data)
        numbers = {"camera": cameras.of(pack.cameras), "type": types.of(pack.types)}
        numbers["severity"] = severities.of(pack.severities)
        for columns, rows in (
            (events, _within(np.frombuffer(pack.events, EVENTS), first, end)),
            (coverage, _within(np.frombuffer(pack.coverage, COVERAGE), first, end)),
        ):
            for name, column in columns.items():
                column.append(numbers[name][rows[name]] if name in numbers else rows[name])
    return Counted(
        list(cameras.numbers),
        list(types.numbers),
        list(severities.numbers),
        {name: np.concatenate(parts) for name, parts in events.items()},
        {name: np.concatenate(parts) for name, parts in coverage.items()},
    )


def _within(rows: Any, first: int, end: int) -> Any:
    low, high = np.searchsorted(rows["quarter"], (first, end))
    return rows[low:high]
