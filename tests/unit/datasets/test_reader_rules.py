"""Ids, lines and cells that may be written in several ways: the one meaning they have, or an error with the option."""

import json

import numpy as np
import pytest
from PIL import Image as Picture

from boxel.datasets.cases import read_case
from boxel.datasets.formats import open_dataset
from boxel.datasets.problems import InputError
from boxel.io import write_image, write_label_map
from boxel.types import Geometry, Image

from .test_silent_faults import BOXES, SHAPE, coco, read_boxes, table, write_picture, write_text, yolo

HEAD = "file,x1,y1,x2,y2,label\n"
ROW = "20,10,32,18"  # BOXES[0]


@pytest.fixture
def root(tmp_path):
    """A folder with the pictures a.png and b.png, whose objects are in BOXES[0]."""
    for name in "ab":
        write_picture(tmp_path / "images" / f"{name}.png", BOXES[0])
    return tmp_path


def edit(root, change):
    coco(root, {"a.png": BOXES[0], "b.png": BOXES[0]})
    values = json.loads((root / "annotations.json").read_text())
    change(values)
    write_text(root / "annotations.json", json.dumps(values))


@pytest.mark.parametrize("written", [str, float, lambda number: f"{number}.0"])
@pytest.mark.parametrize("key", ["image_id", "category_id"])
def test_coco_ids_are_numbers_however_they_are_written(root, written, key):
    edit(root, lambda values: [entry.update({key: written(entry[key])}) for entry in values["annotations"]])
    assert read_boxes(open_dataset(root)) == {"a": [BOXES[0]], "b": [BOXES[0]]}


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("image_id", r"images 7, which are not listed; .*listed are 0, 1"),
        ("category_id", r"unknown category 7; use one"),
    ],
)
def test_unknown_coco_ids_are_errors_that_list_the_known_ones(root, key, message):
    edit(root, lambda values: values["annotations"][0].update({key: 7}))
    with pytest.raises(InputError, match=message):
        open_dataset(root)


def test_coco_categories_of_several_files_are_the_same_by_their_names(root):
    for number, (name, names) in enumerate({"train": ("nodule", "mass"), "val": ("mass", "nodule")}.items()):
        file = root / "annotations" / f"{name}.json"
        coco(file.parent, {f"{'ab'[number]}.png": BOXES[0]})
        values = json.loads((file.parent / "annotations.json").read_text())
        values["categories"] = [{"id": 1, "name": names[0]}, {"id": 2, "name": names[1]}]
        (file.parent / "annotations.json").unlink()
        write_text(file, json.dumps(values))
    dataset = open_dataset(root)
    labels = {case.id: [dataset.classes[label] for label in case.labels] for case in dataset.cases}
    assert labels == {"a": ["nodule"], "b": ["mass"]}


def test_one_picture_in_two_coco_files_is_an_error_also_by_another_path(root):
    for name, image in (("train", "../images/a.png"), ("val", "a.png")):
        coco(root / "annotations", {image: BOXES[0]})
        (root / "annotations" / "annotations.json").rename(root / "annotations" / f"{name}.json")
    with pytest.raises(InputError, match=r"a.png is listed more than once, in .*train.json"):
        open_dataset(root)


def test_a_coco_file_in_the_folder_of_annotations_can_be_given_itself(root):
    coco(root / "annotations", {"a.png": BOXES[0]})
    assert read_boxes(open_dataset(root / "annotations" / "annotations.json")) == {"a": [BOXES[0]]}


@pytest.mark.parametrize("polygons", [[[]], [[20, 10, 32, 18]]])
def test_a_polygon_without_area_leaves_the_box(root, polygons):
    edit(root, lambda values: values["annotations"][0].update(segmentation=polygons))
    reports = []
    assert read_boxes(open_dataset(root, reports.append))["a"] == [BOXES[0]]
    assert [(report.severity, report.case) for report in reports] == [("warning", "a")]


# YOLO: class, box, and two key points, which would also be a polygon.
POSE = "0 0.43333333 0.35 0.2 0.2 0.36666667 0.3 0.5 0.4\n"


def write_lines(root, line, head=""):
    yolo(root, {"images/a.png": BOXES[0], "images/b.png": BOXES[0]})
    write_text(root / "labels" / "a.txt", line)
    write_text(root / "data.yaml", f"names: [cell]\n{head}")


def test_data_yaml_says_that_a_long_line_is_a_box_with_key_points(root):
    write_lines(root, POSE, "kpt_shape: [2, 2]\n")
    assert read_boxes(open_dataset(root))["a"] == [BOXES[0]]
    write_lines(root, "0 0.2 0.2 0.4 0.2 0.4 0.4\n", "kpt_shape: [2, 2]\n")
    with pytest.raises(InputError, match=r"6 numbers after the class.*8; .*kpt_shape"):
        open_dataset(root)


