"""Does a running house of four cameras get over whatever happens to it, and does it lose anything?

`python -m bench.chaos [--seconds 120] [--json] [--seed 1] [--quick]`. All processes run under supervisord, with events
all the time. Processes are killed (SIGKILL), stopped (SIGSTOP) and ended (SIGTERM) at random, none twice within 30 s;
in between /dev/shm and the disk are filled, both of which are small ones of the run's own in a mount namespace. At last
the wall clock of all processes, started anew for that, is stepped by an hour (libfaketime). Without root, or
libfaketime, these are left out and named in `left_out`. Exit code 1 if anything is not as it must be.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import func, select

from core.cameras import CameraConfig, CameraPhase
from core.config import Config, load_config
from core.db import make_engine, upgrade
from core.db.cameras import add_camera, list_cameras
from core.db.tables import EventRow
from core.frames import list_rings, segment_prefix
from core.heartbeat import read_heartbeat
from core.ids import CameraId
from core.process import process_environment
from workers.commands.up import SUPERVISORD_CONF

__all__ = ["ChaosReport", "House", "main", "run_chaos", "waited"]

CAMERAS = tuple(CameraId(name) for name in ("north", "east", "south", "west"))
ROLES = ("inference", "logger", "manager", "api", "notifier", "watchdog")
SIGNALS = (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM)
APART_S = 30.0
"""The same process is not hit again within this: the flapping cool-down is tested apart."""
GIVE_UP_S = 120.0
START_S = 180.0
FULL_S = 2.0
REST_S = 10.0
CLOCK_STEPS_S = (3600, -3600)
SHM, DISK = "256m", "512m"
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
ALIVE = {CameraPhase.PROVISIONAL, CameraPhase.WATCHING}
EAGER = {
    "HAETAE_TRACKER__OPEN_SCORE": "0.02",
    "HAETAE_TRACKER__CLOSE_SCORE": "0.01",
    "HAETAE_TRACKER__PERSIST_S": "0.1",
    "HAETAE_TRACKER__SMOOTH_S": "0.2",
    "HAETAE_TRACKER__CLOSE_S": "0.1",
    "HAETAE_TRACKER__MERGE_S": "0.1",
    "HAETAE_TRACKER__MAX_S": "1.0",
    "HAETAE_TRACKER__UPDATE_S": "0.3",
    "HAETAE_API__PORT": "0",
}
"""Events all the time: any ordinary movement is one, and none is long."""


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """What was done to whom, and how long it took until all was well again (None: it never was)."""

    what: str
    victim: str
    recovery_s: float | None


class ChaosReport(msgspec.Struct, frozen=True, kw_only=True):
    """`events_*` compare the journal, which holds whatever was acknowledged, with the database afterwards."""

    seconds: float
    faults: int
    recovered: int
    recovery_p50_s: float
    recovery_p99_s: float
    camera_killed_max_s: float
    """Slowest recovery of a camera's process after SIGKILL: to its next frame."""
    events_acknowledged: int
    events_lost: int
    events_doubled: int
    orphan_segments: int
    orphan_processes: int
    other_cameras_frame_loss: float
    """Share of the other cameras' frames that were dropped while one camera failed."""
    frame_loss_at_rest: float
    """The same share before anything was done to anybody: events that never cease are work."""
    by_fault: dict[str, float]
    """Slowest recovery by what was done to what."""
    left_out: list[str]

    @property
    def flawless(self) -> bool:
        lost = self.events_lost or self.events_doubled or self.orphan_segments or self.orphan_processes
        return not lost and self.faults == self.recovered


# ---- the house


