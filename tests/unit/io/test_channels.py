"""The channels of an image: grouped by their names, read onto one grid, refused with the same words everywhere."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from boxel.api.channel_files import RunImages
from boxel.api.conversion import find_cases
from boxel.api.prediction_inputs import find_images
from boxel.datasets.cases import read_case
from boxel.datasets.formats import open_dataset
from boxel.io import write_image
from boxel.io.channels import as_declared, group_channels, in_memory, in_order, open_channels
from boxel.types import Geometry, Image


def test_four_digits_after_the_last_underscore_are_a_channel():
    files = [Path("a_0001.nii.gz"), Path("a_0000.nii.gz"), Path("b_12.nii"), Path("c_2019.png")]
    assert group_channels(files, cases=["c_2019"]) == {
        "a": {1: [files[0]], 0: [files[1]]},
        "b_12": {0: [files[2]]},
        "c_2019": {0: [files[3]]},
    }
    assert in_order({1: [files[0]], 0: [files[1]]}) == (files[1], files[0])


def test_two_files_of_one_channel_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"duplicate case: a_0000\.png and a_0000\.nii; keep one"):
        in_order({0: [Path("a_0000.png"), Path("x/a_0000.nii")]})
    for name in ("a_0000.tif", "a_0000.png"):
        write_image(tmp_path / name, Image(np.zeros((1, 4, 4), np.uint8), Geometry.plain((4, 4))))
    for find in (lambda: find_images([tmp_path], RunImages(("T1", "T2"), 2)), lambda: find_cases(tmp_path)):
        with pytest.raises(ValueError, match="duplicate case"):
            find()


def test_convert_orders_channels_by_number_and_takes_folders_and_single_files_whole(tmp_path):
    names = ("a_0001.png", "a_0000.tif", "b.png", "notes.txt", "c_0001/1.dcm", "c_0002/1.dcm", "p/001.png", "q/001.png")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = {case: [file.name for file in files] for case, files in find_cases(tmp_path).items()}
    assert names == {
        "a": ["a_0000.tif", "a_0001.png"],
        "a_0000": ["a_0000.tif"],  # the run knows whether it is a channel
        "a_0001": ["a_0001.png"],
        "p_001": ["001.png"],
        "q_001": ["001.png"],
        "p": ["p"],
        "q": ["q"],
        "b": ["b.png"],
        "c_0001": ["c_0001"],
        "c_0002": ["c_0002"],
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": 1}, r"shape .* but .*a_0000\.nii\.gz has"),
        ({"spacing": 2.0}, "spacing"),
        ({"origin": 5.0}, "origin"),
        ({"direction": -1.0}, "direction .*turned or mirrored"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_misregistered_channels_are_refused_alike_in_data_sets_and_as_files(native, ndim, change, message):
    """`predict FILES` compared shapes only."""
    data = open_dataset(native)
    first = open_channels(data["a"].channels)
    second = native / "imagesTr" / "a_0001.nii.gz"
    geometry, (name, value) = first.geometry, next(iter(change.items()))
    changed = {
        "shape": lambda: {"shape": (geometry.shape[0] + 1, *geometry.shape[1:])},
        "spacing": lambda: {"spacing": (value, *geometry.spacing[1:])},
        "origin": lambda: {"origin": (value, *geometry.origin[1:])},
        "direction": lambda: {"direction": tuple(map(tuple, (value * np.array(geometry.direction)).tolist()))},
    }[name]()
    geometry = replace(geometry, **changed)
    write_image(second, Image(np.zeros((1, *geometry.shape), np.float32), geometry))
    files = (*data["a"].channels, second)
    case = replace(data["a"], channels=files)
    whole = rf"a_0001\.nii\.gz: {message}.*; all files of a case must lie on the same voxel grid: resample one"
    with pytest.raises(ValueError, match=whole):
        open_channels(files)
    with pytest.raises(ValueError, match=whole):
        read_case(case, replace(data, channels=("CT", "PET")))


def test_channels_become_one_finite_array(native, tmp_path, ndim):
    shape = (4, 5, 6)[:ndim]
    files = [tmp_path / f"x_{number:04d}.nii.gz" for number in range(2)]
    for number, file in enumerate(files):
        write_image(file, Image(np.full((1, *shape), number, np.int16), Geometry.plain(shape)))
    image = open_channels(files)
    assert (image.array.dtype, image.array.shape) == (np.int16, (2, *shape))
    assert image.array[1].min() == 1
    assert in_memory(image, np.float32).array.dtype == np.float32
    write_image(files[1], Image(np.full((1, *shape), np.nan, np.float32), Geometry.plain(shape)))
    with pytest.raises(ValueError, match=rf"x_0001.*: NaN or infinite values in {np.prod(shape)} voxels"):
        open_channels(files)


def test_grey_pictures_and_colours_may_be_mixed_if_nothing_is_lost(rng):
    grey = Image(rng.integers(0, 99, (1, 5, 6)).astype(np.float32), Geometry.plain((5, 6)))
    colours = Image(np.repeat(grey.array, 3, axis=0), grey.geometry)
    true = Image(rng.normal(size=(3, 5, 6)), grey.geometry)
    rgb = ("red", "green", "blue")
    np.testing.assert_array_equal(as_declared(grey, rgb).array, colours.array)
    np.testing.assert_array_equal(as_declared(colours, ("grey",)).array, grey.array)
    assert as_declared(grey, rgb).remarks
    assert as_declared(colours, ("grey",)).remarks
    assert as_declared(true, ("grey",)) is true
    assert as_declared(grey, ("T1", "T2", "FLAIR")) is grey
