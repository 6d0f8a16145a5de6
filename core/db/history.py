"""Camera history in the database: changes of phase, and score minutes."""

from collections.abc import Sequence
from datetime import datetime

import msgspec
import numpy as np
from sqlalchemy import Connection, Engine, select

from core.cameras.history import (
    CameraStateChange,
    HistoryRecord,
    NormalityVersion,
    ScoreMinute,
    pack_scores,
    unpack_scores,
)
from core.db.counters import take_numbers
from core.db.engine import upsert
from core.db.tables import CameraStateRow, NormalityRow, ScoreHistoryRow
from core.ids import CameraId

__all__ = [
    "camera_states",
    "normality_versions",
    "score_curve",
    "score_minutes",
    "upsert_history",
    "upsert_scores",
    "upsert_states",
    "upsert_versions",
]


def upsert_history(connection: Connection, records: Sequence[HistoryRecord]) -> None:
    """Stores records of any kind; replaying any part of a journal changes nothing."""
    upsert_states(connection, [one for one in records if isinstance(one, CameraStateChange)])
    upsert_versions(connection, [one for one in records if isinstance(one, NormalityVersion)])
    upsert_scores(connection, [one for one in records if isinstance(one, ScoreMinute)])


def upsert_states(connection: Connection, changes: Sequence[CameraStateChange]) -> None:
    """Stores what is not stored yet."""
    names = CameraStateChange.__struct_fields__
    rows = [{**{name: getattr(change, name) for name in names}, "phase": str(change.phase)} for change in changes]
    if rows:
        connection.execute(upsert(connection, CameraStateRow).on_conflict_do_nothing(), rows)


def upsert_versions(connection: Connection, versions: Sequence[NormalityVersion]) -> None:
    """Stores what is not stored yet; a version that was learned again takes the place of the one before."""
    if not versions:
        return
    names = NormalityVersion.__struct_fields__
    statement = upsert(connection, NormalityRow)
    keys = ("camera_id", "vad_type", "light", "version")
    statement = statement.on_conflict_do_update(
        index_elements=[getattr(NormalityRow, name) for name in keys],
        set_={name: statement.excluded[name] for name in names if name not in keys},
        where=statement.excluded.created_at > NormalityRow.created_at,
    )
    newest = {
        (one.camera_id, one.vad_type, one.light, one.version): one
        for one in sorted(versions, key=lambda one: one.created_at)
    }
    connection.execute(statement, [{name: getattr(one, name) for name in names} for one in newest.values()])


def normality_versions(engine: Engine, camera_id: CameraId) -> list[NormalityVersion]:
    """All versions of what a camera learned, by day and by night, the newest first."""
    names = NormalityVersion.__struct_fields__
    query = select(*(getattr(NormalityRow, name) for name in names)).where(NormalityRow.camera_id == camera_id)
    with engine.connect() as connection:
        rows = connection.execute(query.order_by(NormalityRow.created_at.desc(), NormalityRow.version.desc()))
        return [msgspec.convert(dict(row), NormalityVersion) for row in rows.mappings()]


def upsert_scores(connection: Connection, minutes: Sequence[ScoreMinute]) -> None:
    """Lays each minute over what is stored of it: replaying any part of a journal changes nothing."""
    if not minutes:
        return
    row = ScoreHistoryRow
    sequence = take_numbers(connection, "scores", 1)
    cameras, numbers = {one.camera_id for one in minutes}, {one.minute for one in minutes}
    known = select(row.camera_id, row.minute, row.up, row.seconds)
    known = known.where(row.camera_id.in_(cameras), row.minute.in_(numbers))
    merged = {
        (camera_id, minute): (up, _array(seconds)) for camera_id, minute, up, seconds in connection.execute(known)
    }
    nodes: dict[tuple[str, int], str] = {}
    for one in minutes:
        key = (one.camera_id, one.minute)
        up, scores = merged.get(key, (0, _array(None)))
        merged[key] = up | one.up, np.fmax(scores, _array(one.seconds))
        nodes[key] = one.node_id
    statement = upsert(connection, row)
    changed = {
        name: statement.excluded[name]
        for name in ("sequence", "node_id", "highest", "mean", "up", "up_s", "watched_s", "seconds")
    }
    statement = statement.on_conflict_do_update(index_elements=[row.camera_id, row.minute], set_=changed)
    values = [
        {"node_id": node_id, "sequence": sequence, **_score_values(key, *merged[key])} for key, node_id in nodes.items()
    ]
    connection.execute(statement, values)


def _array(seconds: bytes | None) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
    return np.array(unpack_scores(seconds), np.float32) if seconds else np.full(60, np.nan, np.float32)


def _score_values(
    key: tuple[str, int], up: int, scores: "np.ndarray[tuple[int], np.dtype[np.float32]]"
) -> dict[str, object]:
    known = scores[~np.isnan(scores)]
    return {
        "camera_id": key[0],
        "minute": key[1],
        "highest": float(known.max()) if known.size else None,
        "mean": float(known.mean()) if known.size else None,
        "up": up,
        "up_s": up.bit_count(),
        "watched_s": int(known.size),
        "seconds": pack_scores(scores.tolist()),
    }


def camera_states(engine: Engine, camera_id: CameraId, *, limit: int = 50) -> list[CameraStateChange]:
    """The last changes of a camera's phase, newest first."""
    query = select(CameraStateRow).where(CameraStateRow.camera_id == camera_id)
    query = query.order_by(CameraStateRow.at.desc(), CameraStateRow.id.desc()).limit(limit)
    names = CameraStateChange.__struct_fields__
    with engine.connect() as connection:
        rows = connection.execute(query.with_only_columns(*(getattr(CameraStateRow, name) for name in names)))
        return [msgspec.convert(dict(row), CameraStateChange) for row in rows.mappings()]


def score_minutes(
    engine: Engine, camera_id: CameraId, first: int, last: int
) -> list[tuple[int, float | None, float | None]]:
    """(minute, highest, mean) of the minutes first..last that are known."""
    row = ScoreHistoryRow
    query = select(row.minute, row.highest, row.mean).where(
        row.camera_id == camera_id, row.minute >= first, row.minute <= last
    )
    with engine.connect() as connection:
        return [(minute, highest, mean) for minute, highest, mean in connection.execute(query.order_by(row.minute))]


def score_curve(engine: Engine, camera_id: CameraId, since: str, until: str) -> list[tuple[int, float]]:
    """(Unix second, highest score) of each second between two times, RFC 3339 UTC, that was watched and is kept."""
    begin, end = (int(datetime.fromisoformat(text).timestamp()) for text in (since, until))
    row = ScoreHistoryRow
    query = select(row.minute, row.seconds).where(
        row.camera_id == camera_id, row.minute >= begin // 60, row.minute <= end // 60, row.seconds.is_not(None)
    )
    curve: list[tuple[int, float]] = []
    with engine.connect() as connection:
        for minute, seconds in connection.execute(query.order_by(row.minute)):
            for second, score in enumerate(unpack_scores(seconds) if seconds else (), minute * 60):
                if begin <= second <= end and score == score:  # noqa: PLR0124 - NaN is not itself
                    curve.append((second, score))
    return curve
