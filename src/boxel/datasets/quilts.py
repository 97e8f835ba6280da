"""Pixels of a mosaic: crops around one object each are laid out on a canvas, and tissue of their rims fills the rest.

A canvas is composed in three steps. Tiles, each a rectangle cut at random from a crop around its object, are laid out
at random without overlap. In a tile with a lesion the object stays; in an empty tile a column around the object is
taken out through all planes. Then square patches of rim, chosen among random candidates to fit their neighbours, fill
everything outside the tiles and the columns. Every seam, of tiles, columns and patches, is blended over the same
number of voxels, so that the noise keeps its strength: means are blended linearly, what deviates from the local mean
by weights whose squares add up to one.

Crops are shallow. Beyond their first and last plane a canvas continues with the mirrored planes of the crop, without
the object: **there is no context along the first axis beyond the object**, neither for patches nor for slices.

Patches as in Efros and Freeman, Image quilting for texture synthesis and transfer, 2001, with blending in place of the
minimum cut.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from boxel.datasets.tiles import BLEND, CLEARANCE, Crop, Tile

__all__ = ["compose", "has_tissue"]

PATCH = 15  # voxels; the rims of LIDC crops are 15 to 17 wide
LEAST = 10  # voxels of a patch, where rims are narrow
ENOUGH = 50  # patches to draw from, for the larger size
CANDIDATES = 10  # patches to choose from
STEP = 8  # planes between those that are compared


def compose(
    crops: Sequence[Crop],
    tiles: Sequence[Tile],
    canvas: Sequence[int],
    rng: np.random.Generator,
    *,
    hide: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """The image `(z, y, x)` int16 of a canvas, and its label map: the lesion of tile `k` has the number `k + 1`.

    Args:
        hide: replace the lesions by rim tissue; the label map stays.

    Raises:
        ValueError: the crops do not have the tissue that `has_tissue` asks for.
    """
    shape = tuple(canvas)
    weight, bands = np.zeros(shape, np.float32), np.zeros((2, *shape), np.float32)
    label_map, owner = np.zeros(shape, np.uint8), np.full(shape[1:], -1)
    for number, tile in enumerate(tiles, start=1):
        crop = crops[tile.crop]
        rows, columns, planes = _indices(crop, tile, shape[0])
        here = tuple(slice(a, a + n) for a, n in zip(tile.place, tile.size, strict=True))
        weight[:, *here] = _weight(crop, tile._replace(lesion=tile.lesion and not hide), shape[0])
        bands[:, :, *here] = crop.bands[:, planes][:, :, rows][..., columns]
        owner[here] = tile.crop
        if tile.lesion:
            lower, upper = crop.box
            inside = tuple(slice(a, a + n) for a, n in zip(tile.corner(crop), upper - lower, strict=True))
            label_map[inside][crop.mask[tuple(map(slice, lower, upper))]] = number
    low, high, power = _quilt(crops, bands[0], weight, owner, rng)
    rest = 1 - weight
    deviation = (weight * bands[1] + rest * high) / np.sqrt(weight**2 + rest**2 * power)
    image = weight * bands[0] + rest * low + deviation
    return np.rint(image).clip(-32768, 32767).astype(np.int16), label_map


def has_tissue(crops: Sequence[Crop]) -> bool:
    """Whether the rims of the crops hold a patch, without which no canvas can be composed of them."""
    return any(len(crop.windows(LEAST)) for crop in crops)


def _indices(crop: Crop, tile: Tile, depth: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, columns and planes of the crop under a tile; mirrored beyond its faces."""
    count, height, width = crop.mask.shape
    rows, columns = (np.arange(a, a + n) for a, n in zip(tile.lower, tile.size, strict=True))
    planes = np.arange(depth) - tile.plane + int(crop.box[0, 0])
    return _mirrored(rows, height), _mirrored(columns, width), _mirrored(planes, count)


def _mirrored(index: np.ndarray, length: int) -> np.ndarray:
    index = index % (2 * length)
    return np.minimum(index, 2 * length - 1 - index)


