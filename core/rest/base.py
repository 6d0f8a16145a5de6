"""Types that all areas of the REST API share."""

from typing import Annotated

import msgspec
from msgspec import Meta

__all__ = ["UUID", "CameraKey", "FieldError", "Line", "Problem", "Record", "Text", "Uuid"]

Line = Annotated[str, Meta(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
"""Free text without line breaks."""
Text = Annotated[str, Meta(max_length=4000, pattern=r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$")]
"""Free text of several lines."""
CameraKey = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$", description="Id of a camera")]
UUID = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
Uuid = Annotated[str, Meta(pattern=UUID, description="UUID")]


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what is sent and received."""


class FieldError(Record, frozen=True, kw_only=True):
    """One thing that is wrong with a request."""

    field: str
    """Path of the field, such as "body.name" or "query.limit"."""
    message: str


class Problem(Record, frozen=True, kw_only=True):
    """Why a request was not carried out (RFC 9457); `code` is stable, the texts are for people."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    hint: str = ""
    request_id: str = ""
    errors: list[FieldError] = []
    """All fields that are wrong, not the first alone."""
