"""Tiles of a mosaic: rectangles cut at random from crops around one object each, and their places on a canvas."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

__all__ = ["BLEND", "CLEARANCE", "Crop", "Tile", "lay_out", "obstacle"]

BLEND = 6  # voxels of a seam
CLEARANCE = 2  # voxels around a mask that still look like the object
SMOOTH = 5  # voxels of the local mean


@dataclass(frozen=True)
class Crop:
    """An object and its surroundings on the grid of the canvas.

    Attributes:
        case: id of the case that it comes from.
        image: `(z, y, x)` int16.
        mask: `(z, y, x)` bool, not empty.
    """

    case: str
    group: str
    label: int
    image: np.ndarray
    mask: np.ndarray

    @cached_property
    def box(self) -> np.ndarray:
        """The tight box `(2, 3)` of the mask."""
        positions = np.argwhere(self.mask)
        return np.stack([positions.min(axis=0), positions.max(axis=0) + 1])

    @cached_property
    def bands(self) -> np.ndarray:
        """Local mean in the plane, and deviation from it: float32 `(2, z, y, x)`."""
        from scipy.ndimage import uniform_filter

        image = self.image.astype(np.float32)
        smooth = uniform_filter(image, (0, SMOOTH, SMOOTH))
        return np.stack([smooth, image - smooth])

    @cached_property
    def distance(self) -> np.ndarray:
        """Distance `(y, x)` in voxels of the plane from the mask of any plane."""
        from scipy.ndimage import distance_transform_edt

        return np.asarray(distance_transform_edt(~self.mask.any(axis=0)), np.float32)

    def windows(self, size: int) -> np.ndarray:
        """Lower corners `(n, 2)` of the squares of `size` voxels that hold rim only."""
        from numpy.lib.stride_tricks import sliding_window_view

        if min(self.distance.shape) < size:
            return np.zeros((0, 2), int)
        nearest = sliding_window_view(self.distance, (size, size)).min(axis=(2, 3))
        return np.argwhere(nearest > CLEARANCE)


class Tile(NamedTuple):
    """A rectangle of a crop and its place on the canvas.

    Attributes:
        crop: its number.
        lesion: whether the object stays.
        lower: `(y, x)` of the rectangle in the crop; negative where it is continued by mirroring.
        size: `(y, x)`.
        plane: plane of the canvas with the first plane of the object.
        place: `(y, x)` on the canvas.
    """

    crop: int
    lesion: bool
    lower: tuple[int, int]
    size: tuple[int, int]
    plane: int
    place: tuple[int, int] = (0, 0)

    def corner(self, crop: Crop) -> tuple[int, int, int]:
        """Lower corner of the object on the canvas."""
        row, column = (
            at + int(own) - start for at, own, start in zip(self.place, crop.box[0, 1:], self.lower, strict=True)
        )
        return self.plane, row, column


def obstacle(crop: Crop, canvas: Sequence[int]) -> str:
    """Why a crop cannot be a tile, or an empty text."""
    lower, upper = crop.box
    if any(upper - lower + [0, 2 * BLEND + 2, 2 * BLEND + 2] > canvas):
        return f"an object of {(upper - lower).tolist()} voxels does not fit a canvas of {list(canvas)}"
    rim = int(min(lower[1:].min(), (crop.mask.shape - upper)[1:].min()))
    needed = (BLEND + 2) // 2  # the missing half is mirrored
    return f"its rim of {rim} voxels is too narrow, a seam needs {needed}" if rim < needed else ""


def lay_out(
    crops: Sequence[Crop], lesions: Sequence[int], empty: Sequence[int], canvas: Sequence[int], rng: np.random.Generator
) -> list[Tile]:
    """Cut a tile from each crop, with its object for `lesions` and without for `empty`, and place them at random.

    Tiles that find no place are left out, empty ones first.
    """
    tiles = [_cut(crops[n], n, k < len(lesions), canvas, rng) for k, n in enumerate((*lesions, *empty))]
    for count in range(len(tiles), 1, -1):
        for _ in range(10):
            order = rng.permutation(count)
            placed = _place([tiles[k] for k in order], canvas, rng)
            if placed is not None:
                return [placed[k] for k in np.argsort(order)]
    return _place(tiles[:1], canvas, rng) or []


def _cut(crop: Crop, number: int, lesion: bool, canvas: Sequence[int], rng: np.random.Generator) -> Tile:
    lower, upper = crop.box[:, 1:]
    shape, room = np.array(crop.mask.shape[1:]), (np.array(canvas[1:]) - (upper - lower)) // 2
    least = BLEND + 1
    margins = [
        rng.integers(least, np.maximum(least, np.minimum(rim, room)) + 1).tolist() for rim in (lower, shape - upper)
    ]
    start, size = lower - margins[0], upper - lower + margins[0] + margins[1]
    plane = int(rng.integers(canvas[0] - int(crop.box[1, 0] - crop.box[0, 0]) + 1))
    return Tile(number, lesion, (int(start[0]), int(start[1])), (int(size[0]), int(size[1])), plane)


def _place(tiles: Sequence[Tile], canvas: Sequence[int], rng: np.random.Generator) -> list[Tile] | None:
    placed: list[Tile] = []
    for tile in tiles:
        for _ in range(30):
            y, x = (int(rng.integers(n - own + 1)) for n, own in zip(canvas[1:], tile.size, strict=True))
            if not any(_meet(tile._replace(place=(y, x)), other) for other in placed):
                placed.append(tile._replace(place=(y, x)))
                break
        else:
            return None
    return placed


def _meet(a: Tile, b: Tile) -> bool:
    return all(a.place[k] < b.place[k] + b.size[k] and b.place[k] < a.place[k] + a.size[k] for k in (0, 1))
