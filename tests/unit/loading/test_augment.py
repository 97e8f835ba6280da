"""Augmentation moves image, label map and boxes as one."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from boxel.loading.augment import AugmentConfig, Spatial, apply_spatial, augment, blur, change_colour, sample_spatial
from boxel.loading.mosaic import compose
from boxel.ops.masks import boxes_from_label_map
from boxel.ops.overlaps import iou
from boxel.types import Batch
from tests.unit.builders import make_batch, make_instances, make_task


def test_without_augmentation_a_batch_is_unchanged(ndim):
    batch = make_batch(make_task(ndim), 2, objects=2)
    nothing = AugmentConfig(mirror=0, spatial=0, intensity=0)
    out = augment(batch, nothing, batch.label_maps.shape[1:], torch.Generator().manual_seed(0))
    assert torch.equal(out.images, batch.images)
    assert torch.equal(out.label_maps, batch.label_maps)


@given(st.integers(0, 10_000), st.sampled_from([2, 3]))
def test_mirrored_boxes_are_the_boxes_of_the_mirrored_masks(seed, ndim):
    batch = make_batch(make_task(ndim), 1, objects=1, seed=seed)
    mirror = AugmentConfig(mirror=0.5, spatial=0, intensity=0)
    out = augment(batch, mirror, batch.label_maps.shape[1:], torch.Generator().manual_seed(seed))
    boxes_only = replace(batch.instances[0], has_mask=torch.zeros(1, dtype=torch.bool))
    carried = augment(
        replace(batch, instances=[boxes_only]),
        mirror,
        batch.label_maps.shape[1:],
        torch.Generator().manual_seed(seed),
    )
    assert torch.allclose(out.instances[0].boxes, carried.instances[0].boxes, atol=1e-4)
    masked, _ = boxes_from_label_map(out.label_maps[0], out.instances[0].ids)
    assert torch.equal(out.instances[0].boxes, masked)


@given(st.integers(0, 10_000), st.sampled_from([2, 3]))
def test_the_carried_box_of_a_ball_is_the_box_of_its_transformed_mask_within_a_voxel(seed, ndim):
    shape = (40,) * ndim
    axes = torch.meshgrid(*[torch.arange(40) + 0.5] * ndim, indexing="ij")
    generator = torch.Generator().manual_seed(seed)
    centre = 16 + 8 * torch.rand(ndim, generator=generator)
    radii = 5 + 3 * torch.rand(ndim, generator=generator)
    inside = sum(((a - c) / r) ** 2 for a, c, r in zip(axes, centre, radii, strict=True)) < 1
    truth = make_instances(torch.stack([centre - radii, centre + radii])[None].tolist(), [0], ndim)
    batch = Batch(inside.float()[None, None], inside.int()[None], [truth], ("ball",))
    spatial = sample_spatial(AugmentConfig(mirror=0.5, spatial=1.0), 1, ndim, generator)
    by_mask = apply_spatial(batch, spatial, shape).instances[0].boxes
    alone = replace(truth, has_mask=torch.zeros(1, dtype=torch.bool))
    by_hull = apply_spatial(replace(batch, instances=[alone]), spatial, shape).instances[0].boxes
    assert (by_mask - by_hull).abs().max() <= 1.5  # a voxel of discretisation on either side of half a voxel


def test_images_and_masks_move_together(ndim):
    task = make_task(ndim)
    batch = make_batch(task, 4, objects=1)
    config = AugmentConfig(spatial=1.0, elastic=2.0, intensity=0)
    out = augment(batch, config, task.patch_size, torch.Generator().manual_seed(1))
    for image, label_map in zip(out.images, out.label_maps, strict=True):
        assert image[0][label_map > 0].mean() > image[0][label_map == 0].mean() + 0.5


def test_objects_that_leave_the_patch_are_dropped(ndim):
    batch = make_batch(make_task(ndim), 1, objects=1)
    tiny = Spatial(torch.eye(ndim)[None] * 0.01, None)  # a strong magnification of the centre
    corner = make_instances([[[0] * ndim, [2] * ndim]], [0], ndim, masks=False)
    out = apply_spatial(replace(batch, instances=[corner]), tiny, batch.label_maps.shape[1:])
    assert out.instances[0].boxes.shape == (0, 2, ndim)


def test_a_larger_region_is_cut_about_its_centre(ndim):
    task = make_task(ndim)
    batch = make_batch(task, 1, objects=1)
    out = augment(batch, AugmentConfig(mirror=0, spatial=0, intensity=0), (16,) * ndim, torch.Generator())
    middle = (slice(None), slice(None), *(slice(4, 20),) * ndim)
    assert torch.equal(out.images, batch.images[middle])


def test_the_same_generator_state_gives_the_same_batch(ndim):
    batch = make_batch(make_task(ndim), 2)
    config = AugmentConfig(spatial=1.0, intensity=1.0, elastic=1.0)
    first, second = (
        augment(batch, config, batch.label_maps.shape[1:], torch.Generator().manual_seed(3)) for _ in range(2)
    )
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.instances[0].boxes, second.instances[0].boxes)


def test_blur_keeps_the_mean_of_a_constant_and_spreads_a_point(ndim):
    image = torch.zeros((1,) + (15,) * ndim)
    image[(0, *(7,) * ndim)] = 1.0
    blurred = blur(image, 1.0)
    assert blurred.sum().item() == pytest.approx(1.0, abs=1e-4)
    assert blurred.max() < 0.5
    assert torch.allclose(blur(torch.full_like(image, 3.0), 2.0), torch.full_like(image, 3.0), atol=1e-5)


def test_boxes_rotated_by_a_right_angle_are_exact():
    quarter = torch.tensor([[[0.0, -1.0], [1.0, 0.0]]])
    batch = make_batch(make_task(2), 1)
    box = make_instances([[[2, 3], [6, 13]]], [0], 2, masks=False)
    out = apply_spatial(replace(batch, instances=[box]), Spatial(quarter, None), (24, 24)).instances[0].boxes
    assert iou(out, torch.tensor([[[3.0, 18.0], [13.0, 22.0]]])).item() == pytest.approx(1.0, abs=1e-4)


@given(st.integers(0, 10_000), st.sampled_from([2, 3]))
def test_ignored_regions_move_as_boxes_do(seed, ndim):
    batch = make_batch(make_task(ndim), 2, objects=3, seed=seed)
    boxes_only = [replace(objects, has_mask=torch.zeros(3, dtype=torch.bool)) for objects in batch.instances]
    batch = replace(batch, instances=boxes_only, ignored=[objects.boxes for objects in boxes_only])
    out = augment(batch, AugmentConfig(spatial=1.0), batch.label_maps.shape[1:], torch.Generator().manual_seed(seed))
    for regions, objects in zip(out.ignored, out.instances, strict=True):
        assert torch.equal(regions, objects.boxes)


MOSAIC = AugmentConfig(mirror=0, spatial=0, intensity=0, mosaic=1.0)


def mosaic_of(batch, seed=0, config=MOSAIC):
    return augment(batch, config, tuple(batch.label_maps.shape[1:]), torch.Generator().manual_seed(seed))


def numbered(ndim, count, size=20):
    """Images of which every voxel has a value of its own, with an object of 6 voxels and an ignored region."""
    values = torch.arange(count * size**ndim, dtype=torch.float32).reshape(count, 1, *[size] * ndim)
    label_maps = torch.zeros((count, *[size] * ndim), dtype=torch.int32)
    label_maps[(slice(None), *[slice(7, 13)] * ndim)] = 1
    instances = [make_instances([[[7] * ndim, [13] * ndim]], [k % 2], ndim) for k in range(count)]
    ignored = [torch.tensor([[[2.0] * ndim, [5.0] * ndim]]) for _ in range(count)]
    return Batch(values, label_maps, instances, tuple("abcdefgh"[:count]), ignored)


@given(st.integers(0, 10_000), st.sampled_from([2, 3]), st.sampled_from([1, 2, 4, 5]))
def test_a_mosaic_is_made_of_whole_regions_of_four_images_and_their_objects_follow(seed, ndim, count):
    """Each voxel says which voxel it was: the masks, boxes and ignored regions must say the same."""
    batch = numbered(ndim, count)
    out = mosaic_of(batch, seed)
    shape, ids = (20,) * ndim, batch.label_maps.flatten()
    for image in range(count):
        origin = out.images[image, 0].long()
        source = origin // 20**ndim
        assert len(source.unique()) == min(count, 4)
        assert (source == image).any()
        assert torch.equal(out.label_maps[image] > 0, ids[origin] > 0)
        jumps = [(origin.diff(dim=axis) != 20 ** (ndim - 1 - axis)).flatten(0).any() for axis in range(ndim)]
        assert not any(jumps[:-2])  # divided along the last two axes only
        objects = out.instances[image]
        assert len(objects.ids.unique()) == len(objects)
        for box, label, number in zip(objects.boxes, objects.labels, objects.ids, strict=True):
            where = (out.label_maps[image] == number).nonzero()
            assert torch.equal(box, torch.stack([where.min(0).values, where.max(0).values + 1]).float())
            (one,) = source[tuple(where.T)].unique()
            assert label == one % 2
        assert set(out.label_maps[image].unique().tolist()) - {0} == set(objects.ids.tolist())
        covered = torch.zeros(shape, dtype=torch.bool)
        for lower, upper in out.ignored[image].long():
            covered[tuple(slice(a, b) for a, b in zip(lower.tolist(), upper.tolist(), strict=True))] = True
        place = origin % 20**ndim
        places = torch.stack([place // 20 ** (ndim - 1 - axis) % 20 for axis in range(ndim)])
        assert torch.equal(covered, ((places >= 2) & (places < 5)).all(0))


def test_boxes_without_masks_follow_in_a_mosaic_as_those_with_masks(ndim):
    batch = numbered(ndim, 4)
    bare = [replace(one, has_mask=torch.zeros(1, dtype=torch.bool)) for one in batch.instances]
    with_masks, without = mosaic_of(batch), mosaic_of(replace(batch, instances=bare))
    for one, other in zip(with_masks.instances, without.instances, strict=True):
        assert torch.equal(one.boxes, other.boxes)


@pytest.mark.parametrize("seed", range(8))
def test_a_thin_patch_is_divided_too_and_one_without_two_voxels_refused(ndim, seed):
    batch = numbered(ndim, 4)
    thin = replace(batch, images=batch.images[..., 9:11], label_maps=batch.label_maps[..., 9:11])
    out = compose(thin, 1.0, torch.Generator().manual_seed(seed))
    assert out.images.shape == thin.images.shape
    flat = replace(batch, images=batch.images[..., :1], label_maps=batch.label_maps[..., :1])
    with pytest.raises(ValueError, match=r"train\.augment\.mosaic"):
        compose(flat, 1.0, torch.Generator())


def test_mosaics_repeat_and_are_off_unless_asked_for(ndim):
    batch = numbered(ndim, 4)
    first, second = mosaic_of(batch, 3), mosaic_of(batch, 3)
    assert torch.equal(first.images, second.images)
    assert not torch.equal(first.images, batch.images)
    assert set(first.cases[0].split(" + ")) == set("abcd")
    assert AugmentConfig().mosaic == 0
    assert torch.equal(mosaic_of(batch, 3, MOSAIC.model_copy(update={"mosaic": 0.0})).images, batch.images)
    with pytest.raises(ValueError, match=r"mosaic.*less than or equal to 1"):
        AugmentConfig.from_dict({"mosaic": 1.5})


def test_jitter_moves_every_border_by_at_most_its_share(ndim):
    """The borders of a patch of 24 lie up to 6 voxels further in or out, each on its own."""
    config = AugmentConfig(mirror=0, spatial=0, jitter=0.25)
    spatial = sample_spatial(config, 200, ndim, torch.Generator().manual_seed(0))
    patch = torch.full((ndim,), 24.0)
    borders = torch.stack([torch.zeros(ndim), patch])[None]
    # A region equal to the patch, carried back: what the patch's borders are in it.
    moved = torch.cat(
        [
            (m.diagonal() * (borders[0] + s * patch - 12) + 12)[None]
            for m, s in zip(spatial.matrix, spatial.shift, strict=True)
        ]
    )
    change = moved - borders
    assert change.abs().max() <= 6 + 1e-4
    assert change.amin((0,)).max() < -5
    assert change.amax((0,)).min() > 5
    assert not torch.allclose(change[:, 0], change[:, 1])


def test_jittered_boxes_are_those_of_the_jittered_masks(ndim):
    batch = make_batch(make_task(ndim), 4, objects=1)
    config = AugmentConfig(mirror=0.5, spatial=0, intensity=0, jitter=0.2)
    spatial = sample_spatial(config, 4, ndim, torch.Generator().manual_seed(3))
    by_mask = apply_spatial(batch, spatial, (24,) * ndim)
    alone = [replace(one, has_mask=torch.zeros(1, dtype=torch.bool)) for one in batch.instances]
    by_box = apply_spatial(replace(batch, instances=alone), spatial, (24,) * ndim)
    assert any(len(one) for one in by_mask.instances)
    for masked, boxed in zip(by_mask.instances, by_box.instances, strict=True):
        if len(masked):
            assert (masked.boxes - boxed.boxes).abs().max() <= 1.0


def test_saturation_and_hue_keep_the_mean_of_the_channels(ndim):
    image = torch.rand((3,) + (4,) * ndim, generator=torch.Generator().manual_seed(0))
    for colours in ({"saturation": 0.4}, {"hue": 0.1}):
        changed = change_colour(image, AugmentConfig(intensity=1, **colours), torch.Generator().manual_seed(1))
        assert not torch.allclose(changed, image, atol=1e-3)
        torch.testing.assert_close(changed.mean(0), image.mean(0))
    turned = change_colour(image, AugmentConfig(intensity=1, hue=0.1), torch.Generator().manual_seed(1))
    torch.testing.assert_close((turned - turned.mean(0)).norm(dim=0), (image - image.mean(0)).norm(dim=0))


def test_a_third_of_a_turn_of_hue_permutes_the_channels(monkeypatch):
    draws = iter([torch.zeros(2), torch.ones(2)])  # both changes are made, with a strength of 1
    monkeypatch.setattr(torch, "rand", lambda *_, **__: next(draws))
    red = torch.tensor([1.0, 0.0, 0.0])[:, None]
    turned = change_colour(red, AugmentConfig(intensity=1, hue=1 / 3), torch.Generator())
    torch.testing.assert_close(turned, torch.tensor([0.0, 1.0, 0.0])[:, None])


@pytest.mark.parametrize(("channels", "context"), [(("ct",), 0), (("r", "g", "b"), 1)])
def test_colours_are_refused_where_channels_are_none(channels, context):
    with pytest.raises(ValueError, match="leave them at 0"):
        AugmentConfig(saturation=0.5).check_channels(channels, context)
    AugmentConfig().check_channels(channels, context)
