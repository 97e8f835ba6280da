"""Which DICOM images `predict` takes: files, series, studies, folders of patients."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("pydicom")
import pydicom

from boxel.api.channel_files import RunImages
from boxel.api.prediction_inputs import find_images
from boxel.datasets.formats import open_dataset
from boxel.io import read_geometry, read_image, read_layout, write_image
from tests.unit.datasets.dicom_samples import SHAPE, volume, write_segmentation, write_series

CT, MR = RunImages(("CT",), 3), RunImages(("T2w",), 3)
RADIOGRAPHS = RunImages(("grey",), 2)


def write_study(root, rng):
    """Two patients: CT series in folders of their own, two series in one folder, and what cannot be predicted."""
    arrays = {}
    for name, uid in (("p1/ct", "1.2.1"), ("p1/mr", "1.2.2"), ("p1/scout", "1.2.3"), ("p2/all", "1.2.4")):
        arrays[name] = volume(rng)
        study = {"StudyInstanceUID": f"1.3.{name[1]}", "FrameOfReferenceUID": f"1.4.{name[1]}"}
        write_series(root / name, arrays[name], uid, Modality="MR" if name == "p1/mr" else "CT", **study)
    for file in (root / "p1" / "scout").iterdir():
        header = pydicom.dcmread(file)
        header.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        header.save_as(file)
    arrays["p2/all more"] = volume(rng)
    for file in write_series(
        root / "p2" / "more", arrays["p2/all more"], "1.2.5", StudyInstanceUID="1.3.2", FrameOfReferenceUID="1.4.2"
    ):
        file.rename(root / "p2" / "all" / f"more_{file.name}")
    (root / "p2" / "more").rmdir()
    (root / "p2" / "report.pdf").touch()
    return arrays


def same(image, array):
    """Whether an image shows the planes of `array`, sorted by their positions."""
    return image.array.shape == (1, *array.shape) and np.array_equal(image.array[0], array)


def test_every_series_that_fits_is_a_case_and_the_others_are_said(tmp_path, rng):
    arrays = write_study(tmp_path, rng)
    images = find_images([tmp_path], CT)
    assert set(images.cases) == {"p1_ct", "p2_all_4", "p2_all_5"}
    assert same(images.read("p1_ct"), arrays["p1/ct"])
    assert same(images.read("p2_all_4"), arrays["p2/all"])
    assert same(images.read("p2_all_5"), arrays["p2/all more"])
    assert images.left_out == {
        "not images": ["p2/report.pdf"],
        "modality MR, the run takes CT (unless --force is given)": ["p1_mr"],
        "localizers": ["p1_scout"],
    }
    assert list(find_images([tmp_path], MR).cases) == ["p1_mr"]
    assert find_images([tmp_path], replace(CT, force=True)).cases.keys() == {*images.cases, "p1_mr"}


def test_names_agree_with_those_of_the_data_set(tmp_path, rng):
    write_study(tmp_path, rng)
    write_segmentation(
        tmp_path / "p1" / "seg.dcm", sorted((tmp_path / "p1" / "ct").iterdir()), {"lesion": np.ones(SHAPE, bool)}
    )
    dataset = open_dataset(tmp_path, options=["negatives=true"])
    images = find_images([tmp_path], CT)
    assert set(images.cases) == {case.id for case in dataset.cases}
    assert all(images.cases[case].channels == dataset[case].channels for case in images.cases)
    assert images.left_out["no images"] == ["p1/seg.dcm"]


@pytest.mark.parametrize("name", ["p1/ct", "p1", ""])
def test_a_series_a_patient_and_several_patients_are_taken(tmp_path, rng, name):
    write_study(tmp_path, rng)
    expected = {"p1/ct": {"ct"}, "p1": {"ct"}, "": {"p1_ct", "p2_all_4", "p2_all_5"}}[name]
    assert set(find_images([tmp_path / name], CT).cases) == expected


def test_series_of_several_folders_keep_their_folders_apart(tmp_path, rng):
    for patient in ("p1", "p2"):
        write_series(tmp_path / patient / "ct", volume(rng), f"1.2.{patient[1]}")
    images = find_images([tmp_path / "p1" / "ct", tmp_path / "p2" / "ct"], CT)
    assert set(images.cases) == {"p1_ct", "p2_ct"}


def test_series_that_end_alike_have_names_of_their_own(tmp_path, rng):
    for uid in ("1.2.1.7", "1.2.2.7"):
        for file in write_series(tmp_path / uid, volume(rng), uid):
            file.rename(tmp_path / f"{uid}_{file.name}")
        (tmp_path / uid).rmdir()
    assert set(find_images([tmp_path], CT).cases) == {f"{tmp_path.name}_1.2.{number}.7" for number in (1, 2)}


@pytest.mark.parametrize("suffix", [".dcm", ".DCM", ""])
def test_a_file_that_is_given_by_name_is_the_image(tmp_path, rng, suffix):
    array = volume(rng)
    file = write_series(tmp_path / "ct", array)[2]
    file = file.rename(file.with_name(f"slice_0002{suffix}"))
    for run, shape in ((CT, (1, 1, *SHAPE[1:])), (RADIOGRAPHS, (1, *SHAPE[1:]))):
        image = find_images([file], run).read("slice_0002")
        assert image.array.shape == shape
        assert np.array_equal(image.array.reshape(SHAPE[1:]), array[2])
        assert image.geometry.spacing[-2:] == (0.8, 0.7)
    assert read_layout(file) == (1, read_image(file).array.shape[1:])
    assert read_geometry(file) == read_image(file).geometry


def test_a_multi_frame_file_is_a_case(tmp_path, rng):
    file = write_series(tmp_path / "ct", volume(rng)[:1])[0]
    header = pydicom.dcmread(file)
    frames = rng.integers(0, 100, (5, 8, 9)).astype(np.int16)
    header.NumberOfFrames, header.Rows, header.Columns = 5, 8, 9
    header.SpacingBetweenSlices = 2
    del header.ImagePositionPatient
    header.PixelRepresentation, header.RescaleIntercept, header.RescaleSlope = 1, 0, 1
    header.PixelData = frames.tobytes()
    header.save_as(file)
    for path, name in ((file, file.stem), (tmp_path / "ct", "ct")):
        assert find_images([path], CT).read(name).array.shape == (1, 5, 8, 9)


def test_radiographs_of_a_series_are_cases_of_a_run_on_pictures(tmp_path, rng):
    array = volume(rng)
    write_series(tmp_path / "p1", array, Modality="MG")
    write_series(tmp_path / "p2", array[:1], "1.2.5", Modality="DX")
    write_series(tmp_path / "ct", array, "1.2.6")
    images = find_images([tmp_path], RADIOGRAPHS)
    files = sorted((tmp_path / "p1").iterdir())
    assert set(images.cases) == {"p2", *(f"p1_{file.stem}" for file in files)}
    assert np.array_equal(images.read("p1_000").array[0], array[0])
    assert images.left_out == {"3 axes, the run takes images of 2": ["ct"]}


def test_a_study_that_does_not_fit_says_why(tmp_path, rng):
    write_series(tmp_path / "p1", volume(rng), Modality="PT")
    with pytest.raises(ValueError, match=r"no image to predict.*modality PT, the run takes CT .*: p1"):
        find_images([tmp_path], CT)
    with pytest.raises(ValueError, match="one channel, the run takes 2"):
        find_images([tmp_path], RunImages(("CT", "PET"), 3))


def test_pictures_and_series_of_one_name_are_refused(tmp_path, rng):
    write_series(tmp_path / "a", volume(rng))
    write_image(tmp_path / "a.nii.gz", read_image(tmp_path / "a"))
    with pytest.raises(ValueError, match="is also called 'a'"):
        find_images([tmp_path], CT)


def test_series_behind_links_are_taken_once_and_those_in_folders_of_label_maps_are_not(tmp_path, rng):
    write_series(tmp_path / "all" / "ct", volume(rng), "1.2.1")
    write_series(tmp_path / "all" / "segmentations", volume(rng), "1.2.2")
    array = volume(rng)
    write_series(tmp_path / "elsewhere", array, "1.2.3")
    (tmp_path / "all" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "all" / "again").symlink_to(tmp_path / "all" / "ct")  # comes before the folder itself
    (tmp_path / "all" / "segmentations" / "more").symlink_to(tmp_path / "elsewhere")
    images = find_images([tmp_path / "all"], CT)
    assert list(images.cases) == ["again", "link"]
    assert same(images.read("link"), array)
    assert images.left_out == {"label maps": ["segmentations/"]}
    assert list(find_images([tmp_path / "all" / "link"], CT).cases) == ["elsewhere"]


def test_label_maps_of_series_are_not_predicted_which_is_said(tmp_path, rng):
    write_series(tmp_path / "p1/ct", volume(rng), "1.2.1")
    write_series(tmp_path / "p2", volume(rng), "1.2.2")
    image = read_image(tmp_path / "p2")
    for name in ("p1/ROI", "p2/tumor_mask", "p3/lesion"):
        write_image(tmp_path / f"{name}.nii.gz", image)
    images = find_images([tmp_path / name for name in ("p1", "p2", "p3")], CT)
    assert sorted(str(case.channels[0].relative_to(tmp_path)) for case in images.cases.values() if not case.opener) == [
        "p3/lesion.nii.gz"
    ]
    assert len(images.cases) == 3
    assert images.left_out == {"label maps": ["p1/ROI.nii.gz", "p2/tumor_mask.nii.gz"]}