def _weight(crop: Crop, tile: Tile, depth: int) -> np.ndarray:
    """How much of each voxel comes from the tile: 0 at its border and in the column that is taken out, else 1."""
    border = _rise(tile.size[0])[:, None] * _rise(tile.size[1])
    rows, columns, _ = _indices(crop, tile, depth)
    column = np.clip(1 - (crop.distance[np.ix_(rows, columns)] - CLEARANCE) / (BLEND + 1), 0, 1)
    kept = np.zeros(depth)
    if tile.lesion:
        first, last = crop.box[:, 0]
        planes = np.arange(depth) - tile.plane + first  # of the crop, without mirroring
        fades = [min(BLEND, rim) + 1 for rim in (first, len(crop.mask) - last)]
        beyond = np.maximum((first - planes) / fades[0], (planes - last + 1) / fades[1])
        kept = np.clip(1 - beyond, 0, 1)
    return (border * (1 - column * (1 - kept[:, None, None]))).astype(np.float32)


def _rise(length: int) -> np.ndarray:
    """Weights `(length,)` that rise from 0 at both ends to 1 over the voxels of a seam."""
    places = np.arange(1, length + 1)
    return np.minimum(np.minimum(places, places[::-1]) / (BLEND + 1), 1).astype(np.float32)


def _quilt(
    crops: Sequence[Crop], guide: np.ndarray, known: np.ndarray, owner: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and deviation `(z, y, x)` of a canvas of patches that continue `guide` where its weight `known` is above 0.

    Half of the candidates for a patch come from the crops next to it, whose numbers `owner (y, x)` says (-1: none).
    Returns also the sum of squares `(y, x)` of the weights of the patches at each voxel.
    """
    size, windows = _windows(crops)
    own_windows = [np.flatnonzero(windows[:, 0] == number) for number in range(len(crops))]
    depth, *plane = known.shape
    step = size - BLEND
    ramp = _rise(size)[:, None] * _rise(size)
    wide = [n + 2 * size for n in plane]  # patches reach beyond the canvas
    bands, total, squares = np.zeros((2, depth, *wide), np.float32), np.zeros(wide, np.float32), np.zeros(wide)
    around = ((size, size), (size, size))
    guide, known = (np.pad(values, ((0, 0), *around)) for values in (guide * known, known))
    owner = np.pad(owner, around, constant_values=-1)
    rows, columns = (np.arange(size - int(rng.integers(step)) - BLEND, size + n, step) for n in plane)
    for y, x in itertools.product(rows, columns):
        here = (slice(y, y + size), slice(x, x + size))
        weight = known[:, *here]
        if weight.min() < 1:
            rest = 1 - weight[::STEP]
            seen = weight[::STEP] + rest * total[here]
            target = guide[::STEP, *here] + rest * bands[0, ::STEP, *here]
            near = [own_windows[number] for number in np.unique(owner[here]) if number >= 0]
            near = [numbers for numbers in near if len(numbers)]
            choices = rng.integers(len(windows), size=CANDIDATES)
            for k in range(CANDIDATES // 2 if near else 0):
                choices[k] = rng.choice(near[k % len(near)])
            patches = [(*windows[choice], int(rng.integers(depth))) for choice in choices]
            costs = [
                (seen * rest * ramp * (_patch(crops, patch, size, depth, STEP)[0] * seen - target) ** 2).sum()
                for patch in patches
            ]
            best = patches[int(np.argmin(costs))]
            bands[:, :, *here] += ramp * _patch(crops, best, size, depth)
            owner[here] = np.where(owner[here] < 0, best[0], owner[here])
        total[here] += ramp
        squares[here] += ramp**2
    inner = tuple(slice(size, size + n) for n in plane)
    total, squares = total[inner], squares[inner]
    low, high = bands[:, :, *inner] / total
    return low, high, squares / total**2


def _patch(crops: Sequence[Crop], window: Sequence[int], size: int, depth: int, step: int = 1) -> np.ndarray:
    """The bands `(2, z, size, size)` of a window: number of its crop, lower corner in the plane, first plane."""
    number, row, column, plane = window
    crop = crops[number]
    planes = _mirrored(np.arange(0, depth, step) + plane, len(crop.mask))
    return crop.bands[:, :, row : row + size, column : column + size][:, planes]


def _windows(crops: Sequence[Crop]) -> tuple[int, np.ndarray]:
    """The largest size of patches of which there are enough, and `(n, 3)` the crop and the corner of each."""
    for size in range(PATCH, LEAST - 1, -1):
        windows = [(number, *corner) for number, crop in enumerate(crops) for corner in crop.windows(size).tolist()]
        if len(windows) >= ENOUGH or (windows and size == LEAST):
            return size, np.array(windows)
    raise ValueError(
        f"the rims of {', '.join(crop.case for crop in crops)} hold no square of {LEAST} voxels; see has_tissue"
    )
