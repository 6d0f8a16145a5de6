"""Turning a camera and turning it back: on a clock of its own, with a camera that answers when it is told to."""

import queue
from pathlib import Path

import pytest

from core.errors import SourceError
from tests.servers import until
from workers.camera.turning import Turned, Turning, TurnStep


class Head:
    """A camera's motor: waits with each answer until the test gives it."""

    def __init__(self) -> None:
        self.asked: queue.Queue[str] = queue.Queue()
        self.answers: queue.Queue[Exception | None] = queue.Queue()

    def __call__(self, preset: str) -> None:
        self.asked.put(preset)
        if error := self.answers.get(timeout=60):
            raise error


class Site:
    def __init__(self, file: Path) -> None:
        self.now_s, self.head, self.file = 100.0, Head(), file
        self.turning = Turning(file, self.head, lambda: self.now_s)

    def answers(self, preset: str, error: Exception | None = None) -> Turned:
        """The camera was asked for `preset`, and answers now."""
        assert self.head.asked.get(timeout=60) == preset
        assert self.turning.poll() == [], "it does not wait for the camera"
        self.head.answers.put(error)
        (told,) = until(self.turning.poll, "the answer is heard")
        return told


@pytest.fixture
def site(tmp_path) -> Site:
    return Site(tmp_path / "turned" / "gate")


def test_there_and_back(site):
    assert not site.turning.away
    assert site.turning.turn("e1", "yard", "gate", 20.0) == ""
    assert site.turning.away
    assert site.file.read_text() == "gate", "before it turns"
    assert site.turning.turn("e2", "yard", "gate", 20.0) == "it is turned already"
    assert site.answers("yard").step is TurnStep.THERE
    site.now_s += 19.9
    assert site.turning.poll() == []
    site.now_s += 0.1
    assert [one.step for one in site.turning.poll()] == [TurnStep.LEAVES]
    assert site.turning.away
    assert site.answers("gate") == Turned("e1", TurnStep.BACK, "is back")
    assert not site.turning.away
    assert not site.file.exists()


def test_what_refuses_to_turn_is_turned_back_all_the_same(site):
    site.turning.turn("e1", "yard", "gate", 20.0)
    refused = site.answers("yard", SourceError("no such preset: yard"))
    assert (refused.step, refused.text) == (TurnStep.REFUSED, "no such preset: yard")
    assert site.turning.poll() == [], "there is nothing to see where it did not go"
    assert site.answers("gate").step is TurnStep.BACK


def test_turning_back_is_tried_until_it_works_ever_more_seldom(site):
    site.turning.turn("e1", "yard", "gate", 20.0)
    site.answers("yard")
    site.now_s += 20.0
    site.turning.poll()
    for wait_s in (5.0, 10.0, 20.0, 40.0, 60.0, 60.0):
        assert site.answers("gate", SourceError("no answer")).step is TurnStep.STUCK
        assert site.turning.trouble == "it could not be turned back to gate: no answer"
        site.now_s += wait_s - 0.1
        assert site.turning.poll() == []
        assert site.head.asked.empty()
        site.now_s += 0.2
        assert site.turning.poll() == []
    assert site.answers("gate").step is TurnStep.BACK
    assert site.turning.trouble == ""


def test_a_camera_that_is_away_for_days_is_still_asked_once_a_minute(site):
    site.turning.turn("e1", "yard", "gate", 20.0)
    site.answers("yard")
    site.now_s += 20.0
    site.turning.poll()
    for _ in range(1100):
        site.answers("gate", SourceError("no answer"))
        site.now_s += 60.1
        site.turning.poll()
    assert site.answers("gate").step is TurnStep.BACK


def test_an_unforeseen_error_is_an_answer_too(site):
    site.turning.turn("e1", "yard", "gate", 20.0)
    assert site.answers("yard", ZeroDivisionError("by a library")).text == "ZeroDivisionError: by a library"


def test_a_process_that_finds_its_camera_turned_turns_it_back(site):
    site.file.parent.mkdir()
    site.file.write_text("gate")
    later = Site(site.file)
    assert later.turning.away
    assert later.turning.poll() == []
    assert later.answers("gate") == Turned("", TurnStep.BACK, "is back")


def test_where_the_way_back_cannot_be_kept_it_stays(site):
    site.file.parent.write_text("a file in the place of the folder")
    assert "the way back could not be kept" in site.turning.turn("e1", "yard", "gate", 20.0)
    assert not site.turning.away
    assert site.head.asked.empty()
