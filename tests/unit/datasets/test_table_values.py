"""What the columns beside the boxes of a table say: parts of a split, ignored objects, readers, sizes."""

import numpy as np
import pytest

from boxel.datasets.cases import read_case
from boxel.datasets.formats import open_dataset
from boxel.io import write_image
from boxel.types import Geometry, Image

from .test_contradictions import outcome, picture, said, text

BOX = "8,5,20,13"
LAYOUTS = {  # the head and the row of a table whose further columns and cells follow
    "table": ("file,x1,y1,x2,y2", "{}.png," + BOX),
    "pairs": ("file,note", "{}.png,n"),
    "rsna_pneumonia": ("patientId,x,y,width,height,Target", "{},8,5,12,8,1"),
    "vindr_cxr": ("image_id,class_name,x_min,y_min,x_max,y_max", "{},Nodule," + BOX),
}
every_layout = pytest.mark.parametrize("layout", LAYOUTS)


def write(root, layout, columns, *cells, name="boxes.csv"):
    """A table of the images a, b ... with further columns."""
    head, row = LAYOUTS[layout]
    names = "abcdefgh"[: len(cells)]
    for case in names:
        picture(root / "images" / f"{case}.png")
        if layout == "pairs":
            picture(root / "masks" / f"{case}.png")
    lines = [f"{head},{columns}", *(f"{row.format(case)},{cell}" for case, cell in zip(names, cells, strict=True))]
    text(root / ("meta.csv" if layout == "pairs" else name), "\n".join(lines) + "\n")


def parts(cases):
    return [case.split for _, case in sorted(cases.items())]


@every_layout
@pytest.mark.parametrize(
    ("columns", "cells"),
    [
        *((name, ("training", "TEST", "valid")) for name in ("split", "Set", "dataset", "partition", "subset", "fold")),
        ("group", ("training", "Test", "validation")),
        ("subject,group", ("P1,training", "P2,test", "P3,validation")),
        ("split", ("train", "held-out", "dev")),
        ("split", ("train", "Holdout", "fold 3")),
        ("is_test", ("0", "1", "")),
        ("IsTest", ("FALSCH", "WAHR", "nein")),
        ("is_train", ("yes", "no", "True")),
        ("is_train,is_val", ("1,0", "0,0", "0,1")),
        ("split,is_test", ("train,0", "test,1", "val,0")),
    ],
)
def test_the_test_cases_of_a_table_are_held_out_however_it_marks_them(tmp_path, layout, columns, cells):
    write(tmp_path, layout, columns, *cells)
    cases, problems = outcome(tmp_path, layout)
    assert parts(cases) == ["train", "test", "train"]
    assert not said(problems, "error")
    assert not said(problems, "warning", "split")


@every_layout
@pytest.mark.parametrize(
    ("columns", "cells", "words"),
    [
        ("split", ("train", "", "test"), ("line 3", "'' in the column split", "write train")),
        ("Set", ("train", "trian", "test"), ("line 3", "'trian'", "Set")),
        ("split", ("0", "1", "2"), ("line 2", "'0'", "call the column fold")),
        ("is_test", ("0", "maybe", "1"), ("line 3", "'maybe'", "write 0 or 1")),
        ("split,is_test", ("train,0", "test,0", "test,1"), ("line 3", "several parts: test, train")),
        ("is_train,is_test", ("1,0", "1,1", "0,1"), ("line 3", "mark several parts")),
        ("is_train,is_test", ("1,0", "0,0", "0,1"), ("line 3", "mark no part")),
    ],
)
def test_a_split_that_is_incomplete_unknown_or_contradictory_is_an_error_with_its_line(
    tmp_path, layout, columns, cells, words
):
    write(tmp_path, layout, columns, *cells)
    assert said(outcome(tmp_path, layout)[1], "error", *words)


@every_layout
@pytest.mark.parametrize(
    ("columns", "cells", "words"),
    [
        ("fold", ("0", "1", "2"), ("the folds of the column fold are not used", "splits=FILE")),
        ("subset", ("subset0", "subset1", "subset2"), ("the folds of the column subset are not used", "splits=FILE")),
        ("Set", ("A", "B", "A"), ("column Set", "A, B", "rename the column")),
    ],
)
def test_folds_and_columns_that_only_look_like_a_split_are_reported(tmp_path, layout, columns, cells, words):
    write(tmp_path, layout, columns, *cells)
    cases, problems = outcome(tmp_path, layout)
    assert parts(cases) == ["train"] * 3
    assert said(problems, "note" if layout == "pairs" and "folds" in words[0] else "warning", *words)


@every_layout
@pytest.mark.parametrize(
    ("columns", "cell"), [("dataset", "LIDC"), ("dataset", "1"), ("split", ""), ("phase", "portal")]
)
def test_a_column_that_says_nothing_of_a_split_is_not_reported(tmp_path, layout, columns, cell):
    write(tmp_path, layout, columns, cell, cell)
    problems = outcome(tmp_path, layout)[1]
    assert not [one for one in problems if "split" in one.problem and "none of its columns" not in one.problem]


