"""Masks over boxes: cropped from label maps, resampled to other boxes, pasted back."""

import numpy as np
import pytest
import torch

from boxel.ops import crop_masks, paste_mask, resample_masks

SHAPE = (24, 40, 36)


def whole(mask, box, shape, **options):
    """The pasted mask as an image."""
    region, inside = paste_mask(mask, box, shape, **options)
    image = np.zeros(shape, bool)
    image[region] = inside
    return image


def tight(mask):
    voxels = np.argwhere(mask)
    return np.stack([voxels.min(0), voxels.max(0) + 1]).astype(np.float32)


def crop(mask, box, grid):
    return crop_masks(mask[None].astype(np.int32) * 5, box[None], np.array([0]), np.array([5]), grid)[0]


def ball(shape, centre, radius):
    places = np.stack(np.meshgrid(*(np.arange(size) + 0.5 for size in shape), indexing="ij"), -1)
    return np.square(places - centre).sum(-1) <= radius**2


@pytest.mark.parametrize("radius", [1.5, 4.0, 7.3, 11.0])
@pytest.mark.parametrize("margin", [0.0, 1.7], ids=["tight", "loose"])
def test_a_ball_comes_back_from_its_grid(ndim, radius, margin):
    shape = SHAPE[-ndim:]
    mask = ball(shape, [size / 2 + 0.2 for size in shape], radius)
    box = tight(mask) + np.array([[-margin], [margin]], np.float32)
    pasted = whole(crop(mask, box, (14, 28, 28)[-ndim:]), box, shape)
    assert (mask & pasted).sum() / (mask | pasted).sum() >= 0.95


@pytest.mark.parametrize("side", [1, 2, 7, 19])
@pytest.mark.parametrize("grid", [1, 5, 28])
def test_a_cube_comes_back_exactly(ndim, side, grid):
    mask = np.zeros(SHAPE[-ndim:], bool)
    mask[(slice(3, 3 + side),) * ndim] = True
    assert (whole(crop(mask, tight(mask), (grid,) * ndim), tight(mask), mask.shape) == mask).all()


def test_a_cell_is_the_part_of_it_that_the_object_covers():
    """Two cells of 1.5 voxels: the first half covered by the object of voxel 0 and a third by that of voxel 1."""
    labels = torch.tensor([[[9, 2, 2]], [[2, 2, 2]]])
    boxes = torch.tensor([[[0.0, 0.0], [1.0, 3.0]]]).repeat(3, 1, 1)
    boxes[2, 0, 1] = -3  # half beyond the image
    result = crop_masks(labels, boxes, torch.tensor([0, 0, 0]), torch.tensor([9, 2, 2]), (1, 2))
    torch.testing.assert_close(result, torch.tensor([[[2 / 3, 0.0]], [[1 / 3, 1.0]], [[0.0, 2 / 3]]]))


def test_a_grid_over_two_cells_interpolates_between_their_centres():
    """Over (0, 8) two cells have centres 2 and 6; over (2, 10) four have 3, 5, 7 and 9, of which 9 is outside."""
    result = resample_masks(
        torch.tensor([[0.0, 1.0]]), torch.tensor([[[0.0], [8.0]]]), torch.tensor([[[2.0], [10.0]]]), (4,)
    )
    assert result.tolist() == [[0.25, 0.75, 1.0, 0.0]]


def test_a_mask_over_its_own_box_is_itself(ndim, rng):
    masks = rng.random((6, *(4, 6, 5)[:ndim]))
    lower = rng.uniform(-5, 20, (6, ndim))
    boxes = np.stack([lower, lower + rng.uniform(0.5, 30, (6, ndim))], 1)
    np.testing.assert_allclose(resample_masks(masks, boxes, boxes, masks.shape[1:]), masks, atol=1e-10)


def test_voxels_count_whose_centre_is_in_the_box_and_in_the_image(ndim):
    box = np.array([[-2.6] * ndim, [1.5] * ndim], np.float32)
    region, inside = paste_mask(np.ones((3,) * ndim, np.float32), box, (9,) * ndim)
    assert region == (slice(0, 1),) * ndim
    assert inside.all()
    box += 4
    assert paste_mask(np.ones((3,) * ndim, np.float32), box, (9,) * ndim)[0] == (slice(1, 5),) * ndim


def test_a_probability_equal_to_the_threshold_is_inside(ndim):
    mask, box = np.full((2,) * ndim, 0.5, np.float32), np.array([[0.0] * ndim, [3.0] * ndim], np.float32)
    assert paste_mask(mask, box, (3,) * ndim)[1].all()
    assert not paste_mask(mask, box, (3,) * ndim, threshold=0.6)[1].any()


@pytest.mark.parametrize("ends", [(5, 5), (-50, -46), (500, 504)], ids=["a point", "before", "beyond"])
def test_boxes_that_hold_no_voxel_have_empty_masks(ndim, ends):
    box = np.array([[end] * ndim for end in ends], np.float32)
    assert (crop(np.ones((20,) * ndim), box, (4,) * ndim) == 0).all()
    region, inside = paste_mask(np.ones((4,) * ndim, np.float32), box, (20,) * ndim)
    assert inside.shape == (0,) * ndim == np.zeros((20,) * ndim)[region].shape


def test_a_mask_over_a_point_covers_nothing(ndim):
    point, target = torch.full((1, 2, ndim), 5.0), torch.tensor([[[4.0] * ndim, [6.0] * ndim]])
    assert (resample_masks(torch.ones((1, *(4,) * ndim)), point, target, (3,) * ndim) == 0).all()


def test_no_masks_are_a_normal_case(ndim):
    none, grid = torch.zeros(0, 2, ndim), (3,) * ndim
    index = torch.zeros(0, dtype=torch.long)
    assert crop_masks(torch.zeros((1, *SHAPE[:ndim]), dtype=torch.uint16), none, index, index, grid).shape == (0, *grid)
    assert resample_masks(torch.zeros(0, *(4,) * ndim), none, none, grid).shape == (0, *grid)
