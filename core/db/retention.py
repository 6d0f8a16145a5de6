"""Retention: deletes what is older, or larger, than it may be, a few rows at a time, so that nobody waits for it."""

import shutil
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import Engine, delete, func, select, update

from core.clock import utc_iso
from core.config import Config, RetentionConfig
from core.db.rollup import mark_deleted, quarter_at
from core.db.tables import (
    AuditRow,
    CameraRow,
    CameraStateRow,
    DeliveryRow,
    EventMediaRow,
    EventRow,
    ScoreHistoryRow,
)
from core.events.model import Severity
from core.ids import CameraId, NodeId, night_id

__all__ = ["delete_old_events", "delete_old_history", "delete_old_media", "delete_orphans", "delete_removed"]

log = structlog.get_logger()

SLICE = 200
"""Rows that one transaction deletes: some milliseconds."""
ORPHAN_S = 86_400
"""A file that no event knows is left alone for so long: its event may still be on its way."""

Pause = Callable[[], None]
"""Called between two slices: lets others in, shows life; may raise to stop."""


def _cutoffs(config: RetentionConfig, now: datetime) -> Iterator[tuple[list[Any], datetime]]:
    """Conditions, and before when events that meet them go."""
    special = sorted(config.camera_days)
    for acknowledged in (True, False):
        read = EventRow.acknowledged_at.is_not(None) if acknowledged else EventRow.acknowledged_at.is_(None)
        for severity in Severity:
            general = config.severity_days.get(severity, config.days)
            cameras = [(EventRow.camera_id == camera, config.camera_days[camera]) for camera in special]
            for condition, days in [*cameras, (EventRow.camera_id.not_in(special), general)]:
                kept = days if acknowledged else max(days, config.unacknowledged_days)
                yield [EventRow.severity == str(severity), condition, read], now - timedelta(days=kept)


def delete_old_events(
    engine: Engine, config: RetentionConfig, media: Path, *, node_id: NodeId, now: datetime, pause: Pause
) -> int:
    """Deletes this node's events past their time, but locked ones, and then their files; returns how many."""
    gone = 0
    for conditions, before in _cutoffs(config, now):
        while True:
            with engine.begin() as connection:
                old = select(EventRow.id).where(
                    *conditions,
                    EventRow.began_at < utc_iso(before),
                    EventRow.node_id == node_id,
                    EventRow.locked.is_(False),
                )
                ids = connection.execute(old.order_by(EventRow.began_at).limit(SLICE)).scalars().all()
                if not ids:
                    break
                files = connection.execute(select(EventMediaRow.file).where(EventMediaRow.event_id.in_(ids)))
                names = files.scalars().all()
                connection.execute(delete(EventRow).where(EventRow.id.in_(ids)))
                mark_deleted(connection, "events", quarter_at(before) + 1)
            for name in names:
                _unlink(media, name)
            gone += len(ids)
            pause()
    return gone


def delete_old_media(
    engine: Engine, config: RetentionConfig, media: Path, *, node_id: NodeId, now: datetime, pause: Pause
) -> int:
    """Deletes files of this node's events: old ones, then those beyond each camera's share of the disk.

    Of too many, those of the least severe events go first, the oldest of these first. Locked events keep theirs.
    Returns how many files went; the events stay.
    """
    mine = (EventRow.node_id == node_id, EventRow.locked.is_(False))
    joined = select(EventMediaRow.event_id, EventMediaRow.kind, EventMediaRow.file, EventMediaRow.size_bytes).join(
        EventRow, EventRow.id == EventMediaRow.event_id
    )
    gone = 0
    before = utc_iso(now - timedelta(days=config.media_days))
    while True:
        with engine.connect() as connection:
            old = joined.where(*mine, EventRow.began_at < before).order_by(EventRow.began_at).limit(SLICE)
            rows = connection.execute(old).all()
        if not rows:
            break
        gone += _drop(engine, media, rows)
        pause()
    with engine.connect() as connection:
        size = select(EventRow.camera_id, func.sum(EventMediaRow.size_bytes))
        size = size.join(EventMediaRow, EventRow.id == EventMediaRow.event_id).where(EventRow.node_id == node_id)
        sizes = connection.execute(size.group_by(EventRow.camera_id)).all()
    for camera_id, used in sizes:
        over = used - round(config.camera_media_gb * 1e9)
        for severity in Severity:
            while over > 0:
                with engine.connect() as connection:
                    least = (EventRow.camera_id == camera_id, EventRow.severity == str(severity))
                    rows = connection.execute(
                        joined.where(*mine, *least).order_by(EventRow.began_at).limit(SLICE)
                    ).all()
                if not rows:
                    break
                enough: list[Any] = []
                for row in rows:
                    if over <= 0:
                        break
                    enough.append(row)
                    over -= row.size_bytes
                gone += _drop(engine, media, enough)
                pause()
        if over > 0:
            log.warning("media_over_its_share", camera_id=camera_id, over_bytes=over, reason="what is left is locked")
    return gone


def _drop(engine: Engine, media: Path, rows: list[Any] | Any) -> int:
    with engine.begin() as connection:
        for row in rows:
            connection.execute(
                delete(EventMediaRow).where(EventMediaRow.event_id == row.event_id, EventMediaRow.kind == row.kind)
            )
            if row.kind == "snapshot":
                connection.execute(update(EventRow).where(EventRow.id == row.event_id).values(snapshot=""))
    for row in rows:
        _unlink(media, row.file)
    return len(rows)


