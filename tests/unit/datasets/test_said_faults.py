"""What a reader assumes, leaves out or cannot bring together is said: sizes, pages, boxes, names and numbers."""

import json

import numpy as np
import pytest
import tifffile

from boxel.datasets.cases import read_case
from boxel.datasets.formats import open_dataset
from boxel.datasets.quality.check import check
from boxel.io import read_image, write_image, write_label_map
from boxel.types import Geometry, Image

from .test_contradictions import coco, outcome, picture, said, text, yolo

IMAGE = np.arange(2 * 4 * 5, dtype=np.uint8).reshape(2, 4, 5)


def meta_image(path, **fields):
    head = {"NDims": 3, "DimSize": "5 4 2", "ElementType": "MET_UCHAR", **fields, "ElementDataFile": "LOCAL"}
    path.write_bytes("".join(f"{key} = {value}\n" for key, value in head.items()).encode() + IMAGE.tobytes())


def nrrd(path, **fields):
    head = {"type": "uint8", "dimension": 3, "sizes": "5 4 2", "encoding": "raw"}
    head |= {key.replace("_", " "): value for key, value in fields.items()}
    lines = "".join(f"{key}: {value}\n" for key, value in head.items())
    path.write_bytes(f"NRRD0004\n{lines}\n".encode() + IMAGE.tobytes())


def nifti(path, size=0.0):
    write_image(path, Image(IMAGE[None], Geometry.plain(IMAGE.shape)))
    content = bytearray(path.read_bytes())
    content[252:256] = bytes(4)  # neither qform nor sform
    content[80:92] = np.full(3, size, "<f4").tobytes()
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("suffix", "write", "known"),
    [
        (".mha", meta_image, {"ElementSpacing": "1 1 1"}),
        (".mha", meta_image, {"ElementSize": "1 1 1"}),
        (".nrrd", nrrd, {"spacings": "1 1 1"}),
        (".nrrd", nrrd, {"space": "left-posterior-superior", "space_directions": "(1,0,0) (0,1,0) (0,0,1)"}),
        (".nii", nifti, {"size": 1.0}),
    ],
)
def test_a_file_without_voxel_size_is_a_warning(tmp_path, suffix, write, known):
    file = tmp_path / "imagesTr" / f"a_0000{suffix}"
    file.parent.mkdir()
    text(tmp_path / "dataset.json", {"dim": 3, "labels": {"0": "x"}, "modalities": {"0": "MR"}})
    text(tmp_path / "labelsTr" / "a.json", {"instances": {}})
    write(file, **known)
    assert read_image(file).remarks == ()
    write(file)
    np.testing.assert_array_equal(read_image(file).array[0], IMAGE)
    (finding,) = [one for one in check(tmp_path, workers=0) if "voxel size" in one.problem]
    assert (finding.severity, finding.file) == ("warning", file)
    assert "1 mm is assumed" in finding.problem
    assert "write the voxel size" in finding.suggested_fix


def test_a_box_of_coco_that_fits_its_area_only_as_corners_is_an_error(tmp_path):
    coco(tmp_path, bbox=[8, 5, 20, 13], area=96)
    assert said(outcome(tmp_path, "coco")[1], "error", "object 7", "area 96 only as [x1, y1, x2, y2]")
    coco(tmp_path, bbox=[8, 5, 12, 8], area=96)
    assert not outcome(tmp_path, "coco")[1]


def test_a_box_of_coco_that_fits_its_polygon_only_as_corners_is_an_error(tmp_path):
    coco(tmp_path, bbox=[8, 5, 20, 13], segmentation=[[8, 5, 20, 5, 20, 13, 8, 13]])
    assert said(outcome(tmp_path, "coco")[1], "error", "object 7", "only as [x1, y1, x2, y2]")


