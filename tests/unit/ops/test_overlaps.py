"""Overlaps of all pairs, by hand and against those row by row."""

import math

import numpy as np
import pytest
import torch

from boxel import ops

BY_KIND = {"iou": ops.iou, "giou": ops.generalized_iou, "diou": ops.distance_iou, "ciou": ops.complete_iou}


def cube(low, high, ndim):
    """A box from `low` to `high` on the last axis, and from 0 to 8 on the others."""
    return torch.tensor([[0.0] * (ndim - 1) + [low], [8.0] * (ndim - 1) + [high]])


def test_distance_and_complete_iou_by_hand(ndim):
    one = cube(0, 8, ndim)[None]
    # Itself; its upper half; a box of the same size that touches it.
    others = torch.stack([cube(0, 8, ndim), cube(4, 8, ndim), cube(8, 16, ndim)])
    diagonals = [ndim * 64, ndim * 64, (ndim - 1) * 64 + 256]
    distance = [1, 0.5 - 4 / diagonals[1], -64 / diagonals[2]]
    assert ops.distance_iou(one, others)[0].tolist() == pytest.approx(distance)
    # Only pairs with the last axis have another aspect, 8 to 4 instead of 8 to 8: 1 of 1 in the plane, 2 of 3 in space.
    v = 4 / math.pi**2 * (math.atan2(8, 4) - math.pi / 4) ** 2 * (2 / ndim)
    complete = [1, distance[1] - v * v / (1 - 0.5 + v), distance[2]]
    assert ops.complete_iou(one, others)[0].tolist() == pytest.approx(complete)


@pytest.mark.parametrize("kind", BY_KIND)
def test_all_pairs_have_the_overlap_of_each_pair(ndim, rng, kind):
    a, b = (torch.from_numpy(np.sort(rng.uniform(0, 9, (count, 2, ndim)), 1)) for count in (7, 5))
    pairs = BY_KIND[kind](a, b)
    assert pairs.shape == (7, 5)
    each = ops.paired_overlap(a[:, None].expand(7, 5, 2, ndim), b[None].expand(7, 5, 2, ndim), kind)
    assert torch.allclose(pairs, each, rtol=1e-12)
    assert BY_KIND[kind](a, b[:0]).shape == (7, 0)


def test_boxes_without_extent_overlap_nothing(ndim):
    point = cube(4, 4, ndim)[None]
    for measure in BY_KIND.values():
        assert measure(point, point).item() == 0
    assert ops.distance_iou(point, cube(0, 8, ndim)[None]).item() == 0  # the centres agree
    assert ops.intersection_over_foreground(point, cube(0, 8, ndim)[None]).item() == 0


def test_the_share_of_a_box_in_others_by_hand(ndim):
    box = torch.stack([cube(2, 6, ndim), cube(0, 8, ndim)])
    regions = torch.stack([cube(0, 100, ndim), cube(5, 9, ndim), cube(6, 9, ndim)])
    expected = [[1, 0.25, 0], [1, 3 / 8, 2 / 8]]
    assert ops.intersection_over_foreground(box, regions).tolist() == expected
    assert ops.intersection_over_foreground(regions[:1], box).tolist() == pytest.approx(np.array([[0.04, 0.08]]))


@pytest.mark.parametrize("name", ["distance_iou", "complete_iou", "intersection_over_foreground"])
def test_boxes_of_two_ranks_are_refused(name):
    with pytest.raises(ValueError, match="with the same d"):
        getattr(ops, name).__wrapped__.__wrapped__(torch.zeros(1, 2, 2), torch.zeros(1, 2, 3))


def test_small_boxes_are_removed_by_their_shortest_side(ndim):
    boxes = torch.stack([cube(0, 3, ndim), cube(0, 2.9, ndim), cube(5, 9, ndim), cube(4, 4, ndim)])
    assert ops.remove_small_boxes(boxes, 3).tolist() == [0, 2]
    assert ops.remove_small_boxes(boxes, [8.0] * (ndim - 1) + [4.0]).tolist() == [2]
    assert ops.remove_small_boxes(boxes, 8.1).tolist() == []
    assert ops.remove_small_boxes(boxes, 0).tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match=rf"min_size is \[1.0\]; the boxes have {ndim} axes"):
        ops.remove_small_boxes(boxes, [1.0])


def test_boxes_of_masks_that_overlap(ndim):
    masks = np.zeros((4, *(5, 6, 7)[:ndim]), bool)
    masks[0] = True
    masks[(1, *(slice(1, 3),) * ndim)] = True
    masks[(1, *(4,) * ndim)] = True  # a second part of the same object
    masks[(3, *(2,) * ndim)] = True
    boxes, present = ops.boxes_from_masks(masks)
    assert present.tolist() == [True, True, False, True]
    assert boxes.dtype == np.float32
    assert boxes.tolist() == [
        [[0] * ndim, [5, 6, 7][:ndim]],
        [[1] * ndim, [5] * ndim],
        [[0] * ndim] * 2,
        [[2] * ndim, [3] * ndim],
    ]
    for dtype in (np.uint8, np.uint16, np.int64):
        assert np.array_equal(ops.boxes_from_masks(masks.astype(dtype) * 200)[0], boxes)


def test_masks_without_voxels_and_no_masks(ndim):
    assert ops.boxes_from_masks(np.zeros((0, *(4,) * ndim), bool))[0].shape == (0, 2, ndim)
    boxes, present = ops.boxes_from_masks(np.zeros((2, *(4,) * (ndim - 1), 0), bool))
    assert not boxes.any()
    assert not present.any()


def test_masks_of_probabilities_or_without_an_image_are_refused():
    with pytest.raises(ValueError, match=r"masks >= 0\.5"):
        ops.boxes_from_masks(torch.rand(2, 3, 3))
    with pytest.raises(ValueError, match=r"shape \(n, \*s\), got \(3,\)"):
        ops.boxes_from_masks(torch.ones(3, dtype=torch.bool))
