"""A camera that switches to infra-red learns what that looks like into a state of its own, and finds its day again."""

from contextlib import ExitStack
from pathlib import Path

import av
import numpy as np

from core.cameras import CameraConfig
from core.cameras.live import read_live
from core.db import make_engine, upgrade
from core.db.cameras import add_camera
from core.heartbeat import read_heartbeat
from core.ids import CameraId
from tests.integration.test_api_flow import until
from tests.integration.test_kill import EAGER
from workers.camera.sources.demo import DemoSource
from workers.process import spawn

QUICK = {**EAGER, "HAETAE_SIGHT__SETTLE_S": "1", "HAETAE_SIGHT__CLEAR_S": "0.4"}


def film(path: Path, day_s: float, night_s: float) -> None:
    source = DemoSource("demo://plaza?seed=1&width=192&height=108&anomalies=0")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"preset": "ultrafast", "crf": "20"})
        stream.width, stream.height, stream.pix_fmt = 192, 108, "yuv420p"
        pixels = np.empty((162, 192), np.uint8)
        for index in range(round((day_s + night_s) * 10)):
            source.frame_at(index).write_i420(pixels)
            pixels[108:] = 150 if index < day_s * 10 else 128
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="yuv420p")))
        container.mux(stream.encode(None))


def test_day_and_infra_red_have_a_state_each(config, tmp_path):
    video = tmp_path / "gate.mp4"
    film(video, 8, 10)
    upgrade(config.database_url)
    engine = make_engine(config.database_url, writer=True)
    add_camera(engine, CameraConfig(camera_id=CameraId("gate"), name="gate", url=str(video), learn_s=4))
    engine.dispose()
    with ExitStack() as stack:
        processes = {}
        for role in ("logger", "inference", "manager"):
            log = stack.enter_context((config.logs_dir / f"{role}.log").open("ab"))
            processes[role] = spawn(role, config=config, stderr=log, environment=QUICK)
        try:
            until("the manager beats", lambda: read_heartbeat(config.run_dir, "manager"))
            states = config.states_dir / "motion_stats"
            until("the day is learned", (states / "gate" / "current").exists)
            until("it says that it sees by night", lambda: (live := read_live(config.run_dir, "gate")) and live.night)
            until("the night is learned", (states / "gate--night" / "current").exists)
            camera_log = config.logs_dir / "camera-gate.log"
            until("it finds its day again", lambda: '"day"' in camera_log.read_text())
            until("and says so", lambda: (live := read_live(config.run_dir, "gate")) and not live.night)
            assert (states / "gate" / "current").read_text() == "1"
        finally:
            for role in ("manager", "inference", "logger"):
                processes[role].terminate()
            for role in ("manager", "inference", "logger"):
                processes[role].wait(60)
    assert float((config.data_dir / "promises" / "gate.colour").read_text()) > 20
