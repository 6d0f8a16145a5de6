"""Turning: to the preset for alarms because of an event, for a while, and back to the preset at which the camera
watches.

Where it has to go back to is on disk before it turns: a process that dies meanwhile does not leave it looking away.
"""

import queue
import threading
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

import msgspec
import structlog

from core.errors import HaetaeError

__all__ = ["TurnStep", "Turned", "Turning"]

log = structlog.get_logger()

AGAIN_S, AGAIN_MAX_S = 5.0, 60.0
"""How soon it is tried again to turn a camera back, at first and at most."""


class TurnStep(StrEnum):
    """What has become of it."""

    ASKED = "asked"
    """A flow wants it."""
    THERE = "there"
    """The camera agreed to turn; it may take seconds to get there."""
    REFUSED = "refused"
    LEAVES = "leaves"
    """It is about to be turned back: the last moment for a picture."""
    BACK = "back"
    """It agreed to turn back."""
    STUCK = "stuck"
    """It did not; it is tried again and again."""
    STAYS = "stays"
    """It was not even asked to turn."""


class Turned(msgspec.Struct, frozen=True):
    """Something to tell about the turn for an event; `event_id` "" where another process had turned it."""

    event_id: str
    step: TurnStep
    text: str


class _Away(msgspec.Struct):
    """A camera that may not be where it watches."""

    event_id: str
    home: str
    until_s: float
    """Monotonic; when it is to be turned back, or tried again."""
    preset: str = ""
    hold_s: float = 0.0
    returning: bool = False
    busy: bool = True
    """Whether the camera is being asked."""
    again_s: float = AGAIN_S


class Turning:
    """Of one camera; used by one thread. The camera is asked in another, which may take half a minute."""

    def __init__(self, file: Path, go: Callable[[str], object], clock: Callable[[], float] = time.monotonic) -> None:
        """`go` turns the camera to a preset and raises HaetaeError where it cannot; `file` remembers the way back."""
        self._file, self._go, self._clock = file, go, clock
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._away: _Away | None = None
        self.trouble = ""
        """Why it could not be turned back; "" where nothing is wrong."""
        home = self._remembered()
        if home:
            log.warning("found_turned", home=home)
            self._away = _Away("", home, until_s=clock(), returning=True, busy=False)

    @property
    def away(self) -> bool:
        """Whether the camera may show another view than the one it watches."""
        return self._away is not None

    def turn(self, event_id: str, preset: str, home: str, hold_s: float) -> str:
        """Begins to; returns "", or why it does not."""
        if self._away:
            return "it is turned already"
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.write_text(home)
        except OSError as error:
            return f"the way back could not be kept: {error.strerror}"
        self._away = _Away(event_id, home, until_s=0.0, preset=preset, hold_s=hold_s)
        self._ask(preset)
        return ""

    def poll(self) -> list[Turned]:
        """What has happened since; to be called often."""
        told: list[Turned] = []
        while self._away and not self._answers.empty():
            told.append(self._hear(self._away, self._answers.get()))
        away = self._away
        if away and not away.busy and self._clock() >= away.until_s:
            if not away.returning:
                told.append(Turned(away.event_id, TurnStep.LEAVES, f"back to {away.home}"))
            away.returning = away.busy = True
            self._ask(away.home)
        return told

    def _hear(self, away: _Away, refused: str) -> Turned:
        away.busy = False
        if not away.returning:
            if refused:
                # what did not answer may have turned all the same
                away.until_s, away.returning = self._clock(), True
                return Turned(away.event_id, TurnStep.REFUSED, refused)
            away.until_s = self._clock() + away.hold_s
            return Turned(away.event_id, TurnStep.THERE, f"turned to {away.preset}")
        if refused:
            away.until_s = self._clock() + away.again_s
            away.again_s = min(AGAIN_MAX_S, 2 * away.again_s)
            self.trouble = f"it could not be turned back to {away.home}: {refused}"
            return Turned(away.event_id, TurnStep.STUCK, refused)
        self._away, self.trouble = None, ""
        try:
            self._file.unlink(missing_ok=True)
        except OSError as error:
            log.warning("turn_not_forgotten", file=str(self._file), reason=error.strerror)
        return Turned(away.event_id, TurnStep.BACK, "is back")

    def _ask(self, preset: str) -> None:
        def work() -> None:
            try:
                self._go(preset)
            except HaetaeError as error:
                self._answers.put(str(error) or type(error).__name__)
            except Exception as error:
                log.exception("turning_failed")
                self._answers.put(f"{type(error).__name__}: {error}")
            else:
                self._answers.put("")

        threading.Thread(target=work, name="turning", daemon=True).start()

    def _remembered(self) -> str:
        try:
            return self._file.read_text().strip()[:256]
        except (OSError, ValueError):
            return ""
