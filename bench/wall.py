"""What sixteen live tiles cost a browser: memory over time, frames that are drawn, connections that are lost.

    python -m bench.wall [--json] [--quick] [--minutes 10] [--tiles 16]

Cameras are rings that a process of their own fills; the api process and the page are as they are shipped, the browser
is Debian's Chromium, headless, without a GPU. The page must not grow: the JavaScript heap is measured after its garbage
was collected, once the wall has been shown for a while and again at the end; what the renderer's process holds of its
own (decoded pictures are not on that heap) is measured beside it.
"""

import argparse
import contextlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from playwright.sync_api import CDPSession, Page, sync_playwright

from core.cameras import CameraConfig, CameraPhase
from core.cameras.live import LiveRow, LiveView
from core.clock import later_utc, utc_iso
from core.config import Config, load_config
from core.db import make_engine, upgrade
from core.db.accounts import add_user
from core.db.cameras import add_camera
from core.db.sessions import create_session
from core.frames import FrameFormat, RingWriter
from core.ids import CameraId
from core.security.permissions import Role
from core.security.tokens import hash_token, new_token
from workers.process import spawn

__all__ = ["main", "measure"]

SIZE = (640, 360)
FPS = 5.0
MAP = (22, 40)
WARM_S = 30.0
SAMPLE_S = 15.0
START_S = 60.0
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]


