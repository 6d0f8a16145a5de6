"""States as .npz files: plain values as JSON beside arrays, written aside and renamed, refused with a reason."""

import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from core.errors import StateError

__all__ = ["AGAIN", "Packed", "join", "part_of", "read_npz", "replace_whole", "split", "under", "write_npz"]

T = TypeVar("T")

Packed = tuple[dict[str, Any], dict[str, np.ndarray]]
"""Plain values for JSON, and arrays."""

AGAIN = "remove it and let the camera learn again"


def replace_whole(path: Path, write: Callable[[Any], None]) -> None:
    """`write` fills a file beside `path`, which then takes its place; raises StateError where that is refused."""
    written: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name + ".", delete=False) as aside:
            written = Path(aside.name)
            write(aside)
            aside.flush()
            os.fsync(aside.fileno())
        written.replace(path)
    except OSError as error:
        if written:
            written.unlink(missing_ok=True)
        raise StateError(f"cannot write the state {path}: {error.strerror}") from error


def write_npz(
    path: Path, file_format: int, head: dict[str, Any], arrays: dict[str, Any], *, compressed: bool = True
) -> None:
    """`head` are plain values; raises StateError."""
    whole = np.array(json.dumps({"format": file_format} | head))
    save = np.savez_compressed if compressed else np.savez
    replace_whole(path, lambda aside: save(aside, head=whole, **arrays))


def read_npz(
    path: Path,
    vad_type: str,
    file_format: int,
    make: Callable[[dict[str, Any], dict[str, Any]], T],
    *,
    most_bytes: int | None = None,
) -> T:
    """What `make` makes of head and arrays; raises StateError: no such file, another type or format, broken, or more
    than `most_bytes` in memory.

    `make` may raise KeyError, ValueError or TypeError where what it is given is not whole.
    """
    try:
        if most_bytes is not None:
            _check_size(path, most_bytes)
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
    except (OSError, ValueError, KeyError, TypeError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise StateError(f"the state {path} is broken: {error}", AGAIN) from error


def _check_size(path: Path, most_bytes: int) -> None:
    """Before anything of it is read: what it says that it holds."""
    with zipfile.ZipFile(path) as bundle:
        size = sum(one.file_size for one in bundle.infolist())
    if size > most_bytes:
        raise ValueError(f"it holds {size / 1e6:.0f} MB, more than {most_bytes / 1e6:.0f}")


# ---- parts of a file


def under(name: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays under the name of the part that they belong to."""
    return {f"{name}.{key}": array for key, array in arrays.items()}


def part_of(name: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What `under` put there."""
    return {key.removeprefix(f"{name}."): array for key, array in arrays.items() if key.startswith(f"{name}.")}


def join(name: str, parts: Sequence[np.ndarray], empty: np.ndarray) -> dict[str, np.ndarray]:
    """Arrays that are alike but for their first axis, as one and their lengths; `empty` is one of length 0."""
    return {name: np.concatenate([empty, *parts]), f"{name}.lengths": np.array([len(part) for part in parts], np.int64)}


def split(name: str, arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """What `join` put together; raises KeyError, and ValueError where lengths and array do not fit."""
    whole, lengths = arrays[name], arrays[f"{name}.lengths"]
    if lengths.ndim != 1 or (lengths < 0).any() or int(lengths.sum()) != len(whole):
        raise ValueError(f"the parts of {name} are not whole")
    return np.split(whole, np.cumsum(lengths)[:-1]) if len(lengths) else []
