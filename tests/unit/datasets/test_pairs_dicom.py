"""DICOM series with label maps in other files: read as volumes, or refused with the layout that reads DICOM objects."""

import re

import numpy as np
import pytest
from PIL import Image as Picture

from boxel.datasets.cases import read_case
from boxel.datasets.formats import open_dataset
from boxel.datasets.quality.check import check
from boxel.io import read_image, write_label_map

pytest.importorskip("pydicom")

from .dicom_samples import SHAPE, volume, write_segmentation, write_series

BOXES = [[[1, 5, 6], [3, 9, 12]], [[4, 20, 30], [5, 25, 35]]]


def mask():
    drawn = np.zeros(SHAPE, np.int32)
    for lower, upper in BOXES:
        drawn[tuple(map(slice, lower, upper))] = 1
    return drawn


def write(root, series, label_map, uid="1.2.826.2", seed=0):
    array = volume(np.random.default_rng(seed))
    write_series(root / series, array, uid)
    (root / label_map).parent.mkdir(parents=True, exist_ok=True)
    write_label_map(root / label_map, mask(), read_image(root / series).geometry)
    return array


@pytest.mark.parametrize(
    ("series", "label_map", "case"),
    [
        ("images/p1", "labels/p1.nii.gz", "p1"),
        ("images/p1/ct", "labels/p1.nii.gz", "p1"),
        ("images/p1", "labels/p1_seg.nrrd", "p1"),
        ("images", "labels/mask.nii.gz", "images"),
        ("p1", "p1_mask.nii.gz", "p1"),
        ("p1", "p1/mask.nii.gz", "p1"),
        ("ct_p1", "mask_p1.nii.gz", "p1"),
        ("", "mask.nii.gz", "set"),
    ],
)
def test_a_series_with_a_label_map_beside_it_is_a_volume(tmp_path, series, label_map, case):
    array = write(tmp_path / "set", series, label_map)
    problems = []
    dataset = open_dataset(tmp_path / "set", problems.append)
    assert (dataset.format, dataset.ndim, [known.id for known in dataset.cases]) == ("pairs", 3, [case])
    loaded = read_case(dataset.cases[0], dataset)
    np.testing.assert_array_equal(loaded.image.array[0], array)
    assert loaded.instances.boxes.tolist() == BOXES
    assert [problem.severity for problem in problems] == ["note"]  # how one value is read


def test_several_series_get_the_label_maps_of_their_names(tmp_path):
    arrays = {
        p: write(tmp_path, f"images/{p}", f"labels/{p}.nii.gz", f"1.2.{n}", n) for n, p in enumerate(("p1", "p2"))
    }
    dataset = open_dataset(tmp_path)
    assert [case.id for case in dataset.cases] == ["p1", "p2"]
    for case in dataset.cases:
        np.testing.assert_array_equal(read_case(case, dataset).image.array[0], arrays[case.id])


@pytest.mark.parametrize("others", ["labels/p9.nii.gz", "labels/images.nii.gz"])
def test_a_label_map_whose_series_is_not_certain_is_an_error(tmp_path, others):
    write(tmp_path, "images/p1", "labels/p1.nii.gz", "1.2.1")
    write(tmp_path, "images/p2", others, "1.2.2")
    (error,) = [finding for finding in check(tmp_path) if finding.severity == "error"]
    assert error.file == tmp_path / others
    assert "DICOM series" in error.problem
    assert "--format dicom" in error.suggested_fix


def test_dicom_objects_come_before_label_maps(tmp_path, rng):
    write(tmp_path, "images/p1", "labels/p1.nii.gz")
    files = sorted((tmp_path / "images" / "p1").iterdir())
    write_segmentation(tmp_path / "labels" / "seg.dcm", files, {"lesion": np.ones(SHAPE, bool)})
    assert open_dataset(tmp_path).format == "dicom"


@pytest.mark.parametrize("negatives", [False, True])
def test_masks_that_the_dicom_layout_does_not_read_are_said(tmp_path, rng, negatives):
    write_series(tmp_path / "images" / "p1", volume(rng))
    write_series(tmp_path / "labels" / "p1", mask().astype(np.int16), "1.2.9")
    Picture.fromarray(mask()[1].astype(np.uint8)).save(tmp_path / "labels" / "slice.png")
    problems = []
    dataset = open_dataset(tmp_path, problems.append, format="dicom", options=["negatives=true"] if negatives else [])
    assert [case.id for case in dataset.cases] == (["images_p1"] if negatives else [])
    texts = {problem.problem: problem for problem in problems}
    series = texts["images in folders of masks are left out: labels/p1"]
    assert (series.severity, "--format pairs" in series.suggested_fix) == ("warning", True)
    files = texts["1 possible label map is not read: labels/slice.png"]
    assert (files.severity, "--format pairs" in files.suggested_fix) == ("error" if negatives else "warning", True)


NAMES = [
    ("CT", "{p}/tumor.nii.gz"),
    ("CT", "{p}/liver.nii.gz"),
    ("1.2.840", "{p}/{p}_GTV.nii.gz"),
    ("CT", "{p}/tumor_mask.nii.gz"),
    ("CT", "drawn/{p}.nii.gz"),
    ("CT", "{p}/CT.nii.gz"),
    (".", "{p}/volume_1.nrrd"),
]


@pytest.mark.parametrize(("series", "label_map"), NAMES)
def test_label_maps_of_any_name_beside_series_are_read_or_said_with_a_hint_that_reads_them(tmp_path, series, label_map):
    for n, p in enumerate(("patient01", "patient02")):
        write(tmp_path, f"{p}/{series}", label_map.format(p=p), f"1.2.{n}", n)
    problems = []
    dataset = open_dataset(tmp_path, problems.append)
    if dataset.format == "dicom":
        (hint,) = [problem for problem in problems if "2 possible label maps are not read" in problem.problem]
        assert not any("negatives=true" in problem.suggested_fix for problem in problems)
        (option,) = re.findall(r"--format pairs --option (\S+?),", hint.suggested_fix)
        with pytest.raises(ValueError, match="possible label map"):
            open_dataset(tmp_path, options=["negatives=true"])
        dataset = open_dataset(tmp_path, format="pairs", options=[option])
    assert len(dataset.cases) == 2
    assert [read_case(case, dataset).instances.boxes.tolist() for case in dataset.cases] == [BOXES, BOXES]


def test_where_no_option_reads_the_label_maps_the_hint_names_files_that_are_read(tmp_path):
    write(tmp_path, "p1/CT", "p1/liver.nii.gz", "1.2.1")
    write(tmp_path, "p2/CT", "p2/kidney.nii.gz", "1.2.2")
    problems = []
    assert open_dataset(tmp_path, problems.append).format == "dicom"
    (hint,) = [problem for problem in problems if "label maps" in problem.problem]
    assert "call it mask (mask.nii.gz), and use --format pairs" in hint.suggested_fix
    for file in (*tmp_path.glob("*/liver*"), *tmp_path.glob("*/kidney*")):
        file.rename(file.with_name("mask.nii.gz"))
    assert [case.id for case in open_dataset(tmp_path, format="pairs").cases] == ["p1", "p2"]
