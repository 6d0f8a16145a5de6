"""Is what the logger acknowledged stored once, and in order, while one process after the other is killed?

`python -m bench.kills [--json] [--kills 200] [--database sqlite|postgresql|both] [--seed N]`. The real logger and three
processes that send events through an EventOutbox are killed with SIGKILL at random moments and started again at once;
PostgreSQL is stopped and started, and the disk under journal, spools and SQLite is filled, meanwhile. Afterwards what
the senders wrote down is compared with journal and database. Exit code 1 if anything is not as it must be.
"""

import argparse
import contextlib
import errno
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import zmq
from sqlalchemy import select

from bench.postgres import ScratchPostgres
from core.clock import utc_iso
from core.config import Config, load_config
from core.db import make_engine
from core.db.tables import EventRow
from core.events.journal import Journal, Position
from core.events.model import AnomalyEvent, EventState
from core.events.outbox import EventOutbox
from core.heartbeat import Heartbeat, read_heartbeat
from core.ids import CameraId, EventId, NodeId, uuid7
from core.logs import configure_logging
from workers.process import StopFlag, die_with_parent, spawn

__all__ = ["KillsReport", "main", "run_kills"]

CAMERAS = (CameraId("gate"), CameraId("yard"), CameraId("dock"))
STEP_S = 0.02
"""Between two revisions of a sender: an event each 70 ms, some hundred times what a busy scene makes."""
APART_S = (0.02, 0.3)
"""From the moment a process works to its death."""
EARLY = 0.1
"""Share of the kills that do not wait for their victim to work: deaths while it starts."""
AWAY_S = 0.5
FULL_S = 1.0
DISK = "64m"
START_S = 120.0
DRAIN_S = 180.0


class KillsReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was done, and what was found; the figures from `acknowledged_lost` to `behind_journal` must be zero."""

    database: str
    kills_logger: int
    kills_senders: int
    postgres_restarts: int
    disk_full: bool
    """Whether the logger was seen to refuse events for want of space; that takes root, for a disk of its own."""
    acknowledged: int
    """Revisions of events."""
    acknowledged_lost: int
    """Of those, how many are not stored, in no later revision either."""
    doubled: int
    """Rows beyond the first of an id."""
    unknown: int
    """Ids that no sender made, or that another camera's sender did."""
    out_of_order: int
    """Events that were first committed after one that their camera opened later."""
    behind_journal: int
    """Ids stored in another revision than their newest in the journal."""
    seconds: float

    @property
    def flawless(self) -> bool:
        must_be_zero = self.acknowledged_lost, self.doubled, self.unknown, self.out_of_order, self.behind_journal
        return not any(must_be_zero)


# ---- what senders write down


class Ledger:
    """(event id, revision) by the line, in a file that outlives its writers' deaths."""

    _LINE = re.compile(r"([0-9a-f-]{36}) (\d+)")

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(self._fd, b"\n")  # ends a line that the death of the last writer tore

    def note(self, event_id: str, revision: int) -> None:
        os.write(self._fd, f"{event_id} {revision}\n".encode())

    @classmethod
    def read(cls, path: Path) -> list[tuple[str, int]]:
        lines = path.read_text().splitlines() if path.exists() else []
        return [(found[1], int(found[2])) for line in lines if (found := cls._LINE.fullmatch(line))]


def _made(notes: Path, camera_id: str) -> Path:
    return notes / f"{camera_id}.made"


def _acknowledged(notes: Path, camera_id: str) -> Path:
    return notes / f"{camera_id}.acknowledged"


# ---- a sender


class _NotingOutbox(EventOutbox):
    """Notes each acknowledgement once it was taken in: what it is for is then no longer pending."""

    def __init__(self, context: zmq.Context[Any], config: Config, camera_id: CameraId, ledger: Ledger) -> None:
        self._ledger = ledger
        super().__init__(context, config, camera_id)

    def _acknowledged(self, key: str, revision: int) -> None:
        super()._acknowledged(key, revision)
        self._ledger.note(key, revision)

    @property
    def idle(self) -> bool:
        """Whether all is answered, a request to end what a predecessor left open included."""
        return not self.pending and self._interrupt is None


