"""What the manager tells cameras that run already."""

import subprocess
import threading

from core.cameras import CameraConfig
from core.clock import FakeClock
from core.events.judgements import Judgement
from core.ids import CameraId, EventId
from workers.manager.manager import MultiCameraManager


def said(number: int) -> tuple[Judgement, ...]:
    place = {"vad_type": "motion_stats", "score": 4.0, "x": 0.5, "y": 0.5, "attribute": "x" * 400}
    return tuple(Judgement(event_id=EventId(f"{number}-{n}"), verdict="normal", **place) for n in range(64))


def test_a_camera_that_hangs_and_does_not_read_holds_up_nobody(config):
    """What people say of its events is sent to it; a pipe holds 64 kB."""
    gate = CameraConfig(camera_id=CameraId("gate"), name="gate", url="demo://plaza?seed=1")
    manager = MultiCameraManager(config, FakeClock())
    with subprocess.Popen(["sleep", "600"], stdin=subprocess.PIPE) as hung:
        manager._processes[gate.camera_id] = hung
        manager._desired[gate.camera_id] = gate
        manager._sent[gate.camera_id] = manager._job(gate)

        def tell() -> None:
            for number in range(5):
                manager._judgements[gate.camera_id] = said(number)
                manager._send_changes()

        telling = threading.Thread(target=tell, daemon=True)
        telling.start()
        telling.join(60)
        held_up = telling.is_alive()
        hung.kill()
        telling.join(60)
    assert not held_up
    assert manager._sent[gate.camera_id].judgements == said(0)