@pytest.mark.parametrize("layout", ["rsna_pneumonia", "vindr_cxr", "table"])
def test_an_image_in_two_parts_is_an_error(tmp_path, layout):
    write(tmp_path, layout, "split", "train", "test")
    file = tmp_path / "boxes.csv"
    text(file, file.read_text() + LAYOUTS[layout][1].format("a") + ",test\n")
    assert said(outcome(tmp_path, layout)[1], "error", "boxes.csv", "train", "test", "write one")


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize(
    ("column", "crowds"),
    [("difficult", False), ("ignore", False), ("is_ignored", False), ("iscrowd", True), ("Is Crowd", True)],
)
def test_objects_that_a_table_marks_as_ignored_are_not_trained(tmp_path, ndim, column, crowds):
    write_image(tmp_path / "a.nii.gz", Image(np.zeros((1, *[30] * ndim), np.uint8), Geometry.plain((30,) * ndim)))
    names = "xyz"[:ndim]
    head = ",".join(f"{name}{end}" for end in "12" for name in names)
    rows = [",".join([*[str(lower)] * ndim, *[str(lower + 5)] * ndim]) for lower in (2, 9, 16)]
    cells = ("1", "0", "")
    lines = [f"file,{head},{column}", *(f"a.nii.gz,{row},{cell}" for row, cell in zip(rows, cells, strict=True))]
    text(tmp_path / "boxes.csv", "\n".join(lines))
    dataset = open_dataset(tmp_path)
    loaded = read_case(dataset["a"], dataset)
    assert loaded.instances.boxes.tolist() == [[[9] * ndim, [14] * ndim], [[16] * ndim, [21] * ndim]]
    assert loaded.ignored.boxes.tolist() == [[[2] * ndim, [7] * ndim]]
    assert loaded.ignores_regions == crowds
    text(tmp_path / "boxes.csv", "\n".join(lines).replace(",1\n", ",blurred\n"))
    assert said(outcome(tmp_path, "table")[1], "error", "line 2", f"the column {column} is 'blurred'", "write 0 or 1")


def test_a_reader_may_be_a_number(tmp_path):
    write(tmp_path, "table", "rater", "1", "2.0")
    for reader in ("2", "2.0"):
        assert [case.id for case in open_dataset(tmp_path, options=[f"reader={reader}"]).cases] == ["b"]


@pytest.mark.parametrize("column", ["rater", "Reader", "annotator_id", "radiologist"])
def test_boxes_of_several_readers_of_one_image_are_reported_and_one_reader_can_be_chosen(tmp_path, column):
    write(tmp_path, "table", column, "R1", "R1", "R2")
    assert not outcome(tmp_path, "table")[1]  # each image has one reader
    file = tmp_path / "boxes.csv"
    text(file, file.read_text() + "a.png,9,5,20,13,R2\n")
    cases, problems = outcome(tmp_path, "table")
    assert len(cases["a"].labels) == 2
    assert said(problems, "warning", "1 image has boxes by several readers (R1, R2)", "--option reader=R1")
    problems = []
    dataset = open_dataset(tmp_path, problems.append, options=["reader=R2"])
    assert {case.id: case.annotate.shapes[0].points for case in dataset.cases} == {
        "a": ((5.0, 9.0), (13.0, 20.0)), "c": ((5.0, 8.0), (13.0, 20.0))
    }  # fmt: skip
    assert said(problems, "warning", "images/b.png")
    with pytest.raises(ValueError, match="no row is by reader 'R3'; choose one of R1, R2"):
        open_dataset(tmp_path, options=["reader=R3"])


def test_a_patient_of_rsna_with_and_without_pneumonia_is_an_error(tmp_path):
    write(tmp_path, "rsna_pneumonia", "note", "n", "n")
    file = tmp_path / "boxes.csv"
    rows = file.read_text()
    text(file, rows + "a,20,5,12,8,1,n\n")
    assert outcome(tmp_path, "rsna_pneumonia")[1] == []
    text(file, rows + "a,,,,,0,n\n")
    assert said(outcome(tmp_path, "rsna_pneumonia")[1], "error", "line 4", "patient a has rows with Target 0 and")


def test_cells_that_are_no_numbers_are_quoted_as_words(tmp_path):
    write(tmp_path, "rsna_pneumonia", "note", "n")
    file = tmp_path / "boxes.csv"
    text(file, file.read_text().replace("8,5", "left,5"))
    assert said(outcome(tmp_path, "rsna_pneumonia")[1], "error", "line 2 is 'left, 5, 12, 8'; write numbers")


