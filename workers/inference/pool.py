"""ResourcePool: one instance of each model, loaded once however many ask for it at the same time."""

import contextlib
import hashlib
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import msgspec
import structlog

from core.config import Config
from core.errors import ModelError
from workers.inference.flows import AgentFlow, create_flow
from workers.inference.vad import VadModel, create_model
from workers.inference.vlm import VlmAnalyzer, create_analyzer

__all__ = ["ModelStatistics", "PoolStatistics", "ResourcePool", "device_memory"]

log = structlog.get_logger()

RETRY_FIRST_S = 1.0
RETRY_MAX_S = 60.0


class ModelStatistics(msgspec.Struct, frozen=True):
    """What loading one model cost."""

    load_s: float
    cpu_bytes: int
    """Growth of this process's resident memory while it was loaded; loads are one at a time."""
    cuda_bytes: int


class PoolStatistics(msgspec.Struct, frozen=True):
    """What is loaded, what failed, and the memory of process and device."""

    models: dict[str, ModelStatistics]
    failed: dict[str, str]
    memory: dict[str, int]


class _Entry:
    """One key's model: being loaded, ready, or failed until `retry_at`."""

    def __init__(self) -> None:
        self.future: Future[Any] = Future()
        self.retry_at = 0.0
        self.failures = 0
        self.statistics: ModelStatistics | None = None


class ResourcePool:
    """Models by kind and type. All methods may be called from any thread; loading blocks those who wait for it."""

    def __init__(self, threads: int, make_vad_model: Callable[[str, int], VadModel] = create_model) -> None:
        """`make_vad_model` makes the model of a type; it may use so many threads by itself."""
        self._threads, self._make_vad_model = threads, make_vad_model
        self._entries: dict[str, _Entry] = {}
        self._map_lock = threading.Lock()
        self._load_lock = threading.Lock()
        self._leases: Counter[str] = Counter()
        self._newest_analyzer = ""

    def get_vad_model(self, vad_type: str) -> VadModel:
        """The one model of this type; raises ModelError, naming the types there are, where it is unknown."""
        return self._get(f"vad/{vad_type}", lambda: self._make_vad_model(vad_type, self._threads))

    @contextlib.contextmanager
    def vlm_analyzer(self, config: Config) -> Iterator[VlmAnalyzer]:
        """A lease of the one analyzer that all cameras share, of these settings; raises ModelError.

        One of other settings is closed once it is leased no more: settings change while analyses are under way.
        """
        mark = hashlib.sha256(msgspec.json.encode((config.vlm, config.networks.vlm))).hexdigest()[:8]
        key = f"vlm/{config.vlm.backend}/{mark}"
        with self._map_lock:
            self._leases[key] += 1
        try:
            analyzer = self._get(key, lambda: create_analyzer(config))
            with self._map_lock:
                self._newest_analyzer = key
            yield analyzer
        finally:
            with self._map_lock:
                self._leases[key] -= 1
                gone = self._take_out_analyzers()
            for one in gone:
                one.close()

    def _take_out_analyzers(self) -> list[VlmAnalyzer]:
        """Those that newer ones took the place of and nobody leases; to be closed without the lock."""
        old = [
            key
            for key in self._entries
            if key.startswith("vlm/") and key != self._newest_analyzer and not self._leases[key]
        ]
        entries = [self._entries.pop(key) for key in old if self._entries[key].future.done()]
        return [entry.future.result() for entry in entries if entry.future.exception() is None]

    def close_analyzers(self) -> None:
        """Ends what they have under way."""
        with self._map_lock:
            entries = [entry for key, entry in self._entries.items() if key.startswith("vlm/")]
        for entry in entries:
            if entry.future.done() and entry.future.exception() is None:
                entry.future.result().close()

    def get_agent_flow(self, flow: str) -> AgentFlow:
        """The one flow of this type; raises ModelError where it is unknown."""
        return self._get(f"flow/{flow}", lambda: create_flow(flow))

    def _get(self, key: str, load: Callable[[], Any]) -> Any:
        with self._map_lock:
            entry = self._entries.get(key)
            mine = entry is None or (
                entry.future.done() and entry.future.exception() is not None and time.monotonic() >= entry.retry_at
            )
            if mine:
                failures = entry.failures if entry else 0
                entry = self._entries[key] = _Entry()
                entry.failures = failures
        assert entry
        if mine:
            self._load(key, entry, load)
        return entry.future.result()

    def _load(self, key: str, entry: _Entry, load: Callable[[], Any]) -> None:
        with self._load_lock:
            before, begun = device_memory(), time.monotonic()
            try:
                made = load()
            except Exception as error:
                entry.failures += 1
                entry.retry_at = time.monotonic() + min(RETRY_MAX_S, RETRY_FIRST_S * 2 ** (entry.failures - 1))
                log.warning("model_not_loaded", model=key, failures=entry.failures, reason=str(error))
                known = error if isinstance(error, ModelError) else ModelError(f"{key} cannot be loaded: {error}")
                entry.future.set_exception(known)
                return
            after = device_memory()
            entry.statistics = ModelStatistics(
                time.monotonic() - begun,
                after["cpu_resident"] - before["cpu_resident"],
                after.get("cuda_allocated", 0) - before.get("cuda_allocated", 0),
            )
            log.info("model_loaded", model=key, seconds=round(entry.statistics.load_s, 3))
            entry.future.set_result(made)

    def close(self) -> None:
        """Gives up what VAD models fit in processes of their own, and the analyzers."""
        self.close_analyzers()
        with self._map_lock:
            entries = [entry for key, entry in self._entries.items() if key.startswith("vad/")]
        for entry in entries:
            if entry.future.done() and entry.future.exception() is None:
                entry.future.result().close()

    def statistics(self) -> PoolStatistics:
        with self._map_lock:
            entries = dict(self._entries)
        done = {key: entry for key, entry in entries.items() if entry.future.done()}
        return PoolStatistics(
            {key: entry.statistics for key, entry in done.items() if entry.statistics},
            {key: str(error) for key, entry in done.items() if (error := entry.future.exception())},
            device_memory(),
        )


def device_memory() -> dict[str, int]:
    """Bytes: this process's resident memory, and on CUDA, where torch is in use, what torch and the device say.

    `cuda_allocated` is live tensors, `cuda_reserved` torch's cache, `cuda_peak` the most that was allocated;
    `cuda_free` and `cuda_total` are the device's, other processes included. They overlap and do not add up.
    """
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    memory = {"cpu_resident": resident}
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        memory |= {
            "cuda_allocated": torch.cuda.memory_allocated(),
            "cuda_reserved": torch.cuda.memory_reserved(),
            "cuda_peak": torch.cuda.max_memory_allocated(),
            "cuda_free": free,
            "cuda_total": total,
        }
    return memory
