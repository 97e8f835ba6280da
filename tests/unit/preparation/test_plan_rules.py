"""The plan follows the data as an expert would: coarser images, filled patches, anchors without outliers."""

import numpy as np
import pytest

from boxel.preparation.anchors import fit_levels, robust_sizes
from boxel.preparation.plan import PlanConfig, plan
from tests.unit.preparation.fingerprints import cubes, data

SMALL = PlanConfig(patch_extent=2.4, large_patches=8, voxels_per_step=2**18)


def extents(task, edges):
    return [edge / task.spacing[-1] for edge in edges]


def test_images_whose_large_objects_exceed_a_patch_are_made_coarser(ndim):
    edges = [110] * 80 + [220] * 20
    images = data([(640,) * ndim] * 9, [(1.0,) * ndim] * 9, cubes(ndim, *edges))
    task = plan(images, SMALL)
    assert task.spacing[0] > 2
    assert len(set(task.spacing)) == 1
    assert extents(task, [110])[0] >= 24
    assert "coarser than the images" in task.why["spacing"]
    held = np.prod([2 * 220 / task.spacing[0]] * ndim)
    finer = np.prod([2 * 220 / (0.7 * task.spacing[0])] * ndim)
    assert held <= 2**18 / 8 < finer or extents(task, [110])[0] < 30  # no coarser than it has to be


def test_small_objects_of_any_class_keep_twelve_voxels():
    images = data([(640, 640)] * 9, [(1.0, 1.0)] * 9, cubes(2, *[200] * 90, *[20] * 10))
    labels = (0,) * 90 + (1,) * 10
    record = images.cases[0].model_copy(update={"labels": labels})
    two = images.model_copy(update={"classes": ("large", "small"), "cases": (record, *images.cases[1:])})
    assert plan(images, SMALL).spacing == (2.5, 2.5)
    assert plan(two, SMALL).spacing == (1.5, 1.5)


@pytest.mark.parametrize(
    "config",
    [
        PlanConfig(voxels_per_step=2**26),  # a patch shows everything
        PlanConfig(patch_size=(64, 64)),  # as set
        PlanConfig(spacing=(1, 1)),
        PlanConfig(spacing_unit="voxel"),
    ],
)
def test_images_keep_their_spacing_where_nothing_calls_for_a_coarser_one(config):
    images = data([(640, 640)] * 9, [(1.0, 1.0)] * 9, cubes(2, *[200] * 90))
    assert plan(images, config).spacing == (1.0, 1.0)
    small = data([(640, 640)] * 9, [(1.0, 1.0)] * 9, cubes(2, *[20] * 90))
    assert plan(small, SMALL).spacing == (1.0, 1.0)


def test_coarse_axes_stay_as_they_are_until_the_others_have_caught_up():
    images = data([(60, 600, 600)] * 9, [(4.0, 1.0, 1.0)] * 9, ((50.0, 200.0, 200.0),) * 30)
    task = plan(images, SMALL)
    assert task.spacing[0] == max(4.0, task.spacing[1])
    assert task.spacing[1] == task.spacing[2] > 1


def test_a_patch_is_not_mostly_padding(ndim):
    """A few large images do not decide the patch of the many small ones."""
    shapes = [(6,) * (ndim - 1) + (44,)] * 30 + [(60,) * (ndim - 1) + (110,)] * 2
    images = data(shapes, [(1.0,) * ndim] * 32, ((4.0,) * (ndim - 1) + (10.0,),) * 30 + ((40.0,) * ndim,) * 3)
    task = plan(images, SMALL)
    filled = np.prod(np.minimum(1, np.array(shapes[0]) / task.patch_size))
    assert filled >= 0.5


def test_more_large_patches_in_a_step_make_images_coarser_and_not_smaller():
    images = data([(640, 640)] * 9, [(1.0, 1.0)] * 9, cubes(2, *[200] * 90))
    tasks = [plan(images, PlanConfig(large_patches=number, voxels_per_step=2**18)) for number in (1, 4, 8)]
    assert [task.spacing[0] for task in tasks] == [1.0, 2.0, 2.5]
    shown = [np.prod(np.multiply(task.patch_size, task.spacing)) for task in tasks]
    assert shown == sorted(shown)


def test_anchors_are_not_fitted_to_specks_and_outliers(ndim):
    usual = np.random.default_rng(0).uniform(15, 25, (300, 1)) * np.ones(ndim)
    sizes = np.concatenate([usual, np.full((2, ndim), 1.0), np.full((2, ndim), 400.0)])
    anchors, _ = fit_levels(sizes, [(4,) * ndim], 2)
    assert 15 < np.min(anchors[0]) < np.max(anchors[0]) < 25


@pytest.mark.parametrize(("share", "least"), [(0.1, 2.0), (0.4, 1.0)])
def test_specks_count_as_two_voxels_unless_a_quarter_of_the_objects_are_specks(share, least):
    sizes = np.full((1000, 2), 9.0)
    sizes[: int(1000 * share), 0] = 1.0
    assert robust_sizes(sizes).min() == least
    assert robust_sizes(sizes)[:, 1].min() == 9.0


def test_a_hundred_objects_are_all_fitted_to():
    sizes = np.random.default_rng(0).uniform(5, 50, (300, 2))
    assert len(robust_sizes(sizes[:100])) == 100
    assert len(robust_sizes(sizes)) == 296


def test_a_data_set_without_objects_has_no_sizes():
    assert robust_sizes(np.zeros((0, 3))).shape == (0, 3)
