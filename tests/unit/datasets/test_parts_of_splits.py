"""Cases belong to the part of a split that folders, lists and attributes say; contradictions are reported."""

import pytest

from boxel.datasets.formats import open_dataset

from .test_contradictions import outcome, picture, said, text

BOX = "<bndbox><xmin>9</xmin><ymin>6</ymin><xmax>20</xmax><ymax>13</ymax></bndbox>"


def annotation(path, filename, more=""):
    cell = f"<object><name>cell</name>{BOX}</object>"
    text(path, f"<annotation><filename>{filename}</filename>{more}{cell}</annotation>")


@pytest.mark.parametrize("name", ["a", "b"])
@pytest.mark.parametrize("inner", ["", "pascal/"])
def test_voc_in_folders_of_parts_keeps_these_parts(tmp_path, name, inner):
    for part, own in (("train", "a"), ("test", name)):
        picture(tmp_path / part / inner / f"JPEGImages/{own}.png")
        annotation(tmp_path / part / inner / f"Annotations/{own}.xml", f"{own}.png")
    cases, problems = outcome(tmp_path, "voc")
    assert not problems
    assert sorted((case.channels[0].parent, case.split) for case in cases.values()) == [
        (tmp_path / part / inner / "JPEGImages", part) for part in ("test", "train")
    ]


def test_folders_of_two_parts_in_one_path_are_an_error(tmp_path):
    picture(tmp_path / "train/test/a.png")
    annotation(tmp_path / "train/test/a.xml", "a.png")
    assert said(outcome(tmp_path, "voc")[1], "error", "folders train and test", "a.xml")


def lists(root, **names):
    for name in "abc":
        picture(root / f"JPEGImages/{name}.png")
        annotation(root / f"Annotations/{name}.xml", f"{name}.png")
    for part, listed in names.items():
        text(root / f"ImageSets/Main/{part}.txt", "\n".join(listed))


def test_a_name_in_two_lists_of_voc_is_an_error(tmp_path):
    lists(tmp_path, train=["a", "b"], val=["b", "c"])
    cases, problems = outcome(tmp_path, "voc")
    assert said(problems, "error", "b is in the lists of train and val")
    assert set(cases) == {"a", "c"}


@pytest.mark.parametrize("part", ["test", "Test", "holdout", "hold-out"])
def test_lists_of_voc_may_have_other_words_for_parts_and_names_with_suffix(tmp_path, part):
    lists(tmp_path, train=["a.png", "b.png"], **{part: ["c.png"]})
    cases, problems = outcome(tmp_path, "voc")
    assert not problems
    assert {name: case.split for name, case in cases.items()} == {"a": "train", "b": "train", "c": "test"}


def test_what_no_list_of_voc_names_is_not_used_for_training(tmp_path):
    lists(tmp_path, train=["a"], test=["b"])
    cases, problems = outcome(tmp_path, "voc")
    assert set(cases) == {"a", "b"}
    assert said(problems, "warning", "in no list", "c")
    (tmp_path / "ImageSets/Main/train.txt").unlink()
    assert {name: case.split for name, case in outcome(tmp_path, "voc")[0].items()} == {
        "a": "train",
        "b": "test",
        "c": "train",
    }


PATHS = ["<folder>{}</folder>", r"<path>C:\data\{}\a.png</path>", "<path>/data/{}/a.png</path>"]


@pytest.mark.parametrize("more", PATHS)
def test_images_of_one_name_are_told_apart_by_folder_or_path(tmp_path, more):
    for folder in "xy":
        picture(tmp_path / "images" / folder / "a.png")
        annotation(tmp_path / f"Annotations/{folder}.xml", "a.png", more.format(folder))
    cases, problems = outcome(tmp_path, "voc")
    assert not problems
    assert {(case.annotation.stem, case.channels[0].parent.name) for case in cases.values()} == {("x", "x"), ("y", "y")}


def test_images_of_one_name_that_nothing_tells_apart_are_an_error_and_not_a_folder(tmp_path):
    for folder in "xy":
        picture(tmp_path / "images" / folder / "a.png")
        annotation(tmp_path / f"Annotations/{folder}.xml", "a.png")
    cases, problems = outcome(tmp_path, "voc")
    assert not cases
    assert said(problems, "error", "x.xml", "may be any of", "images/x/a.png")


