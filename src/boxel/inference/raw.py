"""Tiles x mirrored views x scales x checkpoints over one prepared image: every box they give, before consolidation.

Memory: one batch of tiles and, if asked for, the mean segmentation: of the planes that a tile reaches, or, with several
scales, of all planes. At another scale than 1 also the resized image, or one slice of it where slices are seen one by
one. Boxes are kept per tile after the model's own suppression.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch

from boxel.consolidation.views import view_axes, view_number
from boxel.inference.config import PredictConfig
from boxel.inference.network import Network, note, voxels_of_training
from boxel.inference.segmentation import MeanProbability
from boxel.models.base import Model
from boxel.nn import nd
from boxel.ops.tiling import fold_slices, mean_coverage, patch_centre_weight, tile_starts, whole_coverage
from boxel.slabs import Slabs, Voxels
from boxel.types import Detections, RawDetections, Task, rescale_boxes

BOXES = 2**14  # whose coverage is computed at a time


@dataclass(frozen=True)
class Tiles:
    """The tiles over an image at one scale.

    Attributes:
        shape: of the image at this scale.
        patch: extent of a tile along all its axes; slices are one voxel thick.
        starts: where tiles begin, per axis.
        batch: number of tiles that are seen at a time.
    """

    shape: tuple[int, ...]
    patch: tuple[int, ...]
    starts: tuple[tuple[int, ...], ...]
    batch: int

    @classmethod
    def at(cls, scale: float, shape: Sequence[int], task: Task, config: PredictConfig, most: float = math.inf) -> Self:
        """The tiles over an image of `shape` after resizing it along the axes of the model.

        Args:
            most: number of voxels that the memory allows in a batch; one patch is always seen.
        """
        lead = len(shape) - task.ndim
        scaled = (*shape[:lead], *(max(1, round(length * scale)) for length in shape[lead:]))
        patch = (1,) * lead + choose_tile(scaled[lead:], task, config, most)
        number = config.batch_size or voxels_of_training(task) // math.prod(patch)
        batch = max(1, int(min(number, most / math.prod(patch))))
        return cls(scaled, patch, place_tiles(scaled, patch, config), batch)

    def __str__(self) -> str:
        return f"{' x '.join(map(str, self.patch))} voxels, {self.batch} at a time"


def predict_raw(
    models: Sequence[Model],
    image: Voxels,
    fill: float,
    task: Task,
    config: PredictConfig,
    device: torch.device,
    planes: Callable[[np.ndarray], object] | None = None,
) -> RawDetections:
    """Every box of every view of `image (c, *s)`, in its voxels.

    Args:
        fill: value beyond the image's border.
        planes: if given, the image is also segmented: called with the mean probabilities `(k, p, *s)` of the classes
            that the models segment, without background, on the next planes of the first axis.
    """
    shape = image.shape[1:]
    lead = len(shape) - task.ndim
    network = Network.of(config, device, segment=planes is not None)
    grids = _tiles_within_memory(models[0], network, shape, task)
    parts: list[RawDetections] = []
    mean: np.ndarray | None = None
    for number, tiles in enumerate(grids):
        held: list[np.ndarray] = []
        own_planes = planes if not planes or [grid.shape for grid in grids] == [shape] else held.append
        raw = _predict_scale(models, at_scale(image, tiles.shape, lead), tiles, number, fill, task, network, own_planes)
        parts.append(replace(raw, boxes=rescale_boxes(raw.boxes, tiles.shape, shape)))
        if held:
            share = resize(np.concatenate(held, axis=1), shape, lead) / np.float32(len(grids))
            mean = share if mean is None else mean + share
    if planes and mean is not None:
        planes(mean)
    raw = RawDetections.concatenate(parts)
    covering = {"whole": whole_coverage, "mean": mean_coverage}[config.coverage]
    coverage = np.zeros(len(raw), np.float32)  # of a box by the tiles of all scales, so that they may differ in number
    for tiles in grids:
        boxes = torch.from_numpy(rescale_boxes(raw.boxes, shape, tiles.shape))
        if tiles.shape != shape:  # a box that ends with a tile must not exceed it by a rounding error
            boxes = boxes.round(decimals=3)
        # All boxes at once would be compared with all tiles of an axis.
        counts = torch.cat([covering(some, tiles.starts, tiles.patch) for some in boxes.split(BOXES)])
        coverage += counts.numpy().astype(np.float32) / np.float32(len(grids))
    num_views = len(models) * len(grids) * len(view_axes(config.views, task.ndim))
    capped = any(part.capped for part in parts)
    return replace(raw, coverage=coverage, num_views=num_views, slice_axes=lead, capped=capped)


def _predict_scale(
    models: Sequence[Model],
    image: Voxels,
    tiles: Tiles,
    number: int,
    fill: float,
    task: Task,
    network: Network,
    planes: Callable[[np.ndarray], object] | None,
) -> RawDetections:
    """Every box of the image at one scale, the `number`-th, in its voxels there; arguments as of `predict_raw`."""
    shape, lead, config = tiles.shape, len(tiles.shape) - task.ndim, network.config
    tile_size = tiles.patch[lead:]
    views = view_axes(config.views, task.ndim)
    mean = MeanProbability(shape, planes) if planes else None
    parts: list[RawDetections] = []
    capped = False
    for tile_batch in _batched(enumerate(itertools.product(*tiles.starts)), tiles.batch):
        crops = [
            fold_slices(crop(image, lower, tiles.patch, lead, task.context, fill), lead) for _, lower in tile_batch
        ]
        images = torch.from_numpy(np.stack(crops)).to(network.device)
        for (index, model), (turn, axes) in itertools.product(enumerate(models), enumerate(views)):
            spatial = [axis + 2 for axis in axes]
            per_tile, maps = network.see(model, images.flip(spatial) if spatial else images)
            view = view_number(index, number, turn, num_scales=len(config.scales), num_mirrors=len(views))
            for (tile, lower), detections in zip(tile_batch, per_tile, strict=True):
                capped |= detections.capped
                placed = _unmirror(detections, axes, tile_size).map(lambda t: t.float().cpu().numpy())
                part = _place(placed, lower, tile_size, shape, view, tile)
                if len(part) or not parts:  # most tiles of a large image are empty
                    parts.append(part)
            if mean and maps is not None:
                probabilities = maps.float().flip(spatial)[:, 1:]
                for (_, lower), tile_probabilities in zip(tile_batch, probabilities, strict=True):
                    mean.add(tile_probabilities, lower)
        if mean:
            mean.finish(tile_batch[-1][1][0])  # tiles come in the order of their first axis
    if mean:
        mean.finish(shape[0])
    return replace(RawDetections.concatenate(parts), capped=capped)


def _tiles_within_memory(model: Model, network: Network, shape: Sequence[int], task: Task) -> list[Tiles]:
    """The tiles over an image at each scale; a note says where the memory makes them smaller than they were set."""
    config = network.config
    wanted = [Tiles.at(scale, shape, task, config) for scale in config.scales]
    most = network.most_voxels(model, max(grid.batch * math.prod(grid.patch) for grid in wanted), task)
    grids = [Tiles.at(scale, shape, task, config, most) for scale in config.scales]
    for one, other in zip(wanted, grids, strict=True):
        if one != other:
            text = f"tiles of {one}, take too much memory: those of {other}, are seen"
            note(model, f"{text}; set predict.memory (GiB) to allow more")
    return grids


def resize(array: np.ndarray, shape: Sequence[int], lead: int = 0) -> np.ndarray:
    """`array (c, *s)` on a grid of `shape` with the same outer faces, linearly as images are prepared.

    Args:
        lead: number of leading axes of `shape` that keep their length: slices are resized one by one.
    """
    if array.shape[1:] == tuple(shape):
        return array
    slices = torch.from_numpy(array.reshape(1, -1, *array.shape[1 + lead :]))
    return nd.resize(slices, tuple(shape[lead:]), linear=True).numpy().reshape(len(array), *shape)


def at_scale(image: Voxels, shape: Sequence[int], lead: int) -> Voxels:
    """An image `(c, *s)` on a grid of `shape`, see `resize`; slices are resized when they are asked for."""
    if image.shape[1:] == tuple(shape):
        return image
    everything = slice(None)
    if not lead:
        return resize(image[everything, everything], shape)

    def planes(first: int, last: int) -> np.ndarray:
        return resize(image[everything, slice(first, last)], (last - first, *shape[1:]), lead)

    return Slabs((len(image), *shape), np.dtype(np.float32), planes)


def place_tiles(shape: Sequence[int], patch: Sequence[int], config: PredictConfig) -> tuple[tuple[int, ...], ...]:
    """Where tiles begin, per axis; on an axis shorter than the patch, one tile has the image in its middle."""
    starts = tile_starts(shape, patch, [int(size * config.overlap) for size in patch])
    return tuple(
        ((length - size) // 2,) if length < size else begin
        for begin, length, size in zip(starts, shape, patch, strict=True)
    )


def choose_tile(shape: Sequence[int], task: Task, config: PredictConfig, most: float) -> tuple[int, ...]:
    """The patch, or larger towards `shape` within `tile_voxels` and `most`; a multiple of the backbone's stride."""
    if config.tile_voxels is None:
        return task.patch_size
    growth = max(1.0, (min(config.tile_voxels, most) / math.prod(task.patch_size)) ** (1 / task.ndim))
    units = np.prod(np.asarray(task.strides), axis=0)
    return tuple(
        max(patch, int(min(math.ceil(length / unit), patch * growth // unit) * unit))
        for length, patch, unit in zip(shape, task.patch_size, units, strict=True)
    )


def crop(image: Voxels, lower: Sequence[int], patch: Sequence[int], lead: int, context: int, fill: float) -> np.ndarray:
    """The region of a tile with its context slices, padded with `fill` beyond the image."""
    grow = np.asarray([context] * lead + [0] * (len(patch) - lead))
    first, last = np.asarray(lower) - grow, np.asarray(lower) + np.asarray(patch) + grow
    out = np.full((len(image), *(last - first)), fill, dtype=np.float32)
    inside_first, inside_last = np.maximum(first, 0), np.minimum(last, image.shape[1:])
    source = tuple(slice(a, b) for a, b in zip(inside_first, inside_last, strict=True))
    target = tuple(slice(a, b) for a, b in zip(inside_first - first, inside_last - first, strict=True))
    out[(slice(None), *target)] = image[(slice(None), *source)]
    return out


def _unmirror(
    detections: Detections[torch.Tensor], axes: Sequence[int], patch: Sequence[int]
) -> Detections[torch.Tensor]:
    boxes = detections.boxes.clone()
    for axis in axes:
        boxes[:, :, axis] = patch[axis] - boxes[:, :, axis].flip(1)
    masks = None if detections.masks is None else detections.masks.flip([axis + 1 for axis in axes])
    return replace(detections, boxes=boxes, masks=masks)


def _place(
    detections: Detections,
    lower: tuple[int, ...],
    tile_size: tuple[int, ...],
    shape: tuple[int, ...],
    view: int,
    tile: int,
) -> RawDetections:
    """A tile's boxes in the voxels of the image, with their view and tile; their coverage is computed later."""
    boxes, masks = detections.boxes, detections.masks
    weights = patch_centre_weight(torch.from_numpy(boxes), (0.0,) * len(tile_size), tile_size)
    lead = len(shape) - len(tile_size)
    if masks is not None:  # float16 is plenty; slices are one cell thick
        masks = masks.astype(np.float16).reshape(len(masks), *(1,) * lead, *masks.shape[1:])
    slices = np.broadcast_to(np.asarray([[0], [1]], np.float32), (len(boxes), 2, lead))
    boxes = np.concatenate([slices, boxes], axis=2) + np.asarray(lower, np.float32)
    boxes = np.clip(boxes, 0, np.asarray(shape, np.float32))
    real = (boxes[:, 1] > boxes[:, 0]).all(-1)
    raw = RawDetections(
        boxes=boxes.astype(np.float32),
        scores=detections.scores,
        labels=detections.labels.astype(np.int64),
        views=np.full(len(boxes), view, np.int64),
        tiles=np.full(len(boxes), tile, np.int64),
        weights=weights.numpy().astype(np.float32),
        coverage=np.ones(len(boxes), np.float32),
        masks=masks,
    )
    return raw[real]


def _batched(items: Iterator[tuple[int, tuple[int, ...]]], size: int) -> Iterator[list[tuple[int, tuple[int, ...]]]]:
    while batch := list(itertools.islice(items, size)):
        yield batch
