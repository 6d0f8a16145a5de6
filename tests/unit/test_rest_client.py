"""The Python client against the OpenAPI document: a method for each operation, asking for its path."""

import inspect
import re
from typing import Any

import httpx
import msgspec
import pytest

from api.app import ROUTES
from api.openapi import document
from core.rest.client import ApiProblem, Client


def operations() -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    for path, item in document(ROUTES)["paths"].items():
        for method, operation in item.items():
            name = re.sub(r"(?<!^)(?=[A-Z])", "_", operation["operationId"]).lower()
            found[name] = (method.upper(), path)
    return found


@pytest.mark.parametrize(("name", "wanted"), sorted(operations().items()))
def test_there_is_a_method_for_each_operation(name, wanted):
    asked: list[tuple[str, str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append((request.method, request.url.path))
        return httpx.Response(204)

    method = getattr(Client("http://x", transport=httpx.MockTransport(answer)), name)
    given: list[Any] = []
    for parameter in inspect.signature(method).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD or parameter.default is not parameter.empty:
            continue
        given.append(f"<{parameter.name}>" if parameter.name != "data" else {})
    try:
        method(*given)
    except msgspec.DecodeError:
        pass  # an empty answer is no record: what was asked for is what counts
    (found,) = asked
    pattern = re.sub(r"\{\w+\}", "<[a-z_]+>", wanted[1]) + "/?"
    assert found[0] == wanted[0]
    assert re.fullmatch(pattern, found[1]), (found, wanted)


def test_problems_tell_what_is_wrong():
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/me"):
            return httpx.Response(502, text="<html>a proxy</html>")
        return httpx.Response(
            400,
            json={
                "type": "urn:x",
                "title": "Bad Request",
                "status": 400,
                "code": "invalid",
                "detail": "the request is not valid",
                "errors": [{"field": "query.limit", "message": "Expected `int` >= 1"}],
            },
        )

    with Client("http://x", transport=httpx.MockTransport(answer)) as client:
        with pytest.raises(ApiProblem, match=r"query\.limit: Expected `int` >= 1") as caught:
            client.list_events(limit=0)
        assert (caught.value.status, caught.value.code) == (400, "invalid")
        with pytest.raises(ApiProblem, match="this is not Haetae's API"):
            client.get_me()


def test_an_address_where_nothing_listens():
    with Client("http://127.0.0.1:9") as client, pytest.raises(ApiProblem, match="does not answer") as caught:
        client.get_health()
    assert caught.value.status == 0


def test_live_pictures_come_one_by_one_however_the_stream_is_cut():
    pictures = [bytes([n]) * (50 + n) + b"\r\n--frame\r\n" for n in range(3)]
    parts = [
        b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\nX-Frame-Captured-At: 1.5\r\n\r\n" % len(one)
        + one
        for one in pictures
    ]
    sent = b"\r\n".join(parts)
    for size in (1, 7, 64, len(sent)):

        def answer(_request: httpx.Request, size: int = size) -> httpx.Response:
            return httpx.Response(200, content=(sent[at : at + size] for at in range(0, len(sent), size)))

        client = Client("http://x", transport=httpx.MockTransport(answer))
        assert list(client.get_mjpeg("gate")) == pictures
