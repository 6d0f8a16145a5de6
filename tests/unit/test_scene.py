"""What is measured of a scene, on pictures of which it is known what happens."""

import cv2
import numpy as np
import pytest

from core.cameras import Zone, ZoneKind
from core.events.evidence import FrameRole
from workers.camera.key_frames import SHOWN, KeyFrames, crop_of
from workers.camera.scene import SceneMeter
from workers.camera.sources.demo import KINDS, DemoSource, ground_truth

WIDTH, HEIGHT, FPS = 320, 180, 10.0
GROUND, BODY = 110, 190


def picture(*boxes: tuple[float, float], noise: int = 0) -> np.ndarray:
    """People of 20 x 50 pixels with their feet at these places, on grey ground, as I420."""
    frame = np.full((HEIGHT * 3 // 2, WIDTH), 128, np.uint8)
    frame[:HEIGHT] = GROUND + (np.random.default_rng(noise).integers(-2, 3, (HEIGHT, WIDTH)) if noise else 0)
    frame[20:60, 30:300:12] = 220
    for x, y in boxes:
        left, top = round(x) - 10, round(y) - 50
        frame[max(0, top) : max(0, round(y)), max(0, left) : max(0, left + 20)] = BODY
    return frame


def play(meter: SceneMeter, seconds: float, where, begin_s: float = 0.0, zones=()) -> float:
    """`where(t)` gives the places at each time; returns the time after it."""
    for index in range(round(seconds * FPS)):
        at_s = begin_s + index / FPS
        meter.look(picture(*where(at_s), noise=index % 5 + 1), at_s, zones)
    return begin_s + seconds


def walk(at_s: float) -> list[tuple[float, float]]:
    """Two who walk 0.8 of their own heights a second, one each way, again and again."""
    return [((40 * at_s) % 400 - 40, 100), (360 - (40 * at_s) % 400, 170)]


@pytest.fixture
def meter() -> SceneMeter:
    """Has seen a minute of walking."""
    made = SceneMeter()
    play(made, 60.0, walk)
    return made


def test_what_is_usual_is_known(meter):
    meter.begin()
    scene = meter.window().scene
    assert scene.usual_speed == pytest.approx(0.8, abs=0.12)
    assert scene.usual_count == pytest.approx(2, abs=1)


def test_who_runs_is_fast_and_goes_somewhere(meter):
    meter.begin()
    play(meter, 2.5, lambda t: [*walk(t), (130 * (t - 60.0), 135)], 60.0)
    track = max(meter.window().tracks, key=lambda one: one.speed)
    assert track.speed == pytest.approx(2.6, abs=0.4)
    assert track.heading == pytest.approx(90, abs=15)


def test_who_walks_is_not_fast(meter):
    meter.begin()
    play(meter, 10.0, walk, 60.0)
    assert max(one.speed for one in meter.window().tracks) < 1.6


def test_who_stays_is_timed_though_others_pass(meter):
    meter.begin()
    play(meter, 25.0, lambda t: [*walk(t), (200 + 6 * np.sin(t), 135)], 60.0)
    assert meter.window().scene.stayed_s == pytest.approx(25, abs=3)


def test_who_shifts_about_by_half_a_height_has_not_left(meter):
    meter.begin()
    play(meter, 30.0, lambda t: [*walk(t), (200 + 25 * np.sin(t / 2), 135)], 60.0)
    assert meter.window().scene.stayed_s == pytest.approx(30, abs=4)


def test_a_place_that_was_never_seen_free_has_nobody_who_stays():
    """Far down a way somebody or other is always there: of a camera that has just begun, too."""

    def always_somebody(at_s: float) -> list[tuple[float, float]]:
        return [*walk(at_s), (200 + 4 * (at_s % 5), 135)]

    meter = SceneMeter()
    play(meter, 5.0, lambda t: [])
    play(meter, 25.0, always_somebody, 5.0)
    meter.begin()
    play(meter, 5.0, always_somebody, 30.0)
    assert meter.window().scene.stayed_s < 15


def test_nobody_stays_where_people_walk(meter):
    meter.begin()
    play(meter, 25.0, walk, 60.0)
    assert meter.window().scene.stayed_s < 8


def test_a_covered_lens_is_seen(meter):
    meter.begin()
    black = np.full((HEIGHT * 3 // 2, WIDTH), 40, np.uint8)
    for index in range(40):
        meter.look(black, 60.0 + index / FPS)
    scene = meter.window().scene
    assert scene.blinded_s == pytest.approx(4, abs=0.4)
    assert scene.changed > 0.9
    assert scene.sharpness < 0.25


def test_who_goes_against_the_way_is_measured_in_its_zone(meter):
    zone = Zone(
        name="lane",
        kind=ZoneKind.DIRECTION,
        points=((0, 0.4), (1, 0.4), (1, 0.7), (0, 0.7)),
        direction=270,
    )
    meter.begin()
    play(meter, 5.0, lambda t: [(20 + 40 * (t - 60), 100)], 60.0, (zone,))
    (found,) = meter.window((zone,)).zones
    assert found.against == pytest.approx(0.5, abs=0.2)
    assert found.against_s > 2


def test_a_gap_and_another_size_begin_anew(meter):
    meter.look(picture(), 2000.0)
    meter.look(np.full((360 * 3 // 2, 640), 100, np.uint8), 2000.1)
    meter.begin()
    assert meter.window().tracks == ()


def test_key_frames_show_before_onset_peak_and_after():
    frames = KeyFrames()
    for second in range(10):
        frames.quiet(picture(noise=1), float(second))
    for index in range(60):
        score = 5.0 if index == 25 else 3.0
        frames.goes_on(picture((5 * index, 120)), 10 + index / FPS, score)
    chosen = frames.chosen(over=True)
    roles = [one.role for one in chosen]
    assert 4 <= len(chosen) <= SHOWN
    assert roles[0] is FrameRole.BASELINE
    assert roles[1] is FrameRole.ONSET
    assert roles[-1] is FrameRole.AFTER
    (peak,) = [one for one in chosen if one.role is FrameRole.PEAK]
    assert peak.media_s == pytest.approx(12.5)
    assert [one.media_s for one in chosen] == sorted(one.media_s for one in chosen)


def test_key_frames_that_are_alike_are_left_out():
    frames = KeyFrames()
    frames.quiet(picture(), 0.0)
    for index in range(50):
        frames.goes_on(picture((100, 120)), 1 + index / FPS, 3.0)
    assert len(frames.chosen(over=True)) == 2


def test_a_crop_shows_what_moves_enlarged_and_stays_in_the_picture():
    crop = crop_of(picture((310, 60)), (0.93, 0.05, 1.0, 0.33))
    assert crop is not None
    assert crop.shape[0] == pytest.approx(448, abs=6)
    assert crop_of(picture(), (0.0, 0.0, 1.0, 1.0)) is None


def test_the_demo_shows_only_what_it_is_asked_for():
    assert {one.kind for one in ground_truth("demo://plaza?kinds=tamper,dispersal", 0, 1000)} == {"tamper", "dispersal"}
    source = DemoSource("demo://plaza?kinds=tamper&width=320&height=180")
    truth = source.ground_truth(0, 200)[0]
    out = np.empty((270, 320), np.uint8)
    for frame in source.frames():
        if frame.media_s >= truth.begin_s + 1:
            frame.write_i420(out)
            break
    assert out[:180].std() < 6


@pytest.mark.parametrize("scene", ["plaza", "overhead", "avenue", "hallway"])
@pytest.mark.parametrize("kind", [*KINDS, "trespass", "cart", "odd"])
def test_what_is_said_to_be_shown_is_in_the_picture_and_nowhere_else(scene, kind):
    size = "width=192&height=108&noise=0"
    source = DemoSource(f"demo://{scene}?seed=2&{size}&kinds={kind}")
    plain = DemoSource(f"demo://{scene}?seed=2&{size}&anomalies=0")
    [first, *_] = source.ground_truth(0, 400)
    boxes = seen = 0
    shown, without = np.empty((162, 192), np.uint8), np.empty((162, 192), np.uint8)
    for at_s in np.arange(first.begin_s, first.end_s, 1.5):
        source.frame_at(round(at_s * 10)).write_i420(shown)
        plain.frame_at(round(at_s * 10)).write_i420(without)
        different = (cv2.absdiff(shown[:108], without[:108]) > 12).astype(np.uint8)
        now = source.shown(round(at_s * 10) / 10)  # only what is half in the picture, or more
        for told, (x0, y0, x1, y1) in now:
            boxes += 1
            assert told == kind
            seen += different[int(y0) : int(y1) + 2, int(x0) : int(x1) + 2].any()
            different[max(0, int(y0 - 4)) : int(y1 + 8), max(0, int(x0 - 8)) : int(x1 + 10)] = 0
        if now:
            assert different.mean() < 0.02
    assert boxes >= 2
    assert seen >= 0.4 * boxes  # now and then somebody walks before it
