"""Pure, rank-generic functions on sets of boxes: torch in, torch out; numpy in, numpy out.

Boxes are `(n, 2, d)`: lower and upper corner, array-axis order, half-open, continuous. They may have any integer or
floating type; `number_types` says what type is computed in and comes back.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from boxel.ops.anchors import anchor_grid, octave_sizes
    from boxel.ops.batch_matching import match
    from boxel.ops.boxes import area, centre, clip, decode, encode, remove_small_boxes, size
    from boxel.ops.clustering import Clusters, Members, weighted_box_clustering, weighted_nms
    from boxel.ops.conventions import CONVENTIONS, convert
    from boxel.ops.fit import best_iou, fit_anchors
    from boxel.ops.fusion import weighted_box_fusion
    from boxel.ops.levels import assign_levels, assign_levels_fpn, assign_levels_mdt
    from boxel.ops.mask_grids import crop_masks, paste_mask, resample_masks
    from boxel.ops.masks import boxes_from_label_map, boxes_from_masks
    from boxel.ops.matching import BACKGROUND, IGNORED, match_atss, match_centre, match_iou
    from boxel.ops.overlaps import (
        complete_iou,
        distance_iou,
        generalized_iou,
        intersection_over_foreground,
        iou,
        paired_iou,
        paired_overlap,
    )
    from boxel.ops.regions import paste_regions, sample_regions, scale_gradient
    from boxel.ops.roi_pooling import pyramid_roi_align, roi_align
    from boxel.ops.slices import merge_slices
    from boxel.ops.suppression import nms, soft_nms
    from boxel.ops.tiling import mean_coverage, patch_centre_weight, tile_starts, tiles, whole_coverage
    from boxel.ops.transforms import mirror, rotate_quarters, transform

_HOME = {
    "anchors": "anchor_grid octave_sizes",
    "batch_matching": "match",
    "boxes": "area centre clip decode encode remove_small_boxes size",
    "clustering": "Clusters Members weighted_box_clustering weighted_nms",
    "conventions": "CONVENTIONS convert",
    "fit": "best_iou fit_anchors",
    "fusion": "weighted_box_fusion",
    "levels": "assign_levels assign_levels_fpn assign_levels_mdt",
    "mask_grids": "crop_masks paste_mask resample_masks",
    "masks": "boxes_from_label_map boxes_from_masks",
    "matching": "BACKGROUND IGNORED match_atss match_centre match_iou",
    "overlaps": "complete_iou distance_iou generalized_iou intersection_over_foreground iou paired_iou paired_overlap",
    "regions": "paste_regions sample_regions scale_gradient",
    "roi_pooling": "pyramid_roi_align roi_align",
    "slices": "merge_slices",
    "suppression": "nms soft_nms",
    "tiling": "mean_coverage patch_centre_weight tile_starts tiles whole_coverage",
    "transforms": "mirror rotate_quarters transform",
}
_MODULE = {name: f"boxel.ops.{module}" for module, names in _HOME.items() for name in names.split()}

__all__ = [
    "BACKGROUND",
    "CONVENTIONS",
    "IGNORED",
    "Clusters",
    "Members",
    "anchor_grid",
    "area",
    "assign_levels",
    "assign_levels_fpn",
    "assign_levels_mdt",
    "best_iou",
    "boxes_from_label_map",
    "boxes_from_masks",
    "centre",
    "clip",
    "complete_iou",
    "convert",
    "crop_masks",
    "decode",
    "distance_iou",
    "encode",
    "fit_anchors",
    "generalized_iou",
    "intersection_over_foreground",
    "iou",
    "match",
    "match_atss",
    "match_centre",
    "match_iou",
    "mean_coverage",
    "merge_slices",
    "mirror",
    "nms",
    "octave_sizes",
    "paired_iou",
    "paired_overlap",
    "paste_mask",
    "paste_regions",
    "patch_centre_weight",
    "pyramid_roi_align",
    "remove_small_boxes",
    "resample_masks",
    "roi_align",
    "rotate_quarters",
    "sample_regions",
    "scale_gradient",
    "size",
    "soft_nms",
    "tile_starts",
    "tiles",
    "transform",
    "weighted_box_clustering",
    "weighted_box_fusion",
    "weighted_nms",
    "whole_coverage",
]


def __getattr__(name: str) -> Any:
    """Import a public name at its first use: the package itself needs neither torch nor numba."""
    if name not in _MODULE:
        raise AttributeError(f"module 'boxel.ops' has no attribute {name!r}")
    return getattr(import_module(_MODULE[name]), name)


def __dir__() -> list[str]:
    return list(__all__)
