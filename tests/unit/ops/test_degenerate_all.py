"""Every public operator says which row is broken, or does what its documentation says.

One table over all of `boxel.ops`: what happens for a box with a NaN, an inverted one, one without extent, and an
argument of the wrong shape. A string is the complaint; a number is what must come back for the box in question.
"""

import json
import math
import re
import subprocess
import sys

import pytest
import torch

from boxel import ops

NOT_CALLED = {"BACKGROUND", "CONVENTIONS", "IGNORED", "Clusters", "Members"}
NAN, STARTS = math.nan, ((0, 4), (0, 4))
SHAPE, BOX = r"\(n, 2, d\)", r"boxes\[1\] .*finite, the lower not above"
ROW, CORNERS = BOX.replace("boxes", "anchors"), r"end in \(2, d\)"


def sizes_of(boxes):
    return boxes[..., 1, :] - boxes[..., 0, :] if boxes.dim() > 2 else boxes


def grouping(function, **options):
    def call(boxes):
        result = function(boxes, torch.tensor([0.9, 0.8]), **options)
        kept = result if isinstance(result, torch.Tensor) else result[0]
        return kept if kept.dim() < 2 else torch.arange(len(kept))

    return call


def matching(function, *, per_level=False, boxes_broken=True, **options):
    """Of two anchors and two objects, one set good and the other as given: what the second anchor gets."""

    def call(given):
        good = torch.tensor([[[0.0, 0], [4, 4]], [[0, 0], [4, 4]]])
        anchors, boxes = (good, given) if boxes_broken else (given, good)
        return function([anchors] if per_level else anchors, boxes, **options)[1]

    return call


IOU = {"positive": 0.5, "negative": 0.1}
GROUPED = (BOX, BOX, [0, 1], SHAPE)  # the box without extent stays
OBJECTS = (BOX, BOX, 0, SHAPE)  # the first object is matched
ANCHORS = (ROW, ROW, ops.BACKGROUND, SHAPE)
PASTED = BOX.replace(r"boxes\[1", r"box\[None\]\[0")
EXTENTS = r"sizes\[1\] .*positive and finite"