@pytest.mark.parametrize(
    ("bbox", "problem"),
    [([8, 5, 12, 8], ""), ([40, 20, 12, 8], "lies beside"), ([8, 5, 20, 13], "only as [x1, y1, x2, y2]")],
)
def test_run_lengths_of_coco_that_contradict_their_box_are_an_error(tmp_path, bbox, problem):
    mask = np.zeros((40, 60), int)
    mask[5:13, 8:20] = 1
    column_wise = mask.T.ravel()
    ends = [*np.flatnonzero(np.diff(column_wise)) + 1, len(column_wise)]
    coco(tmp_path, bbox=bbox, segmentation={"size": [40, 60], "counts": np.diff([0, *ends]).tolist()})
    errors = [one.problem for one in check(tmp_path, workers=0) if one.severity == "error"]
    assert (not errors) == (not problem)
    assert all(problem in error for error in errors)


def test_a_validation_part_of_yolo_that_is_the_training_part_is_a_warning(tmp_path):
    yolo(tmp_path, head="names: [cell]\ntrain: images/train\nval: images/train\n")
    cases, problems = outcome(tmp_path, "yolo")
    assert sorted(cases) == ["a", "b"]
    assert said(problems, "warning", "2 of 2 images of val are also in train", "used for train only")


def test_test_images_of_yolo_that_are_training_images_are_an_error(tmp_path):
    yolo(tmp_path, head="names: [cell]\ntrain: images/train\ntest: images/train\n")
    assert said(outcome(tmp_path, "yolo")[1], "error", "images of test are also in train")


@pytest.mark.parametrize("place", ["labels/classes.txt", "labels/train/classes.txt", "classes.txt"])
def test_names_of_yolo_may_be_in_classes_txt_and_must_not_contradict_data_yaml(tmp_path, place):
    yolo(tmp_path, classes=(0, 1))
    (tmp_path / "data.yaml").unlink()
    text(tmp_path / place, "cell\ndot\n")
    assert open_dataset(tmp_path, format="yolo").classes == ("cell", "dot")
    text(tmp_path / "data.yaml", "names: [cell, dot]\n")
    assert not outcome(tmp_path, "yolo")[1]
    text(tmp_path / "data.yaml", "names: [dot, cell]\n")
    assert said(outcome(tmp_path, "yolo")[1], "error", "classes.txt", "cell, dot", "data.yaml")
    assert open_dataset(tmp_path, format="yolo", options=["classes=x,y"]).classes == ("x", "y")


def test_pages_of_a_tiff_that_are_other_images_are_an_error_and_smaller_copies_a_remark(tmp_path):
    file, page = tmp_path / "a.tif", np.random.default_rng(0).integers(0, 255, (40, 60)).astype(np.uint8)
    for second in (page[:30], page.astype(np.uint16), page[:20, :40]):
        with tifffile.TiffWriter(file) as writer:
            writer.write(page)
            writer.write(second)
        with pytest.raises(ValueError, match=r"a\.tif: its pages do not form one image.*save each"):
            read_image(file)
    for tags in ({}, {"subfiletype": 1}, {"metadata": None}):
        with tifffile.TiffWriter(file) as writer:
            writer.write(page)
            writer.write(page[::2, ::2], **tags)
        image = read_image(file)
        np.testing.assert_array_equal(image.array[0], page)
        assert "(20, 30)" in image.remarks[0]


def test_names_in_the_lists_of_voc_without_annotation_are_reported(tmp_path):
    picture(tmp_path / "JPEGImages" / "a.png")
    text(tmp_path / "Annotations" / "a.xml", "<annotation></annotation>")
    text(tmp_path / "ImageSets" / "Main" / "train.txt", "a\nb\nc\n")
    assert said(outcome(tmp_path, "voc")[1], "warning", "train.txt", "2 of 3 names", "the first is 'b'")
    text(tmp_path / "ImageSets" / "Main" / "train.txt", "a\n")
    assert outcome(tmp_path, "voc")[1] == []
    text(tmp_path / "ImageSets" / "Main" / "train.txt", "b.png\n")
    assert said(outcome(tmp_path, "voc")[1], "error", "train.txt", "1 of 1 names", "the first is 'b.png'")


@pytest.mark.parametrize("label", ["", "nan", "NaN"])
def test_an_object_of_a_table_without_a_class_is_an_error_that_names_its_line(tmp_path, label):
    picture(tmp_path / "a.png")
    text(tmp_path / "boxes.csv", f"file,x1,y1,x2,y2,label\na.png,1,1,9,9,cell\na.png,2,2,9,9,{label}\n")
    assert said(outcome(tmp_path, "table")[1], "error", "boxes.csv", "line 3", "without a class")