def _fill(run_dir: Path, names: list[CameraId], ready: Any, stop: Any) -> None:
    """A ring and a live row each, out of step with each other, until told to stop."""
    width, height = SIZE
    random = np.random.default_rng(3)
    ground = cv2.resize(random.integers(60, 190, (18, 32), np.uint8), SIZE, interpolation=cv2.INTER_CUBIC)
    picture = np.full((height * 3 // 2, width), 128, np.uint8)
    heat = random.integers(0, 200, MAP, np.uint8).tobytes()
    rings = [RingWriter.create(run_dir, name, "main", FrameFormat(*SIZE, "i420"), 6) for name in names]
    rows = [LiveRow(run_dir, name) for name in names]
    ready.set()
    begun, turn = time.monotonic(), 0
    while not stop.is_set():
        which = turn % len(names)
        time.sleep(max(0.0, begun + turn / (FPS * len(names)) - time.monotonic()))
        captured_ns = time.monotonic_ns()
        picture[:height] = ground
        left = turn * 7 % (width - 60)
        picture[120:240, left : left + 60] = 235  # something that moves
        with rings[which].write(turn / FPS, captured_ns, time.time_ns()) as slot:
            np.copyto(slot.pixels, picture)
        rows[which].write(
            LiveView(
                at_ns=captured_ns,
                phase=CameraPhase.WATCHING,
                stage="armed",
                score=float(random.uniform(0.1, 2.5)),
                scored_ns=captured_ns,
                open_score=2.0,
                map_rows=MAP[0],
                map_cols=MAP[1],
                map=heat,
                analysis_fps=FPS,
            )
        )
        turn += 1
    for one in (*rows, *rings):
        one.close()


@contextlib.contextmanager
def _cameras(config: Config, names: list[CameraId]) -> Iterator[None]:
    context = get_context("spawn")
    ready, stop = context.Event(), context.Event()
    process = context.Process(target=_fill, args=(config.run_dir, names, ready, stop), daemon=True)
    process.start()
    if not ready.wait(START_S):
        raise TimeoutError("the cameras did not start")
    try:
        yield
    finally:
        stop.set()
        process.join(10)


@contextlib.contextmanager
def _api(config: Config) -> Iterator[str]:
    """The api process; its address."""
    address = config.run_dir / "api.url"
    environment = {"HAETAE_API__PORT": "0", "HAETAE_API__FRAMES_PER_S": str(FPS)}
    with (config.logs_dir / "api.log").open("ab") as log:
        process = spawn("api", config=config, stderr=log, environment=environment)
    try:
        deadline = time.monotonic() + START_S
        while not address.exists() or not address.read_text():
            if process.poll() is not None or time.monotonic() > deadline:
                raise TimeoutError((config.logs_dir / "api.log").read_text(errors="replace")[-2000:])
            time.sleep(0.05)
        yield address.read_text().strip().rstrip("/")
    finally:
        process.terminate()
        process.wait(20)


def _prepare(config: Config, names: list[CameraId]) -> str:
    """Cameras and a session in an empty database; its refresh token."""
    upgrade(config.database_url)
    engine = make_engine(config.database_url, writer=True)
    for name in names:
        add_camera(engine, CameraConfig(camera_id=name, name=name, url="demo://plaza?seed=1"))
    secret, now = new_token("haetae_refresh"), utc_iso(datetime.now(UTC))
    with engine.begin() as connection:
        user = add_user(connection, name="bench", password_hash="-", role=Role.ADMIN, at=now)
        create_session(
            connection,
            user.id,
            token_hash=hash_token(secret),
            now=now,
            expires_at=later_utc(now, 86_400),
            address="127.0.0.1",
            user_agent="bench",
        )
    engine.dispose()
    return secret


def _renderers() -> set[int]:
    found: set[int] = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if b"--type=renderer" in path.read_bytes():
                found.add(int(path.parent.name))
    return found


def _own_mb(pids: set[int]) -> float:
    """Anonymous memory of these processes."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("RssAnon:"):
                    total += int(line.split()[1])
    return total / 1000


def _heap_mb(devtools: CDPSession) -> float:
    devtools.send("HeapProfiler.collectGarbage")
    metrics = {one["name"]: one["value"] for one in devtools.send("Performance.getMetrics")["metrics"]}
    return metrics["JSHeapUsedSize"] / 1e6


def _painted(page: Page) -> int:
    return page.evaluate("window.haetaePainted.frames")


def measure(*, tiles: int, seconds: float, warm_s: float) -> dict[str, Any]:
    """Shows so many tiles for so long; raises TimeoutError where they do not come."""
    names = [CameraId(f"cam{number:02d}") for number in range(tiles)]
    with contextlib.ExitStack() as stack:
        data = stack.enter_context(tempfile.TemporaryDirectory(prefix="haetae-w-"))
        run = stack.enter_context(tempfile.TemporaryDirectory(prefix="haetae-w-"))
        config = load_config(None, environ={}, paths={"data": data, "run": run})
        config.make_dirs()
        secret = _prepare(config, names)
        stack.enter_context(_cameras(config, names))
        base = stack.enter_context(_api(config))
        playwright = stack.enter_context(sync_playwright())
        others = _renderers()
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        context = browser.new_context(base_url=base, viewport={"width": 1920, "height": 1080})
        cookie = {"name": "haetae_refresh", "value": secret, "domain": "127.0.0.1", "path": "/api/v1/auth"}
        cookies: Any = [{**cookie, "httpOnly": True, "sameSite": "Strict"}]
        context.add_cookies(cookies)
        context.add_init_script("localStorage.setItem('haetae.session', 'yes')")
        page = context.new_page()
        lost: list[str] = []
        page.on("websocket", lambda socket: socket.on("close", lambda one: lost.append(one.url)))
        page.goto("/")
        page.locator(".tile[data-live=true]").nth(tiles - 1).wait_for(timeout=START_S * 1000)
        devtools = context.new_cdp_session(page)
        devtools.send("Performance.enable")
        page.wait_for_timeout(warm_s * 1000)
        own = _renderers() - others
        heaps, owns = [_heap_mb(devtools)], [_own_mb(own)]
        first, begun = _painted(page), time.monotonic()
        while (left := seconds - (time.monotonic() - begun)) > 0:
            page.wait_for_timeout(min(SAMPLE_S, left) * 1000)
            heaps.append(_heap_mb(devtools))
            owns.append(_own_mb(own))
        passed = time.monotonic() - begun
        found = {
            "tiles": tiles,
            "seconds": round(passed, 1),
            "frames_per_tile_s": round((_painted(page) - first) / passed / tiles, 2),
            "heap_mb": round(heaps[0], 2),
            "heap_growth": round(heaps[-1] / heaps[0] - 1, 4),
            "renderer_mb": round(owns[0], 1),
            "renderer_growth": round(owns[-1] / owns[0] - 1, 4) if owns[0] else None,
            "dropped_connections": len(lost),
            "live_at_the_end": page.locator(".tile[data-live=true]").count(),
        }
        browser.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="four tiles for some seconds: does it run?")
    parser.add_argument("--tiles", type=int, default=16)
    parser.add_argument("--minutes", type=float, default=10.0)
    arguments = parser.parse_args()
    if shutil.which("chromium") is None:
        sys.exit("Chromium is not installed: apt-get install chromium")
    if arguments.quick:
        found = measure(tiles=4, seconds=5.0, warm_s=2.0)
    else:
        found = measure(tiles=arguments.tiles, seconds=arguments.minutes * 60, warm_s=WARM_S)
    if arguments.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name:22} {value}")


if __name__ == "__main__":
    main()