# name: the call with boxes whose second is broken, then nan, inverted, zero-size, wrong shape
TABLE = {
    "area": (lambda boxes: ops.area(boxes)[1], NAN, 0, 0, CORNERS),
    "centre": (lambda boxes: ops.centre(boxes)[1, 0], NAN, 3, 2, CORNERS),
    "size": (lambda boxes: ops.size(boxes)[1, 0], NAN, 0, 0, CORNERS),
    "clip": (lambda boxes: ops.clip(boxes, (9, 9))[1, 1, 0], NAN, 2, 2, CORNERS),
    "iou": (lambda boxes: ops.iou(boxes, boxes)[1, 1], NAN, 0, 0, CORNERS),
    "generalized_iou": (lambda boxes: ops.generalized_iou(boxes, boxes)[1, 1], NAN, 0, 0, CORNERS),
    "distance_iou": (lambda boxes: ops.distance_iou(boxes, boxes)[1, 1], NAN, 0, 0, CORNERS),
    "complete_iou": (lambda boxes: ops.complete_iou(boxes, boxes)[1, 1], NAN, 0, 0, CORNERS),
    "intersection_over_foreground": (
        lambda boxes: ops.intersection_over_foreground(boxes, boxes)[1, 1], NAN, 0, 0, CORNERS
    ),
    "remove_small_boxes": (lambda boxes: ops.remove_small_boxes(boxes, 1), BOX, BOX, [0], SHAPE),
    "mirror": (lambda boxes: ops.mirror(boxes, (9, 9), [0])[1, 0, 0], NAN, 7, 7, CORNERS),
    "rotate_quarters": (lambda boxes: ops.rotate_quarters(boxes, (9, 9), 1)[1, 0, 0], NAN, 7, 7, CORNERS),
    "transform": (lambda boxes: ops.transform(boxes, torch.eye(3))[1, 1, 0], NAN, 4, 2, CORNERS),
    "paired_iou": (lambda boxes: ops.paired_iou(boxes, boxes)[1], NAN, 0, 0, CORNERS),
    "paired_overlap": (lambda boxes: ops.paired_overlap(boxes, boxes, "ciou")[1], NAN, 0, 0, CORNERS),
    "encode": (
        lambda boxes: ops.encode(boxes, boxes[:1].expand_as(boxes))[1, 1, 0], NAN, -math.inf, -math.inf, CORNERS
    ),
    "decode": (lambda boxes: ops.decode(torch.ones_like(boxes), boxes)[1, 0, 0], NAN, 3, 2, CORNERS),
    "convert": (lambda boxes: ops.convert(boxes, "boxel", "xyzxyz")[1, 3], NAN, 2, 2, SHAPE),
    "anchor_grid": (
        lambda boxes: ops.anchor_grid((2, 2), (4, 4), sizes_of(boxes)),
        EXTENTS, EXTENTS, EXTENTS, r"sizes must have shape \(a, 2\)",
    ),
    "octave_sizes": (
        lambda boxes: ops.octave_sizes(float(sizes_of(boxes).flatten()[-1])),
        "scale is nan", "scale is -2.0", "scale is 0.0", None,
    ),
    "best_iou": (
        lambda boxes: ops.best_iou(sizes_of(boxes), torch.ones(1, 2)), EXTENTS, EXTENTS, EXTENTS, r"anchor_sizes must"
    ),
    "fit_anchors": (lambda boxes: ops.fit_anchors(sizes_of(boxes), 1), EXTENTS, EXTENTS, EXTENTS, None),
    "boxes_from_label_map": (
        lambda boxes: ops.boxes_from_label_map(boxes, torch.tensor([1])), *["label_map holds torch.float32"] * 4
    ),
    "boxes_from_masks": (lambda boxes: ops.boxes_from_masks(boxes), *["masks hold torch.float32"] * 4),
    "tile_starts": (
        lambda boxes: ops.tile_starts(sizes_of(boxes)[-1].tolist(), (4, 4), 1),
        r"shape is \(nan", r"shape is \(-2\.0", r"shape is \(0\.0", "patch_size is",
    ),
    "tiles": (
        lambda boxes: ops.tiles(sizes_of(boxes)[-1].tolist(), (4, 4), 1),
        r"shape is \(nan", r"shape is \(-2\.0", r"shape is \(0\.0", "patch_size is",
    ),
    "patch_centre_weight": (
        lambda boxes: ops.patch_centre_weight(boxes, (0, 0), (4, 4))[1], BOX, BOX, 1, SHAPE
    ),
    "mean_coverage": (lambda boxes: ops.mean_coverage(boxes, STARTS, (4, 4))[1], BOX, BOX, 1, SHAPE),
    "whole_coverage": (lambda boxes: ops.whole_coverage(boxes, STARTS, (4, 4))[1], BOX, BOX, 1, SHAPE),
    "assign_levels": (lambda boxes: ops.assign_levels(boxes, [(1, 1), (2, 2)])[1], 0, 0, 0, CORNERS),
    "assign_levels_fpn": (lambda boxes: ops.assign_levels_fpn(boxes, [2, 3])[1], 0, 0, 0, CORNERS),
    "assign_levels_mdt": (lambda boxes: ops.assign_levels_mdt(boxes, (8, 8), 4)[1], 0, 0, 0, CORNERS),
    "pyramid_roi_align": (
        lambda boxes: ops.pyramid_roi_align(
            [torch.ones(1, 1, 6, 6)], boxes, *torch.zeros(2, 2).long(), output_size=(2, 2), strides=[(1, 1)]
        )[1, 0, 0, 0],
        NAN, 1, 1, CORNERS,
    ),
    "roi_align": (
        lambda boxes: ops.roi_align(
            torch.ones(1, 1, 6, 6), boxes, torch.zeros(2).long(), output_size=(2, 2), stride=(1, 1)
        )[1, 0, 0, 0],
        NAN, 1, 1, CORNERS,
    ),
    "crop_masks": (
        lambda boxes: ops.crop_masks(
            torch.ones(1, 6, 6).long(), boxes, *torch.tensor([[0, 0], [1, 1]]), (2, 2)
        )[1, 0, 0],
        BOX, BOX, 0, SHAPE,
    ),
    "paste_mask": (
        lambda boxes: ops.paste_mask(torch.ones(2, 2), boxes[1], (6, 6))[1].sum(), PASTED, PASTED, 0, SHAPE
    ),
    "resample_masks": (
        lambda boxes: ops.resample_masks(torch.ones(2, 2, 2), boxes, boxes[:1].expand_as(boxes), (2, 2))[1, 0, 0],
        BOX, BOX, 0, SHAPE,
    ),
    "paste_regions": (
        lambda boxes: ops.paste_regions(torch.ones(2, 1, 2, 2), boxes, (6, 6))[1].sum(), BOX, BOX, 0, SHAPE
    ),
    "sample_regions": (
        lambda boxes: ops.sample_regions(torch.ones(1, 1, 6, 6), boxes, torch.zeros(2).long(), (2, 2))[1, 0, 0, 0],
        NAN, 1, 1, SHAPE,
    ),
    "scale_gradient": (lambda boxes: ops.scale_gradient(boxes, 0.1).flatten()[-1], NAN, 2, 2, None),
    "nms": (grouping(ops.nms, iou_threshold=0.5), *GROUPED),
    "soft_nms": (grouping(ops.soft_nms), *GROUPED),
    "weighted_nms": (grouping(ops.weighted_nms, iou_threshold=0.5), *GROUPED),
    "weighted_box_clustering": (
        grouping(ops.weighted_box_clustering, iou_threshold=0.5, expected_views=1), *GROUPED
    ),
    "weighted_box_fusion": (grouping(ops.weighted_box_fusion, expected_views=1), *GROUPED),
    "merge_slices": (grouping(ops.merge_slices, slices=torch.tensor([0, 1]), iou_threshold=0.5), *GROUPED),
    "match": (lambda boxes: ops.match(boxes[:1], [boxes], rule="iou", **IOU)[0, 0], "image 0: " + BOX, BOX, 0, SHAPE),
    "match_iou": (matching(ops.match_iou, **IOU), *OBJECTS),
    "match_iou, anchors": (matching(ops.match_iou, boxes_broken=False, **IOU), *ANCHORS[:3], CORNERS),
    "match_atss": (matching(ops.match_atss, per_level=True), *OBJECTS),
    "match_atss, anchors": (
        matching(ops.match_atss, per_level=True, boxes_broken=False),
        *(part if part == ops.BACKGROUND else part.replace("anchors", r"anchors_per_level\[0\]") for part in ANCHORS),
    ),
    "match_centre": (
        lambda boxes: ops.match_centre([torch.tensor([[1.0, 1]])], boxes, strides=[(4, 4)])[0], *OBJECTS
    ),
    "match_centre, cells": (
        lambda boxes: ops.match_centre([boxes[:, 1]], torch.ones(1, 2, 2).cumsum(1), strides=[(4, 4)])[1],
        r"cells_per_level\[0\]\[1\] is", ops.BACKGROUND, ops.BACKGROUND, r"cells_per_level\[0\] must have shape",
    ),
}  # fmt: skip


