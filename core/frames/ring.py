"""The ring: one writer, any number of readers, nobody waits and nobody uses a torn frame.

    header 4096 B | slot 0: 128 B header, pixels | slot 1 | ...

A slot's sequence word is odd while it is written and 2 * seq once it holds frame `seq`. `head` packs the newest
frame's seq and slot into one aligned 8-byte word, which x86-64 and ARM64 load and store whole. A reader uses the
pixels in place and looks at the sequence word again afterwards: a frame overwritten meanwhile is FrameGone.
"""

import contextlib
import fcntl
import hashlib
import os
import secrets
import time
from pathlib import Path
from typing import Literal, cast

import msgspec
import numpy as np
import numpy.typing as npt

from core.errors import BusError, FrameGone
from core.frames import segments
from core.frames.doorbell import Ringer, fence, sweep_bells
from core.ids import CameraId
from core.wire.messages import FrameRef

__all__ = [
    "Frame",
    "FrameFormat",
    "ReaderStatistics",
    "RingInfo",
    "RingReader",
    "RingSet",
    "RingWriter",
    "Slot",
    "WriterStatistics",
    "list_rings",
    "mappers",
    "ring_bytes",
    "segment_prefix",
    "sweep",
]

_MAGIC = 0x3145_4154_4541_48  # "HAETAE1"
_HEADER_BYTES = 4096
_SLOT_HEADER_BYTES = 128
_ALIGN = 4096
_LEASES = 16
_LEASE_WORDS = 2
_MAX_LEASE_S = 2.0
_SLOT_BITS = 8

# words of the header
_MAGIC_WORD, _EPOCH, _SLOTS, _STRIDE, _BEAT, _CLOSED, _LEASED_UNTIL, _TORN, _DENIED, _WATCHED_UNTIL = range(10)
_HEAD = 16
"""On a cache line of its own."""
_LEASE_TABLE = 64
# words of a slot's header
_SEQ, _CAPTURED, _CAPTURED_AT, _MEDIA = range(4)

Pixels = npt.NDArray[np.uint8]
Words = memoryview
"""Of 8-byte words: one is read or written whole, in half the time that a NumPy array takes for it."""


class FrameFormat(msgspec.Struct, frozen=True):
    """Size and layout of the frames of one ring. I420 needs an even width and height."""

    width: int
    height: int
    pixel_format: Literal["i420", "bgr"] = "i420"

    @property
    def shape(self) -> tuple[int, ...]:
        """(h * 3 // 2, w) for i420, (h, w, 3) for bgr; uint8."""
        if self.pixel_format == "i420":
            return (self.height * 3 // 2, self.width)
        return (self.height, self.width, 3)

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape))


class RingInfo(msgspec.Struct, frozen=True):
    """What a ring's registry file says."""

    camera_id: CameraId
    stream: str
    segment: str
    format: FrameFormat
    n_slots: int
    epoch: int
    pid: int


class WriterStatistics(msgspec.Struct, frozen=True):
    """Counters of a writer since it was made."""

    published: int
    abandoned: int
    """Frames begun and not published, because writing them failed."""
    leases_overrun: int
    """Slots overwritten in spite of a lease, since all were leased."""


class ReaderStatistics(msgspec.Struct, frozen=True):
    """Counters of a reader since it was opened."""

    read: int
    torn_rejected: int
    """Frames overwritten while they were read."""
    gone: int
    """Frames that were no longer there when they were asked for."""
    leases_denied: int
    """Leases that found the table full."""
    age_s: float
    """Since the newest frame was published; infinite where there is none."""
    all_torn: int
    all_denied: int
    """Of all readers of this ring together, or nearly: they do not count in turns."""


def _registry(run_dir: Path, camera_id: str, stream: str) -> Path:
    return run_dir / "rings" / f"{camera_id}.{stream}.ring"


def segment_prefix(run_dir: Path) -> str:
    """With it begin the names of this run folder's segments, and of no other's."""
    return f"haetae-{hashlib.sha256(str(run_dir).encode()).hexdigest()[:8]}"


