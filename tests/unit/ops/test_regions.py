"""Regions are sampled from images and pasted back, with gradients to both the values and the boxes."""

import inspect

import jaxtyping
import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from boxel.ops import paste_regions, sample_regions, scale_gradient

SHAPE, SIZE = (7, 9, 8), (3, 5, 4)
FIRST = torch.tensor([0])


@pytest.fixture
def scene(rng, ndim):
    """Two images of three channels, boxes inside, across the border, beyond it and without extent, and a size."""
    images = torch.from_numpy(rng.normal(size=(2, 3, *SHAPE[-ndim:])))
    lower = rng.uniform(-4, 8, (9, ndim))
    boxes = np.stack([lower, lower + rng.uniform(0.5, 9, (9, ndim))], 1)
    boxes[0] = [[-20.0] * ndim, [-15.0] * ndim]
    boxes[1, 1] = boxes[1, 0]
    return images, torch.from_numpy(boxes), torch.from_numpy(rng.integers(0, 2, 9)), SIZE[-ndim:]


def leaf(tensor):
    return tensor.clone().requires_grad_()


def smooth(shape):
    """A product of half waves, as an image `(1, 1, *s)`."""
    value = torch.ones((), dtype=torch.float64)
    for size in shape:
        value = value[..., None] * (torch.pi * (torch.arange(size) + 0.5) / size).sin()
    return value[None, None]


def test_regions_equal_scipys_interpolation_with_zeros_beyond_the_border(scene):
    images, boxes, index, size = scene
    result = sample_regions(images, boxes, index, size).numpy()
    for row, (lower, upper) in enumerate(boxes.numpy()):
        steps = [low + (np.arange(n) + 0.5) / n * (up - low) for n, low, up in zip(size, lower, upper, strict=True)]
        places = np.stack(np.meshgrid(*steps, indexing="ij")) - 0.5
        for channel, image in enumerate(images[index[row]].numpy()):
            expected = map_coordinates(image, places, order=1, mode="grid-constant", cval=0)
            np.testing.assert_allclose(result[row, channel], expected, atol=1e-12)


@pytest.mark.parametrize("images", [1, 2], ids=["one image", "two images"])
def test_gradients_reach_images_and_boxes(scene, images):
    values, boxes, index, size = scene
    arguments = leaf(values[:images, :1]), leaf(boxes)
    assert torch.autograd.gradcheck(lambda *given: sample_regions(*given, index % images, size), arguments)


def test_one_image_is_sampled_as_one_of_several(scene):
    images, boxes, _, size = scene
    first = torch.zeros(len(boxes), dtype=torch.long)
    torch.testing.assert_close(
        sample_regions(images[:1], boxes, first, size), sample_regions(images, boxes, first, size)
    )


def test_pasting_has_gradients_to_regions_and_boxes(scene, ndim):
    boxes = scene[1].clone()
    boxes[:, 1] = boxes[:, 1].maximum(boxes[:, 0] + 0.5)
    regions = torch.randn(len(boxes), 2, *scene[3], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda *given: paste_regions(*given, (4,) * ndim), (leaf(regions), leaf(boxes)))


def test_the_gradient_at_the_centre_of_a_voxel_is_that_towards_the_next(ndim):
    """Corners of annotated boxes are integers, so that samples at their own resolution lie on centres."""
    image = torch.tensor([1.0, 2.0, 4.0, 8.0]).expand(1, 1, *(4,) * ndim)
    box = torch.tensor([[[1.0] * ndim, [2.0] * ndim]], requires_grad=True)
    sample_regions(image, box, FIRST, (1,) * ndim).sum().backward()
    assert box.grad[0, :, -1].tolist() == [1.0, 1.0]  # half of 4 - 2 for each corner
    assert (box.grad[0, :, :-1] == 0).all()


