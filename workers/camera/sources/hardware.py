"""Decoding by hardware, where FFmpeg offers it and it is there; by the processor everywhere else."""

from functools import cache

import structlog
from av.codec import Codec
from av.codec.hwaccel import HWAccel, hwdevices_available

from core.config import HardwareDecoding

__all__ = ["accelerator", "usable_hardware"]

log = structlog.get_logger()


@cache
def accelerator(wanted: HardwareDecoding) -> HWAccel | None:
    """What to open containers with: the first kind of `wanted` that is there; None for the processor.

    A stream that the hardware cannot decode is decoded by the processor all the same. Says once what is missing.
    """
    if wanted == "off":
        return None
    kinds = hwdevices_available() if wanted == "auto" else [wanted]
    for kind in kinds:
        found = _made(kind)
        if not isinstance(found, str):
            log.info("decodes_by_hardware", kind=kind)
            return found
        if wanted != "auto":
            log.warning("no_hardware_to_decode", kind=kind, reason=found, hint="haetae doctor tells what there is")
    return None


def usable_hardware() -> dict[str, str]:
    """The kinds that FFmpeg offers, and why each cannot be used; "" for one that can."""
    return {kind: found if isinstance(found := _made(kind), str) else "" for kind in hwdevices_available()}


def _made(kind: str) -> HWAccel | str:
    """Or why there is none."""
    made = HWAccel(device_type=kind, allow_software_fallback=True)
    try:
        made.create(Codec("h264", "r"))
    except (OSError, ValueError, RuntimeError) as error:  # FFmpeg's own errors are OSErrors or ValueErrors too
        return (getattr(error, "strerror", None) or str(error)).strip() or type(error).__name__
    return made
