"""Compare the size that a header claims with the size of the file and of the memory, before memory is allocated."""

import os
from pathlib import Path

__all__ = ["DEFLATE", "LOSSLESS", "check_claim", "check_memory", "size_text"]

DEFLATE = 1100  # most bytes from one byte (1032 by its format)
LOSSLESS = 20_000  # JPEG 2000, JPEG-LS and the like on constant images
LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))  # cgroups 2 and 1
MEMORY = 0.5  # share of the memory; reading and converting takes about twice the image


def check_claim(path: Path, claimed: int, stored: int, ratio: float = 1) -> None:
    """Refuse an image that is larger than its file allows or than the memory.

    Args:
        path: the file to name.
        claimed: bytes of voxels according to the header.
        stored: bytes of the files.
        ratio: most bytes of voxels per stored byte (compression).

    Raises:
        ValueError: the header claims more than the file or the memory can hold.
    """
    if claimed > stored * ratio:
        raise ValueError(
            f"{path}: the file is cut short: its header claims {size_text(claimed)} of voxels, "
            f"it has {size_text(stored)}; copy or export it again"
        )
    check_memory(f"{path}: has {size_text(claimed)} of voxels", claimed, "crop or resample it")


def check_memory(what: str, size: float, fix: str) -> None:
    """Refuse a result that is too large for the memory, before it is allocated.

    Args:
        what: the file or case, and what is asked for, with its size.
        size: its bytes.
        fix: what the user can do.

    Raises:
        ValueError: it takes more than half of the memory.
    """
    memory = _memory()
    if memory and size > MEMORY * memory:
        raise ValueError(f"{what}, too many for {size_text(memory)} of memory; {fix}")


def _memory() -> int:
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


def size_text(count: float) -> str:
    """A number of bytes for people to read."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.4g} {unit}"
        count /= 1024
    return f"{count:.4g} TiB"
