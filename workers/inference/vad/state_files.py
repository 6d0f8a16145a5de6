"""States as .npz files: plain values as JSON beside arrays, written aside and renamed, refused with a reason."""

import json
import os
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from core.errors import StateError

__all__ = ["AGAIN", "read_npz", "replace_whole", "write_npz"]

T = TypeVar("T")

AGAIN = "remove it and let the camera learn again"


def replace_whole(path: Path, write: Callable[[Any], None]) -> None:
    """`write` fills a file beside `path`, which then takes its place; raises StateError where that is refused."""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name + ".", delete=False) as aside:
            write(aside)
            aside.flush()
            os.fsync(aside.fileno())
        Path(aside.name).replace(path)
    except OSError as error:
        raise StateError(f"cannot write the state {path}: {error.strerror}") from error


def write_npz(path: Path, file_format: int, head: dict[str, Any], arrays: dict[str, Any]) -> None:
    """`head` are plain values; raises StateError."""
    whole = np.array(json.dumps({"format": file_format} | head))
    replace_whole(path, lambda aside: np.savez_compressed(aside, head=whole, **arrays))


def read_npz(path: Path, vad_type: str, file_format: int, make: Callable[[dict[str, Any], dict[str, Any]], T]) -> T:
    """What `make` makes of head and arrays; raises StateError: no such file, another type or format, broken.

    `make` may raise KeyError, ValueError or TypeError where what it is given is not whole.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = dict(stored)
        head = json.loads(str(arrays["head"]))
        if head.get("vad_type") != vad_type:
            raise StateError(f"{path} is a state of type {head.get('vad_type')!r}, not {vad_type!r}")
        if head.get("format") != file_format:
            raise StateError(f"{path} has format {head.get('format')!r}, this version reads {file_format}", AGAIN)
        return make(head, arrays)
    except FileNotFoundError as error:
        raise StateError(f"there is no state {path}") from error
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise StateError(f"the state {path} is broken: {error}", AGAIN) from error
