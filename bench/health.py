"""Is each fault of a camera named in time, and no ordinary footage called faulty?

`python -m bench.health --data PATH [--json] [--quick]`: PATH holds `clips/` and `ped2/`. Every fault of bench.faults is
injected into real clips at several moments and shown to a fresh `Sight`; then every clip as it is.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import av.logging as av_logging
import cv2
import msgspec
import numpy as np

from bench.faults import FAULTS, Frames, inject
from core.cameras.model import Fault
from core.config import SightConfig
from workers.camera.pixels import planes
from workers.camera.sight import Sight

__all__ = ["Trial", "main", "measure", "named"]

LIMIT_S = 5.0
"""From its onset to its name."""
SHOWN_S = 6.0
ONSETS_S = (6.0, 10.0, 20.0)
FROZEN_S = 30.0


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One fault in one clip."""

    clip: str
    fault: str
    onset_s: float
    named: dict[str, float]
    """What it was called, and how many seconds after its onset."""
    vetoed_after_s: float | None
    """When scoring stopped."""

    @property
    def right_s(self) -> float | None:
        """Seconds to the right name; None where it did not come in time."""
        at_s = self.named.get(FAULTS[self.fault][0])
        return at_s if at_s is not None and at_s <= LIMIT_S else None


def decode(path: Path) -> tuple[list[np.ndarray], float]:
    """All pictures of a clip, I420, and its rate."""
    with av.open(str(path)) as container:
        rate = container.streams.video[0].average_rate
        return [frame.to_ndarray(format="yuv420p") for frame in container.decode(video=0)], float(rate or 10)


def named(frames: Frames, fps: float) -> Iterator[tuple[float, Fault | None, bool]]:
    """(time, fault, whether vetoed) of each picture, in seconds."""
    sight = Sight(SightConfig(), FROZEN_S)
    for number, pixels in enumerate(frames):
        found = sight.look(planes(pixels), number / fps)
        yield number / fps, found.fault, found.vetoed


def _trial(clip: Path, frames: Frames, fps: float, fault: str, onset_s: float) -> Trial:
    onset = round(onset_s * fps)
    shown = inject(frames[: onset + round(SHOWN_S * fps)], fault, onset)
    names: dict[str, float] = {}
    vetoed_after_s = None
    for at_s, found, vetoed in named(shown, fps):
        since_s = round(at_s - onset / fps, 2)
        if since_s < 0:
            continue
        if found:
            names.setdefault(str(found), since_s)
        if vetoed and vetoed_after_s is None:
            vetoed_after_s = since_s
    return Trial(clip=clip.stem, fault=fault, onset_s=onset_s, named=names, vetoed_after_s=vetoed_after_s)


def measure(data: Path, *, quick: bool = False) -> dict[str, Any]:
    """All figures; `quick` takes three clips, one onset and what is seen of them in 17 s."""
    cv2.setNumThreads(1)
    clips = sorted((data / "clips").glob("*.mp4"))
    ped2 = sorted((data / "ped2" / "train").glob("*.mp4")) + sorted((data / "ped2" / "test").glob("*.mp4"))
    if not clips and not ped2:
        raise FileNotFoundError(f"no clips/*.mp4 and no ped2/*/*.mp4 in {data}")
    with_faults = [*clips, *ped2[:4]]
    if quick:
        with_faults, ped2 = [*clips[-1:], *ped2[:1]], ped2[:2]
    trials: list[Trial] = []
    for clip in with_faults:
        frames, fps = decode(clip)
        for onset_s in ONSETS_S[:1] if quick else ONSETS_S:
            if len(frames) >= (onset_s + SHOWN_S) * fps:
                trials += [_trial(clip, frames, fps, fault, onset_s) for fault in FAULTS]
    false: list[dict[str, Any]] = []
    ordinary_s = vetoed_s = looked_s = 0.0
    for clip in [*clips, *ped2]:
        frames, fps = decode(clip)
        began, last = time.process_time(), None
        for at_s, found, vetoed in named(frames, fps):
            ordinary_s += 1 / fps
            vetoed_s += vetoed / fps
            if found and found is not last:
                false.append({"clip": clip.stem, "fault": str(found), "at_s": round(at_s, 1)})
            last = found
        looked_s += time.process_time() - began
    return {
        "trials": len(trials),
        "named_in_time": round(sum(one.right_s is not None for one in trials) / max(1, len(trials)), 4),
        "vetoed_within_1_s": round(
            sum(one.vetoed_after_s is not None and one.vetoed_after_s <= 1 for one in trials) / max(1, len(trials)), 4
        ),
        "faults": {name: _of_fault([one for one in trials if one.fault == name]) for name in FAULTS},
        "missed": [msgspec.to_builtins(one) for one in trials if one.right_s is None],
        "ordinary_s": round(ordinary_s, 1),
        "false_events": false,
        "ordinary_vetoed_share": round(vetoed_s / ordinary_s, 5),
        "cpu_share_per_camera": round(looked_s / ordinary_s, 5),
    }


def _of_fault(trials: list[Trial]) -> dict[str, Any]:
    in_time = sorted(one.right_s for one in trials if one.right_s is not None)
    return {
        "trials": len(trials),
        "named_in_time": len(in_time),
        "slowest_s": in_time[-1] if in_time else None,
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench.health", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with clips/ and ped2/")
    parser.add_argument("--json", action="store_true", help="only JSON on stdout")
    parser.add_argument("--quick", action="store_true", help="few clips: no figure to quote")
    options = parser.parse_args(argv)
    av_logging.set_level(av_logging.PANIC)
    try:
        figures = measure(options.data, quick=options.quick)
    except FileNotFoundError as error:
        print(f"bench.health: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(figures))
        return 0
    for name, value in figures.items():
        if isinstance(value, dict):
            for fault, told in value.items():
                print(f"  {fault:18} {told['named_in_time']}/{told['trials']}, slowest {told['slowest_s']} s")
        else:
            print(f"{name:24} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