VINDR = ("a,Nodule,8,5,20,13,0,R1", "a,Mass,8,5,20,13,1,R1", "b,No finding,,,,,14,R1")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("b,Nodule,8,5,20,13,0,R2", ()),
        ("a,Nodule,9,5,20,13,0.0,R2", ()),
        ("b,Nodule,8,5,20,13,,R2", ()),
        ("b,Nodule,8,5,20,13,1,R2", ("line 5: class_name nodule has class_id 1, but class_id 0 in an earlier line",)),
        ("b,Cyst,8,5,20,13,1,R2", ("line 5: class_id 1 has class_name cyst, but class_name mass in an earlier line",)),
        ("a,No finding,,,,,0,R2", ("line 5", "but class_id 14")),
        ("b,Nodule,8,5,20,13,0,R1", ("line 5: image b R1 has a finding, but no finding in an earlier line",)),
    ],
)
def test_rows_of_vindr_must_agree_about_classes_and_findings(tmp_path, row, words):
    for name in "ab":
        picture(tmp_path / "train" / f"{name}.png")
    head = "image_id,class_name,x_min,y_min,x_max,y_max,class_id,rad_id"
    text(tmp_path / "train.csv", "\n".join([head, *VINDR, row]))
    cases, problems = outcome(tmp_path, "vindr_cxr")
    assert said(problems, "error", *words) if words else (len(cases), problems) == (2, [])


def test_two_tables_of_the_same_images_are_an_error_until_one_is_chosen(tmp_path):
    write(tmp_path, "table", "label", "cell", "cell", name="boxes.csv")
    write(tmp_path, "table", "label", "cell", name="boxes_old.csv")
    problems = outcome(tmp_path, "table")[1]
    assert said(problems, "error", "boxes.csv and boxes_old.csv both have boxes of a", "--option table=boxes_old.csv")
    for name, cases in (("boxes.csv", ["a", "b"]), ("boxes_old.csv", ["a"])):
        assert [case.id for case in open_dataset(tmp_path, options=[f"table={name}"]).cases] == cases
    (tmp_path / "boxes_old.csv").rename(tmp_path / "annotations.csv")
    assert said(outcome(tmp_path, "table")[1], "error", "annotations.csv and boxes.csv both have boxes of a")


def test_a_table_of_other_images_is_noted(tmp_path):
    write(tmp_path, "table", "label", "cell", name="boxes.csv")
    text(tmp_path / "other.csv", "file,x1,y1,x2,y2\nz/a.png,8,5,20,13\n")
    cases, problems = outcome(tmp_path, "table")
    assert list(cases) == ["a"]
    assert said(problems, "note", "this table is used, not other.csv", "--option table=NAME")


@pytest.mark.parametrize(
    ("column", "cells", "warned"),
    [
        ("Score", ("0.93", "0.71", ""), True),
        ("confidence", ("1.0", "0.5", "nan"), True),
        ("score", ("1", "1", "0"), False),
        ("score", ("3.5", "4", "0.5"), False),
        ("probability", ("high", "low", ""), False),
    ],
)
def test_a_table_with_scores_looks_like_predictions_which_is_a_warning(tmp_path, column, cells, warned):
    write(tmp_path, "table", column, *cells)
    cases, problems = outcome(tmp_path, "table")
    assert len(cases) == 3
    assert said(problems, "warning", f"the column {column}", "look like predictions") == warned


@pytest.mark.parametrize("layout", ["table", "pairs"])
@pytest.mark.parametrize(
    ("columns", "cells", "groups"),
    [
        ("group", ("test", "P1", "P1"), ["test", "P1", "P1"]),
        ("subject,group", ("P1,train", "P1,train", "P2,test"), ["P1", "P1", "P2"]),
        ("group", ("train", "train", "test"), ["a", "b", "c"]),
    ],
)
def test_a_group_is_a_patient_unless_all_groups_are_parts_of_a_split(tmp_path, layout, columns, cells, groups):
    write(tmp_path, layout, columns, *cells)
    cases, problems = outcome(tmp_path, layout)
    assert [case.group or case.id for _, case in sorted(cases.items())] == groups
    assert parts(cases)[2] == ("test" if cells[2].endswith("test") else "train")
    assert not said(problems, "error")


@pytest.mark.parametrize("word", ["No finding", "kein Befund", "0", "cell", ""])
def test_what_a_row_without_a_box_calls_its_image_is_no_class(tmp_path, word):
    for case in "abc":
        picture(tmp_path / f"{case}.png")
    rows = (f"a.png,{BOX},cell", f"b.png,,,,,{word}", f"c.png,{BOX},cell")
    text(tmp_path / "boxes.csv", "\n".join(("file,x1,y1,x2,y2,label", *rows)))
    dataset = open_dataset(tmp_path)
    assert dataset.classes == ("cell",)
    assert [len(read_case(case, dataset).instances) for case in dataset.cases] == [1, 0, 1]
