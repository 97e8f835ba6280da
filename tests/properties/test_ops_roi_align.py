"""The order of axes, of boxes and of images, and an axis of one cell, change nothing in what is pooled."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from boxel.ops import crop_masks, pyramid_roi_align, resample_masks
from strategies import RANKS, box_sets, permutations_of

SCENES = RANKS.flatmap(box_sets)


def pool(features, boxes, images, bins, stride):
    levels = torch.zeros_like(images)
    return pyramid_roi_align([features], boxes, images, levels, output_size=bins, strides=[stride])


def maps(boxes):
    torch.manual_seed(0)
    features = torch.rand(2, 3, *(5, 4, 6)[: boxes.shape[-1]])
    return features, torch.arange(len(boxes)) % 2, (2, 3, 4)[: boxes.shape[-1]], (2.0, 4.0, 3.0)[: boxes.shape[-1]]


@given(SCENES, st.data())
def test_axes_can_be_permuted(boxes, data):
    features, images, bins, stride = maps(boxes)
    axes = permutations_of(data.draw, boxes.shape[-1])
    moved = [0, 1, *(axes + 2).tolist()]
    turned = pool(
        features.permute(moved), boxes[:, :, axes], images, [bins[k] for k in axes], [stride[k] for k in axes]
    )
    torch.testing.assert_close(turned, pool(features, boxes, images, bins, stride).permute(moved))


@given(SCENES, st.data())
def test_boxes_and_images_can_be_reordered(boxes, data):
    features, images, bins, stride = maps(boxes)
    order = permutations_of(data.draw, len(boxes))
    expected = pool(features, boxes, images, bins, stride)
    assert torch.equal(pool(features.flip(0), boxes[order], 1 - images[order], bins, stride), expected[order])


@given(box_sets(2))
def test_pooling_a_slice_is_pooling_in_the_plane(boxes):
    features, images, bins, stride = maps(boxes)
    slab = torch.tensor([0.0, 5.0])[None, :, None].expand(len(boxes), 2, 1)
    deep = pool(features[:, :, None], torch.cat([slab, boxes], -1), images, (1, *bins), (5.0, *stride))
    torch.testing.assert_close(deep[:, :, 0], pool(features, boxes, images, bins, stride))


@given(SCENES, st.data())
def test_mask_grids_turn_with_the_axes(boxes, data):
    torch.manual_seed(0)
    ndim = boxes.shape[-1]
    axes = permutations_of(data.draw, ndim)
    moved, grid = [0, *(axes + 1).tolist()], (2, 3, 4)[:ndim]
    labels, targets = torch.randint(0, 3, (1, *(16, 12, 17)[:ndim])), boxes.flip(0)
    zeros, ids = torch.zeros(len(boxes), dtype=torch.long), torch.arange(len(boxes)) % 3
    masks = crop_masks(labels, boxes, zeros, ids, grid)
    turned = crop_masks(labels.permute(moved), boxes[:, :, axes], zeros, ids, [grid[k] for k in axes])
    torch.testing.assert_close(turned, masks.permute(moved))
    seen = resample_masks(masks, boxes, targets, grid)
    again = resample_masks(turned, boxes[:, :, axes], targets[:, :, axes], [grid[k] for k in axes])
    torch.testing.assert_close(again, seen.permute(moved))
