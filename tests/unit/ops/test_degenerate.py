"""What is refused, with the row that is wrong, and how ties are broken."""

import inspect
import math

import pytest
import torch

from boxel.ops import (
    decode,
    encode,
    generalized_iou,
    iou,
    match_atss,
    match_centre,
    match_iou,
    merge_slices,
    nms,
    paired_overlap,
    soft_nms,
    weighted_box_clustering,
    weighted_box_fusion,
    weighted_nms,
)

GROUPING = {
    "nms": lambda boxes, scores: nms(boxes, scores, 0.5),
    "soft_nms": soft_nms,
    "weighted_nms": lambda boxes, scores: weighted_nms(boxes, scores, iou_threshold=0.5),
    "wbc": lambda boxes, scores: weighted_box_clustering(boxes, scores, iou_threshold=0.5, expected_views=1),
    "wbf": lambda boxes, scores: weighted_box_fusion(boxes, scores, iou_threshold=0.5, expected_views=1),
    "merge_slices": lambda boxes, scores: merge_slices(
        boxes, scores, torch.zeros(len(boxes), dtype=torch.long), iou_threshold=0.5
    ),
}
MATCHING = {
    "iou": lambda boxes: match_iou(boxes[:1], boxes, positive=0.5, negative=0.1),
    "atss": lambda boxes: match_atss([boxes[:1]], boxes),
    "centre": lambda boxes: match_centre([boxes[:1, 0]], boxes, strides=[(4.0,) * boxes.shape[-1]]),
}
BROKEN = {"nan": math.nan, "infinite": math.inf, "inverted": -1.0}
groupings = pytest.mark.parametrize("group", GROUPING.values(), ids=GROUPING)


def row_of_boxes(count, ndim):
    boxes = torch.tensor([0.0, 4.0])[:, None].expand(count, 2, ndim) + torch.arange(count)[:, None, None] * 10
    return boxes.contiguous()


@groupings
@pytest.mark.parametrize("value", BROKEN.values(), ids=BROKEN)
def test_a_broken_box_is_named(engine, ndim, group, value):
    boxes = row_of_boxes(6, ndim)
    boxes[4, 1, -1] = value
    with pytest.raises(ValueError, match=r"boxes\[4\].*finite, the lower not above the upper"):
        group(boxes, torch.ones(6))


@groupings
def test_a_broken_score_is_named(engine, ndim, group):
    with pytest.raises(ValueError, match=r"scores\[2\] is nan"):
        group(row_of_boxes(3, ndim), torch.tensor([0.5, 0.5, math.nan]))


@pytest.mark.parametrize("match", MATCHING.values(), ids=MATCHING)
@pytest.mark.parametrize("value", BROKEN.values(), ids=BROKEN)
def test_a_broken_object_is_named(engine, ndim, match, value):
    boxes = row_of_boxes(3, ndim)
    boxes[1, 1, 0] = value
    with pytest.raises(ValueError, match=r"boxes\[1\]"):
        match(boxes)


@groupings
def test_of_equal_scores_the_first_row_is_better(engine, ndim, group):
    """3,000 boxes in 3 places: enough for sorting and searching to be done in parts."""
    boxes = row_of_boxes(3, ndim).repeat(1000, 1, 1)
    result = group(boxes, torch.full((3000,), 0.5))
    if isinstance(result, torch.Tensor):
        best = result
    else:
        best = result.members.rows[result.members.offsets[:-1]] if hasattr(result, "members") else result[0][:3]
    assert best.tolist() == [0, 1, 2]


@groupings
def test_the_same_input_gives_the_same_bits(engine, ndim, rng, group):
    lower = torch.from_numpy(rng.uniform(0, 30, (300, ndim))).float()
    boxes, scores = torch.stack([lower, lower + 6], 1), torch.from_numpy(rng.random(300)).float()
    one, other = group(boxes, scores), group(boxes.clone(), scores.clone())
    for a, b in zip(*((x,) if isinstance(x, torch.Tensor) else x[:2] for x in (one, other)), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("function", [iou, generalized_iou, paired_overlap, encode, decode])
def test_boxes_of_different_rank_are_refused(function):
    plain = inspect.unwrap(function)  # without the shape checks of the tests
    with pytest.raises(ValueError, match=r"same d, got \(1, 2, 2\) and \(1, 2, 3\)"):
        plain(torch.rand(1, 2, 2).cumsum(1), torch.rand(1, 2, 3).cumsum(1))
    with pytest.raises(ValueError, match=r"end in \(2, d\)"):
        plain(torch.zeros(3, 4), torch.zeros(3, 4))


def test_fewer_than_no_detections_are_refused(ndim):
    assert nms(row_of_boxes(2, ndim), torch.ones(2), 0.5, max_detections=0).shape == (0,)
    with pytest.raises(ValueError, match="max_detections is -1"):
        nms(row_of_boxes(2, ndim), torch.ones(2), 0.5, max_detections=-1)
