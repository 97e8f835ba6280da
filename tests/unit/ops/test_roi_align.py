"""Pooling of boxes from feature maps, and the level each box is pooled from."""

import itertools
import math

import jaxtyping
import numpy as np
import pytest
import torch

from boxel.ops import assign_levels, assign_levels_fpn, assign_levels_mdt, pyramid_roi_align, roi_align

SHAPE, STRIDE, BINS = (7, 9, 8), (2.0, 4.0, 2.5), (3, 4, 2)


def slow_roi_align(features, boxes, images, *, output_size, stride, sampling_ratio, aligned=True):
    """Sample by sample, after the definition (Mask R-CNN, section 3); unaligned as in torchvision's documentation."""
    ndim = boxes.shape[-1]
    ratios = [sampling_ratio] * ndim if isinstance(sampling_ratio, int) else sampling_ratio
    pooled = np.zeros((len(boxes), features.shape[1], *output_size))
    for row, (lower, upper) in enumerate(boxes):
        for place in np.ndindex(*output_size):
            for sample in np.ndindex(*ratios):
                near = []
                for axis in range(ndim):
                    extent = upper[axis] - lower[axis] if aligned else max(upper[axis] - lower[axis], stride[axis])
                    voxel = lower[axis] + (place[axis] + (sample[axis] + 0.5) / ratios[axis]) * (
                        extent / output_size[axis]
                    )
                    last = features.shape[2 + axis] - 1
                    cell = min(max(voxel / stride[axis] - 0.5 * aligned, 0), last)
                    part = cell - math.floor(cell)
                    near.append([(math.floor(cell), 1 - part), (min(math.floor(cell) + 1, last), part)])
                for corner in itertools.product(*near):
                    cells, weights = zip(*corner, strict=True)
                    value = features[(images[row], slice(None), *cells)] * math.prod(weights) / math.prod(ratios)
                    pooled[(row, slice(None), *place)] += value
    return pooled


@pytest.fixture
def scene(engine, rng, ndim):
    """Features of two images, and boxes inside, across the border, beyond it, and without extent."""
    features = rng.normal(size=(2, 5, *SHAPE[-ndim:]))
    lower = rng.uniform(-6, 20, (12, ndim))
    boxes = np.stack([lower, lower + rng.uniform(0, 24, (12, ndim))], 1)
    boxes[0, 1], boxes[1, 1, -1] = boxes[0, 0], boxes[1, 0, -1]
    options = {"output_size": BINS[-ndim:], "stride": STRIDE[-ndim:]}
    return torch.from_numpy(features), torch.from_numpy(boxes), torch.from_numpy(rng.integers(0, 2, 12)), options


@pytest.mark.parametrize("ratio", [1, 2, (1, 3, 2)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("aligned", [True, False], ids=["aligned", "unaligned"])
def test_pooling_follows_the_definition(scene, ndim, ratio, dtype, aligned):
    features, boxes, images, options = scene
    options["aligned"] = aligned
    ratio = ratio if isinstance(ratio, int) else ratio[-ndim:]
    result = roi_align(features.to(dtype), boxes.to(dtype), images, sampling_ratio=ratio, **options)
    expected = slow_roi_align(features.numpy(), boxes.numpy(), images.numpy(), sampling_ratio=ratio, **options)
    assert result.dtype == dtype
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-5)


def test_gradients_are_those_of_the_definition(scene, ndim):
    features, boxes, images, options = scene
    features = features[(slice(None), slice(1), *[slice(4)] * ndim)].requires_grad_()
    boxes.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: roi_align(x, boxes, images, **options), features)
    roi_align(features, boxes, images, **options).sum().backward()
    assert boxes.grad is None


def ramp(shape, stride, slopes):
    """A map `(1, 1, *s)` whose cells have the values of a linear function of the voxels at their centres."""
    value = torch.zeros(())
    for cells, voxels, slope in zip(shape, stride, slopes, strict=True):
        value = value[..., None] + slope * (torch.arange(cells) + 0.5) * voxels
    return value[None, None]


@pytest.mark.parametrize("ratio", [1, 2, 3])
def test_a_linear_ramp_is_pooled_exactly(ndim, ratio):
    stride, bins, slopes = STRIDE[-ndim:], BINS[-ndim:], (100.0, 10.0, 1.0)[-ndim:]
    features = ramp(SHAPE[-ndim:], stride, slopes)
    lower, upper = torch.tensor(stride) * 0.5, torch.tensor(stride) * 0.5 + torch.tensor([10.0, 30.0, 14.0])[-ndim:]
    zero = torch.zeros(1, dtype=torch.long)
    result = roi_align(
        features, torch.stack([lower, upper])[None], zero, output_size=bins, stride=stride, sampling_ratio=ratio
    )
    width = (upper - lower) / torch.tensor(bins)
    for place in np.ndindex(*bins):
        middle = lower + (torch.tensor(place) + 0.5) * width
        assert result[(0, 0, *place)].item() == pytest.approx((middle * torch.tensor(slopes)).sum().item(), rel=1e-5)


