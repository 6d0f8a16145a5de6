"""ResourcePool: one instance of each model, loaded once however many ask for it at the same time.

Loads are one at a time, so that what each costs can be measured; a model is warmed up and checked before anybody gets
it. Where there is no room, what nobody uses goes, the least recently used first; a swap loads beside the old one, or,
where both do not fit, in its place, while rules serve.
"""

import contextlib
import hashlib
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any

import msgspec
import structlog

from core.config import Config
from core.errors import ModelError
from workers.inference.flows import AgentFlow, create_flow
from workers.inference.memory import device_memory, is_out_of_memory, release_memory
from workers.inference.vad import VadModel, create_model
from workers.inference.vad.golden import check_vad_model
from workers.inference.vlm import VlmAnalyzer, create_analyzer, weights_of

__all__ = ["Loading", "ModelStatistics", "PoolStatistics", "ResourcePool"]

log = structlog.get_logger()

RETRY_FIRST_S = 1.0
RETRY_MAX_S = 60.0
RESIDENCE_S = 60.0
"""What was loaded, or used, so lately is not put out for another model: else two would put each other out in turn."""
IN_USE_S = 10.0
"""A model that was asked for so lately serves a camera, and stays even where another finds no memory."""
HEADROOM = 0.1
"""Share of a device's memory that a load must leave free."""
HEADROOM_MOST = 1 << 30
DRAIN_S = 30.0
"""A model that must go first is waited for so long; its users have time limits of their own."""
GONE = 0.9
"""Share of its memory that an unloaded model must have given back on a CUDA device."""


COUNTS = ("loads", "failures", "evictions", "unloads", "leaks", "rolled_back")


class Loading(ModelError):
    """It is being loaded, and that takes longer than whoever asks wants to wait."""


class ModelStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """One model that is loaded."""

    load_s: float
    """Warm-up and check included."""
    cpu_bytes: int
    """Growth of this process's resident memory while it was loaded; loads are one at a time."""
    cuda_bytes: int
    peak_bytes: int = 0
    """On the device, over what was there before, while it was loaded and run with its largest batch."""
    parameter_bytes: int = 0
    leases: int = 0
    pinned: bool = False
    idle_s: float = 0.0
    generation: int = 0
    """The number of its load, counting all of this process."""


class PoolStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What is loaded, what failed, and the memory of process and device."""

    models: dict[str, ModelStatistics]
    failed: dict[str, str]
    memory: dict[str, int]
    counts: dict[str, int] = {}
    """Since the start: loads, failures, evictions, unloads, leaks (models that did not give their memory back), and
    rolled_back swaps."""

    def table(self) -> dict[str, dict[str, float]]:
        """All of it by name: each model, "process" for memory, "pool" for the counts."""
        models = {
            key: {name: float(value) for name, value in msgspec.structs.asdict(one).items()}
            for key, one in self.models.items()
        }
        process = {name: float(size) for name, size in self.memory.items()}
        return models | {"process": process, "pool": {name: float(count) for name, count in self.counts.items()}}


class _Spec(msgspec.Struct, frozen=True):
    """How a model is made."""

    key: str
    load: Callable[[], Any]
    check: Callable[[Any], str]
    """Warms it up; what it gave for the golden batch. Raises ModelError where that is of no use."""
    needs: int = 0
    """Bytes that it takes at least, where that is known beforehand."""
    device: str = "cpu"
    pinned: bool = False
    """Never put out for another."""


class _Entry:
    """One key's model: being loaded, ready, or failed until `retry_at`."""

    def __init__(self, spec: _Spec, failures: int = 0) -> None:
        self.spec = spec
        self.future: Future[Any] = Future()
        self.failures = failures
        self.generation = 0
        self.retry_at = 0.0
        self.leases = 0
        self.used_s = time.monotonic()
        self.statistics: ModelStatistics | None = None

    @property
    def ready(self) -> bool:
        return self.future.done() and self.future.exception() is None

    @property
    def failed(self) -> bool:
        return self.future.done() and self.future.exception() is not None


