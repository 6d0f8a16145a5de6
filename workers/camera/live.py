"""A live source's comings and goings: connect, notice that it is silent or frozen, connect again."""

import random
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator

import numpy as np
import structlog

from core.cameras import CameraPhase
from core.config import CamerasConfig
from core.errors import AddressRefused, SecretError, SourceError
from workers.camera.capture import Pace, Round
from workers.camera.sources import Source, SourceFrame
from workers.camera.sources.stream import StreamSource

__all__ = ["Backoff", "Health", "LivePlayer", "PacketPump", "knock"]

log = structlog.get_logger()

STABLE_S = 10.0
"""A connection that held so long was a good one: the next wait is the first again."""
KNOCK_S = 1.0
"""How often it is looked, during a long wait, whether a host that was away is back."""
SAMPLE_ROWS = 16


class Backoff:
    """Waits that double up to a maximum, a fifth more or less, so that many cameras do not come at once."""

    def __init__(
        self, first_s: float, max_s: float, jitter: Callable[[], float] = lambda: random.uniform(0.8, 1.2)
    ) -> None:
        self._first_s, self._max_s, self._jitter = first_s, max_s, jitter
        self._failures = 0

    def next_s(self) -> float:
        """How long to wait before the next attempt."""
        wait_s = min(self._max_s, self._first_s * 2.0 ** min(self._failures, 20))
        self._failures += 1
        return wait_s * self._jitter()

    def reset(self) -> None:
        self._failures = 0


class Health:
    """What is wrong with the pictures, told by the capturing thread and read by the others; and whether they move."""

    def __init__(self, frozen_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.frozen_s, self._clock = frozen_s, clock
        self._fingerprint = 0
        self._changed_s = clock()
        self.trouble: tuple[CameraPhase, str] | None = (CameraPhase.CONNECTING, "")
        """The phase that this makes the camera's, and why; None where all is well."""
        self.reconnects = 0
        self.frozen = False

    def connecting(self) -> None:
        """Keeps the reason why the last attempt failed."""
        if self.trouble is None or self.trouble[0] is not CameraPhase.DISCONNECTED:
            self.trouble = (CameraPhase.CONNECTING, "")

    def disconnected(self, reason: str) -> None:
        log.warning("camera_disconnected", reason=reason)
        self.reconnects += 1
        self.trouble = (CameraPhase.DISCONNECTED, reason)

    def picture(self, luma: np.ndarray) -> None:
        """A picture came, (h, w) uint8."""
        fingerprint = zlib.crc32(luma[::SAMPLE_ROWS].tobytes())
        now = self._clock()
        if fingerprint != self._fingerprint:
            self._fingerprint, self._changed_s, self.frozen = fingerprint, now, False
        elif self.frozen_s and now - self._changed_s >= self.frozen_s:
            self.frozen = True
        if self.frozen:
            self.trouble = (CameraPhase.DEGRADED, f"the picture has not changed for {self.frozen_s:g} s: it is frozen")
        else:
            self.trouble = None


class LivePlayer:
    """Plays a live source for ever; its rounds are to be taken by the capturing thread, which waits here."""

    def __init__(
        self,
        opened: Callable[[], Source],
        health: Health,
        config: CamerasConfig,
        stopped: threading.Event,
        reachable: Callable[[], bool] | None = None,
    ) -> None:
        """`opened` connects, and raises SourceError; `reachable` says quickly whether the host takes connections."""
        self._opened, self._health, self._config, self._stopped = opened, health, config, stopped
        self._reachable = reachable
        self._backoff = Backoff(config.reconnect_s, config.reconnect_max_s)

    def rounds(self) -> Iterator[Round]:
        """A round for each connection."""
        while not self._stopped.is_set():
            self._health.connecting()
            try:
                source = self._opened()
            except (SourceError, AddressRefused, SecretError) as error:
                hint = f" ({error.hint})" if error.hint else ""
                self._health.disconnected(f"{error}{hint}")
            else:
                begun = time.monotonic()
                try:
                    yield Round(source=source, frames=self._frames(source), pace=Pace.LIVE)
                finally:
                    source.close()
                if time.monotonic() - begun >= STABLE_S:
                    self._backoff.reset()
            self._wait(self._backoff.next_s())

    def _frames(self, source: Source) -> Iterator[SourceFrame]:
        was_frozen = self._health.frozen
        try:
            for frame in source.frames():
                yield frame
                if self._health.frozen and not was_frozen:
                    log.warning("picture_frozen")
                    return  # once: a new connection brings some cameras back to life
                was_frozen = self._health.frozen
        except (SourceError, AddressRefused) as error:
            self._health.disconnected(str(error))

    def _wait(self, seconds: float) -> None:
        """Waits, but not on when a host that took no connections takes them again."""
        until = time.monotonic() + seconds
        away = False
        while not self._stopped.wait(min(KNOCK_S, max(0.0, until - time.monotonic()))):
            if time.monotonic() >= until:
                return
            if self._reachable:
                there = self._reachable()
                if there and away:
                    self._backoff.reset()
                    return
                away = not there


class PacketPump:
    """Reads a stream's packets, in a thread of its own, without decoding them: the main stream beside a sub-stream."""

    def __init__(self, opened: Callable[[], Source], config: CamerasConfig, stopped: threading.Event) -> None:
        self._opened, self._stopped = opened, stopped
        self._backoff = Backoff(config.reconnect_s, config.reconnect_max_s)
        self.trouble = ""
        """Why there are none now; "" where they come."""
        self._thread = threading.Thread(target=self._run, name="packets", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped.is_set():
            begun = time.monotonic()
            try:
                self._read()
            except (SourceError, AddressRefused, SecretError) as error:
                if not self.trouble:
                    log.warning("main_stream_lost", reason=str(error))
                self.trouble = f"no clips: the main stream is away ({error})"
            if time.monotonic() - begun >= STABLE_S:
                self._backoff.reset()
            self._stopped.wait(self._backoff.next_s())

    def _read(self) -> None:
        source = self._opened()
        try:
            if not isinstance(source, StreamSource):
                raise SourceError("pictures that are fetched one by one have no packets")
            self.trouble = ""
            source.read_packets()
        finally:
            source.close()

    def stop(self, timeout_s: float) -> bool:
        """False where it hangs in a library."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()


def knock(addresses: Callable[[], list[str]], port: int) -> bool:
    """Whether one of these addresses takes a connection within a second."""
    try:
        for address in addresses():
            with socket.create_connection((address, port), timeout=KNOCK_S):
                return True
    except (OSError, AddressRefused):
        pass
    return False