def send(camera_id: CameraId, notes: Path, config: Config) -> int:
    """Makes events until SIGTERM, then waits for what is not acknowledged; 1 if it waited in vain."""
    stop = StopFlag()
    made = Ledger(_made(notes, camera_id))
    heartbeat = Heartbeat(config.run_dir, camera_id)
    with zmq.Context() as context:
        outbox = _NotingOutbox(context, config, camera_id, Ledger(_acknowledged(notes, camera_id)))
        outbox.interrupt_open()
        count = 0
        while not stop.is_set():
            opening = _opening(camera_id, time.monotonic())
            made.note(opening.id, opening.revision)
            for event in _revisions(opening, updates=random.randint(1, 2)):
                outbox.log_event(event)
                _pump(outbox, STEP_S)
            count += 1
            heartbeat.beat("sending", count)
        give_up = time.monotonic() + DRAIN_S
        while not outbox.idle and time.monotonic() < give_up:
            outbox.pump(0.05)
        drained = outbox.idle
        outbox.close(0)
    heartbeat.close()
    return 0 if drained else 1


def _pump(outbox: EventOutbox, seconds: float) -> None:
    """Takes what comes for so long."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        outbox.pump(left)


def _opening(camera_id: CameraId, now_s: float) -> AnomalyEvent:
    now = utc_iso(datetime.now(UTC))
    return AnomalyEvent(
        id=EventId(str(uuid7())),
        revision=1,
        camera_id=camera_id,
        node_id=NodeId("bench"),
        state=EventState.OPEN,
        began_at=now,
        ended_at=None,
        begin_s=now_s,
        end_s=now_s,
        peak_score=3.5,
        peak_at=now,
        peak_s=now_s,
        peak_x=320.0,
        peak_y=180.0,
        frame_width=640,
        frame_height=360,
        vad_type="motion_stats",
        state_version=1,
        provisional=False,
        reason="3.1 x the usual speed here",
    )


def _revisions(opening: AnomalyEvent, updates: int) -> Iterator[AnomalyEvent]:
    """An event's life: opened, updated so many times, closed."""
    event = opening
    yield event
    for _ in range(updates):
        event = msgspec.structs.replace(event, revision=event.revision + 1, end_s=event.end_s + STEP_S)
        yield event
    ended_at = utc_iso(datetime.now(UTC))
    yield msgspec.structs.replace(event, revision=event.revision + 1, state=EventState.CLOSED, ended_at=ended_at)


# ---- the site: folders, disk, processes


class Site(msgspec.Struct, frozen=True):
    config: Config
    notes: Path
    """The senders' ledgers and all logs: on the big disk, which is never filled."""
    small_disk: bool
    """Whether the data folder is a disk of its own that may be filled."""


@contextmanager
def new_site(database_url: str) -> Iterator[Site]:
    """Folders and a configuration of this run's own, which are gone afterwards; `database_url` "" is SQLite."""
    with tempfile.TemporaryDirectory(prefix="haetae-k-") as name:
        root = Path(name)
        data, notes, file = root / "data", root / "notes", root / "haetae.toml"
        data.mkdir()
        notes.mkdir()
        file.write_text("# Ours: what lies in the working directory is nobody's business here.\n")
        paths, database = {"data": str(data), "run": str(root / "run")}, {"url": database_url}
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "haetae-kills", str(data)]
        small_disk = os.getuid() == 0 and not subprocess.run(mount, capture_output=True, check=False).returncode
        try:
            config = load_config(file, environ={}, paths=paths, database=database)
            config.make_dirs()
            yield Site(config, notes, small_disk)
        finally:
            if small_disk:
                # Lazily: whatever an error left open must not keep the mount here.
                subprocess.run(["umount", "--lazy", str(data)], check=True)


