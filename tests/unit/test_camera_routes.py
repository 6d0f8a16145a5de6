"""Routes of cameras, without a server."""

from types import SimpleNamespace

from api.cameras import routes
from core.cameras import CameraConfig
from core.ids import CameraId, night_id
from core.wire.messages import ForgetState


def test_a_camera_that_learns_anew_forgets_its_nights_too(monkeypatch):
    """It was moved, say: what it knew of the old view in infra-red is as wrong as what it knew of its days."""
    camera = CameraConfig(camera_id=CameraId("gate"), name="gate", url="demo://plaza?seed=1")
    told: list[ForgetState] = []
    inference = SimpleNamespace(call=lambda message, _timeout_s: told.append(message))
    services = SimpleNamespace(peers={"inference": inference}, audit_now=lambda *_: None)
    monkeypatch.setattr(routes, "_visible", lambda *_: camera)
    monkeypatch.setattr(routes, "_out", lambda *_: camera)
    monkeypatch.setattr(routes, "_statuses", lambda _: None)
    monkeypatch.setattr(routes, "caller", lambda _: None)
    routes.learn.fn(services, None, "gate")
    assert [one.normality_id for one in told] == ["gate", night_id(camera.camera_id)]
