"""From a line of the outbox to a message: the event as it is now, in words, with its picture."""

from typing import cast

import msgspec
from sqlalchemy import Connection, Engine, select

from core.config import Config
from core.db.events import get_detail
from core.db.outbox import Outcome, Queued, told_before
from core.db.tables import CameraRow
from core.events import AnomalyEvent
from core.ids import CameraId
from core.notifications.dry_run import load_site
from core.notifications.model import Language, Occasion, State
from core.notifications.rules import verdict_of
from workers.notifier.channels.base import Message
from workers.notifier.texts import Words

__all__ = ["Composer", "Ready", "shrink"]

STEPS = (1.0, 0.75, 0.5, 0.35, 0.25, 0.15)
"""Sizes at which a picture that is too large is tried."""
QUALITY = 80


class Ready(msgspec.Struct, frozen=True):
    """A message that is to be sent now, and the verdict that it tells."""

    queued: Queued
    message: Message
    told: str


class Composer:
    """Reads what messages need; blocks."""

    def __init__(self, config: Config, reader: Engine) -> None:
        self._config, self._reader = config, reader
        self._time_zone = load_site(reader, config).time_zone

    def compose(self, queued: Queued, *, picture: bool) -> Ready | Outcome:
        """The message; or that it is dropped, where what it would have told is over, or was told already."""
        notice = queued.notice
        language: Language = notice.language or self._config.notifier.language
        words = Words(language, self._time_zone)
        event: AnomalyEvent | None = None
        acknowledged = False
        if queued.event_id:
            detail = get_detail(self._reader, queued.event_id)
            if detail is None:
                return _dropped(queued)
            event = detail.stored.event
            acknowledged = detail.stored.acknowledged_at is not None
        with self._reader.connect() as connection:
            if event and self._is_moot(connection, queued, event, acknowledged=acknowledged):
                return _dropped(queued)
            camera_id = event.camera_id if event else notice.camera_id
            camera = _camera_name(connection, camera_id)
            listed = self._listed(connection, queued)
        link = self._link(f"/events/{event.id}" if event else "")
        values = words.values(notice, camera, event, link)
        if notice.occasion is Occasion.DIGEST:
            text = words.digest_lines(notice, listed)
        else:
            text = words.text(notice, values, event, acknowledged=acknowledged)
        message = Message(
            id=queued.id,
            occasion=notice.occasion,
            priority=queued.priority,
            created_at=queued.created_at,
            language=language,
            subject=words.subject(notice, values),
            text=text,
            link=link,
            rule_id=queued.rule_id,
            rule_name=notice.rule_name,
            camera_id=camera_id,
            camera_name=camera,
            event_id=event.id if event else None,
            event=event,
            acknowledged=acknowledged,
            similar=notice.similar,
            count=notice.count,
            health=notice.health,
            snapshot=self.picture(event.snapshot) if picture and event else None,
            targets=queued.targets,
        )
        return Ready(queued, message, verdict_of(event) if event else "")

    def _is_moot(self, connection: Connection, queued: Queued, event: AnomalyEvent, *, acknowledged: bool) -> bool:
        if queued.occasion is Occasion.ESCALATION:
            return acknowledged
        return queued.occasion is Occasion.UPDATE and told_before(connection, queued) in {None, verdict_of(event)}

    def _listed(self, connection: Connection, queued: Queued) -> list[tuple[str, AnomalyEvent]]:
        found: list[tuple[str, AnomalyEvent]] = []
        for event_id in queued.notice.events:
            detail = get_detail(self._reader, event_id)
            if detail:
                event = detail.stored.event
                found.append((_camera_name(connection, event.camera_id), event))
        return found

    def _link(self, path: str) -> str:
        url = self._config.notifier.public_url
        return f"{url}{path}" if url else ""

    def picture(self, name: str) -> bytes | None:
        """A picture of the media folder, small enough to be sent; None where there is none on this machine."""
        if not name:
            return None
        media = self._config.media_dir.resolve()
        path = (media / name).resolve()
        try:
            data = path.read_bytes() if path.is_relative_to(media) else b""
        except OSError:
            return None
        return shrink(data, self._config.notifier.snapshot_kb * 1000) if data else None


def shrink(data: bytes, limit: int) -> bytes | None:
    """A JPEG of `limit` bytes at most; None for what is no picture, or cannot be made so small."""
    if len(data) <= limit:
        return data
    import cv2  # noqa: PLC0415 - only large pictures need it
    import numpy as np  # noqa: PLC0415

    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        return None
    for scale in STEPS:
        small = picture if scale == 1 else cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        done, encoded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        if done and encoded.size <= limit:
            return encoded.tobytes()
    return None


def _dropped(queued: Queued) -> Outcome:
    return Outcome(outbox_id=queued.id, state=State.DROPPED)


def _camera_name(connection: Connection, camera_id: CameraId | None) -> str:
    if camera_id is None:
        return ""
    found = connection.execute(select(CameraRow.name).where(CameraRow.camera_id == camera_id)).scalar()
    return cast("str | None", found) or camera_id
