"""What is known of a camera, kept in numbered files; what cannot be read is no reason to stop watching."""

import numpy as np
import pytest

from core.errors import StateError
from workers.inference.states import Normality
from workers.inference.vad import Row
from workers.inference.vad.motion_stats import MotionStats


def learn(normality, model, seconds=8):
    learner, context = normality.begin(), model.new_context()
    still = np.random.default_rng(0).integers(60, 150, (270, 240), np.uint8)
    for n in range(seconds * 10):
        frame = still.copy()
        frame[60:110, 2 * n % 200 : 2 * n % 200 + 20] = 230
        model.process([Row(model.prepare(frame, 240, 180), n / 10, context, learner=learner)])
    return normality.finish()


@pytest.mark.parametrize("content", [b"", b"another release's", b"PK\x03\x04 cut off"])
def test_a_state_that_cannot_be_read_stays_and_the_camera_learns_the_next_version(tmp_path, content):
    model = MotionStats()
    kept = learn(Normality(model, tmp_path, 1.0), model)
    assert kept.name == "1.npz"
    kept.write_bytes(content)

    again = Normality(model, tmp_path, 1.0)
    assert again.state is None
    assert str(kept) in again.unusable
    assert learn(again, model).name == "2.npz"
    assert again.state.version == 2
    assert again.unusable == ""
    assert kept.read_bytes() == content
    with pytest.raises(StateError):
        again.use(1)
    assert again.state.version == 2


def test_a_state_that_is_there_is_used(tmp_path):
    model = MotionStats()
    learn(Normality(model, tmp_path, 1.0), model)
    again = Normality(model, tmp_path, 1.0)
    assert again.state.version == 1
    assert again.unusable == ""