def test_beyond_the_border_the_border_cells_continue(ndim):
    features = ramp((4,) * ndim, (2.0,) * ndim, (1.0,) * ndim)
    box = torch.tensor([[-30.0] * ndim, [-20.0] * ndim])[None]
    zero = torch.zeros(1, dtype=torch.long)
    result = roi_align(features, box, zero, output_size=(2,) * ndim, stride=(2.0,) * ndim)
    assert (result == features.min()).all()


def test_no_boxes_give_no_features_and_no_gradient(scene):
    features, boxes, images, options = scene
    features = features.float().requires_grad_()
    result = roi_align(features, boxes[:0].float(), images[:0], **options)
    assert result.shape == (0, 5, *options["output_size"])
    result.sum().backward()
    assert (features.grad == 0).all()


def test_a_broken_box_spoils_nothing_but_its_own_features(scene):
    features, boxes, images, options = scene
    broken = boxes.clone()
    broken[3] = math.nan
    result, expected = (roi_align(features, some, images, **options) for some in (broken, boxes))
    others = torch.arange(len(boxes)) != 3
    assert result[3].isnan().all()
    assert torch.equal(result[others], expected[others])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_costs_no_position(scene, dtype):
    features, boxes, images, options = scene
    features, boxes = features.to(dtype), boxes.float()
    with torch.autocast("cpu", torch.bfloat16):
        result = roi_align(features.requires_grad_(), boxes, images, **options)
        result.sum().backward()
    assert result.dtype == features.grad.dtype == dtype
    assert torch.equal(result, roi_align(features.float(), boxes, images, **options).to(dtype))


@pytest.mark.parametrize("memory", ["contiguous", "channels last", "strided"])
def test_the_memory_order_of_the_features_does_not_matter(scene, memory):
    features, boxes, images, options = scene
    features, boxes = features.float(), boxes.float()
    other = {
        "contiguous": features,
        "channels last": features.movedim(1, -1).contiguous().movedim(-1, 1),
        "strided": torch.stack([features, -features], -1)[..., 0],
    }[memory]
    assert torch.equal(roi_align(other, boxes, images, **options), roi_align(features, boxes, images, **options))


def test_the_operator_compiles_without_a_break(scene, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # what checks shapes does not compile
    features, boxes, images, options = scene
    features, boxes = features.float(), boxes.float()
    compiled = torch.compile(roi_align, fullgraph=True, backend="eager")
    gradients = []
    for function in (roi_align, compiled):
        leaf = features.clone().requires_grad_()
        result = function(leaf, boxes, images, **options)
        result.square().sum().backward()
        gradients.append(leaf.grad)
        torch.testing.assert_close(result, roi_align(features, boxes, images, **options))
    torch.testing.assert_close(*gradients)


def test_each_box_is_pooled_from_its_level(scene, ndim, rng):
    """In one call for all levels, as level by level; gradients too; a level without boxes has none."""
    features, boxes, images, options = scene
    pyramid = [features.float(), features[(..., *[slice(None, None, 2)] * ndim)].float(), features.float()]
    strides = [options["stride"], [2 * voxels for voxels in options["stride"]], (1.0,) * ndim]
    levels, boxes = torch.from_numpy(rng.integers(0, 2, 12)), boxes.float()
    pyramid = [level.requires_grad_() for level in pyramid]
    pooled = pyramid_roi_align(pyramid, boxes, images, levels, output_size=options["output_size"], strides=strides)
    gradients = torch.autograd.grad(pooled.square().sum(), pyramid)
    assert (gradients[2] == 0).all()
    for k in range(2):
        rows, leaf = levels == k, pyramid[k].detach().requires_grad_()
        own = roi_align(leaf, boxes[rows], images[rows], output_size=options["output_size"], stride=strides[k])
        torch.testing.assert_close(pooled[rows], own)
        torch.testing.assert_close(gradients[k], torch.autograd.grad(own.square().sum(), leaf)[0])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"output_size": (7,)}, "output_size must have one positive number for each of the boxes'"),
        ({"stride": (4.0, 0.0, 4.0, 4.0)}, r"strides\[0\] must have"),
        ({"sampling_ratio": 0}, "sampling_ratio must"),
    ],
)
def test_settings_that_do_not_fit_are_refused(scene, change, words):
    features, boxes, images, options = scene
    with pytest.raises(ValueError, match=words):
        roi_align(features, boxes, images, **(options | change))