def cvat(root, *subsets):
    images = ""
    for n, subset in enumerate(subsets):
        picture(root / f"p{n}.png")
        box = '<box label="cell" xtl="8" ytl="5" xbr="20" ybr="13"/>'
        images += f'<image id="{n}" name="p{n}.png" subset="{subset}" width="60" height="40">{box}</image>'
    text(root / "annotations.xml", f"<annotations><version>1.1</version>{images}</annotations>")


@pytest.mark.parametrize(("other", "split"), [("holdout", "test"), ("Hold out", "test"), ("Testing", "test")])
def test_subsets_of_cvat_are_parts_in_other_words(tmp_path, other, split):
    cvat(tmp_path, "Train", other)
    cases, problems = outcome(tmp_path, "cvat")
    assert not problems
    assert [case.split for case in cases.values()] == ["train", split]


@pytest.mark.parametrize(
    ("subsets", "severity"), [(("Train", "gold"), "error"), (("gold", "gold"), "warning"), (("default", ""), None)]
)
def test_an_unknown_subset_of_cvat_is_reported_with_its_images(tmp_path, subsets, severity):
    cvat(tmp_path, *subsets)
    problems = outcome(tmp_path, "cvat")[1]
    assert [one.severity for one in problems] == ([severity] if severity else [])
    assert not severity or said(problems, severity, "subset 'gold'", "p1.png")


def monai(root, *keys):
    values = {"numTraining": 1}
    for n, key in enumerate(keys):
        picture(root / f"p{n}.png")
        values[key] = [{"image": f"p{n}.png", "box": [[8, 5, 12, 8]], "label": [0]}]
    text(root / "data.json", values)


def test_lists_of_monai_are_parts_in_other_words_or_reported(tmp_path):
    monai(tmp_path, "training", "val", "hold-out", "extra")
    problems = []
    data = open_dataset(tmp_path, problems.append, format="monai", options=["mode=xyzwhd", "frame=voxel"])
    assert data.splits == ({"train": ("p0",), "val": ("p1",), "test": ("p2",)},)
    assert said(problems, "warning", "'extra' of 1 image")


def test_lists_of_cvat_yolo_that_are_no_part_are_reported(tmp_path):
    for n, part in enumerate(("train", "gold")):
        picture(tmp_path / f"obj_{part}_data/p{n}.png")
        text(tmp_path / f"obj_{part}_data/p{n}.txt", "0 0.3 0.3 0.2 0.2\n")
        text(tmp_path / f"{part}.txt", f"data/obj_{part}_data/p{n}.png\n")
    text(tmp_path / "obj.names", "cell\n")
    text(tmp_path / "obj.data", "classes = 1\nnames = data/obj.names\ntrain = data/train.txt\ngold = data/gold.txt\n")
    cases, problems = outcome(tmp_path, "cvat_yolo")
    assert list(cases) == ["p0"]
    assert said(problems, "warning", "gold.txt of 'gold'")


@pytest.mark.parametrize(("column", "test"), [("", "d"), ("train,train,train", ""), ("test,train,train", "a")])
def test_the_folder_of_a_tables_image_says_its_part_where_no_column_does(tmp_path, column, test):
    images = ("train/a.png", "val/b.png", "test/d.png")
    for image in images:
        picture(tmp_path / image)
    cells = [f",{cell}" for cell in column.split(",")] if column else [""] * 3
    rows = [f"{image},8,5,20,13{cell}" for image, cell in zip(images, cells, strict=True)]
    head = "file,x1,y1,x2,y2" + (",split" if column else "")
    text(tmp_path / "boxes.csv", "\n".join((head, *rows)))
    cases, problems = outcome(tmp_path, "table")
    assert "".join(name for name, case in sorted(cases.items()) if case.split == "test") == test
    assert not problems


def test_folders_outside_a_data_set_say_nothing_of_the_parts_of_its_tables(tmp_path):
    picture(tmp_path / "test/a.png")
    text(tmp_path / "data/boxes.csv", f"file,x1,y1,x2,y2\n{tmp_path / 'test/a.png'},8,5,20,13\n")
    cases, problems = outcome(tmp_path / "data", "table")
    assert [case.split for case in cases.values()] == ["train"]
    assert not problems
