"""The batch scheduler: every request gets exactly one fate, the newest frame wins, no camera waits out of turn."""

from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.inference.costs import BatchCosts
from workers.inference.scheduler import BatchScheduler, Ticket

CAMERAS = [f"cam-{n}" for n in range(6)]
SECOND = 1_000_000_000
puts = st.tuples(
    st.just("put"),
    st.sampled_from(CAMERAS),
    st.sampled_from(["a", "b"]),
    st.integers(0, 40),
    st.booleans(),
    st.integers(0, 3),
    st.sampled_from([1.0, 5.0, 15.0]),
)
takes = st.tuples(st.just("take"), st.integers(0, 5), st.integers(0, 3))
learns = st.tuples(st.just("cost"), st.sampled_from(["a", "b"]), st.integers(1, 4), st.integers(1, 9))
isolations = st.tuples(st.just("isolate"), st.sampled_from(CAMERAS), st.sampled_from(["a", "b"]), st.integers(0, 30))
shortages = st.tuples(st.just("memory"), st.sampled_from(["a", "b"]), st.integers(1, 4))
actions = st.lists(st.one_of(puts, takes, learns, isolations, shortages), max_size=120)


def ticket(number: int, camera: str, kind: str = "a", deadline: int = 0, **more) -> Ticket:
    return Ticket(camera_id=camera, vad_type=kind, deadline_ns=deadline, owner=number, **more)


def learn(costs: BatchCosts, rows: int, seconds: float, now: int = 0) -> None:
    """As often as it takes to be believed."""
    for _ in range(3):
        costs.observe(rows, seconds, now)


@settings(deadline=None)
@given(actions=actions)
def test_every_request_has_exactly_one_fate(actions):
    scheduler, now, number = BatchScheduler(max_batch=4, lossless_room=3), 1, 0
    fate: Counter[int] = Counter()
    alone: dict[tuple[str, str], int] = defaultdict(int)
    for action in actions:
        match action:
            case "put", camera, kind, deadline, lossless, priority, weight:
                number += 1
                one = ticket(number, camera, kind, deadline, lossless=lossless, priority=priority, weight=weight)
                back = scheduler.put(one, now)
                if back is not None:
                    fate[back.owner] += 1
            case "take", passed, busy:
                now += passed
                limits = {kind: scheduler.costs(kind).largest for kind in ("a", "b")}
                waiting = scheduler.waiting
                batch, late = scheduler.take(now, now + busy)
                assert batch or len(late) == waiting
                assert len({one.vad_type for one in batch}) <= 1
                assert not batch or len(batch) <= limits[batch[0].vad_type]
                assert len({one.camera_id for one in batch}) == len(batch)
                assert all(one.deadline_ns == 0 or one.deadline_ns >= now for one in batch)
                assert all(one.deadline_ns > 0 for one in late)
                if any(alone[one.camera_id, one.vad_type] > now for one in batch):
                    assert len(batch) == 1
                fate.update(one.owner for one in (*batch, *late))
            case "cost", kind, rows, taken:
                learn(scheduler.costs(kind), rows, taken / SECOND, now)
            case "isolate", camera, kind, length:
                alone[camera, kind] = now + length
                scheduler.isolate(camera, kind, now + length)
            case "memory", kind, rows:
                scheduler.costs(kind).out_of_memory(rows, now)
    assert scheduler.statistics().waiting == number - fate.total()
    fate.update(one.owner for one in scheduler.clear())
    assert scheduler.waiting == 0
    assert fate == Counter(range(1, number + 1))


@settings(deadline=None)
@given(extra=st.integers(1, 50), limit=st.integers(1, 6))
def test_a_hot_camera_gets_no_more_than_its_turn(extra, limit):
    scheduler = BatchScheduler(max_batch=limit)
    served: Counter[str] = Counter()
    for now in range(60):
        for camera in CAMERAS:
            for _ in range(extra if camera == CAMERAS[0] else 1):
                scheduler.put(ticket(0, camera), now)
        served.update(one.camera_id for one in scheduler.take(now)[0])
    assert max(served.values()) - min(served.values()) <= 1


@settings(deadline=None)
@given(weights=st.lists(st.integers(1, 15), min_size=2, max_size=8), limit=st.integers(1, 4))
def test_cameras_that_always_have_something_are_served_by_their_weights(weights, limit):
    limit = min(limit, len(weights) - 1)
    scheduler, served, total = BatchScheduler(max_batch=limit, ageing_s=1e6), Counter[int](), sum(weights)
    rounds = 10 * total
    for now in range(rounds):
        for number, weight in enumerate(weights):
            scheduler.put(ticket(number, f"cam-{number}", weight=float(weight)), now)
        served.update(one.owner for one in scheduler.take(now)[0])
    for number, weight in enumerate(weights):
        fair = rounds * limit * weight / total
        if max(weights) * limit <= total:  # else some are in every batch, and the rest is for the others
            assert served[number] == pytest.approx(fair, rel=0.1, abs=3)


def test_a_camera_that_was_away_has_saved_nothing_up():
    scheduler = BatchScheduler(max_batch=1)
    for now in range(100):
        scheduler.put(ticket(0, "gate"), now)
        scheduler.take(now)
    served = []
    for now in range(100, 110):
        for camera in ("gate", "yard"):
            scheduler.put(ticket(0, camera), now)
        served.append(scheduler.take(now)[0][0].camera_id)
    assert served.count("yard") <= 6