def test_an_image_or_level_that_is_not_there_is_refused(scene):
    features, boxes, images, options = scene
    with pytest.raises(ValueError, match=r"images must lie in 0\.\.1, got 1\.\.2"):
        roi_align(features, boxes, images.clamp(min=1) + (images > 0), **options)
    with pytest.raises(ValueError, match=r"levels must lie in 0\.\.0, got -1\.\.-1"):
        pyramid_roi_align(
            [features],
            boxes,
            images,
            -torch.ones_like(images),
            output_size=(1,) * boxes.shape[-1],
            strides=[options["stride"]],
        )


def test_a_map_of_another_rank_is_refused(scene):
    features, boxes, images, options = scene
    with pytest.raises(ValueError, match=r"map 0 must have shape \(b, c, \*s\)"):
        roi_align(features[..., 0], boxes, images, **options)


def cube_boxes(*sides, ndim):
    return torch.tensor([[[3.0] * ndim, [3.0 + side] * ndim] for side in sides])


def test_a_box_goes_to_the_level_on_which_it_spans_closest_to_seven_cells(ndim):
    """Between strides 4 and 8 the border is where 7 cells are as many octaves away: 7 * sqrt(32) = 39.6 voxels."""
    strides = [(4.0 * 2**k,) * ndim for k in range(4)]
    result = assign_levels(cube_boxes(0, 1, 28, 39, 40, 56, 79, 80, 5000, ndim=ndim), strides)
    assert result.tolist() == [0, 0, 0, 0, 1, 1, 1, 2, 3]
    assert assign_levels(torch.zeros(0, 2, ndim), strides).shape == (0,)


def test_every_axis_counts_for_the_level():
    """64 x 64 voxels are pooled from stride 8; being 2 slices deep, with 2 slices per cell, from stride 4."""
    strides = [(1.0, 4.0, 4.0), (2.0, 8.0, 8.0), (4.0, 16.0, 16.0)]
    boxes = torch.tensor([[[0.0, 0, 0], [16.0, 64, 64]], [[0.0, 0, 0], [2.0, 64, 64]]])
    assert assign_levels(boxes, strides).tolist() == [1, 0]


def test_unaligned_cells_lie_half_a_cell_lower_and_a_box_spans_one():
    """On a ramp of columns of 2 voxels, 4 to 12 are the columns 2 to 6 (aligned: 1.5 to 5.5), 5 to 5 are 2.5 to 3.5."""
    ramp, boxes = torch.arange(8.0).expand(1, 1, 8, 8), torch.tensor([[[4.0, 4], [12, 12]], [[5.0, 5], [5, 5]]])
    options = {"output_size": (1, 2), "stride": (2, 2)}
    images = torch.zeros(2, dtype=torch.int64)
    assert roi_align(ramp, boxes, images, aligned=False, **options).tolist() == [[[[3, 5]]], [[[2.75, 3.25]]]]
    assert roi_align(ramp, boxes, images, **options)[0].tolist() == [[[2.5, 4.5]]]


def test_the_levels_of_fpn_change_at_224_voxels(ndim):
    boxes = cube_boxes(0, 5, 111.9, 112, 223.9, 224, 447.9, 448, 9000, ndim=ndim)
    assert assign_levels_fpn(boxes, [2, 3, 4, 5]).tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3]
    assert assign_levels_fpn(boxes, [3, 5]).tolist() == [0, 0, 0, 0, 0, 0, 0, 1, 1]
    flat = cube_boxes(448, ndim=ndim)
    flat[:, 1, 0] = 3 + 448 / 2**ndim  # the geometric mean is 224
    assert assign_levels_fpn(flat, [2, 3, 4, 5]).tolist() == [2]


def test_the_toolkits_levels_depend_on_the_patch(ndim):
    """Borders at patch * 2 ** (-3.5, -2.5, -1.5): for 128 voxels 11.3, 22.6, 45.3; for 320 28.3, 56.6, 113.1."""
    boxes = cube_boxes(0, 11, 12, 22, 23, 45, 46, 400, ndim=ndim)
    assert assign_levels_mdt(boxes, (128,) * ndim, 4).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    boxes = cube_boxes(28, 29, 56, 57, 113, 114, ndim=ndim)
    assert assign_levels_mdt(boxes, (320,) * ndim, 4).tolist() == [0, 1, 1, 2, 2, 3]


def test_the_toolkits_levels_pass_over_the_depth():
    boxes = cube_boxes(12, 12, ndim=3)
    boxes[1, 1, 0] = 60
    assert assign_levels_mdt(boxes, (64, 128, 128), 4).tolist() == [1, 1]