def test_every_public_operator_is_in_the_table():
    assert {name.split(",")[0] for name in TABLE} == set(ops.__all__) - NOT_CALLED


def boxes_with(second):
    return torch.tensor([[[0.0, 0], [4, 4]], second])


BROKEN = {
    "nan": boxes_with([[2.0, 2], [NAN, NAN]]),
    "inverted": boxes_with([[4.0, 4], [2, 2]]),
    "zero-size": boxes_with([[2.0, 2], [2, 2]]),
    "wrong shape": torch.ones(3, 4),
}


@pytest.fixture(scope="module")
def outcomes():
    """What happens in a process of its own, where annotations are not checked as they are in tests."""
    result = subprocess.run([sys.executable, __file__], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(result.stdout)


@pytest.mark.parametrize("engine_name", ["compiled", "plain"])
@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("name", TABLE)
def test_broken_input_is_named_or_has_a_meaning(outcomes, engine_name, name, broken):
    expected = TABLE[name][1:][list(BROKEN).index(broken)]
    kind, outcome = outcomes[engine_name][name][broken]
    if isinstance(expected, str):
        assert kind == "ValueError"
        assert re.search(expected, outcome)
    elif expected is not None:
        assert kind == "value"
        assert outcome == expected or (expected != expected and outcome != outcome)


def happens(call, broken):
    try:
        return "value", torch.as_tensor(call(broken.clone())).tolist()
    except Exception as error:
        return type(error).__name__, str(error)


if __name__ == "__main__":
    import boxel.ops.arrays

    tables = {}
    for engine_name in ("compiled", "plain"):
        tables[engine_name] = {
            name: {kind: happens(row[0], boxes) for kind, boxes in BROKEN.items()} for name, row in TABLE.items()
        }
        boxel.ops.arrays._compiled = lambda: None
    print(json.dumps(tables))
