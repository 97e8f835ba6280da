"""Boxes of every number type give what the same boxes give in float64, in the type that `number_types` states."""

import numpy as np
import pytest
import torch

from boxel import ops
from boxel.ops.number_types import as_float, as_floats

# The type that is computed in, and a factor for coordinates up to 127: their sums, areas and volumes are more than most
# of the types hold.
TYPES = {
    torch.int8: (torch.float32, 1),
    torch.uint8: (torch.float32, 1),
    torch.int16: (torch.float64, 1 << 8),
    torch.uint16: (torch.float64, 1 << 8),
    torch.int32: (torch.float64, 1 << 24),
    torch.uint32: (torch.float64, 1 << 24),
    torch.int64: (torch.float64, 1 << 24),
    torch.uint64: (torch.float64, 1 << 24),
    torch.float16: (torch.float32, 1 << 8),
    torch.bfloat16: (torch.float32, 1 << 8),
    torch.float32: (torch.float32, 1 << 8),
    torch.float64: (torch.float64, 1 << 8),
}
LARGE = torch.tensor([[[0, 4, 8], [100, 104, 127]], [[2, 9, 0], [99, 120, 110]], [[60, 50, 40], [124, 114, 104]],
                      [[64, 56, 46], [127, 112, 108]]], dtype=torch.float64)  # fmt: skip
SMALL = torch.tensor([[[0, 1, 2], [6, 7, 8]], [[2, 3, 4], [9, 8, 7]], [[1, 1, 1], [2, 3, 4]], [[3, 2, 1], [8, 8, 8]]],
                     dtype=torch.float64)  # fmt: skip
OTHER, SCORES = [1, 0, 3, 2], torch.tensor([0.9, 0.8, 0.7, 0.6])
LABELS, VIEWS = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
IOU = {"positive": 0.5, "negative": 0.1}
NOT_CALLED = {"BACKGROUND", "CONVENTIONS", "IGNORED", "Clusters", "Members"}
WITHOUT_BOXES = {"octave_sizes", "tile_starts", "tiles"}
KEEP_THE_TYPE = {"clip", "scale_gradient"}


class Given:
    """The arguments of a call: boxes of the type in question, and numbers that suit them.

    Attributes:
        large: boxes with coordinates up to 127 `unit`.
        small: boxes in an image of 9 voxels per axis.
    """

    def __init__(self, dtype, unit, ndim, numpy):
        self.large, self.small = ((boxes[:, :, :ndim] * by).to(dtype) for boxes, by in ((LARGE, unit), (SMALL, 1)))
        if numpy:
            self.large, self.small = self.large.numpy(), self.small.numpy()
        self.unit, self.ndim = unit, ndim

    def axes(self, number):
        return (number,) * self.ndim

    def units(self, number):
        return self.axes(number * self.unit)

    def image(self, *lead):
        return (torch.arange(9.0**self.ndim).reshape(self.axes(9)) % 5).expand(*lead, *self.axes(9)).contiguous()


def grouped(function, **options):
    return lambda x: function(x.large, SCORES, labels=LABELS, **options)


def integers(values):
    """Label maps and masks are integers: floating types are left out."""
    if isinstance(values, np.ndarray):
        return values.astype(np.int64) if values.dtype.kind == "f" else values
    return values.long() if values.is_floating_point() else values


