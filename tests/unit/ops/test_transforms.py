"""Boxes move as the voxels of their images do."""

import math

import numpy as np
import pytest
import torch

from boxel import ops

SHAPE = (5, 8, 6)


@pytest.fixture
def scene(ndim):
    """Masks of boxes in an image, and the boxes."""
    boxes = np.array([[[1, 2, 0], [2, 7, 3]], [[0, 0, 1], [4, 1, 2]], [[3, 5, 4], [5, 8, 6]]])[:, :, :ndim]
    masks = np.zeros((3, *SHAPE[:ndim]), bool)
    for mask, (lower, upper) in zip(masks, boxes, strict=True):
        mask[tuple(map(slice, lower, upper))] = True
    return masks, boxes.astype(np.float32)


@pytest.mark.parametrize("axes", [[], [0], [-1], [0, 1]])
def test_mirrored_boxes_are_those_of_mirrored_masks(scene, ndim, axes):
    masks, boxes = scene
    mirrored = np.flip(masks, [axis % ndim + 1 for axis in axes])
    assert np.array_equal(ops.mirror(boxes, SHAPE[:ndim], axes), ops.boxes_from_masks(mirrored)[0])


@pytest.mark.parametrize("axes", [(0, 1), (1, 0), (-2, -1), (-1, 0)])
@pytest.mark.parametrize("quarters", [-1, 0, 1, 2, 3, 5])
def test_turned_boxes_are_those_of_turned_masks(scene, ndim, quarters, axes):
    masks, boxes = scene
    turned = np.rot90(masks, quarters, [axis % ndim + 1 for axis in axes])
    assert np.array_equal(ops.rotate_quarters(boxes, SHAPE[:ndim], quarters, axes), ops.boxes_from_masks(turned)[0])


def test_mirroring_is_an_affine_map(scene, ndim):
    _, boxes = scene
    matrix = np.eye(ndim + 1)
    matrix[0, 0], matrix[0, -1] = -1, SHAPE[0]
    expected = ops.mirror(boxes, SHAPE[:ndim], [0])
    assert np.array_equal(ops.transform(boxes, matrix), expected)
    assert np.array_equal(ops.transform(boxes, matrix[:-1]), expected)


def test_a_turned_square_needs_a_larger_box(ndim):
    # A square of side 2 around (0, 0), turned by 30 degrees: half extents cos 30 + sin 30; other axes are scaled by 3.
    turn = torch.eye(ndim, ndim + 1) * 3
    cosine, sine = math.cos(math.pi / 6), math.sin(math.pi / 6)
    turn[-2:, -3:-1] = torch.tensor([[cosine, -sine], [sine, cosine]])
    turn[-1, -1] = 10
    box = torch.tensor([[[-1.0] * ndim, [1.0] * ndim]])
    half = cosine + sine
    expected = [[-3] * (ndim - 2) + [-half, 10 - half], [3] * (ndim - 2) + [half, 10 + half]]
    assert ops.transform(box, turn)[0].tolist() == pytest.approx(np.array(expected))


def test_the_hull_of_all_corners_is_that_of_the_map(ndim, rng):
    boxes, matrix = np.sort(rng.normal(0, 5, (9, 2, ndim)), 1), rng.normal(0, 2, (ndim, ndim + 1))
    which = np.array(list(np.ndindex(*(2,) * ndim)))  # (2 ** d, d)
    corners = boxes[:, which, np.arange(ndim)] @ matrix[:, :-1].T + matrix[:, -1]
    assert np.allclose(ops.transform(boxes, matrix), np.stack([corners.min(1), corners.max(1)], 1))


def test_gradients_reach_the_boxes_and_the_matrix(ndim):
    box = torch.tensor([[[1.0] * ndim, [2.0] * ndim]], requires_grad=True)
    matrix = torch.eye(ndim, ndim + 1).requires_grad_()
    ops.transform(box, matrix)[0, 1, 0].backward()  # the upper end of the first axis
    assert box.grad.tolist() == [[[0] * ndim, [1] + [0] * (ndim - 1)]]
    assert matrix.grad[0, [0, -1]].tolist() == [2, 1]


def test_no_boxes_stay_none(ndim):
    none = np.zeros((0, 2, ndim))
    assert ops.mirror(none, SHAPE[:ndim], [0]).shape == none.shape
    assert ops.rotate_quarters(none, SHAPE[:ndim], 1).shape == none.shape
    assert ops.transform(none, np.eye(ndim + 1)).shape == none.shape


def test_arguments_of_another_rank_are_refused():
    box = torch.ones(1, 2, 2)
    with pytest.raises(ValueError, match=r"shape is \(4, 4, 4\); the boxes have 2 axes"):
        ops.mirror(box, (4, 4, 4), [0])
    for axes in ([2], [0, 0], [0, -2]):
        with pytest.raises(ValueError, match=r"must be different and lie in 0\.\.1"):
            ops.mirror(box, (4, 4), axes)
    for axes in ([0], [0, 1, 2]):
        with pytest.raises(ValueError, match="axes"):
            ops.rotate_quarters(box, (4, 4), 1, axes)
    with pytest.raises(ValueError, match=r"matrix must have shape \(2, 3\)"):
        ops.transform(box, torch.eye(2))
