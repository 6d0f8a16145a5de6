"""Problem documents (RFC 9457): one form for whatever goes wrong, with codes that stay."""

import http
from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_origin

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import ClientException, HTTPException, ValidationException
from litestar.openapi.datastructures import ResponseSpec
from litestar.utils.scope.state import ScopeState
from msgspec import NODEFAULT, UnsetType
from sqlalchemy.exc import DataError, DBAPIError

from core.errors import (
    AddressRefused,
    ConfigError,
    Conflict,
    DatabaseError,
    HaetaeError,
    NotFound,
    RemoteError,
    RequestTimeout,
    TokenRefused,
)
from core.ids import uuid7
from core.rest.base import FieldError, Problem

__all__ = ["ApiRequest", "Refused", "answer_problem", "documented", "exception_handlers", "problem_of", "request_id"]

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"
CODES = {
    400: "bad_request",
    401: "not_logged_in",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    409: "conflict",
    413: "too_large",
    415: "unsupported_media_type",
    422: "unacceptable",
    416: "range_not_satisfiable",
    429: "too_many_requests",
    500: "internal",
    503: "unavailable",
}
_OF: tuple[tuple[type[Exception], int, str], ...] = (
    (NotFound, 404, "not_found"),
    (Conflict, 409, "conflict"),
    (TokenRefused, 401, "token_refused"),
    (AddressRefused, 422, "address_refused"),
    (ConfigError, 422, "unacceptable"),
    (RequestTimeout, 503, "unavailable"),
    (RemoteError, 503, "unavailable"),
    (DatabaseError, 503, "database_unavailable"),
    (HaetaeError, 422, "unacceptable"),
)
RETRY_S = 5


class Refused(Exception):
    """Answers the request with this problem."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        hint: str = "",
        errors: list[FieldError] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail, self.hint = status, code, detail, hint
        self.errors, self.headers = errors or [], dict(headers or {})


def request_id(scope: Any) -> str:
    """Of one request: in the logs, in the answer's headers and in problems."""
    state = scope.setdefault("state", {})
    if "request_id" not in state:
        state["request_id"] = str(uuid7())
    return state["request_id"]