class Victim:
    """A process that is killed and started again; `name` is that of its heartbeat."""

    def __init__(self, site: Site, name: str, module: str, *args: str) -> None:
        self._site, self._name, self._command = site, name, (module, *args)
        self._log = site.notes / f"{name}.log"
        self.kills = 0
        self.start()

    def start(self) -> None:
        config = self._site.config
        # A variable of whoever runs this must not lead to the database that they work with.
        environment = {"HAETAE_DATABASE__URL": config.database_url}
        with self._log.open("ab") as log:
            self.process = spawn(*self._command, config=config, stdout=log, stderr=log, environment=environment)

    def log(self) -> bytes:
        return self._log.read_bytes()

    def works(self, count: int = 1) -> bool:
        """Whether it has done so much since its start; raises RuntimeError if it ended by itself."""
        if self.process.poll() is not None:
            raise self._ended()
        beat = read_heartbeat(self._site.config.run_dir, self._name)
        return beat is not None and beat.pid == self.process.pid and beat.count >= count

    def _ended(self) -> RuntimeError:
        said = self.log().decode(errors="replace")[-2000:]
        return RuntimeError(f"{self._name} ended with {self.process.returncode}:\n{said}")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.kills += 1

    def terminate(self) -> None:
        """Asks it to end. Once only: the second SIGTERM would find Python's handlers gone already."""
        self.process.terminate()

    def join(self) -> None:
        """Waits for its end, after it has done what is left to do; raises RuntimeError unless that was in order."""
        until(f"{self._name} ends", lambda: self.process.poll() is not None, DRAIN_S + 10)
        if self.process.returncode:
            raise self._ended()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def until(what: str, condition: Callable[[], bool], timeout_s: float, period_s: float = 0.02) -> None:
    """Returns as soon as `condition` holds; raises TimeoutError."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_s:g} s: {what}")
        time.sleep(period_s)


# ---- what goes wrong meanwhile


@contextmanager
def _server_away(server: ScratchPostgres, number: signal.Signals) -> Iterator[None]:
    server.stop(number)
    back = time.monotonic() + AWAY_S
    try:
        yield
        time.sleep(max(0.0, back - time.monotonic()))
    finally:
        server.start()


@contextmanager
def _disk_full(site: Site, logger: Victim) -> Iterator[None]:
    """Takes all space for a second, or for longer until the logger has refused an event."""
    refusals = logger.log().count(b"journal_not_written")
    ballast = site.config.data_dir / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file:
            _fill(file.fileno())
            free = time.monotonic() + FULL_S
            until(
                "the logger refuses for want of space",
                lambda: logger.log().count(b"journal_not_written") > refusals,
                START_S,
            )
            _fill(file.fileno())  # what was taken back from the journal meanwhile
        yield
        time.sleep(max(0.0, free - time.monotonic()))
    finally:
        ballast.unlink(missing_ok=True)


def _fill(fd: int) -> None:
    try:
        while True:
            os.write(fd, bytes(1 << 20))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise


def _restarts(kills: int) -> int:
    """How often PostgreSQL is stopped in a run of so many kills."""
    return max(2, kills // 30)


def _outages(
    kills: int, site: Site, logger: Victim, server: ScratchPostgres | None
) -> dict[int, AbstractContextManager[None]]:
    """During which kill what is away: spread evenly, the disk in the middle."""
    plan: dict[int, AbstractContextManager[None]] = {}
    if server:
        restarts = _restarts(kills)
        for index in range(restarts):
            number = (signal.SIGQUIT, signal.SIGINT)[index % 2]
            plan[(2 * index + 1) * kills // (2 * restarts)] = _server_away(server, number)
    if site.small_disk:
        plan[min(set(range(kills // 2, kills)) - set(plan))] = _disk_full(site, logger)
    return plan


# ---- the run


def run_kills(kills: int, seed: int, server: ScratchPostgres | None = None) -> KillsReport:
    """Kills so many times (4 or more) and tells what it found, on `server` in a new database, or else on SQLite.

    To be called from the main thread. Raises RuntimeError or TimeoutError where a process ends by itself, does not
    come up or does not end.
    """
    began = time.monotonic()
    luck = random.Random(seed)
    with new_site(server.create_database() if server else "") as site, ExitStack() as stack:
        logger = stack.enter_context(contextlib.closing(Victim(site, "logger", "logger")))
        senders = [
            stack.enter_context(
                contextlib.closing(
                    Victim(site, camera, "bench.kills", "--send", camera, "--notes", str(site.notes)),
                )
            )
            for camera in CAMERAS
        ]
        outages = _outages(kills, site, logger, server)
        for index in range(kills):
            outage = outages.get(index)
            victim = logger if luck.random() < 0.5 else luck.choice(senders)
            early, pause_s = luck.random() < EARLY, luck.uniform(*APART_S)
            with outage or contextlib.nullcontext():
                if not (outage or early):
                    until("the next victim works", victim.works, START_S)
                time.sleep(pause_s)
                victim.kill()
                victim.start()
        for one in (logger, *senders):
            until("all work once more", one.works, START_S)
        for sender in senders:
            sender.terminate()
        for sender in senders:
            sender.join()
        with contextlib.suppress(TimeoutError):  # what is missing then is found below
            until("the journal is committed", lambda: not _behind(site.config), DRAIN_S, period_s=0.2)
        logger.terminate()
        logger.join()
        return KillsReport(
            database="postgresql" if server else "sqlite",
            kills_logger=logger.kills,
            kills_senders=sum(sender.kills for sender in senders),
            postgres_restarts=_restarts(kills) if server else 0,
            disk_full=site.small_disk,
            **_compare(site),
            seconds=round(time.monotonic() - began, 1),
        )


class _Stored(msgspec.Struct, frozen=True):
    id: str
    revision: int
    camera_id: str


def _stored(config: Config) -> list[_Stored]:
    """All rows, in the order in which they were first committed."""
    engine = make_engine(config.database_url)
    query = select(EventRow.id, EventRow.revision, EventRow.camera_id).order_by(EventRow.number)
    try:
        with engine.connect() as connection:
            return [_Stored(*row) for row in connection.execute(query)]
    finally:
        engine.dispose()


def _behind(config: Config) -> int:
    """How many ids are stored in another revision than their newest in the journal, or only in one of the two."""
    records, _ = Journal(config.journal_dir).read(Position(), sys.maxsize)
    journaled: dict[str, int] = {}
    for record in records:
        if isinstance(record, AnomalyEvent):
            journaled[record.id] = max(record.revision, journaled.get(record.id, 0))
    stored = {row.id: row.revision for row in _stored(config)}
    return sum(journaled.get(event_id) != stored.get(event_id) for event_id in journaled.keys() | stored.keys())


def _compare(site: Site) -> dict[str, int]:
    """What the senders wrote down against what is stored."""
    rows = _stored(site.config)
    revisions = {row.id: row.revision for row in rows}
    lost = unknown = out_of_order = acknowledged = 0
    unknown += sum(row.camera_id not in CAMERAS for row in rows)
    for camera in CAMERAS:
        noted = set(Ledger.read(_acknowledged(site.notes, camera)))
        acknowledged += len(noted)
        lost += sum(revisions.get(event_id, 0) < revision for event_id, revision in noted)
        opened = {event_id: place for place, (event_id, _) in enumerate(Ledger.read(_made(site.notes, camera)))}
        places = [opened.get(row.id) for row in rows if row.camera_id == camera]
        unknown += places.count(None)
        newest = -1
        for place in places:
            if place is not None:
                out_of_order += place < newest
                newest = max(newest, place)
    return {
        "acknowledged": acknowledged,
        "acknowledged_lost": lost,
        "doubled": sum(count - 1 for count in Counter(row.id for row in rows).values()),
        "unknown": unknown,
        "out_of_order": out_of_order,
        "behind_journal": _behind(site.config),
    }


def _run_each(names: list[str], kills: int, seed: int) -> Iterator[KillsReport]:
    for name in names:
        if name == "sqlite":
            yield run_kills(kills, seed)
        else:
            with ScratchPostgres() as server:
                yield run_kills(kills, seed, server)


def _print(reports: list[KillsReport]) -> None:
    for name in KillsReport.__struct_fields__:
        print(f"{name:20}" + "".join(f"{getattr(report, name)!s:>14}" for report in reports))
    if not all(report.disk_full for report in reports):
        print("the disk was not filled: that needs root, to make a small one")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench.kills", description=__doc__)
    parser.add_argument("--json", action="store_true", help="only JSON on stdout: a list, one object per database")
    parser.add_argument("--kills", type=int, default=200, help="at least 4")
    parser.add_argument("--database", choices=["sqlite", "postgresql", "both"], default="both")
    parser.add_argument("--seed", type=int, default=1, help="who is killed, and how long after it works")
    parser.add_argument("--send", metavar="CAMERA", help="be a sender: for the run's own use")
    parser.add_argument("--notes", type=Path, help="a sender's ledgers")
    parser.add_argument("--parent", type=int, default=0, help="a sender ends with it")
    options = parser.parse_args(argv)
    if options.send:
        config = load_config()
        configure_logging(config.log, options.send)
        die_with_parent(options.parent)
        return send(CameraId(options.send), options.notes, config)
    if options.kills < 4:
        parser.error("--kills must be 4 or more")
    # Mounts, folders and processes go with the stack: a polite end must unwind it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    configure_logging(Config().log, "kills")
    names = ["sqlite", "postgresql"] if options.database == "both" else [options.database]
    try:
        reports = list(_run_each(names, options.kills, options.seed))
    except (RuntimeError, TimeoutError) as error:
        print(f"bench.kills: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(msgspec.json.encode(reports).decode())
    else:
        _print(reports)
    return 0 if all(report.flawless for report in reports) else 1


if __name__ == "__main__":
    sys.exit(main())