class ResourcePool:
    """Models by kind and type. All methods may be called from any thread; loading blocks those who wait for it."""

    def __init__(
        self,
        threads: int,
        make_vad_model: Callable[[str, int], VadModel] = create_model,
        check_vad: Callable[[Any], str] = check_vad_model,
        memory: Callable[[], dict[str, int]] = device_memory,
    ) -> None:
        """`make_vad_model` makes the model of a type; it may use so many threads by itself. `check_vad` runs it on the
        golden batch.
        """
        self.may_forget: Callable[[str], bool] = lambda _: True
        """Asked before a type is put out, in the loader's thread: whether whoever keeps its states lets go of them."""
        self._threads, self._make_vad_model, self._memory = threads, make_vad_model, memory
        self._check_vad = check_vad
        self._entries: dict[str, _Entry] = {}
        self._leaving: list[_Entry] = []
        """Nobody gets these any more; each is unloaded when its leases are over."""
        self._changed = threading.Condition()
        self._loader = ThreadPoolExecutor(1, "load")
        self._costs: dict[str, int] = {}
        """What each key took, as measured."""
        self._golden: dict[str, str] = {}
        self._counts: Counter[str] = Counter()
        self._analyzer = ""
        """The key of the analyzer that serves."""

    # ---- what is asked for

    def get_vad_model(self, vad_type: str) -> VadModel:
        """The one model of this type; raises ModelError, naming the types there are, where it is unknown.

        One that nobody has asked for in RESIDENCE_S may be put out where there is no room for another.
        """
        key = f"vad/{vad_type}"
        entry = self._entries.get(key)
        if entry is not None and entry.ready:
            entry.used_s = time.monotonic()
            return entry.future.result()
        return self._wait(self._entry(self._vad_spec(vad_type)), None)

    def _vad_spec(self, vad_type: str) -> _Spec:
        return _Spec(f"vad/{vad_type}", lambda: self._make_vad_model(vad_type, self._threads), self._check_vad)

    def get_agent_flow(self, flow: str) -> AgentFlow:
        """The one flow of this type; raises ModelError where it is unknown."""
        key = f"flow/{flow}"
        entry = self._entries.get(key)
        if entry is not None and entry.ready:
            return entry.future.result()
        return self._wait(self._entry(_Spec(key, lambda: create_flow(flow), lambda _: "", pinned=True)), None)

    @contextlib.contextmanager
    def vlm_analyzer(self, config: Config, wait_s: float | None = None) -> Iterator[VlmAnalyzer]:
        """A lease of the one analyzer that all cameras share.

        It is that of these settings, once it is loaded, warmed up and checked. Until then, and where it cannot be
        loaded, it is the one that served before, if there is one; else this waits for `wait_s` (None: as long as it
        takes) and raises ModelError, or Loading. What another took the place of is closed once nobody leases it.
        """
        entry = self._leased(config, wait_s)
        try:
            yield entry.future.result()
        finally:
            with self._changed:
                entry.leases -= 1
                entry.used_s = time.monotonic()
                self._changed.notify_all()
            self._let_leaving_go()

    def prepare_analyzer(self, config: Config) -> None:
        """Begins to load the analyzer of these settings; never blocks. It serves when it is ready."""
        self._loader.submit(self._prepare, config)

    def _prepare(self, config: Config) -> None:
        """In the loader's thread: to know where a model will run may take torch's import."""
        try:
            self._entry(_analyzer_spec(config))
        except Exception:
            log.exception("analyzer_not_prepared", backend=config.vlm.backend)

    @property
    def analyzer_generation(self) -> int:
        """Of the analyzer that serves; another number after each swap."""
        entry = self._entries.get(self._analyzer)
        return entry.generation if entry else 0

    def _leased(self, config: Config, wait_s: float | None) -> _Entry:
        spec = _analyzer_spec(config)
        give_up = None if wait_s is None else time.monotonic() + wait_s
        while True:
            wanted = self._entry(spec)
            with self._changed:
                serving = self._entries.get(self._analyzer)
                able = [one for one in (wanted, serving) if one is not None and one.ready]
                if able and (able[0] is wanted or wanted.failed or give_up is not None):
                    able[0].leases += 1
                    able[0].used_s = time.monotonic()
                    return able[0]
            try:
                self._wait(wanted, None if give_up is None else max(0.0, give_up - time.monotonic()))
            except ModelError:
                serving = self._entries.get(self._analyzer)
                if serving is None or not serving.ready or not wanted.failed:
                    raise

    def _let_leaving_go(self) -> None:
        with self._changed:
            over = [entry for entry in self._leaving if not entry.leases]
            self._leaving = [entry for entry in self._leaving if entry.leases]
        for entry in over:
            self._unload(entry)

    # ---- loading

    def _entry(self, spec: _Spec) -> _Entry:
        """The entry of a key; where there is none, or its time to be tried again has come, a load begins."""
        with self._changed:
            entry = self._entries.get(spec.key)
            if entry is not None and not (entry.failed and time.monotonic() >= entry.retry_at):
                return entry
            entry = self._entries[spec.key] = _Entry(spec, entry.failures if entry else 0)
        self._loader.submit(self._load, entry)
        return entry

    def _wait(self, entry: _Entry, timeout_s: float | None) -> Any:
        try:
            return entry.future.result(timeout_s)
        except FutureTimeout as error:
            raise Loading(f"{entry.spec.key} is still being loaded") from error

    def _load(self, entry: _Entry) -> None:
        """In the loader's thread."""
        spec, begun = entry.spec, time.monotonic()
        gone: _Entry | None = None
        try:
            if not self._make_room(spec):
                gone = self._give_place(spec)
            made = self._made(entry)
        except Exception as error:
            failure = error if isinstance(error, ModelError) else ModelError(f"{spec.key} cannot be loaded: {error}")
            self._counts["failures"] += 1
            entry.failures += 1
            entry.retry_at = time.monotonic() + min(RETRY_MAX_S, RETRY_FIRST_S * 2 ** min(entry.failures - 1, 20))
            log.warning("model_not_loaded", model=spec.key, failures=entry.failures, reason=str(error))
            if not entry.future.done():
                entry.future.set_exception(failure)
            if gone is not None:
                self._roll_back(gone)
            return
        self._counts["loads"] += 1
        entry.generation, entry.failures, entry.used_s = self._counts["loads"], 0, time.monotonic()
        log.info("model_loaded", model=spec.key, seconds=round(time.monotonic() - begun, 3))
        with self._changed:
            if entry.future.done():
                _close(made)  # the pool was closed meanwhile
                return
            entry.future.set_result(made)
            if spec.key.startswith("vlm/"):
                if self._analyzer not in {"", spec.key}:
                    self._leaving.append(self._entries.pop(self._analyzer))
                self._analyzer = spec.key
            self._changed.notify_all()
        self._let_leaving_go()

    def _made(self, entry: _Entry) -> Any:
        """The model, warm and checked; tried once more with what is idle put out, where there was no memory."""
        spec = entry.spec
        for attempt in (1, 2):
            before, begun = self._memory(), time.monotonic()
            try:
                made = spec.load()
                try:
                    self._check(spec, made)
                except BaseException:
                    _close(made)
                    raise
            except Exception as error:
                if attempt == 2 or not _lacks_memory(error):
                    raise
                log.warning("no_memory_for_model", model=spec.key, reason=str(error))
            else:
                entry.statistics = self._measured(spec, made, before, begun)
                return made
            release_memory()
            while self._put_one_out(spec, min(IN_USE_S, RESIDENCE_S)):
                pass
        raise AssertionError

    def _check(self, spec: _Spec, made: Any) -> None:
        """Raises ModelError where it gives another answer to the golden batch than when it was first loaded."""
        said = spec.check(made)
        first = self._golden.setdefault(spec.key, said)
        if said != first:
            raise ModelError(
                f"{spec.key} does not answer as it did when it was first loaded",
                "its files, or a library, changed under the same name, or the device computes wrongly",
            )

    def _measured(self, spec: _Spec, made: Any, before: dict[str, int], begun: float) -> ModelStatistics:
        after = self._memory()

        def grown(name: str, since: str = "") -> int:
            return after.get(name, 0) - before.get(since or name, 0)

        found = ModelStatistics(
            load_s=time.monotonic() - begun,
            cpu_bytes=grown("cpu_resident"),
            cuda_bytes=grown("cuda_allocated"),
            peak_bytes=max(0, grown("cuda_peak", "cuda_allocated")) if "cuda_peak" in after else 0,
            parameter_bytes=int(getattr(made, "parameter_bytes", 0)),
            pinned=spec.pinned,
        )
        taken = max(found.peak_bytes, found.cuda_bytes) if spec.device == "cuda" else found.parameter_bytes
        if taken > 0:
            self._costs[spec.key] = taken
        return found

    # ---- room

    def _room(self, device: str) -> int:
        """Bytes that a load may take there, what must stay free left out."""
        now = self._memory()
        if device == "cuda":
            total = now.get("cuda_total", 0)
            unused = now.get("cuda_reserved", 0) - now.get("cuda_allocated", 0)
            return now.get("cuda_free", 0) + unused - min(round(HEADROOM * total), HEADROOM_MOST)
        free = now.get("cpu_available", 0)
        return free - min(round(HEADROOM * free), HEADROOM_MOST)

    def _needs(self, spec: _Spec) -> int:
        return self._costs.get(spec.key, spec.needs)

    def _make_room(self, spec: _Spec) -> bool:
        """Whether there is room for it, after idle models were put out if need be."""
        needs = self._needs(spec)
        while needs and self._room(spec.device) < needs:
            if not self._put_one_out(spec, RESIDENCE_S):
                return False
        return True

    def _put_one_out(self, wanted: _Spec, least_s: float) -> bool:
        """Unloads the least recently used of the models that nobody leases, on the same device; False: there is none.

        Not the analyzer that serves: that has a swap of its own.
        """
        now_s = time.monotonic()
        with self._changed:
            idle = [
                entry
                for key, entry in self._entries.items()
                if entry.ready
                and not (entry.leases or entry.spec.pinned or key == self._analyzer)
                and key != wanted.key
                and entry.spec.device == wanted.device
                and now_s - entry.used_s >= least_s
            ]
            idle.sort(key=lambda entry: entry.used_s)
            oldest = next((one for one in idle if self._may_go(one.spec.key)), None)
            if oldest is None:
                return False
            del self._entries[oldest.spec.key]
            self._counts["evictions"] += 1
        log.info("model_put_out", model=oldest.spec.key, wanted=wanted.key)
        self._unload(oldest)
        return True

    def _may_go(self, key: str) -> bool:
        kind, _, name = key.partition("/")
        return kind != "vad" or self.may_forget(name)

    def _give_place(self, spec: _Spec) -> _Entry | None:
        """Both do not fit: the analyzer that serves goes first, once its leases are over; rules serve meanwhile.

        Raises ModelError where that does not help, or is not for this model.
        """
        needs, room = self._needs(spec), self._room(spec.device)
        short = f"{spec.key} needs {needs / 1e9:.1f} GB, and {max(0, room) / 1e9:.1f} GB are to be had"
        with self._changed:
            serving = self._entries.get(self._analyzer)
            if not spec.key.startswith("vlm/") or serving is None or serving.spec.device != spec.device:
                raise ModelError(short, "choose a smaller model, or give it another device")
            if self._costs.get(serving.spec.key, 0) + room < needs:
                raise ModelError(short, "choose a smaller model, or give it another device")
            key, self._analyzer = self._analyzer, ""
            del self._entries[key]
            if not self._changed.wait_for(lambda: not serving.leases, DRAIN_S):
                self._analyzer, self._entries[key] = key, serving
                raise ModelError(f"{key} is in use for too long to make room for {spec.key}")
        log.info("model_gives_place", model=serving.spec.key, wanted=spec.key)
        self._unload(serving)
        return serving

    def _roll_back(self, before: _Entry) -> None:
        """What took the place of an analyzer could not be loaded: that one comes back."""
        self._counts["rolled_back"] += 1
        log.warning("swap_rolled_back", model=before.spec.key)
        with self._changed:
            entry = self._entries[before.spec.key] = _Entry(before.spec)
        self._load(entry)

    def _unload(self, entry: _Entry) -> None:
        """Closes it and lets go of it; what does not give its memory back is counted and told."""
        made = entry.future.result()
        before = self._memory().get("cuda_allocated", 0)
        took = entry.statistics.cuda_bytes if entry.statistics else 0
        entry.future = Future()
        entry.future.set_exception(ModelError(f"{entry.spec.key} was unloaded"))
        self._counts["unloads"] += 1
        weights = getattr(made, "weights", None)
        mark = weakref.ref(weights) if weights is not None else None
        del weights
        _close(made)
        del made
        release_memory()
        kept = took - (before - self._memory().get("cuda_allocated", 0))
        if (mark is not None and mark() is not None) or (took > 0 and kept > (1 - GONE) * took):
            self._counts["leaks"] += 1
            log.warning("model_leaked", model=entry.spec.key, bytes=max(kept, 0))
        else:
            log.info("model_unloaded", model=entry.spec.key)

    # ---- the rest

    def close_analyzers(self) -> None:
        """Ends what they have under way."""
        self._close_all("vlm/")

    def close(self) -> None:
        """Gives up what is being loaded, what VAD models fit in processes of their own, and the analyzers."""
        self._loader.shutdown(wait=False, cancel_futures=True)
        for entry in list(self._entries.values()):
            if not entry.future.done():
                entry.future.set_exception(ModelError(f"{entry.spec.key} is loaded no more: it ends"))
        self._close_all("vlm/")
        self._close_all("vad/")

    def _close_all(self, prefix: str) -> None:
        with self._changed:
            every = [*self._entries.values(), *self._leaving]
            entries = [entry for entry in every if entry.spec.key.startswith(prefix) and entry.ready]
        for entry in entries:
            _close(entry.future.result())

    def statistics(self) -> PoolStatistics:
        with self._changed:
            entries = {f"{one.spec.key} (leaving)": one for one in self._leaving} | self._entries
        now_s = time.monotonic()
        return PoolStatistics(
            models={
                key: msgspec.structs.replace(
                    entry.statistics,
                    leases=entry.leases,
                    idle_s=round(now_s - entry.used_s, 1),
                    generation=entry.generation,
                )
                for key, entry in entries.items()
                if entry.ready and entry.statistics
            },
            failed={key: str(entry.future.exception()) for key, entry in entries.items() if entry.failed},
            memory=self._memory(),
            counts={name: self._counts[name] for name in COUNTS},
        )


def _analyzer_spec(config: Config) -> _Spec:
    needs, device, mark = weights_of(config)
    settings = msgspec.json.encode((config.vlm, config.networks.vlm, mark))
    key = f"vlm/{config.vlm.backend}/{hashlib.sha256(settings).hexdigest()[:8]}"

    def check(made: Any) -> str:
        checks = getattr(made, "check", None)
        return str(checks()) if checks else ""

    return _Spec(key, lambda: create_analyzer(config), check, needs, device)


def _lacks_memory(error: BaseException | None) -> bool:
    while error is not None:
        if is_out_of_memory(error):
            return True
        error = error.__cause__
    return False


def _close(made: Any) -> None:
    """An error on the way out is told, and is nobody's."""
    try:
        close = getattr(made, "close", None)
        if close:
            close()
    except Exception:
        log.exception("model_not_closed")
