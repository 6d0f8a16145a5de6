"""StopFlag: signals that come together, waiting, and the last resort."""

import signal
import subprocess
import sys
import time

WORK = """
import time
from core.process import StopFlag
stop = StopFlag()
print("ready", flush=True)
until = time.monotonic() + 2
while time.monotonic() < until:
    stop.is_set()
print(stop.wait(60), flush=True)
"""
HANG = """
import os, signal, time
from core.process import StopFlag
stop = StopFlag(ends_within_s=5)
os.kill(os.getpid(), signal.SIGTERM)
print(stop.is_set(), flush=True)
time.sleep(60)
"""


def run(code: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)


def test_any_number_of_signals_at_once_stops_and_hangs_nothing():
    with subprocess.Popen([sys.executable, "-c", WORK], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout
        assert child.stdout.readline() == "ready\n"
        until = time.monotonic() + 1
        while time.monotonic() < until:
            child.send_signal(signal.SIGTERM)
        try:
            assert child.stdout.readline() == "True\n"
        finally:
            child.kill()


def test_a_process_that_hangs_in_its_orderly_end_is_ended_all_the_same():
    begun = time.monotonic()
    done = run(HANG)
    assert done.stdout.strip() == "True"
    assert done.returncode == -signal.SIGALRM
    assert time.monotonic() - begun < 50


def test_waiting_ends_when_it_is_set_and_otherwise_in_time():
    code = "from core.process import StopFlag; s = StopFlag(); print(s.wait(0.01)); s.set(); print(s.wait(60))"
    assert run(code).stdout.split() == ["False", "True"]