def test_an_image_whose_name_is_a_number_may_be_named_by_a_float(tmp_path):
    for name in "12":
        picture(tmp_path / f"{name}.png")
    text(tmp_path / "boxes.csv", "file,x1,y1,x2,y2\n2.0,1,1,9,9\n1,2,2,9,9\n")
    cases, problems = outcome(tmp_path, "table")
    assert (sorted(cases), problems) == (["1", "2"], [])
    assert cases["2"].channels == (tmp_path / "2.png",)
    text(tmp_path / "boxes.csv", "file,x1,y1,x2,y2\n3.0,1,1,9,9\n1,2,2,9,9\n")
    assert said(outcome(tmp_path, "table")[1], "error", "do not exist: 3.0")


def test_meta_csv_may_name_a_numbered_image_by_a_float(tmp_path):
    for name in ("1", "2"):
        picture(tmp_path / "images" / f"{name}.png")
        picture(tmp_path / "masks" / f"{name}.png")
    text(tmp_path / "meta.csv", "id,patient_id\n1.0,p\n2.0,q\n")
    cases, problems = outcome(tmp_path, "pairs")
    assert {name: case.group for name, case in cases.items()} == {"1": "p", "2": "q"}
    assert not [one for one in problems if "meta.csv" in str(one)]


def test_numbers_of_the_native_layout_may_be_floats_or_text(native, ndim):
    file = native / "labelsTr" / "a.json"
    box = {"id": "7.0", "label": "1", "lower": [1] * ndim, "upper": [3] * ndim}
    shape = {"id": 8.0, "label": 0.0, "points": [[1] * ndim, [4] * ndim]}
    file.write_text(json.dumps({"instances": {"1.0": 0, "2": "1"}, "boxes": [box], "shapes": [shape]}))
    dataset = open_dataset(native)
    instances = read_case(dataset["a"], dataset).instances
    assert dict(zip(instances.ids.tolist(), instances.labels.tolist(), strict=True)) == {1: 0, 2: 1, 7: 1, 8: 0}
    for wrong in ({"1": 0, "1.0": 0}, {"1.5": 0}, {"1": "x"}, {"9" * 5000: 0}):
        file.write_text(json.dumps({"instances": wrong}))
        with pytest.raises(ValueError, match="instances"):
            open_dataset(native)


def test_one_unnumbered_label_map_among_numbered_ones_is_a_warning(native):
    file = native / "labelsTr" / "b.nii.gz"
    label_map = read_image(file)
    write_label_map(file, (label_map.array[0] > 0).astype(int), label_map.geometry)
    (native / "labelsTr" / "b.json").write_text(json.dumps({"instances": {"1": 1}}))
    (finding,) = [one for one in check(native, workers=0) if "several parts" in one.problem]
    assert (finding.severity, finding.case) == ("warning", "b")
    assert "those of 1 cases number their objects" in finding.problem


def test_objects_without_a_mask_among_objects_with_masks_are_noted(native, ndim):
    box = {"id": 7, "label": 1, "lower": [1] * ndim, "upper": [3] * ndim}
    (native / "labelsTr" / "a.json").write_text(json.dumps({"instances": {"1": 0, "2": 1}, "boxes": [box]}))
    (finding,) = [one for one in check(native, workers=0) if "without a mask" in one.problem]
    assert (finding.severity, finding.case) == ("note", "a")
    assert finding.problem.startswith("object 7 is")


def test_boxes_of_monai_in_mm_need_images_with_patient_coordinates(tmp_path):
    picture(tmp_path / "a.png")
    entry = {"image": "a.png", "box": [[10, 10, 4, 4]], "label": [0]}
    text(tmp_path / "list.json", {"training": [entry]})
    with pytest.raises(ValueError, match=r"a\.png stores no patient coordinates.*frame=voxel"):
        open_dataset(tmp_path, format="monai")
    assert len(open_dataset(tmp_path, format="monai", options=["frame=voxel"]).cases) == 1
