"""When a detection and an object belong together: by their overlap or by the distance of their centres."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from boxel.evaluation.box_table import BoxTable
from boxel.evaluation.masks import MaskOverlap

Kind = Literal["box_iou", "mask_iou", "mask_dice", "centre_distance", "relative_distance"]
KINDS = ("box_iou", "mask_iou", "mask_dice", "centre_distance", "relative_distance")


@dataclass(frozen=True)
class Criterion:
    """What the threshold of a match is compared with.

    "box_iou", "mask_iou", "mask_dice": overlap in 0..1, at least the threshold. "centre_distance": distance of the
    box centres, below the threshold (a radius in mm where `spacings` are given, else in voxels).
    "relative_distance": the same in units of the object's radius, half of its mean extent; 1 is LUNA16's rule.

    Attributes:
        kind: see above.
        spacings: mm per voxel along the array axes of each case.
        masks: what `overlap_masks` says of each case; for the mask criteria.
    """

    kind: Kind = "box_iou"
    spacings: Mapping[str, Sequence[float]] | None = None
    masks: Mapping[str, MaskOverlap] | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"criterion must be one of {', '.join(KINDS)}, got {self.kind!r}")
        if self.kind.startswith("mask") and self.masks is None:
            raise ValueError(f"criterion {self.kind!r} needs masks; pass them, or evaluate the boxes with 'box_iou'")

    @property
    def is_distance(self) -> bool:
        """Thresholds are radii."""
        return self.kind.endswith("distance")


def measure(
    criterion: Criterion,
    detected: BoxTable,
    targets: BoxTable,
    rows: np.ndarray,
    columns: np.ndarray,
    is_region: np.ndarray,
    cases: Sequence[str],
) -> tuple[np.ndarray, np.ndarray]:
    """The overlap of each pair, and the value that a threshold is compared with (higher is better)."""
    boxes, others = detected.boxes[rows], targets.boxes[columns]
    ious = box_overlap(boxes, others, is_region)
    if criterion.is_distance:
        spacings: np.ndarray | float = 1.0
        if criterion.spacings is not None:
            spacings = np.array([criterion.spacings[case] for case in cases])[detected.cases[rows]]
        return ious, -centre_distance(boxes, others, spacings, relative=criterion.kind == "relative_distance")
    if criterion.masks is not None and criterion.kind.startswith("mask"):
        ids = targets.values[columns].astype(np.int64)
        masked = _look_up(criterion, cases, detected.cases[rows], detected.indices[rows], ids)
        ious = np.where(is_region, ious, masked)
    return ious, ious


def within_reach(
    criterion: Criterion, detected: BoxTable, targets: BoxTable, cases: Sequence[str], farthest: float
) -> tuple[np.ndarray, np.ndarray]:
    """Regions `(n, 2, d)` around detections and targets; only where two meet can a pair match, or overlap.

    Args:
        farthest: pairs at this distance and beyond do not matter.
    """
    if criterion.kind == "box_iou":
        return detected.boxes, targets.boxes
    if not criterion.is_distance or not np.isfinite(farthest):
        everywhere = np.array([-np.inf, np.inf])[:, None]
        return np.zeros_like(detected.boxes), np.broadcast_to(everywhere, targets.boxes.shape)
    spacings: np.ndarray | float = 1.0
    if criterion.spacings is not None:
        spacings = np.array([criterion.spacings[case] for case in cases])[targets.cases]
    extents = (targets.boxes[:, 1] - targets.boxes[:, 0]) * spacings
    radius = np.abs(extents.mean(axis=-1, keepdims=True)) / 2 if criterion.kind == "relative_distance" else 1.0
    reach = 1.001 * farthest * radius / np.broadcast_to(spacings, extents.shape)  # more than any rounding error
    at, around = (np.repeat(rows.boxes.mean(axis=1, keepdims=True), 2, axis=1) for rows in (detected, targets))
    return at, around + np.stack([-reach, reach], axis=1)


def _look_up(
    criterion: Criterion, cases: Sequence[str], of_case: np.ndarray, indices: np.ndarray, ids: np.ndarray
) -> np.ndarray:
    values = np.zeros(len(of_case))
    order = np.argsort(of_case, kind="stable")
    for block in np.split(order, np.flatnonzero(np.diff(of_case[order])) + 1):
        if len(block):
            case = cases[of_case[block[0]]]
            if case not in (criterion.masks or {}):
                raise ValueError(f"case {case!r} has no masks; add them, or evaluate the boxes with 'box_iou'")
            overlap = (criterion.masks or {})[case]
            values[block] = overlap.of(indices[block], ids[block], dice=criterion.kind == "mask_dice")
    return values


def box_overlap(a: np.ndarray, b: np.ndarray, is_region: np.ndarray) -> np.ndarray:
    """IoU of row `i` of `a (p, 2, d)` with row `i` of `b`; where `is_region`, the share of `a` inside `b`."""
    inter = np.prod(np.clip(np.minimum(a[:, 1], b[:, 1]) - np.maximum(a[:, 0], b[:, 0]), 0, None), axis=-1)
    size = box_sizes(a)
    union = np.where(is_region, size, size + box_sizes(b) - inter)
    return np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)


def box_sizes(boxes: np.ndarray) -> np.ndarray:
    """`(n,)` volumes of `boxes (n, 2, d)`."""
    return np.prod(np.clip(boxes[:, 1] - boxes[:, 0], 0, None), axis=-1)


def centre_distance(a: np.ndarray, b: np.ndarray, spacings: np.ndarray | float, relative: bool) -> np.ndarray:
    """Distance of the centres of row `i` of `a (p, 2, d)` and of `b`, in `spacings (p, d)` or in radii of `b`."""
    distance = np.linalg.norm((a.mean(axis=1) - b.mean(axis=1)) * spacings, axis=-1)
    if not relative:
        return distance
    radius = ((b[:, 1] - b[:, 0]) * spacings).mean(axis=-1) / 2
    return np.divide(distance, radius, out=np.full(len(distance), np.inf), where=radius > 0)
