"""The layouts of the 2D world: Pascal VOC, COCO, YOLO (and MedYOLO), Kaggle's data science bowl."""

import json
from dataclasses import replace

import numpy as np
import pytest

from boxel.datasets.cases import read_case
from boxel.datasets.formats import open_dataset
from boxel.datasets.quality.check import check, examine
from boxel.io import write_image
from boxel.types import Geometry, Image


def write_picture(path, rng, shape=(20, 30), channels=3):
    write_image(path, Image(rng.integers(0, 255, (channels, *shape), dtype=np.uint8), Geometry.plain(shape)))


def objects(dataset, case):
    loaded = read_case(dataset[case], dataset).instances
    return sorted(zip(loaded.labels.tolist(), loaded.boxes.tolist(), strict=True))


def write_voc(root, rng, boxes=((3, 2, 8, 5),), difficult=()):
    write_picture(root / "JPEGImages" / "a.png", rng)
    write_picture(root / "JPEGImages" / "b.png", rng)
    found = "".join(
        f"<object><name>cell</name><difficult>{int(row in difficult)}</difficult>"
        f"<bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        for row, (x0, y0, x1, y1) in enumerate(boxes)
    )
    (root / "Annotations").mkdir(parents=True)
    for name, inside in (("a", found), ("b", "")):
        xml = f"<annotation><filename>{name}.jpg</filename>{inside}</annotation>"
        (root / "Annotations" / f"{name}.xml").write_text(xml)
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "ImageSets" / "Main" / "test.txt").write_text("b\n")
    return root


def test_voc_pixels_count_from_one_and_include_both_ends(tmp_path, rng):
    dataset = open_dataset(write_voc(tmp_path, rng))
    assert (dataset.format, dataset.classes, dataset.channels) == ("voc", ("cell",), ("red", "green", "blue"))
    # Pixels 3..8 by 2..5 counted from 1 are columns 2..7 and rows 1..4 counted from 0.
    assert objects(dataset, "a") == [(0, [[1, 2], [5, 8]])]
    assert objects(dataset, "b") == []
    assert [case.id for case in dataset.test] == ["b"]


@pytest.mark.parametrize(("choice", "kept", "ignored"), [("", 1, 1), ("keep", 2, 0), ("drop", 1, 0)])
def test_what_voc_marks_as_difficult_is_ignored_unless_told_otherwise(tmp_path, rng, choice, kept, ignored):
    root = write_voc(tmp_path, rng, boxes=((3, 2, 8, 5), (10, 10, 15, 15)), difficult=(1,))
    dataset = open_dataset(root, options=[f"difficult={choice}"] if choice else [])
    loaded = read_case(dataset["a"], dataset)
    assert (len(loaded.instances), len(loaded.ignored), loaded.ignores_regions) == (kept, ignored, False)


def test_a_voc_box_without_extent_is_left_out_and_reported(tmp_path, rng):
    root = write_voc(tmp_path, rng, boxes=((3, 2, 8, 5), (7, 7, 7, 7)))
    assert len(objects(open_dataset(root), "a")) == 1
    (finding,) = [finding for finding in check(root) if "no extent" in finding.problem]
    assert (finding.severity, finding.case, finding.file.name) == ("warning", "a", "a.xml")


def write_coco(root, rng, **changes):
    write_picture(root / "images" / "a.png", rng)
    write_picture(root / "images" / "b.png", rng)
    boxed = {"id": 1, "image_id": 7, "category_id": 3, "bbox": [2, 1, 6, 4], "area": 24, "iscrowd": 0}
    outline = {
        **boxed,
        "id": 2,
        "bbox": [10, 5, 4, 4],
        "segmentation": [[10, 5, 14, 5, 14, 9, 10, 9]],
        "category_id": 1,
    }
    values = {
        "images": [{"id": 7, "file_name": "a.png", "width": 30, "height": 20}, {"id": 8, "file_name": "b.png"}],
        "annotations": [boxed, outline],
        "categories": [{"id": 3, "name": "cell"}, {"id": 1, "name": "clump"}],
    }
    (root / "annotations").mkdir()
    (root / "annotations" / "instances_train.json").write_text(json.dumps({**values, **changes}))
    return root


