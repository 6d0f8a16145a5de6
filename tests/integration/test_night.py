"""A camera that switches to infra-red learns what that looks like into a state of its own, and finds its day again.

Each of the two has versions that are listed, judged by again and audited, from the API and from the command line.
"""

from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import av
import numpy as np
from sqlalchemy import select

from core.cameras import CameraConfig
from core.cameras.live import read_live
from core.clock import utc_iso
from core.db import make_engine, upgrade
from core.db.cameras import add_camera
from core.db.event_pages import EventFilter, iterate_events
from core.db.tables import AuditRow
from core.heartbeat import read_heartbeat
from core.ids import CameraId
from core.security.permissions import Role
from tests.api import Site, run_api
from tests.integration.test_api_flow import until
from tests.integration.test_kill import EAGER
from workers.camera.sources.demo import DemoSource
from workers.cli import main
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


def go_back(config, monkeypatch, capsys):
    """Both learn a second version; the night goes back to its first, while the day stays with its second."""
    monkeypatch.setenv("HAETAE_PATHS__RUN", str(config.run_dir))
    site = Site(config)
    site.add_user("kim", Role.OPERATOR, CameraId("gate"))
    site.add_user("lee", Role.VIEWER, CameraId("gate"))
    token, viewer = (f"Bearer {site.token(name)}" for name in ("kim", "lee"))
    site.close()
    engine = make_engine(config.database_url)
    with run_api(config) as client:
        client.headers["Authorization"] = token
        path = "/api/v1/cameras/gate/normality"

        def used(**query: str) -> dict[str, int]:
            return {one["light"]: one["version"] for one in client.get(path, params=query).json() if one["in_use"]}

        def judged() -> set[int]:
            found = (one.event for one in iterate_events(engine, EventFilter()))
            return {event.state_version for event in found if event.began_at > began}

        def haetae(*words: str) -> str:
            code = main(["--data", str(config.data_dir), *words])
            out = capsys.readouterr()
            assert code == 0, out.err
            return out.out

        until("both are listed", lambda: used() == {"day": 1, "night": 1})
        assert client.post("/api/v1/cameras/gate/learn").status_code == 200
        assert used() == {}
        until("both have learned anew", lambda: used() == {"day": 2, "night": 2})
        wanted = {"version": 1, "light": "night"}
        refused = client.post(f"{path}/use", json=wanted, headers={"Authorization": viewer})
        assert refused.status_code == 403
        assert client.post(f"{path}/use", json={"version": 1, "light": "dusk"}).status_code == 400
        assert client.post(f"{path}/use", json={"version": 3, "light": "night"}).status_code == 409
        began = utc_iso(datetime.now(UTC))
        back = client.post(f"{path}/use", json=wanted)
        assert {(one["light"], one["version"], one["in_use"]) for one in back.json()} == {
            ("day", 1, False),
            ("day", 2, True),
            ("night", 1, True),
            ("night", 2, False),
        }
        assert used(light="night") == {"night": 1}
        assert {one["light"] for one in client.get(path, params={"light": "day"}).json()} == {"day"}
        until("both judge: the night by its first version, the day by its second", lambda: judged() >= {1, 2})
        assert "infra-red nights by version 2" in haetae("camera", "rollback", "gate", "2", "--light", "night")
        assert "infra-red nights by version 1" in haetae("camera", "rollback", "gate", "--light", "night")
        assert used() == {"day": 2, "night": 1}
        table = haetae("camera", "versions", "gate")
        assert (table.count("night"), table.count("day"), table.count("in use")) == (2, 2, 2)
        assert "day" not in haetae("camera", "versions", "gate", "--light", "night")
    with engine.connect() as connection:
        query = select(AuditRow.actor, AuditRow.detail).where(AuditRow.action == "camera.version_used")
        audited = [(row.actor, row.detail) for row in connection.execute(query.order_by(AuditRow.at))]
    engine.dispose()
    assert [detail for _, detail in audited] == [{"version": n, "light": "night"} for n in (1, 2, 1)]
    assert audited[0][0] == "kim"


def test_day_and_infra_red_have_a_state_each(config, tmp_path, monkeypatch, capsys):
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
            go_back(config, monkeypatch, capsys)
        finally:
            for role in ("manager", "inference", "logger"):
                processes[role].terminate()
            for role in ("manager", "inference", "logger"):
                processes[role].wait(60)
    assert float((config.data_dir / "promises" / "gate.colour").read_text()) > 20