class House:
    """Everything under supervisord, in folders of its own."""

    def __init__(
        self, config: Config, clock: Path | None, cameras: Sequence[CameraId] = CAMERAS, query: str = ""
    ) -> None:
        """`query` is added to the URL of each demo camera."""
        self.config = config
        self._clock, self._cameras = clock, cameras
        upgrade(config.database_url)
        engine = make_engine(config.database_url, writer=True)
        known = {camera.camera_id for camera in list_cameras(engine)}
        for number, camera_id in enumerate(cameras):
            if camera_id in known:
                continue
            url = f"demo://{('plaza', 'street')[number % 2]}?seed={number + 1}{query}"
            add_camera(engine, CameraConfig(camera_id=camera_id, name=camera_id, url=url, learn_s=15.0))
        engine.dispose()
        environment = {**process_environment(config), **EAGER, "HAETAE_PYTHON": sys.executable}
        if clock:
            set_clock(clock, 0)
            environment |= {
                "LD_PRELOAD": str(FAKETIME),
                "FAKETIME_TIMESTAMP_FILE": str(clock),
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                "FAKETIME_CACHE_DURATION": "1",
            }
        self.supervisor = subprocess.Popen(
            [sys.executable, "-m", "workers.supervise", str(os.getpid()), str(SUPERVISORD_CONF)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # it complains of every line that a full disk takes from it
            start_new_session=True,
            env=environment,
        )

    def pid(self, name: str) -> int:
        """Of a process that lives and beats; 0 where it does not."""
        beat = read_heartbeat(self.config.run_dir, name)
        return beat.pid if beat and beat.age_s < 2.0 else 0

    def watches(self, camera_id: str, not_pid: int = 0) -> bool:
        """Whether the camera has given pictures since it was started, by another process than `not_pid`."""
        beat = read_heartbeat(self.config.run_dir, f"camera-{camera_id}")
        alive = beat is not None and beat.age_s < 1.0 and beat.phase in ALIVE
        return bool(alive and beat and beat.count and beat.pid != not_pid)

    def well(self) -> bool:
        return all(self.pid(role) for role in ROLES) and all(map(self.watches, self._cameras))

    def counted(self, camera_id: str) -> tuple[float, float]:
        """(frames, frames dropped) of a camera's process so far, as it last wrote."""
        try:
            samples = json.loads((self.config.run_dir / "metrics" / f"camera-{camera_id}.json").read_bytes())
        except (OSError, ValueError):
            return 0.0, 0.0
        values = {sample["name"]: sample["value"] for sample in samples}
        return values.get("haetae_camera_frames", 0.0), values.get("haetae_camera_frames_skipped", 0.0)

    def stop(self) -> None:
        self.supervisor.terminate()
        try:
            self.supervisor.wait(60)
        except subprocess.TimeoutExpired:
            self.supervisor.kill()
            self.supervisor.wait()


def set_clock(path: Path, offset_s: int) -> None:
    aside = path.with_suffix(".part")
    aside.write_text(f"{offset_s:+d}")
    aside.replace(path)


def waited(condition: Callable[[], object], limit_s: float) -> float | None:
    """Seconds until `condition` held; None where it did not in time."""
    begun = time.monotonic()
    while time.monotonic() - begun < limit_s:
        if condition():
            return time.monotonic() - begun
        time.sleep(0.02)
    return None


# ---- what is done to it


class Chaos:
    """Hits one process after the other, and notes how long each took to be back."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._house: Any = None
        self._hit_at: dict[str, float] = {}
        self.faults: list[Fault] = []
        self.frames = self.dropped = self.loss_at_rest = 0.0

    def enter(self, house: House) -> None:
        """From now on it is this one that is hit."""
        self._house = house
        self._hit_at.clear()

    def rest(self, seconds: float) -> None:
        """Leaves the house alone, to see what it loses by itself."""
        before = {one: self._house.counted(one) for one in CAMERAS}
        time.sleep(seconds)  # nothing is waited for
        gone = [(now[0] - was[0], now[1] - was[1]) for one, was in before.items() if (now := self._house.counted(one))]
        frames = sum(one for one, _ in gone)
        self.loss_at_rest = sum(one for _, one in gone) / frames if frames else 0.0

    def hit_one(self) -> bool:
        """Hits a process that was left alone for long enough; False where there is none now."""
        now = time.monotonic()
        names = [f"camera-{camera_id}" for camera_id in CAMERAS] + list(ROLES)
        ready = [name for name in names if now - self._hit_at.get(name, -APART_S) >= APART_S]
        if not ready:
            return False
        name, number = self._random.choice(ready), self._random.choice(SIGNALS)
        self.hit(name, number)
        return True

    def hit(self, name: str, number: signal.Signals) -> None:
        pid = self._house.pid(name)
        camera_id = name.removeprefix("camera-")
        others = [one for one in CAMERAS if one != camera_id] if name.startswith("camera-") else []
        before = {one: self._house.counted(one) for one in others}
        self._hit_at[name] = time.monotonic()
        if name == "manager":  # its cameras end with it
            self._hit_at |= {f"camera-{one}": time.monotonic() for one in CAMERAS}
        os.kill(pid, number)

        def back() -> bool:
            if name.startswith("camera-"):
                return self._house.watches(camera_id, not_pid=pid)
            return self._house.pid(name) not in {0, pid} and self._house.well()

        self._note(number.name, name, waited(back, GIVE_UP_S))
        for one, (frames, dropped) in before.items():
            now_frames, now_dropped = self._house.counted(one)
            if now_frames >= frames:
                self.frames += now_frames - frames
                self.dropped += now_dropped - dropped

    def fill(self, what: str, folder: Path) -> None:
        """Fills a file system for a while; the house must be well again once there is room."""
        filler = folder / "chaos.filler"
        with filler.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(1 << 20)):
                    pass
            except OSError:
                pass
        time.sleep(FULL_S)  # the fault itself
        filler.unlink()
        self._note(what, "all", waited(self._house.well, GIVE_UP_S))

    def step_clock(self, clock: Path, offset_s: int) -> None:
        """From now on all processes see the true time and `offset_s`; the house must be well."""
        set_clock(clock, offset_s)
        time.sleep(FULL_S)  # the processes look at the file each second
        self._note("clock", "all", waited(self._house.well, GIVE_UP_S))

    def _note(self, what: str, victim: str, recovery_s: float | None) -> None:
        self.faults.append(Fault(what=what, victim=victim, recovery_s=recovery_s))
        took = "not recovered" if recovery_s is None else f"{recovery_s:.2f} s"
        print(f"{what} {victim}: {took}", file=sys.stderr, flush=True)


def run_chaos(seconds: float, seed: int, data: Path, *, own_mounts: bool, with_clock: bool = True) -> ChaosReport:
    """Runs a house in `data` for so long, then one whose clock steps, and looks afterwards at what they left."""
    with tempfile.TemporaryDirectory(prefix="haetae-x-") as run:
        config = load_config(None, {}, paths={"data": str(data), "run": run})
        config.make_dirs()
        clock = Path(run) / "clock" if with_clock and FAKETIME.exists() else None
        left_out = ([] if clock else ["clock"]) + ([] if own_mounts else ["shm", "disk"])
        chaos = Chaos(seed)
        disk = data if own_mounts else None
        with _house(config, None, chaos):
            chaos.rest(min(REST_S, seconds / 3))
            _wreak(chaos, seconds, disk)
        if clock:
            with _house(config, clock, chaos):
                for offset_s in CLOCK_STEPS_S:
                    chaos.step_clock(clock, offset_s)
        return _judge(config, chaos, seconds, left_out)


@contextmanager
def _house(config: Config, clock: Path | None, chaos: "Chaos") -> Iterator[None]:
    """A house that is well, for `chaos` to be wreaked in; raises RuntimeError.

    Only the last one has a clock that can be stepped, and nothing else is done to it: libfaketime is in all that waits,
    and a start takes several times as long with it.
    """
    house = House(config, clock)
    try:
        if waited(house.well, START_S) is None:
            raise RuntimeError(f"the house was not well after {START_S:.0f} s")
        chaos.enter(house)
        yield
    finally:
        house.stop()


def _wreak(chaos: Chaos, seconds: float, disk: Path | None) -> None:
    begun = time.monotonic()
    special: list[tuple[float, Callable[[], None]]] = []
    if disk:
        special += [
            (0.3, lambda: chaos.fill("shm full", Path("/dev/shm"))),
            (0.7, lambda: chaos.fill("disk full", disk)),
        ]
    while (passed := (time.monotonic() - begun) / seconds) < 1:
        if special and passed >= special[0][0]:
            special.pop(0)[1]()
        elif not chaos.hit_one():
            time.sleep(0.1)


def _judge(config: Config, chaos: Chaos, seconds: float, left_out: list[str]) -> ChaosReport:
    acknowledged = _journaled(config.journal_dir)
    engine = make_engine(config.database_url)
    with engine.connect() as connection:
        stored = {row.id: row.revision for row in connection.execute(select(EventRow.id, EventRow.revision))}
        rows = connection.execute(select(func.count()).select_from(EventRow)).scalar_one()
    engine.dispose()
    times = sorted(fault.recovery_s for fault in chaos.faults if fault.recovery_s is not None)
    by_fault: dict[str, float] = {}
    for fault in chaos.faults:
        key = f"{fault.what} {'camera' if fault.victim.startswith('camera-') else fault.victim}"
        by_fault[key] = round(
            max(by_fault.get(key, 0.0), GIVE_UP_S if fault.recovery_s is None else fault.recovery_s), 2
        )
    return ChaosReport(
        seconds=seconds,
        faults=len(chaos.faults),
        recovered=len(times),
        recovery_p50_s=round(times[len(times) // 2], 2) if times else 0.0,
        recovery_p99_s=round(times[min(len(times) - 1, int(len(times) * 0.99))], 2) if times else 0.0,
        camera_killed_max_s=by_fault.get("SIGKILL camera", 0.0),
        events_acknowledged=len(acknowledged),
        events_lost=sum(stored.get(key, 0) < revision for key, revision in acknowledged.items()),
        events_doubled=rows - len(stored),
        orphan_segments=len(list_rings(config.run_dir)) + len(_segments(config)),
        orphan_processes=len(_processes(config)),
        frame_loss_at_rest=round(chaos.loss_at_rest, 5),
        other_cameras_frame_loss=round(chaos.dropped / chaos.frames, 5) if chaos.frames else 0.0,
        by_fault=dict(sorted(by_fault.items())),
        left_out=left_out,
    )


def _journaled(folder: Path) -> dict[str, int]:
    """Highest revision of each event that was ever acknowledged."""
    highest: dict[str, int] = {}
    for file in sorted(folder.glob("*.jsonl")):
        if file.name == "rejected.jsonl":
            continue
        for line in file.read_text().splitlines():
            try:
                found = json.loads(line[line.index("{") :])
            except ValueError:
                continue  # torn by a kill, and so never acknowledged
            if "record" not in found:  # else camera history
                highest[found["id"]] = max(highest.get(found["id"], 0), found["revision"])
    return highest


def _segments(config: Config) -> list[str]:
    """Segments in /dev/shm that nobody holds a name for any more: all of this run's are gone at its end."""
    return [path.name for path in Path("/dev/shm").glob(f"{segment_prefix(config.run_dir)}*")]


def _processes(config: Config) -> list[str]:
    mark = str(config.run_dir).encode()
    found: list[str] = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int(folder.name) != os.getpid() and mark in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


# ---- the command


@contextmanager
def _folder(*, own_mounts: bool) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="haetae-chaos-") as folder:
        mounts = [("/dev/shm", SHM), (folder, DISK)] if own_mounts else []
        for target, size in mounts:
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "haetae-chaos", target], check=True)
        try:
            yield Path(folder)
        finally:
            for target, _ in reversed(mounts):
                subprocess.run(["umount", "--lazy", target], check=False)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="only JSON on stdout")
    parser.add_argument("--quick", action="store_true", help="a few faults, and none of the clock")
    parser.add_argument("--inside", action="store_true", help="in a mount namespace already: for the run's own use")
    options = parser.parse_args(argv)
    words = sys.argv[1:] if argv is None else argv
    if not options.inside and os.getuid() == 0 and shutil.which("unshare"):
        able = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0
        if able:
            command = ["unshare", "--mount", sys.executable, "-m", "bench.chaos", *words, "--inside"]
            return subprocess.run(command, check=False).returncode
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    seconds = 6.0 if options.quick else options.seconds
    try:
        with _folder(own_mounts=options.inside) as data:
            report = run_chaos(seconds, options.seed, data, own_mounts=options.inside, with_clock=not options.quick)
    except RuntimeError as error:
        print(f"bench.chaos: {error}", file=sys.stderr)
        return 2
    found: dict[str, Any] = msgspec.to_builtins(report)
    if options.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:26}{value}")
    return 0 if report.flawless else 1


if __name__ == "__main__":
    sys.exit(main())