def test_coco_boxes_and_outlines_may_be_mixed(tmp_path, rng):
    dataset = open_dataset(write_coco(tmp_path, rng))
    assert (dataset.format, dataset.classes) == ("coco", ("clump", "cell"))  # in the order of their ids
    assert objects(dataset, "a") == [(0, [[5, 10], [9, 14]]), (1, [[1, 2], [5, 8]])]
    loaded = read_case(dataset["a"], dataset)
    assert loaded.instances.has_mask.tolist() == [True, False]
    assert (loaded.label_map == 1).sum() == 16
    assert objects(dataset, "b") == []


def test_coco_run_lengths_are_masks_in_column_order(tmp_path, rng):
    # 20 rows: 21 pixels of background end at row 1 of column 1; then 3 pixels downwards.
    counts = [21, 3, 600 - 24]
    boxed = {"id": 1, "image_id": 7, "category_id": 3, "bbox": [1, 1, 1, 3], "iscrowd": 0}
    plain = {**boxed, "segmentation": {"counts": counts, "size": [20, 30]}}
    # The same by hand, in 5 bits per character, lowest first, +32 if more follow, +48: 21 + sign, 3, 0 and 18 + sign.
    packed = {**plain, "id": 2, "segmentation": {"counts": "e03Pb0", "size": [20, 30]}}
    dataset = open_dataset(write_coco(tmp_path, rng, annotations=[plain]))
    mask = read_case(dataset["a"], dataset).label_map > 0
    assert np.argwhere(mask).tolist() == [[1, 1], [2, 1], [3, 1]]
    file = tmp_path / "annotations" / "instances_train.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "annotations": [packed]}))
    dataset = open_dataset(tmp_path)
    np.testing.assert_array_equal(read_case(dataset["a"], dataset).label_map > 0, mask)


@pytest.mark.parametrize("counts", [[], [21, 3], [21, 3, 5760], [21, -3, 582], "", "e03", "e03P", "~~~~", "é03Pb0"])
def test_coco_run_lengths_that_do_not_fill_the_image_are_an_error(tmp_path, rng, counts):
    drawn = {"id": 1, "image_id": 7, "category_id": 3, "segmentation": {"counts": counts, "size": [20, 30]}}
    dataset = open_dataset(write_coco(tmp_path, rng, annotations=[drawn]))
    with pytest.raises(ValueError, match="run lengths"):
        read_case(dataset["a"], dataset)


def test_a_crowd_is_ignored(tmp_path, rng):
    crowd = {"id": 1, "image_id": 7, "category_id": 3, "bbox": [2, 1, 6, 4], "iscrowd": 1}
    dataset = open_dataset(write_coco(tmp_path, rng, annotations=[crowd, {**crowd, "id": 2, "iscrowd": 0}]))
    loaded = read_case(dataset["a"], dataset)
    assert len(loaded.instances) == 1
    assert loaded.ignored.boxes.tolist() == [[[1, 2], [5, 8]]]


