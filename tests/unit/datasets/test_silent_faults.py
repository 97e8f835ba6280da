"""The right picture, the right box, or an error that names the fault, in every layout whose annotations name images."""

import json

import numpy as np
import pytest
from PIL import Image as Picture

from boxel.datasets.cases import read_case
from boxel.datasets.formats import open_dataset
from boxel.datasets.problems import InputError
from boxel.datasets.quality.check import examine
from boxel.datasets.quality.repair import repair

SHAPE = (40, 60)
BRIGHT = 220
BOXES = ((10, 20, 18, 32), (25, 40, 33, 52), (2, 2, 10, 10))  # rows and columns, half-open
ORIENTATION = 0x0112


def write_picture(path, box, shape=SHAPE, exif=1, value=BRIGHT):
    """A dark picture that is bright in its box."""
    array = np.random.default_rng(sum(box)).integers(0, 50, shape).astype(np.uint8)
    array[box[0] : box[2], box[1] : box[3]] = value
    tags = Picture.Exif()
    tags[ORIENTATION] = exif
    path.parent.mkdir(parents=True, exist_ok=True)
    Picture.fromarray(array).save(path, **({"exif": tags} if exif != 1 else {}))


def write_text(path, text, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))


def coco(root, named, shape=SHAPE, encoding="utf-8", label="cell"):
    """`named`: the box of each image by the name that the annotation gives it."""
    images = [{"id": n, "file_name": name, "height": shape[0], "width": shape[1]} for n, name in enumerate(named)]
    objects = [
        {"id": n, "image_id": n, "category_id": 1, "bbox": [x0, y0, x1 - x0, y1 - y0]}
        for n, (y0, x0, y1, x1) in enumerate(named.values())
    ]
    values = {"images": images, "annotations": objects, "categories": [{"id": 1, "name": label}]}
    write_text(root / "annotations.json", json.dumps(values, ensure_ascii=False), encoding)


def voc(root, named, shape=SHAPE, encoding="utf-8", label="cell"):
    for name, (y0, x0, y1, x1) in named.items():
        place = name.replace("\\", "/").removeprefix("C:/data/")
        write_text(
            (root / "Annotations" / place.removeprefix("images/")).with_suffix(".xml"),
            f'<?xml version="1.0" encoding="{encoding}"?><annotation><filename>{name.split("/")[-1]}</filename>'
            f"<size><width>{shape[1]}</width><height>{shape[0]}</height></size><object><name>{label}</name>"
            f"<bndbox><xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox>"
            "</object></annotation>",
            encoding,
        )


def table(root, named, shape=SHAPE, encoding="utf-8", label="cell"):
    rows = [f"{name},{x0},{y0},{x1},{y1},{shape[1]},{shape[0]},{label}" for name, (y0, x0, y1, x1) in named.items()]
    text = "\n".join(["filename,xmin,ymin,xmax,ymax,width,height,class", *rows]) + "\n"
    write_text(root / "boxes.csv", text, encoding)


def monai(root, named, shape=SHAPE, encoding="utf-8", label="cell"):
    entries = [{"image": name, "box": [[x0, y0, x1, y1]], "label": [0]} for name, (y0, x0, y1, x1) in named.items()]
    write_text(
        root / "list.json", json.dumps({"labels": {"0": label}, "training": entries}, ensure_ascii=False), encoding
    )


def yolo(root, named, shape=SHAPE, encoding="utf-8", label="cell"):
    for name, (y0, x0, y1, x1) in named.items():
        centre = ((x0 + x1) / 2 / shape[1], (y0 + y1) / 2 / shape[0], (x1 - x0) / shape[1], (y1 - y0) / shape[0])
        text = (root / "labels" / name.removeprefix("images/")).with_suffix(".txt")
        write_text(text, " ".join(map(str, (0, *centre))) + "\n", encoding)
    write_text(root / "data.yaml", f"names: [{label}]\n", encoding)


WRITERS = {"coco": coco, "voc": voc, "table": table, "monai": monai, "yolo": yolo}
OPTIONS = {"monai": ["mode=xyzxyz", "frame=voxel"]}
every_layout = pytest.mark.parametrize("layout", WRITERS)
naming_layout = pytest.mark.parametrize("layout", [name for name in WRITERS if name != "yolo"])
sized_layout = pytest.mark.parametrize("layout", ["coco", "voc", "table"])


def opened(root, layout, report=None):
    dataset = open_dataset(root, *([report] if report else []), options=OPTIONS.get(layout, []))
    assert dataset.format == layout
    return dataset


