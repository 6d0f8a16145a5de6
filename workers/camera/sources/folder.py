"""A folder of video files, played by name one after the other as one source."""

from collections.abc import Iterator
from pathlib import Path

import structlog

from core.errors import SourceError
from workers.camera.sources.base import SourceInfo, SourceOptions
from workers.camera.sources.file import FileFrame, FileSource

__all__ = ["FolderSource"]

log = structlog.get_logger()


class FolderSource:
    """What cannot be played is left out; raises SourceError where nothing can. The size is that of the file played."""

    def __init__(self, path: Path, options: SourceOptions | None = None) -> None:
        self._path, self._options = path, options
        self._current: FileSource | None = None
        first = next(self._files(), None)
        if first is None:
            raise SourceError(f"{path} holds no video that can be played", "put MP4, MKV, AVI or MOV files there")
        self._info = first.info

    @property
    def info(self) -> SourceInfo:
        return self._info

    def _files(self) -> Iterator[FileSource]:
        try:
            paths = sorted(one for one in self._path.iterdir() if one.is_file() and not one.name.startswith("."))
        except OSError as error:
            raise SourceError(f"{self._path} cannot be read ({error.strerror})", "check the path") from error
        for path in paths:
            try:
                yield FileSource(path, self._options)
            except SourceError as error:
                log.warning("file_left_out", reason=str(error))

    def frames(self) -> Iterator[FileFrame]:
        """All files from the first, without a gap between two."""
        index, offset_s = 0, 0.0
        for source in self._files():
            self.close()
            self._current, self._info = source, source.info
            last_s = offset_s
            for frame in source.frames():
                frame.index, frame.media_s = index, offset_s + frame.media_s
                last_s, index = frame.media_s, index + 1
                yield frame
            offset_s = last_s + 1 / source.info.fps

    def close(self) -> None:
        if self._current:
            self._current.close()
            self._current = None
