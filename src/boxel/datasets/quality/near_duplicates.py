"""Images that look alike, detected by hashes that survive compression, brightness changes and small noise."""

from collections.abc import Sequence

import numpy as np

__all__ = ["hash_image", "near_duplicates"]

CELLS = {2: 16, 3: 8}  # per axis, by the number of axes: 256 or 512 bits
ALIKE = 0.9  # common bits over all bits set in either
LEAST = 20  # bits set; a hash with fewer carries too little information
BLOCK = 1000
MOST_PAIRS = 100_000  # blank images are all alike, and their pairs as many as their number squared


def hash_image(array: np.ndarray) -> np.ndarray | None:
    """The hash `(n,)` bool of an image `(c, *s)`: whether the mean of a cell exceeds that of the next on the last axis.

    This is the difference hash (dHash) of the mean of the channels. It is None for images with fewer voxels than cells
    along an axis, and for nearly constant images.
    """
    mean = array.mean(axis=0, dtype=np.float32)
    cells = CELLS[mean.ndim]
    counts = (cells,) * (mean.ndim - 1) + (cells + 1,)
    if any(size < count for size, count in zip(mean.shape, counts, strict=True)):
        return None
    for axis, count in enumerate(counts):
        size = mean.shape[axis]
        edges = np.linspace(0, size, count + 1).astype(int)
        shape = [-1 if other == axis else 1 for other in range(mean.ndim)]
        mean = np.add.reduceat(mean, edges[:-1], axis=axis) / np.diff(edges).reshape(shape)
    bits: np.ndarray = (np.diff(mean, axis=-1) < -1e-6 * np.ptp(mean)).ravel()
    return bits if bits.sum() >= LEAST else None


def near_duplicates(hashes: Sequence[np.ndarray | None]) -> list[tuple[int, int]]:
    """Pairs of indices of images that look alike, at most MOST_PAIRS."""
    known = [index for index, bits in enumerate(hashes) if bits is not None]
    if not known:
        return []
    bits = np.stack([hashes[index] for index in known]).astype(np.float32)  # type: ignore[misc]
    counts = bits.sum(axis=1)
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(bits), BLOCK):
        common = bits[start : start + BLOCK] @ bits[start:].T
        either = counts[start : start + BLOCK, None] + counts[start:] - common
        alike = np.argwhere(np.triu(common >= ALIKE * either, 1))[: MOST_PAIRS - len(pairs)] + start
        pairs += [(known[a], known[b]) for a, b in alike.tolist()]
        if len(pairs) == MOST_PAIRS:
            break
    return pairs
