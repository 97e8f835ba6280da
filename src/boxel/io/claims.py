"""Compare the size that a header claims with the size of the file and of the memory, before memory is allocated."""

from pathlib import Path

from boxel.inputs.memory import memory, size_in_words

__all__ = ["DEFLATE", "LOSSLESS", "check_claim"]

DEFLATE = 1100  # most bytes from one byte (1032 by its format)
LOSSLESS = 20_000  # JPEG 2000, JPEG-LS and the like on constant images
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
    size, whole = size_in_words(claimed), memory()
    if claimed > stored * ratio:
        raise ValueError(
            f"{path}: the file is cut short: its header claims {size} of voxels, it has {size_in_words(stored)}; "
            "copy or export it again"
        )
    if whole and claimed > MEMORY * whole:
        raise ValueError(
            f"{path}: has {size} of voxels, too many for {size_in_words(whole)} of memory; crop or resample it"
        )
