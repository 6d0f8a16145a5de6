"""Files as sources: every frame, in time, in place; and what is said about files that are none."""

import itertools
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from core.errors import SourceError
from workers.camera.sources import open_source
from workers.camera.sources.file import FileSource, MediaTimeline

WIDTH, HEIGHT = 64, 48


def write_video(
    path: Path,
    frames: int = 12,
    *,
    width: int = WIDTH,
    height: int = HEIGHT,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
) -> Path:
    """A clip at 10 frames per second whose brightness climbs."""
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        for number in range(frames):
            picture = np.full((height, width, 3), 20 + 4 * number, np.uint8)
            picture[: height // 2, : width // 2, 0] = 200
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def write_audio(path: Path) -> Path:
    with av.open(path, "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        silence.sample_rate = 8000
        container.mux(stream.encode(silence))
        container.mux(stream.encode(None))
    return path


def read_all(source: FileSource) -> tuple[list[float], list[np.ndarray]]:
    """Times and pictures of the whole file."""
    times: list[float] = []
    pictures: list[np.ndarray] = []
    for frame in source.frames():
        out = np.zeros((source.info.height * 3 // 2, source.info.width), np.uint8)
        frame.write_i420(out)
        assert frame.index == len(times)
        times.append(frame.media_s)
        pictures.append(out)
    return times, pictures


def own_pictures(path: Path) -> list[av.VideoFrame]:
    with av.open(path) as container:
        return list(container.decode(video=0))


def assert_increasing(times: list[float]) -> None:
    assert times[0] == pytest.approx(0.0)
    assert all(after > before for before, after in itertools.pairwise(times))


@pytest.mark.parametrize("name", ["train/01.mp4", "test/04.mp4"])
def test_every_frame_of_ped2_comes_in_time_and_equals_what_pyav_gives(ped2, name):
    source = FileSource(ped2 / name)
    expected = own_pictures(ped2 / name)
    times, pictures = read_all(source)
    assert (source.info.width, source.info.height) == (360, 240)
    assert source.info.fps == pytest.approx(10.0)
    assert source.info.frames == len(expected) == len(pictures)
    assert source.skipped == 0
    assert_increasing(times)
    assert times[-1] == pytest.approx((len(times) - 1) / 10.0)
    for picture, own in zip(pictures, expected, strict=True):
        np.testing.assert_array_equal(picture, own.to_ndarray(format="yuv420p"))


def test_clips_with_padded_lines_are_copied_without_the_padding(clips):
    path = clips / "car-detection.mp4"
    source = FileSource(path)
    times, pictures = read_all(source)
    own = own_pictures(path)
    assert source.info.fps == pytest.approx(12.5)
    assert len(times) == len(own)
    assert_increasing(times)
    np.testing.assert_array_equal(pictures[100], own[100].to_ndarray(format="yuv420p"))


def test_planes_are_written_in_place(tmp_path):
    source = FileSource(write_video(tmp_path / "a.mp4"))
    ring = np.zeros((3, HEIGHT * 3 // 2, WIDTH), np.uint8)
    next(iter(source.frames())).write_i420(ring[1])
    assert ring[1].any()
    assert not ring[0].any()
    assert not ring[2].any()
    source.close()


def test_a_frame_refuses_a_place_of_another_shape(tmp_path):
    source = FileSource(write_video(tmp_path / "a.mp4"))
    frame = next(iter(source.frames()))
    with pytest.raises(ValueError, match="contiguous"):
        frame.write_i420(np.zeros((HEIGHT, WIDTH), np.uint8))
    with pytest.raises(ValueError, match="contiguous"):
        frame.write_i420(np.zeros((HEIGHT * 3 // 2, WIDTH * 2), np.uint8)[:, ::2])


@pytest.mark.parametrize(
    ("codec", "pixel_format", "name"),
    [("ffv1", "gray", "grey.mkv"), ("ffv1", "yuv444p", "full.mkv"), ("ffv1", "bgr0", "rgb.mkv")],
)
def test_other_pixel_formats_become_i420(tmp_path, codec, pixel_format, name):
    path = write_video(tmp_path / name, codec=codec, pixel_format=pixel_format)
    _, pictures = read_all(FileSource(path))
    expected = [own.to_ndarray(format="yuv420p") for own in own_pictures(path)]
    assert len(pictures) == 12
    tolerance = 20 if pixel_format == "gray" else 0
    for picture, own in zip(pictures, expected, strict=True):
        assert np.abs(picture.astype(int) - own).max() <= tolerance
    if pixel_format == "gray":
        assert (pictures[0][HEIGHT:] == 128).all()


def test_odd_sizes_are_cropped_to_even(tmp_path):
    path = write_video(tmp_path / "odd.mkv", width=63, height=47, codec="ffv1", pixel_format="yuv420p")
    source = FileSource(path)
    assert (source.info.width, source.info.height) == (62, 46)
    _, pictures = read_all(source)
    own = own_pictures(path)[0]
    luma = np.frombuffer(memoryview(own.planes[0]), np.uint8).reshape(-1, own.planes[0].line_size)
    np.testing.assert_array_equal(pictures[0][:46], luma[:46, :62])


def test_frames_begin_anew_with_each_call(tmp_path):
    source = FileSource(write_video(tmp_path / "a.mp4"))
    started = source.frames()
    assert next(started).index == 0
    assert len(read_all(source)[0]) == 12
    with pytest.raises(StopIteration):
        next(started)


def test_close_ends_an_iteration(tmp_path):
    source = FileSource(write_video(tmp_path / "a.mp4"))
    frames = source.frames()
    next(frames)
    source.close()
    source.close()
    assert list(frames) == []


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_paths_may_hold_spaces_colons_and_any_letters(tmp_path, prefix):
    folder = tmp_path / "앞 마당 #1 100%"
    folder.mkdir()
    path = write_video(folder / "http: 카메라?.mp4")
    url = prefix + (str(path).replace("%", "%25") if prefix else str(path))
    source = open_source(url)
    assert source.info.name == path.name
    assert sum(1 for _ in source.frames()) == 12


def test_a_relative_path_that_begins_with_a_dash_is_opened(tmp_path, monkeypatch):
    write_video(tmp_path / "-i.mp4")
    monkeypatch.chdir(tmp_path)
    assert open_source("-i.mp4").info.frames == 12


def test_damaged_pieces_in_the_middle_are_skipped_and_counted(tmp_path):
    path = write_video(tmp_path / "a.mkv", frames=30, codec="ffv1")
    data = bytearray(path.read_bytes())
    with av.open(path) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    position, size = packets[10]
    data[position + size // 2 : position + size - 8] = b"\xa5" * (size - 8 - size // 2)
    position, size = packets[11]
    data[position + 8 : position + size - 8] = b"\x00" * (size - 16)
    path.write_bytes(data)
    source = FileSource(path)
    times, _ = read_all(source)
    assert source.skipped >= 1
    assert 20 <= len(times) < 30
    assert_increasing(times)


def test_a_file_cut_short_gives_what_is_there(tmp_path):
    path = write_video(tmp_path / "a.mkv", frames=30, codec="ffv1")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    times, _ = read_all(FileSource(path))
    assert 10 <= len(times) < 30
    assert_increasing(times)


def test_a_change_of_size_on_the_way_is_an_error_that_says_so(tmp_path):
    joined = tmp_path / "joined.mjpeg"
    small = write_video(tmp_path / "small.mjpeg", codec="mjpeg", pixel_format="yuvj420p")
    large = write_video(tmp_path / "large.mjpeg", codec="mjpeg", pixel_format="yuvj420p", width=96)
    joined.write_bytes(small.read_bytes() + large.read_bytes())
    source = FileSource(joined)
    assert source.info.frames is None
    with pytest.raises(SourceError, match="from 64x48 to 96x48 at frame 12") as caught:
        read_all(source)
    assert caught.value.hint


def text_file(path: Path) -> Path:
    path.write_text("this is no video\n" * 100)
    return path


def noise_file(path: Path) -> Path:
    path.write_bytes(np.random.default_rng(1).bytes(10_000))
    return path


def empty_file(path: Path) -> Path:
    path.touch()
    return path


def picture_file(path: Path) -> Path:
    return write_video(path, frames=1, codec="png", pixel_format="rgb24")


def header_only(path: Path) -> Path:
    write_video(path, codec="ffv1")
    with av.open(path) as container:
        first = next(packet.pos for packet in container.demux(video=0) if packet.size)
    path.write_bytes(path.read_bytes()[: first - 40])
    return path


def folder(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.mark.parametrize(
    ("make", "name", "says"),
    [
        (lambda path: path, "missing.mp4", "does not exist"),
        (folder, "folder", "no video that can be played"),
        (empty_file, "empty.mp4", "is empty"),
        (text_file, "notes.txt", "is not a video"),
        (text_file, "notes.mp4", "is not a video"),
        (noise_file, "noise.mp4", "is not a video"),
        (picture_file, "picture.png", "is not a video"),
        (write_audio, "sound.wav", "only sound"),
        (header_only, "header.mkv", "no frame that can be decoded|is not a video|holds no video"),
    ],
)
def test_what_is_no_video_is_refused_with_a_hint(tmp_path, make, name, says):
    path = make(tmp_path / name)
    with pytest.raises(SourceError, match=says) as caught:
        open_source(str(path))
    assert name in str(caught.value)
    assert caught.value.hint


def test_a_playlist_cannot_make_the_reader_open_the_network(tmp_path):
    path = tmp_path / "list.m3u8"
    path.write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(SourceError):
        open_source(str(path))


@pytest.mark.parametrize("url", ["", "  "])
def test_an_empty_source_is_refused(url):
    with pytest.raises(SourceError, match="empty"):
        open_source(url)


def test_an_unknown_scheme_is_named_without_its_password():
    with pytest.raises(SourceError, match="gopher://") as caught:
        open_source("gopher://user:hunter2@host/stream")
    assert "hunter2" not in str(caught.value)
    assert caught.value.hint


def test_a_file_url_of_another_machine_is_refused():
    with pytest.raises(SourceError, match="this machine"):
        open_source("file://server/share/a.mp4")


@pytest.mark.parametrize(
    ("stamps", "expected"),
    [
        ([5.0, 5.1, 5.2], [0.0, 0.1, 0.2]),
        ([None, None, None], [0.0, 0.1, 0.2]),
        ([0.0, None, 0.2], [0.0, 0.1, 0.2]),
        ([0.0, 0.1, 0.1, 0.3], [0.0, 0.1, 0.2, 0.3]),
        ([0.0, 0.4, 0.3, 0.6], [0.0, 0.4, 0.5, 0.6]),
        ([100.0, 100.1, 0.0, 0.1], [0.0, 0.1, 0.2, 0.3]),
        ([0.0, 0.1, 2.0], [0.0, 0.1, 2.0]),
    ],
)
def test_broken_time_stamps_still_make_increasing_time(stamps, expected):
    timeline = MediaTimeline(fps=float(Fraction(10)))
    assert [timeline.advance(stamp) for stamp in stamps] == pytest.approx(expected)
