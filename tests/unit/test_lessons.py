"""Lessons: what was called normal lowers the score at that place, no more than was said, and nowhere else."""

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from core.events.judgements import Judgement, alike, attribute_of
from core.events.model import Place
from core.ids import EventId
from core.wire.messages import ScoreReply
from workers.camera.lessons import MOST, Lessons

SPEED, AMOUNT = "3.1 x the usual speed here", "2.0 x the usual amount of movement here"
ROWS, COLUMNS = 22, 40
ASPECT = 16 / 9


def judged(x: float, y: float, score: float, reason: str = SPEED, **changes: str) -> Judgement:
    told = {"verdict": "normal", "vad_type": "motion_stats"} | changes
    return Judgement(event_id=EventId("e"), x=x, y=y, score=score, attribute=attribute_of(reason), **told)


def reply(*peaks: tuple[float, float, float], reason: str = SPEED) -> ScoreReply:
    """Levels at places; the first one's is the frame's."""
    levels = np.full((ROWS, COLUMNS), 0.1)
    for x, y, level in peaks:
        levels[int(y * ROWS), int(x * COLUMNS)] = level
    shown = np.clip(levels * 255 / 6, 0, 255).astype(np.uint8).tobytes()
    x, y, score = peaks[0]
    return ScoreReply(
        status="scored", score=score, peak_x=x, peak_y=y, map=shown, map_rows=ROWS, map_cols=COLUMNS, reason=reason
    )


def test_what_was_called_normal_is_no_more_at_that_place_and_still_is_elsewhere():
    lessons = Lessons([judged(0.3, 0.5, 3.0)], "motion_stats")
    assert lessons.apply(reply((0.3, 0.5, 3.0)), ASPECT).score < 0.5
    assert lessons.apply(reply((0.32, 0.52, 3.2)), ASPECT).score < 0.5
    elsewhere = reply((0.7, 0.5, 3.0))
    assert lessons.apply(elsewhere, ASPECT) is elsewhere


def test_something_else_in_the_picture_is_as_unusual_as_it_was():
    lessons = Lessons([judged(0.3, 0.5, 3.0)], "motion_stats")
    both = lessons.apply(reply((0.3, 0.5, 3.0), (0.8, 0.5, 2.9)), ASPECT)
    assert 2.7 < both.score <= 3.0
    assert abs(both.peak_x - 0.8) < 0.03


def test_what_is_much_more_unusual_than_was_said_is_still_seen_and_nobody_makes_a_place_blind():
    lessons = Lessons([judged(0.3, 0.5, 3.0)], "motion_stats")
    assert lessons.apply(reply((0.3, 0.5, 5.5)), ASPECT).score >= 2.4
    blinding = Lessons([judged(0.3, 0.5, 50.0)] * 9, "motion_stats")
    assert blinding.apply(reply((0.3, 0.5, 9.0)), ASPECT).score == 9.0 - MOST


def test_another_attribute_is_forgiven_by_half_and_another_type_not_at_all():
    lessons = Lessons([judged(0.3, 0.5, 3.0)], "motion_stats")
    assert 1.3 < lessons.apply(reply((0.3, 0.5, 3.0), reason=AMOUNT), ASPECT).score < 1.7
    assert Lessons([judged(0.3, 0.5, 3.0)], "synthetic").learned == 0
    assert Lessons([judged(0.3, 0.5, 3.0, verdict="real")], "motion_stats").learned == 0


def test_reasons_are_alike_whatever_was_measured():
    assert attribute_of(SPEED) == attribute_of("12 x the usual speed here") == "the usual speed here"
    assert attribute_of("movement where there is usually none") == "movement where there is usually none"


def test_reasons_are_alike_where_one_of_the_things_that_were_unusual_is():
    one, two = (attribute_of(text) for text in (f"{SPEED}; 1.8 x the usual size here", "4 x the usual size here"))
    assert alike(one, two)
    assert not alike(two, attribute_of(SPEED))
    rare, rarer = (f"looks unlike what is usually here (1 in {n:,})" for n in (1234, 1_234_567_890))
    assert attribute_of(rare) == attribute_of(rarer)
    assert not alike(attribute_of(rare), attribute_of(SPEED))


def test_what_moved_and_was_called_normal_is_so_all_along_its_way():
    """A cyclist is most unusual at one place, and the next one at another."""
    way = tuple(Place(x=n / 10, y=0.5, score=2.0 + n / 5) for n in range(1, 10))
    lessons = Lessons([msgspec.structs.replace(judged(0.9, 0.5, 3.8), path=way)], "motion_stats")
    for x, score in ((0.12, 2.2), (0.5, 3.0), (0.9, 3.8)):
        assert lessons.apply(reply((x, 0.5, score)), ASPECT).score < 0.5
    assert lessons.apply(reply((0.12, 0.5, 4.2)), ASPECT).score >= 1.9
    assert lessons.apply(reply((0.5, 0.95, 3.0)), ASPECT).score == 3.0


PLACE = st.floats(0.01, 0.99)


@given(
    st.lists(st.tuples(PLACE, PLACE, st.floats(0.1, 20)), max_size=4),
    st.lists(st.tuples(PLACE, PLACE, st.floats(0.1, 20)), min_size=1, max_size=4),
)
def test_lessons_only_ever_lower_a_score_and_by_no_more_than_was_said(said, shown):
    before = reply(*sorted(shown, key=lambda one: -one[2]))
    after = Lessons([judged(*one) for one in said], "motion_stats").apply(before, ASPECT)
    most = min(MOST, max((score for _, _, score in said), default=0.0))
    assert before.score - most - 0.05 <= after.score <= before.score
    assert 0 <= after.peak_x <= 1
    assert len(after.map) == ROWS * COLUMNS
