"""A typed client of the REST API, for programs and for `haetae --url`.

    with Client("https://haetae.example", key="haetae_key_…") as client:
        for event in client.iterate_events(severity=["critical"]):
            print(event.began_at, event.camera_id, event.reason)

There is a method for each operation of the OpenAPI document, named like it.
"""

import contextlib
import re
from collections.abc import Generator, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar, cast
from urllib.parse import quote

import httpx
import msgspec

from core.cameras import Light, Zone
from core.errors import HaetaeError
from core.rest import accounts, cameras, events, notifications, statistics, system
from core.rest.base import FieldError, Problem

__all__ = ["ApiProblem", "Client"]

T = TypeVar("T")
TIMEOUT_S = 30.0
_PART = re.compile(
    rb"(?:\r\n)?--[^\r\n]+\r\n(?:[^\r\n]+\r\n)*?Content-Length: (\d+)\r\n(?:[^\r\n]+\r\n)*\r\n", re.IGNORECASE
)


class ApiProblem(HaetaeError):
    """The API refused, or cannot be reached (status 0); `code` is stable."""

    def __init__(self, message: str, hint: str = "", *, status: int, code: str, errors: list[FieldError]) -> None:
        super().__init__(message, hint)
        self.status, self.code, self.errors = status, code, errors


