"""Compare the size that a header claims with the size of the file and of the memory, before memory is allocated."""

import os
from collections.abc import Callable
from pathlib import Path

__all__ = ["DEFLATE", "LOSSLESS", "check_claim"]

DEFLATE = 1100  # most bytes from one byte (1032 by its format)
LOSSLESS = 20_000  # JPEG 2000, JPEG-LS and the like on constant images
LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))  # cgroups 2 and 1
on_claim: Callable[[int], None] = lambda claimed: None  # noqa: E731 - told of every claim that was checked
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
            f"{path}: the file is cut short: its header claims {_size(claimed)} of voxels, it has {_size(stored)}; "
            "copy or export it again"
        )
    memory = _memory()
    if memory and claimed > MEMORY * memory:
        raise ValueError(
            f"{path}: has {_size(claimed)} of voxels, too many for {_size(memory)} of memory; crop or resample it"
        )
    on_claim(claimed)


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


def _size(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.4g} {unit}"
        count /= 1024
    return f"{count:.4g} TiB"
