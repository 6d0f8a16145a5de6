"""Is everybody told who is due to be, while the notifier is killed again and again?

`python -m bench.notify_kills [--json] [--kills 100] [--database sqlite|postgresql|both] [--seed N]`. Events are
committed all the time; the notifier is killed with SIGKILL at random moments and started again at once; the webhook
that it calls fails, or hangs up. Afterwards what was committed is compared with what the webhook took. A message that
was taken twice, because its sender died before it could write down that it was, must have come under the same key.
Exit code 1 if anything is not as it must be.
"""

import argparse
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import msgspec
from sqlalchemy import Engine, func, select

from bench.events import databases
from bench.kills import Site, Victim, until
from bench.notify import bench_site, live_event, make_rule
from bench.webhook import HookServer
from core.db.events import upsert_events
from core.db.tables import OutboxRow

__all__ = ["NotifyKillsReport", "main", "run_notify_kills"]

RATE = 50
APART_S = (0.05, 0.5)
"""From the moment at which the notifier works to its death."""
EARLY = 0.1
"""Share of the kills that do not wait for it to work: deaths while it starts."""
FAILS = 0.05
"""Share of requests that are refused for now, and again of those that get no answer."""
DRAIN_S = 300.0
START_S = 120.0


class NotifyKillsReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was done, and what was found; `lost`, `unknown` and `keys_differ` must be zero."""

    database: str
    kills: int
    events: int
    taken: int
    """Requests that were answered with 2xx."""
    doubles: int
    """Of those, how many were of a message that had been taken before."""
    lost: int
    """Events that nobody was told of."""
    unknown: int
    """Messages of events that were never committed."""
    keys_differ: int
    """Events that were told under more than one key."""
    not_sent: int
    """Messages that are not written down as sent, though they must be."""
    seconds: float

    @property
    def flawless(self) -> bool:
        return not (self.lost or self.unknown or self.keys_differ or self.not_sent)


class _Load(threading.Thread):
    """Commits events until it is told to end."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(name="load")
        self._engine = engine
        self._over = threading.Event()
        self.committed: list[str] = []

    def run(self) -> None:
        while not self._over.wait(1 / RATE):
            event = live_event(len(self.committed))
            with self._engine.begin() as connection:
                upsert_events(connection, [event])
            self.committed.append(event.id)

    def end(self) -> None:
        self._over.set()
        self.join()


def run_notify_kills(kills: int, seed: int, url: str, folder: Path) -> NotifyKillsReport:
    """Kills so many times and tells what it found; to be called from the main thread.

    Raises RuntimeError or TimeoutError where the notifier ends by itself, or does not come up.
    """
    began = time.monotonic()
    luck = random.Random(seed)
    answers = random.Random(seed + 1)

    def answer(_key: str) -> int:
        chance = answers.random()
        return 503 if chance < FAILS else 0 if chance < 2 * FAILS else 204

    quick = {"window_s": 0, "retry_s": 0.1, "retry_max_s": 1, "broken_after": 100}
    with HookServer(answer) as server, bench_site(url, folder, quick) as (config, engine):
        make_rule(engine, config, server.url)
        load = _Load(engine)
        with closing(Victim(Site(config, config.data_dir, small_disk=False), "notifier", "notifier")) as notifier:
            until("it works", lambda: notifier.works(count=0), START_S)
            load.start()
            try:
                for _ in range(kills):
                    if luck.random() >= EARLY:
                        until("it works", notifier.works, START_S)
                    time.sleep(luck.uniform(*APART_S))
                    notifier.kill()
                    notifier.start()
            finally:
                load.end()
            until("it works once more", lambda: notifier.works(count=0), START_S)
            until("all is sent", lambda: _unsent(engine, len(load.committed)) == 0, DRAIN_S, period_s=0.1)
            notifier.terminate()
            notifier.join()
        not_sent = _unsent(engine, len(load.committed))
        return NotifyKillsReport(
            database=engine.dialect.name,
            kills=kills,
            **_compare(load.committed, server),
            not_sent=not_sent,
            seconds=round(time.monotonic() - began, 1),
        )


def _unsent(engine: Engine, wanted: int) -> int:
    with engine.connect() as connection:
        query = select(func.count()).select_from(OutboxRow).where(OutboxRow.state == "sent")
        return wanted - connection.execute(query).scalar_one()


def _compare(committed: list[str], server: HookServer) -> dict[str, int]:
    """What was committed against what was taken."""
    keys: dict[str, set[str]] = {}
    taken: Counter[str] = Counter()
    for hook in server.hooks:
        event_id = msgspec.json.decode(hook.body)["event"]["id"]
        keys.setdefault(event_id, set()).add(hook.key)
        taken[event_id] += hook.status == 204
    return {
        "events": len(committed),
        "taken": taken.total(),
        "doubles": sum(count - 1 for count in taken.values() if count > 1),
        "lost": sum(not taken[event_id] for event_id in committed),
        "unknown": len(taken.keys() - set(committed)),
        "keys_differ": sum(len(some) > 1 for some in keys.values()),
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench.notify_kills", description=__doc__)
    parser.add_argument("--json", action="store_true", help="only JSON on stdout: a list, one object per database")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--database", choices=["sqlite", "postgresql", "both"], default="both")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(argv)
    reports: list[NotifyKillsReport] = []
    with databases(options.database) as made:
        for database in made.values():
            with tempfile.TemporaryDirectory(prefix="haetae-b-") as folder:
                reports.append(run_notify_kills(options.kills, options.seed, database(Path(folder)), Path(folder)))
    if options.json:
        print(msgspec.json.encode(reports).decode())
    else:
        for name in NotifyKillsReport.__struct_fields__:
            print(f"{name:14}" + "".join(f"{getattr(report, name)!s:>14}" for report in reports))
    return 0 if all(report.flawless for report in reports) else 1


if __name__ == "__main__":
    sys.exit(main())