class Client:
    """One server, as one user or key. Each method raises ApiProblem; used by one thread."""

    def __init__(self, url: str, *, key: str = "", transport: httpx.BaseTransport | None = None) -> None:
        """`key` is an API key's secret, or an access token; `log_in` gets one for a name and a password."""
        self._http = httpx.Client(base_url=url.rstrip("/"), timeout=TIMEOUT_S, transport=transport)
        self._authorise(key)
        self._refresh_token = ""

    def _authorise(self, token: str) -> None:
        if token:
            self._http.headers["Authorization"] = f"Bearer {token}"
        else:
            self._http.headers.pop("Authorization", None)

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- requests

    def _send(self, method: str, path: str, body: Any = None, **query: Any) -> bytes:
        return self._open(method, path, body, stream=False, **query).content

    def _open(self, method: str, path: str, body: Any = None, *, stream: bool, **query: Any) -> httpx.Response:
        """The answer, of which with `stream` nothing has been read yet: then it is to be closed."""
        asked = {name.rstrip("_"): _text(value) for name, value in query.items() if value is not None}
        content = msgspec.json.encode(body) if body is not None else None
        headers = {"Content-Type": "application/json"} if content is not None else {}
        request = self._http.build_request(method, path, params=asked, content=content, headers=headers)
        try:
            answer = self._http.send(request, stream=stream)
            if answer.status_code >= 400:
                answer.read()
        except httpx.HTTPError as error:
            raise ApiProblem(
                f"{self._http.base_url} does not answer: {error}",
                "check the address, and that Haetae runs there",
                status=0,
                code="unreachable",
                errors=[],
            ) from error
        if answer.status_code >= 400:
            raise _problem(answer)
        return answer

    def _read(self, kind: type[T], method: str, path: str, body: Any = None, **query: Any) -> T:
        return msgspec.json.decode(self._send(method, f"/api/v1{path}", body, **query), type=kind)

    def _do(self, method: str, path: str, body: Any = None, **query: Any) -> None:
        self._send(method, f"/api/v1{path}", body, **query)

    # ---- health

    def get_health(self) -> system.Health:
        return msgspec.json.decode(self._send("GET", "/healthz"), type=system.Health)

    def get_readiness(self) -> system.Readiness:
        return msgspec.json.decode(self._send("GET", "/readyz"), type=system.Readiness)

    def get_metrics(self) -> bytes:
        """Prometheus' text format."""
        return self._send("GET", "/metrics")

    # ---- logging in

    def get_set_up_state(self) -> accounts.SetUpState:
        return self._read(accounts.SetUpState, "GET", "/auth/state")

    def register(self, data: accounts.RegisterIn) -> accounts.UserOut:
        return self._read(accounts.UserOut, "POST", "/auth/register", data)

    def log_in(self, name: str, password: str, code: str = "") -> accounts.Tokens:
        """Logs in; all that follows is asked as this user."""
        data = accounts.LoginIn(name=name, password=password, code=code)
        return self._take(self._read(accounts.Tokens, "POST", "/auth/login", data))

    def refresh(self) -> accounts.Tokens:
        """The next tokens of the session that `log_in` began, before its access token expires."""
        data = accounts.RefreshIn(refresh_token=self._refresh_token)
        return self._take(self._read(accounts.Tokens, "POST", "/auth/refresh", data))

    def _take(self, tokens: accounts.Tokens) -> accounts.Tokens:
        self._authorise(tokens.access_token)
        self._refresh_token = tokens.refresh_token
        return tokens

    def log_out(self) -> None:
        self._do("POST", "/auth/logout")
        self._authorise("")

    def change_password(self, data: accounts.ChangePassword) -> None:
        self._do("POST", "/auth/password", data)

    def get_me(self) -> accounts.Me:
        return self._read(accounts.Me, "GET", "/auth/me")

    def change_me(self, data: accounts.ChangeMe) -> accounts.Me:
        return self._read(accounts.Me, "PATCH", "/auth/me", data)

    def list_sessions(self) -> list[accounts.Session]:
        return self._read(list[accounts.Session], "GET", "/auth/sessions")

    def end_session(self, session_id: str) -> None:
        self._do("DELETE", f"/auth/sessions/{quote(session_id)}")

    def end_sessions(self) -> None:
        self._do("DELETE", "/auth/sessions")

    def list_browsers(self) -> accounts.Browsers:
        return self._read(accounts.Browsers, "GET", "/auth/browsers")

    def add_browser(self, data: accounts.Subscription) -> accounts.Browser:
        return self._read(accounts.Browser, "POST", "/auth/browsers", data)

    def remove_browser(self, browser_id: str) -> None:
        self._do("DELETE", f"/auth/browsers/{quote(browser_id)}")

    def get_ticket(self) -> accounts.Ticket:
        return self._read(accounts.Ticket, "POST", "/auth/ticket")

    def begin_second_factor(self) -> accounts.SecondFactorSetUp:
        return self._read(accounts.SecondFactorSetUp, "POST", "/auth/second-factor")

    def confirm_second_factor(self, data: accounts.SecondFactorCode) -> accounts.RecoveryCodes:
        return self._read(accounts.RecoveryCodes, "POST", "/auth/second-factor/confirm", data)

    def remove_second_factor(self, data: accounts.SecondFactorCode) -> None:
        self._do("POST", "/auth/second-factor/remove", data)

    # ---- users

    def list_users(self) -> list[accounts.UserOut]:
        return self._read(list[accounts.UserOut], "GET", "/users")

    def create_user(self, data: accounts.CreateUser) -> accounts.UserOut:
        return self._read(accounts.UserOut, "POST", "/users", data)

    def get_user(self, user_id: str) -> accounts.UserOut:
        return self._read(accounts.UserOut, "GET", f"/users/{quote(user_id)}")

    def change_user(self, user_id: str, data: accounts.ChangeUser) -> accounts.UserOut:
        return self._read(accounts.UserOut, "PATCH", f"/users/{quote(user_id)}", data)

    def remove_user(self, user_id: str) -> None:
        self._do("DELETE", f"/users/{quote(user_id)}")

    def list_keys(self) -> list[accounts.ApiKey]:
        return self._read(list[accounts.ApiKey], "GET", "/keys")

    def create_key(self, data: accounts.CreateKey) -> accounts.CreatedKey:
        return self._read(accounts.CreatedKey, "POST", "/keys", data)

    def revoke_key(self, key_id: str) -> None:
        self._do("DELETE", f"/keys/{quote(key_id)}")

    def list_invitations(self) -> list[accounts.Invitation]:
        return self._read(list[accounts.Invitation], "GET", "/invitations")

    def create_invitation(self, data: accounts.CreateInvitation) -> accounts.CreatedInvitation:
        return self._read(accounts.CreatedInvitation, "POST", "/invitations", data)

    def withdraw_invitation(self, invitation_id: str) -> None:
        self._do("DELETE", f"/invitations/{quote(invitation_id)}")

    def list_audit(self, **query: Any) -> accounts.AuditPage:
        """`query` as in the OpenAPI document; `from_` for "from"."""
        return self._read(accounts.AuditPage, "GET", "/audit", **query)

    # ---- cameras

    def list_cameras(self) -> list[cameras.CameraOut]:
        return self._read(list[cameras.CameraOut], "GET", "/cameras")

    def get_camera(self, camera_id: str) -> cameras.CameraOut:
        return self._read(cameras.CameraOut, "GET", f"/cameras/{quote(camera_id)}")

    def create_camera(self, data: cameras.CameraIn) -> cameras.CameraOut:
        return self._read(cameras.CameraOut, "POST", "/cameras", data)

    def replace_camera(self, camera_id: str, data: cameras.CameraIn) -> cameras.CameraOut:
        return self._read(cameras.CameraOut, "PUT", f"/cameras/{quote(camera_id)}", data)

    def change_camera(self, camera_id: str, data: cameras.CameraChange) -> cameras.CameraOut:
        return self._read(cameras.CameraOut, "PATCH", f"/cameras/{quote(camera_id)}", data)

    def remove_camera(self, camera_id: str) -> None:
        self._do("DELETE", f"/cameras/{quote(camera_id)}")

    def start_camera(self, camera_id: str) -> cameras.CameraOut:
        return self._read(cameras.CameraOut, "POST", f"/cameras/{quote(camera_id)}/start")

    def stop_camera(self, camera_id: str) -> cameras.CameraOut:
        return self._read(cameras.CameraOut, "POST", f"/cameras/{quote(camera_id)}/stop")

    def learn_camera(self, camera_id: str) -> cameras.CameraOut:
        return self._read(cameras.CameraOut, "POST", f"/cameras/{quote(camera_id)}/learn")

    def probe_camera(self, data: cameras.ProbeIn) -> cameras.Probe:
        return self._read(cameras.Probe, "POST", "/cameras/probe", data)

    def discover_cameras(self, wait_s: float = 3.0) -> list[cameras.OnvifFound]:
        """The ONVIF devices on the networks of the machine that runs Haetae."""
        return self._read(list[cameras.OnvifFound], "GET", "/cameras/discover", wait_s=wait_s)

    def describe_device(self, data: cameras.DeviceIn) -> cameras.OnvifDevice:
        return self._read(cameras.OnvifDevice, "POST", "/cameras/discover", data)

    def list_presets(self, camera_id: str) -> list[cameras.OnvifPreset]:
        return self._read(list[cameras.OnvifPreset], "GET", f"/cameras/{quote(camera_id)}/presets")

    def go_to_preset(self, camera_id: str, preset: str) -> cameras.OnvifPreset:
        data = cameras.PresetIn(preset=preset)
        return self._read(cameras.OnvifPreset, "POST", f"/cameras/{quote(camera_id)}/presets", data)

    def get_snapshot(self, camera_id: str) -> bytes:
        """The newest picture as JPEG."""
        return self._send("GET", f"/api/v1/cameras/{quote(camera_id)}/snapshot")

    def get_mjpeg(self, camera_id: str, **query: Any) -> Generator[bytes]:
        """JPEG after JPEG, until it is closed; `size`, and at most `fps` a second."""
        return _parts(self._open("GET", f"/api/v1/cameras/{quote(camera_id)}/mjpeg", stream=True, **query))

    def get_frame(self, camera_id: str, width: int = 640) -> bytes:
        """The newest picture as JPEG, no wider than `width` pixels."""
        return self._send("GET", f"/api/v1/cameras/{quote(camera_id)}/frame", width=width)

    def list_zones(self, camera_id: str) -> list[Zone]:
        return self._read(list[Zone], "GET", f"/cameras/{quote(camera_id)}/zones")

    def set_zones(self, camera_id: str, data: cameras.ZonesIn) -> list[Zone]:
        return self._read(list[Zone], "PUT", f"/cameras/{quote(camera_id)}/zones", data)

    def list_camera_states(self, camera_id: str, limit: int = 50) -> list[cameras.CameraStateChange]:
        path = f"/cameras/{quote(camera_id)}/states"
        return self._read(list[cameras.CameraStateChange], "GET", path, limit=limit)

    def list_scores(self, camera_id: str, **query: Any) -> list[cameras.MinuteOut]:
        return self._read(list[cameras.MinuteOut], "GET", f"/cameras/{quote(camera_id)}/scores", **query)

    def get_sensitivity(self, camera_id: str, **query: Any) -> cameras.SensitivityOut:
        """`per_day` to be tried, and over how many `days`."""
        return self._read(cameras.SensitivityOut, "GET", f"/cameras/{quote(camera_id)}/sensitivity", **query)

    def use_normality(self, camera_id: str, data: cameras.VersionIn) -> list[cameras.NormalityOut]:
        return self._read(list[cameras.NormalityOut], "POST", f"/cameras/{quote(camera_id)}/normality/use", data)

    def list_normality(self, camera_id: str, *, light: Light | None = None) -> list[cameras.NormalityOut]:
        """Of both lights, or of one."""
        path = f"/cameras/{quote(camera_id)}/normality"
        return self._read(list[cameras.NormalityOut], "GET", path, light=light)

    def list_groups(self) -> list[cameras.CameraGroup]:
        return self._read(list[cameras.CameraGroup], "GET", "/groups")

    def create_group(self, data: cameras.GroupIn) -> cameras.CameraGroup:
        return self._read(cameras.CameraGroup, "POST", "/groups", data)

    def replace_group(self, group_id: str, data: cameras.GroupIn) -> cameras.CameraGroup:
        return self._read(cameras.CameraGroup, "PUT", f"/groups/{quote(group_id)}", data)

    def remove_group(self, group_id: str) -> None:
        self._do("DELETE", f"/groups/{quote(group_id)}")

    # ---- events

    def list_events(self, **query: Any) -> events.EventPageOut:
        """A page; `query` as in the OpenAPI document, `from_` for "from"."""
        return self._read(events.EventPageOut, "GET", "/events", **query)

    def iterate_events(self, **query: Any) -> Iterator[events.EventOut]:
        """All events of a filter, the newest first, page by page."""
        cursor: str | None = None
        while True:
            page = self.list_events(cursor=cursor, **query)
            yield from page.events
            cursor = page.cursor
            if cursor is None:
                return

    def export_events(self, **query: Any) -> bytes:
        return self._send("GET", "/api/v1/events/export", **query)

    def get_event(self, event_id: str) -> events.EventDetailOut:
        return self._read(events.EventDetailOut, "GET", f"/events/{quote(event_id)}")

    def get_event_media(self, event_id: str, kind: events.MediaKind) -> bytes:
        return self._send("GET", f"/api/v1/events/{quote(event_id)}/media/{kind}")

    def acknowledge_event(self, event_id: str, data: events.AckIn) -> events.EventDetailOut:
        return self._read(events.EventDetailOut, "POST", f"/events/{quote(event_id)}/ack", data)

    def acknowledge_events(self, data: events.AckMany) -> events.AckedMany:
        return self._read(events.AckedMany, "POST", "/events/ack", data)

    def undo_acknowledgement(self, event_id: str) -> events.EventDetailOut:
        return self._read(events.EventDetailOut, "DELETE", f"/events/{quote(event_id)}/ack")

    def lock_event(self, event_id: str, data: events.LockIn) -> events.EventDetailOut:
        return self._read(events.EventDetailOut, "PUT", f"/events/{quote(event_id)}/lock", data)

    def give_feedback(self, event_id: str, data: events.FeedbackIn) -> events.EventDetailOut:
        return self._read(events.EventDetailOut, "POST", f"/events/{quote(event_id)}/feedback", data)

    def undo_feedback(self, event_id: str) -> events.EventDetailOut:
        return self._read(events.EventDetailOut, "DELETE", f"/events/{quote(event_id)}/feedback")

    # ---- statistics

    def get_statistics(self, **query: Any) -> statistics.StatisticsOut:
        return self._read(statistics.StatisticsOut, "GET", "/stats", **query)

    def get_trends(self, **query: Any) -> statistics.TrendOut:
        return self._read(statistics.TrendOut, "GET", "/stats/trends", **query)

    def export_statistics(self, **query: Any) -> bytes:
        return self._send("GET", "/api/v1/stats/export", **query)

    # ---- notifications

    def list_channels(self) -> list[notifications.Channel]:
        return self._read(list[notifications.Channel], "GET", "/notifications/channels")

    def create_channel(self, data: notifications.ChannelIn) -> notifications.Channel:
        return self._read(notifications.Channel, "POST", "/notifications/channels", data)

    def get_channel(self, channel_id: str) -> notifications.Channel:
        return self._read(notifications.Channel, "GET", f"/notifications/channels/{quote(channel_id)}")

    def change_channel(self, channel_id: str, data: notifications.ChannelChange) -> notifications.Channel:
        return self._read(notifications.Channel, "PATCH", f"/notifications/channels/{quote(channel_id)}", data)

    def remove_channel(self, channel_id: str) -> None:
        self._do("DELETE", f"/notifications/channels/{quote(channel_id)}")

    def test_channel(self, channel_id: str) -> notifications.QueuedTest:
        return self._read(notifications.QueuedTest, "POST", f"/notifications/channels/{quote(channel_id)}/test")

    def list_rules(self) -> list[notifications.Rule]:
        return self._read(list[notifications.Rule], "GET", "/notifications/rules")

    def create_rule(self, data: notifications.RuleDraft) -> notifications.Rule:
        return self._read(notifications.Rule, "POST", "/notifications/rules", data)

    def get_rule(self, rule_id: str) -> notifications.Rule:
        return self._read(notifications.Rule, "GET", f"/notifications/rules/{quote(rule_id)}")

    def replace_rule(self, rule_id: str, data: notifications.RuleDraft) -> notifications.Rule:
        return self._read(notifications.Rule, "PUT", f"/notifications/rules/{quote(rule_id)}", data)

    def remove_rule(self, rule_id: str) -> None:
        self._do("DELETE", f"/notifications/rules/{quote(rule_id)}")

    def move_rule(self, rule_id: str, data: notifications.MoveIn) -> list[notifications.Rule]:
        return self._read(list[notifications.Rule], "POST", f"/notifications/rules/{quote(rule_id)}/move", data)

    def dry_run_rule(self, data: notifications.DryRunIn) -> notifications.DryRun:
        return self._read(notifications.DryRun, "POST", "/notifications/dry-run", data)

    def list_messages(self, **query: Any) -> list[notifications.Queued]:
        return self._read(list[notifications.Queued], "GET", "/notifications/messages", **query)

    def list_deliveries(self, **query: Any) -> list[notifications.Delivery]:
        return self._read(list[notifications.Delivery], "GET", "/notifications/deliveries", **query)

    def list_queues(self) -> list[notifications.ChannelStatistics]:
        return self._read(list[notifications.ChannelStatistics], "GET", "/notifications/queues")

    def replay_messages(self, data: notifications.ReplayIn) -> notifications.Replayed:
        return self._read(notifications.Replayed, "POST", "/notifications/replay", data)

    # ---- system

    def get_system(self) -> system.SystemOut:
        return self._read(system.SystemOut, "GET", "/system")

    def get_config(self) -> list[system.ConfigField]:
        return self._read(list[system.ConfigField], "GET", "/system/config")

    def get_log(self, process: str, lines: int = 200) -> system.LogTail:
        return self._read(system.LogTail, "GET", f"/system/logs/{quote(process)}", lines=lines)


def _text(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return [str(one) for one in cast("list[Any]", value)]
    return str(value)


def _parts(answer: httpx.Response) -> Generator[bytes]:
    """The bodies of a multipart/x-mixed-replace answer, each of which tells its length."""
    kept = b""
    with contextlib.closing(answer):
        for chunk in answer.iter_bytes():
            kept += chunk
            while found := _PART.match(kept):
                end = found.end() + int(found[1])
                if len(kept) < end:
                    break
                yield kept[found.end() : end]
                kept = kept[end:]


def _problem(answer: httpx.Response) -> ApiProblem:
    try:
        problem = msgspec.json.decode(answer.content, type=Problem)
    except msgspec.DecodeError:
        message = f"{answer.url.host} answered {answer.status_code}: this is not Haetae's API"
        return ApiProblem(message, "check the address", status=answer.status_code, code="not_haetae", errors=[])
    wrong = "; ".join(f"{error.field}: {error.message}" for error in problem.errors)
    return ApiProblem(
        f"{problem.detail}{': ' + wrong if wrong else ''}",
        problem.hint,
        status=problem.status,
        code=problem.code,
        errors=problem.errors,
    )
