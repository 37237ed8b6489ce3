"""Memory: what is free, and settings of the C library's allocator."""

from __future__ import annotations

import contextlib
import ctypes
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt(3)."""
LARGEST_KEPT = 2**27
"""Bytes of the largest block that is kept. Larger ones seldom fit another size: an image of 12 megapixels would take twice its
memory."""


def keep_free_memory() -> None:
    """Let the C library keep the memory that a step or image frees, for the next one (glibc only; no effect elsewhere).

    Otherwise it returns large blocks to the system, and each page costs a fault when it is allocated again: 100,000 page faults
    in a training step of Xception-65 on two crops of 321x321, 88,000 in its forward pass at 513x513.
    """
    with contextlib.suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        # Old versions refuse more than half of the size of a thread's heap.
        if not mallopt(MMAP_THRESHOLD, LARGEST_KEPT):
            mallopt(MMAP_THRESHOLD, 2**25)
        mallopt(TRIM_THRESHOLD, 2**31 - 1)


def release_free_memory() -> None:
    """Give the memory that `keep_free_memory` kept back to the system (glibc only; no effect elsewhere).

    Of images of many sizes, ever fewer fit a kept block: without it, an evaluation takes more memory with every image.
    """
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def available_memory(device: torch.device) -> int | None:
    """Bytes that this process can still take on a device: a CUDA or XPU GPU, or the CPU (Linux only). None: unknown."""
    import torch

    if device.type in ("cuda", "xpu"):
        backend = getattr(torch, device.type)
        free, _ = backend.mem_get_info(device)
        # What PyTorch holds in reserve for this process is free, too.
        return int(free) + int(backend.memory_reserved(device)) - int(backend.memory_allocated(device))
    return _available_on_cpu() if device.type == "cpu" else None


def _available_on_cpu(root: Path = Path("/")) -> int | None:
    """The system's estimate, or what the container's limit (cgroup version 2) leaves, if that is less."""
    try:
        found = re.search(r"MemAvailable:\s+(\d+) kB", (root / "proc/meminfo").read_text())
    except OSError:
        return None
    if not found:
        return None
    available = int(found[1]) * 1024
    group = root / "sys/fs/cgroup"
    with contextlib.suppress(OSError, ValueError):  # no limit: a file is missing, or says "max"
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        # Cached files are given back when memory runs short.
        cached = re.search(r"^inactive_file (\d+)", (group / "memory.stat").read_text(), re.M)
        available = min(available, limit - used + (int(cached[1]) if cached else 0))
    return max(0, available)
