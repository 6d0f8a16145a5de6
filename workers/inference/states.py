"""Normality states: kept by type and id, learned in memory, saved as numbered versions."""

import dataclasses
import hashlib
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from core.clock import utc_iso
from core.config import VadConfig
from core.errors import StateError
from workers.inference.drift import Drift
from workers.inference.drift_file import NAME as DRIFT_FILE
from workers.inference.drift_file import read_memory, write_memory
from workers.inference.vad.base import Learner, NormalityState, VadModel

__all__ = ["Normality", "StateStore"]

log = structlog.get_logger()

KEPT = 20
"""Versions that are kept, to go back to."""
UNUSABLE = ".unusable"
"""Suffix of what is put aside; the last one stays."""
HELD_S = 0.5
"""At the end, a burst that is being taken in is waited for so long."""
GROWTH = 1.5
"""A provisional state is fitted anew each time its footage has grown by so much."""


class Normality:
    """What is known of one normality id: the state in use, and what is being learned."""

    def __init__(self, model: VadModel, folder: Path, armed_s: float, drift: Drift | None = None) -> None:
        """`drift` where the state is to follow what slowly changes."""
        self._model, self._folder, self._armed_s = model, folder, armed_s
        self.drift = drift
        self._recalled = False
        """Whether what another process learned on has been looked for: only then is it written over."""
        self.saved = self.put_aside = 0
        """How often what is learned on was saved, and could not be used."""
        self.state: NormalityState | None = None
        self.learner: Learner | None = None
        self._fitted_s = 0.0
        self._forgotten = False
        self._training: Learner | None = None
        self._hashed: tuple[Path, int, str] = (folder, 0, "")
        self._learned_at = ""
        """When the state in use was saved, or what is being learned was begun."""
        self.reason = "learned"
        """Why the version in use was made, or is used again."""
        self.version = _current(folder)
        """The one in use; 0 for none."""
        self.unusable = ""
        """Why what is saved cannot be used, until something is learned in its place."""
        if self.version:
            self._load()

    def _load(self) -> None:
        """What another release saved, or a broken disk left, stays where it is; the camera learns anew beside it."""
        folder = self._folder
        try:
            self.state = self._model.load(folder / f"{self.version}{self._model.suffix}")
        except StateError as error:
            log.warning("state_not_usable", folder=str(folder), version=self.version, reason=str(error))
            self.unusable, self._forgotten = str(error), True
        else:
            self._learned_at = utc_iso(datetime.fromtimestamp((folder / "current").stat().st_mtime, UTC))

    @property
    def at_work(self) -> bool:
        """Whether something is being learned, trained or learned on by now."""
        return self.learner is not None or self.training or bool(self.drift and self.drift.busy)

    @property
    def training(self) -> bool:
        """Whether the state in use is only to score with until a better one is fitted."""
        return self._training is not None

    @property
    def file(self) -> Path | None:
        """Of the version in use; None where none is."""
        state = self.state
        return self._folder / f"{state.version}{self._model.suffix}" if state and state.version else None

    def hashed(self, file: Path) -> tuple[str, str]:
        """SHA-256 of the file of the version in use, and when that was written, RFC 3339 UTC; read once."""
        written = file.stat().st_mtime_ns
        if self._hashed[:2] != (file, written):
            self._hashed = file, written, hashlib.sha256(file.read_bytes()).hexdigest()
        return self._hashed[2], utc_iso(datetime.fromtimestamp(written / 1e9, UTC))

    @property
    def versions(self) -> list[int]:
        """All that are kept, the oldest first."""
        names = (path.name.removesuffix(self._model.suffix) for path in self._folder.glob(f"*{self._model.suffix}"))
        return sorted(int(name) for name in names if name.isdecimal())

    def use(self, version: int) -> None:
        """Scores with a version that was saved before, from now on; raises StateError where that cannot be."""
        if version not in self.versions:
            kept = ", ".join(map(str, self.versions)) or "none"
            raise StateError(f"there is no version {version}", f"kept are: {kept}")
        state = self._model.load(self._folder / f"{version}{self._model.suffix}")
        self._point_to(version)
        self.learner = self._training = None
        self.state, self.version, self._forgotten = state, version, False
        self.unusable = ""
        self._learned_at = utc_iso(datetime.now(UTC))
        self.reason = "rolled back"
        self._drift_anew()

    def promote(self, shadow: NormalityState) -> Path:
        """The shadow is the next version, and used from now on."""
        return self._keep(shadow, self._next, "drift")

    def adopt(self, state: NormalityState, reason: str = "learned") -> Path:
        """A state that was made elsewhere is the next version, and used from now on."""
        return self._keep(state, self._next, reason)

    @property
    def _next(self) -> int:
        return max([self.version, *self.versions]) + 1

    def begin(self) -> Learner:
        """The learner, an empty one where nothing is being learned."""
        learner = self.learner
        if learner is None:
            self.learner = learner = self._model.new_learner()
            self._learned_at = utc_iso(datetime.now(UTC))
            self._fitted_s = 0.0
        return learner

    def wants_provisional(self, after_s: float) -> bool:
        """Whether a state in memory is due: after `after_s` seconds taken in, and again as they grow; never instead
        of a saved one. Says so once for each growth.
        """
        learner = self.learner
        if (
            learner is None
            or (self.version and not self._forgotten)
            or learner.learned_s < max(after_s, self._fitted_s * GROWTH)
        ):
            return False
        self._fitted_s = learner.learned_s
        return True

    def fit_provisional(self) -> None:
        """Fits a state in memory; not while finish() runs in another thread."""
        learner = self.learner
        if learner is None or (self.version and not self._forgotten):
            return
        try:
            self.state = self._model.fit_provisional(learner)
        except StateError as error:
            log.info("too_little_learned", reason=str(error))

    def forget_before(self, since: str) -> bool:
        """Forgets what was learned before this time; returns whether there was any."""
        known = self.state is not None or self.learner is not None
        if not (known and since and self._learned_at < since):
            return False
        self.forget()
        return True

    def forget(self) -> None:
        """Scores with it no longer, and begins to learn anew; the saved versions stay, the next one follows them."""
        self.state = self.learner = self._training = None
        self._forgotten = True
        self._drift_anew()

    def begin_training(self) -> bool:
        """For a type that trains: scores provisionally with what was taken in, until `train` has ended; False where
        it does so already.

        Raises StateError where too little was taken in.
        """
        if self._training is not None:
            return False
        if self.learner is None:
            raise StateError("nothing was learned", "learn from some footage first")
        learner = self.learner
        if self.state is None or self._forgotten:
            self.state = self._model.fit_provisional(learner)
        self._training, self.learner = learner, None
        return True

    def train(self) -> Path | None:
        """Ends what `begin_training` began, which may take minutes; None where it was forgotten meanwhile.

        Raises StateError where it fails: then the camera is to learn again.
        """
        learner, version = self._training, self._next
        if learner is None:
            return None
        try:
            state = self._model.fit(learner, version, self._armed_s)
        except Exception:
            if self._training is learner:
                self._training = None
                if self.state is not None and self.state.version == 0:
                    self.state = None
            raise
        if self._training is not learner:
            return None
        self._training = None
        return self._keep(state, version)

    def finish(self) -> Path:
        """Fits, saves as the next version, uses it from now on; returns the file. May run beside everything else;
        what is taken in meanwhile is not in it.

        Raises StateError where too little was taken in.
        """
        if self.learner is None:
            raise StateError("nothing was learned", "learn from some footage first")
        learner, version = self.learner, self._next
        file = self._keep(self._model.fit(learner, version, self._armed_s), version)
        self.learner = None
        return file

    def _keep(self, state: NormalityState, version: int, reason: str = "learned") -> Path:
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._folder / f"{version}{self._model.suffix}"
        state = dataclasses.replace(state, version=version)
        self._model.save(state, file)
        self._point_to(version)
        self.state, self.version, self._forgotten = state, version, False
        self.reason, self.unusable = reason, ""
        if reason != "drift":
            self._drift_anew()
        for old in self.versions[:-KEPT]:
            (self._folder / f"{old}{self._model.suffix}").unlink(missing_ok=True)
        return file

    def _drift_anew(self) -> None:
        """What was learned on belongs to the state that was in use."""
        if self.drift:
            self.drift = self.drift.fresh()
        self._recalled = True
        (self._folder / DRIFT_FILE).unlink(missing_ok=True)

    def recall_drift(self) -> None:
        """Goes on from what another process learned on, once; what cannot be used is put aside. May read 400 MB."""
        drift, file, path = self.drift, self.file, self._folder / DRIFT_FILE
        if self._recalled or drift is None or file is None:
            return
        self._recalled = True
        for left in self._folder.glob(f"{DRIFT_FILE}.*"):  # by one that was killed while it wrote
            if left.suffix != UNUSABLE:
                left.unlink(missing_ok=True)
        if not path.exists():
            return
        try:
            known = read_memory(path, self._model, self.hashed(file)[0])
        except StateError as error:
            self.put_aside += 1
            log.warning("drift_put_aside", file=str(path), reason=str(error))
            with suppress(OSError):
                path.replace(path.with_name(DRIFT_FILE + UNUSABLE))
            return
        drift.recall(known)
        log.info("drift_goes_on", file=str(path), watched_s=round(known.watched_s), tried=len(known.trial))

    def save_drift(self, wait_s: float = 0.0) -> bool:
        """Keeps what is being learned on; waits so long for a burst that is being taken in. Returns whether it did."""
        drift, file, path = self.drift, self.file, self._folder / DRIFT_FILE
        if drift is None or file is None or not self._recalled:
            return False
        with drift.held(wait_s) as known:
            if known is None:
                return False
            try:
                write_memory(path, self._model, known, self.hashed(file)[0])
            except (OSError, StateError) as error:  # it is tried again in a while
                log.warning("drift_not_saved", file=str(path), reason=str(error))
                return False
        self.saved += 1
        if self.drift is not drift:
            path.unlink(missing_ok=True)
        return True

    def _point_to(self, version: int) -> None:
        aside = self._folder / "current.part"
        aside.write_text(str(version))
        aside.replace(self._folder / "current")


