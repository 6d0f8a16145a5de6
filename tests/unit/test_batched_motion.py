"""Motion of whole batches, as a CUDA device finds it; on a CPU the same is computed, only slower."""

import cv2
import numpy as np
import pytest
import torch

from core.config import InferenceConfig
from workers.inference.vad import Row, batched_motion, create_configured, create_model
from workers.inference.vad.batched_motion import BatchedMotion, make_finder
from workers.inference.vad.dense_flow import dense_flow
from workers.inference.vad.motion_features import Geometry, MotionContext, Prepared, find_motion
from workers.inference.vad.motion_stats import MotionStats

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
RANDOM = np.random.default_rng(5)
GROUND = cv2.blur(RANDOM.integers(0, 255, (400, 400), np.uint8), (9, 9))
THING = cv2.blur(RANDOM.integers(60, 255, (60, 60), np.uint8), (5, 5)) + 40


def picture(x, y, width=320, height=240):
    """A thing of 60x60 pixels, its corner at (x, y) to parts of a pixel, before a textured ground."""
    shift = np.float32([[1, 0, x], [0, 1, y]])
    mask = cv2.warpAffine(np.full(THING.shape, 255, np.uint8), shift, (width, height))
    thing = cv2.warpAffine(THING, shift, (width, height), borderMode=cv2.BORDER_REPLICATE)
    return np.where(mask > 127, thing, GROUND[:height, :width])


def play(velocities, width=320, height=240, context=None, start=0.0):
    """Frames of 10 a second with the thing going so many pixels a second; what goes with the last one, it, where."""
    context = context or MotionContext()
    x, y, earlier = 120.0, 90.0, None
    for index, (right, down) in enumerate(velocities):
        x, y = x + right / 10, y + down / 10
        frame = Prepared(picture(x, y, width, height), Geometry(width, height))
        earlier = context.push(frame, start + index / 10)
    assert earlier is not None
    return earlier, frame, (x, y)


@pytest.fixture
def finder():
    found = make_finder(DEVICE)
    assert found is not None
    return found


def test_each_of_a_batch_gets_its_own_motion_whatever_its_size_and_times(finder):
    ways = [(20, 0), (-10, 15), (0, 0), (0, -20), (90, 0)]
    asked = [play([way] * 8) for way in ways] + [play([(15, 0)] * 8, 200, 180)]
    finder.find((earlier, frame) for earlier, frame, _ in asked)
    for (earlier, frame, (x, y)), way in zip(asked, [*ways, (15, 0)], strict=True):
        motion = find_motion(earlier, frame)
        assert frame.found[0][1] is motion, "it was found with the batch"
        left, top = round(x / 2), round(y / 2)
        velocity = motion.velocity[top + 8 : top + 22, left + 8 : left + 22] * frame.geometry.height
        off = np.hypot(velocity[..., 0] - way[0], velocity[..., 1] - way[1])
        assert np.median(off) < max(3.0, 0.05 * np.hypot(*way)), way
        np.testing.assert_allclose(motion.squared, np.square(motion.velocity).sum(2), atol=1e-6)


def test_where_nothing_changed_there_is_no_motion_and_after_a_gap_none_is_known(finder):
    earlier, still, _ = play([(0, 0)] * 8)
    context = MotionContext()
    play([(0, 0)] * 5, context=context)
    after_gap = Prepared(picture(150, 90), Geometry(320, 240))
    gap = context.push(after_gap, 2.0)
    finder.find([(earlier, still), (gap, after_gap)])
    motion = find_motion(earlier, still)
    assert not motion.velocity.any()
    assert not motion.squared.any()
    assert still.found[0][1] is motion
    assert find_motion(gap, after_gap) is None


@pytest.mark.parametrize(("most", "passes"), [(4, 2), (2, 4), (0, 0)])
def test_a_batch_that_the_device_has_no_memory_for_is_halved_and_else_left_to_the_cpu(
    finder, monkeypatch, most, passes
):
    made = []

    def small(before, now, *, refined):
        if len(before) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        made.append(len(before))
        return dense_flow(before, now, refined=refined)

    monkeypatch.setattr(batched_motion, "dense_flow", small)
    asked = [play([(20, 0)] * 8) for _ in range(4)]
    finder.find((earlier, frame) for earlier, frame, _ in asked)
    assert len(made) == passes
    for earlier, frame, (x, y) in asked:
        assert bool(frame.found) is bool(passes)
        motion = find_motion(earlier, frame)
        assert motion is not None
        inside = motion.velocity[round(y / 2) + 8 : round(y / 2) + 22, round(x / 2) + 8 : round(x / 2) + 22]
        assert np.median(inside[..., 0] * 240) == pytest.approx(20, abs=3)


def test_a_device_that_computes_wrongly_is_not_used(monkeypatch):
    monkeypatch.setattr(batched_motion, "dense_flow", lambda *pair, refined: -dense_flow(*pair, refined=refined))
    assert BatchedMotion(torch.device(DEVICE)).miss() > 6
    assert make_finder.__wrapped__(DEVICE) is None


def test_all_parts_of_a_type_look_for_flow_in_the_same_way():
    model = create_model("fused", steps=1, flow=DEVICE)
    finders = [model._parts[0]._finder, model._parts[1]._finder, model._parts[2]._motion._finder]
    assert set(finders) == {make_finder(DEVICE)}
    assert create_model("motion_stats")._finder is None


@pytest.mark.skipif(DEVICE == "cuda", reason="this machine has a CUDA device")
def test_without_the_device_that_is_asked_for_there_is_no_finder():
    assert make_finder("cuda") is None
    assert create_configured(InferenceConfig(flow="cuda"), "motion_stats", 1).device == "cpu"


def test_a_type_says_of_a_batch_what_it_says_without_one(finder):
    """Three cameras in each batch; two see what was learned, before the third it goes at twice the speed later on."""

    def frame(model, x):
        small = cv2.resize(picture(x, 90), (160, 120), interpolation=cv2.INTER_AREA)
        return model.prepare(np.vstack([small, np.full((60, 160), 128, np.uint8)]), 160, 120)

    medians = []
    for model in (MotionStats(finder), MotionStats()):
        learner, context = model.new_learner(), model.new_context()
        for index in range(100):
            model.process([Row(frame(model, 3 * index % 260), index / 10, context, learner=learner)])
        state = model.fit(learner, 1, 10.0)
        contexts = [model.new_context() for _ in range(3)]
        said = []
        for index in range(70):
            at = [3 * index, 3 * index, 3 * index if index < 30 else 6 * index - 90]
            rows = [
                Row(frame(model, x % 260), index / 10, context, state) for x, context in zip(at, contexts, strict=True)
            ]
            said.append(model.process(rows))
        usual = [one.score for row in said[20:] for one in row[:2]]
        medians.append((np.median(usual), np.median([row[2].score for row in said[45:]])))
    (usual, fast), (usual_alone, fast_alone) = medians
    assert usual == pytest.approx(usual_alone, abs=0.3)
    assert fast == pytest.approx(fast_alone, rel=0.3)
    assert usual + 0.5 < fast
