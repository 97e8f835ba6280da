"""Which patch a step sees depends on the seed and the step alone, and foreground patches hold their object."""

from dataclasses import replace

import numpy as np
import pytest

from boxel.datasets.annotations import Shape, Shapes
from boxel.datasets.formats import open_dataset
from boxel.loading.sampler import PatchSampler, SamplerConfig, fold_slices
from boxel.preparation.plan import PlanConfig
from boxel.preparation.prepare import prepare
from boxel.preparation.store import Store


@pytest.fixture
def store(native, tmp_path) -> Store:
    return prepare(open_dataset(native), tmp_path / "work", PlanConfig(), workers=0)


def sampler(
    store: Store,
    ids=("a", "b", "c"),
    *,
    foreground=1.0,
    patch=8,
    seed=0,
    slices="all",
    order="random",
    shuffle=True,
    **changes,
) -> PatchSampler:
    ndim = changes.get("ndim", store.task.ndim)
    task = store.task.model_copy(update={"patch_size": (patch,) * ndim, **changes})
    config = SamplerConfig(foreground=foreground, slices=slices, order=order, shuffle=shuffle)
    return PatchSampler(store, ids, task, config, seed=seed)


def test_the_same_seed_and_number_give_the_same_patch(store):
    for index in (0, 7, 12345):
        first, second = sampler(store)[index], sampler(store)[index]
        assert np.array_equal(first.image, second.image)
        assert first.case == second.case
    assert any(not np.array_equal(sampler(store)[i].image, sampler(store, seed=1)[i].image) for i in range(3))


def test_foreground_patches_hold_a_whole_object_that_fits(store):
    patches = sampler(store)
    for index in range(40):
        boxes = patches[index].instances.boxes
        inside = (boxes[:, 0] >= 0).all(-1) & (boxes[:, 1] <= 8).all(-1)
        assert inside.any()


def test_classes_are_drawn_evenly_regardless_of_their_frequency(store):
    """Case d has class 0 only and is given ten times: class 1 still gets its half of the draws."""
    patches = sampler(store, ("a", *("d",) * 10), patch=4)
    labels = [patches[i].instances.labels for i in range(200)]
    share = np.mean([1 in present for present in labels])
    assert 0.35 < share < 0.75


def test_boxes_of_a_patch_fit_its_label_map(store):
    patches = sampler(store, patch=16, foreground=0.5)
    for index in range(20):
        sample = patches[index]
        for box, number in zip(sample.instances.boxes, sample.instances.ids, strict=True):
            where = np.argwhere(sample.label_map == number)
            if (box[0] >= 0).all() and (box[1] <= 16).all():
                assert np.allclose([where.min(0), where.max(0) + 1], box)


def test_a_training_set_without_objects_gives_background_patches(store):
    sample = sampler(store, ("c",))[0]
    assert len(sample.instances) == 0
    assert sample.image.shape[1:] == sample.label_map.shape == (8,) * store.task.ndim


def test_no_training_cases_is_an_error(store):
    with pytest.raises(ValueError, match=r"splits\.json"):
        sampler(store, ())


def test_neighbouring_slices_of_every_channel_become_channels():
    volume = np.arange(2 * 3 * 4 * 4).reshape(2, 3, 4, 4)
    folded = fold_slices(volume, 1)
    assert folded.shape == (6, 4, 4)
    assert np.array_equal(folded[4], volume[1, 1])


@pytest.mark.parametrize("ndim", [3], indirect=True, ids=["3d"])
def test_slice_wise_patches_carry_context_and_the_boxes_of_their_slice(store):
    patches = sampler(store, ndim=store.task.ndim - 1, context=1)
    for index in range(20):
        sample = patches[index]
        assert sample.image.shape == (3, 8, 8)
        assert sample.label_map.shape == (8, 8)
        assert set(np.unique(sample.label_map)) - {0} <= set(sample.instances.ids.tolist())


