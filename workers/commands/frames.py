"""`haetae frames`: every frame ring of this machine, live, as `top` shows processes."""

import argparse
import json
import os
import sys
import time
from typing import Any

import msgspec
from rich.console import Console
from rich.live import Live
from rich.table import Table

from core.config import Config
from core.errors import BusError
from core.frames import RingInfo, RingReader, list_rings, mappers
from core.frames.segments import free_bytes
from workers.commands.camera import configure

__all__ = ["add_parser"]


class Row(msgspec.Struct, frozen=True):
    """What is shown of one ring; `rate` in frames per second since it was looked at before."""

    camera_id: str
    stream: str
    width: int
    height: int
    pixel_format: str
    slots: int
    megabytes: float
    rate: float | None
    age_s: float | None
    readers: int
    torn: int
    leases_denied: int
    writer: int
    alive: bool


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("frames", help="show every frame ring, live")
    parser.add_argument("--once", action="store_true", help="look twice, a second apart, show that and end")
    parser.add_argument("--interval", type=float, default=1.0, metavar="S", help="seconds between looks (1)")
    parser.add_argument("--json", action="store_true", help="once, for programs")
    parser.set_defaults(run=_run)


class _Watch:
    """Looks at all rings, and remembers what it needs for their rates."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._readers: dict[str, RingReader] = {}
        self._before: dict[str, tuple[int, float]] = {}

    def look(self) -> list[Row]:
        rings = list_rings(self._config.run_dir)
        for gone in self._readers.keys() - {info.segment for info in rings}:
            self._readers.pop(gone).close()
            self._before.pop(gone, None)
        return [row for info in rings if (row := self._row(info))]

    def _row(self, info: RingInfo) -> Row | None:
        try:
            reader = self._readers.get(info.segment)
            if reader is None:
                reader = self._readers[info.segment] = RingReader(self._config.run_dir, info)
        except (BusError, OSError):
            return None  # ended between the two looks
        newest, now = reader.latest(), time.monotonic()
        seq = newest.seq if newest else 0
        counted, at = self._before.get(info.segment, (seq, now))
        self._before[info.segment] = (seq, now)
        statistics = reader.statistics()
        others = set(mappers(info)) - {info.pid, os.getpid()}
        return Row(
            camera_id=info.camera_id,
            stream=info.stream,
            width=info.format.width,
            height=info.format.height,
            pixel_format=info.format.pixel_format,
            slots=info.n_slots,
            megabytes=round(info.format.nbytes * info.n_slots / 1e6, 1),
            rate=round((seq - counted) / (now - at), 1) if now > at else None,
            age_s=round(statistics.age_s, 3) if newest else None,
            readers=len(others),
            torn=statistics.all_torn,
            leases_denied=statistics.all_denied,
            writer=info.pid,
            alive=reader.writer_alive(),
        )

    def close(self) -> None:
        for reader in self._readers.values():
            reader.close()


def _run(args: argparse.Namespace) -> int:
    watch = _Watch(configure(args))
    console = Console()
    try:
        rows = watch.look()
        if args.once or args.json or not sys.stdout.isatty():
            time.sleep(args.interval)
            rows = watch.look()
            if args.json:
                print(json.dumps([msgspec.to_builtins(row) for row in rows]))
            else:
                console.print(_table(rows))
            return 0
        with Live(_table(rows), console=console, screen=True, auto_refresh=False) as live:
            while True:
                time.sleep(args.interval)
                live.update(_table(watch.look()), refresh=True)
    finally:
        watch.close()


def _table(rows: list[Row]) -> Table:
    total = sum(row.megabytes for row in rows)
    title = f"{len(rows)} rings, {total:.0f} MB; {free_bytes() / 1e6:.0f} MB free in /dev/shm"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in ("camera", "ring", "size"):
        table.add_column(name)
    for name in ("slots", "MB", "frames/s", "age", "readers", "torn", "denied", "writer"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            row.camera_id,
            row.stream,
            f"{row.width}x{row.height} {row.pixel_format}",
            str(row.slots),
            f"{row.megabytes:.1f}",
            "-" if row.rate is None else f"{row.rate:.1f}",
            "-" if row.age_s is None else _age(row.age_s),
            str(row.readers),
            str(row.torn),
            str(row.leases_denied),
            str(row.writer) if row.alive else f"{row.writer} (dead)",
        )
    return table


def _age(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 10 else f"{seconds:.0f} s"
