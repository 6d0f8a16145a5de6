"""From a line of the outbox to a message: the event as it is now, in words, with its picture."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager

import msgspec
from sqlalchemy import Connection, Engine, select

from core.config import Config
from core.db.events import StoredEvent, find_analyses, find_events
from core.db.outbox import Outcome, Queued, told_before
from core.db.tables import CameraRow
from core.events import Analysis, AnomalyEvent
from core.ids import CameraId, EventId
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


class Known(msgspec.Struct, frozen=True):
    """What is known of the events and cameras of some messages."""

    connection: Connection
    events: Mapping[EventId, StoredEvent]
    analyses: Mapping[EventId, Analysis]
    names: Mapping[CameraId, str]

    def camera(self, camera_id: CameraId | None) -> str:
        """Its name; "" for none."""
        return (self.names.get(camera_id) or camera_id) if camera_id else ""


class Composer:
    """Reads what messages need; blocks."""

    def __init__(self, config: Config, reader: Engine) -> None:
        self._config, self._reader = config, reader
        self._time_zone = load_site(reader, config).time_zone

    @contextmanager
    def reading(self, messages: Sequence[Queued]) -> Generator["Known"]:
        """What these messages tell of, as it is now: read at once, whatever their number."""
        ids = {one.event_id for one in messages if one.event_id}
        ids.update(event_id for one in messages for event_id in one.notice.events)
        with self._reader.connect() as connection:
            events = find_events(connection, ids)
            analyses = find_analyses(connection, ids)
            cameras = {stored.event.camera_id for stored in events.values()}
            cameras.update(one.notice.camera_id for one in messages if one.notice.camera_id)
            query = select(CameraRow.camera_id, CameraRow.name).where(CameraRow.camera_id.in_(cameras))
            names = {CameraId(camera_id): name for camera_id, name in connection.execute(query)}
            yield Known(connection, events, analyses, names)

    def compose(self, known: "Known", queued: Queued, *, picture: bool) -> Ready | Outcome:
        """The message; or that it is dropped, where what it would have told is over, or was told already."""
        notice = queued.notice
        language: Language = notice.language or self._config.notifier.language
        words = Words(language, self._time_zone)
        event: AnomalyEvent | None = None
        acknowledged = False
        if queued.event_id:
            stored = known.events.get(queued.event_id)
            if stored is None:
                return _dropped(queued)
            event = msgspec.structs.replace(stored.event, analysis=known.analyses.get(queued.event_id))
            acknowledged = stored.acknowledged_at is not None
        if event and self._is_moot(known.connection, queued, event, acknowledged=acknowledged):
            return _dropped(queued)
        camera_id = event.camera_id if event else notice.camera_id
        camera = known.camera(camera_id)
        link = self._link(f"/events/{event.id}" if event else "")
        values = words.values(notice, camera, event, link)
        if notice.occasion is Occasion.DIGEST:
            listed = [known.events[one].event for one in notice.events if one in known.events]
            text = words.digest_lines(notice, [(known.camera(one.camera_id), one) for one in listed])
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
