"""Copies that Roboflow makes of one image stay together in every layout that it exports."""

import json

import pytest

from boxel.datasets.formats import open_dataset
from boxel.datasets.quality.check import examine
from boxel.datasets.split import dataset_splits

from .test_contradictions import picture, text

BOX = "<bndbox><xmin>9</xmin><ymin>6</ymin><xmax>20</xmax><ymax>13</ymax></bndbox>"


def name(image, copy):
    return f"{image}_jpg.rf.{copy:032x}"


def coco(root, part, names):
    images = [{"id": n, "file_name": f"{one}.jpg", "height": 40, "width": 60} for n, one in enumerate(names)]
    objects = [{"id": n, "image_id": n, "category_id": 1, "bbox": [8, 5, 12, 8]} for n, _ in enumerate(names)]
    values = {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "cell"}]}
    for one in names:
        picture(root / part / f"{one}.jpg")
    text(root / part / "_annotations.coco.json", json.dumps(values))


def voc(root, part, names):
    for one in names:
        picture(root / part / f"{one}.jpg")
        cell = f"<object><name>cell</name>{BOX}</object>"
        text(root / part / f"{one}.xml", f"<annotation><filename>{one}.jpg</filename>{cell}</annotation>")


def yolo(root, part, names):
    for one in names:
        picture(root / part / f"images/{one}.jpg")
        text(root / part / f"labels/{one}.txt", "0 0.3 0.3 0.2 0.2\n")
    text(root / "data.yaml", "names: [cell]\n")


LAYOUTS = {"coco": coco, "voc": voc, "yolo": yolo}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_copies_of_one_image_are_a_group_and_in_one_part_of_every_fold(tmp_path, layout):
    LAYOUTS[layout](tmp_path, "train", [name(image, copy) for image in "abcde" for copy in range(3)])
    data = open_dataset(tmp_path, format=layout)
    assert sorted({case.group for case in data.cases}) == [f"{image}_jpg" for image in "abcde"]
    for split in dataset_splits(data):
        parts = [{case.split("_")[0] for case in ids} for _, ids in split]
        assert sum(map(len, parts)) == len(set().union(*parts)) == 5


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("part", "severity"), [("valid", "error"), ("test", "warning")])
def test_copies_of_one_image_on_both_sides_of_a_split_are_reported(tmp_path, layout, part, severity):
    LAYOUTS[layout](tmp_path, "train", [name("a", 0), name("b", 0)])
    LAYOUTS[layout](tmp_path, part, [name("a", 1), name("c", 0)])
    findings = examine(tmp_path, format=layout).findings
    assert any(one.severity == severity and "group" in one.problem and "a_jpg" in one.problem for one in findings)
    findings = examine(tmp_path, format=layout, options=["group=.*"]).findings
    assert not any("group" in one.problem for one in findings)


def test_images_without_copies_are_no_groups(tmp_path):
    yolo(tmp_path, "train", [name("a", 0), name("b", 1), "c.rf.d"])
    assert not any(case.group for case in open_dataset(tmp_path, format="yolo").cases)
