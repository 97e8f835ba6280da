"""Tables and lists of boxes: LUNA16's centres, plain boxes, MONAI's datalist, DeepLesion."""

import csv
import json

import numpy as np
import pytest

from boxel.datasets.cases import read_case
from boxel.datasets.formats import open_dataset
from boxel.datasets.quality.check import check, examine
from boxel.io import read_image, write_image
from boxel.types import Geometry, Image

SHAPE = (20, 30, 40)
# Axes x, y, z of the world: x against the columns, y along the rows, z along the planes.
WORLD = Geometry(SHAPE, (2.0, 1.0, 0.5), (100.0, -50.0, 10.0), ((0, 0, -1), (0, 1, 0), (1, 0, 0)))


def write_volume(path, rng, geometry=WORLD):
    write_image(path, Image(rng.normal(size=(1, *geometry.shape)).astype(np.float32), geometry))


def boxes_of(dataset, case):
    return read_case(dataset[case], dataset).instances.boxes


def write_luna(root, rng):
    write_volume(root / "subset0" / "1.2.3.mha", rng)
    write_volume(root / "subset0" / "1.2.4.mha", rng)
    (root / "annotations.csv").write_text("seriesuid,coordX,coordY,coordZ,diameter_mm\n1.2.3,95,-40,30,4\n")
    (root / "annotations_excluded.csv").write_text("seriesuid,coordX,coordY,coordZ,diameter_mm\n1.2.4,95,-40,30,-1\n")
    (root / "seriesuids.csv").write_text("1.2.3\n1.2.4\n")
    return root


def test_a_centre_and_a_diameter_in_mm_become_a_box_in_voxels(tmp_path, rng):
    dataset = open_dataset(write_luna(tmp_path, rng))
    assert (dataset.format, dataset.ndim) == ("table", 3)
    # Plane (30 - 10) / 2, row (-40 + 50) / 1, column (100 - 95) / 0.5, each half a voxel further; radius 2 mm.
    np.testing.assert_allclose(boxes_of(dataset, "1.2.3"), [[[9.5, 8.5, 6.5], [11.5, 12.5, 14.5]]], atol=1e-5)
    assert len(boxes_of(dataset, "1.2.4")) == 0  # a series without a line is a negative
    ignored = read_case(dataset["1.2.4"], dataset).ignored.boxes  # an unknown diameter is 10 mm
    np.testing.assert_allclose(ignored, [[[8, 5.5, 0.5], [13, 15.5, 20.5]]], atol=1e-5)


def test_a_centre_outside_the_image_is_an_error(tmp_path, rng):
    write_luna(tmp_path, rng)
    (tmp_path / "annotations.csv").write_text("seriesuid,coordX,coordY,coordZ,diameter_mm\n1.2.3,-95,40,30,4\n")
    (error,) = [finding for finding in check(tmp_path) if finding.severity == "error"]
    assert error.case == "1.2.3"
    assert "outside the image" in error.problem


@pytest.mark.parametrize("unit", ["voxel", "mm"])
def test_tables_of_boxes_have_names_for_their_columns(tmp_path, rng, unit):
    write_volume(tmp_path / "scan_1.nii.gz", rng)
    row = {"voxel": "3,4,5,13,14,15", "mm": "95,-46,20,100,-36,40"}[unit]
    table = f"File Name,x1,y1,z1,x2,y2,z2,label,patient_id\nscan_1.nii.gz,{row},mass,p7\n"
    (tmp_path / "boxes.csv").write_text(table)
    dataset = open_dataset(tmp_path, options=[f"unit={unit}", "modality=CT"])
    expected = {
        "voxel": [[[5, 4, 3], [15, 14, 13]]],
        "mm": [[[5.5, 4.5, 0.5], [15.5, 14.5, 10.5]]],
    }[unit]
    np.testing.assert_allclose(boxes_of(dataset, "scan_1"), expected, atol=1e-4)
    assert (dataset.classes, dataset.channels, dataset["scan_1"].group) == (("mass",), ("CT",), "p7")


