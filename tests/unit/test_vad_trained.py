"""frame_pred, patch_memory and masked_ae: trained for a few steps, they score, keep their states and refuse others'."""

import dataclasses

import cv2
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from core.config import InferenceConfig
from core.errors import ModelError, StateError
from workers.inference.vad import Corrigible, Row, VadScore, create_configured, create_model
from workers.inference.vad.patch_memory import ITEMS, MARKED
from workers.inference.vad.resnet import _expected
from workers.inference.vad.trained import _metadata

WIDTH, HEIGHT = 160, 96
BACKGROUND = cv2.resize(
    np.random.default_rng(0).integers(60, 150, (HEIGHT // 8, WIDTH // 8), dtype=np.uint8), (WIDTH, HEIGHT)
)
FIGURES = np.random.default_rng(1).integers(0, 2, (2, 24, 6), dtype=np.uint8).repeat(2, axis=2) * 60 + 190
STEPS = {"frame_pred": 40, "patch_memory": 25, "masked_ae": 25}


def draw(t, speed=15.0, disc=None):
    """An I420 frame in which two figures walk to and fro, the first `speed` px/s, before a black disc or none."""
    luma = BACKGROUND.copy()
    for n, (figure, y) in enumerate(zip(FIGURES, (30, 64), strict=True)):
        h, w = figure.shape
        way = WIDTH - w - 12
        x = round(6 + abs(((t + 5 * n) * (speed if n == 0 else 15.0)) % (2 * way) - way))
        luma[y - h // 2 : y - h // 2 + h, x : x + w] = figure
    if disc is not None:
        cv2.circle(luma, disc, 14, 0, -1)
    luma = np.clip(luma + np.random.default_rng(int(t * 1000)).normal(0, 2, luma.shape), 0, 255).astype(np.uint8)
    return np.vstack([luma, np.full((HEIGHT // 2, WIDTH), 128, np.uint8)])


def rows(model, seconds, *, state=None, learner=None, context=None, **drawn):
    context = context or model.new_context()
    return [
        Row(model.prepare(draw(n / 10, **drawn), WIDTH, HEIGHT), n / 10, context, state, learner)
        for n in range(round(seconds * 10))
    ]


def play(model, seconds, **what):
    return [found for row in rows(model, seconds, **what) for found in model.process([row])]


def learned(model):
    learner = model.new_learner()
    assert play(model, 16, learner=learner) == [None] * 160
    return learner


@pytest.fixture(scope="module", params=STEPS)
def model(request):
    made = create_model(request.param, steps=STEPS[request.param])
    yield made
    made.close()


@pytest.fixture(scope="module")
def state(model):
    return model.fit(learned(model), 3, 10.0)


def test_what_was_never_seen_scores_higher_than_what_was_and_the_peak_is_on_it(model, state):
    usual = np.array([found.score for found in play(model, 6, state=state)])
    found = play(model, 3, state=state, disc=(120, 48))
    unusual = np.array([one.score for one in found])
    if model.name == "frame_pred":
        # foretells a disc that stands still; one that appears or runs it does not
        found = play(model, 3, state=state, speed=70.0)
        unusual = np.array([one.score for one in found])
        assert np.median(unusual[12:]) > np.median(usual[12:]) + 0.5
        return
    assert np.median(unusual[12:]) > max(1.0, np.median(usual[12:]) + 0.5)
    assert found[20].peak_x * WIDTH == pytest.approx(120, abs=25)
    assert found[20].peak_y * HEIGHT == pytest.approx(48, abs=25)
    assert found[20].reason
    assert (state.phase, state.version) == ("armed", 3)


def test_a_state_is_the_same_after_it_was_saved_and_loaded_and_no_other_type_takes_it(model, state, tmp_path):
    path = tmp_path / "3.safetensors"
    model.save(state, path)
    again = create_model(model.name).load(path)
    assert (again.version, again.frames, again.phase) == (3, state.frames, "armed")
    before, after = play(model, 1, state=state), play(model, 1, state=again)
    assert [one.score for one in before] == [one.score for one in after]
    with pytest.raises(StateError, match=f"type '{model.name}', not 'synthetic'"):
        create_model("synthetic").load(path)
    save_file(load_file(path), path, _metadata(path) | {"format": "99"})
    with pytest.raises(StateError, match="format '99'"):
        model.load(path)
    other = dataclasses.replace(state, vad_type="synthetic")
    (refused,) = model.process([dataclasses.replace(rows(model, 0.1)[0], state=other)])
    assert isinstance(refused, StateError)


def test_nets_of_several_cameras_in_one_pass_score_as_each_alone(model, state):
    second = {name: value + 0.01 if value.is_floating_point() else value for name, value in state.net.items()}
    nets = [state.net, second]
    frames = torch.rand((2, 3, model._net.frames, *state.background.shape)) * 255
    still = torch.from_numpy(state.background)[None, None].expand(3, 1, -1, -1).float()
    with torch.inference_mode():
        alone = torch.stack([model._net.maps(one, still, net) for one, net in zip(frames, nets, strict=True)])
        stacked = {name: torch.stack([net[name] for net in nets]) for name in nets[0]}
        together = torch.func.vmap(model._net.maps)(frames, still.expand(2, *still.shape), stacked)
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-3)


def test_what_is_marked_as_normal_is_so_at_once_there_and_not_everywhere(model, state):
    if model.name != "patch_memory":
        assert not isinstance(model, Corrigible)
        return
    assert isinstance(model, Corrigible)
    here, there = {"disc": (120, 48)}, {"disc": (40, 48)}

    def score(state, **drawn):
        return np.median([one.score for one in play(model, 2, state=state, **drawn)])

    usual = score(state)
    assert score(state, **here) > usual + 0.5
    marked = model.mark_normal(state, rows(model, 1, **here))
    assert marked.version == state.version + 1
    assert 0 < int(marked.net["marks"][0]) <= MARKED // 4
    assert int(state.net["marks"][0]) == 0
    assert marked.net["memory"].shape == (ITEMS + MARKED, state.net["memory"].shape[1])
    assert score(marked, **here) < score(state, **here) - 0.5
    assert score(marked, **there) > score(marked, **here) + 0.3


def test_a_type_that_learns_all_by_itself_refuses_a_weights_file(tmp_path):
    for name in ("synthetic", "frame_pred", "masked_ae"):
        with pytest.raises(ModelError, match="has no use for the weights file"):
            create_configured(InferenceConfig(weights={name: str(tmp_path / "some.safetensors")}), name, 1)
        create_configured(InferenceConfig(weights={"patch_memory": "of another type"}), name, 1)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """A file with a ResNet-18 as it is before training."""
    choice = np.random.default_rng(0)
    weights: dict[str, np.ndarray] = {}
    for name, shape in _expected().items():
        if len(shape) > 1:
            weights[name] = choice.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape).astype(np.float32)
        else:
            weights[name] = np.full(shape, not name.endswith(("bias", "mean")), np.float32)
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    save_file(weights | {"fc.weight": np.zeros((10, 512), np.float32)}, path)
    return path


def test_a_memory_over_a_given_backbone_needs_that_backbone(backbone, tmp_path):
    model = create_model("patch_memory", weights_file=backbone)
    state = model.fit(learned(model), 1, 10.0)
    assert all(isinstance(one, VadScore) for one in play(model, 1, state=state))
    path = tmp_path / "1.safetensors"
    model.save(state, path)
    assert model.load(path).version == 1
    with pytest.raises(StateError, match="of another net"):
        create_model("patch_memory").load(path)
    weights = load_file(backbone)
    other = tmp_path / "other.safetensors"
    save_file(weights | {"conv1.weight": weights["conv1.weight"] * 2}, other)
    with pytest.raises(StateError, match="learned with another trunk"):
        create_model("patch_memory", weights_file=other).load(path)


def test_a_file_that_is_no_backbone_is_refused_with_what_is_wrong(backbone, tmp_path):
    path = tmp_path / "other.safetensors"
    with pytest.raises(ModelError, match="there is no weights file"):
        create_model("patch_memory", weights_file=path)
    path.write_bytes(b"no weights")
    with pytest.raises(ModelError, match="no file of weights in the safetensors format"):
        create_model("patch_memory", weights_file=path)
    weights = load_file(backbone)
    for changed, complaint in (
        ({name: one for name, one in weights.items() if name != "layer3.1.conv2.weight"}, "is not in it"),
        (weights | {"layer1.0.conv1.weight": np.zeros((64, 64, 1, 1), np.float32)}, "is .64, 64, 1, 1., it should be"),
    ):
        save_file(changed, path)
        with pytest.raises(ModelError, match=complaint):
            create_model("patch_memory", weights_file=path)
