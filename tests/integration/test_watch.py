"""`haetae watch` on real video: what it leaves, what it prints, what it says of bad input."""

import json
import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from core.db import make_engine
from core.db.event_pages import EventFilter, iterate_events


def watch(*args: object, timeout: float = 500) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "workers.cli", "watch", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


def segments_of(inputs: list[Path]) -> set[str]:
    """Of cameras that have these names; other programs may have segments of their own."""
    return {path.name for one in inputs for path in Path("/dev/shm").glob(f"haetae-*-{one.stem}-*")}


@pytest.fixture(scope="module")
def ped2_run(tmp_path_factory) -> tuple[Path, dict, list[Path]]:
    """All of Ped2 once: learned from the 16 training clips, watched over the 12 test clips."""
    root = Path(os.environ.get("HAETAE_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data") / "ped2"
    if not root.is_dir():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no videos at {root}: set HAETAE_DATA")
    out = tmp_path_factory.mktemp("watch")
    tests = sorted((root / "test").glob("*.mp4"))
    before = segments_of(tests)
    done = watch(*tests, "--learn", *sorted((root / "train").glob("*.mp4")), "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    assert segments_of(tests) <= before
    summary = json.loads(done.stdout)
    return root, summary, tests


def labelled(root: Path, name: str, frames: int) -> np.ndarray:
    mask = np.zeros(frames, bool)
    for begin, end in json.loads((root / "labels.json").read_text())["abnormal_intervals_zero_based_inclusive"][name]:
        mask[begin : end + 1] = True
    return mask


def test_every_clip_has_its_event_and_normal_frames_are_mostly_outside(ped2_run):
    root, summary, tests = ped2_run
    false_frames = normal_frames = 0
    for path, one in zip(tests, summary["inputs"], strict=True):
        abnormal = labelled(root, path.stem, one["frames"])
        time_s = np.load(one["scores"])["time_s"]
        inside = np.zeros(one["frames"], bool)
        for event in one["events"]:
            inside |= (time_s >= event["begin"]) & (time_s <= event["end"])
        assert (inside & abnormal).any(), f"no event in {path.name}"
        false_frames += int((inside & ~abnormal).sum())
        normal_frames += int((~abnormal).sum())
    assert normal_frames == 362
    assert false_frames <= 0.4 * normal_frames


def test_scores_separate_what_is_abnormal(ped2_run):
    root, summary, tests = ped2_run
    scores, abnormal = [], []
    for path, one in zip(tests, summary["inputs"], strict=True):
        sheet = np.load(one["scores"])
        assert sheet["score"].shape == sheet["time_s"].shape == (one["frames"],)
        assert np.isfinite(sheet["score"]).all()
        assert (np.diff(sheet["time_s"]) > 0).all()
        scores.append(sheet["score"])
        abnormal.append(labelled(root, path.stem, one["frames"]))
    assert auroc(np.concatenate(scores), np.concatenate(abnormal)) >= 0.92


def auroc(score: np.ndarray, positive: np.ndarray) -> float:
    """Area under the ROC curve by ranks, ties counted half."""
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    n_pos = int(positive.sum())
    return (rank[positive].sum() - n_pos * (n_pos + 1) / 2) / (n_pos * (len(score) - n_pos))


def test_the_summary_has_what_was_promised(ped2_run):
    _, summary, tests = ped2_run
    assert [one["input"] for one in summary["inputs"]] == [str(path) for path in tests]
    assert summary["learn_seconds"] > 0
    for one in summary["inputs"]:
        assert {"input", "frames", "seconds", "fps", "scores", "events"} <= set(one)
        for event in one["events"]:
            assert 0 <= event["begin"] <= event["end"]
            assert 0 <= event["peak_x"] <= 360
            assert 0 <= event["peak_y"] <= 240


def test_what_is_left_behind_agrees_with_the_summary(ped2_run):
    _, summary, _ = ped2_run
    out = Path(summary["inputs"][0]["scores"]).parents[1]
    told = {event["id"] for one in summary["inputs"] for event in one["events"]}
    engine = make_engine(f"sqlite:///{out / 'haetae.db'}")
    stored = {stored.event.id: stored.event for stored in iterate_events(engine, EventFilter())}
    engine.dispose()
    assert set(stored) == told
    lines = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    assert {line["id"] for line in lines} == told
    for event in stored.values():
        assert event.ended_at
        assert (out / "media" / event.snapshot).read_bytes()[:2] == b"\xff\xd8"
        assert event.description
    for one in summary["inputs"]:
        video = out / "annotated" / (Path(one["scores"]).stem + ".mp4")
        with av.open(str(video)) as container:
            assert sum(1 for _ in container.decode(video=0)) == one["frames"]


def test_without_learn_a_camera_learns_from_its_beginning_and_says_so(ped2, tmp_path):
    done = watch(ped2 / "test" / "02.mp4", "--out", tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["inputs"][0]["frames"] == 180
    assert any("learned from its own beginning" in warning for warning in summary["warnings"]), summary["warnings"]
    assert all(event["provisional"] for event in summary["inputs"][0]["events"])


@pytest.mark.parametrize(
    ("make", "args", "says"),
    [
        (None, ["{dir}/none.mp4"], "none.mp4"),
        (b"", ["{file}"], "empty"),
        (b"this is no video at all" * 100, ["{file}"], "not a video"),
        (b"x", ["demo://nowhere"], "plaza"),
        (None, ["demo://plaza?seed=3"], "never ends"),
    ],
)
def test_bad_input_is_one_clear_line(tmp_path, make, args, says):
    file = tmp_path / "film.mp4"
    if make is not None:
        file.write_bytes(make)
    done = watch(*[arg.format(dir=tmp_path, file=file) for arg in args], "--out", tmp_path / "out")
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("haetae: ")


def test_an_unknown_type_is_refused_naming_those_there_are(ped2, tmp_path):
    done = watch(ped2 / "test" / "02.mp4", "--vad", "clairvoyance", "--out", tmp_path)
    assert done.returncode == 2
    assert "clairvoyance" in done.stderr
    assert "motion_stats" in done.stderr


def test_an_out_that_is_a_file_is_refused(ped2, tmp_path):
    (tmp_path / "out").write_text("mine")
    done = watch(ped2 / "test" / "02.mp4", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "not a folder" in done.stderr
    assert (tmp_path / "out").read_text() == "mine"
