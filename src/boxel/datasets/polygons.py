"""Masks from outlines and from run lengths.

We decode run lengths ourselves, since pycocotools silently fills a mask whose runs end too early with arbitrary values.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from boxel.datasets.annotations import Annotator, beyond, boxed
from boxel.datasets.label_maps import Mask, overlay
from boxel.types import Geometry, Instances

__all__ = ["CocoMasks", "CocoObject", "IgnoredObject", "contradiction", "fill_polygon", "fits_as_corners"]


def fill_polygon(points: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Mask `(rows, columns)` of the pixels whose centre lies inside an outline.

    The outline `(n, 2)` is given in continuous pixels (row, column). Outlines that cross themselves follow the even-odd
    rule. A centre exactly on the outline may count or not.
    """
    mask = np.zeros(tuple(shape), bool)
    start, end = points, np.roll(points, -1, axis=0)
    first = max(0, int(np.floor(points[:, 0].min())))
    last = min(shape[0], int(np.ceil(points[:, 0].max())))
    columns = np.arange(shape[1]) + 0.5
    for row in range(first, last):
        y = row + 0.5
        crosses = (start[:, 0] <= y) != (end[:, 0] <= y)
        a, b = start[crosses], end[crosses]
        x = np.sort(a[:, 1] + (y - a[:, 0]) / (b[:, 0] - a[:, 0]) * (b[:, 1] - a[:, 1]))
        mask[row] = np.searchsorted(x, columns, side="right") % 2 == 1
    return mask


AS_SIDES = "write bbox as [x, y, width, height] in pixels"


@dataclass(frozen=True)
class CocoObject:
    """One COCO annotation: box `x, y, width, height`, polygons `x0, y0, x1, ...`, or run lengths and their size."""

    label: int
    box: tuple[float, ...] | None
    polygons: tuple[tuple[float, ...], ...] = ()
    rle: tuple = ()
    crowd: bool = False
    area: float | None = None

    @property
    def ignored(self) -> bool:
        return self.crowd

    def mask(self, shape: tuple[int, ...]) -> np.ndarray:
        mask = np.zeros(shape, bool)
        for polygon in self.polygons:
            mask |= fill_polygon(np.array(polygon).reshape(-1, 2)[:, ::-1], shape)
        if self.rle:
            counts, size = self.rle
            lengths = decompress(counts) if isinstance(counts, str) else counts
            fits = all(0 <= length <= np.prod(shape) for length in lengths)
            runs = np.array(lengths if fits else (), np.int64)
            if tuple(size) != shape or runs.sum() != np.prod(shape):
                raise ValueError(f"run lengths of {tuple(size)} but the image has {shape}; export them again")
            mask |= np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(shape[::-1]).T
        return mask


class IgnoredObject(CocoObject):
    """A single object that is excluded from training and scoring, unlike a crowd."""

    @property
    def ignored(self) -> bool:
        return True


def contradiction(box: tuple[float, ...] | None, drawn: tuple[float, ...]) -> tuple[str, str] | None:
    """How a box `x, y, width, height` contradicts the outline whose corners are `drawn`, and a suggested fix."""
    if box is None or min(box[2:]) <= 0:
        return None
    if any(drawn[k] > box[k] + box[k + 2] or drawn[k + 2] < box[k] for k in (0, 1)):
        return f"bbox {list(box)} lies beside its polygon or mask", f"correct one of them, {AS_SIDES}"
    as_corners, as_sides = np.abs(np.subtract(drawn, box)), np.abs(np.subtract(drawn[2:], np.add(box[:2], box[2:])))
    if as_corners.max() <= 1 and as_sides.max() > 2:
        return f"bbox {list(box)} fits its polygon or mask only as [x1, y1, x2, y2]", AS_SIDES
    return None


def fits_as_corners(box: tuple[float, ...], area: float) -> bool:
    """Whether the area of a box is that of `x1, y1, x2, y2`, and not that of `x, y, width, height`."""
    corners = (box[2] - box[0]) * (box[3] - box[1])
    ordered = 0 <= box[0] < box[2] and 0 <= box[1] < box[3]
    return ordered and abs(corners - area) <= 0.02 * area < 0.1 * area < abs(box[2] * box[3] - area)


def decompress(text: str) -> list[int]:
    """Decode COCO's run lengths: 5 bits per character, the 6th says that more follow; from the 4th on differences."""
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    return counts