CALLS = {
    "area": lambda x: ops.area(x.large),
    "centre": lambda x: ops.centre(x.large),
    "size": lambda x: ops.size(x.large),
    "clip": lambda x: ops.clip(x.large, (*x.units(50)[1:], 1000 * x.unit)),
    "iou": lambda x: ops.iou(x.large, x.large[:3]),
    "generalized_iou": lambda x: ops.generalized_iou(x.large, x.large[:3]),
    "distance_iou": lambda x: ops.distance_iou(x.large, x.large[:3]),
    "complete_iou": lambda x: ops.complete_iou(x.large, x.large[:3]),
    "intersection_over_foreground": lambda x: ops.intersection_over_foreground(x.large, x.large[:3]),
    "paired_iou": lambda x: ops.paired_iou(x.large, x.large[OTHER]),
    "paired_overlap": lambda x: ops.paired_overlap(x.large, x.large[OTHER], "ciou"),
    "remove_small_boxes": lambda x: ops.remove_small_boxes(x.large, 70 * x.unit),
    "mirror": lambda x: ops.mirror(x.large, x.units(200), [0, -1]),
    "rotate_quarters": lambda x: ops.rotate_quarters(x.large, x.units(200), 3),
    "transform": lambda x: ops.transform(x.large, torch.eye(x.ndim + 1) * 300 - 1),
    "encode": lambda x: ops.encode(x.large, x.large[OTHER]),
    "decode": lambda x: ops.decode(x.small, x.large),
    "convert": lambda x: ops.convert(ops.convert(x.large, "boxel", "cccwhd"), "coco", "mdt"),
    "anchor_grid": lambda x: ops.anchor_grid(x.axes(2), x.axes(4), x.small[:, 1]),
    "best_iou": lambda x: ops.best_iou(x.large[:, 1], x.large[:2, 1]),
    "fit_anchors": lambda x: ops.fit_anchors(x.large[:, 1], 2, steps=3),
    "boxes_from_label_map": lambda x: ops.boxes_from_label_map(integers(x.small[0]), torch.tensor([7, 1])),
    "boxes_from_masks": lambda x: ops.boxes_from_masks(integers(x.small)),
    "patch_centre_weight": lambda x: ops.patch_centre_weight(x.large, x.large[:, 0], x.units(128)),
    "mean_coverage": lambda x: ops.mean_coverage(x.large, (x.units(40)[:1],) * x.ndim, x.units(80)),
    "whole_coverage": lambda x: ops.whole_coverage(x.large, (x.units(40)[:1],) * x.ndim, x.units(90)),
    "assign_levels": lambda x: ops.assign_levels(x.large, [x.units(4), x.units(9), x.units(16)]),
    "assign_levels_fpn": lambda x: ops.assign_levels_fpn(x.large, [2, 3, 4, 5, 20, 30]),
    "assign_levels_mdt": lambda x: ops.assign_levels_mdt(x.large, x.units(128), 6),
    "pyramid_roi_align": lambda x: ops.pyramid_roi_align(
        [x.image(2, 1), x.image(2, 1)[:, :, ::2]], x.small, VIEWS, LABELS, output_size=x.axes(2),
        strides=[x.axes(1), x.axes(2)],
    ),
    "roi_align": lambda x: ops.roi_align(x.image(2, 1), x.small, VIEWS, output_size=x.axes(2), stride=x.axes(1)),
    "crop_masks": lambda x: ops.crop_masks(x.image(2).long(), x.small, VIEWS, LABELS, x.axes(4)),
    "paste_mask": lambda x: ops.paste_mask(x.image() / 5, x.small[1], x.axes(9))[1],
    "resample_masks": lambda x: ops.resample_masks(x.image(4), x.small, x.small[OTHER], x.axes(4)),
    "paste_regions": lambda x: ops.paste_regions(x.image(4, 1), x.small, x.axes(9)),
    "sample_regions": lambda x: ops.sample_regions(x.image(2, 1), x.small, VIEWS, x.axes(4)),
    "scale_gradient": lambda x: ops.scale_gradient(x.large, 0.1),
    "nms": grouped(ops.nms, iou_threshold=0.3),
    "soft_nms": grouped(ops.soft_nms),
    "weighted_nms": grouped(ops.weighted_nms, iou_threshold=0.3),
    "weighted_box_clustering": grouped(
        ops.weighted_box_clustering, iou_threshold=0.3, expected_views=3, view_ids=VIEWS, inclusive=True
    ),
    "weighted_box_fusion": grouped(ops.weighted_box_fusion, iou_threshold=0.3, expected_views=3),
    "merge_slices": lambda x: ops.merge_slices(x.large, SCORES, VIEWS, iou_threshold=0.2, inclusive=True),
    "match": lambda x: ops.match(x.large, [x.large[:2], x.large[2:3]], rule="iou", **IOU),
    "match_iou": lambda x: ops.match_iou(x.large, x.large[:2], **IOU),
    "match_atss": lambda x: ops.match_atss([x.large, x.large[:1]], x.large[1:3], candidates=2, centre_inside=True),
    "match_centre": lambda x: ops.match_centre([x.large[:, 1]], x.large[:2], strides=[x.units(64)]),
}  # fmt: skip


def test_every_public_operator_is_called():
    assert CALLS.keys() == set(ops.__all__) - NOT_CALLED - WITHOUT_BOXES


