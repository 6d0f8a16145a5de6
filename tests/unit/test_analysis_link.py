"""The analysis process as inference sees it."""

import subprocess
import sys
from types import SimpleNamespace

import zmq

from workers.inference import analysis_link
from workers.inference.analysis_link import HUNG_S, STOP_S, AnalysisLink


def test_an_analysis_process_that_never_answers_is_ended_and_counted(tmp_path, monkeypatch):
    """Rules would decide in its place for ever."""
    now = [100.0]
    monkeypatch.setattr(analysis_link, "time", SimpleNamespace(monotonic=lambda: now[0]))
    config = SimpleNamespace(vlm=SimpleNamespace(backend="local"), endpoint=lambda name: f"ipc://{tmp_path}/{name}")
    with zmq.Context() as context, subprocess.Popen(["cat"], stdin=subprocess.PIPE) as hung:
        monkeypatch.setattr(analysis_link, "spawn", lambda *_, **__: hung)
        link = AnalysisLink(context, config, lambda *_: None, lambda *_: None)
        now[0] += HUNG_S - 1
        link.tend()
        assert hung.poll() is None
        now[0] += 2
        link.tend()
        assert hung.wait(60) == -9
        link.tend()
        assert link.socket is None
        assert {one.name: one.value for one in link.samples()}["haetae_analysis_deaths"] == 1


def test_a_process_that_is_slow_to_end_holds_nobody_up_and_is_killed_at_last(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(analysis_link, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def settings(backend):
        return SimpleNamespace(vlm=SimpleNamespace(backend=backend), endpoint=lambda name: f"ipc://{tmp_path}/{name}")

    deaf = "import signal,sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); signal.pause()"
    failed: list[str] = []
    with (
        zmq.Context() as context,
        subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE) as slow,
        subprocess.Popen(["cat"], stdin=subprocess.PIPE) as following,
    ):
        assert slow.stdout
        assert slow.stdout.readline()  # it ignores the signal from here on
        started = iter((slow, following))
        monkeypatch.setattr(analysis_link, "spawn", lambda *_, **__: next(started))
        link = AnalysisLink(context, settings("local"), lambda *_: None, lambda *said: failed.append(said[-1]))
        link.take_over(settings("rules"))
        link.tend()
        assert slow.poll() is None  # and tend() came back
        link.submit("asker", SimpleNamespace(), 200.0)
        assert failed == ["no_process"]
        link.take_over(settings("local"))
        now[0] += STOP_S
        link.tend()
        assert slow.wait(60) == -9
        link.tend()
        assert {one.name: one.value for one in link.samples()}["haetae_analysis_deaths"] == 0
        link.tend()
        assert link.socket is not None
        link.close()
        assert following.wait(60) == -15
