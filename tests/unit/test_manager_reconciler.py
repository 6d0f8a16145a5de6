"""The reconciler: from what should run and what does to what has to be done, on a clock of its own."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.cameras import CameraConfig, CameraPhase, CameraSettings
from core.clock import FakeClock
from core.config import ManagerConfig
from core.ids import CameraId
from workers.manager.reconciler import Action, Observed, Reconciler, Step

GATE = CameraId("gate")


def camera(name: str = "gate", **changes) -> CameraConfig:
    return CameraConfig(**{"camera_id": CameraId(name), "name": name, "url": "demo://plaza", **changes})


class House:
    """A reconciler and the processes that its actions make, without any process."""

    def __init__(self, *cameras: CameraConfig, **config) -> None:
        self.clock = FakeClock()
        self.clock.advance(1000)
        self.reconciler = Reconciler(ManagerConfig(**config), self.clock, jitter=lambda: 1.0)
        self.desired = {one.camera_id: one for one in cameras}
        self.processes: dict[CameraId, Observed] = {}
        self.started_with: dict[CameraId, CameraConfig] = {}

    def step(self) -> list[tuple[Step, CameraId]]:
        self.reconciler.desire(list(self.desired.values()))
        actions = self.reconciler.reconcile(self.processes)
        self.processes = {key: one for key, one in self.processes.items() if one.exit_code is None}
        for action in actions:
            if action.step is Step.START:
                self.start(action)
        return [(action.step, action.camera_id) for action in actions]

    def start(self, action: Action) -> None:
        assert action.camera_id not in self.processes, "a second process of one camera"
        self.processes[action.camera_id] = Observed()
        self.started_with[action.camera_id] = self.reconciler.config_of(action.camera_id)
        self.reconciler.started(action.camera_id)

    def beat(self, name: CameraId = GATE, phase: str = "watching", age_s: float = 0.0) -> None:
        self.processes[name] = msgspec.structs.replace(self.processes[name], beat_age_s=age_s, phase=phase)

    def end(self, name: CameraId = GATE, code: int = 1, said: str = "") -> None:
        self.processes[name] = msgspec.structs.replace(self.processes[name], exit_code=code, said=said)

    def pass_s(self, seconds: float) -> list[tuple[Step, CameraId]]:
        """Half-second rounds in which all that runs beats; returns all that was to be done."""
        done = []
        for _ in range(round(seconds * 2)):
            self.clock.advance(0.5)
            for name in self.processes:
                self.beat(name)
            done += self.step()
        return done

    def until_something_is_done(self, limit_s: float = 400) -> float:
        """Seconds until the next action."""
        begun = self.clock.monotonic()
        while not self.step():
            self.clock.advance(0.25)
            assert self.clock.monotonic() - begun < limit_s
        return self.clock.monotonic() - begun

    def status(self, name: CameraId = GATE) -> tuple[CameraPhase, str, int]:
        return self.reconciler.phase(name, self.processes.get(name))


START, TERMINATE, KILL = ((step, GATE) for step in (Step.START, Step.TERMINATE, Step.KILL))


def test_a_camera_that_should_run_is_started_once():
    house = House(camera())
    assert house.step() == [START]
    assert house.step() == []
    assert house.status()[0] is CameraPhase.STARTING


def test_a_running_camera_tells_its_own_phase():
    house = House(camera())
    house.step()
    for phase in ("connecting", "learning", "provisional", "watching"):
        house.beat(phase=phase)
        assert house.status()[0] == phase


def test_a_camera_that_should_not_run_is_left_alone():
    house = House(camera(enabled=False))
    assert house.pass_s(10) == []
    assert house.status()[0] is CameraPhase.STOPPED


def test_nothing_is_done_where_nothing_differs():
    house = House(camera("a"), camera("b"))
    house.step()
    assert house.pass_s(60) == []


@pytest.mark.parametrize("how", ["disabled", "removed"])
def test_a_camera_that_is_wanted_no_longer_is_stopped_once(how):
    house = House(camera())
    house.step()
    house.desired = {} if how == "removed" else {GATE: camera(enabled=False)}
    assert house.step() == [TERMINATE]
    assert house.status()[0] is CameraPhase.STOPPING
    assert house.step() == []
    house.end(code=0)
    assert house.pass_s(60) == []
    assert house.status()[0] is CameraPhase.STOPPED


def test_a_process_that_does_not_end_when_asked_is_killed():
    house = House(camera(), stop_grace_s=5)
    house.step()
    house.desired = {}
    house.step()
    assert house.pass_s(4.5) == []
    assert house.pass_s(0.5) == [KILL]


def test_a_change_that_the_process_can_take_over_restarts_nothing():
    house = House(camera("a"))
    house.step()
    settings = CameraSettings(pre_s=9.0, post_s=9.0, record=False)
    changed = camera("a", analysis_fps=5, learn_s=5, settings=settings)
    house.desired[changed.camera_id] = changed
    assert house.step() == []
    turned = camera("a", settings=CameraSettings(rotation=90))
    house.desired[turned.camera_id] = turned
    assert house.step() == [(Step.TERMINATE, "a")]


def test_a_changed_camera_is_restarted_alone_and_at_once():
    house = House(camera("a"), camera("b"))
    house.step()
    changed = camera("a", vad_type="other")
    house.desired[changed.camera_id] = changed
    assert house.step() == [(Step.TERMINATE, "a")]
    house.end(changed.camera_id, code=0)
    assert house.step() == [(Step.START, "a")]
    assert house.started_with[changed.camera_id] == changed


def test_a_camera_wanted_again_while_it_stops_runs_in_the_end():
    house = House(camera())
    house.step()
    house.desired = {}
    house.step()
    house.desired = {GATE: camera()}
    assert house.step() == []
    house.end(code=0)
    assert house.step() == [START]


def test_the_first_restart_is_immediate_and_the_next_wait_longer_and_longer():
    house = House(camera(), backoff_max_s=3)
    house.step()
    waited = []
    for _ in range(4):
        house.end(said="boom")
        waited.append(house.until_something_is_done())
        house.pass_s(15)
    assert waited == [0, 1, 2, 3]
    assert house.status()[2] == 4


def test_a_camera_that_fails_for_days_is_started_again_and_again():
    house = House(camera(), backoff_max_s=3)
    house.step()
    for _ in range(1100):
        house.end(said="boom")
        assert house.until_something_is_done() <= 300
        house.pass_s(0.5)
    assert house.status()[2] == 1100


def test_a_camera_that_waits_for_its_restart_says_so_and_why():
    house = House(camera())
    house.step()
    for _ in range(2):
        house.end(said="boom")
        house.step()
    assert house.status() == (CameraPhase.BACKOFF, "boom", 2)


def test_a_stable_run_resets_the_back_off():
    house = House(camera(), stable_s=30)
    house.step()
    for _ in range(3):
        house.end()
        house.until_something_is_done()
    house.pass_s(31)
    house.end()
    assert house.step() == [START]


def test_flapping_fails_the_camera_for_five_minutes_and_then_tries_again():
    house = House(camera())
    house.step()
    for _ in range(4):
        house.end(said="boom")
        house.until_something_is_done()
    house.end(said="boom")
    house.step()
    assert house.status()[:2] == (CameraPhase.FAILED, "boom")
    assert house.until_something_is_done() == pytest.approx(300, abs=1)
    assert house.status()[0] is CameraPhase.STARTING


def test_a_configuration_error_fails_the_camera_until_its_configuration_changes():
    house = House(camera())
    house.step()
    house.end(code=78, said="no such file: gate.mp4")
    assert house.pass_s(600) == []
    assert house.status()[:2] == (CameraPhase.FAILED, "no such file: gate.mp4")
    house.desired = {GATE: camera(url="/videos/gate.mp4")}
    assert house.step() == [START]


def test_stopping_and_starting_a_failed_camera_tries_again():
    house = House(camera())
    house.step()
    house.end(code=78)
    house.step()
    house.desired = {GATE: camera(enabled=False)}
    house.step()
    house.desired = {GATE: camera()}
    assert house.step() == [START]


def test_a_looping_camera_that_ends_orderly_comes_back():
    house = House(camera())
    house.step()
    house.end(code=0)
    assert house.step() == [START]


def test_a_file_that_is_played_once_is_not_played_again():
    house = House(camera(loop=False))
    house.step()
    house.pass_s(60)
    house.end(code=0)
    assert house.pass_s(60) == []


def test_a_process_that_hangs_is_killed_and_replaced():
    house = House(camera(), hung_s=5)
    house.step()
    house.beat(age_s=4.9)
    assert house.step() == []
    house.beat(age_s=5)
    assert house.step() == [KILL]
    house.end(code=-9)
    assert house.step() == [START]


def test_a_process_that_never_beats_has_the_start_grace():
    house = House(camera(), start_grace_s=20, hung_s=5)
    house.step()
    house.clock.advance(19.5)
    assert house.step() == []
    house.clock.advance(0.5)
    assert house.step() == [KILL]


def test_only_some_cameras_start_at_once():
    house = House(*(camera(f"cam{number}") for number in range(10)), concurrent_starts=4)
    assert len(house.step()) == 4
    assert house.step() == []
    house.beat(CameraId("cam0"))
    house.beat(CameraId("cam1"))
    assert len(house.step()) == 2


def test_one_cameras_trouble_never_touches_another():
    house = House(camera("a"), camera("b"))
    house.step()
    for _ in range(5):
        house.end(CameraId("a"), said="boom")
        house.step()
        house.clock.advance(20)
        house.beat(CameraId("b"))
        assert (Step.START, "b") not in house.step()
    assert house.reconciler.phase(CameraId("b"), house.processes[CameraId("b")]) == (CameraPhase.WATCHING, "", 0)


def test_an_old_camera_is_started_anew_as_planned_and_counts_as_no_failure():
    house = House(camera(), recycle_h=1.0)
    house.step()
    assert house.pass_s(3599) == []
    assert house.pass_s(2) == [TERMINATE]
    house.end(code=0)
    assert house.step() == [START]
    assert house.reconciler.phase(GATE, house.processes[GATE])[2] == 0


def test_a_camera_that_has_grown_is_started_anew_and_one_at_a_time():
    house = House(camera("a"), camera("b"), recycle_mb=100)
    house.step()
    for name in ("a", "b"):
        house.beat(CameraId(name))
        house.processes[CameraId(name)] = msgspec.structs.replace(house.processes[CameraId(name)], private_mb=101.0)
    assert house.step() == [(Step.TERMINATE, "a")]
    assert house.step() == []
    house.end(CameraId("a"), code=0)
    assert house.step() == [(Step.START, "a")]
    house.beat(CameraId("a"))
    assert house.step() == [(Step.TERMINATE, "b")]


def test_jitter_spreads_restarts():
    waits = set()
    for _ in range(20):
        house = House(camera())
        house.reconciler = Reconciler(ManagerConfig(), house.clock)
        house.step()
        for _ in range(4):
            house.end()
            waited = house.until_something_is_done()
        assert 4 * 0.8 <= waited <= 4 * 1.2 + 0.25
        waits.add(waited)
    assert len(waits) > 2


MOVES = ["end", "fail", "hang", "off", "on", "change", "remove", "wait"]


@given(st.lists(st.sampled_from(MOVES), max_size=60))
def test_a_camera_never_has_two_processes_and_runs_in_the_end(moves):
    house = House(camera(), start_grace_s=20, hung_s=5, stop_grace_s=2)
    fps = 1.0
    for move in moves:
        house.clock.advance(0.5)
        if GATE in house.processes:
            house.beat(age_s=60.0 if move == "hang" else 0.0)
            if move in {"end", "fail"}:
                house.end(code=78 if move == "fail" else 1)
        if move in {"on", "off"}:
            house.desired[GATE] = camera(enabled=move == "on", vad_type=f"v{fps:g}")
        elif move == "change":
            fps += 1
            house.desired[GATE] = camera(vad_type=f"v{fps:g}")
        elif move == "remove":
            house.desired.clear()
        obey(house)
    house.desired[GATE] = camera(vad_type=f"v{fps + 1:g}")
    for _ in range(10):
        house.clock.advance(0.5)
        if GATE in house.processes:
            house.beat()
        obey(house)
    assert house.status()[0] is CameraPhase.WATCHING
    assert house.started_with[GATE].vad_type == f"v{fps + 1:g}"


def obey(house: House) -> None:
    """One round whose signals take effect at once."""
    for step, name in house.step():
        if step is not Step.START:
            house.end(name, code=-9 if step is Step.KILL else 0)
