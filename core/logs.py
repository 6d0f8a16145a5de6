"""Structured logs on standard error, with secrets taken out last."""

import contextlib
import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, TextIO, cast

import structlog

from core.config import LogConfig

__all__ = ["configure_logging", "redact"]

_URL_SECRET = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^\s/'\"]*@")
_NAMED_SECRET = re.compile(
    r"(?i)(\b(?:password|passwd|pwd|secret|token|api[_-]?key|authorization)\b['\"]?\s*[=:]\s*)"
    r"(?:bearer\s+|basic\s+)?(?:\"[^\"]*\"|'[^']*'|[^\s,;&'\"}]+)"
)
_SECRET_KEY = re.compile(r"(?i)password|passwd|secret|token|api_?key|authorization|credential")


def redact(text: str) -> str:
    """`text` without credentials in URLs and without values of things named like secrets."""
    return _NAMED_SECRET.sub(r"\1***", _URL_SECRET.sub(r"\1***@", text))


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, bytes):
        return redact(value.decode(errors="replace"))
    if isinstance(value, Mapping):
        pairs = cast("Mapping[Any, Any]", value).items()
        return {key: "***" if _SECRET_KEY.search(str(key)) else _clean(inner) for key, inner in pairs}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_clean(inner) for inner in cast("list[Any]", value)]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return redact(str(value))


def _redact_event(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return _clean(event)


class _Unfailing:
    """A stream that lets a line go rather than end the process: the disk beneath it may be full."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            return self._stream.write(text)
        return 0

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


def configure_logging(config: LogConfig, process: str) -> None:
    """Sends structlog's and the standard library's records to stderr, as JSON lines or for a console."""
    stream = cast("TextIO", _Unfailing(sys.stderr))
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        _redact_event,
    ]
    last = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if config.format == "console"
        else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    level = logging.getLevelNamesMapping().get(config.level.upper(), logging.INFO)
    structlog.configure(
        processors=[*shared, last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=last, foreign_pre_chain=shared))
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)
    structlog.contextvars.bind_contextvars(process=process)