def test_a_long_line_that_nothing_explains_is_an_error_that_names_the_option(root):
    write_lines(root, POSE)
    (root / "data.yaml").unlink()
    with pytest.raises(InputError, match=r"a polygon, or a box and key points; .*--option lines=polygons"):
        open_dataset(root)
    assert read_boxes(open_dataset(root, options=["lines=keypoints"]))["a"] == [BOXES[0]]
    dataset = open_dataset(root, options=["lines=polygons"])
    np.testing.assert_allclose(read_case(dataset["a"], dataset).instances.boxes, [[[8, 12], [16, 30]]], atol=1e-4)


@pytest.mark.parametrize("labels", ["labels_yolo", "labels/vall", ""])
def test_a_part_without_any_label_is_an_error_that_names_the_folder(tmp_path, labels):
    for part, name in (("train", "a"), ("val", "b")):
        write_picture(tmp_path / "images" / part / f"{name}.png", BOXES[0])
        yolo(tmp_path, {f"images/{part}/{name}.png": BOXES[0]})
    if labels:
        (tmp_path / "labels" / "val").rename(tmp_path / labels)
    else:
        (tmp_path / "labels" / "val" / "b.txt").unlink()
    with pytest.raises(InputError, match=r"labels/val: no annotation for any of the 1 images"):
        open_dataset(tmp_path)


def test_data_yaml_may_list_images_and_must_not_name_what_does_not_exist(tmp_path):
    for name, box in zip("abc", BOXES, strict=True):
        write_picture(tmp_path / "images" / f"{name}.png", box)
        yolo(tmp_path, {f"images/{name}.png": box})
    write_text(tmp_path / "train.txt", "./images/a.png\n")
    write_text(tmp_path / "val.txt", "/content/images/b.png\n")
    write_text(tmp_path / "data.yaml", "names: [cell]\ntrain: train.txt\nval: val.txt\n")
    reports = []
    dataset = open_dataset(tmp_path, reports.append)
    assert read_boxes(dataset) == {"a": [BOXES[0]], "b": [BOXES[1]]}
    assert dataset.splits == ({"train": ("a",), "val": ("b",), "test": ()},)
    assert ["1 image is in no part of the split" in report.problem for report in reports] == [True]
    write_text(tmp_path / "data.yaml", "names: [cell]\ntrain: train.txt\nval: images/vall\n")
    with pytest.raises(InputError, match=r"'images/vall', which data.yaml names for val, does not exist"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        HEAD + f"a.png,{ROW},cell\n",
        "sep=;\n" + (HEAD + f"a.png,{ROW},cell\n").replace(",", ";"),
        (HEAD + f"a.png,{ROW},cell\n,,,,,\n").replace(",", ";").replace("20", "20,0"),
        (HEAD + f"a.png,{ROW},cell\n").replace(",", "\t").replace("\n", "\r\n"),
        f"a.png,{ROW},cell\nb.png,,,,,\n",
        f"id,image_name,x1,y1,x2,y2,label\n7,a.png,{ROW},cell\n",
        HEAD + f"a.png,{ROW},cell\nb.png,nan,nan,nan,nan,nan\n",
    ],
)
def test_tables_are_read_in_the_dialects_of_spreadsheets(root, text):
    write_text(root / "boxes.csv", text)
    dataset = open_dataset(root)
    assert (read_boxes(dataset)["a"], dataset.classes) == ([BOXES[0]], ("cell",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + "a.png,20,5,10,5,32,0,18,0,cell\n", r"line 2 has more cells than the 6 columns.*; decimal commas"),
        (HEAD + "a.png,nan,10,32,18,cell\n", "line 2: x1 is missing"),
        (HEAD + f"a.png,{ROW},\nb.png,{ROW},cell\n", r"line 2: the object has no class"),
        (HEAD + f"x.png,{ROW},cell\n", r"1 of 1 image does not exist: x.png"),
        (f"cell,a.png,{ROW}\n", r"no header; .*--option columns=file,x1,y1,x2,y2,label"),
        (HEAD.replace("label", "label,label") + f"a.png,{ROW},cell,mass\n", "several columns are called label"),
    ],
)  # fmt: skip
def test_a_table_that_can_be_misread_is_an_error(root, text, message):
    write_text(root / "boxes.csv", text)
    with pytest.raises(InputError, match=message):
        open_dataset(root, format="table")


def test_a_table_without_header_is_read_by_the_columns_that_are_given(root):
    write_text(root / "boxes.csv", f"cell,a.png,{ROW}\n")
    dataset = open_dataset(root, options=["columns=label,file,x1,y1,x2,y2"])
    assert (read_boxes(dataset), dataset.classes) == ({"a": [BOXES[0]]}, ("cell",))


def test_class_numbers_of_tables_are_the_same_with_and_without_a_point(root):
    write_text(root / "boxes.csv", HEAD + f"a.png,{ROW},1.0\nb.png,{ROW},1\n")
    assert open_dataset(root).classes == ("1",)
    dataset = open_dataset(root, options=["classes=benign,malignant"])
    assert [case.labels for case in dataset.cases] == [[1], [1]]