def _unlink(media: Path, name: str) -> None:
    """A file beneath the media folder, and nothing else, whatever the database says."""
    path = (media / name).resolve()
    if not path.is_relative_to(media.resolve()):
        log.error("file_outside_media", name=name)
        return
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.error("file_not_deleted", name=name, reason=error.strerror)


def delete_orphans(engine: Engine, media: Path, *, now: datetime, pause: Pause) -> int:
    """Deletes files that no event knows: what a crash between row and file left. Returns how many."""
    gone = 0
    for folder in sorted(path for path in media.iterdir() if path.is_dir()) if media.is_dir() else ():
        files = [path for path in folder.iterdir() if path.is_file()]
        for begin in range(0, len(files), SLICE):
            part = [path for path in files[begin : begin + SLICE] if now.timestamp() - _written(path) > ORPHAN_S]
            names = {f"{folder.name}/{path.name}": path for path in part}
            with engine.connect() as connection:
                query = select(EventMediaRow.file).where(EventMediaRow.file.in_(names))
                shown = select(EventRow.snapshot).where(
                    EventRow.id.in_([path.stem for path in part if _is_id(path.stem)])
                )
                known = {*connection.execute(query).scalars(), *connection.execute(shown).scalars()}
            for name in names.keys() - known:
                _unlink(media, name)
                gone += 1
            pause()
    return gone


def delete_removed(engine: Engine, config: Config, *, now: datetime, pause: Pause) -> int:
    """Deletes what cameras that are no longer there had learned, and their logs; returns how many were forgotten.

    Their events, and what was not handed over of them, stay.
    """
    with engine.connect() as connection:
        known = set(connection.execute(select(CameraRow.camera_id)).scalars())
    known |= {night_id(CameraId(camera_id)) for camera_id in known}
    gone: set[str] = set()
    for camera_id, path in _of_cameras(config):
        if camera_id in known or now.timestamp() - _touched(path) < config.retention.removed_days * 86_400:
            continue
        try:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        except OSError as error:
            log.error("file_not_deleted", name=path.name, reason=error.strerror)
            continue
        log.info("removed_camera_forgotten", camera_id=camera_id, name=path.name)
        gone.add(camera_id)
        pause()
    return len(gone)


def _of_cameras(config: Config) -> Iterator[tuple[str, Path]]:
    """Files and folders that belong to one camera each."""
    for path in config.states_dir.glob("*/*/"):
        yield path.name, path
    for path in (config.data_dir / "promises").glob("*.*"):
        if path.suffix in {".json", ".colour"}:
            yield path.stem, path
    for path in config.logs_dir.glob("camera-*.log*"):
        yield path.name.removeprefix("camera-").partition(".")[0], path


def _touched(path: Path) -> float:
    """When anything in it was written last."""
    inside = path.iterdir() if path.is_dir() else ()
    return max((_written(one) for one in (path, *inside)), default=0.0)


def _is_id(stem: str) -> bool:
    return len(stem) == 36 and stem.count("-") == 4


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return float("inf")


def delete_old_history(engine: Engine, config: RetentionConfig, *, now: datetime, pause: Pause) -> dict[str, int]:
    """Thins and deletes scores; deletes old phases of cameras, deliveries and audit lines; returns how many."""
    minute = int(now.timestamp()) // 60
    row = ScoreHistoryRow
    gone = {"thinned": 0, "scores": 0, "states": 0, "deliveries": 0, "audit": 0}
    thin = minute - config.score_seconds_days * 1440
    while True:  # a minute of all cameras at a time, the oldest first
        with engine.begin() as connection:
            oldest = select(row.minute).where(row.minute < thin, row.seconds.is_not(None)).order_by(row.minute).limit(1)
            first = connection.execute(oldest).scalar()
            if first is None:
                break
            some = (row.minute >= first, row.minute < min(thin, first + 10), row.seconds.is_not(None))
            gone["thinned"] += connection.execute(update(row).where(*some).values(seconds=None)).rowcount
        pause()
    drop = minute - config.score_minutes_days * 1440
    while True:
        with engine.begin() as connection:
            first = connection.execute(select(func.min(row.minute))).scalar()
            if first is None or first >= drop:
                break
            upto = min(drop, first + 10)
            gone["scores"] += connection.execute(delete(row).where(row.minute < upto)).rowcount
            mark_deleted(connection, "scores", upto // 15 + 1)
        pause()
    for name, table, days in (
        ("states", CameraStateRow, config.state_days),
        ("deliveries", DeliveryRow, config.state_days),
        ("audit", AuditRow, config.audit_days),
    ):
        gone[name] = _delete_before(engine, table, utc_iso(now - timedelta(days=days)), pause)
    return gone


def _delete_before(engine: Engine, row: Any, before: str, pause: Pause) -> int:
    gone = 0
    while True:
        with engine.begin() as connection:
            ids = (
                connection.execute(select(row.id).where(row.at < before).order_by(row.at).limit(SLICE)).scalars().all()
            )
            if not ids:
                return gone
            connection.execute(delete(row).where(row.id.in_(ids)))
        gone += len(ids)
        pause()
