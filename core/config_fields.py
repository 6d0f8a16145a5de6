"""The configuration as a list of fields for people: what each is for, its unit and its bounds."""

import ast
import inspect
from functools import cache
from itertools import pairwise
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from msgspec import Meta

from core import config as definitions
from core.config import Config

__all__ = ["ConfigField", "config_fields"]

_UNITS = {"s": "s", "ms": "ms", "h": "h", "days": "days", "minutes": "min", "kb": "kB", "gb": "GB", "fps": "1/s"}
_SECRET = ("url",)


class ConfigField(msgspec.Struct, frozen=True, kw_only=True):
    """`value` is what holds now; `default` is what would without a line in haetae.toml."""

    section: str
    name: str
    about: str
    unit: str
    kind: str
    """"text", "number", "integer", "switch", "list", "choice" or "table"."""
    choices: list[str]
    minimum: float | None
    """None: none, or told by `above`."""
    maximum: float | None
    above: float | None
    """The value is greater than this."""
    value: Any
    default: Any
    variable: str
    """The environment variable that overrides it."""


def config_fields(config: Config) -> list[ConfigField]:
    """All fields of all sections, in the order of their definition; URLs without what might be secret in them."""
    found: list[ConfigField] = []
    for part in msgspec.structs.fields(Config):
        section = getattr(config, part.name)
        if not isinstance(section, msgspec.Struct):
            continue
        about = _docstrings(type(section).__name__)
        default = type(section)()
        found += [
            _field(
                part.name, field, about.get(field.name, ""), *(getattr(one, field.name) for one in (section, default))
            )
            for field in msgspec.structs.fields(section)
        ]
    return found


def _field(section: str, field: Any, about: str, value: Any, default: Any) -> ConfigField:
    kind, choices, meta = _kind(field.type)
    last = field.name.rsplit("_", 1)[-1]
    if field.name in _SECRET and isinstance(value, str) and "@" in value:
        value = "***@" + value.rpartition("@")[2]
    return ConfigField(
        section=section,
        name=field.name,
        about=about,
        unit=_UNITS.get(last, ""),
        kind=kind,
        choices=choices,
        minimum=meta.ge if meta else None,
        maximum=meta.le if meta else None,
        above=meta.gt if meta else None,
        value=msgspec.to_builtins(value),
        default=msgspec.to_builtins(default),
        variable=f"HAETAE_{section.upper()}__{field.name.upper()}",
    )


def _kind(kind: Any) -> tuple[str, list[str], Meta | None]:
    meta = None
    if get_origin(kind) is Annotated:
        kind, meta = get_args(kind)[0], next(one for one in get_args(kind) if isinstance(one, Meta))
    origin = get_origin(kind)
    if origin is Literal:
        return "choice", [str(one) for one in get_args(kind)], meta
    if origin in {tuple, list}:
        return "list", [], meta
    if origin is dict or kind is dict:
        return "table", [], meta
    if origin in {Union, UnionType}:
        return _kind(get_args(kind)[0])
    return {bool: "switch", int: "integer", float: "number"}.get(kind, "text"), [], meta


@cache
def _docstrings(struct: str) -> dict[str, str]:
    """The text under each field of a struct of core.config: there is one place where a field is explained."""
    tree = ast.parse(inspect.getsource(definitions))
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == struct)
    found: dict[str, str] = {}
    for before, after in pairwise(body):
        if (
            isinstance(before, ast.AnnAssign)
            and isinstance(before.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
            and isinstance(after.value.value, str)
        ):
            found[before.target.id] = inspect.cleandoc(after.value.value)
    return found
