"""The background of a scene, found while its normal footage is taken in: what learning of what moves begins with."""

import random
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from core.errors import StateError
from workers.inference.vad.motion_features import RESET_GAP_S, Geometry, Prepared
from workers.inference.vad.state_files import Packed

__all__ = ["LEAST_FRAMES", "LEAST_S", "WAITING_FRAMES", "BackgroundLearner", "earlier_streams", "median_of"]

BACKGROUND_SAMPLES = 64
"""Frames whose median is the background: a random choice of all that was seen."""
BACKGROUND_STEP_S = 0.25
"""Samples of one stream lie at least so far apart."""
FIRST_BACKGROUND = 40
"""Samples before frames are reduced to what is learned; until then they wait as they are, at most WAITING_FRAMES."""
WAITING_FRAMES = 200
LEARN_STEP_S = 0.06
"""Of a faster stream, not every frame is taken in."""
LEAST_S = 3.0
LEAST_FRAMES = 20


class BackgroundLearner(ABC):
    """Normal footage of one scene, of one or several streams, interleaved as it comes; safe between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._choice = random.Random(0)
        self._geometry: Geometry | None = None
        self._samples: list[np.ndarray] = []
        self._offered = 0
        self._background: np.ndarray | None = None
        self._background_at_s = 0.0
        self._waiting: list[Any] = []
        self._last_s: dict[int, float] = {}
        self._taken_s: dict[int, float] = {}
        self._sampled_s: dict[int, float] = {}
        self._learned_s = 0.0
        self._frames = 0
        self._taken: list[Any] = []
        self._weight = 0
        self._stride, self._turn = 1, 0

    @property
    def learned_s(self) -> float:
        """Seconds of footage, added over the streams."""
        return self._learned_s

    @property
    def frames(self) -> int:
        """Frames offered, whether or not each was kept."""
        return self._frames

    @property
    def background(self) -> np.ndarray | None:
        """What foreground is told from while learning; None while too little was seen."""
        return self._background

    def wants(self, stream: int, media_s: float) -> bool:
        """Whether a frame at that time is more than footage to count."""
        since = media_s - self._taken_s.get(stream, -np.inf)
        return not 0.0 <= since < LEARN_STEP_S

    @abstractmethod
    def _take_waiting(self, waiting: list[Any], background: np.ndarray) -> None:
        """Frames that waited for a background."""

    @abstractmethod
    def _weigh(self, taken: Any) -> int:
        """What a reduced frame takes of the bound."""

    @abstractmethod
    def _bounds(self) -> tuple[int, int]:
        """Reduced frames, and their weight, that are kept at most."""

    def _take(self, taken: Any) -> None:
        """Keeps a reduced frame; beyond either bound every other one is dropped, and from then on not taken."""
        self._turn += 1
        if self._turn % self._stride:
            return
        self._taken.append(taken)
        self._weight += self._weigh(taken)
        self._keep_bounds()

    def _keep_bounds(self) -> None:
        most, most_weight = self._bounds()
        while len(self._taken) > max(1, most) or (self._weight > most_weight and len(self._taken) > 1):
            self._thin(2)

    def _thin(self, times: int) -> None:
        self._taken = self._taken[::times]
        self._weight = sum(self._weigh(taken) for taken in self._taken)
        self._stride *= times

    def merge(self, others: Sequence["BackgroundLearner"]) -> None:
        """Takes in all that `others` have: footage of the same scene, seen by other streams or at other times.

        Raises StateError for footage of another size; then nothing is changed.
        """
        copies: list[dict[str, Any]] = []
        for other in others:
            with other._lock:  # noqa: SLF001 - of the same class
                copies.append({name: _copied(value) for name, value in vars(other).items() if name != "_lock"})
        with self._lock:
            sizes = {size for size in (self._geometry, *(copy["_geometry"] for copy in copies)) if size is not None}
            if len(sizes) > 1:
                known = " and ".join(sorted(f"{size.width}x{size.height}" for size in sizes))
                raise StateError(f"footage of {known}: cameras that share a state need one size")
            stride = max([self._stride, *(copy["_stride"] for copy in copies)])
            self._thin(stride // self._stride)
            pools = [(self._offered, self._samples)]
            for copy in copies:
                self._geometry = self._geometry or copy["_geometry"]
                self._taken += copy["_taken"][:: stride // copy["_stride"]]
                self._waiting += copy["_waiting"]
                self._learned_s += copy["_learned_s"]
                self._frames += copy["_frames"]
                self._offered += copy["_offered"]
                pools.append((copy["_offered"], copy["_samples"]))
            # a sample counts for all that were offered where it was chosen
            keyed = [
                (self._choice.random() ** (len(samples) / offered), number, sample)
                for offered, samples in pools
                for number, sample in enumerate(samples)
            ]
            keyed.sort(key=lambda one: one[0], reverse=True)
            self._samples = [sample for _, _, sample in keyed[:BACKGROUND_SAMPLES]]
            self._weight = sum(self._weigh(taken) for taken in self._taken)
            self._keep_bounds()
            if self._background is None and any(copy["_background"] is not None for copy in copies):
                self._background = median_of(self._samples)
            if self._background is not None:
                self._background_at_s = self._learned_s
                self._drain(self._background)

    def pack(self) -> Packed:
        """All that was taken in, but for frames that still wait for a first background."""
        with self._lock:
            kept = {name: value for name, value in vars(self).items() if name != "_lock"}
            kept["_samples"], kept["_taken"] = list(self._samples), list(self._taken)
        size = kept["_geometry"]
        head: dict[str, Any] = {"size": [size.width, size.height] if size else None}
        head |= {name: kept[f"_{name}"] for name in _COUNTS}
        arrays = self._pack_taken(kept["_taken"])
        if kept["_samples"]:
            arrays["samples"] = np.stack(kept["_samples"])
        if kept["_background"] is not None:
            arrays["background"] = kept["_background"]
        return head, arrays

    def unpack(self, head: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Goes on, an empty one, from what another process packed; raises KeyError, ValueError, TypeError where that
        is not whole.
        """
        size = head["size"]
        taken = self._unpack_taken(arrays)
        samples, background = list(arrays.get("samples", ())), arrays.get("background")
        if size is not None:
            self._geometry = Geometry(int(size[0]), int(size[1]))
            shape = self._picture_shape(self._geometry)
            pictures = (*samples, *(() if background is None else (background,)))
            if any(one.shape != shape or one.dtype != np.uint8 for one in pictures):
                raise ValueError("its pictures do not fit its frame size")
        elif taken or samples:
            raise ValueError("it has no frame size")
        most, most_weight = self._bounds()
        self._weight = sum(self._weigh(one) for one in taken)
        if len(samples) > BACKGROUND_SAMPLES or len(taken) > most or self._weight > most_weight:
            raise ValueError("it holds more than it may")
        self._samples, self._background, self._taken = samples, background, taken
        for name in _COUNTS:
            setattr(self, f"_{name}", _KINDS[type(getattr(self, f"_{name}"))](head[name]))
        if self._stride < 1 or self._offered < len(samples):
            raise ValueError("its counts do not fit")
        self._choice = random.Random(self._frames)

    @abstractmethod
    def _pack_taken(self, taken: list[Any]) -> dict[str, np.ndarray]:
        """Reduced frames as arrays."""

    @abstractmethod
    def _unpack_taken(self, arrays: Mapping[str, np.ndarray]) -> list[Any]:
        """These again, each under a stream that no context of this process has."""

    def _admit(self, frame: Prepared, stream: int, media_s: float) -> None:
        """Counts a frame; raises StateError for another size than the first one's."""
        if self._geometry is None:
            self._geometry = frame.geometry
        elif frame.geometry != self._geometry:
            raise StateError(
                f"a frame of {frame.geometry.width}x{frame.geometry.height} among footage of "
                f"{self._geometry.width}x{self._geometry.height}: cameras that share a state need one size"
            )
        since = media_s - self._last_s.get(stream, media_s)
        if 0.0 < since <= RESET_GAP_S:
            self._learned_s += since
        self._last_s[stream] = media_s
        self._frames += 1
        self._sample(frame, stream, media_s)

    def _picture(self, frame: Prepared) -> np.ndarray:
        """What of a frame has a background."""
        return frame.grey

    def _picture_shape(self, geometry: Geometry) -> tuple[int, ...]:
        return geometry.working[::-1]

    def _sample(self, frame: Prepared, stream: int, media_s: float) -> None:
        """Algorithm R (Vitter 1985) over frames that lie BACKGROUND_STEP_S apart."""
        if 0.0 <= media_s - self._sampled_s.get(stream, -np.inf) < BACKGROUND_STEP_S - 1e-6:
            return
        self._sampled_s[stream] = media_s
        self._offered += 1
        if len(self._samples) < BACKGROUND_SAMPLES:
            self._samples.append(self._picture(frame))
        elif (place := self._choice.randrange(self._offered)) < BACKGROUND_SAMPLES:
            self._samples[place] = self._picture(frame)

    def _wait(self, frame: Any) -> None:
        """Keeps a frame that cannot be reduced yet, or reduces it where it can."""
        self._waiting.append(frame)
        if self._background is not None:
            self._drain(self._background)

    def _renew_background(self) -> None:
        """The first once enough was seen, then a better one each time the footage has doubled."""
        if self._background is None:
            due = len(self._samples) >= FIRST_BACKGROUND and len(self._waiting) >= WAITING_FRAMES
        else:
            due = self._learned_s >= 2.0 * self._background_at_s
        if due:
            self._background = median_of(self._samples)
            self._background_at_s = self._learned_s
            self._drain(self._background)

    def _drain(self, background: np.ndarray) -> None:
        waiting, self._waiting = self._waiting, []
        self._take_waiting(waiting, background)

    def _seen_enough(self) -> Geometry:
        """Raises StateError where too little was taken in to say anything."""
        kept = len(self._taken) + len(self._waiting)
        if self._geometry is None or self._learned_s < LEAST_S or kept < LEAST_FRAMES:
            raise StateError(
                f"learned from {self._learned_s:.1f} s and {kept} frames of footage: "
                f"at least {LEAST_S:g} s and {LEAST_FRAMES} frames are needed",
                "let it learn for longer, or from a longer file",
            )
        return self._geometry


_COUNTS = ("offered", "background_at_s", "learned_s", "frames", "stride", "turn")
_KINDS: dict[type, Callable[[Any], Any]] = {int: int, float: float}


def earlier_streams(streams: np.ndarray) -> list[int]:
    """Numbers of streams of other processes, (N,), as ones that no context of this one has: below 0, in their order."""
    known = list(dict.fromkeys(streams.tolist()))
    return [known.index(stream) - len(known) for stream in streams.tolist()]


def _copied(value: Any) -> Any:
    return list(value) if isinstance(value, list) else value


def median_of(samples: list[np.ndarray]) -> np.ndarray:
    """The median of pictures of one shape, pixel by pixel."""
    middle = len(samples) // 2
    return np.partition(np.stack(samples), middle, axis=0)[middle]
