"""StopFlag: signals that come together, waiting, and the last resort."""

import signal
import subprocess
import sys
import time

FLOOD = """
import os, signal, threading, time
from core.process import StopFlag
stop = StopFlag()
def flood():
    for _ in range(20_000):
        os.kill(os.getpid(), signal.SIGTERM)
thread = threading.Thread(target=flood)
thread.start()
while thread.is_alive():
    stop.is_set(), stop.wait(0)
print(stop.wait(5))
"""
HANG = """
import os, signal, time
from core.process import StopFlag
stop = StopFlag(ends_within_s=1)
os.kill(os.getpid(), signal.SIGTERM)
print(stop.is_set(), flush=True)
time.sleep(60)
"""


def run(code: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)


def test_any_number_of_signals_at_once_stops_and_hangs_nothing():
    done = run(FLOOD)
    assert (done.returncode, done.stdout.strip()) == (0, "True"), done.stderr


def test_a_process_that_hangs_in_its_orderly_end_is_ended_all_the_same():
    begun = time.monotonic()
    done = run(HANG)
    assert done.stdout.strip() == "True"
    assert done.returncode == -signal.SIGALRM
    assert time.monotonic() - begun < 20


def test_waiting_ends_when_it_is_set_and_otherwise_in_time():
    code = "from core.process import StopFlag; s = StopFlag(); print(s.wait(0.01)); s.set(); print(s.wait(60))"
    assert run(code).stdout.split() == ["False", "True"]