@pytest.mark.parametrize(
    ("mode", "box"),
    [
        ("cccwhd", [97.5, -41, 30, 5, 10, 20]),
        ("xyzwhd", [95, -46, 20, 5, 10, 20]),
        ("xyzxyz", [95, -46, 20, 100, -36, 40]),
        ("xxyyzz", [95, 100, -46, -36, 20, 40]),
        ("xyxyzz", [95, -46, 100, -36, 20, 40]),
    ],
)
@pytest.mark.parametrize("frame", ["lps", "ras"])
def test_monai_modes_mean_the_same_box(tmp_path, rng, mode, box, frame):
    write_volume(tmp_path / "a.nii.gz", rng)
    write_volume(tmp_path / "b.nii.gz", rng)
    if frame == "ras":  # x and y change their signs, lower and upper their places
        lower, upper = np.array([95, -46, 20.0]), np.array([100, -36, 40.0])
        lower[:2], upper[:2] = -upper[:2], -lower[:2].copy()
        first = (lower + upper) / 2 if mode == "cccwhd" else lower
        second = upper - lower if mode in ("cccwhd", "xyzwhd") else upper
        order = {"xxyyzz": [0, 3, 1, 4, 2, 5], "xyxyzz": [0, 1, 3, 4, 2, 5]}.get(mode, [0, 1, 2, 3, 4, 5])
        box = np.concatenate([first, second])[order].tolist()
    values = {"training": [{"image": "a.nii.gz", "box": [box], "label": [0]}], "validation": [{"image": "b.nii.gz"}]}
    (tmp_path / "dataset_fold0.json").write_text(json.dumps(values))
    dataset = open_dataset(tmp_path, options=[f"mode={mode}", f"frame={frame}"])
    assert dataset.format == "monai"
    np.testing.assert_allclose(boxes_of(dataset, "a"), [[[5.5, 4.5, 0.5], [15.5, 14.5, 10.5]]], atol=1e-4)
    assert dataset.splits == ({"train": ("a",), "val": ("b",), "test": ()},)


@pytest.mark.parametrize(
    ("mode", "box"),
    [("cccwhd", [7, 5, 6, 4]), ("xyzwhd", [4, 3, 6, 4]), ("xyzxyz", [4, 3, 10, 7]), ("xxyyzz", [4, 10, 3, 7]),
     ("xyxyzz", [4, 3, 10, 7])],
)  # fmt: skip
def test_monai_modes_mean_the_same_box_in_pictures(tmp_path, rng, mode, box):
    picture = Image(rng.integers(0, 255, (1, 20, 30), dtype=np.uint8), Geometry.plain((20, 30)))
    write_image(tmp_path / "a.png", picture)
    (tmp_path / "list.json").write_text(json.dumps({"training": [{"image": "a.png", "box": [box], "label": [0]}]}))
    dataset = open_dataset(tmp_path, options=[f"mode={mode}", "frame=voxel"])
    np.testing.assert_array_equal(boxes_of(dataset, "a"), [[[3, 4], [7, 10]]])


COLUMNS = (
    "File_name,Patient_index,Study_index,Series_ID,Key_slice_index,Measurement_coordinates,Bounding_boxes,"
    "Lesion_diameters_Pixel_,Normalized_lesion_location,Coarse_lesion_type,Possibly_noisy,Slice_range,Spacing_mm_px_,"
    "Image_size,DICOM_windows,Patient_gender,Patient_age,Train_Val_Test"
)
ROW = (
    '{name},{patient},1,1,9,"20, 10, 24, 30, 18, 21, 28, 19","13, 5, 33, 35","20.4, 10.2","0.4, 0.3, 0.4",{kind},'
    '{noisy},"1, 12","0.5, 0.5, 5","64, 48","-175, 275",F,62,{split}'
)


def write_deeplesion(root, rng):
    rows = [COLUMNS]
    for patient, split, kind, noisy in ((1, 1, -1, 0), (2, 2, 5, 0), (3, 3, 4, 1), (4, 3, 4, 0)):
        name = f"{patient:06d}_01_01_009.png"
        rows.append(ROW.format(name=name, patient=patient, split=split, kind=kind, noisy=noisy))
        for number in (8, 9):
            array = np.full((1, 48, 64), 32768 - 100 * number, np.uint16)
            write_image(root / "Images_png" / name[:12] / f"{number:03d}.png", Image(array, Geometry.plain((48, 64))))
    (root / "DL_info.csv").write_text("\n".join(rows))
    return root


