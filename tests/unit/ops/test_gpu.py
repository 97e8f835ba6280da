"""On a CUDA device the operators return the same as on the CPU."""

import pytest
import torch

from boxel.ops import (
    anchor_grid,
    match,
    merge_slices,
    nms,
    paste_regions,
    pyramid_roi_align,
    sample_regions,
    soft_nms,
    weighted_box_clustering,
    weighted_nms,
)

pytestmark = pytest.mark.gpu


@pytest.fixture
def cuda():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device("cuda")


@pytest.fixture
def crowd(rng, ndim):
    low = torch.from_numpy(rng.uniform(0, 60, (3000, ndim))).float()
    boxes = torch.stack([low, low + torch.from_numpy(rng.uniform(4, 12, (3000, ndim))).float()], 1)
    return boxes, torch.from_numpy(rng.permutation(3000) / 3000).float(), torch.from_numpy(rng.integers(0, 2, 3000))


@pytest.mark.parametrize(
    "operator",
    [
        lambda boxes, scores, labels: (nms(boxes, scores, 0.3, labels=labels),),
        lambda boxes, scores, labels: soft_nms(boxes[:300], scores[:300], labels=labels[:300]),
        lambda boxes, scores, labels: weighted_nms(boxes, scores, labels=labels, iou_threshold=0.3)[:3],
        lambda boxes, scores, labels: weighted_box_clustering(
            boxes, scores, labels=labels, iou_threshold=0.3, expected_views=4
        )[:3],
        lambda boxes, scores, labels: merge_slices(boxes, scores, (scores * 9).long(), iou_threshold=0.3)[:3],
    ],
    ids=["nms", "soft_nms", "weighted_nms", "wbc", "merge_slices"],
)
def test_boxes_are_grouped_alike(cuda, crowd, operator):
    for here, there in zip(operator(*crowd), operator(*(part.to(cuda) for part in crowd)), strict=True):
        assert there.device.type == "cuda"
        assert torch.allclose(here, there.cpu(), atol=1e-4)


@pytest.mark.parametrize("rule", ["iou", "atss", "centre"])
def test_anchors_are_matched_alike(cuda, crowd, ndim, rule):
    options = {"iou": {"positive": 0.4, "negative": 0.1}, "atss": {}, "centre": {"strides": [(4.0,) * ndim]}}[rule]
    anchors = anchor_grid((16,) * ndim, (4,) * ndim, [[8.0] * ndim, [6.0] * ndim])
    boxes = [crowd[0][:5], crowd[0][:0], crowd[0][5:20]]
    here = match(anchors, boxes, rule=rule, anchors_per_cell=2, **options)
    there = match(anchors.to(cuda), [some.to(cuda) for some in boxes], rule=rule, anchors_per_cell=2, **options)
    assert torch.equal(here, there.cpu())


def test_features_and_gradients_are_pooled_alike(cuda, crowd, ndim):
    torch.manual_seed(0)
    boxes, images, levels = crowd[0][:50], torch.arange(50) % 2, torch.arange(50) % 3 % 2
    strides = [(4.0,) * ndim, (8.0,) * ndim]
    results = []
    for device in (torch.device("cpu"), cuda):
        pyramid = [torch.linspace(0, 9, 6 * cells**ndim).sin().reshape(2, 3, *(cells,) * ndim) for cells in (16, 8)]
        pyramid = [level.to(device).requires_grad_() for level in pyramid]
        places = (boxes.to(device), images.to(device), levels.to(device))
        pooled = pyramid_roi_align(pyramid, *places, output_size=(4,) * ndim, strides=strides)
        results.append([pooled, *torch.autograd.grad(pooled.square().sum(), pyramid)])
    for here, there in zip(*results, strict=True):
        assert torch.allclose(here, there.cpu(), atol=1e-4)


def test_regions_are_sampled_and_pasted_alike(cuda, crowd, ndim):
    boxes, index = crowd[0][:50], torch.arange(50) % 2
    images = torch.linspace(0, 9, 6 * 20**ndim).sin().reshape(2, 3, *(20,) * ndim)
    results = []
    for device in (torch.device("cpu"), cuda):
        leaves = [part.to(device).requires_grad_() for part in (images, boxes)]
        regions = sample_regions(*leaves, index.to(device), (8,) * ndim)
        pasted = paste_regions(regions, leaves[1], (20,) * ndim)
        results.append([regions, pasted, *torch.autograd.grad(pasted.square().sum(), leaves)])
    for here, there in zip(*results, strict=True):
        assert torch.allclose(here, there.cpu(), atol=1e-3)
