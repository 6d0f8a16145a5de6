"""ResourcePool: each model is loaded once, however many ask; a failure is everybody's, and not for ever."""

import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from core.config import Config, VlmConfig
from core.errors import ModelError
from workers.inference import pool as module
from workers.inference.memory import device_memory
from workers.inference.pool import Loading, ResourcePool
from workers.inference.vlm import RulesAnalyzer

ASKING = 200


def unchecked(model: object) -> str:
    return ""


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
        ready.wait(60)
        try:
            return pool.get_vad_model(names[number % len(names)])
        except ModelError as error:
            return error

    with ThreadPoolExecutor(ASKING) as executor:
        return list(executor.map(ask, range(ASKING)))


def test_many_first_requests_load_each_model_once():
    loader = Loader()
    pool = ResourcePool(1, loader, unchecked)
    found = ask_all(pool, ["a", "b", "c"])
    assert loader.loads == 3
    assert len({id(one) for one in found}) == 3
    assert set(pool.statistics().models) == {"vad/a", "vad/b", "vad/c"}


def test_a_failed_load_is_told_to_all_who_wait_and_tried_again_later(monkeypatch):
    monkeypatch.setattr(module, "RETRY_FIRST_S", 60.0)
    loader = Loader(failures=1)
    pool = ResourcePool(1, loader, unchecked)
    found = ask_all(pool, ["a"])
    assert all(isinstance(one, ModelError) for one in found)
    assert loader.loads == 1
    with pytest.raises(ModelError, match="no weights"):
        pool.get_vad_model("a")
    assert loader.loads == 1
    pool._entries["vad/a"].retry_at = 0.0
    assert pool.get_vad_model("a")
    assert loader.loads == 2


class Device:
    """Memory of a machine that is given in units, and models that take some of it."""

    def __init__(self, total: int) -> None:
        self.total, self.used = total, 0
        self.leaks = False
        self.closed: list[str] = []
        self.lacking = 0
        """Loads that find no memory, though there seemed to be some."""
        self.answers = "same"

    def memory(self) -> dict[str, int]:
        return {"cpu_resident": self.used, "cpu_available": self.total - self.used}

    def vad(self, name: str, threads: int) -> "Sized":
        return self.made(name, 30)

    def analyzer(self, config: Config) -> "Sized":
        name, _, size = config.vlm.model.partition(":")
        if name == "broken":
            raise ModelError("broken")
        return self.made(name, int(size))

    def made(self, name: str, size: int) -> "Sized":
        if self.lacking:
            self.lacking -= 1
            raise MemoryError("no room")
        self.used += size
        return Sized(self, name, size)

    def check(self, model: "Sized") -> str:
        return self.answers


class Weights:
    pass


KEPT: list[Weights] = []


class Sized(RulesAnalyzer):
    def __init__(self, device: Device, name: str, size: int) -> None:
        self.device, self.model, self.parameter_bytes = device, name, size
        self.weights: Weights | None = Weights()
        if device.leaks:
            KEPT.append(self.weights)

    def check(self) -> str:
        return self.device.check(self)

    def close(self) -> None:
        self.device.used -= self.parameter_bytes
        self.weights = None
        self.device.closed.append(self.model)


@pytest.fixture
def device() -> Device:
    return Device(100)


@pytest.fixture
def pool(monkeypatch, device) -> ResourcePool:
    monkeypatch.setattr(module, "HEADROOM", 0.0)
    monkeypatch.setattr(module, "RESIDENCE_S", 0.0)
    monkeypatch.setattr(module, "create_analyzer", device.analyzer)
    monkeypatch.setattr(module, "weights_of", lambda config: (int(config.vlm.model.partition(":")[2] or 0), "cpu", ""))
    made = ResourcePool(1, device.vad, device.check, device.memory)
    made._costs = dict.fromkeys(("vad/a", "vad/b", "vad/c", "vad/d"), 30)
    return made


def settings(model: str) -> Config:
    return Config(vlm=VlmConfig(model=model))


def loaded(pool: ResourcePool) -> set[str]:
    return {key.split("/")[1] for key in pool.statistics().models}


def test_where_there_is_no_room_the_least_recently_used_goes(pool, device):
    for name in ("a", "b", "c", "a", "d"):
        pool.get_vad_model(name)
    assert device.closed == ["b"]
    assert loaded(pool) == {"a", "c", "d"}
    assert pool.statistics().counts["evictions"] == 1
    assert pool.get_vad_model("b")
    assert device.closed == ["b", "c"]


def test_what_was_used_lately_or_is_being_learned_stays(pool, device, monkeypatch):
    for name in ("a", "b", "c"):
        pool.get_vad_model(name)
    monkeypatch.setattr(module, "RESIDENCE_S", 60.0)
    with pytest.raises(ModelError, match=r"needs 0.0 GB"):
        pool.get_vad_model("d")
    monkeypatch.setattr(module, "RESIDENCE_S", 0.0)
    monkeypatch.setattr(module, "RETRY_FIRST_S", 0.0)
    pool.may_forget = lambda vad_type: vad_type != "a"
    pool._entries["vad/d"].retry_at = 0.0
    pool.get_vad_model("d")
    assert device.closed == ["b"]