def test_the_more_urgent_goes_first_and_what_waits_moves_up():
    scheduler = BatchScheduler(max_batch=1, ageing_s=0.5)
    scheduler.put(ticket(0, "slow", priority=3), 0)
    served_at = None
    for step in range(100):
        now = step * SECOND // 10
        for camera in ("gate", "yard"):
            scheduler.put(ticket(0, camera, priority=1), now)
        camera = scheduler.take(now)[0][0].camera_id
        if camera == "slow":
            served_at = now / SECOND
            break
        assert now < 2 * SECOND
    assert served_at >= 1.0


@settings(deadline=None)
@given(priorities=st.lists(st.integers(0, 3), min_size=2, max_size=20), limit=st.integers(1, 3))
def test_nobody_waits_for_ever(priorities, limit):
    scheduler, last = BatchScheduler(max_batch=limit, ageing_s=0.5), dict.fromkeys(range(len(priorities)), 0)
    for step in range(400):
        now = step * SECOND // 10
        for number, priority in enumerate(priorities):
            scheduler.put(ticket(number, f"cam-{number}", priority=priority), now)
        for one in scheduler.take(now)[0]:
            last[one.owner] = step
        assert all(step - served <= 20 + 2 * len(priorities) for served in last.values())


def test_the_newest_frame_takes_the_place_of_the_one_that_waits():
    scheduler = BatchScheduler()
    first, second = ticket(1, "gate"), ticket(2, "gate")
    assert scheduler.put(first, 0) is None
    assert scheduler.put(second, 1) is first
    assert scheduler.take(2) == ([second], [])


def test_lossless_frames_wait_behind_each_other_and_are_refused_when_there_is_no_room():
    scheduler = BatchScheduler(lossless_room=2)
    frames = [ticket(n, "gate", lossless=True) for n in range(3)]
    assert [scheduler.put(one, 0) for one in frames] == [None, None, frames[2]]
    assert [scheduler.take(0)[0] for _ in range(3)] == [[frames[0]], [frames[1]], []]


def test_a_frame_that_would_be_answered_too_late_is_not_scored():
    scheduler = BatchScheduler()
    learn(scheduler.costs("a"), 1, 0.1)
    in_time, too_late = ticket(1, "gate", deadline=SECOND), ticket(2, "yard", deadline=SECOND // 20)
    scheduler.put(in_time, 0)
    scheduler.put(too_late, 0)
    assert scheduler.take(0) == ([in_time], [too_late])
    scheduler.put(ticket(3, "gate", deadline=SECOND), 0)
    assert [one.owner for one in scheduler.take(0, free_at_ns=SECOND)[1]] == [3]


def test_all_is_taken_where_more_rows_cost_little():
    costs = BatchCosts(16, limit_s=0.05)
    for rows in (1, 2, 4, 8, 16):
        learn(costs, rows, 0.006 + 0.0016 * rows)
    assert [costs.choose(ready, 1) for ready in (1, 4, 16, 40)] == [1, 4, 16, 16]


def test_a_batch_is_kept_short_where_larger_ones_gain_nothing():
    costs = BatchCosts(16, limit_s=0.05)
    for rows in (1, 2, 4, 8, 16):
        learn(costs, rows, 0.01 * rows)
    assert costs.choose(16, 1) == 4


def test_a_batch_is_as_large_as_throughput_needs_though_it_takes_longer_than_the_limit():
    costs = BatchCosts(16, limit_s=0.05)
    for rows in (1, 2, 4, 8, 16):
        learn(costs, rows, 0.1 + 0.001 * rows)
    assert costs.choose(16, 1) == 16


def test_a_size_that_pads_to_a_much_dearer_one_is_not_taken():
    costs = BatchCosts(16, limit_s=0.05)
    for rows, seconds in ((1, 0.001), (2, 0.0015), (4, 0.002), (8, 0.003), (16, 0.012)):
        learn(costs, rows, seconds)
    assert costs.choose(9, 1) == 8


def test_a_size_that_is_not_known_is_tried_and_one_measured_long_ago_is_tried_again():
    costs = BatchCosts(16, limit_s=0.05)
    learn(costs, 1, 0.04)
    assert costs.choose(16, 1) == 16
    for rows in (2, 4, 8, 16):
        learn(costs, rows, 1.0, 1)
    assert costs.choose(16, 2) == 1
    assert costs.choose(16, 11 * SECOND) == 16


def test_one_batch_that_was_held_up_says_nothing_of_its_size():
    costs = BatchCosts(16, limit_s=0.05)
    for rows in (1, 8, 16):
        learn(costs, rows, 0.006 + 0.0016 * rows)
    costs.observe(16, 5.0, 2)
    assert costs.choose(16, 3) == 16
    assert costs.estimate_s(16, 3) < 0.04


def test_no_memory_halves_the_batch_and_it_grows_again_later():
    costs = BatchCosts(16, limit_s=0.05)
    costs.out_of_memory(16, 0)
    assert (costs.largest, costs.choose(16, 1)) == (8, 8)
    costs.out_of_memory(8, 1)
    assert costs.choose(16, 2) == 4
    assert [costs.choose(16, second * SECOND) for second in (31, 32, 62, 93)] == [8, 8, 16, 16]
