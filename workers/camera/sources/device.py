"""Video devices of this machine (V4L2): USB cameras and grabbers."""

import errno

import av
import av.error

from core.cameras.urls import CameraUrl
from core.errors import SourceError
from workers.camera.sources.base import SourceOptions
from workers.camera.sources.stream import StreamSource, explain

__all__ = ["open_device"]


def open_device(url: CameraUrl, options: SourceOptions) -> StreamSource:
    """Raises SourceError where there is no such device, or another program has it."""
    name = str(url.path)
    options.activity.begin("open")
    try:
        container = av.open(name, format="video4linux2", timeout=(options.open_s, options.read_s))
    except FileNotFoundError as error:
        raise SourceError(f"there is no device {name}", "v4l2-ctl --list-devices shows those there are") from error
    except PermissionError as error:
        raise SourceError(f"{name} may not be read", "add this user to the group video") from error
    except (av.error.FFmpegError, OSError, ValueError) as error:
        if getattr(error, "errno", 0) == errno.EBUSY:
            raise SourceError(
                f"another program uses {name}", "a video device gives its picture to one alone"
            ) from error
        if getattr(error, "errno", 0) in {errno.ENOTTY, errno.ENODEV, errno.EINVAL}:
            raise SourceError(f"{name} gives no video", "v4l2-ctl --list-devices shows which ones do") from error
        raise explain(error, name, f"gave no picture within {options.open_s:g} s") from error
    return StreamSource(name, container, options)