def read_boxes(dataset):
    """The boxes of each case by its name, after checking that each lies on what is bright in its picture."""
    boxes = {}
    for case in dataset.cases:
        loaded = read_case(case, dataset)
        boxes[case.id] = [tuple(np.ravel(box).tolist()) for box in loaded.instances.boxes.round(3)]
        for y0, x0, y1, x1 in np.array(boxes[case.id], int):
            assert loaded.image.array[0, y0:y1, x0:x1].mean() == pytest.approx(BRIGHT, abs=3)
    return boxes


@every_layout
@pytest.mark.parametrize("depth", [1, 2])
def test_pictures_of_one_name_in_several_folders_are_cases_of_their_own(tmp_path, layout, depth):
    named = {f"images/{'deep/' * (depth - 1)}p{n}/001.png": box for n, box in enumerate(BOXES)}
    for name, box in named.items():
        write_picture(tmp_path / name, box)
    WRITERS[layout](tmp_path, named)
    assert read_boxes(opened(tmp_path, layout)) == {f"p{n}_001": [box] for n, box in enumerate(BOXES)}


@naming_layout
def test_pictures_that_differ_only_in_their_suffix_are_cases_of_their_own(tmp_path, layout):
    if layout == "voc":
        pytest.skip("one XML cannot describe two pictures of one name")
    named = dict(zip(("a.png", "a.bmp"), BOXES, strict=False))
    for name, box in named.items():
        write_picture(tmp_path / name, box)
    WRITERS[layout](tmp_path, named)
    assert read_boxes(opened(tmp_path, layout)) == {"a_png": [BOXES[0]], "a_bmp": [BOXES[1]]}


@every_layout
def test_masks_of_the_same_names_are_not_taken_for_pictures(tmp_path, layout):
    named = {f"images/{name}.png": box for name, box in zip("abc", BOXES, strict=True)}
    for name, box in named.items():
        write_picture(tmp_path / name, box)
        write_picture(tmp_path / name.replace("images", "annotation_masks"), box, value=1)
    WRITERS[layout](tmp_path, {name.removeprefix("images/"): box for name, box in named.items()})
    assert read_boxes(opened(tmp_path, layout)) == {name: [box] for name, box in zip("abc", BOXES, strict=True)}


@naming_layout
def test_paths_of_windows_are_found_here(tmp_path, layout):
    write_picture(tmp_path / "images" / "a.png", BOXES[0])
    WRITERS[layout](tmp_path, {"C:\\data\\images\\a.png": BOXES[0]})
    assert read_boxes(opened(tmp_path, layout)) == {"a": [BOXES[0]]}


@every_layout
def test_a_linked_folder_of_pictures_is_followed(tmp_path, layout):
    root, store = tmp_path / "set", tmp_path / "store" / "images"
    write_picture(store / "a.png", BOXES[0])
    WRITERS[layout](root, {"images/a.png": BOXES[0]})
    (root / "images").symlink_to(store)
    assert read_boxes(opened(root, layout)) == {"a": [BOXES[0]]}


@every_layout
def test_what_operating_systems_leave_behind_is_not_a_picture(tmp_path, layout):
    write_picture(tmp_path / "images" / "a.png", BOXES[0])
    for name in ("._a.png", "Thumbs.db", "desktop.ini", ".DS_Store"):
        (tmp_path / "images" / name).write_bytes(b"\0\1")
    WRITERS[layout](tmp_path, {"images/a.png": BOXES[0]})
    reports = []
    assert read_boxes(opened(tmp_path, layout, reports.append)) == {"a": [BOXES[0]]}
    assert reports == []


@naming_layout
def test_pictures_without_annotation_are_counted(tmp_path, layout):
    for name, box in zip("abc", BOXES, strict=True):
        write_picture(tmp_path / "images" / f"{name}.png", box)
    WRITERS[layout](tmp_path, {"images/a.png": BOXES[0]})
    reports = []
    opened(tmp_path, layout, reports.append)
    (warning,) = [report for report in reports if report.severity == "warning"]
    assert "2 images are not used without an annotation: images/b.png, images/c.png" in warning.problem


@every_layout
def test_an_annotation_without_its_picture_is_an_error(tmp_path, layout):
    write_picture(tmp_path / "images" / "p1" / "a.png", BOXES[0])
    WRITERS[layout](tmp_path, {"images/p1/a.png": BOXES[0], "images/p2/a.png": BOXES[1]})
    with pytest.raises(InputError, match=r"does not exist|do not exist|annotation has no image"):
        opened(tmp_path, layout)