def test_overlapping_outlines_are_both_kept(tmp_path, rng):
    entry = {"image_id": 7, "category_id": 3, "iscrowd": 0}
    large = {**entry, "id": 1, "segmentation": [[2, 2, 14, 2, 14, 14, 2, 14]]}
    inside = {**entry, "id": 2, "segmentation": [[4, 4, 8, 4, 8, 8, 4, 8]]}
    equal = {**entry, "id": 3, "segmentation": [[4, 4, 8, 4, 8, 8, 4, 8]]}
    dataset = open_dataset(write_coco(tmp_path, rng, annotations=[large, inside, equal]))
    loaded = read_case(dataset["a"], dataset)
    assert loaded.instances.boxes.tolist() == [[[2, 2], [14, 14]], [[4, 4], [8, 8]], [[4, 4], [8, 8]]]
    assert loaded.instances.has_mask.tolist() == [True, False, True]  # the covered one keeps its box


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"bbox": [1, 1, "x", 2]}, "bbox of object 5"),
        ({"bbox": [1, 1, 2]}, "bbox of object 5"),
        ({"bbox": [1, 1, 2, 2], "category_id": 9}, "unknown category 9"),
        ({}, "neither bbox nor segmentation"),
        ({"segmentation": [[1, 2, 3]]}, "polygon"),
    ],
)
def test_a_wrong_coco_object_is_an_error_of_its_case(tmp_path, rng, entry, message):
    root = write_coco(tmp_path, rng, annotations=[{"id": 5, "image_id": 7, "category_id": 3, **entry}])
    errors = [finding for finding in check(root) if finding.severity == "error"]
    assert [error.case for error in errors] == ["a"]
    assert message in errors[0].problem


def write_yolo(root, rng, line, shape=(20, 30), suffix=".png"):
    for part in ("train", "val"):
        array = rng.integers(0, 255, (1, *shape), dtype=np.uint8)
        write_image(root / "images" / part / f"{part}1{suffix}", Image(array, Geometry.plain(shape)))
        (root / "labels" / part).mkdir(parents=True)
    (root / "labels" / "train" / "train1.txt").write_text(line + "\n")
    (root / "labels" / "val" / "val1.txt").touch()
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [cell, clump]\n")
    return root


def test_yolo_fractions_are_boxes_and_a_missing_text_is_a_negative(tmp_path, rng):
    write_picture(tmp_path / "images" / "train" / "none.png", rng, channels=1)
    dataset = open_dataset(write_yolo(tmp_path, rng, "1 0.5 0.25 0.2 0.1"))
    assert (dataset.format, dataset.classes) == ("yolo", ("cell", "clump"))
    # Columns (0.4..0.6) * 30, rows (0.2..0.3) * 20.
    np.testing.assert_allclose(read_case(dataset["train1"], dataset).instances.boxes, [[[4, 12], [6, 18]]], rtol=1e-6)
    assert objects(dataset, "val1") == objects(dataset, "none") == []
    assert dataset.splits == ({"train": ("none", "train1"), "val": ("val1",), "test": ()},)


@pytest.mark.parametrize("style", ["roboflow", "data.yaml", "list of folders"])
def test_yolo_folders_may_lie_the_other_way_round_or_where_data_yaml_says(tmp_path, rng, style):
    root = write_yolo(tmp_path / "set", rng, "1 0.5 0.25 0.2 0.1")
    head = "names: [cell, clump]\n"
    if style == "roboflow":
        for part, name in (("train", "train"), ("val", "valid")):
            for kind in ("images", "labels"):
                (root / name).mkdir(exist_ok=True)
                (root / kind / part).rename(root / name / kind)
    else:
        (root / "somewhere").mkdir()
        for kind in ("images", "labels"):
            (root / kind).rename(root / "somewhere" / kind)
        first, second = "images/train", "images/val"
        head += f"path: somewhere\ntrain: {first}\nval: {second}\n" if style == "data.yaml" else (
            f"train: [somewhere/{first}]\nval: [somewhere/{second}]\n"
        )  # fmt: skip
    (root / "data.yaml").write_text(head)
    dataset = open_dataset(root)
    assert (dataset.format, dataset.classes) == ("yolo", ("cell", "clump"))
    assert dataset.splits == ({"train": ("train1",), "val": ("val1",), "test": ()},)
    assert len(objects(dataset, "train1")) == 1
    assert not [finding for finding in check(root) if finding.severity == "error"]