@pytest.mark.parametrize("slice_wise", [False, True])
def test_ignored_regions_are_where_an_object_of_the_same_box_is(native, tmp_path, slice_wise):
    dataset = open_dataset(native)
    ndim = dataset.ndim - slice_wise
    if ndim == 1:
        pytest.skip("slices have two axes")
    same_box = Shape(0, ((2.0,) * dataset.ndim, (6.0,) * dataset.ndim), ignore=True)  # as object 1 of a and b
    cases = tuple(replace(case, annotate=Shapes((same_box,))) for case in dataset.cases)
    plan = PlanConfig(spacing=(0.75, 0.5, 0.25)[-dataset.ndim :], ndim=ndim, context=int(slice_wise))
    store = prepare(replace(dataset, cases=cases), tmp_path / "work", plan, workers=0)
    assert store.meta("a").ignored.tolist() == [[[4] * dataset.ndim, [12] * dataset.ndim]]  # half the spacing
    patches = sampler(store, ("a", "b"), ndim=ndim, context=store.task.context)
    seen = [patches[index] for index in range(20)]
    for sample in seen:
        np.testing.assert_array_equal(sample.ignored, sample.instances.boxes[sample.instances.ids == 1])
    assert any(len(sample.ignored) for sample in seen)


def slices_of(patches: PatchSampler, count: int) -> list[tuple[str, int]]:
    """The case and the slice of the first patches."""
    return [(case, int(corner[0])) for case, corner in map(patches.place, range(count))]


@pytest.mark.parametrize("ndim", [3], indirect=True, ids=["3d"])
@pytest.mark.parametrize("foreground", [0.0, 0.5])
def test_positive_slices_are_those_with_an_object_and_all_of_them_are_drawn(store, foreground):
    expected = set()
    for case in ("a", "b", "c"):
        label_map = store.read(case)[1]
        expected |= {(case, int(z)) for z in np.flatnonzero(label_map.any(axis=(1, 2)))}
    ndim = store.task.ndim - 1
    every = set(slices_of(sampler(store, ndim=ndim, foreground=foreground), 600))
    patches = sampler(store, ndim=ndim, foreground=foreground, slices="positive")
    assert set(slices_of(patches, 600)) == expected < every
    assert {case for case, _ in every} == {"a", "b", "c"}  # c has no object


@pytest.mark.parametrize("ndim", [3], indirect=True, ids=["3d"])
def test_positive_slices_of_all_cases_are_drawn_equally_often(store):
    """Eight slices in case a, four in case d: a third of the patches is from d, though it is one case of two."""
    drawn = slices_of(sampler(store, ("a", "d"), ndim=2, foreground=0.0, slices="positive"), 1000)
    assert np.mean([case == "d" for case, _ in drawn]) == pytest.approx(1 / 3, abs=0.05)


@pytest.mark.parametrize("ndim", [3], indirect=True, ids=["3d"])
def test_data_without_any_positive_slice_are_refused(store):
    with pytest.raises(ValueError, match=r"slices=positive: no object in any of the 1 training cases; set"):
        sampler(store, ("c",), ndim=store.task.ndim - 1, slices="positive")


def test_positive_images_are_those_with_an_object(store):
    """Models that do not see slices are trained on images with objects; case c has none."""
    patches = sampler(store, ("a", "c"), slices="positive", foreground=0.0)
    assert {patches.place(index)[0] for index in range(50)} == {"a"}
    assert patches.patches_per_epoch * 2 == sampler(store, ("a", "c")).patches_per_epoch


def test_an_epoch_covers_every_training_image_once(store):
    """Two patches of 8 cover 12, 14 and 16 voxels each; three cases."""
    assert sampler(store).patches_per_epoch == 3 * 2**store.task.ndim
    assert sampler(store, ("a",), patch=16).patches_per_epoch == 1


@pytest.mark.parametrize("ndim", [3], indirect=True, ids=["3d"])
def test_an_epoch_of_slices_covers_every_slice_or_every_positive_one(store):
    """Twelve slices per case; a and b have objects in slices 2 to 5 and 7 to 10, c has none."""
    assert sampler(store, ndim=2).patches_per_epoch == 3 * 12 * 2 * 2
    assert sampler(store, ndim=2, slices="positive").patches_per_epoch == 2 * 8 * 2 * 2
