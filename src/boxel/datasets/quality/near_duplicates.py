"""Do two images look alike? Bits that survive other compression, brightness and small noise."""

from collections.abc import Sequence

import numpy as np

__all__ = ["hash_image", "near_duplicates"]

CELLS = {2: 16, 3: 8}  # per axis, by the number of axes: 256 or 512 bits
ALIKE = 0.9  # common bits over all bits set in either
LEAST = 20  # bits set; fewer say too little
BLOCK = 1000


def hash_image(array: np.ndarray) -> np.ndarray | None:
    """Bits `(n,)` of an image `(c, *s)`: is the mean of a cell larger than that of the next along the last axis?

    A difference hash on the mean of the channels, as dHash has it for pictures. None for images smaller than the cells,
    or nearly constant ones.
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
    """Pairs of indices whose images look alike."""
    known = [index for index, bits in enumerate(hashes) if bits is not None]
    if not known:
        return []
    bits = np.stack([hashes[index] for index in known]).astype(np.float32)  # type: ignore[misc]
    counts = bits.sum(axis=1)
    pairs = []
    for start in range(0, len(bits), BLOCK):
        common = bits[start : start + BLOCK] @ bits.T
        either = counts[start : start + BLOCK, None] + counts - common
        for a, b in np.argwhere(common >= ALIKE * either).tolist():
            if start + a < b:
                pairs.append((known[start + a], known[b]))
    return pairs