def test_medyolo_counts_axes_as_the_nifti_file(tmp_path, rng):
    root = write_yolo(tmp_path, rng, "0 0.5 0.25 0.5 0.2 0.1 0.4", shape=(10, 20, 40), suffix=".nii.gz")
    dataset = open_dataset(root)
    # z is the plane (10), x the column (40), y the row (20).
    expected = [[[4, 6, 8], [6, 14, 12]]]
    np.testing.assert_allclose(read_case(dataset["train1"], dataset).instances.boxes, expected, rtol=1e-5)


@pytest.mark.parametrize(
    "line", ["1 0.5 0.5 0.2", "x 0.5 0.5 0.1 0.1", "0 7 0.5 0.1 0.1", "0 0.5 0.5 0 0.1", "-1 0 0 1 1"]
)
def test_a_wrong_yolo_line_is_an_error_of_its_case(tmp_path, rng, line):
    errors = [finding for finding in check(write_yolo(tmp_path, rng, line)) if finding.severity == "error"]
    assert [(error.case, error.file.name) for error in errors] == [("train1", "train1.txt")]
    assert "line 1" in errors[0].problem


def write_kaggle(root, rng):
    first, second = np.zeros((2, 20, 30), np.uint8)
    first[2:6, 3:9], second[5:12, 8:12] = 255, 255  # they overlap in one pixel
    for number, mask in enumerate((first, second)):
        write_image(root / "abc" / "masks" / f"{number}.png", Image(mask[None], Geometry.plain(mask.shape)))
    write_picture(root / "abc" / "images" / "abc.png", rng)
    write_picture(root / "none" / "images" / "none.png", rng)
    (root / "none" / "masks").mkdir()
    return root


def test_kaggle_has_a_file_per_nucleus(tmp_path, rng):
    dataset = open_dataset(write_kaggle(tmp_path / "stage1_train", rng))
    assert (dataset.format, dataset.classes) == ("kaggle_dsb2018", ("nucleus",))
    assert objects(dataset, "abc") == [(0, [[2, 3], [6, 9]]), (0, [[5, 8], [12, 12]])]
    assert objects(dataset, "none") == []
    assert objects(open_dataset(tmp_path), "abc")  # a folder above will do


def test_a_case_may_be_opened_for_its_image_alone(tmp_path, rng):
    dataset = open_dataset(write_kaggle(tmp_path, rng))
    bare = replace(dataset["abc"], annotate=None)
    assert read_case(bare, dataset).image.array.shape == (3, 20, 30)


@pytest.mark.data
def test_blood_cells_open_as_they_are(data):
    found = examine(data / "blood_cells")
    reported = {finding.case for finding in found.findings if "no extent" in finding.problem}
    assert reported == {"BloodImage_00338", "BloodImage_00343"}
    assert not [finding for finding in found.findings if finding.severity == "error"]
    # 4155 and two of zero size are named in the data set's README.
    assert found.objects == {"RBC": 4153, "WBC": 372, "Platelets": 361}
    assert (len(found.dataset.train), len(found.dataset.test)) == (292, 72)


@pytest.mark.data
def test_nuclei_open_in_both_layouts_alike(data, tmp_path):
    from boxel.io import read_label_map

    found = examine(data / "nuclei", options=["classes=nucleus"])
    assert found.objects == {"nucleus": 7685}
    case = found.dataset.cases[0]
    packed = read_case(case, found.dataset)
    label_map = read_label_map(case.annotate.path)
    for number in np.unique(label_map.array)[1:]:
        mask = (label_map.array == number).astype(np.uint8) * 255
        write_image(tmp_path / case.id / "masks" / f"{number:03d}.png", Image(mask[None], label_map.geometry))
    (tmp_path / case.id / "images").mkdir()
    (tmp_path / case.id / "images" / f"{case.id}.png").write_bytes(case.channels[0].read_bytes())
    dataset = open_dataset(tmp_path)
    unpacked = read_case(dataset[case.id], dataset)
    np.testing.assert_array_equal(unpacked.instances.boxes, packed.instances.boxes)
    np.testing.assert_array_equal(unpacked.image.array, packed.image.array)
