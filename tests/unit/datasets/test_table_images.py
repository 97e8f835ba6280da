"""The images that the rows of a table name: DICOM files, names without zeros, rows of totals."""

import numpy as np
import pytest

from boxel.datasets.cases import read_case
from boxel.datasets.formats import open_dataset

from .test_contradictions import outcome, picture, said, text
from .test_published_sets import BOX, radiograph

HEAD = "file,x1,y1,x2,y2\n"


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("name", ["a.dcm", "images/a.dcm", "images\\a.dcm", "a"])
def test_a_table_may_name_dicom_files(tmp_path, name, inverted):
    radiograph(tmp_path / "images" / "a.dcm", inverted)
    text(tmp_path / "boxes.csv", f"{HEAD}{name},10,8,34,20\n")
    problems = []
    dataset = open_dataset(tmp_path, problems.append)
    loaded = read_case(dataset["a"], dataset)
    assert (dataset.format, dataset.ndim, problems) == ("table", 2, [])
    np.testing.assert_array_equal(loaded.instances.boxes, [BOX])
    assert loaded.image.array[0, 8:20, 10:34].min() == 220
    assert loaded.image.array.min() == 20


def test_a_dicom_file_that_is_missing_or_ambiguous_is_an_error(tmp_path):
    for folder in "pq":
        radiograph(tmp_path / folder / "a.dcm")
    text(tmp_path / "boxes.csv", f"{HEAD}a.dcm,10,8,34,20\n")
    assert said(outcome(tmp_path, "table")[1], "error", "may be any of p/a.dcm, q/a.dcm", "images=FOLDER")
    text(tmp_path / "boxes.csv", f"{HEAD}p/a.dcm,10,8,34,20\nr/a.dcm,10,8,34,20\n")
    cases, problems = outcome(tmp_path, "table")
    assert list(cases) == ["a"]
    assert said(problems, "error", "1 of 2 images does not exist: r/a.dcm")


@pytest.mark.parametrize("name", ["Summe", "Total", "MEAN", ""])
def test_a_row_of_totals_is_an_error_with_its_line(tmp_path, name):
    picture(tmp_path / "a.png")
    text(tmp_path / "boxes.csv", f"{HEAD}a.png,8,5,20,13\n{name},8,5,20,13\n")
    assert said(outcome(tmp_path, "table")[1], "error", "line 3", "remove the line")
    picture(tmp_path / f"{name or 'b'}.png")
    text(tmp_path / "boxes.csv", f"{HEAD}a.png,8,5,20,13\n{name or 'b'},8,5,20,13\n")
    assert len(outcome(tmp_path, "table")[0]) == 2


def test_a_number_that_lost_its_zeros_is_an_error_that_names_the_file(tmp_path):
    for name in ("0001", "0002"):
        picture(tmp_path / "images" / f"{name}.png")
    text(tmp_path / "boxes.csv", f"{HEAD}1,8,5,20,13\n2.0,8,5,20,13\n")
    assert said(outcome(tmp_path, "table")[1], "error", "do not exist: 1, 2.0", "such as 0001.png for 1")
    picture(tmp_path / "images" / "01.png")
    picture(tmp_path / "images" / "02.png")
    assert not said(outcome(tmp_path, "table")[1], "error", "0001.png for 1")