def test_one_image_with_two_declared_sizes_is_an_error(root):
    table(root, {"a.png": BOXES[0]})
    file = root / "boxes.csv"
    file.write_text(file.read_text() + f"a.png,{ROW},120,80,cell\n")
    with pytest.raises(InputError, match=r"several sizes: \(40, 60\) and \(80, 120\)"):
        open_dataset(root)


VOLUME = (8, 12, 14)


def write_volume(path, lesions=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.zeros(VOLUME, np.uint8)
    for number in range(lesions or 0):
        array[2:4, 2 + 5 * number : 5 + 5 * number, 3:6] = 1
    noise = np.random.default_rng(0).normal(size=(1, *VOLUME)).astype(np.float32)
    grid = Geometry.plain(VOLUME)
    write_image(path, Image(noise, grid)) if lesions is None else write_label_map(path, array, grid)


@pytest.mark.parametrize("kind", ["label-lesion_mask", "dseg", "space-FLAIR_desc-lesions_mask"])
def test_bids_pairs_images_with_the_lesion_masks_of_their_sessions(tmp_path, kind):
    for session, lesions in (("sub-01_ses-1", 1), ("sub-01_ses-2", 2), ("sub-02_ses-1", 0)):
        folder = "/".join(session.split("_")) + "/anat"
        for image in ("FLAIR", "T1w"):
            write_volume(tmp_path / folder / f"{session}_{image}.nii.gz")
        write_volume(tmp_path / "derivatives" / "manual" / folder / f"{session}_{kind}.nii.gz", lesions)
    write_volume(tmp_path / "sub-03" / "anat" / "sub-03_FLAIR.nii.gz")
    reports = []
    dataset = open_dataset(tmp_path, reports.append, options=["image=flair"])
    counts = {case.id: len(read_case(case, dataset).instances) for case in dataset.cases}
    assert counts == {"sub-01_ses-1": 1, "sub-01_ses-2": 2, "sub-02_ses-1": 0}
    assert [case.group for case in dataset.cases] == ["sub-01", "sub-01", "sub-02"]
    assert {case.channels[0].name.split("_")[-1] for case in dataset.cases} == {"FLAIR.nii.gz"}
    assert "1 image is not used, without a label map: sub-03_FLAIR.nii.gz" in [r.problem for r in reports]
    if "FLAIR" not in kind:
        with pytest.raises(InputError, match=r"several images: .*--option image=KIND"):
            open_dataset(tmp_path)


@pytest.mark.parametrize("turned", [True, False])
def test_a_mask_says_whether_it_was_drawn_on_the_picture_as_shown_or_as_stored(tmp_path, turned):
    y0, x0, y1, x1 = BOXES[0]
    write_picture(tmp_path / "images" / "a.jpg", BOXES[0], exif=6)
    box = (x0, SHAPE[0] - y1, x1, SHAPE[0] - y0) if turned else BOXES[0]
    mask = np.zeros(SHAPE[::-1] if turned else SHAPE, np.uint8)
    mask[box[0] : box[2], box[1] : box[3]] = 255
    (tmp_path / "masks").mkdir()
    Picture.fromarray(mask).save(tmp_path / "masks" / "a.png")
    assert read_boxes(open_dataset(tmp_path)) == {"a": [box]}


def test_rows_of_meta_csv_name_images_by_their_paths(tmp_path):
    for name in ("p1/001", "p2/001"):
        write_picture(tmp_path / "images" / f"{name}.png", BOXES[0])
        write_picture(tmp_path / "masks" / f"{name}.png", BOXES[0], value=255)
    write_text(tmp_path / "meta.csv", "file,patient_id,split\np1\\001.png,x,train\np2/001.png,y,Testing\n")
    dataset = open_dataset(tmp_path, options=["values=instances"])
    assert [(case.id, case.group, case.split) for case in dataset.cases] == [
        ("p1_001", "x", "train"),
        ("p2_001", "y", "test"),
    ]
    for row, message in (("001.png", r"'001.png' may be any of p1_001, p2_001"), ("z.png", "1 of 1 row names no case")):
        write_text(tmp_path / "meta.csv", f"file,patient_id\n{row},x\n")
        with pytest.raises(InputError, match=message):
            open_dataset(tmp_path)


def test_a_folder_of_a_case_without_label_map_is_reported(tmp_path):
    write_volume(tmp_path / "p1" / "ct.nii.gz")
    write_volume(tmp_path / "p1" / "seg.nii.gz", 2)
    write_volume(tmp_path / "p2" / "ct.nii.gz")
    reports = []
    assert [case.id for case in open_dataset(tmp_path, reports.append).cases] == ["p1"]
    assert [r.problem for r in reports if r.severity == "warning"] == [
        "1 file is not used without a counterpart: p2/ct.nii.gz"
    ]