@sized_layout
def test_a_picture_that_was_resized_after_its_annotation_is_an_error_with_both_sizes(tmp_path, layout):
    write_picture(tmp_path / "images" / "a.png", BOXES[0])
    WRITERS[layout](tmp_path, {"images/a.png": BOXES[0]}, shape=(80, 120))
    dataset = opened(tmp_path, layout)
    with pytest.raises(InputError, match=r"\(80, 120\).*\(40, 60\)"):
        read_case(dataset["a"], dataset)


@sized_layout
@pytest.mark.parametrize("turned", [True, False])
def test_the_declared_size_says_whether_a_picture_was_annotated_as_shown_or_as_stored(tmp_path, layout, turned):
    y0, x0, y1, x1 = BOXES[0]
    write_picture(tmp_path / "images" / "a.jpg", BOXES[0], exif=6)  # shown turned clockwise
    shown = (x0, SHAPE[0] - y1, x1, SHAPE[0] - y0)
    WRITERS[layout](tmp_path, {"images/a.jpg": shown if turned else BOXES[0]}, SHAPE[::-1] if turned else SHAPE)
    assert read_boxes(opened(tmp_path, layout)) == {"a": [shown if turned else BOXES[0]]}


@sized_layout
def test_a_declared_size_of_zero_says_nothing(tmp_path, layout):
    write_picture(tmp_path / "images" / "a.png", BOXES[0])
    WRITERS[layout](tmp_path, {"images/a.png": BOXES[0]}, shape=(0, 0))
    assert read_boxes(opened(tmp_path, layout)) == {"a": [BOXES[0]]}


@pytest.mark.parametrize(
    ("layout", "encoding"),
    [
        *((layout, encoding) for layout in WRITERS for encoding in ("utf-8-sig", "utf-16") if layout != "voc"),
        *((layout, "cp1252") for layout in WRITERS), ("voc", "utf-16"),
    ],
)  # fmt: skip
def test_class_names_survive_their_encoding(tmp_path, layout, encoding):
    write_picture(tmp_path / "images" / "a.png", BOXES[0])
    WRITERS[layout](tmp_path, {"images/a.png": BOXES[0]}, encoding=encoding, label="Läsion")
    dataset = opened(tmp_path, layout)
    assert dataset.classes == ("Läsion",)
    assert read_boxes(dataset) == {"a": [BOXES[0]]}


@every_layout
def test_an_object_that_is_annotated_twice_is_reported_and_removed_by_a_repair(tmp_path, layout):
    root = tmp_path / "set"
    write_picture(root / "images" / "a.png", BOXES[0])
    WRITERS[layout](root, {"images/a.png": BOXES[0]})
    _annotate_twice(root, layout)
    found = examine(root, options=OPTIONS.get(layout, []), workers=0)
    assert found.objects == {"cell": 2}
    assert [f.severity for f in found.findings if "twice" in f.problem] == ["warning"]
    fixed = repair(found.dataset, found.findings, tmp_path / "fixed", workers=0)
    again = open_dataset(fixed.root)
    assert len(read_case(again["a"], again).instances) == 1
    assert not [finding for finding in examine(fixed.root, workers=0).findings if "twice" in finding.problem]


def _annotate_twice(root, layout):
    if layout == "yolo":
        file = root / "labels" / "a.txt"
        file.write_text(2 * file.read_text())
    elif layout == "table":
        file = root / "boxes.csv"
        file.write_text(file.read_text() + file.read_text().splitlines()[-1] + "\n")
    elif layout == "voc":
        file = root / "Annotations" / "a.xml"
        head, middle, end = file.read_text().partition("<object>")
        body = middle + end.removesuffix("</annotation>")
        file.write_text(head + 2 * body + "</annotation>")
    elif layout == "coco":
        file = root / "annotations.json"
        values = json.loads(file.read_text())
        drawn = {**values["annotations"][0], "segmentation": [[20, 10, 32, 10, 32, 18, 20, 18]]}
        file.write_text(json.dumps({**values, "annotations": [drawn, {**drawn, "id": 9}]}))
    else:
        file = root / "list.json"
        values = json.loads(file.read_text())
        (entry,) = values["training"]
        entry["box"], entry["label"] = 2 * entry["box"], 2 * entry["label"]
        file.write_text(json.dumps(values))
