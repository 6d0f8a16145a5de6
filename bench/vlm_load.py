"""Events to be judged, and the scripted server that judges them, in a process of its own that stands back for others.

`bench.flows` starts it: on a real site neither the cameras that raise events nor the server share its cores. It prints
the server's URL, reads one line of JSON (endpoint, media folder, seconds of a slot), and raises events in every odd
slot of the monotonic clock until its standard input ends.
"""

import contextlib
import os
import select
import sys
import time
from pathlib import Path

import msgspec
import zmq

from bench.fake_vlm import FakeVlm, Said
from core.wire.messages import AnalyzeRequest, InferenceReply
from core.wire.rpc import RequestClient

__all__ = ["EVENTS_PER_S", "Load", "main"]

EVENTS_PER_S = 8.0
ANSWER_S = 0.25
QUIET_S = 0.5
"""Before a slot's end nothing is raised any more, so that all is judged by then."""


class Load(msgspec.Struct):
    endpoint: str
    media: str
    slot_s: float


def main() -> int:
    from bench.flows import CAMERAS, make_event, make_evidence  # noqa: PLC0415 - that module starts this one

    os.nice(19)
    with FakeVlm(Said(wait_s=ANSWER_S)) as server, zmq.Context() as context:
        print(server.url, flush=True)
        load = msgspec.json.decode(sys.stdin.readline(), type=Load)
        evidence = make_evidence(Path(load.media))
        client = RequestClient(context, load.endpoint, InferenceReply)
        raised = 0
        with contextlib.closing(client):
            while not select.select([sys.stdin], [], [], 1 / EVENTS_PER_S)[0]:
                slot, at_s = divmod(time.monotonic(), load.slot_s)
                if slot % 2 and at_s < load.slot_s - QUIET_S:
                    raised += 1
                    client.send(AnalyzeRequest(event=make_event(f"cam-{raised % CAMERAS}"), evidence=evidence), 30.0)
                client.receive(0)
        print(len(server.bodies), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
