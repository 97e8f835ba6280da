"""The plan: what each rule promises for every data set."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxel.preparation.anchors import fit_levels, retina_unet_anchors
from boxel.preparation.plan import PlanConfig, plan
from boxel.types import Normalisation, Task
from tests.unit.preparation.fingerprints import cubes, data


def spanned(task, edge, level):
    return edge / task.level_strides[task.levels.index(level)][-1]


edges = st.integers(1, 1200)
mm = st.floats(0.1, 12)


@given(st.data(), st.integers(2, 3))
def test_every_plan_is_consistent_and_within_the_budget(draw, ndim):
    grid = st.tuples(*[edges] * ndim)
    shapes = draw.draw(st.lists(grid, min_size=1, max_size=4))
    spacings = [draw.draw(st.tuples(*[mm] * ndim)) for _ in shapes]
    sizes = draw.draw(st.lists(st.tuples(*[st.floats(1, max(1, n)) for n in shapes[0]]), max_size=8))
    config = PlanConfig(voxels_per_step=draw.draw(st.integers(2**14, 2**21)))
    task = plan(data(shapes, spacings, tuple(sizes)), config)

    unit = np.prod(task.strides, axis=0)
    assert (np.array(task.patch_size) % unit == 0).all()
    assert np.prod(task.patch_size) <= max(config.voxels_per_step // 2, np.prod(unit))
    assert 2 <= task.batch_size <= 16
    assert 1 <= task.levels[0] <= task.levels[-1] <= len(task.strides) <= 6
    assert list(task.levels) == list(range(task.levels[0], task.levels[-1] + 1))
    assert len(task.anchors) == len(task.levels) == len(task.level_strides)
    assert len({len(level) for level in task.anchors}) == 1
    assert all(len(size) == ndim and min(size) > 0 for level in task.anchors for size in level)
    assert Task.from_dict(task.model_dump(mode="json")) == task
    explained = {
        "ndim",
        "spacing",
        "normalisation",
        "patch_size",
        "batch_size",
        "strides",
        "levels",
        "anchors",
        "max_detections",
        "masks",
    }
    assert set(task.why) == explained
    assert all(sentence.endswith(".") for sentence in task.why.values())


def test_target_spacing_is_the_median_per_axis():
    task = plan(data([(64, 64)] * 3, [(1.0, 0.5), (2.0, 0.5), (1.2, 3.0)], cubes(2, 10)))
    assert task.spacing == (1.2, 0.5)


def test_a_coarse_axis_takes_its_fine_cases_but_never_gets_finer_than_the_others():
    spacings = [(z, 0.7, 0.7) for z in np.linspace(1.0, 6.0, 11)]
    task = plan(data([(60, 300, 300)] * 11, spacings, cubes(3, 10)))
    assert task.spacing == (1.5, 0.7, 0.7)  # 10th percentile; the median is 3.5
    spacings = [(z, 0.7, 0.7) for z in [0.1] * 4 + [5.0] * 7]
    assert plan(data([(60, 300, 300)] * 11, spacings, cubes(3, 10))).spacing == (0.7, 0.7, 0.7)


def test_coarse_axes_wait_until_the_others_have_caught_up():
    task = plan(data([(24, 512, 512)], [(5.0, 0.7, 0.7)], ((4.0, 90.0, 90.0),)))
    assert task.strides[:3] == ((1, 2, 2), (1, 2, 2), (2, 2, 2))


def test_whole_images_are_patches_where_they_fit(ndim):
    shape = (50,) * ndim
    task = plan(data([shape] * 3, [(1.0,) * ndim] * 3, cubes(ndim, 12, 14)))
    total = np.prod(task.strides, axis=0)
    assert task.patch_size == tuple((np.ceil(50 / total) * total).astype(int))
    assert "covers the largest image" in task.why["patch_size"]


def test_a_huge_volume_gets_a_patch_of_equal_edges_in_mm_that_holds_its_objects():
    task = plan(data([(300, 512, 512)], [(1.0, 1.0, 1.0)], cubes(3, 20, 30)))
    assert task.patch_size == (64, 64, 64)
    assert "exceed the budget" in task.why["patch_size"]
    flat = plan(data([(100, 512, 512)], [(2.5, 1.0, 1.0)], ((8.0, 20.0, 20.0),)))
    edges_mm = np.array(flat.patch_size) * flat.spacing
    assert edges_mm.max() / edges_mm.min() < 1.5


def test_objects_larger_than_any_patch_within_the_budget_are_pointed_out():
    task = plan(data([(300, 300, 300)], [(1.0, 1.0, 1.0)], cubes(3, 200)), PlanConfig(spacing=(1, 1, 1)))
    assert "exceed it: consider a coarser spacing or more voxels_per_step" in task.why["patch_size"]
    task = plan(data([(300, 300)], [(1.0, 1.0)], cubes(2, 200)), PlanConfig(patch_size=(64, 64)))
    assert "exceed it: consider a coarser spacing or a larger patch_size" in task.why["patch_size"]


def test_a_tiny_image_still_has_a_plan(ndim):
    task = plan(data([(3,) * ndim], [(1.0,) * ndim], cubes(ndim, 2)))
    assert task.levels == (1,)
    assert min(task.patch_size) >= 3


@pytest.mark.parametrize(
    ("objects", "levels"),
    [
        ((4,), (1,)),
        ((8, 9), (2,)),
        ((16,), (2,)),
        ((40,), (3,)),
        ((8,) * 9 + (64,), (2, 3, 4)),
        ((130, 140), (5,)),
    ],
)
def test_objects_span_about_four_cells_of_the_levels_that_detect_them(ndim, objects, levels):
    task = plan(data([(512,) * ndim], [(1.0,) * ndim], cubes(ndim, *objects)), PlanConfig(voxels_per_step=2**29))
    assert task.levels == levels
    assert spanned(task, max(objects), levels[-1]) <= 6
    assert spanned(task, min(objects), levels[0]) >= 1.5


def test_a_data_set_without_objects_has_a_plan(ndim):
    task = plan(data([(128,) * ndim], [(1.0,) * ndim], ()))
    assert task.levels[0] == 2
    assert len(task.anchors) == len(task.levels)


def test_anchors_find_the_sizes_that_objects_have(ndim):
    rng = np.random.default_rng(0)
    planted = np.array([(10.0,) * ndim, (20.0,) + (12.0,) * (ndim - 1), (24.0,) * ndim])
    sizes = planted[rng.integers(0, 3, 300)] * rng.uniform(0.97, 1.03, (300, 1))
    anchors, iou = fit_levels(sizes, [(4,) * ndim], 3)
    np.testing.assert_allclose(anchors[0], planted, rtol=0.02)
    assert iou > 0.95


def test_more_anchor_sizes_are_taken_only_while_they_help(ndim):
    same = plan(data([(256,) * ndim], [(1.0,) * ndim], cubes(ndim, *[20] * 30)))
    assert same.anchors == (((20.0,) * ndim,),)
    mixed = plan(data([(256,) * ndim], [(1.0,) * ndim], cubes(ndim, *[12, 20] * 30)))
    assert len(mixed.anchors[0]) > 1


def test_a_level_without_objects_gets_the_scaled_anchors_of_its_neighbour(ndim):
    anchors, _ = fit_levels(np.full((9, ndim), 16.0), [(4,) * ndim, (8,) * ndim], 1)
    assert anchors == (((16.0,) * ndim,), ((32.0,) * ndim,))


# Numbers of Retina U-Net's toolkit: in-plane 8/10.08/12.70 on P2, 64/80.63/101.59 on P5, z 2/2.52/3.17 on P2.
def test_the_fixed_anchors_are_those_of_the_retina_unet_toolkit():
    p2, p5 = retina_unet_anchors(3, (2, 5), "mdt")
    assert len(p2) == 9
    square = [size for size in p2 if size[1] == size[2]]
    np.testing.assert_allclose(square, [(2, 8, 8), (2.52, 10.08, 10.08), (3.17, 12.70, 12.70)], atol=0.005)
    np.testing.assert_allclose(p2[0], (2, 8 * 2**0.5, 8 / 2**0.5))
    assert max(size[2] for size in p5) == pytest.approx(101.59 * 2**0.5, abs=0.01)
    flat = retina_unet_anchors(2, (2,), "paper")[0]
    np.testing.assert_allclose(
        [size for size in flat if size[0] == size[1]], [(4, 4), (5.04, 5.04), (6.35, 6.35)], atol=0.005
    )


@pytest.mark.parametrize(
    ("channel", "kind"),
    [
        ("CT", "ct"),
        ("ct_venous", "ct"),
        ("MRI", "z_score"),
        ("actin", "z_score"),
        ("none", "none"),
        ("raw", "none"),
    ],
)
def test_normalisation_follows_the_name_of_the_channel(channel, kind):
    assert plan(data([(64, 64)], [(1.0, 1.0)], cubes(2, 9), (channel,))).normalisation[0].kind == kind


def test_ct_takes_the_data_sets_numbers():
    (rule,) = plan(data([(64, 64)], [(1.0, 1.0)], cubes(2, 9), ("CT",))).normalisation
    assert rule == Normalisation(kind="ct", lower=-80, upper=200, mean=40, std=20)


def test_slice_wise_models_have_fewer_axes_than_the_images():
    config = PlanConfig(ndim=2, context=3)
    task = plan(data([(100, 256, 256)], [(3.0, 1.0, 1.0)], ((4.0, 16.0, 16.0),)), config)
    assert (task.ndim, task.context) == (2, 3)
    assert task.spacing == (3.0, 1.0, 1.0)
    assert task.patch_size == (256, 256)
    assert task.anchors[0][0] == (16.0, 16.0)


def test_the_papers_setting_can_be_prescribed():
    strides = ((2, 2), (2, 2), (2, 2), (2, 2), (2, 2))
    config = PlanConfig(
        patch_size=(320, 320), batch_size=20, strides=strides, levels=(2, 3, 4, 5), anchors="mdt", max_detections=10
    )
    task = plan(data([(320, 320)] * 2, [(1.0, 1.0)] * 2, cubes(2, 20)), config)
    assert task.level_strides == ((4, 4), (8, 8), (16, 16), (32, 32))
    assert (task.patch_size, task.batch_size, task.max_detections) == ((320, 320), 20, 10)
    assert len(task.anchors[0]) == 9


def test_max_detections_leaves_room_above_the_fullest_image():
    task = plan(data([(256, 256)], [(1.0, 1.0)], cubes(2, *[9] * 91)))
    assert task.max_detections == 300
    assert [task.detections_in(shape) for shape in ((256, 256), (100, 100), (512, 1024))] == [300, 300, 2400]


def test_a_max_detections_that_was_set_holds_for_images_of_every_size():
    task = plan(data([(256, 256)], [(1.0, 1.0)], cubes(2, 9)), PlanConfig(max_detections=30))
    assert [task.detections_in(shape) for shape in ((256, 256), (512, 1024))] == [30, 30]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ndim": 3}, "ndim 3: the images have 2 axes"),
        ({"context": 1}, "context 1: only slice-wise models"),
        ({"spacing": (1.0,)}, "spacing .* 2 axes"),
        ({"patch_size": (64,)}, "patch_size .* 2 axes"),
        ({"strides": ((2, 2, 2),)}, "strides .* 2 axes"),
        (
            {"patch_size": (50, 64), "strides": ((2, 2), (2, 2))},
            "50x64 must be a multiple of .* 4x4; use 52x64",
        ),
        ({"strides": ((2, 2), (2, 2)), "levels": (2, 4)}, "the backbone has 2 stages"),
        ({"levels": (2,), "anchors": ()}, r"levels \[2\] need a list of sizes each"),
        ({"levels": (2,), "anchors": (((8.0,),),)}, "anchors .* 2 axes"),
        ({"normalisation": ("ct", "ct")}, "2 kinds for 1 channels"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        plan(data([(256, 256)], [(1.0, 1.0)], cubes(2, 16)), PlanConfig.from_dict(settings))


def test_a_setting_without_effect_warns():
    with pytest.warns(UserWarning, match="num_anchors has no effect"):
        plan(data([(256, 256)], [(1.0, 1.0)], cubes(2, 16)), PlanConfig(anchors="mdt", num_anchors=2))