def test_the_recalibration_of_l_snet(ndim):
    """W = 320, x = 102, l = 20, r = 30, alpha = 15: by eq. (3) s = 0.203125 and b = -53, from the image's centre."""
    width, scale, shift = 320, 0.203125, -53.0
    ramp = (torch.arange(width, dtype=torch.float64) + 0.5).expand(1, 1, *(2,) * (ndim - 1), width)
    box = torch.zeros(1, 2, ndim, dtype=torch.float64)
    box[0, 1], box[0, :, -1] = 2.0, torch.tensor([102 - 20 - 7.5, 102 + 30 + 7.5])
    line = sample_regions(ramp, box, FIRST, (*(2,) * (ndim - 1), width))[0, 0].reshape(-1, width)[0]
    from_centre = ramp[(0,) * (ndim + 1)] - width / 2
    torch.testing.assert_close(line, scale * from_centre + shift + width / 2, rtol=0, atol=1e-9)
    assert line[0].item() - scale / 2 == pytest.approx(74.5)
    assert line[-1].item() + scale / 2 == pytest.approx(139.5)
    assert line[159:161].mean().item() == pytest.approx(107)
    # The printed inverse, x / (s + eps) - b, takes the centre of the box to -207.9 instead of 0.
    assert shift / (scale + 1e-7) - shift == pytest.approx(-207.9, abs=0.05)
    pasted = paste_regions(from_centre.expand(1, 1, *(2,) * (ndim - 1), -1), box, ramp.shape[2:])
    inverse = pasted[0, 0].reshape(-1, width)[0]
    assert inverse[106:108].mean().item() == pytest.approx(0, abs=1e-3)  # voxels 106 and 107 meet at 107
    assert (inverse.nonzero()[0].item(), inverse.nonzero()[-1].item()) == (74, 138)  # centres in [74.5, 139.5)


def test_a_region_that_is_pasted_back_is_the_image_inside_the_box_and_zero_outside(ndim):
    shape = (24, 40, 36)[-ndim:]
    image, inside = smooth(shape), torch.zeros(1, 1, *shape, dtype=torch.bool)
    box = torch.tensor([[[3.2, 8.6, 5.0], [17.7, 31.5, 30.1]]], dtype=torch.float64)[:, :, -ndim:]
    inside[(..., *(slice(*ends) for ends in [(3, 18), (9, 31), (5, 30)][-ndim:]))] = True  # the centres in the box
    region = sample_regions(image, box, FIRST, (50,) * ndim)
    pasted = paste_regions(region, box, shape)
    assert (pasted[~inside] == 0).all()
    # Two linear interpolations, and a region that is constant in its outer half cells.
    assert (pasted - image)[inside].abs().max() < 0.02


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_whole_image_at_its_own_size_is_the_image(ndim, dtype):
    shape = (5, 320, 317)[-ndim:]
    image = torch.rand(2, 2, *shape, dtype=dtype)
    box = torch.tensor([[0.0] * ndim, shape], dtype=dtype).expand(2, 2, ndim)
    region = sample_regions(image, box, torch.tensor([1, 0]), shape)
    torch.testing.assert_close(region, image.flip(0), rtol=0, atol=1e-6)
    torch.testing.assert_close(paste_regions(image, box, shape), image, rtol=0, atol=ndim * 320 * 1e-7)  # eps per cell


@pytest.mark.parametrize("count", [1, 2], ids=["one image", "two images"])
def test_no_boxes_give_no_regions_and_no_gradient(scene, count):
    images, boxes, index, size = scene
    images = leaf(images[:count])
    regions = sample_regions(images, boxes[:0], index[:0], size)
    pasted = paste_regions(regions, boxes[:0], images.shape[2:])
    assert regions.shape == (0, 3, *size)
    assert pasted.shape == (0, 3, *images.shape[2:])
    pasted.sum().backward()
    assert (images.grad == 0).all()


def test_a_broken_box_spoils_nothing_but_its_own_region(scene):
    images, boxes, index, size = scene
    broken = boxes.clone()
    broken[3, 0, 0] = torch.nan
    result, expected = (sample_regions(images, some, index, size) for some in (broken, boxes))
    others = torch.arange(len(boxes)) != 3
    assert result[3].isnan().all()
    assert torch.equal(result[others], expected[others])


def test_a_box_without_extent_has_no_gradient_of_nan(scene):
    images, boxes, index, size = scene
    flat = leaf(boxes[:, :1].expand_as(boxes))
    paste_regions(sample_regions(images, flat, index, size), flat, images.shape[2:]).sum().backward()
    assert flat.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_costs_no_position(scene, dtype):
    images, boxes, index, size = scene
    images, boxes = leaf(images.to(dtype)), boxes.float()
    with torch.autocast("cpu", torch.bfloat16):
        regions = sample_regions(images, boxes, index, size)
        pasted = paste_regions(regions, boxes, images.shape[2:])
        pasted.sum().backward()
    assert regions.dtype == pasted.dtype == images.grad.dtype == dtype
    assert torch.equal(regions, sample_regions(images.float(), boxes, index, size).to(dtype))
    assert torch.equal(pasted, paste_regions(regions.float(), boxes, images.shape[2:]).to(dtype))


