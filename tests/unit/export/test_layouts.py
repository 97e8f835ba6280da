"""Files as the programs they are for expect them: values by hand, from ITK, nibabel and scikit-image."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from boxel.export import DatasetInfo, Prediction, get_format
from boxel.types import Detections, Geometry
from unit.export.examples import CLASSES, grid, predict, read, whole_voxels


def one_box(geometry, box, score=0.93, label=1, case="c"):
    boxes = np.array([box], np.float32)
    return Prediction(case, Detections(boxes, np.array([score], np.float32), np.array([label]), geometry), CLASSES)


def write(name, prediction, out):
    paths = get_format(name).write(out, [prediction])
    return [json.loads(path.read_text()) for path in paths if path.suffix == ".json"]


def itk_image(geometry):
    image = sitk.Image([int(n) for n in geometry.shape[::-1]], sitk.sitkUInt8)
    image.SetSpacing(geometry.spacing[::-1])
    image.SetOrigin(geometry.origin)
    image.SetDirection(np.asarray(geometry.direction)[:, ::-1].ravel().tolist())
    return image


@pytest.mark.parametrize("kind", ["plain", "flipped", "oblique"])
def test_slicer_rois_have_the_corners_that_itk_computes(tmp_path, kind):
    geometry = grid(3, kind)
    box = np.array([[2, 3, 4], [5, 9.5, 10]])
    [record] = write("slicer", one_box(geometry, box), tmp_path)
    [roi] = record["markups"]
    turn = np.array(roi["orientation"]).reshape(3, 3)
    assert np.linalg.det(turn) == pytest.approx(1)  # Slicer turns, it does not mirror
    signs = np.array(np.meshgrid(*[[-0.5, 0.5]] * 3)).reshape(3, -1).T
    corners = np.array(roi["center"]) + signs * roi["size"] @ turn.T
    # ITK counts from the centre of the first voxel, in the order x, y, z.
    index = (box.mean(axis=0) + signs * (box[1] - box[0]) - 0.5)[:, ::-1].tolist()
    expected = [itk_image(geometry).TransformContinuousIndexToPhysicalPoint(point) for point in index]
    distances = np.linalg.norm(corners[:, None] - np.array(expected), axis=-1)
    assert distances.min(axis=0).max() < 1e-3  # each of ITK's corners is one of the ROI's
    assert roi["name"] == "malignant 0.93"
    assert roi["controlPoints"][0]["label"] == "malignant"
    assert (roi["type"], roi["roiType"], roi["coordinateSystem"]) == ("ROI", "Box", "LPS")


def test_a_slicer_file_in_ras_that_slicer_saved_again_is_read(tmp_path):
    prediction = predict(grid(3, "oblique"))
    [path] = get_format("slicer").write(tmp_path, [prediction])
    record = json.loads(path.read_text())
    del record["boxel"]
    flip = np.diag([-1.0, -1.0, 1.0])
    for roi in record["markups"]:
        roi["coordinateSystem"] = "RAS"
        roi["center"] = (flip @ roi["center"]).tolist()
        roi["orientation"] = (flip @ np.array(roi["orientation"]).reshape(3, 3)).ravel().tolist()
    path.write_text(json.dumps(record))
    with pytest.raises(ValueError, match="--images"):
        read("slicer", tmp_path)
    back = read("slicer", tmp_path, geometries={"case 1": prediction.geometry})["case 1"]
    boxes = prediction.detections.boxes[np.argsort(-prediction.detections.scores)]
    np.testing.assert_allclose(back.boxes, boxes, atol=1e-3)


def test_mitk_counts_to_the_last_voxel_in_x_y_z_and_keeps_the_origin_in_the_last_row(tmp_path):
    geometry = Geometry((300, 512, 256), (1.25, 0.7, 0.5), (-180.0, -170.0, -300.0),
                        ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)))  # fmt: skip
    [record] = write("mitk", one_box(geometry, [[95, 210, 200], [104, 227, 216]]), tmp_path)
    assert (record["FileFormat"], record["Version"]) == ("MITK ROI", 2)
    assert record["Geometry"]["Size"] == [256, 512, 300]
    assert record["Geometry"]["Transform"] == [0.5, 0, 0, 0, 0, 0.7, 0, 0, 0, 0, 1.25, 0, -180, -170, -300, 1]
    [roi] = record["ROIs"]
    assert (roi["Min"], roi["Max"]) == ([200, 210, 95], [215, 226, 103])
    assert roi["Properties"]["FloatProperty"]["score"] == pytest.approx(0.93)


def test_coco_has_x_y_width_height_and_counts_from_one(tmp_path):
    geometry = grid(2, "plain", (40, 60))
    results, images = write("coco", one_box(geometry, [[3, 10], [8, 30]]), tmp_path)
    assert results == [{"image_id": 1, "category_id": 2, "bbox": [10, 3, 20, 5], "score": pytest.approx(0.93)}]
    assert images["images"] == [{"id": 1, "case": "c", "file_name": "c", "width": 60, "height": 40}]
    assert images["categories"] == [{"id": 1, "name": "benign"}, {"id": 2, "name": "malignant"}]


def test_the_table_has_a_line_per_detection_and_the_names_of_empty_cases(tmp_path):
    geometry = Geometry((10, 10), (2.0, 0.5), (100.0, 200.0), ((0.0, 1.0), (1.0, 0.0)))
    empty = Prediction("none", Detections.empty(2), CLASSES)
    [path] = get_format("csv").write(tmp_path, [one_box(geometry, [[0, 0], [1, 4]]), empty])
    header, line, none = path.read_text().splitlines()
    assert header == "case,class,score,lower_0,lower_1,upper_0,upper_1,centre_x_mm,centre_y_mm,size_0_mm,size_1_mm"
    # x: 1.5 voxels of 0.5 mm past the first centre; y: the first row.
    assert line == "c,malignant,0.930000,0.0000,0.0000,1.0000,4.0000,100.7500,200.0000,2.0000,2.0000"
    assert none == "none" + "," * 10


@pytest.mark.parametrize(("image", "spacing", "has_mm"), [
    ("c.png", (1.0, 1.0), False), ("c.png", (0.5, 0.5), True), ("c.nii.gz", (1.0, 1.0), True), (None, (1.0, 1.0), True),
])  # fmt: skip
def test_plain_pictures_have_no_columns_in_mm(tmp_path, image, spacing, has_mm):
    prediction = one_box(Geometry.plain((10, 10), spacing), [[0, 0], [1, 4]])
    prediction = replace(prediction, image_files=(Path(image),) if image else ())
    [path] = get_format("csv").write(tmp_path, [prediction])
    header = path.read_text().splitlines()[0]
    assert header.startswith("case,class,score,lower_0,lower_1,upper_0,upper_1")
    assert ("_mm" in header) == has_mm
    back = get_format("csv").reader(path, DatasetInfo(CLASSES))
    np.testing.assert_array_equal(back[0].detections.boxes, prediction.detections.boxes)
    [json_file] = get_format("boxel").write(tmp_path / "json", [prediction])
    assert ("centre_mm" in json_file.read_text()) == has_mm


def test_beside_volumes_the_fields_in_mm_of_a_picture_are_empty(tmp_path):
    volume = one_box(Geometry.plain((10, 10), (2.0, 0.5)), [[0, 0], [1, 4]])
    picture = replace(one_box(Geometry.plain((10, 10)), [[0, 0], [1, 4]]), image_files=(Path("c.png"),))
    _, first, second = get_format("csv").write(tmp_path, [volume, picture])[0].read_text().splitlines()
    assert first.endswith(",2.0000,2.0000")
    assert second.endswith("4.0000,,,,")


def test_nifti_label_maps_lie_where_nibabel_puts_them_and_say_what_nndetection_says(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    geometry = grid(3, "oblique")
    [record] = write("nifti", one_box(geometry, [[2, 3, 4], [5, 9, 10]]), tmp_path)
    # nnDetection: first voxel minus one and last voxel plus one; axes 0 and 1, then pairs.
    assert record["1"]["box"] == [1, 2, 5, 9, 3, 10]
    assert (record["1"]["label"], record["1"]["class"]) == (1, "malignant")
    image = nibabel.load(tmp_path / "c_boxes.nii.gz")
    voxels = np.argwhere(np.asarray(image.dataobj) == 1)
    assert len(voxels) == 3 * 6 * 6
    ras = nibabel.affines.apply_affine(image.affine, voxels).mean(axis=0)
    expected = itk_image(geometry).TransformContinuousIndexToPhysicalPoint([6.5, 5.5, 3.0])
    np.testing.assert_allclose(ras * [-1, -1, 1], expected, atol=1e-3)


def test_detections_that_overlap_go_into_several_maps_and_each_is_whole(tmp_path, ndim):
    from boxel.io import read_label_map

    boxes = np.array([[[2] * ndim, [8] * ndim], [[4] * ndim, [10] * ndim], [[8] * ndim, [9] * ndim]], np.float32)
    scores = np.array([0.9, 0.8, 0.7], np.float32)
    prediction = Prediction("c", Detections(boxes, scores, np.zeros(3, int), grid(ndim, "plain")), CLASSES)
    [record] = write("nifti", prediction, tmp_path)
    assert [record[number]["map"] for number in "123"] == [1, 2, 1]
    maps = [read_label_map(tmp_path / f"c_boxes{suffix}.nii.gz").array for suffix in ("", "_2")]
    assert not (tmp_path / "c_boxes_3.nii.gz").exists()
    for number, place in ((1, 0), (2, 1), (3, 0)):
        voxels = np.argwhere(maps[place] == number)
        np.testing.assert_array_equal(voxels.min(axis=0), boxes[number - 1, 0])
        np.testing.assert_array_equal(voxels.max(axis=0) + 1, boxes[number - 1, 1])


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ([[1.4, 1.6], [3.4, 3.6]], [[1, 2], [3, 4]]),  # voxels whose centres 1.5, 2.5 | 2.5, 3.5 lie inside
        ([[1.6, 1.6], [2.4, 2.4]], [[2, 2], [3, 3]]),  # no centre inside: the voxel with the box's own centre
        ([[-3, -3], [2, 2]], [[0, 0], [2, 2]]),  # cut at the border
    ],
)
def test_a_box_fills_the_voxels_whose_centres_it_contains(tmp_path, box, expected):
    from boxel.io import read_label_map

    write("nifti", one_box(grid(2, "plain"), box), tmp_path)
    voxels = np.argwhere(read_label_map(tmp_path / "c_boxes.nii.gz").array)
    np.testing.assert_array_equal([voxels.min(axis=0), voxels.max(axis=0) + 1], expected)


def test_a_mask_is_painted_instead_of_the_box(tmp_path, ndim):
    from boxel.io import read_label_map

    boxes = np.array([[[4] * ndim, [12] * ndim]], np.float32)
    masks = np.zeros((1, *[4] * ndim), np.float32)
    masks[0, 0] = 1.0  # the first quarter along the first axis: 2 of 8 voxels, and where it fades to a half
    detections = Detections(boxes, np.ones(1, np.float32), np.zeros(1, int), grid(ndim, "plain"), masks)
    write("nifti", Prediction("c", detections, CLASSES), tmp_path)
    voxels = np.argwhere(read_label_map(tmp_path / "c_boxes.nii.gz").array)
    assert (voxels.min(axis=0) == 4).all()
    assert (voxels.max(axis=0) == [5, *[11] * (ndim - 1)]).all()


def test_picai_lesions_are_separate_parts_of_one_score(tmp_path, ndim):
    measure = pytest.importorskip("skimage.measure")
    boxes = np.array([[[2] * ndim, [8] * ndim], [[8] * ndim, [14] * ndim], [[3] * ndim, [5] * ndim]], np.float32)
    scores = np.array([0.9, 0.5, 0.3], np.float32)  # the second touches the first at a corner, the third is inside
    prediction = Prediction("c", Detections(boxes, scores, np.zeros(3, int), grid(ndim, "plain")), ("lesion",))
    with pytest.warns(UserWarning, match="1 detection is missing in the detection map of class 'lesion'"):
        get_format("picai").write(tmp_path, [prediction])
    array = sitk.GetArrayFromImage(sitk.ReadImage(tmp_path / "c_detection_map.nii.gz"))
    parts, count = measure.label(array > 0, connectivity=ndim, return_num=True)
    assert count == 2
    assert [len(np.unique(array[parts == number])) for number in (1, 2)] == [1, 1]
    assert (array == np.float32(0.9)).sum() == 6**ndim
    assert (array == np.float32(0.5)).sum() == 6**ndim - 1


def test_picai_classes_have_folders_of_their_own(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        get_format("picai").write(tmp_path, [whole_voxels(grid(3, "plain"))])
    assert (tmp_path / "benign" / "case 1_detection_map.nii.gz").exists()
    assert not sitk.GetArrayFromImage(sitk.ReadImage(tmp_path / "malignant" / "case 1_detection_map.nii.gz")).any()


def test_grand_challenge_boxes_have_four_corners_of_three_numbers_in_mm(tmp_path):
    geometry = Geometry((10, 20, 30), (3.0, 2.0, 0.5), (0.0, 0.0, 0.0),
                        ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)))  # fmt: skip
    boxes, points, ours = write("grand-challenge", one_box(geometry, [[2, 4, 6], [4, 8, 10]]), tmp_path)
    assert boxes["type"] == "Multiple 2D bounding boxes"
    assert boxes["version"] == points["version"] == {"major": 1, "minor": 0}
    [box], [point] = boxes["boxes"], points["points"]
    # Corners at -0.5 voxel of the centres; the plane in the middle of the two slices.
    assert box["corners"] == [[2.75, 7, 7.5], [4.75, 7, 7.5], [4.75, 15, 7.5], [2.75, 15, 7.5]]
    assert point == {"name": "malignant", "point": [3.75, 11, 7.5], "probability": pytest.approx(0.93)}
    assert ours["format"] == "boxel-detections"


def test_the_preview_shows_each_detection_in_its_slice(tmp_path, ndim):
    from PIL import Image as Picture

    from boxel.io import write_image
    from boxel.types import Image

    geometry = grid(ndim, "plain")
    array = np.zeros((1, *geometry.shape), np.float32)
    prediction = whole_voxels(geometry)
    prediction = replace(prediction, detections=replace(prediction.detections, labels=np.array([1, 0])))
    for lower, upper in prediction.detections.boxes.astype(int):
        array[(0, *(slice(a, b) for a, b in zip(lower, upper, strict=True)))] = 1
    write_image(tmp_path / "image.nii.gz", Image(array, geometry))
    shown = Prediction(prediction.case, prediction.detections, CLASSES, (tmp_path / "image.nii.gz",))
    [path] = get_format("preview").write(tmp_path, [shown])
    with Picture.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    assert pixels.shape == (254, 446, 3)  # two tiles of 220 beside each other, captions below
    classes = [name for *_, name in prediction.ranking]
    colours = {"benign": [0x56, 0xB4, 0xE9], "malignant": [0xF0, 0xB0, 0]}
    for start, name in zip((0, 226), classes, strict=True):
        tile = pixels[:220, start : start + 220]
        assert tile[110, 110].min() > 200  # the object, in the middle of its tile
        assert tile[4, 4].max() < 50  # what lies around it
        assert (np.abs(tile - colours[name]).max(-1) < 30).sum() > 100  # its box
    with pytest.raises(ValueError, match=r"needs the image.*--images"):
        get_format("preview").write(tmp_path, [prediction])
