"""What a camera keeps of what it saw: events with their pictures and descriptions, and the sheet of scores."""

import time
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import structlog

from core.cameras import Zone, ZoneKind
from core.cameras.job import CameraJob
from core.clock import utc_iso
from core.config import Config
from core.errors import FrameGone, HaetaeError
from core.events import AnalysisStatus, AnomalyEvent, EventMedia, EventState, EventStep, Severity, VlmType
from core.events.evidence import Earlier, Evidence, FrameRole, KeyFrame
from core.events.outbox import EventOutbox
from core.frames import RingSet, fit_size
from core.wire.messages import AnalyzeReply, AnalyzeRequest, ErrorReply, ScoreReply
from core.wire.rpc import RequestClient
from workers.camera.capture import Captured
from workers.camera.clips import ClipRecorder, Made
from workers.camera.key_frames import LONG_SIDE, KeyFrames, crop_of, shown
from workers.camera.pictures import AnnotatedVideo, draw_heat_map, draw_score, heat_map, save_bytes, save_picture
from workers.camera.pixels import planes, scale_i420, to_bgr
from workers.camera.scene import SceneMeter
from workers.camera.sources import SourceInfo
from workers.camera.turning import Turned, TurnStep

__all__ = ["EventRecorder", "ScoreSheet"]

log = structlog.get_logger()


AGAIN_S = 30.0
"""An event that goes on is judged again after so long, or once it is so much more unusual:"""
AGAIN_TIMES = 1.25
FRESH = timedelta(seconds=10)
"""A camera is turned for what was over no longer ago."""
MOST_STEPS = 200
"""Of an event's audit trail; of more, the oldest go."""
EARLIER = 8
"""Events that are remembered, to be told with the next."""
TURNED_DONE = {TurnStep.BACK, TurnStep.STAYS}
"""After which nothing more comes of a turn."""
_RANKS = list(Severity)


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
    asked_s: float = 0.0
    """When it was last asked what it is; source's time."""
    asked_score: float = 0.0
    again_s: float = 0.0
    """When a flow wants to look once more (monotonic); 0 where it does not."""
    looked_again: bool = False
    fault: str = ""
    """What the event was raised for, where that is the camera's view and not what was seen in it."""
    turned: TurnStep | None = None
    """What has become of the turn for it so far, where the camera is turned for it."""


