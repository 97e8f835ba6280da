"""The memory of this machine, which limits what is read at once."""

import os
from pathlib import Path

__all__ = ["memory", "size_in_words"]

LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))  # cgroups 2 and 1


def memory() -> int:
    """Bytes of memory of this machine or its container; 0 if unknown."""
    try:
        whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0
    for limit in LIMITS:
        try:
            return min(whole, int(limit.read_text()))
        except (OSError, ValueError):  # not a container, or "max"
            continue
    return whole


def size_in_words(count: float) -> str:
    """A number of bytes, such as `1.5 GiB`."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.4g} {unit}"
        count /= 1024
    return f"{count:.4g} TiB"
