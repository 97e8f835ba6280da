"""The order of images, or slices, in passes over the training data: a pure function of the seed and the number."""

from collections.abc import Mapping

import numpy as np

from boxel.types import Instances


class Turns:
    """Bins of images that take turns, each in its own order that begins again when the bin was seen.

    Sample `k` is of bin `k mod n`: of consecutive samples, such as a batch, each of `n` bins has its n-th part.

    Args:
        bins: by label, or under None for all images at once: rows `(case, position along each leading axis...)`.
        shuffle: whether each pass over a bin has an order of its own, drawn with the seed; otherwise that of the rows.
    """

    def __init__(self, bins: Mapping[int, np.ndarray] | Mapping[None, np.ndarray], seed: int, *, shuffle: bool) -> None:
        self.bins: list[tuple[int | None, np.ndarray]] = [*bins.items()]
        self.seed, self.shuffle = seed, shuffle
        self._orders: dict[int, tuple[int, np.ndarray]] = {}  # the latest of each bin, with its pass

    @property
    def per_pass(self) -> int:
        """The samples of a pass, in which the largest bin is seen once."""
        return len(self.bins) * max(len(rows) for _, rows in self.bins)

    def due(self, index: int) -> tuple[int | None, list[int]]:
        """The label of the bin of a sample, and the row that is due."""
        turn, number = index % len(self.bins), index // len(self.bins)
        label, rows = self.bins[turn]
        cycle, place = divmod(number, len(rows))
        if self.shuffle:
            place = int(self._order(turn, cycle, len(rows))[place])
        return label, rows[place].tolist()

    def _order(self, turn: int, cycle: int, size: int) -> np.ndarray:
        known, order = self._orders.get(turn, (-1, np.zeros(0, int)))
        if known != cycle:
            # The last number is never 0, so that the streams differ from those of the patches, [seed, index].
            order = np.random.default_rng([self.seed, cycle, 1 + turn]).permutation(size)
            self._orders[turn] = cycle, order
        return order


def reached(instances: Instances, shape: tuple[int, ...], label: int | None = None) -> np.ndarray:
    """Which slices, by their position along the leading axes of `shape`, an object reaches: any, or one of a class.

    Without leading axes, whether the image has such an object.
    """
    boxes = instances.boxes if label is None else instances.boxes[instances.labels == label]
    marks = np.zeros(shape, bool)
    for lower, upper in boxes[:, :, : len(shape)]:
        first, last = np.maximum(0, np.floor(lower)).astype(int), np.ceil(upper).astype(int)
        marks[tuple(map(slice, first, last))] = True
    return marks
