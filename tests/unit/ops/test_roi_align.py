"""Pooling of boxes from feature maps, and the level each box is pooled from."""

import itertools
import math

import numpy as np
import pytest
import torch

from boxel.ops.roi_align import roi_align

SHAPE, STRIDE, BINS = (7, 9, 8), (2.0, 4.0, 2.5), (3, 4, 2)


def slow_roi_align(features, boxes, images, *, output_size, stride, sampling_ratio):
    """Sample by sample, after the definition (Mask R-CNN, section 3)."""
    ndim = boxes.shape[-1]
    ratios = [sampling_ratio] * ndim if isinstance(sampling_ratio, int) else sampling_ratio
    pooled = np.zeros((len(boxes), features.shape[1], *output_size))
    for row, (lower, upper) in enumerate(boxes):
        for place in np.ndindex(*output_size):
            for sample in np.ndindex(*ratios):
                near = []
                for axis in range(ndim):
                    voxel = lower[axis] + (place[axis] + (sample[axis] + 0.5) / ratios[axis]) * (
                        (upper[axis] - lower[axis]) / output_size[axis]
                    )
                    last = features.shape[2 + axis] - 1
                    cell = min(max(voxel / stride[axis] - 0.5, 0), last)
                    part = cell - math.floor(cell)
                    near.append([(math.floor(cell), 1 - part), (min(math.floor(cell) + 1, last), part)])
                for corner in itertools.product(*near):
                    cells, weights = zip(*corner, strict=True)
                    value = features[(images[row], slice(None), *cells)] * math.prod(weights) / math.prod(ratios)
                    pooled[(row, slice(None), *place)] += value
    return pooled


@pytest.fixture
def scene(rng, ndim):
    """Features of two images, and boxes inside, across the border, beyond it, and without extent."""
    features = rng.normal(size=(2, 5, *SHAPE[-ndim:]))
    lower = rng.uniform(-6, 20, (12, ndim))
    boxes = np.stack([lower, lower + rng.uniform(0, 24, (12, ndim))], 1)
    boxes[0, 1], boxes[1, 1, -1] = boxes[0, 0], boxes[1, 0, -1]
    options = {"output_size": BINS[-ndim:], "stride": STRIDE[-ndim:]}
    return torch.from_numpy(features), torch.from_numpy(boxes), torch.from_numpy(rng.integers(0, 2, 12)), options


@pytest.mark.parametrize("ratio", [1, 2, (1, 3, 2)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_pooling_follows_the_definition(scene, ndim, ratio, dtype):
    features, boxes, images, options = scene
    ratio = ratio if isinstance(ratio, int) else ratio[-ndim:]
    found = roi_align(features.to(dtype), boxes.to(dtype), images, sampling_ratio=ratio, **options)
    expected = slow_roi_align(features.numpy(), boxes.numpy(), images.numpy(), sampling_ratio=ratio, **options)
    assert found.dtype == dtype
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


def test_gradients_are_those_of_the_definition(scene):
    features, boxes, images, options = scene
    features = features[:, :2].requires_grad_()
    boxes.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: roi_align(x, boxes, images, **options), features)
    roi_align(features, boxes, images, **options).sum().backward()
    assert boxes.grad is None
