"""Tampering: from "the camera does not see" to an event of its own; pure."""

from datetime import UTC, datetime, timedelta

import msgspec

from core.cameras.model import Fault
from core.clock import utc_iso
from core.events import AnomalyEvent, EventState, Severity, VlmType
from core.ids import CameraId, EventId, NodeId, uuid7

__all__ = ["Tampering"]


class Tampering:
    """Of one camera. While a fault of these kinds goes on there is one event, whatever it turns into meanwhile.

    Nothing was scored: the event has the score at which events open, and its severity is that of tampering.
    """

    def __init__(
        self, faults: tuple[Fault, ...], *, camera_id: CameraId, node_id: NodeId, vad_type: str, score: float
    ) -> None:
        self.faults = frozenset(faults)
        self._camera_id, self._node_id, self._vad_type, self._score = camera_id, node_id, vad_type, score
        self._event: AnomalyEvent | None = None
        self.fault: Fault | None = None
        """What it was called for."""

    @property
    def is_open(self) -> bool:
        return self._event is not None

    def see(
        self,
        fault: Fault | None,
        reason: str,
        media_s: float,
        at: datetime,
        size: tuple[int, int],
        *,
        suspected_s: float = 0.0,
        version: int = 0,
        provisional: bool = False,
    ) -> AnomalyEvent | None:
        """What the camera's sight found at a moment: an event that opens, or closes; None where nothing changes.

        `suspected_s` is how long it had looked so before it was called a fault; `size` is the picture's.
        """
        if self._event is None and fault in self.faults:
            begin_s = max(0.0, media_s - suspected_s)
            began = utc_iso(at - timedelta(seconds=media_s - begin_s))
            self.fault = fault
            self._event = AnomalyEvent(
                id=EventId(str(uuid7())),
                revision=0,
                camera_id=self._camera_id,
                node_id=self._node_id,
                state=EventState.OPEN,
                began_at=began,
                ended_at=None,
                begin_s=begin_s,
                end_s=media_s,
                peak_score=self._score,
                peak_at=utc_iso(at.astimezone(UTC)),
                peak_s=media_s,
                peak_x=size[0] / 2,
                peak_y=size[1] / 2,
                frame_width=size[0],
                frame_height=size[1],
                vad_type=self._vad_type,
                state_version=version,
                provisional=provisional,
                severity=Severity.MEDIUM,
                reason=reason,
                vlm_type=str(VlmType.TAMPER),
            )
            return self._event
        if self._event is not None and fault not in self.faults:
            return self.finish(media_s, at)
        return None

    def finish(self, media_s: float, at: datetime) -> AnomalyEvent | None:
        """The end of the event that is open, if one is."""
        if self._event is None:
            return None
        closed = msgspec.structs.replace(
            self._event, state=EventState.CLOSED, ended_at=utc_iso(at), end_s=max(media_s, self._event.end_s)
        )
        self._event = None
        return closed