def _stride(fmt: FrameFormat) -> int:
    return -(-(_SLOT_HEADER_BYTES + fmt.nbytes) // _ALIGN) * _ALIGN


def ring_bytes(fmt: FrameFormat, n_slots: int) -> int:
    """Shared memory that a ring takes."""
    return _HEADER_BYTES + n_slots * _stride(fmt)


class Slot(msgspec.Struct):
    """A slot that is being written: fill `pixels`; `ref` names the frame once it is published."""

    pixels: Pixels
    ref: FrameRef


class Frame(msgspec.Struct, frozen=True):
    """A frame in place: `pixels` are read-only and only to be believed once the read has ended well."""

    pixels: Pixels
    seq: int
    media_s: float
    captured_ns: int
    captured_at_ns: int


class _Mapped:
    """The words and slots of a mapped segment."""

    def __init__(self, info: RingInfo, *, writable: bool) -> None:
        self.info = info
        self._segment = segments.attach(info.segment)
        raw = cast("memoryview", self._segment.buf)
        self.words: Words = raw[:_HEADER_BYTES].cast("Q")
        self.slot_words: list[Words] = []
        self.slot_media: list[memoryview[float]] = []
        """The same words as float64."""
        self.pixels: list[Pixels] = []
        stride, size = _stride(info.format), info.format.nbytes
        for number in range(info.n_slots):
            start = _HEADER_BYTES + number * stride
            header = raw[start : start + _SLOT_HEADER_BYTES]
            self.slot_words.append(header.cast("Q"))
            self.slot_media.append(header.cast("d"))
            pixels = np.frombuffer(raw, np.uint8, size, start + _SLOT_HEADER_BYTES).reshape(info.format.shape)
            pixels.flags.writeable = writable
            self.pixels.append(pixels)

    def close(self) -> None:
        """Forgets the mapping; it goes when the last view of it does."""
        self.pixels.clear()
        self.slot_words.clear()
        self.slot_media.clear()
        del self.words
        with contextlib.suppress(BufferError):
            self._segment.close()


class RingWriter:
    """The one writer of a ring; publishing never waits for a reader."""

    def __init__(self, run_dir: Path, info: RingInfo, lock_fd: int) -> None:
        """Made by create()."""
        self._run_dir = run_dir
        self._lock_fd = lock_fd
        self._map = _Mapped(info, writable=True)
        self._ringer = Ringer(run_dir)
        self.info = info
        self._writing = _Writing(self._map, self._ringer)
        words = self._map.words
        words[_EPOCH], words[_SLOTS], words[_STRIDE], words[_HEAD] = info.epoch, info.n_slots, _stride(info.format), 0
        fence()
        self._map.words[_MAGIC_WORD] = _MAGIC

    @classmethod
    def create(
        cls, run_dir: Path, camera_id: CameraId, stream: str, fmt: FrameFormat, n_slots: int, shm_share: float = 0.9
    ) -> "RingWriter":
        """A new ring with an epoch of its own, in place of one that a dead writer left.

        Raises SegmentTooLarge where /dev/shm has no room, BusError where a live writer holds this ring.
        """
        if fmt.pixel_format == "i420" and (fmt.width % 2 or fmt.height % 2):
            raise BusError(f"I420 frames have an even size, not {fmt.width}x{fmt.height}")
        path = _registry(run_dir, camera_id, stream)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        before = _read_registry(path)
        if before and _held(path):
            raise BusError(f"{camera_id}/{stream} has a writer already (process {before.pid})")
        epoch = secrets.randbits(63) | 1
        info = RingInfo(
            camera_id,
            stream,
            f"{segment_prefix(run_dir)}-{camera_id}-{stream}-{epoch:016x}",
            fmt,
            n_slots,
            epoch,
            os.getpid(),
        )
        aside = path.with_suffix(f".{os.getpid()}.part")
        aside.write_bytes(msgspec.json.encode(info))
        lock_fd = os.open(aside, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            segments.create(info.segment, ring_bytes(fmt, n_slots), shm_share).close()
        except BusError:
            aside.unlink(missing_ok=True)
            os.close(lock_fd)
            raise
        writer = cls(run_dir, info, lock_fd)
        aside.replace(path)
        if before:
            segments.unlink(before.segment)
        return writer

    @property
    def format(self) -> FrameFormat:
        return self.info.format

    @property
    def epoch(self) -> int:
        return self.info.epoch

    def write(self, media_s: float, captured_ns: int, captured_at_ns: int) -> "_Writing":
        """`with writer.write(...) as slot`: a slot to fill; one at a time.

        Leaving the block publishes it and rings, an exception leaves it unpublished. `media_s` is the source's time,
        `captured_ns` monotonic, `captured_at_ns` UTC.
        """
        writing = self._writing
        writing.stamp = (media_s, captured_ns, captured_at_ns)
        return writing

    @property
    def watched(self) -> bool:
        """Whether a reader wants every frame, not only those that are analysed."""
        return self._map.words[_WATCHED_UNTIL] > time.monotonic_ns()

    def statistics(self) -> WriterStatistics:
        return self._writing.statistics()

    def close(self) -> None:
        """Takes the ring away; readers that have it mapped see that it is no longer current."""
        self._map.words[_CLOSED] = 1
        path = _registry(self._run_dir, self.info.camera_id, self.info.stream)
        current = _read_registry(path)
        if current and current.epoch == self.info.epoch:
            path.unlink(missing_ok=True)
        segments.unlink(self.info.segment)
        self._ringer.close()
        os.close(self._lock_fd)
        self._map.close()


class _Writing:
    """The block in which a slot is filled; made once, and with few calls: a frame is published in a few microseconds,
    and a reader waits for each of them.
    """

    __slots__ = (
        "_abandoned",
        "_key",
        "_map",
        "_n_slots",
        "_number",
        "_overrun",
        "_published",
        "_ringer",
        "_seq",
        "_slot",
        "stamp",
    )

    def __init__(self, mapped: "_Mapped", ringer: Ringer) -> None:
        info = mapped.info
        self._map, self._ringer = mapped, ringer
        self._key, self._n_slots = (info.camera_id, info.stream, info.epoch), info.n_slots
        self._seq, self._slot, self._number = 0, -1, 0
        self._published = self._abandoned = self._overrun = 0
        self.stamp: tuple[float, int, int] = (0.0, 0, 0)
        """Of the frame: the source's time, and when it was captured, monotonic and UTC."""

    def __enter__(self) -> Slot:
        """Marks a slot as being written."""
        self._number = number = self._next_slot()
        seq = self._seq + 1
        self._map.slot_words[number][_SEQ] = 2 * seq - 1
        fence()
        return Slot(self._map.pixels[number], FrameRef(*self._key, seq))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """From now on this is the newest frame, unless it failed."""
        if kind is not None:
            self._abandoned += 1
            return
        number, words = self._number, self._map.words
        slot = self._map.slot_words[number]
        self._map.slot_media[number][_MEDIA], slot[_CAPTURED], slot[_CAPTURED_AT] = self.stamp
        self._seq = seq = self._seq + 1
        self._slot = number
        fence()
        slot[_SEQ] = 2 * seq
        words[_BEAT] = now_ns = time.monotonic_ns()
        words[_HEAD] = seq << _SLOT_BITS | number
        fence()
        self._ringer.ring(now_ns)
        self._published += 1

    def _next_slot(self) -> int:
        following = (self._slot + 1) % self._n_slots
        until_ns = self._map.words[_LEASED_UNTIL]
        if not until_ns or until_ns < time.monotonic_ns():
            return following
        leased = self._leased()
        for step in range(1, self._n_slots):
            number = (self._slot + step) % self._n_slots
            if self._map.slot_words[number][_SEQ] // 2 not in leased:
                return number
        self._overrun += 1
        return following

    def _leased(self) -> set[int]:
        words, now = self._map.words, time.monotonic_ns()
        return {words[at] for at in _lease_rows(_LEASES) if now < words[at + 1]}

    def statistics(self) -> WriterStatistics:
        return WriterStatistics(self._published, self._abandoned, self._overrun)


class _Reads:
    """Counters of a reader."""

    __slots__ = ("gone", "good", "torn")

    def __init__(self) -> None:
        self.good = self.torn = self.gone = 0


class _Reading:
    """The block in which a frame is read."""

    __slots__ = ("_map", "_reads", "_ref", "_words")

    def __init__(self, mapped: "_Mapped", reads: _Reads, ref: FrameRef) -> None:
        self._map, self._reads, self._ref = mapped, reads, ref

    def __enter__(self) -> Frame:
        mapped, ref = self._map, self._ref
        seq = ref.seq
        if ref.epoch == mapped.info.epoch:
            for number, words in enumerate(mapped.slot_words):
                if words[_SEQ] == 2 * seq:
                    fence()
                    self._words = words
                    media_s = mapped.slot_media[number][_MEDIA]
                    return Frame(mapped.pixels[number], seq, media_s, words[_CAPTURED], words[_CAPTURED_AT])
        self._reads.gone += 1
        raise FrameGone(f"frame {seq} of {ref.camera_id}/{ref.stream} is gone")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is not None:
            return
        ref = self._ref
        fence()
        if self._words[_SEQ] != 2 * ref.seq:
            self._reads.torn += 1
            self._map.words[_TORN] += 1
            raise FrameGone(f"frame {ref.seq} of {ref.camera_id}/{ref.stream} was overwritten while it was read")
        self._reads.good += 1


def _lease_rows(count: int) -> range:
    """Where the table's rows of (seq, deadline) begin."""
    return range(_LEASE_TABLE, _LEASE_TABLE + count * _LEASE_WORDS, _LEASE_WORDS)


class RingReader:
    """One reader of a ring: looks, never waits, and tells when what it read was overwritten."""

    def __init__(self, run_dir: Path, info: RingInfo) -> None:
        """Made by open()."""
        self._run_dir = run_dir
        self.info = info
        self._map = _Mapped(info, writable=False)
        if self._map.words[_MAGIC_WORD] != _MAGIC or self._map.words[_EPOCH] != info.epoch:
            raise BusError(f"{info.segment} is no ring of this version")
        self._reads, self._denied = _Reads(), 0

    @classmethod
    def open(cls, run_dir: Path, camera_id: CameraId, stream: str) -> "RingReader":
        """The ring as it is now; raises BusError where there is none."""
        info = _read_registry(_registry(run_dir, camera_id, stream))
        if info is None:
            raise BusError(f"there is no ring {camera_id}/{stream}")
        return cls(run_dir, info)

    @property
    def format(self) -> FrameFormat:
        return self.info.format

    @property
    def epoch(self) -> int:
        return self.info.epoch

    def latest(self) -> FrameRef | None:
        """The newest frame; None before the first."""
        head = self._map.words[_HEAD]
        return FrameRef(self.info.camera_id, self.info.stream, self.info.epoch, head >> _SLOT_BITS) if head else None

    def read(self, ref: FrameRef) -> _Reading:
        """`with reader.read(ref) as frame`: the frame in place. Raises FrameGone at once, or at the end where it was
        overwritten meanwhile: then nothing that was made from it may be used.
        """
        return _Reading(self._map, self._reads, ref)

    def copy(self, ref: FrameRef, out: Pixels | None = None) -> Pixels:
        """A copy of the frame's pixels, into `out` where given; raises FrameGone."""
        with self.read(ref) as frame:
            if out is None:
                return frame.pixels.copy()
            np.copyto(out, frame.pixels)
            return out

    def lease(self, seq: int, seconds: float) -> bool:
        """Asks the writer to spare frame `seq` for up to two seconds; advisory, False where the table is full."""
        words, now = self._map.words, time.monotonic_ns()
        until = now + round(min(seconds, _MAX_LEASE_S) * 1e9)
        for at in _lease_rows(min(_LEASES, max(1, self.info.n_slots - 3))):
            if words[at + 1] < now:
                words[at], words[at + 1] = seq, until
                words[_LEASED_UNTIL] = max(words[_LEASED_UNTIL], until)
                return True
        self._denied += 1
        words[_DENIED] += 1
        return False

    def watch(self, seconds: float) -> None:
        """Says that every frame is wanted for so long, as for a person who looks; else a camera publishes those that
        it analyses, and leaves the others out. To be said again while that goes on.
        """
        words, until = self._map.words, time.monotonic_ns() + round(seconds * 1e9)
        words[_WATCHED_UNTIL] = max(words[_WATCHED_UNTIL], until)

    def is_current(self) -> bool:
        """False once the ring was closed or replaced by one of another epoch."""
        info = _read_registry(_registry(self._run_dir, self.info.camera_id, self.info.stream))
        return info is not None and info.epoch == self.info.epoch

    def writer_alive(self) -> bool:
        return self.is_current() and _held(_registry(self._run_dir, self.info.camera_id, self.info.stream))

    def statistics(self) -> ReaderStatistics:
        beat = self._map.words[_BEAT]
        age = (time.monotonic_ns() - beat) / 1e9 if beat else float("inf")
        reads, words = self._reads, self._map.words
        return ReaderStatistics(reads.good, reads.torn, reads.gone, self._denied, age, words[_TORN], words[_DENIED])

    def close(self) -> None:
        self._map.close()


class RingSet:
    """Readers of many rings, opened when first needed and again when a camera starts a new epoch."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._readers: dict[tuple[str, str], RingReader] = {}

    def read(self, ref: FrameRef) -> _Reading:
        """As RingReader.read, of whichever ring `ref` names; raises FrameGone."""
        return self._reader(ref).read(ref)

    def _reader(self, ref: FrameRef) -> RingReader:
        key = (ref.camera_id, ref.stream)
        reader = self._readers.get(key)
        if reader is None or reader.epoch != ref.epoch:
            if reader:
                reader.close()
                del self._readers[key]
            try:
                self._readers[key] = reader = RingReader.open(self._run_dir, ref.camera_id, ref.stream)
            except BusError as error:
                raise FrameGone(str(error)) from error
        return reader

    def close(self) -> None:
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()


def _read_registry(path: Path) -> RingInfo | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=RingInfo)
    except (OSError, msgspec.DecodeError):
        return None


def _held(path: Path) -> bool:
    """Whether a live writer holds the registry file; the kernel lets go of it however that writer ends."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def list_rings(run_dir: Path) -> list[RingInfo]:
    """The rings of this run folder, those of dead writers too."""
    found = (_read_registry(path) for path in sorted((run_dir / "rings").glob("*.ring")))
    return [info for info in found if info]


def mappers(info: RingInfo) -> list[int]:
    """The processes, of those that this user may look at, that have the ring's segment mapped; its writer is one."""
    found: list[int] = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if info.segment in (folder / "maps").read_text():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def sweep(run_dir: Path) -> list[str]:
    """Removes what dead processes left in this run folder and in /dev/shm; returns the segments' names."""
    sweep_bells(run_dir)
    kept: set[str] = set()
    for path in (run_dir / "rings").glob("*.ring"):
        info = _read_registry(path)
        if info and _held(path):
            kept.add(info.segment)
        else:
            path.unlink(missing_ok=True)
    for path in (run_dir / "rings").glob("*.part"):
        if not _held(path):
            path.unlink(missing_ok=True)
        elif info := _read_registry(path):
            kept.add(info.segment)
    left = [path.name for path in segments.SHM_DIR.glob(f"{segment_prefix(run_dir)}-*") if path.name not in kept]
    for name in left:
        segments.unlink(name)
    return left
