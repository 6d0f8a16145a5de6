"""Every route of the API, asked by everybody, for a camera that is theirs and one that is not.

A route without a row here fails: whoever adds one says who may use it.
"""

import msgspec
import pytest
from litestar.handlers import HTTPRouteHandler

from api.app import create_app
from api.guard import MEDIA_COOKIE
from api.services import Services
from core.clock import SystemClock
from core.security.permissions import Role, Scope
from core.security.tokens import TokenKind
from tests.api import OTHER, OWN, Site, run_api

V, O, A = Role.VIEWER, Role.OPERATOR, Role.ADMIN  # noqa: E741 - as in the table below
S = Scope
PUBLIC, ANY_KEY = "public", "any key"

# operation -> (least role, scope of keys | None: no keys | ANY_KEY, whether it is about a camera)
ROUTES: dict[str, tuple] = {
    "getPage": (PUBLIC,),
    "getPageFile": (PUBLIC,),
    "getHealth": (PUBLIC,),
    "getReadiness": (PUBLIC,),
    "getSetUpState": (PUBLIC,),
    "register": (PUBLIC,),
    "logIn": (PUBLIC,),
    "refresh": (PUBLIC,),
    "logOut": (V, None, False),
    "changePassword": (V, None, False),
    "getMe": (V, ANY_KEY, False),
    "changeMe": (V, None, False),
    "listSessions": (V, None, False),
    "endSession": (V, None, False),
    "endSessions": (V, None, False),
    "getTicket": (V, None, False),
    "listBrowsers": (V, None, False),
    "addBrowser": (V, None, False),
    "removeBrowser": (V, None, False),
    "beginSecondFactor": (V, None, False),
    "confirmSecondFactor": (V, None, False),
    "removeSecondFactor": (V, None, False),
    "listUsers": (A, S.USERS_READ, False),
    "createUser": (A, S.USERS_WRITE, False),
    "getUser": (A, S.USERS_READ, False),
    "changeUser": (A, S.USERS_WRITE, False),
    "removeUser": (A, S.USERS_WRITE, False),
    "listKeys": (V, None, False),
    "createKey": (V, None, False),
    "revokeKey": (V, None, False),
    "listInvitations": (A, S.USERS_READ, False),
    "createInvitation": (A, S.USERS_WRITE, False),
    "withdrawInvitation": (A, S.USERS_WRITE, False),
    "listAudit": (A, S.USERS_READ, False),
    "listCameras": (V, S.CAMERAS_READ, False),
    "getCamera": (V, S.CAMERAS_READ, True),
    "createCamera": (A, S.CAMERAS_WRITE, False),
    "replaceCamera": (A, S.CAMERAS_WRITE, True),
    "changeCamera": (A, S.CAMERAS_WRITE, True),
    "removeCamera": (A, S.CAMERAS_WRITE, True),
    "startCamera": (O, S.CAMERAS_WRITE, True),
    "stopCamera": (O, S.CAMERAS_WRITE, True),
    "learnCamera": (O, S.CAMERAS_WRITE, True),
    "probeCamera": (A, S.CAMERAS_WRITE, False),
    "discoverCameras": (A, S.CAMERAS_WRITE, False),
    "describeDevice": (A, S.CAMERAS_WRITE, False),
    "listPresets": (V, S.CAMERAS_READ, True),
    "goToPreset": (O, S.CAMERAS_WRITE, True),
    "getSnapshot": (V, S.MEDIA_READ, True),
    "getFrame": (V, S.MEDIA_READ, True),
    "getMjpeg": (V, S.MEDIA_READ, True),
    "listZones": (V, S.CAMERAS_READ, True),
    "setZones": (A, S.CAMERAS_WRITE, True),
    "listCameraStates": (V, S.CAMERAS_READ, True),
    "listScores": (V, S.CAMERAS_READ, True),
    "getSensitivity": (V, S.CAMERAS_READ, True),
    "listNormality": (V, S.CAMERAS_READ, True),
    "useNormality": (O, S.CAMERAS_WRITE, True),
    "listGroups": (V, S.CAMERAS_READ, False),
    "createGroup": (A, S.CAMERAS_WRITE, False),
    "replaceGroup": (A, S.CAMERAS_WRITE, False),
    "removeGroup": (A, S.CAMERAS_WRITE, False),
    "listEvents": (V, S.EVENTS_READ, False),
    "exportEvents": (V, S.EVENTS_READ, False),
    "getEvent": (V, S.EVENTS_READ, True),
    "acknowledgeEvents": (O, S.EVENTS_WRITE, False),
    "acknowledgeEvent": (O, S.EVENTS_WRITE, True),
    "undoAcknowledgement": (O, S.EVENTS_WRITE, True),
    "lockEvent": (O, S.EVENTS_WRITE, True),
    "giveFeedback": (O, S.EVENTS_WRITE, True),
    "undoFeedback": (O, S.EVENTS_WRITE, True),
    "getEventMedia": (V, S.MEDIA_READ, True),
    "getStatistics": (V, S.STATS_READ, False),
    "getTrends": (V, S.STATS_READ, False),
    "exportStatistics": (V, S.STATS_READ, False),
    "listChannels": (A, S.NOTIFICATIONS_READ, False),
    "createChannel": (A, S.NOTIFICATIONS_WRITE, False),
    "getChannel": (A, S.NOTIFICATIONS_READ, False),
    "changeChannel": (A, S.NOTIFICATIONS_WRITE, False),
    "removeChannel": (A, S.NOTIFICATIONS_WRITE, False),
    "testChannel": (A, S.NOTIFICATIONS_WRITE, False),
    "listRules": (A, S.NOTIFICATIONS_READ, False),
    "createRule": (A, S.NOTIFICATIONS_WRITE, False),
    "getRule": (A, S.NOTIFICATIONS_READ, False),
    "replaceRule": (A, S.NOTIFICATIONS_WRITE, False),
    "removeRule": (A, S.NOTIFICATIONS_WRITE, False),
    "moveRule": (A, S.NOTIFICATIONS_WRITE, False),
    "dryRunRule": (A, S.NOTIFICATIONS_READ, False),
    "listMessages": (A, S.NOTIFICATIONS_READ, False),
    "listDeliveries": (A, S.NOTIFICATIONS_READ, False),
    "listQueues": (A, S.NOTIFICATIONS_READ, False),
    "replayMessages": (A, S.NOTIFICATIONS_WRITE, False),
    "getSystem": (A, S.SYSTEM_READ, False),
    "getMetrics": (A, S.SYSTEM_READ, False),
    "getConfig": (A, S.SYSTEM_READ, False),
    "getLog": (A, S.SYSTEM_READ, False),
}
BODIES: dict[str, object] = {
    "setZones": {"zones": []},
    "changeCamera": {"name": "renamed"},
    "lockEvent": {"locked": True},
    "giveFeedback": {"verdict": "normal"},
    "useNormality": {"version": 1},
    "changeMe": {"preferences": {"theme": "dark"}},
    "goToPreset": {"preset": "1"},
}
QUERIES = {"discoverCameras": "?wait_s=0.2"}
PEOPLE = {"viewer-a": V, "viewer-b": V, "operator": O, "admin": A}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    import tempfile

    from core.config import load_config

    with tempfile.TemporaryDirectory(prefix="haetae-t-") as run:
        config = load_config(None, environ={}, paths={"data": str(tmp_path_factory.mktemp("api")), "run": run})
        config.make_dirs()
        made = Site(config)
        made.ensure_cameras()
        made.add_user("viewer-a", V, OWN)
        made.add_user("viewer-b", V, OTHER)
        made.add_user("operator", O, OWN)
        made.add_user("admin", A)
        yield made
        made.close()


