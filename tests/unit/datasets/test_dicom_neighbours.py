"""Files beside DICOM series: clutter, second versions of an annotation, and label maps that are not read."""

import numpy as np
import pytest

from boxel.datasets.cases import read_case
from boxel.datasets.formats import open_dataset
from boxel.datasets.quality.check import check

pytest.importorskip("pydicom")

from .dicom_samples import volume, write_segmentation, write_series
from .test_dicom import masks_in_file_order
from .test_pairs_dicom import write


@pytest.fixture
def segmented(tmp_path, rng):
    """A series with a SEG of a liver and two lesions."""
    files = write_series(tmp_path / "ct", volume(rng))
    masks = masks_in_file_order(files)
    write_segmentation(tmp_path / "a.dcm", sorted(files), masks)
    return tmp_path, sorted(files), masks


def test_what_macos_leaves_beside_slices_is_not_read(segmented):
    root, *_ = segmented
    for folder, name in (("ct", "._000.dcm"), ("ct", ".DS_Store"), (".", "._a.dcm")):
        (root / folder / name).write_bytes(b"\0\5\x16\7Mac OS X" + bytes(200))
    problems = []
    dataset = open_dataset(root, problems.append)
    assert problems == []
    assert len(read_case(dataset.cases[0], dataset).instances) == 3


def test_objects_that_two_segmentations_of_a_series_have_are_a_warning(segmented):
    root, files, masks = segmented
    moved = {"liver": np.roll(masks["liver"], 1, axis=-1), "lesion": np.roll(masks["lesion"], 15, axis=-2)}
    assert not [one for one in check(root, workers=0) if "has too" in one.problem]
    write_segmentation(root / "b.dcm", files, moved)
    (finding,) = [one for one in check(root, workers=0) if "has too" in one.problem]
    assert finding.severity == "warning"
    assert "b.dcm has 1 object that a.dcm has too" in finding.problem
    assert "keep one version" in finding.suggested_fix
    for folder in ("r1", "r2"):
        (root / folder).mkdir()
    for name, folder in (("a", "r1"), ("b", "r2")):
        (root / f"{name}.dcm").rename(root / folder / "seg.dcm")
    (finding,) = [one for one in check(root, workers=0) if "has too" in one.problem]
    assert "r2/seg.dcm has 1 object that r1/seg.dcm has too" in finding.problem


@pytest.mark.parametrize(
    ("label_map", "severity"),
    [
        ("p1/ct/tumor.nii.gz", "error"),
        ("p1/tumor.nii.gz", "error"),
        ("p1/ct/drawn/tumor.nii.gz", "error"),
        ("drawn/p1.nii.gz", "error"),
        ("results/2024/atlas.nii.gz", "warning"),
    ],
)
def test_label_maps_are_errors_beside_images_that_are_taken_for_negatives(tmp_path, label_map, severity):
    write(tmp_path, "p1/ct", label_map)
    problems = []
    open_dataset(tmp_path, problems.append, format="dicom", options=["negatives=true"])
    assert [one.severity for one in problems if "possible label map" in one.problem] == [severity]
