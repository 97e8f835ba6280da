"""Evaluation reads headers of images, and the objects of small label maps many at a time."""

from dataclasses import replace

import numpy as np
import pytest

from boxel.datasets import measured
from boxel.datasets.cases import read_case
from boxel.datasets.formats import open_dataset
from boxel.datasets.formats.native_writer import write_case, write_dataset
from boxel.datasets.measured import BATCH, measured_ahead
from boxel.types import Geometry, Image


@pytest.fixture
def dataset(tmp_path):
    rng, count = np.random.default_rng(0), BATCH + 3
    for case in range(count):
        label_map = np.zeros((20, 24), np.uint8)
        ids = rng.permutation(5)[: case % 4] + 1
        for number, top in zip(ids, (2, 8, 14), strict=False):
            label_map[top : top + rng.integers(1, 5), 3 : 3 + rng.integers(1, 20)] = number
        image = Image(rng.integers(0, 255, (1, 20, 24)).astype(np.uint8), Geometry.plain((20, 24)))
        write_case(tmp_path, f"{case:03d}", image, label_map, dict.fromkeys(ids.tolist(), 0), suffix=".png")
    write_dataset(tmp_path, "small", 2, ["a"], ["microscopy"])
    return open_dataset(tmp_path)


def test_objects_measured_ahead_are_those_of_the_label_maps(dataset, monkeypatch):
    asked = []
    monkeypatch.setattr(measured, "apart", lambda path, function, files: asked.append(len(files)) or function(files))
    ahead = list(measured_ahead(case.label_map for case in dataset.cases))
    assert asked == [BATCH, 3]  # a process is asked once for many
    for case, known in zip(dataset.cases, ahead, strict=True):
        whole, found = read_case(case, dataset), read_case(case, dataset, pixels=False, measured=known)
        assert known is not None
        assert found.label_map is None
        assert found.image.array.shape == (0, 20, 24)
        assert found.image.geometry == whole.image.geometry
        for name in ("boxes", "labels", "ids", "has_mask"):
            mine, other = getattr(found.instances, name), getattr(whole.instances, name)
            assert mine.dtype == other.dtype
            np.testing.assert_array_equal(mine, other)


def test_a_damaged_label_map_is_named_as_if_it_were_read_alone(dataset):
    case = dataset.cases[4]
    case.label_map.write_bytes(case.label_map.read_bytes()[:40])
    ahead = list(measured_ahead(case.label_map for case in dataset.cases))
    assert [known is None for known in ahead] == [one is case for one in dataset.cases]
    with pytest.raises(ValueError, match="cannot be read as an image") as alone:
        read_case(case, dataset)
    with pytest.raises(ValueError, match="cannot be read as an image") as found:
        read_case(case, dataset, pixels=False, measured=ahead[4])
    assert str(found.value) == str(alone.value)


@pytest.mark.parametrize("wrong", ["other size", "no PNG", "colours", "missing"])
def test_without_pixels_the_problems_of_an_image_are_the_same(dataset, wrong):
    case, data = dataset.cases[0], dataset
    if wrong == "other size":
        case = replace(case, declared=(21, 24))
    elif wrong == "no PNG":
        case.channels[0].write_bytes(b"nothing")
    elif wrong == "colours":
        data = replace(data, channels=("a", "b"))
    else:
        case.channels[0].unlink()
    with pytest.raises(ValueError, match=r".+; .+") as whole:
        read_case(case, data)
    with pytest.raises(ValueError, match=r".+; .+") as found:
        read_case(case, data, pixels=False)
    assert str(found.value) == str(whole.value)