def test_deeplesion_is_read_as_published(tmp_path, rng):
    dataset = open_dataset(write_deeplesion(tmp_path, rng))
    assert (dataset.format, dataset.classes, dataset.channels) == ("deeplesion", ("lesion",), ("CT",))
    loaded = read_case(dataset["000001_01_01_009"], dataset)
    assert np.unique(loaded.image.array).tolist() == [-900]
    assert loaded.image.geometry.spacing == (0.5, 0.5)
    assert loaded.instances.boxes.tolist() == [[[5, 13], [35, 33]]]
    assert dataset["000001_01_01_009"].attributes == {1: {"diameter_mm": 10.2, "short_diameter_mm": 5.1}}
    (fold,) = dataset.splits
    assert {part: len(ids) for part, ids in fold.items()} == {"train": 1, "val": 1, "test": 1}  # the noisy one is out
    assert len(open_dataset(tmp_path, options=["noisy=true"]).cases) == 4


def test_a_part_of_deeplesion_that_is_unknown_is_an_error(tmp_path, rng):
    table = write_deeplesion(tmp_path, rng) / "DL_info.csv"
    table.write_text(table.read_text().replace("F,62,1", "F,62,").replace("F,62,2", "F,62,4"))
    errors = [finding.problem for finding in check(tmp_path, workers=0) if finding.severity == "error"]
    assert errors == [f"Train_Val_Test of {n:06d}_01_01_009.png is {part!r}" for n, part in ((1, ""), (2, "4"))]


def test_deeplesion_has_options(tmp_path, rng):
    options = ["context=1", "boxes=recist", "classes=type"]
    dataset = open_dataset(write_deeplesion(tmp_path, rng), options=options)
    loaded = read_case(dataset["000002_01_01_009"], dataset)
    # The slice above is there, the one below is not: the key slice stands for it.
    assert loaded.image.array[:, 0, 0].tolist() == [-800, -900, -900]
    assert loaded.instances.boxes.tolist() == [[[10, 18], [30, 28]]]
    assert [dataset.classes[label] for label in loaded.instances.labels] == ["lung"]


def test_pictures_are_not_mistaken_for_hounsfield_units(tmp_path, rng):
    root = write_deeplesion(tmp_path, rng)
    for path in root.rglob("*.png"):
        write_image(path, Image(np.full((1, 48, 64), 7, np.uint8), Geometry.plain((48, 64))))
    errors = [finding for finding in check(root) if finding.severity == "error"]
    assert len(errors) == 3
    assert "8 bits" in errors[0].problem


@pytest.mark.data
def test_deeplesion_boxes_equal_the_table(data):
    dataset = open_dataset(data / "deeplesion")
    with (data / "deeplesion" / "boxes_png16.csv").open() as file:
        expected = {row["File_name"]: row for row in csv.DictReader(file) if row["source"].startswith("DL_info")}
    assert {f"{case.id}.png" for case in dataset.cases} == set(expected)
    for case in dataset.cases:
        row = expected[f"{case.id}.png"]
        loaded = read_case(case, dataset)
        box = [[float(row[key]) for key in corner] for corner in (("y1", "x1"), ("y2", "x2"))]
        np.testing.assert_allclose(loaded.instances.boxes, [box], rtol=1e-6)
        raw = read_image(case.channels[0]).array
        assert loaded.image.array.min() == int(raw.min()) - 32768


@pytest.mark.data
def test_deeplesion_pictures_open_too(data):
    found = examine(data / "deeplesion" / "jpg8bit")
    assert sum(found.objects.values()) == 51  # as the README says
    assert not [finding for finding in found.findings if finding.severity == "error"]


