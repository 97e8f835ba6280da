"""Opening a data set takes calls in proportion to its size: counted, since seconds depend on what else runs."""

import json
import sys
from collections import Counter

import numpy as np
import pytest

from boxel.datasets.formats import open_dataset
from boxel.datasets.formats.native_writer import write_case, write_dataset
from boxel.inputs import folders
from boxel.io import write_image
from boxel.types import Geometry, Image

SQUARE = Image(np.zeros((1, 8, 8), np.uint8), Geometry.plain((8, 8)))
FEW, TIMES, SLACK = 60, 4, 1.15


def write_cases(root, number):
    for case in range(number):
        write_case(root, f"c{case}", SQUARE, SQUARE.array[0], {}, suffix=".png")
    write_dataset(root, "many", 2, ("a",), ("microscopy",))


def write_boxes(root, number):
    root.mkdir()
    write_image(root / "a.png", SQUARE)
    annotations = [
        {"id": k, "image_id": 1, "category_id": 1, "bbox": [k % 4, 1, 2, 2], "area": 4, "iscrowd": 0}
        for k in range(10 * number)
    ]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 8, "width": 8}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": annotations,
    }
    (root / "annotations.json").write_text(json.dumps(content))


def calls(root):
    """How often Python calls a function while the data set is opened."""
    count = Counter[str]()
    open_dataset(root)  # what is imported or kept once
    before = sys.getprofile()
    sys.setprofile(lambda frame, event, argument: count.update([event]))
    try:
        open_dataset(root)
    finally:
        sys.setprofile(before)
    return count["call"] + count["c_call"]


@pytest.mark.parametrize("write", [write_cases, write_boxes])
def test_opening_grows_in_proportion(write, tmp_path):
    write(tmp_path / "few", FEW)
    write(tmp_path / "many", TIMES * FEW)
    assert calls(tmp_path / "many") < TIMES * SLACK * calls(tmp_path / "few")


def test_a_folder_is_listed_once_to_recognise_a_layout_and_again_afterwards(tmp_path, monkeypatch):
    write_cases(tmp_path / "data", 3)
    listed, entries = Counter(), folders._entries
    monkeypatch.setattr(folders, "_entries", lambda *which: listed.update([which]) or entries(*which))
    with folders.listed_once():
        first = folders.listing(tmp_path / "data" / "imagesTr")
        first.clear()  # which is the caller's own
        assert len(folders.listing(tmp_path / "data" / "imagesTr")) == 3
    assert set(listed.values()) == {1}
    write_cases(tmp_path / "data", 4)
    assert len(folders.listing(tmp_path / "data" / "imagesTr")) == 4
    listed.clear()
    assert len(open_dataset(tmp_path / "data").cases) == 4
    assert max(listed.values()) <= 2  # to recognise it, and to read it
