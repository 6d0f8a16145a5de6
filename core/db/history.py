"""Camera history in the database: changes of phase, and score minutes."""

from collections.abc import Sequence
from datetime import datetime

import msgspec
import numpy as np
from sqlalchemy import Connection, Engine, select

from core.cameras.history import CameraStateChange, ScoreMinute, unpack_scores
from core.db.engine import upsert
from core.db.tables import CameraStateRow, ScoreHistoryRow
from core.ids import CameraId

__all__ = ["camera_states", "score_curve", "score_minutes", "upsert_scores", "upsert_states"]


def upsert_states(connection: Connection, changes: Sequence[CameraStateChange]) -> None:
    """Stores what is not stored yet."""
    names = CameraStateChange.__struct_fields__
    rows = [{**{name: getattr(change, name) for name in names}, "phase": str(change.phase)} for change in changes]
    if rows:
        connection.execute(upsert(connection, CameraStateRow).on_conflict_do_nothing(), rows)


def upsert_scores(connection: Connection, minutes: Sequence[ScoreMinute]) -> None:
    """Stores each minute unless one is stored in which more pictures came."""
    newest: dict[tuple[str, int], ScoreMinute] = {}
    for minute in minutes:
        key = (minute.camera_id, minute.minute)
        if key not in newest or minute.up_s >= newest[key].up_s:
            newest[key] = minute
    if not newest:
        return
    statement = upsert(connection, ScoreHistoryRow)
    names = ("node_id", "highest", "mean", "up_s", "watched_s", "seconds")
    statement = statement.on_conflict_do_update(
        index_elements=[ScoreHistoryRow.camera_id, ScoreHistoryRow.minute],
        set_={name: statement.excluded[name] for name in names},
        where=statement.excluded.up_s >= ScoreHistoryRow.up_s,
    )
    connection.execute(statement, [_score_values(minute) for minute in newest.values()])


def _score_values(minute: ScoreMinute) -> dict[str, object]:
    scores = np.array(unpack_scores(minute.seconds))
    known = scores[~np.isnan(scores)]
    return {
        "camera_id": minute.camera_id,
        "minute": minute.minute,
        "node_id": minute.node_id,
        "highest": float(known.max()) if known.size else None,
        "mean": float(known.mean()) if known.size else None,
        "up_s": minute.up_s,
        "watched_s": minute.watched_s,
        "seconds": minute.seconds,
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
            for second, score in enumerate(unpack_scores(seconds or b""), minute * 60):
                if begin <= second <= end and score == score:  # noqa: PLR0124 - NaN is not itself
                    curve.append((second, score))
    return curve
