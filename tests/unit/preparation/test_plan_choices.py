"""The plan with a fixed window, and with a spacing in voxels of each image."""

import pytest

from boxel.preparation.plan import PlanConfig, plan
from boxel.types import Normalisation
from tests.unit.preparation.fingerprints import cubes, data


def test_a_fixed_window_replaces_the_numbers_of_the_data():
    """The middle of -100 to 240 is 70, and half of its width 170."""
    image = data([(64, 64)], [(1.0, 1.0)], cubes(2, 9), ("CT", "MRI"))
    task = plan(image, PlanConfig(window=(-100, 240)))
    window = Normalisation(kind="ct", lower=-100, upper=240, mean=70, std=170)
    assert task.normalisation == (window, Normalisation(kind="z_score"))
    assert task.why["normalisation"].startswith("CT: clipped to -100..240 as set, mapped to -1..1. MRI: each image")
    both = plan(image, PlanConfig(window=(-100, 240), normalisation=("ct", "ct")))
    assert both.normalisation == (window, window)


def test_fixed_channels_take_the_numbers_that_are_set():
    image = data([(64, 64)], [(1.0, 1.0)], cubes(2, 9), ("red", "CT", "blue"))
    config = PlanConfig(normalisation=("fixed", "ct", "fixed"), means=(123.675, 103.53), stds=(58.395, 57.375))
    task = plan(image, config)
    first, second, third = task.normalisation
    assert first == Normalisation(kind="fixed", mean=123.675, std=58.395)
    assert second.kind == "ct"
    assert third == Normalisation(kind="fixed", mean=103.53, std=57.375)
    assert task.why["normalisation"].startswith("red: minus 123.675, divided by 58.395, as set. CT: clipped")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"normalisation": ["fixed"]}, "means has 0 numbers, but normalisation has 1 channel that is fixed"),
        ({"normalisation": ["fixed"], "means": [1]}, "stds has 0 numbers"),
        ({"normalisation": ["fixed"] * 2, "means": [1, 2], "stds": [1]}, "stds has 1 number, .* 2 channels that are"),
        ({"means": [1], "stds": [1]}, "means has 1 number, but normalisation has 0 channels that are fixed"),
        ({"normalisation": ["ct"], "stds": [1]}, "stds has 1 number"),
        ({"normalisation": ["fixed"], "means": [1], "stds": [0]}, "greater than 0"),
    ],
)
def test_numbers_that_do_not_fit_the_fixed_channels_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        PlanConfig.from_dict(settings)


@pytest.mark.parametrize("window", [(240, -100), (5, 5)])
def test_a_window_that_ends_before_it_begins_is_refused(window):
    with pytest.raises(ValueError, match=r"window: the lower end must be below the upper"):
        PlanConfig.from_dict({"window": window})


def test_a_window_without_a_channel_to_apply_it_to_warns():
    with pytest.warns(UserWarning, match=r"plan\.window has no effect; no channel is normalised as ct \(MRI\)"):
        plan(data([(64, 64)], [(1.0, 1.0)], cubes(2, 9)), PlanConfig(window=(-100, 240)))


def test_a_spacing_in_voxels_plans_for_the_same_number_of_voxels_in_every_image():
    """512 x 512 at 0.7 and at 0.9 mm are both 320 x 320; objects of 48 voxels become 30."""
    images = data([(100, 512, 512)] * 2, [(1.0, 0.7, 0.7), (2.5, 0.9, 0.9)], ((10.0, 48.0, 48.0),))
    task = plan(images, PlanConfig(ndim=2, spacing=(1, 1.6, 1.6), spacing_unit="voxel", num_anchors=1, levels=(2,)))
    assert (task.spacing, task.spacing_unit) == ((1, 1.6, 1.6), "voxel")
    assert task.image_voxels == 100 * 320 * 320
    assert task.anchors[0][0] == pytest.approx((30, 30), rel=0.01)
    assert task.why["spacing"] == "Set to 1x1.6x1.6 voxels of each image."


def test_anchors_for_another_number_of_levels_are_refused_with_an_example():
    config = PlanConfig(levels=(2, 3), anchors=(((8.0, 8.0),),))
    message = r"levels \[2, 3\] need a list of sizes each, equally long, such as \[\[\[16, 16\]\], \[\[32, 32\]\]\]"
    with pytest.raises(ValueError, match=message):
        plan(data([(64, 64)], [(1.0, 1.0)], cubes(2, 9)), config)


def test_a_level_that_occurs_twice_is_refused():
    with pytest.raises(ValueError, match=r"levels \(2, 3, 3\): a level occurs twice"):
        plan(data([(64, 64)], [(1.0, 1.0)], cubes(2, 9)), PlanConfig(levels=(3, 2, 3)))


def test_a_wrong_list_is_named_by_its_place_not_by_types():
    with pytest.raises(ValueError, match=r"; anchors\.0\.1: Input should be a valid list \(given: '10'\)$") as error:
        PlanConfig.from_dict({"anchors": [[[8, 8], 10]]})
    assert "tuple" not in str(error.value)


def test_by_default_a_spacing_in_voxels_keeps_every_grid(ndim):
    images = data([(64,) * ndim, (96,) * ndim], [(0.7,) * ndim, (3.0,) * ndim], cubes(ndim, 9))
    task = plan(images, PlanConfig(spacing_unit="voxel"))
    assert task.spacing == (1.0,) * ndim
    assert task.image_voxels == (64**ndim + 96**ndim) // 2


def test_strides_follow_the_mm_of_the_images_though_the_spacing_is_in_voxels():
    """Planes 5 mm apart are strided later than pixels of 1 mm, as with a spacing of 5 x 1 x 1 mm."""
    images = data([(64, 256, 256)] * 3, [(5.0, 1.0, 1.0)] * 3, cubes(3, 12))
    assert plan(images, PlanConfig(spacing_unit="voxel")).strides == plan(images, PlanConfig()).strides
    assert plan(images, PlanConfig(spacing_unit="voxel")).strides[0] == (1, 2, 2)
