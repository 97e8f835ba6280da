"""The memory of this machine, which limits what is read at once, and of this process; sizes in words."""

import os
import re
import sys
from pathlib import Path

__all__ = ["bytes_of", "memory", "process_memory", "size_in_words"]

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


def bytes_of(text: str) -> int:
    """The bytes of a size in words, such as `24GB` (24 * 1000^3) or `1.5 GiB` (1.5 * 1024^3).

    Raises:
        ValueError: it is no size.
    """
    match = re.fullmatch(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*([kmgt]?)(i?)b\s*", text.lower())
    unit = (1024 if match[3] else 1000) ** (" kmgt".index(match[2] or " ")) if match else 0
    if not match or not (count := int(float(match[1]) * unit)):
        raise ValueError(f"{text!r} is no size of a memory; give a number with a unit, such as 24GB or 1.5GiB")
    return count


def process_memory() -> tuple[int, int]:
    """Bytes that this process occupies now, and at most since it began; twice the latter where only that is known."""
    try:
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return int(status["VmRSS"].split()[0]) * 1024, int(status["VmHWM"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):  # not Linux
        pass
    try:
        import resource
    except ImportError:  # Windows
        return 0, 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return most, most