def problem_of(error: Exception) -> Refused:
    """What to answer for an exception; its text is told only where it was written for people."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, HTTPException):
        status = error.status_code
        return Refused(status, CODES.get(status, "error"), _detail(error), headers=error.headers)
    for kind, status, code in _OF:
        if isinstance(error, kind):
            headers = {"Retry-After": str(RETRY_S)} if status == 503 else {}
            return Refused(status, code, str(error), hint=getattr(error, "hint", ""), headers=headers)
    if isinstance(error, (DataError, OverflowError, UnicodeError)):
        return Refused(422, "unacceptable", "the database cannot hold such a value")
    if isinstance(error, DBAPIError):
        return Refused(
            503, "database_unavailable", "the database does not answer", headers={"Retry-After": str(RETRY_S)}
        )
    return Refused(500, "internal", "something went wrong here; the log says more under this request's id")


def _detail(error: HTTPException) -> str:
    if isinstance(error, ClientException) and error.status_code in {400, 413, 415}:
        return "the request cannot be read" if error.status_code == 400 else http.HTTPStatus(error.status_code).phrase
    return {404: "there is nothing here", 405: "not with this method", 500: "something went wrong here"}.get(
        error.status_code, http.HTTPStatus(error.status_code).phrase
    )


def answer_problem(request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    """The problem document of an exception; what nobody foresaw is logged with its trace."""
    refused = problem_of(error)
    if refused.status >= 500:
        foreseen = isinstance(error, (HaetaeError, DBAPIError, Refused))
        (log.error if foreseen else log.exception)(
            "request_failed",
            request_id=request_id(request.scope),
            path=request.url.path,
            reason=str(error),
            exc_info=error,
        )
    document = Problem(
        type=f"urn:haetae:problem:{refused.code}",
        title=http.HTTPStatus(refused.status).phrase,
        status=refused.status,
        code=refused.code,
        detail=refused.detail,
        hint=refused.hint,
        request_id=request_id(request.scope),
        errors=refused.errors,
    )
    headers = dict(refused.headers)
    if refused.status == 401:
        headers.setdefault("WWW-Authenticate", "Bearer")
    headers.setdefault("Cache-Control", "no-store")
    return Response(document, status_code=refused.status, media_type=MEDIA_TYPE, headers=headers)


def _answer_validation(request: Request[Any, Any, Any], error: ValidationException) -> Response[Problem]:
    found = list(_body_errors(request))
    errors = [one for one, _ in found] + _parameter_errors(error)
    if errors and len(errors) == len(found) and not any(malformed for _, malformed in found):
        return answer_problem(request, Refused(422, "unacceptable", "the values do not go together", errors=errors))
    detail = "the request is not valid" if errors else "the request cannot be read"
    return answer_problem(request, Refused(400, "invalid", detail, errors=errors))


def _parameter_errors(error: ValidationException) -> list[FieldError]:
    extra: Any = error.extra if isinstance(error.extra, list) else []
    return [
        FieldError(field=f"{getattr(one.get('source'), 'value', 'query')}.{one['key']}", message=one["message"])
        for one in extra
        if isinstance(one, dict) and one.get("source") != "body" and one.get("key", "data") != "data"
    ]


def _body_errors(request: Request[Any, Any, Any]) -> Iterator[tuple[FieldError, bool]]:
    """Msgspec stops at the first field that is wrong; a person wants to hear of all of them."""
    parameter = request.route_handler.parsed_fn_signature.parameters.get("data")
    if parameter is None:
        return iter(())
    body = ScopeState.from_scope(request.scope).body
    try:
        value = msgspec.json.decode(body if isinstance(body, bytes) and body else b"null")
    except (msgspec.DecodeError, RecursionError) as error:
        return iter([(FieldError(field="body", message=str(error)), True)])
    return _errors_in(value, parameter.annotation, "body")


def _errors_in(value: Any, kind: Any, path: str) -> Iterator[tuple[FieldError, bool]]:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and isinstance(value, dict):
        given: dict[str, Any] = value
        fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        for name, field in fields.items():
            if name in given:
                yield from _errors_in(given[name], _without_unset(field.type), f"{path}.{name}")
            elif field.default is NODEFAULT and field.default_factory is NODEFAULT:
                yield FieldError(field=f"{path}.{name}", message="is required"), True
        for name in given.keys() - fields.keys():
            yield FieldError(field=f"{path}.{name}", message="is not known"), True
        return
    try:
        msgspec.convert(_whole_numbers(value), kind)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at `$")
        yield FieldError(field=path + where.rstrip("`"), message=message), error.__cause__ is None


def _without_unset(kind: Any) -> Any:
    if get_origin(kind) is not None and UnsetType in get_args(kind):
        left = tuple(one for one in get_args(kind) if one is not UnsetType)
        return left[0] if len(left) == 1 else kind
    return kind


class ApiRequest(Request[Any, Any, Any]):
    """Reads a body as what its route asks for, to the letter: no 0 for false, no "5" for 5."""

    async def json(self) -> Any:
        """The route's record; raises ValidationException."""
        parameter = self.route_handler.parsed_fn_signature.parameters.get("data")
        if parameter is None:
            return await super().json()
        try:
            value = msgspec.json.decode(await self.body() or b"null")
            return msgspec.convert(_whole_numbers(value), parameter.annotation)
        except (msgspec.DecodeError, RecursionError) as error:
            raise ValidationException(str(error)) from error


def _whole_numbers(value: Any) -> Any:
    """JSON knows one kind of number: 5.0 is the integer 5."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_whole_numbers(one) for one in value]
    if isinstance(value, dict):
        return {name: _whole_numbers(one) for name, one in value.items()}
    return value


def exception_handlers() -> dict[Any, Any]:
    """For Litestar: all of them answer with problem documents."""
    return {ValidationException: _answer_validation, Exception: answer_problem}


def documented(*statuses: int) -> dict[int, ResponseSpec]:
    """For a route: the problems that it may answer with besides 400, 401, 403, 422, 429 and 503, which any may."""
    every = sorted({400, 401, 403, 422, 429, 503, *statuses})
    return {
        status: ResponseSpec(
            Problem, generate_examples=False, media_type=MEDIA_TYPE, description=http.HTTPStatus(status).phrase
        )
        for status in every
    }
