"""Layouts of published data sets: BUSI, ISIC, RSNA pneumonia, VinDr-CXR."""

import numpy as np
import pydicom
import pytest
from PIL import Image as Picture
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from boxel.datasets.cases import read_case
from boxel.datasets.formats import open_dataset
from boxel.datasets.formats.vindr_cxr import Box, fuse_boxes
from boxel.datasets.problems import InputError
from boxel.datasets.quality.check import check
from tests.unit.datasets.test_drawing_tools import BOX, COLUMNS, ROWS, picture, write


def test_busi_takes_the_class_from_the_folder_and_each_mask_as_a_lesion(tmp_path):
    for folder, stem, boxes in (
        ("benign", "benign (1)", [BOX]),
        ("benign", "benign (10)", [BOX, [[30, 2], [36, 8]]]),
        ("malignant", "malignant (1)", [BOX]),
        ("normal", "normal (1)", []),
    ):
        picture(tmp_path / folder / f"{stem}.png")
        for number, box in enumerate(boxes or [[[0, 0], [0, 0]]]):
            mask = np.zeros((ROWS, COLUMNS), np.uint8)
            mask[box[0][0] : box[1][0], box[0][1] : box[1][1]] = 255
            Picture.fromarray(mask).save(tmp_path / folder / f"{stem}_mask{f'_{number}' if number else ''}.png")
    data = open_dataset(tmp_path)
    assert (data.format, data.classes) == ("busi", ("benign", "malignant"))
    objects = {case.id: read_case(case, data).instances for case in data.cases}
    assert {name: [data.classes[i] for i in one.labels] for name, one in objects.items()} == {
        "benign (1)": ["benign"], "benign (10)": ["benign"] * 2, "malignant (1)": ["malignant"], "normal (1)": [],
    }  # fmt: skip
    np.testing.assert_array_equal(objects["malignant (1)"].boxes, [BOX])


@pytest.mark.parametrize(
    ("folder", "masks", "file", "problem"),
    [
        ("normal", 2, "normal/a_mask_1.png", "this mask has an object, but the folder normal is for images without"),
        ("malignant", 0, "malignant", "no image of this folder has a mask: a.png"),
        ("normal", 0, "normal", "no image of this folder has a mask: a.png"),
    ],
)
def test_busi_folders_that_contradict_their_masks_are_errors(tmp_path, folder, masks, file, problem):
    picture(tmp_path / "benign" / "b.png")
    picture(tmp_path / folder / "a.png")
    mask = np.zeros((ROWS, COLUMNS), np.uint8)
    for number in range(masks):  # the first is empty
        mask[4:9, 4:9] = 255 * number
        Picture.fromarray(mask).save(tmp_path / folder / f"a_mask{f'_{number}' if number else ''}.png")
    Picture.fromarray(mask).save(tmp_path / "benign" / "b_mask.png")
    (error,) = [finding for finding in check(tmp_path, workers=0) if finding.severity == "error"]
    assert error.file == tmp_path / file
    assert error.problem.startswith(problem)


def test_isic_masks_lie_in_a_folder_of_their_own(tmp_path):
    for part, number in (("Training", 1), ("Training", 2), ("Test", 3)):
        stem = f"ISIC_000000{number}"
        picture(tmp_path / f"ISIC2018_Task1-2_{part}_Input" / f"{stem}.png")
        mask = np.zeros((ROWS, COLUMNS), np.uint8)
        mask[8:20, 10:34] = 255
        folder = tmp_path / f"ISIC2018_Task1_{part}_GroundTruth"
        folder.mkdir(exist_ok=True)
        Picture.fromarray(mask).save(folder / f"{stem}_segmentation.png")
    data = open_dataset(tmp_path)
    assert (data.format, data.classes) == ("isic", ("lesion",))
    assert [(case.id[-1], case.split) for case in data.cases] == [("3", "test"), ("1", "train"), ("2", "train")]
    for case in data.cases:
        np.testing.assert_array_equal(read_case(case, data).instances.boxes, [BOX])
    (tmp_path / "ISIC2018_Task1_Training_GroundTruth" / "ISIC_0000001_segmentation.png").unlink()
    with pytest.raises(InputError, match="image without mask"):
        open_dataset(tmp_path)


