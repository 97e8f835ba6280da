"""What a header promises, against what the file and the memory can hold: asked before anything is allocated."""

import os
from pathlib import Path

__all__ = ["DEFLATE", "LOSSLESS", "check_claim"]

DEFLATE = 1100  # bytes from one at most (1032 by its format)
LOSSLESS = 20_000  # JPEG 2000, JPEG-LS and the like on constant images
LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))  # cgroups 2 and 1
MEMORY = 0.5  # of the machine's; reading and converting takes about twice an image


def check_claim(path: Path, claimed: int, stored: int, ratio: float = 1) -> None:
    """Refuse an image that cannot be.

    Args:
        path: to name.
        claimed: bytes of voxels by the header.
        stored: bytes of the files.
        ratio: bytes of voxels that a stored byte can be.

    Raises:
        ValueError: more is promised than the file can hold, or than the memory can.
    """
    if claimed > stored * ratio:
        raise ValueError(
            f"{path}: the file is cut short: its header promises {_size(claimed)} of voxels, it has {_size(stored)}; "
            "copy or export it again"
        )
    memory = _memory()
    if memory and claimed > MEMORY * memory:
        raise ValueError(
            f"{path}: {_size(claimed)} of voxels, and this machine has {_size(memory)} of memory; crop or resample it"
        )


def _memory() -> int:
    """Bytes that this machine has, or its container may use; 0 where it does not say."""
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