@pytest.fixture(scope="module")
def handlers(site):
    """Operation id -> (method, path) of every route there is."""
    app = create_app(Services(site.config, SystemClock(), {}))
    found: dict[str, tuple[str, str]] = {}
    for route in app.routes:
        for handler in getattr(route, "route_handlers", []):
            if isinstance(handler, HTTPRouteHandler) and "/schema" not in route.path:
                for method in handler.http_methods - {"OPTIONS", "HEAD"}:
                    name = handler.operation_id
                    assert isinstance(name, str), f"{method} {route.path} has no operation_id"
                    assert name not in found, name
                    found[name] = (str(method), route.path)
    return found


@pytest.fixture(scope="module")
def client(site):
    with run_api(site.config) as made:
        yield made


def test_every_route_has_a_row_and_every_row_a_route(handlers):
    assert set(handlers) == set(ROUTES)


def ask(client, site: Site, handlers, name: str, camera_id: str, **headers: str):
    method, path = handlers[name]
    nobody = "00000000-0000-7000-8000-000000000000"
    for part in (
        ("{camera_id:str}", camera_id),
        ("{event_id:str}", site.events[camera_id]),
        ("{kind:str}", "snapshot"),
        ("{process:str}", "api"),
    ):
        path = path.replace(*part)
    while "{" in path:
        path = path[: path.index("{")] + nobody + path[path.index("}") + 1 :]
    path += QUERIES.get(name, "")
    body = {}
    if method in {"POST", "PUT", "PATCH"}:
        headers["content-type"] = "application/json"
        whole = {"id": camera_id, "name": "whole", "url": "demo://plaza?seed=1"}
        body = {"content": msgspec.json.encode(whole if name == "replaceCamera" else BODIES.get(name, {}))}
    answer = client.request(method, path, headers=headers, **body)
    if name == "removeCamera":
        site.ensure_cameras()
    return answer


def expected(name: str, role: Role | None, scopes: set[Scope] | None, *, sees: bool) -> set[int]:
    """The statuses that may come; {0} stands for anything but a refusal."""
    row = ROUTES[name]
    if row[0] == PUBLIC:
        return {0}
    if role is None:
        return {401}
    least, scope, about_camera = row
    if role.rank < least.rank:
        return {403}
    if scopes is not None and scope != ANY_KEY and scope not in scopes:
        return {403}
    return {404} if about_camera and not sees else {0}


