"""Frames that are sent ahead to the device that a net runs on; what CUDA alone can show is skipped without it."""

import cv2
import numpy as np
import pytest
import torch

from workers.inference.vad import Row
from workers.inference.vad.motion_features import GAIN_LIMITS
from workers.inference.vad.synthetic import Synthetic
from workers.inference.vad.uploads import Uploads, in_light_of, stack, to_levels

CPU = torch.device("cpu")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is at hand")


def pictures(count, seed=0):
    return [np.random.default_rng(seed + n).integers(0, 255, (48, 64), np.uint8) for n in range(count)]


@pytest.mark.parametrize("device", [CPU, pytest.param(torch.device("cuda"), marks=needs_cuda)])
def test_windows_arrive_in_order_as_they_were_sent_though_the_frames_were_changed_since(device):
    uploads, sent = Uploads(device), pictures(6)
    ahead = [uploads.put(frame) for frame in sent]
    wanted = np.stack([np.stack(sent[0:3]), np.stack(sent[3:6])]).astype(np.float32)
    for frame in sent:
        frame[:] = 0
    windows = [ahead[0:3], ahead[3:6]]
    uploads.arrived(frame for window in windows for frame in window)
    assert np.array_equal(stack(windows).cpu().numpy(), wanted)


@pytest.mark.parametrize("gain", [0.5, 0.9, 1.0, 1.01, 1.3])
def test_each_background_is_put_in_the_light_of_its_own_frame(gain):
    smooth = [cv2.resize(one[:6, :8], (64, 48)) // 2 + 30 for one in pictures(3)]
    frames = [np.clip(smooth[0] * 1.0, 0, 255), np.clip(smooth[1] * gain, 0, 255), smooth[2]]
    lit = in_light_of(to_levels(np.stack(smooth), CPU), to_levels(np.stack(frames).astype(np.uint8), CPU))
    assert np.array_equal(lit[0].numpy(), smooth[0])
    assert np.array_equal(lit[2].numpy(), smooth[2])
    held = float(np.clip(gain, *GAIN_LIMITS))
    expected = smooth[1] * (held if abs(held - 1) > 0.02 else 1.0)
    assert np.abs(lit[1].numpy() - expected).max() < 6


class _Tail:
    def level(self, values):
        return values


@pytest.mark.parametrize(("noise", "holds"), [(0.0, True), (2.0, False)])
def test_half_precision_is_taken_only_where_it_says_the_same_of_the_golden_batch(noise, holds):
    model = Synthetic()
    background = cv2.resize(pictures(1)[0][:6, :8], (64, 48))

    def maps(frames, background, _weights):
        there = (frames[:, -1:] - background).abs() / 255
        wrong = noise if torch.is_autocast_enabled("cpu") else 0.0
        return torch.nn.functional.avg_pool2d(there, 8) + wrong

    model._net.maps = maps
    assert model._holds_in_half({}, _Tail(), background) is holds


@needs_cuda
def test_a_net_on_cuda_scores_as_it_does_on_a_cpu():
    frames = [np.vstack([np.roll(pictures(1)[0].repeat(5, 0).repeat(5, 1), 3 * n, 1)] * 2)[:360] for n in range(60)]
    scores = {}
    for device in ("cpu", "cuda"):
        model = Synthetic(steps=1)
        model._device = torch.device(device)
        model._uploads = Uploads(model._device)
        learner, context = model.new_learner(), model.new_context()

        for n, frame in enumerate(frames):
            model.process([Row(model.prepare(frame, 320, 240), n / 10, context, learner=learner)])
        state = model.fit(learner, 1, 1.0)
        context = model.new_context()
        results = [
            model.process([Row(model.prepare(f, 320, 240), n / 10, context, state)])[0] for n, f in enumerate(frames)
        ]
        scores[device] = [one.score for one in results]
        model.close()
    assert np.allclose(scores["cpu"], scores["cuda"], atol=0.1)
