"""DesiredCameras: which cameras should run, as the database says?"""

import threading

import structlog
from sqlalchemy.exc import SQLAlchemyError

from core.cameras import CameraConfig
from core.db import make_engine
from core.db.cameras import list_cameras

__all__ = ["DesiredCameras"]

log = structlog.get_logger()

PERIOD_S = 1.0


class DesiredCameras:
    """Re-reads the cameras each second in a thread of its own, so that a database that hangs stops nothing.

    While the database is away, what was read last holds.
    """

    def __init__(self, url: str) -> None:
        self._engine = make_engine(url)
        self._cameras: list[CameraConfig] | None = None
        self._read = threading.Condition()
        self._generation = 0
        self._wake = threading.Event()
        self._ended = False
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="desired-cameras", daemon=True)
        self._thread.start()

    def current(self) -> list[CameraConfig] | None:
        """What was read last; None before anything could be read."""
        return self._cameras

    def refresh(self, timeout_s: float) -> bool:
        """Reads now; waits up to `timeout_s`, and says whether a read that began after the call succeeded."""
        with self._read:
            wanted = self._generation + 2  # the read under way may have begun too early
            while self._generation < wanted:
                self._wake.set()
                before = self._generation
                if not self._read.wait_for(lambda before=before: self._generation > before, timeout_s):
                    return False
        return not self._failing

    def _run(self) -> None:
        while not self._ended:
            self._wake.clear()
            self._read_once()
            with self._read:
                self._generation += 1
                self._read.notify_all()
            self._wake.wait(PERIOD_S)
        self._engine.dispose()

    def _read_once(self) -> None:
        try:
            self._cameras = list_cameras(self._engine)
            if self._failing:
                log.info("database_is_back")
            self._failing = False
        except (SQLAlchemyError, ValueError) as error:
            if not self._failing:
                log.error("cameras_not_read", reason=str(error))
            self._failing = True

    def close(self) -> None:
        self._ended = True
        self._wake.set()
        self._thread.join(2.0)
