"""Names, numbers and files of YOLO that contradict each other are reported, and nothing is dropped silently."""

import numpy as np
import pytest

from boxel.datasets.formats import open_dataset
from boxel.io import write_image
from boxel.types import Geometry, Image

from .test_contradictions import outcome, picture, said, text, yolo


def test_a_second_yaml_with_other_names_is_an_error(tmp_path):
    yolo(tmp_path)
    text(tmp_path / "dataset.yml", "names: [dot]\n")
    assert said(outcome(tmp_path, "yolo")[1], "error", "dataset.yml", "its classes dot", "data.yaml: cell")
    text(tmp_path / "dataset.yml", "names: {0: cell}\n")
    assert not outcome(tmp_path, "yolo")[1]


@pytest.mark.parametrize(("declared", "problem"), [("1", True), ("3", True), ("2", False), ("'2'", False)])
def test_a_number_of_classes_that_is_not_that_of_the_names_is_a_warning(tmp_path, declared, problem):
    yolo(tmp_path, head=f"nc: {declared}\nnames: [cell, dot]\n", classes=(0, 1))
    problems = outcome(tmp_path, "yolo")[1]
    assert len(problems) == problem
    assert not problem or said(problems, "warning", "data.yaml", f"nc is {declared}", "names is 2")


def test_names_that_are_numbers_keep_their_order(tmp_path):
    yolo(tmp_path, head="names: [7, 3]\n", classes=(0, 1))
    assert open_dataset(tmp_path, format="yolo").classes == ("7", "3")


@pytest.mark.parametrize("lines", ["cell\n\ndot\n", "\ncell\n"])
def test_an_empty_line_between_names_is_a_class_without_name(tmp_path, lines):
    yolo(tmp_path, classes=(0, 1))
    (tmp_path / "data.yaml").unlink()
    text(tmp_path / "classes.txt", lines)
    assert said(outcome(tmp_path, "yolo")[1], "error", "has no name")
    text(tmp_path / "classes.txt", "cell\ndot\n\n")
    assert not outcome(tmp_path, "yolo")[1]


def darknet(root, names, count):
    for n in range(2):
        picture(root / f"obj_train_data/p{n}.png")
        text(root / f"obj_train_data/p{n}.txt", f"{n} 0.3 0.3 0.2 0.2\n")
    text(root / "train.txt", "data/obj_train_data/p0.png\ndata/obj_train_data/p1.png\n")
    text(root / "obj.names", names)
    text(root / "obj.data", f"classes = {count}\ntrain = data/train.txt\nnames = data/obj.names\n")


@pytest.mark.parametrize(
    ("names", "count", "severity", "problem"),
    [
        ("cell\n\ndot\n", 3, "error", "class 1 has no name"),
        ("cell\ndot\n", 5, "warning", "classes is 5, but the number of names in obj.names is 2"),
    ],
)
def test_names_of_darknet_are_those_of_their_lines(tmp_path, names, count, severity, problem):
    darknet(tmp_path, names, count)
    assert said(outcome(tmp_path, "cvat_yolo")[1], severity, problem)
    darknet(tmp_path, "cell\ndot\n\n", 2)
    assert not outcome(tmp_path, "cvat_yolo")[1]


def test_numbers_after_a_box_are_those_of_predictions_and_an_error(tmp_path, ndim):
    folder, box = tmp_path / "labels/train", " ".join(["0"] + ["0.5"] * 2 * ndim)
    image = tmp_path / "images/train" / ("a.png" if ndim == 2 else "a.nii.gz")
    image.parent.mkdir(parents=True)
    shape = (8, 9, 10)[:ndim]
    write_image(image, Image(np.zeros((1, *shape), np.uint8), Geometry.plain(shape)))
    text(folder / "a.txt", f"{box} 0.93\n")
    text(tmp_path / "data.yaml", "names: [cell]\n")
    assert said(outcome(tmp_path, "yolo")[1], "error", "line 1 has 1 number after the box", "lines=boxes")
    assert [case.labels for case in open_dataset(tmp_path, format="yolo", options=["lines=boxes"]).cases] == [[0]]
    text(folder / "a.txt", f"{box}\n")
    assert not outcome(tmp_path, "yolo")[1]


NAMES = [("b.png", "b.Txt"), ("b.png", "B.txt"), ("e\u0301.png", "\u00e9.txt"), ("B.v1.png", "b.v1.txt")]


@pytest.mark.parametrize(("image", "label"), NAMES)
def test_an_annotation_belongs_to_its_image_in_any_case_and_encoding(tmp_path, image, label):
    yolo(tmp_path, names=("a",), classes=(0,))
    picture(tmp_path / "images/train" / image)
    text(tmp_path / "labels/train" / label, "0 0.3 0.3 0.2 0.2\n")
    cases, problems = outcome(tmp_path, "yolo")
    assert not problems
    assert [list(case.labels) for case in cases.values()] == [[0], [0]]


def test_an_annotation_of_another_case_is_not_that_of_two_images(tmp_path):
    yolo(tmp_path, names=("a", "B"), classes=(0, 0))
    picture(tmp_path / "images/train/b.png")  # without objects
    cases, problems = outcome(tmp_path, "yolo")
    assert not problems
    assert {name: len(case.labels) for name, case in cases.items()} == {"a": 1, "B": 1, "b": 0}


def test_the_validation_part_may_have_its_other_names_in_data_yaml(tmp_path):
    yolo(tmp_path, head="names: [cell]\ntrain: images/train\nvalid: more/images\n")
    picture(tmp_path / "more/images/v.png")
    text(tmp_path / "more/labels/v.txt", "0 0.3 0.3 0.2 0.2\n")
    assert open_dataset(tmp_path, format="yolo").splits == ({"train": ("a", "b"), "val": ("v",), "test": ()},)


@pytest.mark.parametrize("setting", ["names = data/cells.names", "train = data/pictures.txt"])
def test_a_file_that_obj_data_names_and_that_is_not_there_is_an_error_of_obj_data(tmp_path, setting):
    darknet(tmp_path, "cell\ndot\n", 2)
    text(tmp_path / "obj.data", f"classes = 2\ntrain = data/train.txt\nnames = data/obj.names\n{setting}\n")
    name = setting.rpartition("/")[2]
    assert said(outcome(tmp_path, "cvat_yolo")[1], "error", "obj.data", f"{name!r} is not in its folder")
