"""Which type `auto` stands for on this machine, and why."""

import os
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

__all__ = ["AUTO", "Choice", "Hardware", "choose_type", "look_at_hardware"]

AUTO = "auto"
FUSED_CORES = 4
"""fused takes some 10 ms of a core per frame, a tenth of a core per camera at 10 frames/s, and trains besides."""
FUSED_BYTES = 4 << 30
"""Its learner keeps about 200 MB of footage per camera, and training a net takes 1 GB."""


class Hardware(NamedTuple):
    cores: int
    """That this process may use."""
    memory_bytes: int
    cuda: bool


class Choice(NamedTuple):
    vad_type: str
    reason: str


def look_at_hardware() -> Hardware:
    """Loads torch only where a driver of NVIDIA's is there."""
    cuda = False
    if Path("/dev/nvidiactl").exists():
        cuda = import_module("torch").cuda.is_available()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Hardware(len(os.sched_getaffinity(0)), memory, cuda)


def choose_type(hardware: Hardware) -> Choice:
    """Fused where it is affordable; without the net that must be trained where cores are few, and motion_stats alone
    where memory is.
    """
    cores = "a core" if hardware.cores == 1 else f"{hardware.cores} cores"
    found = f"{cores}, {hardware.memory_bytes / (1 << 30):.0f} GiB of memory, {'CUDA' if hardware.cuda else 'no CUDA'}"
    wanted = f"fused wants {FUSED_CORES} cores or CUDA, and {FUSED_BYTES >> 30} GiB"
    if hardware.memory_bytes < FUSED_BYTES:
        return Choice("motion_stats", f"there are {found}; {wanted}")
    if hardware.cuda or hardware.cores >= FUSED_CORES:
        return Choice("fused", f"there are {found}")
    return Choice("motion_objects", f"there are {found}; {wanted}")