@pytest.mark.data
def test_luna_tables_open_without_images(data):
    found = examine(data / "lidc_luna_tables")
    assert (len(found.dataset.cases), found.objects) == (888, {"object": 1186})
    assert [finding.severity for finding in found.findings] == ["warning", "note"]  # no images; other tables


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("image,x,y,z,width,height,depth,label", "scan,3,4,5,10,8,6,mass"),
        ("image;x;y;z;w;h;d;label", "scan;3;4;5;10;8;6;mass"),
        ("file,xmin,ymin,zmin,width,height,depth,label", "scan,3,4,5,10,8,6,mass"),
        ("patient_id,xmin,ymin,zmin,xmax,ymax,zmax", "scan,3,4,5,13,12,11"),
        ("patient,x1,y1,z1,x2,y2,z2", "scan,3,4,5,13,12,11"),
        ("Dateiname;x1;y1;z1;x2;y2;z2;Klasse", "scan.nii.gz;3;4;5;13;12;11;Knoten"),
        ("image,xmin_mm,ymin_mm,zmin_mm,xmax_mm,ymax_mm,zmax_mm", "scan,93.5,-46,20,98.5,-38,32"),
        ("image,x_mm,y_mm,z_mm,width_mm,height_mm,depth_mm", "scan,93.5,-46,20,5,8,12"),
    ],
)
def test_boxes_in_3d_come_under_many_names(tmp_path, rng, header, row):
    write_volume(tmp_path / "scan.nii.gz", rng)
    (tmp_path / "boxes.csv").write_text(f"{header}\n{row}\n")
    dataset = open_dataset(tmp_path)
    assert (dataset.format, dataset.ndim) == ("table", 3)
    half = 0.5 if "mm" in header else 0  # positions in mm are relative to the centre of the first voxel
    expected = np.array([[[5, 4, 3], [11, 12, 13]]]) + half
    np.testing.assert_allclose(boxes_of(dataset, "scan"), expected, atol=1e-4)
    assert dataset.classes in (("mass",), ("Knoten",), ("object",))


def test_sides_in_mm_are_mm(tmp_path, rng):
    write_volume(tmp_path / "scan.nii.gz", rng)
    (tmp_path / "boxes.csv").write_text("image,x,y,z,w,h,d\nscan,93.5,-46,20,5,8,12\n")
    dataset = open_dataset(tmp_path, options=["unit=mm"])
    np.testing.assert_allclose(boxes_of(dataset, "scan"), [[[5.5, 4.5, 3.5], [11.5, 12.5, 13.5]]], atol=1e-4)


@pytest.mark.parametrize(
    ("columns", "row"), [("x,y,z,width,height", "3,4,5,9,9"), ("x1,y1,x2,y2", "1,2,3,4"), ("x,y,w,h", "1,2,3,4")]
)
def test_boxes_without_z_on_volumes_are_one_error_that_names_the_columns(tmp_path, rng, columns, row):
    write_volume(tmp_path / "scan.nii.gz", rng)
    (tmp_path / "boxes.csv").write_text(f"image,{columns}\nscan,{row}\n")
    with pytest.raises(
        ValueError, match=r"boxes\.csv: the boxes are of 2 axes .*, but the images of 3; add the columns of z"
    ):
        open_dataset(tmp_path)


@pytest.mark.parametrize("options", [["unit=mm"], []])
def test_boxes_in_mm_need_images_with_a_voxel_size(tmp_path, rng, options):
    write_image(tmp_path / "a.png", Image(rng.integers(0, 9, (1, 20, 30)).astype(np.uint8), Geometry.plain((20, 30))))
    columns = "x1,y1,x2,y2" if options else "x1_mm,y1_mm,x2_mm,y2_mm"
    (tmp_path / "boxes.csv").write_text(f"image,{columns}\na.png,1,2,5,6\n")
    with pytest.raises(ValueError, match=r"in mm, but a\.png stores no voxel size"):
        open_dataset(tmp_path, options=options)


@pytest.mark.parametrize("format", ["", "table"])
@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("A,x1,y1,x2,y2", r"boxes\.csv has the columns A, x1, y1, x2, y2; none names the image \(accepted: file, "),
        ("image,left,top,right", r"boxes\.csv has the columns image, left, top, right; none give a box \(accepted: x1"),
    ],
)
def test_a_header_that_is_not_understood_is_said_with_the_accepted_names(tmp_path, header, says, format):  # noqa: A002
    (tmp_path / "boxes.csv").write_text(f"{header}\n")
    with pytest.raises(ValueError, match=says):
        open_dataset(tmp_path, format=format)


def test_boxes_in_mm_that_were_read_as_voxels_name_the_option(tmp_path, rng):
    write_volume(tmp_path / "scan.nii.gz", rng)
    (tmp_path / "boxes.csv").write_text("image,x1,y1,z1,x2,y2,z2\nscan,95,-46,20,100,-36,40\n")
    (error,) = [finding for finding in check(tmp_path) if finding.severity == "error"]
    assert "are these mm? try --option unit=mm" in error.problem + error.suggested_fix
    assert not [finding for finding in check(tmp_path, options=["unit=mm"]) if finding.severity == "error"]
