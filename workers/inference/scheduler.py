"""The batch scheduler: which waiting frames are scored next; pure, on values and times that it is given."""

from collections import Counter, deque
from typing import Any

import msgspec

from workers.inference.costs import BatchCosts

__all__ = ["BatchScheduler", "SchedulerStatistics", "Ticket"]

_FORGOTTEN_NS = 60_000_000_000
"""An empty mailbox is forgotten after so long."""


class Ticket(msgspec.Struct, frozen=True, kw_only=True):
    """One waiting request: `owner` is what answers it."""

    camera_id: str
    vad_type: str
    deadline_ns: int = 0
    """When nobody waits for the answer any more; 0 is never."""
    priority: int = 2
    """0 first to 3 last; see ScoreRequest."""
    weight: float = 1.0
    """The camera's share among those of its class."""
    lossless: bool = False
    owner: Any = None


class SchedulerStatistics(msgspec.Struct, frozen=True):
    """What waits now, and counters since the start."""

    waiting: int
    taken: int
    superseded: int
    late: int
    refused: int


class _Mailbox:
    """What one camera has waiting for one type, and how much it has been served."""

    __slots__ = ("alone_until_ns", "served_at_ns", "tickets", "turn", "virtual", "waits_since_ns")

    def __init__(self) -> None:
        self.tickets: deque[Ticket] = deque()
        self.waits_since_ns = 0
        """Since when it has had something to serve; a newer frame in place of an older one waits no less."""
        self.virtual = 0.0
        """Frames served over weight: whoever has least of it is next."""
        self.turn = 0
        self.served_at_ns = 0
        self.alone_until_ns = 0


class BatchScheduler:
    """A mailbox for each camera and type that holds the newest frame only.

    Within a class, cameras are served by what they have had over their weight, least recently served first where
    that is equal; so no camera, however fast, gets more than its share, and what is scored is never older than one
    round. What waits for `ageing_s` moves up a class, so nothing waits for ever. Lossless requests queue behind each
    other instead (`lossless_room` in a mailbox; their senders wait for each reply).
    """

    def __init__(
        self,
        *,
        max_batch: int = 16,
        batch_limit_s: float = 0.05,
        ageing_s: float = 0.5,
        lossless_room: int = 8,
    ) -> None:
        self._max_batch, self._limit_s = max_batch, batch_limit_s
        self._ageing_ns = max(1, round(ageing_s * 1e9))
        self._room = lossless_room
        self._boxes: dict[tuple[str, str], _Mailbox] = {}
        self._costs: dict[str, BatchCosts] = {}
        self._virtual = 0.0
        """Of the last batch's least served: a camera that was away joins here, and has saved nothing up."""
        self._turn = 0
        self._forget_at_ns = 0
        self._waiting = self._taken = self._superseded = self._late = self._refused = 0

    def costs(self, vad_type: str) -> BatchCosts:
        """What batches of this type cost; tell it what they took."""
        if vad_type not in self._costs:
            self._costs[vad_type] = BatchCosts(self._max_batch, self._limit_s)
        return self._costs[vad_type]

    def batch_ms(self) -> dict[str, dict[int, float]]:
        """Type -> rows -> milliseconds that a batch of that size took."""
        return {
            vad_type: {rows: seconds * 1e3 for rows, seconds in costs.table().items()}
            for vad_type, costs in self._costs.items()
        }

    def put(self, ticket: Ticket, now_ns: int) -> Ticket | None:
        """Takes a request; returns the one that is superseded by it, or itself where there is no room."""
        box = self._boxes.setdefault((ticket.camera_id, ticket.vad_type), _Mailbox())
        if box.tickets and not ticket.lossless and not box.tickets[-1].lossless:
            replaced = box.tickets.pop()
            box.tickets.append(ticket)
            self._superseded += 1
            return replaced
        if len(box.tickets) >= self._room:
            self._refused += 1
            return ticket
        if not box.tickets:
            box.waits_since_ns = now_ns
            box.virtual = max(box.virtual, self._virtual)
        box.tickets.append(ticket)
        self._waiting += 1
        return None

    def isolate(self, camera_id: str, vad_type: str, until_ns: int) -> None:
        """This camera's frames are scored alone until then: one of them made a whole batch fail."""
        self._boxes.setdefault((camera_id, vad_type), _Mailbox()).alone_until_ns = until_ns

    def take(self, now_ns: int, free_at_ns: int = 0) -> tuple[list[Ticket], list[Ticket]]:
        """The next batch, of one type and one frame a camera, and those that would be, or are, too late.

        `free_at_ns` is when the device is expected to begin with it, if that is later than now. The first in order
        says the type, and the costs of that type how many go with it.
        """
        begin_ns = max(now_ns, free_at_ns)
        late = self._drop_late(begin_ns)
        order = sorted(
            (self._class(box, now_ns), box.virtual, box.turn, key) for key, box in self._boxes.items() if box.tickets
        )
        if now_ns >= self._forget_at_ns:
            self._forget(now_ns)
        if not order:
            return [], late
        first = order[0][3]
        vad_type = first[1]
        if self._boxes[first].alone_until_ns > now_ns:
            return self._serve([first], now_ns), late
        ready = [key for *_, key in order if key[1] == vad_type and self._boxes[key].alone_until_ns <= now_ns]
        rows = self.costs(vad_type).choose(len(ready), now_ns)
        return self._serve(ready[:rows], now_ns), late

    def _class(self, box: _Mailbox, now_ns: int) -> int:
        return max(0, box.tickets[0].priority - (now_ns - box.waits_since_ns) // self._ageing_ns)

    def _drop_late(self, begin_ns: int) -> list[Ticket]:
        late: list[Ticket] = []
        full = Counter(vad_type for (_, vad_type), box in self._boxes.items() if box.tickets)
        for (_, vad_type), box in self._boxes.items():
            if not box.tickets:
                continue
            costs = self.costs(vad_type)
            takes_s = costs.estimate_s(min(full[vad_type], costs.largest), begin_ns)
            while box.tickets and 0 < box.tickets[0].deadline_ns < begin_ns + takes_s * 1e9:
                late.append(box.tickets.popleft())
        self._waiting -= len(late)
        self._late += len(late)
        return late

    def _serve(self, keys: list[tuple[str, str]], now_ns: int) -> list[Ticket]:
        boxes = [self._boxes[key] for key in keys]
        self._virtual = max(self._virtual, min(box.virtual for box in boxes))
        tickets: list[Ticket] = []
        for box in boxes:
            ticket = box.tickets.popleft()
            tickets.append(ticket)
            self._turn += 1
            box.virtual += 1 / ticket.weight
            box.turn, box.served_at_ns, box.waits_since_ns = self._turn, now_ns, now_ns
        self._waiting -= len(tickets)
        self._taken += len(tickets)
        return tickets

    def _forget(self, now_ns: int) -> None:
        self._forget_at_ns = now_ns + _FORGOTTEN_NS
        old = [
            key
            for key, box in self._boxes.items()
            if not box.tickets and now_ns - box.served_at_ns > _FORGOTTEN_NS and box.alone_until_ns <= now_ns
        ]
        for key in old:
            del self._boxes[key]

    def clear(self) -> list[Ticket]:
        """All that waits, taken out of it."""
        left = [ticket for box in self._boxes.values() for ticket in box.tickets]
        for box in self._boxes.values():
            box.tickets.clear()
        self._waiting = 0
        return left

    @property
    def waiting(self) -> int:
        return self._waiting

    def statistics(self) -> SchedulerStatistics:
        return SchedulerStatistics(self._waiting, self._taken, self._superseded, self._late, self._refused)
