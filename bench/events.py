"""Events: how fast they are taken in and kept, and how fast they are found, however many there are.

    python -m bench.events [--json] [--quick] [--large] [--events N] [--database sqlite|postgresql|both]

Taking in: the logger process end to end (message, journal with fsync, acknowledgement, commit), against a process that
is sent the same messages and commits each by itself before it acknowledges, as is usual (`insert_over_single`; without
the messages, the transactions alone, `insert_over_bare_single`), and against executemany of the same rows in the
logger's own batches of a backlog, without messages. Same tables, same indexes; rounds take turns. `ack_p99_ms` is
measured at a steady 1,000 events a second.

Finding: a year of events of 64 cameras with what was watched all the time. Each question is asked with other values
each time, statistics with an empty cache (`statistics_*`) and again with a full one (`cached_*`).
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import zmq
from sqlalchemy import Engine, insert, text

from bench.postgres import ScratchPostgres, find_postgres
from core.cameras import CameraConfig
from core.clock import FakeClock, utc_iso
from core.config import load_config
from core.db import make_engine, upgrade
from core.db.cameras import add_camera
from core.db.counters import counter, set_counter, take_numbers
from core.db.event_pages import EventFilter, EventPage, page_events
from core.db.rollup import quarter_at, roll_up_range
from core.db.statistics import Period, StatisticsQuery, StatisticsReader
from core.db.tables import CoverageRow, EventRow
from core.events import AnomalyEvent, EventState, Severity
from core.heartbeat import read_heartbeat
from core.ids import CameraId, EventId, NodeId
from core.wire.messages import Done, LogEvents, LoggerReply, LoggerRequest
from core.wire.rpc import RequestClient, RequestServer
from workers.logger.event_logger import BACKLOG_BATCH
from workers.process import spawn

__all__ = ["DAYS", "QUICK_DAYS", "databases", "fill", "main", "make_events"]

CAMERAS = 64
DAYS, QUICK_DAYS = 365, 60
END = datetime(2026, 11, 1, tzinfo=UTC)
TYPES = ("unusual_motion", "loitering", "fall", "fire_smoke", "intrusion", "other")
SEVERITIES = (Severity.INFO, Severity.LOW, Severity.LOW, Severity.MEDIUM, Severity.MEDIUM, Severity.HIGH)
TEXTS = ("a person runs", "사람이 쓰러짐", "화재 연기가 보임", "a vehicle stops")
UNREAD = 0.02
"""Share of events that nobody took note of."""
SENDERS, WINDOW = 4, 64
"""Senders, and the messages that each has under way."""
ACK_RATE = 1_000


# ---- what is stored


def make_events(count: int, seed: int, begin: datetime, end: datetime) -> list[AnomalyEvent]:
    """Closed events, evenly over the time."""
    rnd = random.Random(seed)
    step = (end - begin) / count
    return [_event(rnd, begin + n * step) for n in range(count)]


def _event(rnd: random.Random, at: datetime) -> AnomalyEvent:
    milliseconds = int(at.timestamp() * 1000)
    number = milliseconds << 80 | 7 << 76 | rnd.getrandbits(12) << 64 | 2 << 62 | rnd.getrandbits(62)
    began_at, length_s = utc_iso(at), rnd.uniform(1, 30)
    return AnomalyEvent(
        id=EventId(str(uuid.UUID(int=number))),
        revision=2,
        camera_id=CameraId(f"cam-{rnd.randrange(CAMERAS):02d}"),
        node_id=NodeId("local"),
        state=EventState.CLOSED,
        began_at=began_at,
        ended_at=utc_iso(at + timedelta(seconds=length_s)),
        begin_s=0.0,
        end_s=length_s,
        peak_score=2 + rnd.expovariate(1),
        peak_at=began_at,
        peak_s=0.5,
        peak_x=320.0,
        peak_y=180.0,
        frame_width=1280,
        frame_height=720,
        vad_type="motion_stats",
        state_version=1,
        provisional=False,
        severity=Severity.CRITICAL if rnd.random() < 0.001 else rnd.choice(SEVERITIES),
        reason=f"{rnd.uniform(2, 6):.1f} x the usual speed here",
        vlm_type=rnd.choice(TYPES),
        description=rnd.choice(TEXTS),
        source="rules/1",
    )


_NAMES = [name for name in AnomalyEvent.__struct_fields__ if name not in {"media", "steps"}]


def rows_of(events: Sequence[AnomalyEvent], first: int) -> list[dict[str, Any]]:
    """What the logger would write for them."""
    return [
        {
            **{name: getattr(event, name) for name in _NAMES},
            "state": str(event.state),
            "severity": str(event.severity),
            "sequence": number,
            "number": number,
            "locked": False,
            "acknowledged_at": None,
        }
        for number, event in enumerate(events, first)
    ]


def _next_number(engine: Engine) -> int:
    with engine.connect() as connection:
        return counter(connection, "events") + 1


# ---- taking in


class _Logger:
    """The logger process with a database of its own."""

    def __init__(self, folder: Path, run: Path, url: str) -> None:
        self.config = load_config(None, environ={}, paths={"data": str(folder), "run": str(run)}, database={"url": url})
        self.config.make_dirs()
        file = folder / "haetae.toml"
        file.write_text(f'[database]\nurl = "{url}"\n[log]\nlevel = "warning"\n')
        self.config = msgspec.structs.replace(self.config, file=file)
        with (folder / "logger.log").open("ab") as log:
            self._process = spawn("logger", config=self.config, stderr=log)
        deadline = time.monotonic() + 20
        while not read_heartbeat(self.config.run_dir, "logger"):
            if time.monotonic() > deadline:
                raise RuntimeError((folder / "logger.log").read_text()[-2000:])
            time.sleep(0.02)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(30)


class _Single:
    """The usual way: a process that commits each event by itself, then acknowledges it."""

    def __init__(self, run: Path, url: str) -> None:
        self.endpoint = f"ipc://{run / 'single.sock'}"
        self._process = subprocess.Popen([sys.executable, "-m", "bench.events", "--single", self.endpoint, url])

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(30)


def _serve_single(endpoint: str, url: str) -> None:
    engine = make_engine(url, writer=True)
    with zmq.Context() as context:
        server = RequestServer(context, endpoint, LoggerRequest)
        while True:
            for incoming in server.receive(1.0):
                [event] = incoming.body.events
                with engine.begin() as connection:
                    number = take_numbers(connection, "events", 1)
                    connection.execute(insert(EventRow), rows_of([event], number))
                incoming.reply(Done())


def _send_all(endpoint: str, events: Sequence[AnomalyEvent]) -> None:
    """Sends as fast as they are acknowledged, from several senders, `WINDOW` of each under way as cameras do."""
    with zmq.Context() as context:
        clients = [RequestClient(context, endpoint, LoggerReply) for _ in range(SENDERS)]
        poller = zmq.Poller()
        for client in clients:
            poller.register(client.socket, zmq.POLLIN)
        sent = acknowledged = 0
        while acknowledged < len(events):
            for client in clients:
                while sent < len(events) and client.waiting < WINDOW:
                    client.send(LogEvents(events=[events[sent]]), 120.0)
                    sent += 1
            poller.poll(1000)
            for client in clients:
                for _, reply in client.receive():
                    _expect_ack(reply)
                    acknowledged += 1
        for client in clients:
            client.close()


def _expect_ack(reply: object) -> None:
    if not isinstance(reply, Done):
        raise RuntimeError(f"not acknowledged: {reply}")  # noqa: TRY004


def _wait_stored(engine: Engine, until: int) -> None:
    deadline = time.monotonic() + 300
    while True:
        with engine.connect() as connection:
            if counter(connection, "events") >= until:
                return
        if time.monotonic() > deadline:
            raise RuntimeError("the events were not committed")
        time.sleep(0.002)


def measure_insert(logger: _Logger, single: _Single, engine: Engine, count: int, rounds: int) -> dict[str, Any]:
    """Events per second of each way, and the ratios of each round."""
    kept: dict[str, list[float]] = {"logger": [], "executemany": [], "single": [], "bare_single": []}
    few = max(50, count // 10)
    for number in range(rounds):
        day = END + timedelta(days=1 + number)

        def some(of: int, part: int, day: datetime = day) -> list[AnomalyEvent]:
            return make_events(of, 10 * day.toordinal() + part, day, day + timedelta(hours=20))

        def timed(name: str, of: int, run: Callable[[], None]) -> None:
            begun = time.perf_counter()
            run()
            kept[name].append(of / (time.perf_counter() - begun))

        events, first = some(count, 1), _next_number(engine)
        timed("logger", count, lambda: _send_and_wait(logger, engine, events, first + count - 1))  # noqa: B023
        rows = rows_of(some(count, 2), _next_number(engine))
        timed("executemany", count, lambda: _in_batches(engine, rows, BACKLOG_BATCH))  # noqa: B023
        set_next_number(engine, rows)
        events = some(few, 3)
        timed("single", few, lambda: _send_all(single.endpoint, events))  # noqa: B023
        rows = rows_of(some(few, 4), _next_number(engine))
        timed("bare_single", few, lambda: _in_batches(engine, rows, 1))  # noqa: B023
        set_next_number(engine, rows)
    found: dict[str, Any] = {f"{name}_events_s": round(statistics.median(values)) for name, values in kept.items()}
    for peer in ("single", "bare_single", "executemany"):
        ratios = [ours / theirs for ours, theirs in zip(kept["logger"], kept[peer], strict=True)]
        found[f"insert_over_{peer}"] = round(statistics.median(ratios), 3)
        found[f"insert_over_{peer}_spread"] = [round(min(ratios), 3), round(max(ratios), 3)]
    return found


def _send_and_wait(logger: _Logger, engine: Engine, events: Sequence[AnomalyEvent], last: int) -> None:
    _send_all(logger.config.endpoint("logger"), events)
    _wait_stored(engine, last)


def _in_batches(engine: Engine, rows: list[dict[str, Any]], size: int) -> None:
    for at in range(0, len(rows), size):
        with engine.begin() as connection:
            connection.execute(insert(EventRow), rows[at : at + size])


def set_next_number(engine: Engine, rows: list[dict[str, Any]]) -> None:
    """Says that the numbers of these rows are taken."""
    with engine.begin() as connection:
        set_counter(connection, "events", rows[-1]["number"])


def measure_acks(logger: _Logger, seconds: float) -> dict[str, float]:
    """Milliseconds from sending to acknowledgement, at a steady rate."""
    count = int(ACK_RATE * seconds)
    events = make_events(count, 99, END + timedelta(days=50), END + timedelta(days=51))
    sent_at: dict[int, float] = {}
    took: list[float] = []
    with zmq.Context() as context:
        client = RequestClient(context, logger.config.endpoint("logger"), LoggerReply)
        begun = time.perf_counter()
        sent = 0
        while len(took) < count:
            due = min(count, int((time.perf_counter() - begun) * ACK_RATE) + 1)
            # more than that under way would be dropped by the client; a machine that is too slow is asked less often
            while sent < due and client.waiting < SENDERS * WINDOW:
                sent_at[client.send(LogEvents(events=[events[sent]]), 120.0)] = time.perf_counter()
                sent += 1
            for request_id, reply in client.receive(0.0005):
                _expect_ack(reply)
                took.append((time.perf_counter() - sent_at.pop(request_id)) * 1e3)
        client.close()
    return {"ack_p50_ms": _at(took, 0.5), "ack_p99_ms": _at(took, 0.99)}


def _at(values: Sequence[float], share: float) -> float:
    return round(sorted(values)[min(len(values) - 1, int(len(values) * share))], 3)


# ---- finding


def fill(engine: Engine, count: int, days: int) -> dict[str, float]:
    """So many days of events and of coverage, rolled up; returns what that took."""
    begin = END - timedelta(days=days)
    begun = time.perf_counter()
    for camera in range(CAMERAS):
        name = f"cam-{camera:02d}"
        add_camera(engine, CameraConfig(camera_id=CameraId(name), name=name, url="demo://plaza"))
    with engine.begin() as connection:
        connection.execute(text("UPDATE cameras SET created_at = :at"), {"at": _time_of(engine, begin)})
    rnd = random.Random(1)
    slices = max(1, count // 10_000)
    for number in range(slices):
        low, high = (begin + (END - begin) * n / slices for n in (number, number + 1))
        rows = rows_of(make_events(count // slices, number, low, high), number * (count // slices) + 1)
        for row in rows:
            row["acknowledged_at"] = None if rnd.random() < UNREAD else row["ended_at"]
        with engine.begin() as connection:
            connection.execute(insert(EventRow), rows)
            set_counter(connection, "events", (number + 1) * (count // slices))
    filled_s = time.perf_counter() - begun
    first, end = quarter_at(begin), quarter_at(END)
    for low in range(first, end, 960):
        rows = [
            {"bucket": bucket, "camera_id": f"cam-{camera:02d}", "up_s": 900, "watched_s": 890}
            for bucket in range(low, min(end, low + 960))
            for camera in range(CAMERAS)
        ]
        with engine.begin() as connection:
            connection.execute(insert(CoverageRow), rows)
    begun = time.perf_counter()
    # coverage has no score history beneath it here: what is counted anew must not take it for deleted
    with engine.begin() as connection:
        set_counter(connection, "scores-kept-since", end)
    roll_up_range(engine, first, end)
    rolled_s = time.perf_counter() - begun
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))
    return {"fill_s": round(filled_s, 1), "roll_up_s": round(rolled_s, 1)}


def _time_of(engine: Engine, at: datetime) -> Any:
    return at if engine.dialect.name == "postgresql" else utc_iso(at)


def measure_pages(engine: Engine, turns: int, days: int) -> dict[str, float]:
    """p50 and p99 milliseconds of each question, a page of 50."""
    rnd = random.Random(2)
    begin = END - timedelta(days=days)

    def camera() -> CameraId:
        return CameraId(f"cam-{rnd.randrange(CAMERAS):02d}")

    def eight() -> tuple[CameraId, ...]:
        return tuple(CameraId(f"cam-{n:02d}") for n in rnd.sample(range(CAMERAS), 8))

    def deep() -> str:
        """The cursor of a page somewhere in the middle of all that there is."""
        at = utc_iso(begin + timedelta(seconds=rnd.uniform(0.2, 0.8) * days * 86_400))
        first = page_events(engine, EventFilter(until=at), limit=1).events[0].event
        return _cursor_at(first)

    def page(wanted: EventFilter, cursor: str | None = None) -> Callable[[], EventPage]:
        return lambda: page_events(engine, wanted, cursor=cursor)

    questions: dict[str, Callable[[], Callable[[], EventPage]]] = {
        "first": lambda: page(EventFilter()),
        "deep": lambda: page(EventFilter(), deep()),
        "camera": lambda: page(EventFilter(cameras=(camera(),))),
        "cameras_8": lambda: page(EventFilter(cameras=eight())),
        "unacknowledged": lambda: page(EventFilter(acknowledged=False)),
        "severity": lambda: page(EventFilter(severities=(Severity.CRITICAL,))),
        "text": lambda: page(EventFilter(text="쓰러짐")),
        "text_none": lambda: page(EventFilter(text="zebra")),
        "score_none": lambda: page(EventFilter(min_score=90.0)),
    }
    return _ask(questions, turns)


def _cursor_at(event: AnomalyEvent) -> str:
    from core.db.event_pages import _make_cursor  # noqa: PLC0415 - the only way to be at once deep within

    return _make_cursor(EventFilter(), (event.began_at, event.id))


def measure_statistics(engine: Engine, turns: int, days: int) -> dict[str, float]:
    rnd = random.Random(3)
    clock = FakeClock(END + timedelta(hours=1))
    last = END.date() - timedelta(days=2)
    warm = StatisticsReader(engine, clock)

    def day() -> StatisticsQuery:
        at = last - timedelta(days=rnd.randrange(days * 4 // 5))
        return StatisticsQuery(first=at, last=at, time_zone="Asia/Kolkata")

    def month() -> StatisticsQuery:
        at = date(2026, rnd.randrange(max(3, 11 - days // 30), 11), 1)
        return StatisticsQuery(first=at, last=at + timedelta(days=27), time_zone="Europe/Berlin")

    def year() -> StatisticsQuery:
        return StatisticsQuery(first=date(2025, 11, 2), last=last, period=Period.MONTH, time_zone="Asia/Seoul")

    def cold(make: Callable[[], StatisticsQuery]) -> Callable[[], Callable[[], Any]]:
        return lambda: partial(StatisticsReader(engine, clock).read, make())

    fixed = month()
    warm.read(fixed)
    return _ask(
        {
            "statistics_day": cold(day),
            "statistics_month": cold(month),
            "cached_month": lambda: lambda: warm.read(fixed),
        },
        turns,
    ) | _ask({"statistics_year": cold(year)}, max(3, turns // 20))


def _ask(questions: dict[str, Callable[[], Callable[[], Any]]], turns: int) -> dict[str, float]:
    """Asks them in turns; what a question needs is prepared outside of the time."""
    took: dict[str, list[float]] = {name: [] for name in questions}
    for turn in range(turns + 3):
        for name, prepare in questions.items():
            ask = prepare()
            begun = time.perf_counter()
            ask()
            if turn >= 3:
                took[name].append((time.perf_counter() - begun) * 1e3)
    found: dict[str, float] = {}
    for name, values in took.items():
        found[f"{name}_p50_ms"], found[f"{name}_p99_ms"] = _at(values, 0.5), _at(values, 0.99)
    return found


# ---- all of it


@contextmanager
def databases(which: str) -> Generator[dict[str, Callable[[Path], str]]]:
    """By name, what makes the URL of a fresh database."""
    made: dict[str, Callable[[Path], str]] = {}
    if which in {"sqlite", "both"}:
        made["sqlite"] = lambda folder: f"sqlite:///{folder / 'bench.db'}"
    if which in {"postgresql", "both"} and find_postgres():
        with ScratchPostgres() as server:
            made["postgresql"] = lambda _folder: server.create_database()
            yield made
    else:
        yield made


def measure(database: Callable[[Path], str], *, events: int, quick: bool) -> dict[str, Any]:
    """All figures of one database."""
    with tempfile.TemporaryDirectory(prefix="haetae-b-") as folder, tempfile.TemporaryDirectory(prefix="h-") as run:
        data = Path(folder)
        url = database(data)
        upgrade(url)
        engine = make_engine(url, writer=True)
        found: dict[str, Any] = {"events": events}
        logger, single = _Logger(data / "var", Path(run), url), _Single(Path(run), url)
        try:
            found |= measure_insert(logger, single, engine, 1_000 if quick else 5_000, 3 if quick else 7)
            found |= measure_acks(logger, 1.0 if quick else 10.0)
        finally:
            logger.close()
            single.close()
        engine.dispose()
        url = database(data / "year") if url.startswith("postgresql") else f"sqlite:///{data / 'year.db'}"
        upgrade(url)
        writer, reader = make_engine(url, writer=True), make_engine(url)
        days = QUICK_DAYS if quick else DAYS
        found |= fill(writer, events, days)
        found |= measure_pages(reader, 40 if quick else 300, days)
        found |= measure_statistics(reader, 20 if quick else 100, days)
        found["deep_over_first"] = round(found["deep_p50_ms"] / found["first_p50_ms"], 2)
        found["bytes_per_event"] = _size(writer) // max(1, events)
        writer.dispose()
        reader.dispose()
        return found


def _size(engine: Engine) -> int:
    if engine.dialect.name == "postgresql":
        with engine.connect() as connection:
            return connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one()
    return os.stat(engine.url.database or "").st_size  # noqa: PTH116


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quick", action="store_true", help="20,000 events of 60 days, fewer rounds")
    parser.add_argument("--large", action="store_true", help="10,000,000 events")
    parser.add_argument("--events", type=int, help="so many events to search (1,000,000)")
    parser.add_argument("--database", choices=["sqlite", "postgresql", "both"], default="both")
    parser.add_argument("--single", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.single:
        _serve_single(*args.single)
    events = args.events or (20_000 if args.quick else 10_000_000 if args.large else 1_000_000)
    found: dict[str, Any] = {}
    with databases(args.database) as made:
        for name, database in made.items():
            print(f"{name}: {events:,} events", file=sys.stderr)
            found[name] = measure(database, events=events, quick=args.quick)
    if args.json:
        print(json.dumps(found))
        return
    names = list(dict.fromkeys(key for one in found.values() for key in one))
    print(f"{'':<32}" + "".join(f"{name:>18}" for name in found))
    for key in names:
        print(f"{key:<32}" + "".join(f"{one.get(key, '')!s:>18}" for one in found.values()))


if __name__ == "__main__":
    main()