def flat(result):
    return [part for item in result for part in flat(item)] if isinstance(result, tuple | list) else [result]


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("name", CALLS)
def test_boxes_of_any_type_give_the_results_of_float64(name, dtype, ndim):
    working, unit = TYPES[dtype]
    expected = flat(CALLS[name](Given(torch.float64, unit, ndim, numpy=False)))
    for numpy in (False, True) if dtype != torch.bfloat16 else (False,):  # numpy has no bfloat16
        results = flat(CALLS[name](Given(dtype, unit, ndim, numpy)))
        assert len(results) == len(expected)
        for result, want in zip(results, expected, strict=True):
            assert isinstance(result, np.ndarray) == numpy
            returned = torch.as_tensor(result)
            follows = want.dtype == torch.float64  # other types do not depend on that of the boxes
            assert returned.dtype == ((dtype if name in KEEP_THE_TYPE else working) if follows else want.dtype)
            assert torch.allclose(returned.double(), want.double(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "extent", "axes"),
    [
        (torch.int16, 64, 3),
        (torch.int8, 100, 2),
        (torch.int32, 1300, 3),
        (torch.float16, 300, 2),
        (torch.uint8, 250, 3),
    ],
)
def test_no_area_overflows_and_those_of_integers_are_exact(dtype, extent, axes):
    box = torch.tensor([[0] * axes, [extent] * axes]).to(dtype)
    assert ops.area(box).item() == extent**axes
    assert ops.size(box).tolist() == [extent] * axes
    assert ops.centre(box).tolist() == [extent / 2] * axes


def test_an_extent_may_be_more_than_the_type_of_the_corners_holds():
    box = np.array([[-100, -100], [100, 100]], np.int8)
    assert ops.size(box).tolist() == [200, 200]
    assert ops.area(box) == 40000
    assert ops.clip(box, (300, 50)).tolist() == [[0, 0], [100, 50]]


def test_targets_of_integers_are_those_of_the_same_numbers(ndim):
    # A box at 4 to 12 and an anchor at 0 to 16: the same centre, half of the size.
    box, anchor = (torch.tensor([[[low] * ndim, [high] * ndim]]) for low, high in ((4, 12), (0, 16)))
    encoded = ops.encode(box, anchor)
    assert encoded[0, 0].tolist() == [0] * ndim
    assert encoded[0, 1].tolist() == pytest.approx([np.log(0.5) / 0.2] * ndim)
    assert torch.allclose(ops.decode(encoded, anchor), box.double())
    # Deltas of 10 x 0.1 anchors to the right.
    assert ops.decode(torch.tensor([[[10] * ndim, [0] * ndim]]), anchor).tolist() == [[[16] * ndim, [32] * ndim]]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (torch.float32, torch.int64, torch.float32),
        (torch.float32, torch.float16, torch.float32),
        (torch.float64, torch.int8, torch.float64),
        (torch.float64, torch.float32, torch.float64),
        (torch.int8, torch.float16, torch.float32),
        (torch.int16, torch.bfloat16, torch.float64),
        (torch.uint8, torch.int64, torch.float64),
    ],
)
def test_float32_and_float64_decide_for_other_types(first, second, expected):
    a, b = LARGE[:, :, :2].to(first), LARGE[:, :, :2].to(second)
    assert ops.iou(a, b).dtype == ops.iou(b, a).dtype == expected
    assert ops.encode(a, b).dtype == ops.decode(b, a).dtype == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_boxes_in_a_type_that_is_computed_in_are_not_copied(dtype):
    boxes = LARGE.to(dtype)
    assert as_float(boxes) is boxes
    assert as_floats(boxes, boxes)[1] is boxes


def test_arrays_may_have_the_types_of_files_and_of_c():
    boxes = np.array([[[0, 0], [300, 300]]])
    for dtype in (">i2", ">f4", np.longdouble, np.longlong):
        assert ops.area(boxes.astype(dtype)) == 90000
    assert ops.area(boxes.astype(">f4")).dtype == np.float32


def test_lowered_scores_of_integers_are_not_rounded():
    boxes = np.array([[[0, 0], [10, 10]], [[0, 0], [10, 20]]])
    rows, scores = ops.soft_nms(boxes, np.array([8, 5]), decay="linear")  # IoU 0.5
    assert (rows.tolist(), scores.tolist()) == ([0, 1], [8, 2.5])


def test_masks_of_integers_are_interpolated(ndim):
    mask = np.array([1, 0], np.uint8).reshape(1, *(1,) * (ndim - 1), 2)
    box = np.array([[[0] * ndim, [4] * ndim]])
    resampled = ops.resample_masks(mask, box, box, (*(1,) * (ndim - 1), 4))
    assert resampled.ravel().tolist() == [1, 0.75, 0.25, 0]
    assert ops.paste_mask(mask[0], box[0], (4,) * ndim)[1].sum() == 2 * 4 ** (ndim - 1)


def test_features_of_integers_are_refused():
    with pytest.raises(ValueError, match=r"map 0 holds torch.int64"):
        ops.pyramid_roi_align(
            [torch.ones(1, 1, 4, 4).long()], torch.ones(1, 2, 2), *torch.zeros(2, 1).long(), output_size=(1, 1),
            strides=[(1, 1)],
        )  # fmt: skip
