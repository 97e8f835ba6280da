"""Position, order of axes, order of boxes and an axis of one voxel change nothing, for every operator."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from boxel.ops import IGNORED, centre, match_atss, match_centre, match_iou, merge_slices, nms, soft_nms
from strategies import RANKS, box_sets, permutations_of, scored_boxes


def suppress(scored, _):
    return [nms(scored.boxes, scored.scores, 0.3, labels=scored.labels)], []


def lower(scored, _):
    rows, scores = soft_nms(scored.boxes, scored.scores, labels=scored.labels)
    return [rows], [scores]


def merge(scored, slices):
    result = merge_slices(scored.boxes, scored.scores, slices, labels=scored.labels, iou_threshold=0.1)
    return [result.members.rows], [result.members.offsets, result.boxes[:, :, 0]]


operators = pytest.mark.parametrize("operator", [suppress, lower, merge])
SLICES = st.lists(st.integers(0, 3), min_size=14, max_size=14)


def same(one, other, back=None):
    for a, b in zip(one[0], other[0], strict=True):
        assert torch.equal(a, b if back is None else back[b])
    for a, b in zip(one[1], other[1], strict=True):
        assert torch.equal(a, b)


def with_unit_axis(boxes):
    slab = torch.tensor([7.0, 8.0]).reshape(1, 2, 1).expand(len(boxes), 2, 1)
    return torch.cat([slab, boxes], -1)


@operators
@given(scored=scored_boxes(), slices=SLICES, data=st.data())
def test_operators_do_not_depend_on_position_axes_and_order(operator, scored, slices, data):
    slices = torch.tensor(slices)[: len(scored.boxes)]
    axes = permutations_of(data.draw, scored.boxes.shape[-1])
    order = permutations_of(data.draw, len(scored.boxes))
    expected = operator(scored, slices)
    same(expected, operator(scored.with_boxes(scored.boxes[:, :, axes] + 4.0), slices))
    same(expected, operator(scored[order], slices[order]), order)


@operators
@given(scored=scored_boxes(ndim=2), slices=SLICES)
def test_an_axis_of_one_voxel_changes_nothing(operator, scored, slices):
    slices = torch.tensor(slices)[: len(scored.boxes)]
    same(operator(scored, slices), operator(scored.with_boxes(with_unit_axis(scored.boxes)), slices))


def matches(anchors, boxes):
    by_iou = match_iou(anchors, boxes, positive=0.5, negative=0.2)
    by_place = match_centre([centre(anchors)], boxes, strides=[(2.0,) * anchors.shape[-1]])
    return torch.stack([by_iou, match_atss([anchors], boxes), by_place])


@given(RANKS.flatmap(lambda ndim: st.tuples(box_sets(ndim, max_boxes=30), box_sets(ndim, max_boxes=5))), st.data())
def test_matching_does_not_depend_on_position_and_axes(pair, data):
    anchors, boxes = pair
    axes = permutations_of(data.draw, anchors.shape[-1])
    assert torch.equal(matches(anchors, boxes), matches(anchors[:, :, axes] + 4.0, boxes[:, :, axes] + 4.0))


@given(box_sets(2, max_boxes=30), box_sets(2, max_boxes=5))
def test_matching_in_a_slice_is_matching_in_the_plane(anchors, boxes):
    flat = matches(anchors, boxes)
    assert torch.equal(flat, matches(with_unit_axis(anchors), with_unit_axis(boxes)))
    assert (flat >= IGNORED).all()
