"""Compare the size that a header claims with the size of the file and of the memory, before memory is allocated."""

from collections.abc import Callable
from pathlib import Path

from boxel.inputs.memory import memory, size_in_words

__all__ = ["DEFLATE", "LOSSLESS", "check_claim", "check_memory"]

DEFLATE = 1100  # most bytes from one byte (1032 by its format)
LOSSLESS = 20_000  # JPEG 2000, JPEG-LS and the like on constant images
on_claim: Callable[[int], None] = lambda claimed: None  # noqa: E731 - told of every claim that was checked
MEMORY = 0.5  # share of the memory; reading and converting takes about twice the image
SMALL = 1 << 20  # bytes that every machine has; to ask how many it has takes longer than to read a small picture


def check_claim(path: Path, claimed: int, stored: int, ratio: float = 1, at_once: int | None = None) -> None:
    """Refuse an image that is larger than its file allows or than the memory.

    Args:
        path: the file to name.
        claimed: bytes of voxels according to the header.
        stored: bytes of the files.
        ratio: most bytes of voxels per stored byte (compression).
        at_once: bytes of voxels that are in memory at a time; None: all.

    Raises:
        ValueError: the header claims more than the file or the memory can hold.
    """
    if claimed > stored * ratio:
        raise ValueError(
            f"{path}: the file is cut short: its header claims {size_in_words(claimed)} of voxels, it has "
            f"{size_in_words(stored)}; copy or export it again"
        )
    held = claimed if at_once is None else min(at_once, claimed)
    check_memory(f"{path}: has {size_in_words(claimed)} of voxels", held, "crop or resample it")
    on_claim(held)


def check_memory(what: str, size: float, fix: str) -> None:
    """Refuse a result that is too large for the memory, before it is allocated.

    Args:
        what: the file or case, and what is asked for, with its size.
        size: its bytes.
        fix: what the user can do.

    Raises:
        ValueError: it takes more than half of the memory.
    """
    whole = memory() if size > SMALL else 0
    if whole and size > MEMORY * whole:
        raise ValueError(f"{what}, too many for {size_in_words(whole)} of memory; {fix}")
