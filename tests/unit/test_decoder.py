"""Decoder: what nobody wants is decoded late or never, and what somebody wants is as it would have been."""

import itertools
from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest

from workers.camera.sources.base import SourceOptions, Wanted
from workers.camera.sources.decoder import LATE, MOST_WAITING, Decoder
from workers.camera.sources.file import FileSource

FPS, FRAMES, GOP = 15, 120, 30


def write_video(path, codec: str, options: dict[str, str]):
    rng = np.random.default_rng(1)
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=FPS)
        stream.width, stream.height = 160, 96
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.options = options
        stream.codec_context.gop_size = GOP
        for number in range(FRAMES):
            pixels = rng.integers(80, 120, (96, 160, 3)).astype(np.uint8)
            pixels[20:60, number : number + 30] = 230
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def read(path, every_s: float | None):
    """Pictures by number, those at least `every_s` apart alone; and what is left out."""
    wanted = Wanted()
    found: dict[int, np.ndarray] = {}
    source = FileSource(path, SourceOptions(wanted=wanted))
    for frame in source.frames():
        out = np.empty((144, 160), np.uint8)
        frame.write_i420(out)
        found[round(frame.media_s * FPS)] = out
        if every_s is not None:
            wanted.due_s = frame.media_s + every_s - 1e-6
    assert source.skipped == 0
    return found, wanted


@pytest.mark.parametrize(
    ("codec", "options"),
    [("libx264", {"bf": "0"}), ("mpeg4", {}), ("mjpeg", {}), ("libx264", {"bf": "0", "refs": "4"})],
)
def test_pictures_that_are_wanted_come_at_their_times_and_are_what_they_were(tmp_path, codec, options):
    path = write_video(tmp_path / "a.mkv", codec, options)
    whole, _ = read(path, None)
    some, wanted = read(path, 0.2)
    assert len(whole) == FRAMES
    assert sorted(some) == list(range(0, FRAMES, 3))
    assert wanted.left_out == FRAMES - len(some)
    assert all(np.array_equal(whole[number], picture) for number, picture in some.items())


def test_over_a_key_frame_nothing_is_decoded_that_nobody_wants(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mkv", "libx264", {"bf": "0", "sc_threshold": "0"})
    decoded: list[int] = []
    real = Decoder._decoded
    monkeypatch.setattr(Decoder, "_decoded", lambda self, packet: decoded.append(packet.pts) or real(self, packet))
    some, _ = read(path, GOP / FPS)
    assert sorted(some) == [0, 30, 60, 90]
    # the first for the probe too, and the packet that ends the stream
    assert [pts for pts, _ in itertools.groupby(pts for pts in decoded if pts is not None)] == [0, 2000, 4000, 6000]


def test_what_is_seldom_wanted_is_decoded_in_between_too(tmp_path):
    path = write_video(tmp_path / "a.mkv", "libx264", {"bf": "0", "g": "1000", "sc_threshold": "0"})
    some, _ = read(path, 100.0)
    assert sorted(some) == list(range(0, FRAMES, MOST_WAITING + 1))


def test_where_pictures_come_later_than_their_packets_all_are_given(tmp_path):
    path = write_video(tmp_path / "a.mkv", "libx264", {"bf": "3"})
    some, wanted = read(path, 0.2)
    assert len(some) == FRAMES
    assert wanted.left_out == 0


class Packet:
    size, is_keyframe = 500, False

    def __init__(self, pts: int | None, shows: int | None = None) -> None:
        self.pts, self.shows = pts, pts if shows is None else shows

    def decode(self):
        if self.shows == -1:
            return []
        frame = av.VideoFrame(16, 16, "yuv420p")
        frame.pts = self.shows
        return [frame]


@pytest.fixture
def decoder():
    """One of which nothing is wanted, once it has shown its first picture."""
    wanted = Wanted()
    context = SimpleNamespace(has_b_frames=False, skip_frame="DEFAULT")
    made = Decoder(SimpleNamespace(time_base=Fraction(1, FPS), codec_context=context), wanted, lambda: None)
    (first,) = made.decode(Packet(9000))
    made.shown(first, 0.0)
    wanted.due_s = 1e9
    return made


def test_stamps_that_jump_back_or_are_missing_hold_nothing_up(decoder):
    assert decoder.decode(Packet(9003)) == []
    assert decoder.waits
    assert [one.pts for one in decoder.decode(Packet(3))] == [3]
    assert not decoder.waits
    assert len(decoder.decode(Packet(None))) == 1


def test_a_stream_whose_pictures_turn_out_to_come_late_is_decoded_as_it_comes(decoder):
    decoder.decode(Packet(None, shows=8999))
    assert len(decoder.decode(Packet(9003))) == 1


def test_some_damaged_packets_do_not_make_a_stream_a_late_one(decoder):
    for _ in range(LATE - 1):
        decoder.decode(Packet(None, shows=-1))
    assert decoder.decode(Packet(9003)) == []