def radiograph(path, inverted=False):
    """A DICOM radiograph with BOX at 220 of 255 as it is shown."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.full((ROWS, COLUMNS), 20, np.uint8)
    array[8:20, 10:34] = 220
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID, file.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    file.SeriesInstanceUID, file.Modality, file.PatientID = generate_uid(), "CR", path.stem
    file.Rows, file.Columns, file.SamplesPerPixel = ROWS, COLUMNS, 1
    file.BitsAllocated = file.BitsStored = 8
    file.HighBit, file.PixelRepresentation = 7, 0
    file.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    file.PixelData = (255 - array if inverted else array).tobytes()
    pydicom.dcmwrite(path, file, enforce_file_format=True)


@pytest.mark.parametrize("suffix", [".dcm", ".png"])
def test_rsna_pneumonia(tmp_path, suffix):
    for name in ("p1", "p2", "unlisted"):
        path = tmp_path / "stage_2_train_images" / f"{name}{suffix}"
        radiograph(path) if suffix == ".dcm" else picture(path)
    rows = ["patientId,x,y,width,height,Target", "p1,10.0,8.0,24.0,12.0,1", "p1,2,30,6,6,1", "p2,,,,,0"]
    write(tmp_path / "stage_2_train_labels.csv", "\n".join(rows))
    data = open_dataset(tmp_path)
    assert (data.format, data.classes, data.ndim) == ("rsna_pneumonia", ("pneumonia",), 2)
    first, second = (read_case(case, data) for case in data.cases)
    np.testing.assert_array_equal(first.instances.boxes, [BOX, [[30, 2], [36, 8]]])
    assert first.image.array[0, 8:20, 10:34].min() == 220
    assert not len(second.instances)
    write(tmp_path / "stage_2_train_labels.csv", "\n".join([*rows, "p2,1,1,4,4,0"]))
    with pytest.raises(InputError, match="Target is '0' with a box"):
        open_dataset(tmp_path)


def test_vindr_cxr_fuses_the_radiologists(tmp_path):
    for name in ("i1", "i2", "i3"):
        radiograph(tmp_path / ("test" if name == "i3" else "train") / f"{name}.dicom", inverted=name == "i1")
    head = "image_id,rad_id,class_name,x_min,y_min,x_max,y_max"
    rows = [
        head, "i1,R1,Mass,10,8,34,20", "i1,R2,Mass,10,9,34,21", "i1,R3,Mass,11,8,35,20", "i1,R3,Nodule,2,30,8,36",
        "i2,R1,No finding,,,,", "i2,R2,No finding,,,,",
    ]  # fmt: skip
    write(tmp_path / "annotations" / "annotations_train.csv", "\n".join(rows))
    write(tmp_path / "annotations" / "annotations_test.csv", "image_id,class_name,x_min,y_min,x_max,y_max\n"
          "i3,Mass,10,8,34,20\n")  # fmt: skip
    data = open_dataset(tmp_path)
    assert (data.format, data.classes) == ("vindr_cxr", ("Mass", "Nodule"))
    assert {case.id: case.split for case in data.cases} == {"i1": "train", "i2": "train", "i3": "test"}
    loaded = {case.id: read_case(case, data) for case in data.cases}
    np.testing.assert_array_equal(loaded["i1"].instances.boxes, [BOX, [[30, 2], [36, 8]]])
    assert loaded["i1"].image.array[0, 8:20, 10:34].min() == 220  # MONOCHROME1 is shown inverted
    assert not len(loaded["i2"].instances)
    np.testing.assert_array_equal(loaded["i3"].instances.boxes, [BOX])
    data = open_dataset(tmp_path, options=["min_raters=2"])
    assert [data.classes[i] for i in read_case(data["i1"], data).instances.labels] == ["Mass"]
    assert len(read_case(data["i3"], data).instances) == 1  # a consensus has no radiologists


@pytest.mark.parametrize("between", [",", ";"])
def test_vindr_cxr_images_of_one_name_and_stated_sizes(tmp_path, between):
    for place in ("train/a.png", "test/a.png", "train/b.png", "train/b.jpg", "train/c.png"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        picture(tmp_path / place)
    rows = [
        "image_id,rad_id,class_name,x_min,y_min,x_max,y_max,width,height",
        f"a,R1,Mass,10,8,34,20,{COLUMNS},{ROWS}",
        "b,R1,Mass,10,8,34,20,,",
        f"c,R1,Mass,10,8,34,20,{2 * COLUMNS},{2 * ROWS}",
    ]
    write(tmp_path / "train.csv", "\n".join(rows).replace(",", between))
    problems = []
    data = open_dataset(tmp_path, problems.append)
    assert data.format == "vindr_cxr"
    assert "image b may be any of train/b.jpg, train/b.png" in str(problems[0])
    assert data["a"].channels == (tmp_path / "train" / "a.png",)
    np.testing.assert_array_equal(read_case(data["a"], data).instances.boxes, [BOX])
    with pytest.raises(InputError, match=rf"shape \({2 * ROWS}, {2 * COLUMNS}\), but c.png has"):
        read_case(data["c"], data)


def test_a_finding_has_at_most_one_box_of_each_radiologist():
    def box(rater, x):
        return Box("mass", rater, np.array([[0.0, x], [10.0, x + 10.0]]))

    findings = fuse_boxes([box("R1", 0), box("R1", 2), box("R2", 1), box("R3", 30)], 0.4)
    assert sorted(raters for *_, raters in findings) == [1, 1, 2]
    assert fuse_boxes([box("", 0), box("", 1)], 0.4)[1][2] == 1
