"""Label maps and their tables: every object and every case is used as meant, or an error says why not."""

import numpy as np
import pytest
from PIL import Image as Picture

from boxel.datasets.cases import read_case
from boxel.datasets.formats import open_dataset
from boxel.datasets.quality.check import examine
from boxel.datasets.quality.repair import repair

BOXES = ((5, 8, 13, 20), (25, 40, 31, 48))  # rows and columns, half-open; 96 and 48 pixels


def write(root, name, *boxes, value=1, folders=("images", "masks")):
    """A dark picture that is bright in the boxes, and its mask; a value per box or one of all."""
    image, mask = np.random.default_rng(len(name) + ord(name[0])).integers(0, 50, (40, 60)).astype(np.uint8), None
    mask = np.zeros_like(image)
    for number, (a, b, c, d) in enumerate(boxes):
        image[a:c, b:d] = 220
        mask[a:c, b:d] = value[number] if isinstance(value, tuple) else value
    for folder, array in zip(folders, (image, mask), strict=True):
        (root / folder).mkdir(parents=True, exist_ok=True)
        Picture.fromarray(array).save(root / folder / f"{name}.png")


def boxes_of(dataset, name):
    boxes = read_case(dataset[name], dataset).instances.boxes
    return sorted(tuple(int(number) for number in box.ravel()) for box in boxes)


@pytest.mark.parametrize("value", [1, 2, 128, 255])
def test_masks_of_any_one_value_show_components(tmp_path, value):
    for name in "ab":
        write(tmp_path, name, *BOXES, value=value)
    write(tmp_path, "c")
    dataset = open_dataset(tmp_path)
    assert [boxes_of(dataset, name) for name in "abc"] == [list(BOXES), list(BOXES), []]


def test_a_repair_removes_stray_pixels_but_no_part_that_may_be_an_object(tmp_path):
    write(tmp_path / "data", "a", *BOXES, (38, 2, 39, 4))
    write(tmp_path / "data", "b", *BOXES, value=(1, 2))  # numbers: the mask of a is one object
    result = examine(tmp_path / "data")
    assert any("in several parts" in finding.problem for finding in result.findings)
    repair(result.dataset, result.findings, tmp_path / "out")
    dataset = open_dataset(tmp_path / "out")
    assert boxes_of(dataset, "a") == [(5, 8, 31, 48)]
    assert np.count_nonzero(read_case(dataset["a"], dataset).label_map) == 96 + 48
    assert boxes_of(dataset, "b") == list(BOXES)
