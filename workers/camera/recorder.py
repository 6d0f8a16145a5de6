"""What a camera keeps of what it saw: events with their pictures and descriptions, and the sheet of scores."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import structlog

from core.cameras import Zone
from core.cameras.job import CameraJob
from core.clock import utc_iso
from core.config import Config
from core.errors import FrameGone, HaetaeError
from core.events import AnomalyEvent, EventMedia, EventState, EventStep
from core.events.outbox import EventOutbox
from core.frames import RingSet
from core.wire.messages import AnalyzeReply, AnalyzeRequest, ErrorReply, ScoreReply
from core.wire.rpc import RequestClient
from workers.camera.capture import Captured
from workers.camera.clips import ClipRecorder, Made
from workers.camera.pictures import AnnotatedVideo, draw_heat_map, draw_score, heat_map, save_picture
from workers.camera.pixels import to_bgr
from workers.camera.sources import SourceInfo

__all__ = ["EventRecorder", "ScoreSheet"]

log = structlog.get_logger()


class ScoreSheet:
    """The score and time of each frame of an input, in order."""

    def __init__(self) -> None:
        self._score: list[float] = []
        self._time_s: list[float] = []

    def add(self, time_s: float, score: float | None) -> None:
        """`score` None: there was none yet."""
        self._time_s.append(time_s)
        self._score.append(float("nan") if score is None else score)

    def save(self, path: str) -> None:
        """Writes `score` and `time_s` (N,) float64; frames before the first valid score get that one, or 0."""
        score = np.array(self._score, np.float64)
        valid = np.flatnonzero(np.isfinite(score))
        score[: valid[0] if valid.size else None] = score[valid[0]] if valid.size else 0.0
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(path, score=score, time_s=np.array(self._time_s, np.float64))
        except OSError as error:
            raise HaetaeError(f"cannot write {path}: {error.strerror}") from error


class _Kept(msgspec.Struct):
    """An event that may still change: its latest revision, and whether its analysis is awaited."""

    event: AnomalyEvent
    drawn_score: float = -1.0
    clip_awaited: bool = False


class EventRecorder:
    """Numbers, pictures, describes and sends the events of one camera.

    Whatever fails here (a full disk, no analysis in time) leaves the event itself alone.
    """

    def __init__(
        self,
        config: Config,
        job: CameraJob,
        info: SourceInfo | None,
        inference: RequestClient,
        outbox: EventOutbox,
        clips: ClipRecorder | None = None,
    ) -> None:
        """`info` is needed where the job wants annotated video."""
        self._config, self._job = config, job
        self._inference, self._outbox, self._clips = inference, outbox, clips
        self._kept: dict[str, _Kept] = {}
        self._analyses: dict[int, str] = {}
        self._rings = RingSet(config.run_dir)
        self._peak: tuple[np.ndarray, ScoreReply] | None = None
        self._video: AnnotatedVideo | None = None
        if job.annotated and info:
            self._video = AnnotatedVideo(Path(job.annotated), info.width, info.height, info.fps or 25.0)
        self.event_ids: list[str] = []

    # ---- pictures

    def look(self, captured: Captured, reply: ScoreReply, *, raised: bool) -> None:
        """Keeps the picture of the highest score while something goes on."""
        if not raised:
            self._peak = None
        elif self._peak is None or reply.score > self._peak[1].score:
            pixels = self._pixels(captured)
            if pixels is not None:
                self._peak = (pixels, reply)

    def _pixels(self, captured: Captured) -> np.ndarray | None:
        try:
            with self._rings.read(captured.main) as frame:
                return frame.pixels.copy()
        except FrameGone:
            return None

    def annotate(self, captured: Captured, reply: ScoreReply | None, *, alarm: bool) -> None:
        """Adds the frame to the annotated video, if there is to be one."""
        if self._video is None:
            return
        pixels = self._pixels(captured)
        if pixels is None:
            return
        picture = to_bgr(pixels)
        if reply:
            draw_heat_map(picture, reply)
        score = reply.score if reply else 0.0
        text = f"{captured.media_s:7.2f} s  {score:5.2f}" + (f"  {reply.reason}" if reply and alarm else "")
        draw_score(picture, score, text, alarm=alarm)
        self._video.add(picture, captured.media_s)

    def _draw_snapshot(self, kept: _Kept, event: AnomalyEvent) -> AnomalyEvent:
        """The event with its snapshot drawn anew, where something more unusual was seen than the last one shows."""
        if self._peak is None or self._peak[1].score <= kept.drawn_score:
            return event
        pixels, reply = self._peak
        picture = to_bgr(pixels)
        stem = f"{kept.event.camera_id}/{kept.event.id}"
        media = [one for one in event.media if one.kind == "clip"]
        try:
            media.append(self._save("clean", f"{stem}.clean.jpg", picture))
            media.append(self._save("heatmap", f"{stem}.heat.png", heat_map(reply)))
            draw_heat_map(picture, reply)
            draw_score(picture, reply.score, f"{kept.event.began_at}  {reply.score:.1f}  {reply.reason}", alarm=True)
            snapshot = self._save("snapshot", f"{stem}.jpg", picture)
        except HaetaeError as error:
            log.error("snapshot_not_written", event_id=kept.event.id, reason=str(error))
            return event
        kept.drawn_score = reply.score
        return msgspec.structs.replace(event, snapshot=snapshot.file, media=(snapshot, *media))

    def _save(self, kind: str, name: str, picture: np.ndarray) -> EventMedia:
        sha256, size = save_picture(self._config.media_dir / name, picture)
        return EventMedia(kind=kind, file=name, sha256=sha256, size_bytes=size)

    # ---- events

    def publish(self, event: AnomalyEvent, now_s: float = 0.0, zones: Sequence[Zone] = ()) -> None:
        """Sends the tracker's event as its next revision, with what is known of it beside.

        `now_s` is the source's time now; `zones` are those in which it was seen.
        """
        kept = self._kept.get(event.id)
        if kept is None:
            kept = self._kept[event.id] = _Kept(event)
            self.event_ids.append(event.id)
        else:
            before = kept.event
            event = msgspec.structs.replace(
                event,
                revision=before.revision,
                vlm_type=before.vlm_type,
                snapshot=before.snapshot,
                media=before.media,
                steps=before.steps,
            )
            if before.source:
                event = msgspec.structs.replace(
                    event, description=before.description, source=before.source, severity=before.severity
                )
        opened = event.revision == 0
        if self._clips:
            ago_s = time.monotonic() - now_s
            if opened:
                kept.clip_awaited = self._clips.start(event.id, event.begin_s + ago_s)
            if event.state is EventState.CLOSED:
                self._clips.stop(event.id, event.end_s + ago_s)
        self._send(kept, self._draw_snapshot(kept, event))
        if opened or event.state is EventState.CLOSED:
            self._ask_analysis(kept.event, zones)

    def _send(self, kept: _Kept, event: AnomalyEvent) -> None:
        kept.event = msgspec.structs.replace(event, revision=event.revision + 1)
        self._outbox.log_event(kept.event)

    def add_clip(self, made: Made) -> None:
        """A clip was written, or will not be."""
        kept = self._kept.get(made.event_id)
        if kept is None:
            return
        kept.clip_awaited = False
        if made.media:
            self._send(kept, msgspec.structs.replace(kept.event, media=(*kept.event.media, made.media)))
        self._forget_finished(kept)

    def _forget_finished(self, kept: _Kept) -> None:
        event = kept.event
        if event.state is EventState.CLOSED and not kept.clip_awaited and event.id not in self._analyses.values():
            del self._kept[event.id]

    def _ask_analysis(self, event: AnomalyEvent, zones: Sequence[Zone]) -> None:
        evidence = {"duration_s": event.end_s - event.begin_s, "peak_score": event.peak_score}
        for zone in zones:
            evidence[f"in_zone_{zone.name}"] = 1.0
            if zone.direction is not None:
                evidence[f"right_way_{zone.name}_deg"] = zone.direction
        request = AnalyzeRequest(event=event, evidence=evidence)
        request_id = self._inference.send(request, self._config.inference.analyze_timeout_s)
        self._analyses[request_id] = event.id

    def on_reply(self, request_id: int, reply: Any) -> None:
        """An analysis that came, or failed: the event is amended, never hidden or made less of."""
        kept = self._kept.get(self._analyses.pop(request_id, ""))
        if kept is None:
            return
        now = utc_iso(datetime.now(UTC))
        if isinstance(reply, AnalyzeReply):
            steps = tuple(_step(line, now) for line in reply.steps)
            amended = msgspec.structs.replace(
                kept.event,
                vlm_type=reply.vlm_type,
                description=reply.description,
                severity=reply.severity,
                source=reply.source,
                steps=(*kept.event.steps, *steps),
            )
        else:
            missing = _step(f"analyse: none came ({reply.code}): described by what was measured", now)
            amended = msgspec.structs.replace(
                kept.event, description=kept.event.reason, source="fallback", steps=(*kept.event.steps, missing)
            )
        self._send(kept, amended)
        self._forget_finished(kept)

    def finish(self, timeout_s: float) -> None:
        """Waits up to `timeout_s` for the analyses that are still out; then does without them."""
        give_up = time.monotonic() + timeout_s
        while self._analyses and time.monotonic() < give_up:
            for request_id, reply in self._inference.receive(0.2):
                self.on_reply(request_id, reply)
        for request_id in list(self._analyses):
            self.on_reply(request_id, ErrorReply(code="timeout", message="the camera stopped"))

    def close(self) -> None:
        self._rings.close()
        if self._video:
            self._video.close()


def _step(line: str, at: str) -> EventStep:
    """A line of a flow's audit trail, "what: how it went", as a step."""
    kind, _, said = line.partition(": ")
    return EventStep(kind=kind[:32] if said else "flow", at=at, text=said or line)
