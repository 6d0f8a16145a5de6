"""The journal: records on disk, a checksummed line each, before anybody is told that they are safe.

One file a day, `YYYY-MM-DD.jsonl`: eight hex digits of CRC-32, a space, the record as JSON: an event, or what has a
"record" key that says what it is. Whoever commits them elsewhere reads the journal from the position that was
committed last; so after a crash it just reads on.
"""

import os
import zlib
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import msgspec
import structlog

from core.cameras.history import HistoryRecord
from core.clock import Clock, SystemClock
from core.events.model import AnomalyEvent

__all__ = ["EventLogger", "Journal", "LogRecord", "Position"]

log = structlog.get_logger()

LogRecord = AnomalyEvent | HistoryRecord
_event_decoder = msgspec.json.Decoder(AnomalyEvent)
_other_decoder = msgspec.json.Decoder(HistoryRecord)


class EventLogger:
    """The plainest logger: an event is a JSON line in a file. Safe from several threads."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def log_event(self, event: AnomalyEvent) -> None:
        """Appends one line by one write; raises OSError where the disk does not take it."""
        self._file.write(msgspec.json.encode(event) + b"\n")

    def close(self) -> None:
        self._file.close()


class Position(msgspec.Struct, frozen=True, order=True):
    """A place in the journal: all of `file` before `offset` and all earlier files."""

    file: str = ""
    offset: int = 0


class Journal:
    """Appends by one thread, reads by another; both see whole lines only."""

    def __init__(self, folder: Path, clock: Clock | None = None) -> None:
        self._folder = folder
        self._clock = clock or SystemClock()
        self._name = ""
        self._fd = -1
        self._end = 0
        """How much of the file that is written to is synced: readers see no more of it."""
        self.damaged = 0
        """Lines that were read and were no whole records (torn by a crash, or tampered with)."""

    def append(self, records: Sequence[LogRecord]) -> None:
        """Writes the records and syncs once; when it returns they survive a power cut.

        Raises OSError where the disk is full or failing: then none of them may be acknowledged.
        """
        self._open_today()
        self._cut()
        lines = b"".join(_line(record) for record in records)
        try:
            view = memoryview(lines)
            while view:
                view = view[os.write(self._fd, view) :]
            os.fsync(self._fd)
        except OSError:
            self._cut()
            raise
        self._end += len(lines)

    def _cut(self) -> None:
        """Takes back what was not synced; what cannot be taken back now is before the next is written."""
        if os.fstat(self._fd).st_size != self._end:
            os.ftruncate(self._fd, self._end)

    def _open_today(self) -> None:
        name = f"{self._clock.now():%Y-%m-%d}.jsonl"
        if name <= self._name:  # a clock that steps back goes on in the newest file
            return
        fd = os.open(self._folder / name, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(fd).st_size
            if size and os.pread(fd, 1, size - 1) != b"\n":
                os.write(fd, b"\n")  # a torn last line ends here
            os.fsync(fd)
            _sync_folder(self._folder)
        except OSError:
            os.close(fd)
            raise
        if self._fd >= 0:
            os.close(self._fd)
        self._name, self._fd, self._end = name, fd, os.fstat(fd).st_size

    def read(self, position: Position, limit: int) -> tuple[list[LogRecord], Position]:
        """Up to `limit` records after `position`, and the position after them.

        Damaged lines are skipped and counted.
        """
        records: list[LogRecord] = []
        for name in self._files():
            if name < position.file:
                continue
            offset = position.offset if name == position.file else 0
            with (self._folder / name).open("rb") as file:
                file.seek(offset)
                while len(records) < limit and (line := file.readline()):
                    synced = name != self._name or offset + len(line) <= self._end
                    if not line.endswith(b"\n") or not synced:
                        break
                    offset += len(line)
                    record = self._parse(line)
                    if record:
                        records.append(record)
            position = Position(name, offset)
            if len(records) >= limit:
                break
        return records, position

    def _parse(self, line: bytes) -> LogRecord | None:
        text = line.rstrip(b"\n")
        try:
            if text and int(text[:8], 16) == zlib.crc32(text[9:]):
                decoder = _other_decoder if text.startswith(b'{"record":', 9) else _event_decoder
                return decoder.decode(text[9:])
        except (ValueError, msgspec.DecodeError):
            pass
        if text:
            self.damaged += 1
            log.warning("journal_line_damaged", line=text[:60].decode(errors="replace"))
        return None

    def _files(self) -> list[str]:
        return sorted(path.name for path in self._folder.glob("????-??-??.jsonl"))

    def committed(self) -> Position:
        """The position saved last; the very beginning where none was."""
        try:
            return msgspec.json.decode((self._folder / "committed").read_bytes(), type=Position)
        except (OSError, msgspec.DecodeError):
            return Position()

    def replay(self) -> None:
        """Has all that is kept committed anew: for a database that was put back to an earlier day."""
        (self._folder / "committed").unlink(missing_ok=True)

    def save_committed(self, position: Position) -> None:
        """Remembers that all before `position` is committed; losing it costs only time at the next start."""
        aside = self._folder / "committed.part"
        aside.write_bytes(msgspec.json.encode(position))
        aside.replace(self._folder / "committed")

    def expire(self, days: int) -> list[str]:
        """Deletes files older than `days` all of which is committed; returns their names."""
        oldest = f"{self._clock.now() - timedelta(days=days):%Y-%m-%d}.jsonl"
        done = self.committed().file
        gone = [name for name in self._files() if name < oldest and name < done]
        for name in gone:
            (self._folder / name).unlink()
        return gone

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _line(record: LogRecord) -> bytes:
    text = msgspec.json.encode(record)
    return b"%08x %s\n" % (zlib.crc32(text), text)
