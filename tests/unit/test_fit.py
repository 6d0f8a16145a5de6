"""`haetae fit` and `haetae evaluate`: from files to a version in use and to figures, or to words that say why not."""

import json
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from core.cameras import CameraConfig
from core.db import make_engine, upgrade
from core.db.cameras import add_camera
from core.db.history import normality_versions
from core.ids import CameraId
from workers.camera.sources.demo import DemoSource
from workers.cli import main

NORMAL = "demo://plaza?seed=1&width=192&height=108&anomalies=0&duration={}"


@pytest.fixture
def haetae(config, capsys, monkeypatch):
    """Runs a command on a data folder with one camera; returns (exit code, standard output, standard error)."""
    monkeypatch.setenv("HAETAE_PATHS__RUN", str(config.run_dir))
    upgrade(config.database_url)
    engine = make_engine(config.database_url, writer=True)
    add_camera(engine, CameraConfig(camera_id=CameraId("gate"), name="gate", url="demo://plaza", enabled=False))
    engine.dispose()

    def run(*words: str) -> tuple[int, str, str]:
        code = main(["--data", str(config.data_dir), *words])
        out = capsys.readouterr()
        return code, out.out, out.err

    return run


def film(path: Path, source: DemoSource, begin_s: float, seconds: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    info = source.info
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"preset": "ultrafast", "crf": "20"})
        stream.width, stream.height, stream.pix_fmt = info.width, info.height, "yuv420p"
        pixels = np.empty((info.height * 3 // 2, info.width), np.uint8)
        for index in range(round(begin_s * 10), round((begin_s + seconds) * 10)):
            source.frame_at(index).write_i420(pixels)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="yuv420p")))
        container.mux(stream.encode(None))


def test_a_camera_learns_from_files_and_has_the_next_version_and_a_chart(haetae, config, tmp_path):
    chart = tmp_path / "gate.png"
    videos = NORMAL.format(40), NORMAL.replace("seed=1", "seed=1&noise=1").format(20)
    code, out, err = haetae("fit", "gate", *videos, "--report", str(chart), "--json")
    assert code == 0, err
    told = json.loads(out)
    assert (told["version"], told["state"], told["in_use"]) == (1, "provisional", False)
    assert told["learned_s"] == pytest.approx(48, abs=1)
    assert told["judged_frames"] == pytest.approx(120, abs=6)
    assert 0 <= told["over_2"] <= 0.2
    picture = cv2.imread(str(chart))
    assert picture is not None
    assert picture.shape == (540, 960, 3)
    assert (picture == (168, 120, 48)).all(axis=2).sum() > 500
    assert haetae("fit", "gate", NORMAL.format(20))[0] == 0
    assert haetae("fit", "gate", NORMAL.format(20), "--light", "night")[0] == 0
    engine = make_engine(config.database_url)
    assert [(one.light, one.version, one.reason) for one in normality_versions(engine, CameraId("gate"))] == [
        ("night", 1, "fitted from files"),
        ("day", 2, "fitted from files"),
        ("day", 1, "fitted from files"),
    ]
    engine.dispose()
    assert (config.states_dir / "motion_stats" / "gate" / "current").read_text() == "2"
    assert (config.states_dir / "motion_stats" / "gate--night" / "current").read_text() == "1"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nobody", NORMAL.format(20)), "there is no camera 'nobody'"),
        (("gate", "/no/such.mp4"), "such.mp4"),
        (("gate", NORMAL.format(2)), "at least 3 s"),
        (("gate", "demo://plaza"), "never ends"),
        (("gate", NORMAL.format(20), NORMAL.replace("108", "144").format(20)), "come from one camera"),
        (("gate", NORMAL.format(20), "--for", "10m"), "--for is for a running camera"),
        (("gate", NORMAL.format(20), "--report", "x.jpg"), "is no PNG"),
        (("gate", "--light", "night"), "--light is for files"),
        (("gate",), "Haetae is not running here"),
    ],
)
def test_what_cannot_be_learned_from_is_said_and_changes_nothing(haetae, config, words, said):
    code, _, err = haetae("fit", *words)
    assert code == 2
    assert said in err
    assert not (config.states_dir / "motion_stats" / "gate" / "current").exists()


@pytest.fixture
def folder(tmp_path) -> Path:
    source = DemoSource("demo://plaza?seed=1&width=192&height=108&kinds=cyclist")
    plain = DemoSource("demo://plaza?seed=1&width=192&height=108&anomalies=0")
    [first, *_] = source.ground_truth(0, 200)
    film(tmp_path / "set" / "train" / "a.mp4", plain, 1000, 40)
    film(tmp_path / "set" / "test" / "ride.mp4", source, first.begin_s - 10, 20)
    film(tmp_path / "set" / "test" / "calm.mp4", plain, 3000, 10)
    labels = {"abnormal_s": {"ride": [[10.4, 13.6]], "calm": []}}
    (tmp_path / "set" / "labels.json").write_text(json.dumps(labels))
    return tmp_path / "set"


def test_a_labelled_folder_is_measured_in_seconds_or_in_frames(haetae, folder, tmp_path):
    chart = tmp_path / "set.png"
    code, out, err = haetae("evaluate", str(folder), "--json", "--report", str(chart))
    assert code == 0, err
    told = json.loads(out)
    assert (told["clips"], told["intervals"], told["intervals_with_an_event"]) == (2, 1, 1)
    assert told["auroc_micro_causal"] > 0.9
    assert told["abnormal_frames"] == 32
    assert [one["clip"] for one in told["per_clip"]] == ["calm", "ride"]
    assert cv2.imread(str(chart)) is not None
    in_frames = {"abnormal_intervals_zero_based_inclusive": {"ride": [[104, 135]], "calm": []}, "more": 1}
    (folder / "labels.json").write_text(json.dumps(in_frames))
    code, again, err = haetae("evaluate", str(folder), "--json")
    assert code == 0, err
    assert json.loads(again) == told


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (None, "there is no"),
        ("{", "labels.json"),
        ({}, "none, or both"),
        ({"abnormal_s": {"ride": []}}, "says nothing of calm"),
        ({"abnormal_s": {"ride": [[4, 2]], "calm": []}}, "interval 4.0 to 2.0"),
        ({"abnormal_s": {"ride": [], "calm": [], "other": []}}, "tells of other"),
        ({"abnormal_intervals_zero_based_inclusive": {"ride": [[0, 900]], "calm": []}}, "200 frames"),
        ({"abnormal_s": {"ride": "yes", "calm": []}}, "Expected `array`"),
    ],
)
def test_labels_that_cannot_be_right_are_refused_with_the_place(haetae, folder, labels, said):
    (folder / "labels.json").unlink()
    if labels is not None:
        (folder / "labels.json").write_text(labels if isinstance(labels, str) else json.dumps(labels))
    code, _, err = haetae("evaluate", str(folder))
    assert code == 2
    assert said in err


def test_a_folder_without_videos_is_refused(haetae, folder, tmp_path):
    (folder / "train" / "a.mp4").unlink()
    assert "no videos in" in haetae("evaluate", str(folder))[2]
    assert "is no folder" in haetae("evaluate", str(tmp_path / "nothing"))[2]
