"""What is written is read back, on grids of every kind."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxel.export import DatasetInfo, Format, Prediction, get_format, list_formats
from boxel.io import read_geometry
from boxel.testing import check_exporter
from boxel.types import Detections
from unit.export.examples import CLASSES, grid, predict, read, same, whole_voxels

WRITTEN = [name for name, form in list_formats().items() if form.write]
# On any grid; the images of the others are DICOM series.
READ_BACK = [name for name in WRITTEN if get_format(name).read and 2 in get_format(name).ndims]
EXACT = [name for name in READ_BACK if get_format(name).tolerance < 0.01 and not get_format(name).flat]


def there_and_back(name, predictions, out):
    assert all(path.exists() for path in get_format(name).writer(out, predictions))
    return read(name, out, CLASSES, {p.case: p.geometry for p in predictions})


@pytest.mark.parametrize("name", WRITTEN)
def test_every_format_passes_the_public_check(name):
    if name.startswith("dicom"):
        pytest.importorskip("highdicom", reason="the extra boxel[dicom] is not installed")
    check_exporter(name)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: None, "lost without a warning"),
        (lambda p: Prediction(p.case, p.detections[:-1], p.classes), "boxes have shape"),
        (lambda p: Prediction(p.case, p.detections, p.classes[::-1]), "classes are"),
        (lambda p: Prediction(p.case, moved(p.detections, 0.01), p.classes), r"move by 0\.01.* voxels"),
        (lambda p: Prediction(p.case, scored(p.detections), p.classes), "scores are"),
    ],
    ids=["a case is lost", "a detection is lost", "classes are swapped", "boxes move", "scores are rounded"],
)
def test_the_public_check_refuses_a_format_that_loses_something(damage, message):
    table = get_format("csv")

    def read(path, info):
        predictions = table.reader(path, info)
        damaged = [damage(p) if len(p.detections) else p for p in predictions]
        return [p for p in damaged if p is not None]

    with pytest.raises(AssertionError, match=f"format 'lossy', 2D: case .*{message}"):
        check_exporter(Format("lossy", table.write, read))


def test_the_public_check_refuses_files_that_lie_elsewhere_and_folders_of_images():
    def write(out, predictions):
        out.mkdir()
        (out / "unlisted").touch()
        return []

    with pytest.raises(AssertionError, match="wrote no file"):
        check_exporter(Format("stray", write))
    with pytest.raises(AssertionError, match="unlisted: must be written, listed"):
        check_exporter(Format("stray", lambda out, predictions: [*write(out, predictions), out / "none"]))
    with pytest.raises(AssertionError, match="detects a folder of images"):
        check_exporter(Format("any", get_format("csv").write, detect=lambda path: True))
    with pytest.raises(ValueError, match="cannot be written"):
        check_exporter("nndetection")


def test_the_public_check_refuses_case_names_that_leave_the_folder():
    def write(out, predictions):
        out.mkdir(exist_ok=True)
        for prediction in predictions:
            (out / f"{prediction.case}.txt").parent.mkdir(exist_ok=True)
            (out / f"{prediction.case}.txt").touch()
        return [out / f"{prediction.case}.txt" for prediction in predictions]

    with pytest.raises(AssertionError, match=r"case name '\.\./up' leads out of the folder"):
        check_exporter(Format("naive", write))


def moved(detections, by):
    return Detections(detections.boxes + np.float32(by), detections.scores, detections.labels)


def scored(detections):
    return Detections(detections.boxes, detections.scores.round(1), detections.labels)


@pytest.mark.parametrize("kind", ["plain", "flipped", "oblique"])
@pytest.mark.parametrize("name", EXACT)
def test_boxes_scores_and_classes_survive(tmp_path, ndim, name, kind):
    geometry = grid(ndim, kind)
    predictions = [predict(geometry), predict(geometry, 2, "other", 1), predict(geometry, 0, "none")]
    back = there_and_back(name, predictions, tmp_path)
    assert back.keys() == {"case 1", "other", "none"}
    for prediction in predictions:
        same(back[prediction.case], prediction.detections)
    assert back["none"].boxes.shape == (0, 2, ndim)


@pytest.mark.parametrize("name", ["boxel", "nifti", "slicer", "mitk"])
def test_formats_that_hold_the_geometry_need_no_other_file(tmp_path, name):
    prediction = predict(grid(3, "oblique"))
    form = get_format(name)
    form.write(tmp_path, [prediction])
    [back] = form.read(tmp_path, DatasetInfo())
    assert set(back.classes) == set(CLASSES)
    assert back.geometry.shape == prediction.geometry.shape
    points = np.array([[0.5, 0.5, 0.5], [20.0, 3.0, 7.5]])
    np.testing.assert_allclose(back.geometry.to_world(points), prediction.geometry.to_world(points), atol=1e-3)


@pytest.mark.parametrize("kind", ["plain", "flipped", "oblique"])
def test_boxes_of_whole_voxels_survive_painting(tmp_path, ndim, kind):
    predictions = [whole_voxels(grid(ndim, kind)), predict(grid(ndim, kind), 0, "none")]
    back = there_and_back("picai", predictions, tmp_path)
    same(back["case 1"], predictions[0].detections)
    assert len(back["none"]) == 0


@pytest.mark.filterwarnings("ignore:.*one voxel thick")
@pytest.mark.parametrize("kind", ["plain", "flipped", "oblique"])
def test_rows_columns_and_centre_survive_2d_boxes_in_mm(tmp_path, ndim, kind):
    prediction = predict(grid(ndim, kind))
    back = there_and_back("grand-challenge", [prediction], tmp_path)["case 1"]
    expected = prediction.detections.boxes.copy()
    centre = expected[..., : ndim - 2].mean(axis=1, keepdims=True)
    expected[..., : ndim - 2] = centre + np.array([-0.5, 0.5])[:, None]
    same(back, Detections(expected, prediction.detections.scores, prediction.detections.labels))


def test_reading_2d_boxes_of_a_volume_warns_that_they_are_flat(tmp_path):
    with pytest.warns(UserWarning, match=r"case 1\.boxes\.json.*one voxel thick.*case 1\.json"):
        there_and_back("grand-challenge", [predict(grid(3, "plain"))], tmp_path)


@given(rank=st.sampled_from([2, 3]), seed=st.integers(0, 2**32 - 1), count=st.integers(0, 6))
@pytest.mark.parametrize("name", ["csv", "coco", "slicer", "mitk"])
def test_any_set_survives(tmp_path_factory, name, rank, seed, count):
    prediction = predict(grid(rank, "oblique"), count, "c", seed)
    back = there_and_back(name, [prediction], tmp_path_factory.mktemp("out"))
    same(back["c"], prediction.detections)


@pytest.mark.data
@pytest.mark.filterwarnings("ignore:.*one voxel thick")
@pytest.mark.parametrize("name", [*EXACT, "grand-challenge"])
@pytest.mark.parametrize(
    "image",
    [
        "dicom/oblique_nifti/CT_pitch.nii.gz",
        "dicom/torchio_t1_series",
        "ct/ct_torso_3mm/ct.nii.gz",
        "ct/ct_dicom_512/dicom",
    ],
)
def test_positions_survive_on_the_grids_of_real_scanners(tmp_path, data, name, image):
    if not (data / image).exists():
        pytest.skip(f"{image} is not there")
    if image.endswith("series"):  # a licence lies beside the slices, as in any archive
        image = link_slices(data / image, tmp_path / "series")
    geometry = read_geometry(data / image)
    prediction = predict(geometry) if name != "grand-challenge" else flat(predict(geometry))
    back = there_and_back(name, [prediction], tmp_path / "out")
    same(back["case 1"], prediction.detections)


def flat(prediction):
    """One voxel thick, which is what 2D boxes can say."""
    boxes = prediction.detections.boxes
    boxes[:, 1, 0] = boxes[:, 0, 0] + 1
    return prediction


def link_slices(folder, target):
    target.mkdir()
    for file in folder.glob("*.dcm"):
        (target / file.name).symlink_to(file)
    return target


def test_a_class_that_is_not_among_the_given_ones_is_refused(tmp_path):
    form = get_format("csv")
    form.write(tmp_path, [predict(grid(2, "plain"))])
    with pytest.raises(ValueError, match=r"class 'benign'; did you mean 'bening'"):
        form.read(tmp_path, DatasetInfo(("bening", "malignant")))


@pytest.mark.parametrize("name", ["slicer", "mitk", "nifti", "picai", "grand-challenge"])
def test_a_format_in_the_world_needs_a_geometry(tmp_path, name):
    nowhere = Prediction("case 1", Detections.empty(3), CLASSES)
    with pytest.raises(ValueError, match=r"'case 1'.*where the image lies.*--images"):
        get_format(name).write(tmp_path, [nowhere])


@pytest.mark.parametrize("case", ["../up", "a/b", "..", ""])
def test_a_case_name_cannot_leave_the_folder(tmp_path, case):
    with pytest.raises(ValueError, match="cannot be the name of a file"):
        get_format("slicer").write(tmp_path / "out", [predict(grid(3, "plain"), case=case)])
    assert not list(tmp_path.iterdir())