@dataclass(frozen=True)
class CocoMasks(Annotator):
    """The objects of one picture: masks if outlines are given, boxes otherwise."""

    objects: tuple[CocoObject, ...] = field(default=())

    @property
    def labels(self) -> tuple[int, ...]:
        return tuple([entry.label for entry in self._parts[0]])

    @cached_property
    def _parts(self) -> tuple[list[CocoObject], list[CocoObject]]:
        """The objects, and what is ignored."""
        ignored = [entry for entry in self.objects if entry.ignored]
        return [entry for entry in self.objects if not entry.ignored] if ignored else list(self.objects), ignored

    def read(self, geometry: Geometry) -> tuple[np.ndarray | None, Instances]:
        return self._chosen(geometry, ignored=False)

    def ignored(self, geometry: Geometry) -> Instances:
        """Ignored objects, and crowds: regions that hold many objects without an outline of each."""
        return self._chosen(geometry, ignored=True)[1]

    @property
    def ignores_regions(self) -> bool:
        ignored = self._parts[1]
        return any(entry.crowd for entry in ignored) or not ignored

    def remarks(self, geometry: Geometry) -> tuple[str, ...]:
        return beyond(_corners([entry for entry in self._parts[0] if entry.box]), geometry)

    def as_written(self, geometry: Geometry) -> tuple[Instances, np.ndarray, Instances]:
        """Objects with the boxes and areas stored in the file instead of those of their masks, and what is ignored.

        Ids are those of `read`. A box or area missing in the file is that of the mask.
        """
        (objects, areas), (others, _) = (self._boxes_as_written(geometry, ignored) for ignored in (False, True))
        return objects, areas, others

    def _boxes_as_written(self, geometry: Geometry, ignored: bool) -> tuple[Instances, np.ndarray]:
        drawn, others = self._by_kind(geometry, ignored)
        _, instances = _numbered(drawn, others, geometry)
        boxes, areas = instances.boxes.copy(), np.prod(instances.boxes[:, 1] - instances.boxes[:, 0], axis=1)
        entries = [*(entry for entry, _ in drawn), *others]
        written = [row for row, entry in enumerate(entries) if entry.box is not None and min(entry.box[2:]) > 0]
        boxes[written] = _corners([entries[row] for row in written])
        for row, entry in enumerate(entries):
            areas[row] = areas[row] if entry.area is None else entry.area
        return replace(instances, boxes=boxes), areas

    def _by_kind(self, geometry: Geometry, ignored: bool) -> tuple[list[tuple[CocoObject, Mask]], list[CocoObject]]:
        """Objects with their masks, and objects without a mask."""
        drawn, others = [], []
        for entry in self._parts[ignored]:
            mask = entry.mask(geometry.shape) if entry.polygons or entry.rle else None
            if mask is not None and mask.any():
                drawn.append((entry, Mask.crop(mask)))
                rows, columns = drawn[-1][1].region
                edges = (columns.start, rows.start, columns.stop, rows.stop)
                wrong = contradiction(entry.box, edges) if entry.rle else None  # polygons: when the file is opened
                if wrong:
                    raise ValueError("; ".join(wrong))
                continue
            if entry.box is None:
                raise ValueError("an outline has no pixels, and there is no box; draw it again, or remove the object")
            others.append(entry)
        return drawn, others

    def _chosen(self, geometry: Geometry, *, ignored: bool) -> tuple[np.ndarray | None, Instances]:
        return _numbered(*self._by_kind(geometry, ignored), geometry)


def _numbered(
    drawn: Sequence[tuple[CocoObject, Mask]], others: Sequence[CocoObject], geometry: Geometry
) -> tuple[np.ndarray | None, Instances]:
    """Label map and objects; objects with masks come first."""
    labels = np.array([entry.label for entry in others], np.int64)
    boxes = boxed(_corners(others), labels, np.arange(1, len(others) + 1), geometry)
    if not drawn:
        return None, boxes
    label_map, instances = overlay([(entry.label, mask) for entry, mask in drawn], geometry.shape)
    boxes = Instances(boxes.boxes, boxes.labels, boxes.ids + len(drawn), boxes.has_mask)
    return label_map, Instances.concatenate([instances, boxes])


def _corners(entries: Sequence[CocoObject]) -> np.ndarray:
    """The boxes `(n, 2, 2)` of annotations, of which there may be very many."""
    x, y, width, height = np.array([entry.box or (0.0,) * 4 for entry in entries], np.float64).reshape(-1, 4).T
    lower, upper = np.stack([y, x], axis=1), np.stack([y + height, x + width], axis=1)
    return np.stack([np.minimum(lower, upper), np.maximum(lower, upper)], axis=1)
