"""Options of the reader of DeepLesion: known types, and the window of each slice."""

import re

import numpy as np
import pytest

from boxel.datasets.cases import read_case
from boxel.datasets.formats import open_dataset
from boxel.datasets.quality.check import check
from boxel.io import write_image
from boxel.types import Geometry, Image

from .test_tables import write_deeplesion


def test_lesions_of_deeplesion_without_a_type_are_left_out_and_counted(tmp_path, rng):
    root = write_deeplesion(tmp_path, rng)
    dataset = open_dataset(root, options=["classes=known_type"])
    assert dataset.classes == (
        "bone", "abdomen", "mediastinum", "liver", "lung", "kidney", "soft tissue", "pelvis",
    )  # fmt: skip
    labels = {case.id: read_case(case, dataset).instances.labels.tolist() for case in dataset.cases}
    assert labels == {"000002_01_01_009": [4], "000004_01_01_009": [3]}
    notes = [one.problem for one in check(root, options=["classes=known_type"], workers=0) if one.severity == "note"]
    assert "1 lesion is left out because the type is not known" in notes
    table = root / "DL_info.csv"
    text = table.read_text()
    table.write_text(re.sub(r'0\.4",[45]', '0.4",-1', text))
    with pytest.raises(ValueError, match=r"no lesion has a type.*classes=lesion"):
        open_dataset(root, options=["classes=known_type"])
    for kind in ("lung", "9", "0", "2.5", "-2"):
        table.write_text(text.replace('0.4",5', f'0.4",{kind}'))
        with pytest.raises(ValueError, match=rf"Coarse_lesion_type of .*'{kind}'"):
            open_dataset(root, options=["classes=known_type"])


def test_the_window_of_a_row_of_deeplesion_becomes_0_to_255(tmp_path, rng):
    """-175..275 HU: -800 is below; 50 HU is the middle of the window; 1000 is above."""
    root = write_deeplesion(tmp_path, rng)
    folder = root / "Images_png" / "000002_01_01"
    for number, units in ((8, -800), (9, 50), (10, 1000)):
        array = np.full((1, 48, 64), 32768 + units, np.uint16)
        write_image(folder / f"{number:03d}.png", Image(array, Geometry.plain((48, 64))))
    dataset = open_dataset(root, options=["window=row", "context=1"])
    assert dataset.channels == ("window-1", "window", "window+1")
    image = read_case(dataset["000002_01_01_009"], dataset).image
    assert image.array[:, 0, 0].tolist() == [0, 127.5, 255]
    assert image.array.dtype == np.float32


@pytest.mark.parametrize("window", ["", "275, -175", "-175", "low, high"])
def test_a_window_of_deeplesion_that_is_none_is_an_error(tmp_path, rng, window):
    root = write_deeplesion(tmp_path, rng)
    table = root / "DL_info.csv"
    table.write_text(table.read_text().replace("-175, 275", window))
    with pytest.raises(ValueError, match=r"DL_info\.csv.*DICOM_windows of 00000\d_01_01_009\.png"):
        open_dataset(root, options=["window=row"])
    assert open_dataset(root).channels == ("CT",)
