"""The batch scheduler: every request gets exactly one fate, the newest frame wins, and no camera waits out of turn."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from workers.inference.scheduler import BatchScheduler, Ticket

CAMERAS = [f"cam-{n}" for n in range(6)]
actions = st.lists(
    st.one_of(
        st.tuples(
            st.just("put"),
            st.sampled_from(CAMERAS),
            st.sampled_from(["a", "b"]),
            st.integers(0, 40),
            st.booleans(),
        ),
        st.tuples(st.just("take"), st.integers(1, 4), st.integers(0, 5)),
    ),
    max_size=120,
)


def ticket(number: int, camera: str, kind: str = "a", deadline: int = 0, *, lossless: bool = False) -> Ticket:
    return Ticket(camera, kind, deadline, lossless, number)


@given(actions=actions)
def test_every_request_has_exactly_one_fate(actions):
    scheduler, now, number = BatchScheduler(lossless_room=3), 1, 0
    fate: Counter[int] = Counter()
    for action in actions:
        if action[0] == "put":
            _, camera, kind, deadline, lossless = action
            number += 1
            back = scheduler.put(ticket(number, camera, kind, deadline, lossless=lossless))
            if back is not None:
                fate[back.owner] += 1
        else:
            _, limit, passed = action
            now += passed
            batch, late = scheduler.take(now, limit)
            assert len(batch) <= limit
            assert len({one.vad_type for one in batch}) <= 1
            assert len({one.camera_id for one in batch}) == len(batch)
            assert all(one.deadline_ns == 0 or one.deadline_ns >= now for one in batch)
            assert all(0 < one.deadline_ns < now for one in late)
            fate.update(one.owner for one in (*batch, *late))
    statistics = scheduler.statistics()
    assert statistics.waiting == number - fate.total()
    rounds = 0
    while scheduler.waiting:
        batch, late = scheduler.take(now, 64)
        fate.update(one.owner for one in (*batch, *late))
        rounds += 1
        assert rounds < 200
    assert fate == Counter(range(1, number + 1))
    statistics = scheduler.statistics()
    assert statistics.taken + statistics.superseded + statistics.late + statistics.refused == number


@given(extra=st.integers(1, 50), limit=st.integers(1, 6))
def test_a_hot_camera_gets_no_more_than_its_turn(extra, limit):
    scheduler = BatchScheduler()
    served: Counter[str] = Counter()
    number = 0
    for _ in range(60):
        for camera in CAMERAS:
            for _ in range(extra if camera == CAMERAS[0] else 1):
                number += 1
                scheduler.put(ticket(number, camera))
        batch, _ = scheduler.take(0, limit)
        served.update(one.camera_id for one in batch)
    assert max(served.values()) - min(served.values()) <= 1


def test_the_newest_frame_takes_the_place_of_the_one_that_waits():
    scheduler = BatchScheduler()
    first, second = ticket(1, "gate"), ticket(2, "gate")
    assert scheduler.put(first) is None
    assert scheduler.put(second) is first
    assert scheduler.take(0, 8) == ([second], [])


def test_lossless_frames_wait_behind_each_other_and_are_refused_when_there_is_no_room():
    scheduler = BatchScheduler(lossless_room=2)
    frames = [ticket(n, "gate", lossless=True) for n in range(3)]
    assert [scheduler.put(one) for one in frames] == [None, None, frames[2]]
    assert [scheduler.take(0, 8)[0] for _ in range(3)] == [[frames[0]], [frames[1]], []]