class TurnWish(msgspec.Struct, frozen=True):
    """A flow wants the camera to be turned to a preset for so long."""

    event_id: str
    preset: str
    hold_s: float


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
        self._meter = SceneMeter()
        self._key_frames = KeyFrames()
        self._zones: list[Zone] = []
        self._earlier: deque[tuple[AnomalyEvent, VlmType]] = deque(maxlen=EARLIER)
        self._time_zone = ZoneInfo(config.site.time_zone)
        self._peak: tuple[np.ndarray, ScoreReply] | None = None
        self.may_turn = False
        """Whether the camera can be turned now."""
        self._turns: list[TurnWish] = []
        self._video: AnnotatedVideo | None = None
        if job.annotated and info:
            self._video = AnnotatedVideo(Path(job.annotated), info.width, info.height, info.fps or 25.0)
        self.event_ids: list[str] = []

    def take_over(self, job: CameraJob) -> None:
        """Goes on with other settings of the camera."""
        self._job = job

    # ---- pictures

    def measure(self, captured: Captured, zones: list[Zone]) -> None:
        """Looks at what moves in an analysed picture; `zones` hold now."""
        self._zones = zones
        pixels = self._pixels(captured, analysed=True)
        if pixels is None:
            return
        self._meter.look(pixels, captured.source_s, zones)

    def look(self, captured: Captured, reply: ScoreReply, *, raised: bool) -> None:
        """Keeps the picture of the highest score while something goes on."""
        analysed = self._pixels(captured, analysed=True)
        if raised and not self._meter.is_open:
            self._meter.begin()
        elif not raised:
            self._meter.end()
        if analysed is not None and raised:
            self._key_frames.goes_on(analysed, captured.media_s, reply.score)
        elif analysed is not None:
            self._key_frames.quiet(analysed, captured.media_s)
        if not raised:
            self._peak = None
        elif self._peak is None or reply.score > self._peak[1].score:
            pixels = self._pixels(captured)
            if pixels is not None:
                self._peak = (pixels, reply)

    def _pixels(self, captured: Captured, *, analysed: bool = False) -> np.ndarray | None:
        """A copy; None where it was overwritten."""
        ref = captured.analysis if analysed else captured.main
        try:
            if ref:
                with self._rings.read(ref) as frame:
                    return frame.pixels.copy()
        except FrameGone:
            pass
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

    def blinded(self, captured: Captured, event: AnomalyEvent, fault: str) -> None:
        """Publishes an event of the camera's own view: its pictures are what little there is to see."""
        self._meter.end()
        pixels = self._pixels(captured)
        kept = self._kept.get(event.id)
        if kept is None:
            kept = self._kept[event.id] = _Kept(event, fault=fault)
            self.event_ids.append(event.id)
            self._key_frames.begin()
        if pixels is not None:
            size = fit_size(captured.width, captured.height, LONG_SIDE, LONG_SIDE)
            reduced = np.empty((size[1] * 3 // 2, size[0]), np.uint8)
            scale_i420(planes(pixels), reduced)
            self._key_frames.goes_on(reduced, captured.media_s, 0.0)
        self.publish(event, captured.media_s)
        if pixels is not None and not kept.event.snapshot:
            self._send(kept, self._drawn_blind(kept.event, pixels))

    def _drawn_blind(self, event: AnomalyEvent, pixels: np.ndarray) -> AnomalyEvent:
        stem = f"{event.camera_id}/{event.id}"
        picture = to_bgr(pixels)
        try:
            clean = self._save("clean", f"{stem}.clean.jpg", picture)
            draw_score(picture, event.peak_score, f"{event.began_at}  {event.reason}", alarm=True)
            snapshot = self._save("snapshot", f"{stem}.jpg", picture)
        except HaetaeError as error:
            log.error("snapshot_not_written", event_id=event.id, reason=str(error))
            return event
        return msgspec.structs.replace(event, snapshot=snapshot.file, media=(snapshot, clean, *event.media))

    def _draw_snapshot(self, kept: _Kept, event: AnomalyEvent) -> AnomalyEvent:
        """The event with its snapshot drawn anew, where something more unusual was seen than the last one shows."""
        if kept.fault or self._peak is None or self._peak[1].score <= kept.drawn_score:
            return event
        pixels, reply = self._peak
        picture = to_bgr(pixels)
        stem = f"{kept.event.camera_id}/{kept.event.id}"
        media = [one for one in event.media if one.kind in {"clip", "turned"}]
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
        elif kept.event is not event:
            before = kept.event
            event = msgspec.structs.replace(
                event,
                revision=before.revision,
                vlm_type=before.vlm_type,
                snapshot=before.snapshot,
                media=before.media,
                steps=before.steps,
                analysis=before.analysis,
            )
            if before.source:
                event = msgspec.structs.replace(
                    event,
                    description=before.description,
                    source=before.source,
                    severity=_worse(before.severity, event.severity),
                )
        opened = event.revision == 0
        if self._clips:
            ago_s = time.monotonic() - now_s
            if opened:
                kept.clip_awaited = self._clips.start(event.id, event.begin_s + ago_s)
            if event.state is EventState.CLOSED:
                self._clips.stop(event.id, event.end_s + ago_s)
        self._send(kept, self._draw_snapshot(kept, event))
        risen = event.peak_score > AGAIN_TIMES * kept.asked_score or event.end_s - kept.asked_s >= AGAIN_S
        if opened or event.state is EventState.CLOSED or risen:
            self._ask_analysis(kept, zones)

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
        turned = kept.turned and kept.turned not in TURNED_DONE
        awaited = kept.clip_awaited or turned or kept.again_s or event.id in self._analyses.values()
        if event.state is EventState.CLOSED and not awaited:
            del self._kept[event.id]

    # ---- what it is

    def _ask_analysis(self, kept: _Kept, zones: Sequence[Zone], attempt: int = 0) -> None:
        evidence = self._evidence(kept, zones)
        kept.asked_s, kept.asked_score = kept.event.end_s, kept.event.peak_score
        slim = msgspec.structs.replace(kept.event, steps=(), media=(), path=())
        request = AnalyzeRequest(event=slim, evidence=evidence, flow=self._job.camera.settings.flow, attempt=attempt)
        request_id = self._inference.send(request, self._config.vlm.hard_s)
        self._analyses[request_id] = kept.event.id

    def _evidence(self, kept: _Kept, zones: Sequence[Zone]) -> Evidence:
        """What was measured, and the key frames, which become files of the event; what cannot be written is missing."""
        event, settings = kept.event, self._job.camera.settings
        seen = {zone.name: zone for zone in (*zones, *self._zones)}
        window = self._meter.window(list(seen.values()))
        began = datetime.fromisoformat(event.began_at)
        local = began.astimezone(self._time_zone)
        evidence = Evidence(
            duration_s=round(event.end_s - event.begin_s, 3),
            fault=kept.fault,
            fault_s=round(event.end_s - event.begin_s, 3) if kept.fault else 0.0,
            scene=window.scene,
            tracks=window.tracks,
            zones=window.zones,
            earlier=tuple(_earlier(one, kind, began) for one, kind in reversed(self._earlier) if one.id != event.id),
            local_time=f"{local:%A %H:%M}",
            armed=any(zone.kind is ZoneKind.DETECT and zone.schedule for zone in seen.values()),
            normal_here=settings.normal_here,
            dwell_limit_s=settings.dwell_s,
            crowd_limit=settings.crowd,
            ptz_preset=settings.ptz_preset if self.may_turn else "",
            ptz_hold_s=settings.ptz_hold_s,
        )
        try:
            evidence = msgspec.structs.replace(evidence, frames=self._save_key_frames(kept))
            sha256, size = save_bytes(
                self._config.media_dir / f"{event.camera_id}/{event.id}.evidence.json", msgspec.json.encode(evidence)
            )
        except HaetaeError as error:
            log.error("evidence_not_written", event_id=event.id, reason=str(error))
            return evidence
        file = f"{event.camera_id}/{event.id}.evidence.json"
        made = [EventMedia(kind="evidence", file=file, sha256=sha256, size_bytes=size)]
        made += [
            EventMedia(kind=f"key{number}", file=one.file, sha256=one.sha256, size_bytes=self._size(one.file))
            for number, one in enumerate(evidence.frames, 1)
        ]
        others = [one for one in event.media if not one.kind.startswith(("key", "evidence"))]
        kept.event = msgspec.structs.replace(event, media=(*others, *made))
        return evidence

    def _size(self, file: str) -> int:
        return (self._config.media_dir / file).stat().st_size

    def _save_key_frames(self, kept: _Kept) -> tuple[KeyFrame, ...]:
        event = kept.event
        chosen = self._key_frames.chosen(over=event.state is EventState.CLOSED)
        pictures = [(one.role, one.media_s, shown(one.pixels)) for one in chosen]
        if self._peak is not None and event.frame_width and not kept.fault:
            box = self._meter.box_near(event.peak_x / event.frame_width, event.peak_y / event.frame_height)
            crop = crop_of(self._peak[0], box) if box else None
            if crop is not None:
                pictures.append((FrameRole.CROP, event.peak_s, crop))
        frames: list[KeyFrame] = []
        for number, (role, media_s, picture) in enumerate(pictures[:8], 1):
            name = f"{event.camera_id}/{event.id}.key{number}.jpg"
            sha256, _ = save_picture(self._config.media_dir / name, picture, 80)
            frames.append(
                KeyFrame(
                    role=role,
                    at_s=round(media_s - event.begin_s, 2),
                    file=name,
                    sha256=sha256,
                    width=picture.shape[1],
                    height=picture.shape[0],
                )
            )
        return tuple(frames)

    def on_reply(self, request_id: int, reply: Any) -> None:
        """An analysis that came, or failed: the event is amended, never hidden or made less of."""
        kept = self._kept.get(self._analyses.pop(request_id, ""))
        if kept is None:
            return
        if isinstance(reply, AnalyzeReply):
            self._send(kept, _amended(kept.event, reply))
            if reply.recheck_s and not kept.looked_again:
                kept.again_s = time.monotonic() + reply.recheck_s
            if reply.turn_to and not kept.turned and _is_fresh(kept.event):
                kept.turned = TurnStep.ASKED
                self._turns.append(TurnWish(kept.event.id, reply.turn_to, reply.turn_s))
        else:
            text = f"none came ({reply.code}): described by what was measured"
            missing = EventStep(kind="analysis", at=utc_iso(datetime.now(UTC)), text=text, data={"error": reply.code})
            event = kept.event
            if not event.source:
                event = msgspec.structs.replace(event, description=event.reason, source="fallback")
            self._send(kept, msgspec.structs.replace(event, steps=(*event.steps, missing)))
        self._remember(kept.event)
        self._forget_finished(kept)

    def take_turn(self) -> TurnWish | None:
        """What a flow wants the camera to be turned to, once."""
        return self._turns.pop() if self._turns else None

    def note_turn(self, turned: Turned, captured: Captured | None) -> None:
        """Writes beside an event what became of the turn for it, with the picture `captured` where it is the last."""
        kept = self._kept.get(turned.event_id)
        if kept is None or kept.turned is turned.step:
            return  # it is stuck as before
        kept.turned = turned.step
        event = kept.event
        at = utc_iso(datetime.now(UTC))
        step = EventStep(kind="action", at=at, text=f"ptz: {turned.text}", data={"action": "ptz", "step": turned.step})
        event = msgspec.structs.replace(event, steps=(*event.steps, step)[-MOST_STEPS:])
        pixels = self._pixels(captured) if captured and turned.step is TurnStep.LEAVES else None
        if pixels is not None:
            try:
                seen = self._save("turned", f"{event.camera_id}/{event.id}.turned.jpg", to_bgr(pixels))
                event = msgspec.structs.replace(event, media=(*event.media, seen))
            except HaetaeError as error:
                log.error("snapshot_not_written", event_id=event.id, reason=str(error))
        self._send(kept, event)
        self._forget_finished(kept)

    def look_again(self) -> None:
        """Asks once more where a flow wanted to, and it is time; to be called often."""
        now_s = time.monotonic()
        for kept in list(self._kept.values()):
            if kept.again_s and now_s >= kept.again_s:
                kept.again_s, kept.looked_again = 0.0, True
                self._ask_analysis(kept, (), attempt=1)

    def _remember(self, event: AnomalyEvent) -> None:
        kind = event.analysis.vlm_type if event.analysis else VlmType.UNUSUAL_MOTION
        others = [one for one in self._earlier if one[0].id != event.id]
        self._earlier = deque([*others, (event, kind)], maxlen=EARLIER)

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


def _amended(event: AnomalyEvent, reply: AnalyzeReply) -> AnomalyEvent:
    """The event with an analysis. What an engine saw is not replaced by its stand-in; severity only grows."""
    before, found = event.analysis, reply.analysis
    stays = before is not None and before.status is AnalysisStatus.OK and found.status is not AnalysisStatus.OK
    known = before if stays and before else found
    return msgspec.structs.replace(
        event,
        analysis=known,
        vlm_type=str(known.vlm_type),
        description=known.description,
        severity=_worse(event.severity, reply.severity) if event.source else reply.severity,
        source=known.source,
        steps=(*event.steps, *reply.steps)[-MOST_STEPS:],
    )


def _is_fresh(event: AnomalyEvent) -> bool:
    """Whether it goes on, or was over just now."""
    return not event.ended_at or datetime.now(UTC) - datetime.fromisoformat(event.ended_at) <= FRESH


def _worse(one: Severity, other: Severity) -> Severity:
    return max(one, other, key=_RANKS.index)


def _earlier(event: AnomalyEvent, kind: VlmType, began: datetime) -> Earlier:
    return Earlier(
        ago_s=max(0.0, round((began - datetime.fromisoformat(event.began_at)).total_seconds(), 1)),
        vlm_type=kind,
        x=round(event.peak_x / max(event.frame_width, 1), 3),
        y=round(event.peak_y / max(event.frame_height, 1), 3),
    )