def _current(folder: Path) -> int:
    try:
        return int((folder / "current").read_text())
    except FileNotFoundError:
        return 0
    except ValueError as error:
        raise StateError(f"{folder / 'current'} holds no version number", "remove it to learn anew") from error


class StateStore:
    """All normalities of one inference process."""

    def __init__(self, folder: Path, config: VadConfig) -> None:
        self._folder, self._config = folder, config
        self._known: dict[tuple[str, str], Normality] = {}

    def get(self, model: VadModel, vad_type: str, normality_id: str) -> Normality:
        """Loaded when first asked for; raises StateError where what is saved cannot be used."""
        key = (vad_type, normality_id)
        if key not in self._known:
            config, drift = self._config, None
            if sum(one.drift is not None for one in list(self._known.values())) < config.drift_cameras:
                every_s, shift = config.drift_every_h * 3600, config.drift_shift
                drift = Drift(model, every_s=every_s, shift_a_day=shift, armed_s=config.armed_s)
            self._known[key] = Normality(model, self._folder / vad_type / normality_id, config.armed_s, drift)
        return self._known[key]

    def forget_type(self, vad_type: str) -> bool:
        """Lets go of all states of a type, which are read from their files when asked for again; False, and keeps
        them, where one of them is being learned, or trained.
        """
        mine = [key for key in list(self._known) if key[0] == vad_type]
        if any(self._known[key].at_work for key in mine):
            return False
        for key in mine:
            self._known[key].save_drift()
            self._known.pop(key, None)
        return True

    def save_drifts(self, limit_s: float) -> None:
        """Keeps what all are learning on, that of which most was watched since first, for about so long."""
        give_up = time.monotonic() + limit_s
        unsaved = [(one.drift.unsaved_s, one) for one in list(self._known.values()) if one.drift]
        for seconds, one in sorted(unsaved, key=lambda pair: -pair[0]):
            if seconds and time.monotonic() < give_up:
                one.save_drift(HELD_S)

    def statistics(self) -> dict[str, Any]:
        known = list(self._known.values())  # a loader's thread may let go of some meanwhile
        return {
            "states": len(known),
            "learning": sum(one.learner is not None for one in known),
            "promoted": sum(one.drift.promoted for one in known if one.drift),
            "refused": sum(one.drift.refused for one in known if one.drift),
            "drift_saved": sum(one.saved for one in known),
            "drift_put_aside": sum(one.put_aside for one in known),
        }