def test_a_load_that_finds_no_memory_puts_idle_models_out_and_is_tried_once_more(pool, device):
    for name in ("a", "b"):
        pool.get_vad_model(name)
    device.lacking = 1
    assert pool.get_vad_model("c")
    assert device.closed == ["a", "b"]
    device.lacking = 2
    with pytest.raises(ModelError, match="no room"):
        pool.get_vad_model("d")


def test_a_load_that_finds_no_memory_puts_nothing_out_that_cameras_use(monkeypatch, pool, device):
    monkeypatch.setattr(module, "RESIDENCE_S", 60.0)
    pool.get_vad_model("a")
    device.lacking = 2
    with pytest.raises(ModelError, match="no room"):
        pool.get_vad_model("b")
    assert device.closed == []


def test_an_analyzer_is_swapped_beside_the_old_one_where_both_fit(pool, device):
    with pool.vlm_analyzer(settings("old:40")) as old, pool.vlm_analyzer(settings("new:40")) as new:
        assert (old.model, new.model) == ("old", "new")
        assert device.used == 80
        before = pool.analyzer_generation
    assert device.closed == ["old"]
    assert pool.statistics().counts["leaks"] == 0
    with pool.vlm_analyzer(settings("old:40")) as again:
        assert again.model == "old"
    assert pool.analyzer_generation > before


def test_where_both_do_not_fit_the_old_one_goes_first_and_rules_serve(pool, device):
    with pool.vlm_analyzer(settings("old:60")):
        pool.prepare_analyzer(settings("new:60"))
        wait_until(lambda: not pool._analyzer)
        with pytest.raises(Loading), pool.vlm_analyzer(settings("new:60"), wait_s=0.0):
            pass
        assert device.closed == []
    with pool.vlm_analyzer(settings("new:60")) as new:
        assert new.model == "new"
    assert device.closed == ["old"]


def test_a_swap_that_fails_is_rolled_back(pool, device):
    with pool.vlm_analyzer(settings("old:60")):
        pass
    pool.prepare_analyzer(settings("broken:60"))
    wait_until(lambda: pool.statistics().counts["rolled_back"] == 1)
    with pool.vlm_analyzer(settings("old:60")) as serving:
        assert serving.model == "old"
    assert device.used == 60
    assert list(pool.statistics().failed.values()) == ["broken"]


def test_an_analyzer_that_cannot_be_made_leaves_the_one_before_serving(pool, device):
    with pool.vlm_analyzer(settings("old:10")):
        pass
    with pool.vlm_analyzer(settings("broken:10")) as serving:
        assert serving.model == "old"
    with pool.vlm_analyzer(settings("huge:500")) as serving:
        assert serving.model == "old"
    broken, huge = pool.statistics().failed.values()
    assert broken == "broken"
    assert "are to be had" in huge


def test_a_model_that_answers_otherwise_than_at_first_is_not_used(pool, device):
    for name in ("a", "b", "c", "d"):
        pool.get_vad_model(name)
    device.answers = "other"
    with pytest.raises(ModelError, match="does not answer as it did"):
        pool.get_vad_model("a")
    assert device.closed[-1] == "a"


def test_a_model_that_is_still_held_after_its_unload_counts_as_leaked(pool, device):
    device.leaks = True
    for name in ("a", "b", "c", "d"):
        pool.get_vad_model(name)
    assert pool.statistics().counts == {
        "loads": 4,
        "failures": 0,
        "evictions": 1,
        "unloads": 1,
        "leaks": 1,
        "rolled_back": 0,
    }
    KEPT.clear()


def test_leases_and_memory_of_each_model_are_told(pool):
    with pool.vlm_analyzer(settings("old:10")):
        (found,) = pool.statistics().models.values()
        assert (found.leases, found.parameter_bytes, found.cpu_bytes) == (1, 10, 10)
    assert pool.statistics().models[next(iter(pool.statistics().models))].leases == 0


def test_the_types_there_are_pass_the_golden_batch():
    pool = ResourcePool(1)
    assert pool.get_vad_model("motion_stats")
    assert pool.statistics().models["vad/motion_stats"].load_s > 0
    pool.close()


def test_gpu_memory_agrees_with_the_driver():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this machine has no CUDA device")
    block = torch.zeros(64 << 20, dtype=torch.uint8, device="cuda")
    found = device_memory()
    assert found["cuda_allocated"] >= block.numel()
    assert found["cuda_total"] - found["cuda_free"] >= found["cuda_reserved"] >= found["cuda_allocated"]
    shown = subprocess.run(
        ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    used = int(shown.splitlines()[torch.cuda.current_device()]) << 20
    assert abs(used - (found["cuda_total"] - found["cuda_free"])) < 0.1 * found["cuda_total"]


def wait_until(holds, seconds: float = 60.0) -> None:
    give_up = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.002)


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
