"""ResourcePool: each model is loaded once, however many ask; a failure is everybody's, and not for ever."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from core.config import Config, VlmConfig
from core.errors import ModelError
from workers.inference import pool as module
from workers.inference.pool import ResourcePool
from workers.inference.vlm import RulesAnalyzer

ASKING = 200


class Loader:
    """Makes models slowly, and counts."""

    def __init__(self, failures: int = 0) -> None:
        self.loads, self._failures = 0, failures
        self._lock = threading.Lock()

    def __call__(self, name: str, threads: int) -> object:
        with self._lock:
            self.loads += 1
            failing = self.loads <= self._failures
        time.sleep(0.05)
        if failing:
            raise ModelError(f"{name} has no weights")
        return object()


def ask_all(pool: ResourcePool, names: list[str]) -> list[object]:
    ready = threading.Barrier(ASKING)

    def ask(number: int) -> object:
        ready.wait(30)
        try:
            return pool.get_vad_model(names[number % len(names)])
        except ModelError as error:
            return error

    with ThreadPoolExecutor(ASKING) as executor:
        return list(executor.map(ask, range(ASKING)))


def test_many_first_requests_load_each_model_once():
    loader = Loader()
    pool = ResourcePool(1, loader)
    found = ask_all(pool, ["a", "b", "c"])
    assert loader.loads == 3
    assert len({id(one) for one in found}) == 3
    assert set(pool.statistics().models) == {"vad/a", "vad/b", "vad/c"}


def test_a_failed_load_is_told_to_all_who_wait_and_tried_again_later(monkeypatch):
    monkeypatch.setattr(module, "RETRY_FIRST_S", 0.2)
    loader = Loader(failures=1)
    pool = ResourcePool(1, loader)
    found = ask_all(pool, ["a"])
    assert all(isinstance(one, ModelError) for one in found)
    assert loader.loads == 1
    with pytest.raises(ModelError, match="no weights"):
        pool.get_vad_model("a")
    assert loader.loads == 1
    deadline = time.monotonic() + 10
    while True:
        try:
            assert pool.get_vad_model("a")
            break
        except ModelError:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert loader.loads == 2


def test_an_analyzer_is_closed_when_another_took_its_place_and_nobody_uses_it(monkeypatch):
    closed: list[str] = []

    class Noted(RulesAnalyzer):
        def __init__(self, model: str) -> None:
            self.model = model

        def close(self) -> None:
            closed.append(self.model)

    monkeypatch.setattr(module, "create_analyzer", lambda config: Noted(config.vlm.model))
    pool = ResourcePool(1)
    old, new = (Config(vlm=VlmConfig(model=name)) for name in ("old", "new"))
    with pool.vlm_analyzer(old) as first:
        with pool.vlm_analyzer(old) as same:
            assert same is first
        with pool.vlm_analyzer(new) as second:
            assert second is not first
        assert closed == []
    assert closed == ["old"]
    assert msgspec.structs.asdict(pool.statistics())["failed"] == {}
    pool.close()
    assert closed == ["old", "new"]
