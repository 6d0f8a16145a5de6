"""Memory of this process and of its device: how much there is, and what to do when there is none."""

import ctypes
import gc
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.metrics import Sample, counter, gauge

__all__ = ["device_memory", "empty_device_cache", "is_out_of_memory", "model_samples", "release_memory"]


def device_memory() -> dict[str, int]:
    """Bytes: this process's resident memory, what the machine has left, and on CUDA, where torch is in use, what torch
    and the device say.

    `cuda_allocated` is live tensors, `cuda_reserved` torch's cache, `cuda_peak` the most that was allocated;
    `cuda_free` and `cuda_total` are the device's, other processes included. They overlap and do not add up.
    """
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    memory = {"cpu_resident": resident, "cpu_available": _available()}
    cuda = _cuda()
    if cuda:
        free, total = cuda.mem_get_info()
        memory |= {
            "cuda_allocated": cuda.memory_allocated(),
            "cuda_reserved": cuda.memory_reserved(),
            "cuda_peak": cuda.max_memory_allocated(),
            "cuda_free": free,
            "cuda_total": total,
        }
    return memory


def _cuda() -> Any:
    """torch.cuda, where torch is in use and there is a device; another thread may just be importing it."""
    torch = sys.modules.get("torch")
    if torch is None or getattr(torch.__spec__, "_initializing", False) or not torch.cuda.is_available():
        return None
    return torch.cuda


def _available() -> int:
    """What the kernel says can be had without swapping, or the control group's limit leaves, whichever is less."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    free = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), 0)
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        cache = Path("/sys/fs/cgroup/memory.stat").read_text().splitlines()
        freed = sum(int(line.split()[1]) for line in cache if line.startswith(("inactive_file ", "slab_reclaimable ")))
        return free if limit == "max" else min(free, max(0, int(limit) - used + freed))
    except (OSError, ValueError):
        return free


def empty_device_cache() -> None:
    """Has torch give back what it keeps of a CUDA device's memory without using it; nothing where there is none."""
    cuda = _cuda()
    if cuda:
        cuda.empty_cache()


def release_memory() -> None:
    """Gives back what nobody refers to any more; to be called outside of the `except` that caught the error.

    What glibc was told to keep for batches (workers.process.keep_freed_memory) goes back to the kernel as well.
    """
    gc.collect()
    empty_device_cache()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)


def is_out_of_memory(error: BaseException) -> bool:
    """MemoryError, or torch's own, known by its name or its words (on the CPU it is a RuntimeError): torch is not
    imported here.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "not enough memory" in str(error)


def model_samples(models: Mapping[str, Mapping[str, float]], process: str) -> list[Sample]:
    """A pool's table for Prometheus; what is the process's own has its name for a model."""
    found: list[Sample] = []
    for model, sizes in models.items():
        if model == "pool":
            found += [
                counter("models", "What the pool did with models.", value, did=name, process=process)
                for name, value in sizes.items()
            ]
            continue
        name = process if model == "process" else model
        found += [
            gauge("model_bytes", "Memory of a model, by kind.", value, model=name, kind=kind)
            for kind, value in sizes.items()
            if kind.endswith("bytes") or model == "process"
        ]
    return found
