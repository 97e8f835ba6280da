"""One box per object from the boxes of all views and tiles, and its mask from their masks."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from boxel.caps import leaves_out
from boxel.consolidation.config import ConsolidateConfig
from boxel.types import Detections, Geometry, RawDetections, rescale_boxes

if TYPE_CHECKING:
    from torch import Tensor

    from boxel.ops import Clusters


def consolidate(
    raw: RawDetections,
    config: ConsolidateConfig | None = None,
    *,
    geometry: Geometry | None = None,
    shape: Sequence[int] | None = None,
) -> Detections:
    """Merge the boxes of all views and tiles of one image into one box per object.

    Slice-wise models predict boxes that are one slice thick along the first axis. Boxes of different slices do not
    overlap, so clustering in the volume is clustering per slice, and `merge_slices_iou` then joins the results
    (the adapted NMS of Jaeger et al., arXiv 1811.08661, section 4.2: `boxel.ops.merge_slices`).

    Args:
        raw: boxes of one image; empty or zero-size boxes are dropped.
        config: the settings; None: the defaults.
        geometry: of the image that the detections are reported in, kept with the result.
        shape: voxels per axis of the prepared image that `raw` refers to, where it differs from `geometry`: boxes
            are scaled to the voxels of `geometry`.

    Returns:
        Detections by descending score; with masks where `raw` has them. `capped` says whether there were more.

    Raises:
        ValueError: `shape` without `geometry`.

    Example:
        >>> import numpy as np
        >>> raw = boxel.RawDetections(  # two views of one object, tile 0
        ...     boxes=np.array([[[0, 0], [10, 10]], [[0, 0], [10, 12]]], np.float32),
        ...     scores=np.array([0.8, 0.6], np.float32), labels=np.array([0, 0]), views=np.array([0, 1]),
        ...     tiles=np.array([0, 0]), weights=np.ones(2, np.float32), coverage=np.ones(2, np.float32), num_views=2)
        >>> boxel.consolidate(raw, boxel.ConsolidateConfig(method="nms")).boxes.tolist()
        [[[0.0, 0.0], [10.0, 10.0]]]
    """
    import torch

    from boxel.ops import merge_slices

    if shape is not None and geometry is None:
        raise ValueError("shape is given without geometry: boxes cannot be scaled to an unknown image")
    config = config or ConsolidateConfig()
    raw = raw.map(np.asarray)
    raw = raw[(raw.boxes[:, 1] > raw.boxes[:, 0]).all(axis=1)]
    clusters = _reduce(raw.map(torch.from_numpy), config)
    merge_iou = config.merge_slices_iou if raw.slice_axes else None
    best = slice(config.max_detections)
    kept = best if merge_iou is None else slice(None)
    masks = None if raw.masks is None else _join_masks(raw.boxes, raw.masks, raw.scores * raw.weights, clusters, kept)
    if merge_iou is not None:
        slice_boxes = clusters.boxes
        clusters = merge_slices(
            slice_boxes[:, :, 1:],
            clusters.scores,
            slice_boxes[:, 0, 0].round().long(),
            labels=clusters.labels,
            iou_threshold=merge_iou,
        )
        if masks is not None:
            masks = _join_masks(slice_boxes.numpy(), masks, None, clusters, best)
    boxes, scores, labels = (column[best].numpy() for column in clusters[:3])
    if shape is not None and geometry is not None:
        boxes = rescale_boxes(boxes, shape, geometry.shape)
    capped = raw.capped or leaves_out(clusters.scores, len(scores))
    return Detections(boxes, scores, labels, geometry, masks, capped)


def _reduce(raw: "RawDetections[Tensor]", config: ConsolidateConfig) -> "Clusters":
    """Clusters by descending score, none below `min_score`, with their member rows."""
    import torch

    from boxel import ops

    boxes, scores, labels = raw.boxes, raw.scores, raw.labels
    iou_threshold, min_score = config.iou_threshold, config.min_score
    match config.method:
        case "wbc":
            num_tiles = int(raw.tiles.max()) + 1 if len(raw) else 1
            return ops.weighted_box_clustering(
                boxes,
                scores,
                labels=labels,
                iou_threshold=iou_threshold,
                expected_views=raw.num_views,
                view_ids=raw.views.long() * num_tiles + raw.tiles,
                weights=raw.weights,
                tiles_covering=raw.coverage,
                min_score=min_score,
                one_vote_per_view=config.one_vote_per_view,
            )
        case "wbf":
            return ops.weighted_box_fusion(
                boxes,
                scores,
                labels=labels,
                iou_threshold=iou_threshold,
                expected_views=raw.num_views,
                min_score=min_score,
            )
        case "weighted_nms":
            return ops.weighted_nms(boxes, scores, labels=labels, iou_threshold=iou_threshold, min_score=min_score)
        case "soft_nms":
            kept, scores = ops.soft_nms(
                boxes, scores, labels=labels, decay="linear", iou_threshold=iou_threshold, min_score=min_score
            )
        case "nms":
            kept = ops.nms(boxes, scores, iou_threshold, labels=labels)
            kept = kept[scores[kept] >= min_score]
            scores = scores[kept]
    return ops.Clusters(boxes[kept], scores, labels[kept], ops.Members(kept, torch.arange(len(kept) + 1)))


def _join_masks(
    boxes: np.ndarray, masks: np.ndarray, weights: np.ndarray | None, clusters: "Clusters", kept: slice
) -> np.ndarray:
    """The masks of clusters, each over its cluster's box: the members' weighted mean or, without weights, their sum.

    The sum is for slices: each fills its own part of the volume's grid, which is as fine along the slices as across.
    """
    import torch

    from boxel.ops import resample_masks

    rows, offsets = (column.numpy() for column in clusters.members)
    numbers = range(len(offsets) - 1)[kept]
    grid = masks.shape[1:] if weights is not None else tuple(max(masks.shape[1:]) for _ in masks.shape[1:])
    joined = np.zeros((len(numbers), *grid), np.float16)
    for place, number in enumerate(numbers):
        members = rows[offsets[number] : offsets[number + 1]]
        target = clusters.boxes[number].expand(len(members), -1, -1)
        aligned = resample_masks(
            torch.from_numpy(masks[members].astype(np.float32)), torch.from_numpy(boxes[members]), target, grid
        ).numpy()
        shares = np.ones(len(members)) if weights is None else weights[members] / weights[members].sum()
        joined[place] = np.tensordot(shares, aligned, 1).clip(0, 1)
    return joined
