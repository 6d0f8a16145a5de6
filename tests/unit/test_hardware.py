"""Hardware decodes where it is there; where it is not, the processor does, and the log says why."""

import numpy as np
import pytest
from structlog.testing import capture_logs

from tests.unit.test_sources_file import write_video
from workers import cli
from workers.camera.sources.base import SourceOptions
from workers.camera.sources.file import FileSource
from workers.camera.sources.hardware import accelerator, usable_hardware


@pytest.fixture(autouse=True)
def asked_anew():
    accelerator.cache_clear()
    yield
    accelerator.cache_clear()


@pytest.mark.parametrize("wanted", ["off", "auto", "cuda", "videotoolbox"])
def test_a_file_is_played_whatever_hardware_is_asked_for(tmp_path, wanted):
    path = write_video(tmp_path / "a.mp4")
    pictures = []
    for options in (SourceOptions(), SourceOptions(hardware=wanted)):
        source = FileSource(path, options)
        out = np.empty((source.info.height * 3 // 2, source.info.width), np.uint8)
        seen = []
        for frame in source.frames():
            frame.write_i420(out)
            seen.append(out.copy())
        pictures.append(seen)
    assert len(pictures[0]) == len(pictures[1]) == 12
    assert all(np.abs(a.astype(int) - b).max() <= 2 for a, b in zip(*pictures, strict=True))


def test_what_is_asked_for_and_not_there_is_said_once():
    with capture_logs() as logs:
        assert accelerator("videotoolbox") is None
        assert accelerator("videotoolbox") is None
    (said,) = logs
    assert said["event"] == "no_hardware_to_decode"
    assert said["kind"] == "videotoolbox"
    assert said["reason"]


def test_auto_takes_the_first_that_can_be_used():
    usable = [kind for kind, missing in usable_hardware().items() if not missing]
    assert (accelerator("auto") is not None) == bool(usable)


def test_doctor_warns_of_hardware_that_is_asked_for_and_not_there(config, monkeypatch, capsys):
    monkeypatch.setenv("HAETAE_PATHS__DATA", str(config.data_dir))
    monkeypatch.setenv("HAETAE_PATHS__RUN", str(config.run_dir))
    monkeypatch.setenv("HAETAE_CAMERAS__HARDWARE_DECODING", "videotoolbox")
    cli.main(["doctor"])
    said = capsys.readouterr().out
    assert "cameras.hardware_decoding is videotoolbox: this FFmpeg does not offer it" in " ".join(said.split())
