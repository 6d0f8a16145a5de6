"""DayPack: the roll-ups of one UTC day in one row, so that a month of statistics is read in some thirty.

Derived from event_statistics and coverage in the transaction that writes those, and read instead of them: counting
tens of thousands of rows a month costs a database ten times what numpy takes for the same numbers.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
from sqlalchemy import Connection, delete, select

from core.db.engine import upsert
from core.db.tables import CoverageRow, DayPackRow, EventStatisticsRow

__all__ = ["EVENTS", "QUARTERS_A_DAY", "Counted", "load_days", "pack_days"]

QUARTERS_A_DAY = 96
EVENTS = np.dtype(
    [
        ("quarter", "u1"),
        ("camera", "<u2"),
        ("type", "u1"),
        ("severity", "u1"),
        ("events", "<u4"),
        ("peak", "<f4"),
        ("duration", "<f4"),
    ]
)
"""One row of event_statistics; `quarter` is that of the day."""


class _Pack(msgspec.Struct, array_like=True):
    """An array of EVENTS, and the names that its numbers stand for.

    `coverage` is (2, 96, len(watching)) uint16: the seconds that each of these cameras was up, and watched.
    """

    cameras: list[str]
    types: list[str]
    severities: list[str]
    events: bytes
    watching: list[str]
    coverage: bytes


class Counted(msgspec.Struct):
    """Rows of several days together, by field, quarters rising; and the names that the numbers stand for.

    `events` has the fields of EVENTS, (N,) each; `coverage` has quarter, up and watched, (M,) each, the seconds of all
    cameras together.
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
            (bucket - first, cameras.number(camera), types.number(kind), severities.number(severity), *sums)
            for bucket, camera, kind, severity, *sums in found
        ]
        covered = connection.execute(
            select(CoverageRow.bucket, CoverageRow.camera_id, CoverageRow.up_s, CoverageRow.watched_s)
            .where(CoverageRow.bucket >= first, CoverageRow.bucket < end)
            .order_by(CoverageRow.bucket)
        ).all()
        watching = _Names()
        watching.of([row.camera_id for row in covered])
        coverage = np.zeros((2, QUARTERS_A_DAY, len(watching.numbers)), "<u2")
        for bucket, camera, up_s, watched_s in covered:
            coverage[:, bucket - first, watching.number(camera)] = up_s, watched_s
        if not events and not covered:
            connection.execute(delete(DayPackRow).where(DayPackRow.day == day))
            continue
        pack = _Pack(
            list(cameras.numbers),
            list(types.numbers),
            list(severities.numbers),
            np.array(events, EVENTS).tobytes(),
            list(watching.numbers),
            coverage.tobytes(),
        )
        statement = upsert(connection, DayPackRow)
        statement = statement.on_conflict_do_update(
            index_elements=[DayPackRow.day], set_={"data": statement.excluded.data}
        )
        connection.execute(statement, {"day": day, "data": _encoder.encode(pack)})


def load_days(connection: Connection, first: int, end: int, cameras: Collection[str] | None = None) -> Counted:
    """What is counted of the quarters from `first` up to, not including, `end`; of all cameras where none are named."""
    query = select(DayPackRow.day, DayPackRow.data).where(
        DayPackRow.day >= first // QUARTERS_A_DAY, DayPackRow.day <= (end - 1) // QUARTERS_A_DAY
    )
    named, types, severities = _Names(), _Names(), _Names()
    events: dict[str, list[Any]] = {name: [np.empty(0, np.int64)] for name in EVENTS.names or ()}
    coverage: dict[str, list[Any]] = {name: [np.empty(0, np.int64)] for name in ("quarter", "up", "watched")}
    for day, data in connection.execute(query.order_by(DayPackRow.day)):
        pack = _decoder.decode(data)
        numbers = {"camera": named.of(pack.cameras), "type": types.of(pack.types)}
        numbers["severity"] = severities.of(pack.severities)
        begin = day * QUARTERS_A_DAY
        inside = slice(max(0, first - begin), max(0, min(QUARTERS_A_DAY, end - begin)))
        rows = np.frombuffer(pack.events, EVENTS)
        rows = rows[slice(*np.searchsorted(rows["quarter"], (inside.start, inside.stop)))]
        if cameras is not None:
            rows = rows[_wanted(pack.cameras, cameras)[rows["camera"]]] if pack.cameras else rows
        for name, column in events.items():
            column.append(numbers[name][rows[name]] if name in numbers else rows[name])
        events["quarter"][-1] = rows["quarter"].astype(np.int32) + begin
        both = np.frombuffer(pack.coverage, "<u2").reshape(2, QUARTERS_A_DAY, len(pack.watching))[:, inside]
        if cameras is not None:
            both = both[:, :, _wanted(pack.watching, cameras)]
        seconds = both.sum(axis=2, dtype=np.int64)
        coverage["quarter"].append(np.arange(begin, begin + QUARTERS_A_DAY)[inside])
        coverage["up"].append(seconds[0])
        coverage["watched"].append(seconds[1])
    return Counted(
        list(named.numbers),
        list(types.numbers),
        list(severities.numbers),
        {name: np.concatenate(parts) for name, parts in events.items()},
        {name: np.concatenate(parts) for name, parts in coverage.items()},
    )


def _wanted(names: Sequence[str], cameras: Collection[str]) -> Any:
    """(len(names),) bool: whether each is among the cameras."""
    return np.array([name in cameras for name in names], bool)
