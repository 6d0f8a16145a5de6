"""The batch scheduler: which waiting frames are scored next; pure, on values and times that it is given."""

from collections import OrderedDict, deque
from typing import Any

import msgspec

__all__ = ["BatchScheduler", "Ticket"]


class Ticket(msgspec.Struct, frozen=True):
    """One waiting request: `owner` is what answers it."""

    camera_id: str
    vad_type: str
    deadline_ns: int
    lossless: bool
    owner: Any


class SchedulerStatistics(msgspec.Struct, frozen=True):
    """What waits now, and counters since the start."""

    waiting: int
    taken: int
    superseded: int
    late: int
    refused: int


class BatchScheduler:
    """A mailbox per camera that holds its newest frame only, served least recently served first.

    So no camera, however fast, gets more than its turn, and what is scored is never older than one round. Lossless
    requests queue behind each other instead (`lossless_room` per camera; their senders wait for each reply).
    """

    def __init__(self, lossless_room: int = 8) -> None:
        self._room = lossless_room
        self._boxes: OrderedDict[str, deque[Ticket]] = OrderedDict()
        self._taken = self._superseded = self._late = self._refused = 0

    def put(self, ticket: Ticket) -> Ticket | None:
        """Takes a request; returns the one that is superseded by it, or itself where there is no room."""
        box = self._boxes.setdefault(ticket.camera_id, deque())
        if box and not ticket.lossless and not box[-1].lossless:
            replaced = box.pop()
            box.append(ticket)
            self._superseded += 1
            return replaced
        if len(box) >= self._room:
            self._refused += 1
            return ticket
        box.append(ticket)
        return None

    def take(self, now_ns: int, limit: int) -> tuple[list[Ticket], list[Ticket]]:
        """The next batch, of one type and one frame per camera, and those found too late meanwhile."""
        batch: list[Ticket] = []
        late: list[Ticket] = []
        for camera_id in list(self._boxes):
            box = self._boxes[camera_id]
            while box and 0 < box[0].deadline_ns < now_ns:
                late.append(box.popleft())
            if box and len(batch) < limit and (not batch or box[0].vad_type == batch[0].vad_type):
                batch.append(box.popleft())
                self._boxes.move_to_end(camera_id)
        for camera_id in [key for key, box in self._boxes.items() if not box][:-1024]:
            del self._boxes[camera_id]
        self._taken += len(batch)
        self._late += len(late)
        return batch, late

    @property
    def waiting(self) -> int:
        return sum(map(len, self._boxes.values()))

    def statistics(self) -> SchedulerStatistics:
        return SchedulerStatistics(self.waiting, self._taken, self._superseded, self._late, self._refused)
