"""Passes over the training data: every image once, or the classes in turn."""

import numpy as np
import pytest

from boxel.datasets.formats import open_dataset
from boxel.loading.sampler import PatchSampler, SamplerConfig
from boxel.preparation.plan import PlanConfig
from boxel.preparation.prepare import prepare
from boxel.preparation.store import Store
from tests.unit.loading.test_sampler import sampler, slices_of


@pytest.fixture
def store(native, tmp_path) -> Store:
    return prepare(open_dataset(native), tmp_path / "work", PlanConfig(), workers=0)


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
