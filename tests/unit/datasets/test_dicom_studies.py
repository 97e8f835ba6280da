"""Copies of DICOM folders, localizers, unannotated volumes of annotated studies, and PatientIDs that are all one."""

import shutil

import numpy as np
import pytest

from boxel.datasets.cases import read_case
from boxel.datasets.formats import open_dataset

pydicom = pytest.importorskip("pydicom")

from tests.unit.dicom_frames import write_radiograph  # noqa: E402

from .dicom_samples import SHAPE, volume, write_segmentation, write_series  # noqa: E402
from .test_dicom import masks_in_file_order  # noqa: E402


def write_patient(root, rng, number, *, annotated=True, patient=None, **values):
    """A study with one series, and a SEG of three objects."""
    uids = {"FrameOfReferenceUID": f"1.3.{number}", "StudyInstanceUID": f"1.4.{number}"}
    values = {**uids, "PatientID": f"P{number}" if patient is None else patient, **values}
    files = write_series(root / f"p{number}" / "ct", volume(rng), f"1.5.{number}", **values)
    if annotated:
        write_segmentation(root / f"p{number}" / "seg.dcm", sorted(files), masks_in_file_order(files))


def opened(root, *options):
    """The data set, and the texts of all warnings; there must be no error."""
    problems = []
    dataset = open_dataset(root, problems.append, options=options)
    assert [one.severity for one in problems] == ["warning"] * len(problems)
    return dataset, [f"{one.problem}; {one.suggested_fix}" for one in problems]


@pytest.mark.parametrize("copied", ["p1/ct", "p1", "p1/seg.dcm"])
@pytest.mark.parametrize("whole", [True, False])
def test_copies_do_not_hide_the_annotated_patient(tmp_path, rng, copied, whole):
    for number in (1, 2):
        write_patient(tmp_path, rng, number)
    target = tmp_path / f"{copied} - copy"
    if (tmp_path / copied).is_dir():
        shutil.copytree(tmp_path / copied, target)
        if not whole:
            next(target.rglob("000.dcm")).unlink()
    else:
        shutil.copy(tmp_path / copied, tmp_path / "p1" / "seg copied.dcm")
    dataset, warnings = opened(tmp_path)
    assert [case.id for case in dataset.cases] == ["p1_ct", "p2_ct"]
    assert [len(read_case(case, dataset).instances) for case in dataset.cases] == [3, 3]
    kinds = {"p1/ct": ["image"], "p1": ["image", "annotation"], "p1/seg.dcm": ["annotation"]}[copied]
    assert [text.partition(" of another: ")[0] for text in warnings] == [f"1 {x} is left out as a copy" for x in kinds]


def test_the_copy_beside_its_annotation_stays(tmp_path, rng):
    write_patient(tmp_path, rng, 1)
    shutil.copytree(tmp_path / "p1" / "ct", tmp_path / "a" / "b")
    dataset, warnings = opened(tmp_path)
    assert [case.id for case in dataset.cases] == ["p1_ct"]
    assert warnings == ["1 image is left out as a copy of another: a/b of p1/ct; nothing to do if this is correct"]


def test_images_of_one_uid_that_differ_are_no_copies(tmp_path, rng):
    stored = rng.integers(0, 4000, (3, 32, 40))
    for name, pixels in (("a", stored[0]), ("b", stored[1]), ("c", stored[0])):
        write_radiograph(tmp_path / f"{name}.dcm", pixels, SOPInstanceUID="1.2.3")
    dataset, warnings = opened(tmp_path, "negatives=true")
    assert [case.id for case in dataset.cases] == ["a", "b"]
    assert warnings[0].startswith("1 image is left out as a copy of another: c.dcm of a.dcm")


def test_localizers_and_other_volumes_of_an_annotated_study_are_no_negatives(tmp_path, rng):
    write_patient(tmp_path, rng, 1)
    write_patient(tmp_path, rng, 2, annotated=False)
    study, place = {"PatientID": "P1", "StudyInstanceUID": "1.4.1"}, {"PatientID": "P1", "FrameOfReferenceUID": "1.3.1"}
    write_series(tmp_path / "p1" / "lung", volume(rng), "1.6.1", **study, FrameOfReferenceUID="1.3.9")
    write_series(tmp_path / "p1" / "late", volume(rng), "1.6.2", **place, StudyInstanceUID="1.4.9")
    scout = {"PatientID": "P2", "StudyInstanceUID": "1.4.2", "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
    write_series(tmp_path / "p2" / "scout", volume(rng)[:1], "1.6.3", **scout)
    expected = [
        "1 localizer is left out: p2_scout; nothing to do if this is correct",
        "2 volumes without annotation are left out, but may show objects annotated in the same study: p1_late, "
        "p1_lung; annotate them if they are to be used",
    ]
    dataset, warnings = opened(tmp_path, "negatives=true")
    assert [case.id for case in dataset.cases] == ["p1_ct", "p2_ct"]
    assert warnings == expected
    dataset, warnings = opened(tmp_path)
    assert [case.id for case in dataset.cases] == ["p1_ct"]
    assert warnings[:2] == expected
    assert warnings[2].startswith(
        "1 image is left out without an annotation: p2_ct; use them as images without objects"
    )


def test_an_image_whose_annotation_refers_to_another_is_no_negative(tmp_path, rng):
    for number in (1, 2):
        write_patient(tmp_path, rng, number)
    for file in (tmp_path / "p2" / "ct").iterdir():
        data = pydicom.dcmread(file)
        data.SeriesInstanceUID, data.FrameOfReferenceUID = "1.7.1", "1.7.2"  # as after another anonymisation
        data.save_as(file)
    dataset, warnings = opened(tmp_path, "negatives=true")
    assert [case.id for case in dataset.cases] == ["p1_ct"]
    assert warnings[0] == "annotations that have no image are left out: p2/seg.dcm; add the series that they reference"
    assert warnings[1].startswith("1 volume without annotation is left out, but may show objects")


@pytest.mark.parametrize(("patient", "what"), [("ANONYM", "all images have the same PatientID"), ("", "no image has")])
def test_studies_are_groups_where_patients_are_not_known(tmp_path, rng, patient, what):
    for number in (1, 2, 3):
        write_patient(tmp_path, rng, number, patient=patient)
    dataset, (warning,) = opened(tmp_path)
    assert [case.group for case in dataset.cases] == ["1.4.1", "1.4.2", "1.4.3"]
    assert warning.startswith(what)
    assert "the 3 studies count as patients; write the PatientIDs" in warning


def test_two_series_of_the_only_patient_are_one_group(tmp_path, rng):
    write_patient(tmp_path, rng, 1)
    files = write_series(tmp_path / "p1" / "late", volume(rng), "1.6.1", PatientID="P1", StudyInstanceUID="1.4.1")
    write_segmentation(tmp_path / "p1" / "late.dcm", sorted(files), {"liver": np.ones(SHAPE, bool)})
    dataset, warnings = opened(tmp_path)
    assert ([case.group for case in dataset.cases], warnings) == (["P1", "P1"], [])
