"""Classes whose names cannot be told apart are reported in every layout."""

from pathlib import Path

import pytest

from boxel.datasets.cases import Case, Dataset
from boxel.datasets.classes import alike_classes

from .test_contradictions import outcome, picture, said, text, voc, yolo


def table(root, *labels):
    rows = [f"{n}.png,8,5,20,13,{label}" for n, label in enumerate(labels)]
    for n in range(len(labels)):
        picture(root / f"{n}.png")
    text(root / "boxes.csv", "\n".join(["file,x1,y1,x2,y2,label", *rows]))


def two_voc(root, *labels):
    for n, label in enumerate(labels):
        voc(root, f"p{n}", f"p{n}.png", label)


def two_coco(root, *labels):
    for n, (part, label) in enumerate(zip(("train", "val", "test"), labels, strict=False)):
        picture(root / f"{n}.png")
        image = {"id": 1, "file_name": f"{n}.png", "height": 40, "width": 60}
        one = {"id": 7, "image_id": 1, "category_id": 1, "bbox": [8, 5, 12, 8]}
        named = {"images": [image], "annotations": [one], "categories": [{"id": 1, "name": label}]}
        text(root / f"{part}.json", named)


def two_yolo(root, *labels):
    yolo(root, [f"p{n}" for n in range(len(labels))], head=f"names: {list(labels)}\n", classes=range(len(labels)))


LAYOUTS = {"table": table, "voc": two_voc, "coco": two_coco, "yolo": two_yolo}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("other", "shown"), [("Befund A", "'Befund A'"), ("befund  a", "'befund  a'"), ("BefundA", "'BefundA'")]
)
def test_classes_that_differ_in_case_or_blanks_are_a_warning_with_both_spellings(tmp_path, layout, other, shown):
    again = [] if layout == "yolo" else ["befund a"]  # in YOLO that would be a third class
    LAYOUTS[layout](tmp_path, "befund a", other, *again)
    _, problems = outcome(tmp_path, layout)
    objects = "2 objects" if again else "1 object"
    assert said(problems, "warning", f"'befund a' ({objects})", f"{shown} (1 object)", "as 'befund a'")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_classes_whose_letters_are_encoded_differently_are_a_warning(tmp_path, layout):
    LAYOUTS[layout](tmp_path, "l\u00e9sion", "le\u0301sion")
    _, problems = outcome(tmp_path, layout)
    assert said(problems, "warning", r"'l\xe9sion' (1 object)", r"'le\u0301sion' (1 object)")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_classes_with_different_names_are_no_problem(tmp_path, layout):
    LAYOUTS[layout](tmp_path, "T1", "T2", "T12")
    assert not outcome(tmp_path, layout)[1]


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ("names: [cell, cell]\n", ("classes 0, 1 have the same name 'cell'",)),
        ("names: [cell, '']\n", ("class 1 has no name",)),
    ],
)
def test_two_numbers_for_one_name_and_a_number_without_name_are_errors(tmp_path, head, words):
    yolo(tmp_path, head=head, classes=(0, 1))
    assert said(outcome(tmp_path, "yolo")[1], "error", *words)


def test_no_number_is_stated_where_objects_are_counted_only_when_they_are_read():
    dataset = Dataset(Path("data"), "data", 3, ("GTV", "gtv"), ("CT",), (Case("a", (Path("a"),)),))
    (warning,) = alike_classes(dataset)
    assert warning.problem == "'GTV' and 'gtv' are different classes, but are spelled nearly alike"