def test_numpy_gives_numpy(scene):
    images, boxes, index, size = scene
    regions = sample_regions(images.numpy(), boxes.numpy(), index.numpy(), size)
    assert isinstance(regions, np.ndarray)
    np.testing.assert_array_equal(regions, sample_regions(images, boxes, index, size).numpy())
    pasted = paste_regions(regions, boxes.numpy(), images.shape[2:])
    np.testing.assert_array_equal(pasted, paste_regions(torch.from_numpy(regions), boxes, images.shape[2:]).numpy())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda given: given | {"output_size": (7,)}, "output_size is .*a positive number for each of the"),
        (lambda given: given | {"output_size": (0, 3, 3, 3)}, "output_size is"),
        (lambda given: given | {"images": given["images"][0]}, "images must have two axes more than the boxes'"),
        (lambda given: given | {"index": given["index"] + 1}, r"index must lie in 0\.\.1, got 1\.\.2"),
        (lambda given: given | {"index": given["index"] - 1}, r"index must lie in 0\.\.1, got -1\.\.0"),
        (lambda given: given | {"index": given["index"][:4], "boxes": given["boxes"][:4, :, :1]}, "two axes more"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(scene, change, words):
    given = dict(zip(("images", "boxes", "index", "output_size"), scene, strict=True))
    with pytest.raises(ValueError, match=words):
        sample_regions(**change(given))


def test_regions_that_cannot_be_pasted_are_refused(scene, ndim):
    _, boxes, _, size = scene
    regions = torch.ones(len(boxes), 1, *size)
    with pytest.raises(ValueError, match=r"boxes\[2\].*finite, the lower not above the upper"):
        paste_regions(regions, torch.cat([boxes[:2], boxes[2:].flip(1)]), SHAPE[-ndim:])
    with pytest.raises(ValueError, match="shape is"):
        paste_regions(regions, boxes, (4,))
    with pytest.raises(ValueError, match="regions must have two axes more"):
        paste_regions(regions[..., 0], boxes, SHAPE[-ndim:])


def test_what_cannot_be_interpolated_and_columns_of_another_length_are_refused(scene, ndim):
    images, boxes, index, size = scene
    sample, paste = map(inspect.unwrap, (sample_regions, paste_regions))  # without the shape checks of the tests
    with pytest.raises(ValueError, match=r"images hold torch\.int64.*convert them to float"):
        sample(images.long(), boxes, index, size)
    with pytest.raises(ValueError, match="index must have one number for each of the 9 boxes, got 4"):
        sample(images, boxes, index[:4], size)
    with pytest.raises(ValueError, match="regions must have one map for each of the 9 boxes, got 2"):
        paste(images, boxes, SHAPE[-ndim:])


def test_sampling_compiles_without_a_break(scene, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # what checks shapes does not compile
    images, boxes, index, size = scene
    compiled, gradients = torch.compile(sample_regions, fullgraph=True, backend="eager"), []
    for function in (sample_regions, compiled):
        leaves = leaf(images), leaf(boxes)
        gradients.append(torch.autograd.grad(function(*leaves, index, size).square().sum(), leaves))
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("factor", [0.1, 1.0, -2.0])
def test_a_scaled_gradient_changes_no_value(factor):
    x = leaf(torch.tensor([1.1, -3.3, torch.inf]))
    scaled = scale_gradient(x, factor)
    assert torch.equal(scaled, x)
    (gradient,) = torch.autograd.grad(scaled, x, torch.tensor([1.0, 2.0, 3.0]))
    torch.testing.assert_close(gradient, factor * torch.tensor([1.0, 2.0, 3.0]))


def test_the_factor_zero_cuts_the_gradient():
    x = leaf(torch.rand(3))
    scaled = scale_gradient(x, 0)
    assert torch.equal(scaled, x)
    assert not scaled.requires_grad
