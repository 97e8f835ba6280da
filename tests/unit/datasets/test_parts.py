"""Parts of a data set: folders in capitals, and parts without any object."""

import json

import pytest

from boxel.datasets.formats import open_dataset

from .test_drawing_tools import labelme, picture, write
from .test_silent_faults import BOXES, SHAPE, coco, monai, opened, read_boxes, write_picture, yolo


@pytest.mark.parametrize(
    ("images", "labels"),
    [("Images", "Labels"), ("IMAGES", "LABELS"), ("images", "Labels"), ("Images/Train", "labels/train"),
     ("Train/Images", "Train/Labels")],
)  # fmt: skip
@pytest.mark.parametrize("named", [True, False])
def test_the_folders_of_yolo_may_be_in_capitals(tmp_path, images, labels, named):
    write_picture(tmp_path / images / "a.png", BOXES[0])
    yolo(tmp_path / "made", {"a.png": BOXES[0]})
    (tmp_path / labels).mkdir(parents=True)
    (tmp_path / "made" / "labels" / "a.txt").rename(tmp_path / labels / "a.txt")
    head = f"names: [cell]\ntrain: {images}\n" if named else "names: [cell]\n"
    (tmp_path / "data.yaml").write_text(head)
    problems = []
    assert read_boxes(opened(tmp_path, "yolo", problems.append)) == {"a": [BOXES[0]]}
    assert problems == []


def coco_parts(root, empty):
    for part in ("train", "val"):
        coco(root / part, {f"{part}.png": BOXES[0]}, SHAPE)
        values = json.loads((root / part / "annotations.json").read_text())
        values["annotations"] = [] if part in empty else values["annotations"]
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"{part}.json").write_text(json.dumps(values))
        (root / part / "annotations.json").unlink()
        write_picture(root / part / f"{part}.png", BOXES[0])


def monai_parts(root, empty):
    monai(root, {"a.png": BOXES[0]})
    (entry,) = json.loads((root / "list.json").read_text())["training"]
    values = {}
    for key, part in {"training": "train", "validation": "val"}.items():
        write_picture(root / "images" / f"{part}.png", BOXES[0])
        bare = {"box": [], "label": []} if part in empty else {}
        values[key] = [{**entry, "image": f"{part}.png", **bare}]
    (root / "list.json").write_text(json.dumps(values))


def labelme_parts(root, empty):
    for part in ("train", "val"):
        picture(root / part / f"{part}.png")
        values = labelme({"label": "cell", "shape_type": "rectangle", "points": [[10, 8], [34, 20]]})
        shapes = [] if part in empty else values["shapes"]
        write(root / part / f"{part}.json", {**values, "imagePath": f"{part}.png", "shapes": shapes})


PARTED = {"coco": coco_parts, "monai": monai_parts, "labelme": labelme_parts}


@pytest.mark.parametrize("layout", PARTED)
@pytest.mark.parametrize("empty", [(), ("val",), ("train", "val")])
def test_a_part_without_any_object_is_a_warning_if_others_have_some(tmp_path, layout, empty):
    PARTED[layout](tmp_path, empty)
    problems = []
    options = ["mode=xyzxyz", "frame=voxel"] if layout == "monai" else []
    dataset = open_dataset(tmp_path, problems.append, options=options)
    assert (dataset.format, len(dataset.cases)) == (layout, 2)
    about = [problem for problem in problems if "has an object" in problem.problem]
    assert len(about) == (empty == ("val",))
    for problem in about:
        assert problem.severity == "warning"
        assert problem.problem.startswith("none of the 1 images of ")
        assert "val" in problem.problem
