"""Images that look alike, detected by hashes that survive compression, brightness changes and small noise."""

from collections.abc import Sequence

import numpy as np

__all__ = ["hash_image", "near_duplicates"]

CELLS = {2: 16, 3: 8}  # per axis, by the number of axes: 256 or 512 bits
ALIKE = 0.9  # common bits over all bits set in either
NEARLY = 0.47
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
    # Pairs have common bits >= 0.9 / 1.9 of the bits of both: one product tells those that have 0.47.
    ones = np.ones_like(counts)
    left, right = np.column_stack([bits, ones, counts]), np.column_stack([bits, -NEARLY * counts, -NEARLY * ones])
    for start in range(0, len(bits), BLOCK):
        first, second = np.nonzero(left[start : start + BLOCK] @ right[start:].T > 0)
        first, second = first[first < second] + start, second[first < second] + start
        common = np.concatenate(
            [(bits[first[k : k + BLOCK]] * bits[second[k : k + BLOCK]]).sum(1) for k in range(0, len(first), BLOCK)]
            or [np.zeros(0, np.float32)]
        )
        alike = np.flatnonzero(common >= ALIKE * (counts[first] + counts[second] - common))[: MOST_PAIRS - len(pairs)]
        pairs += [(known[a], known[b]) for a, b in zip(first[alike].tolist(), second[alike].tolist(), strict=True)]
        if len(pairs) == MOST_PAIRS:
            break
    return pairs
