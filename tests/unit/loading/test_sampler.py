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
    with pytest.raises(ValueError, match=r"slices=positive: no object in any slice of the 1 training cases; set"):
        sampler(store, ("c",), ndim=store.task.ndim - 1, slices="positive")


def test_positive_slices_without_effect_warn(store):
    with pytest.warns(UserWarning, match=r"slices=positive has no effect"):
        patches = sampler(store, slices="positive", foreground=0.0)
    other = sampler(store, foreground=0.0)
    for index in range(5):
        case, corner = other.place(index)
        assert patches.place(index)[0] == case
        assert np.array_equal(patches.place(index)[1], corner)


def test_an_epoch_covers_every_training_image_once(store):
    """Two patches of 8 cover 12, 14 and 16 voxels each; three cases."""
    assert sampler(store).patches_per_epoch == 3 * 2**store.task.ndim
    assert sampler(store, ("a",), patch=16).patches_per_epoch == 1


@pytest.mark.parametrize("ndim", [3], indirect=True, ids=["3d"])
def test_an_epoch_of_slices_covers_every_slice_or_every_positive_one(store):
    """Twelve slices per case; a and b have objects in slices 2 to 5 and 7 to 10, c has none."""
    assert sampler(store, ndim=2).patches_per_epoch == 3 * 12 * 2 * 2
    assert sampler(store, ndim=2, slices="positive").patches_per_epoch == 2 * 8 * 2 * 2


def cases_of(patches: PatchSampler, numbers) -> str:
    return "".join(patches.place(number)[0] for number in numbers)


def test_each_epoch_has_every_image_once_in_an_order_of_its_own(store):
    patches = sampler(store, ("a", "b", "c", "d"), order="epoch")
    assert patches.patches_per_epoch == 4
    passes = [cases_of(patches, range(first, first + 4)) for first in range(0, 160, 4)]
    assert {"".join(sorted(one)) for one in passes} == {"abcd"}
    assert len(set(passes)) > 15  # of 24 possible orders
    other = sampler(store, ("a", "b", "c", "d"), order="epoch", seed=1)
    assert [cases_of(other, range(first, first + 4)) for first in range(0, 160, 4)] != passes


def test_without_shuffling_the_images_come_in_file_order(store):
    patches = sampler(store, ("a", "b", "c"), order="epoch", shuffle=False)
    assert cases_of(patches, range(7)) == "abcabca"


@pytest.mark.parametrize("order", ["epoch", "balanced"])
def test_a_patch_of_an_ordered_pass_depends_on_its_number_alone(store, order):
    """Also when asked out of order, as a resumed training or another process does."""
    forwards = sampler(store, ("a", "b", "d"), order=order, foreground=0.5)
    wanted = [forwards.place(number) for number in range(30)]
    again = sampler(store, ("a", "b", "d"), order=order, foreground=0.5)
    for number in (29, 0, 17, 3, 17):
        case, corner = again.place(number)
        assert case == wanted[number][0]
        assert np.array_equal(corner, wanted[number][1])
        assert np.array_equal(again[number].image, forwards[number].image)


def test_patches_of_an_epoch_hold_an_object_of_their_image_as_often_as_asked(store):
    patches = sampler(store, ("a", "b", "c"), order="epoch", foreground=1.0)
    for number in range(30):
        sample = patches[number]
        assert (sample.case == "c") == (len(sample.instances) == 0)
        if sample.case != "c":
            inside = (sample.instances.boxes[:, 0] >= 0).all(-1) & (sample.instances.boxes[:, 1] <= 8).all(-1)
            assert inside.any()


@pytest.mark.parametrize("ndim", [3], indirect=True, ids=["3d"])
@pytest.mark.parametrize("slices", ["all", "positive"])
def test_an_epoch_of_a_slice_wise_model_has_every_slice_once(store, slices):
    patches = sampler(store, ndim=2, order="epoch", slices=slices, foreground=0.5)
    expected = {(case, z) for case in "abc" for z in range(12)}
    if slices == "positive":  # objects reach slices 2 to 5 and 7 to 10 of a and b
        expected = {(case, z) for case in "ab" for z in (2, 3, 4, 5, 7, 8, 9, 10)}
    assert patches.patches_per_epoch == len(expected)
    drawn = slices_of(patches, 2 * len(expected))
    assert set(drawn[: len(expected)]) == set(drawn[len(expected) :]) == expected
    assert drawn[: len(expected)] != drawn[len(expected) :]
    in_order = sampler(store, ndim=2, order="epoch", slices=slices, shuffle=False)
    assert slices_of(in_order, len(expected)) == sorted(expected)


def test_balanced_classes_take_turns_and_small_ones_begin_again(store):
    """Class 0 has the images a, b and d, class 1 has a and b: a and b have both. A pass sees the larger bin once."""
    patches = sampler(store, ("a", "b", "c", "d"), order="balanced", shuffle=False)
    assert patches.patches_per_epoch == 6
    assert cases_of(patches, range(0, 12, 2)) == "abdabd"
    assert cases_of(patches, range(1, 12, 2)) == "ababab"
    shuffled = sampler(store, ("a", "b", "c", "d"), order="balanced")
    for first in range(0, 60, 6):
        assert sorted(cases_of(shuffled, range(first, first + 6, 2))) == ["a", "b", "d"]
    for first in range(0, 60, 4):
        assert sorted(cases_of(shuffled, range(first + 1, first + 4, 2))) == ["a", "b"]


def test_a_balanced_patch_is_around_an_object_of_the_class_whose_turn_it_is(store):
    patches = sampler(store, ("a", "b", "d"), order="balanced", foreground=1.0, patch=4)
    for number in range(24):
        objects = patches[number].instances
        whole = (objects.boxes[:, 0] >= 0).all(-1) & (objects.boxes[:, 1] <= 4).all(-1)
        assert number % 2 in objects.labels[whole]


@pytest.mark.parametrize("ndim", [3], indirect=True, ids=["3d"])
def test_balanced_slices_have_an_object_of_their_class(store):
    """In case a, class 0 is in slices 2 to 5 and class 1 in 7 to 10; in case b it is the other way round."""
    patches = sampler(store, ("a", "b", "c"), ndim=2, order="balanced", shuffle=False)
    assert patches.patches_per_epoch == 16
    first, second = range(2, 6), range(7, 11)
    zero = [("a", z) for z in first] + [("b", z) for z in second]
    one = [("a", z) for z in second] + [("b", z) for z in first]
    assert slices_of(patches, 16) == [place for pair in zip(zero, one, strict=True) for place in pair]


def test_a_class_without_training_images_is_warned_about_and_the_others_take_turns(store):
    with pytest.warns(UserWarning, match=r"no training case has malignant; the other classes take turns"):
        patches = sampler(store, ("c", "d"), order="balanced")
    assert patches.patches_per_epoch == 1
    assert cases_of(patches, range(3)) == "ddd"


def test_balanced_training_data_without_objects_are_refused(store):
    with pytest.raises(ValueError, match=r"order=balanced: no object in the 1 training cases; set"):
        sampler(store, ("c",), order="balanced")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shuffle": False}, "shuffle=false has no effect"),
        ({"order": "balanced", "slices": "positive"}, "slices=positive has no effect with order=balanced"),
        ({"order": "files"}, "'random', 'epoch' or 'balanced'"),
        ({"foreground": 1.5}, "less than or equal to 1"),
    ],
)
def test_settings_of_the_sampler_without_effect_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SamplerConfig.from_dict(settings)