def check(answer, wanted: set[int], about_camera: bool, what: str) -> None:
    assert answer.status_code < 500 or answer.status_code == 503, f"{what}: {answer.status_code} {answer.text}"
    if wanted == {0}:
        refused = {401, 403} | ({404} if about_camera else set())
        code = answer.json().get("code") if answer.status_code in refused else ""
        own_reasons = {"login_failed", "not_logged_in", "set_up_token_needed", "registration_closed", "password_wrong"}
        assert answer.status_code not in refused or code in own_reasons, f"{what}: {answer.status_code} {answer.text}"
    else:
        assert answer.status_code in wanted, f"{what}: {answer.status_code} {answer.text}"
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json", what


@pytest.mark.parametrize("name", sorted(ROUTES))
def test_people(client, site, handlers, name):
    row = ROUTES[name]
    about_camera = row[0] != PUBLIC and row[2]
    for camera_id in (OWN, OTHER) if about_camera else (OWN,):
        answer = ask(client, site, handlers, name, camera_id)
        check(answer, expected(name, None, None, sees=False), about_camera, f"{name} by nobody")
        for person, role in PEOPLE.items():
            sees = role is A or (camera_id == (OTHER if person == "viewer-b" else OWN))
            headers = {"authorization": f"Bearer {site.token(person)}"}
            answer = ask(client, site, handlers, name, camera_id, **headers)
            wanted = expected(name, role, None, sees=sees)
            check(answer, wanted, about_camera, f"{name} by {person} for {camera_id}")


@pytest.mark.parametrize("name", sorted(ROUTES))
def test_keys(client, site, handlers, name):
    """A key of an administrator with each scope; one of a viewer with all; and one that is cut down to one camera."""
    row = ROUTES[name]
    about_camera = row[0] != PUBLIC and row[2]
    for scope in Scope:
        headers = {"authorization": f"Bearer {site.key('admin', scope)}"}
        answer = ask(client, site, handlers, name, OTHER, **headers)
        check(answer, expected(name, A, {scope}, sees=True), about_camera, f"{name} by a key for {scope}")
    every = set(Scope)
    for camera_id in (OWN, OTHER) if about_camera else (OWN,):
        for owner, cameras in (("viewer-a", None), ("admin", (OWN,))):
            headers = {"authorization": f"Bearer {site.key(owner, *Scope, cameras=cameras)}"}
            answer = ask(client, site, handlers, name, camera_id, **headers)
            wanted = expected(name, PEOPLE[owner], every, sees=camera_id == OWN)
            check(answer, wanted, about_camera, f"{name} by a key of {owner} for {camera_id}")


@pytest.mark.parametrize("name", sorted(ROUTES))
def test_the_cookie_for_pictures_reads_pictures_only(client, site, handlers, name):
    if ROUTES[name][0] == PUBLIC:
        return
    cookie = f"{MEDIA_COOKIE}={site.token('admin', kind=TokenKind.MEDIA)}"
    answer = ask(client, site, handlers, name, OWN, cookie=cookie)
    if name in {"getSnapshot", "getFrame", "getMjpeg", "getEventMedia"}:
        assert answer.status_code in {200, 503}
    else:
        assert answer.status_code == 401, name


def test_lists_hold_nothing_of_a_foreign_camera(client, site, handlers):
    site.ensure_cameras()
    for name, row in ROUTES.items():
        if handlers[name][0] == "GET" and row[0] in {V, O} and not row[2]:
            for person, foreign in (("viewer-a", OTHER), ("viewer-b", OWN), ("operator", OTHER)):
                headers = {"authorization": f"Bearer {site.token(person)}"}
                answer = ask(client, site, handlers, name, OWN, **headers)
                assert answer.status_code == 200, name
                assert foreign not in answer.text, f"{name} tells {person} of {foreign}"
                asked = client.get(handlers[name][1] + f"?camera_id={foreign}", headers=headers)
                assert site.events[foreign] not in asked.text, name
                assert f'"{foreign}"' not in asked.text, name


def test_several_at_once_leave_out_what_is_foreign(client, site):
    headers = {"authorization": f"Bearer {site.token('operator')}"}
    ids = [site.add_event(OWN), site.add_event(OTHER)]
    answer = client.post("/api/v1/events/ack", json={"ids": ids}, headers=headers).json()
    assert answer == {"acknowledged": [ids[0]], "left_out": [ids[1]]}


def test_a_key_cannot_be_given_cameras_that_its_maker_does_not_see(client, site):
    headers = {"authorization": f"Bearer {site.token('viewer-a')}"}
    body = {"name": "k", "scopes": ["events:read"], "camera_ids": [OTHER]}
    assert client.post("/api/v1/keys", json=body, headers=headers).status_code == 422


def test_paths_that_look_like_open_ones_are_not(client):
    """Regular expressions that leave out /schema or /healthz would let these through."""
    for path in ("/api/v1/cameras/schema", "/api/v1/cameras/healthz", "/api/v1/users/schema", "/api/v1/events/healthz"):
        assert client.get(path).status_code == 401, path
