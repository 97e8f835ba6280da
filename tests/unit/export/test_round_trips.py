"""What is written is read back, on grids of every kind."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxel.export import Prediction, get_format
from boxel.io import read_geometry
from boxel.types import Detections
from unit.export.examples import CLASSES, grid, predict, same, whole_voxels

KINDS = ["plain", "flipped", "oblique"]
EXACT = ["boxel", "csv", "coco", "nifti", "slicer", "mitk"]
WHOLE = ["picai"]
IN_MM = ["grand-challenge"]


def there_and_back(name, predictions, out, classes=CLASSES):
    form = get_format(name)
    assert all(path.exists() for path in form.write(out, predictions))
    return form.read(out, classes, {p.case: p.detections.geometry for p in predictions})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", EXACT)
def test_boxes_scores_and_classes_survive(tmp_path, ndim, name, kind):
    geometry = grid(ndim, kind)
    predictions = [predict(geometry), predict(geometry, 2, "other", 1), predict(geometry, 0, "none")]
    found, classes = there_and_back(name, predictions, tmp_path)
    assert classes == CLASSES
    assert found.keys() == {"case 1", "other", "none"}
    for prediction in predictions:
        same(found[prediction.case], prediction.detections)
    assert found["none"].boxes.shape == (0, 2, ndim)


@pytest.mark.parametrize("name", ["boxel", "nifti", "slicer", "mitk"])
def test_formats_that_hold_the_geometry_need_no_other_file(tmp_path, name):
    prediction = predict(grid(3, "oblique"))
    form = get_format(name)
    form.write(tmp_path, [prediction])
    found, classes = form.read(tmp_path, (), {})
    assert set(classes) == set(CLASSES)
    back, geometry = found["case 1"].geometry, prediction.detections.geometry
    assert back.shape == geometry.shape
    points = np.array([[0.5, 0.5, 0.5], [20.0, 3.0, 7.5]])
    np.testing.assert_allclose(back.to_world(points), geometry.to_world(points), atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", WHOLE)
def test_boxes_of_whole_voxels_survive_painting(tmp_path, ndim, name, kind):
    predictions = [whole_voxels(grid(ndim, kind)), predict(grid(ndim, kind), 0, "none")]
    found, _ = there_and_back(name, predictions, tmp_path)
    same(found["case 1"], predictions[0].detections)
    assert len(found["none"]) == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", IN_MM)
def test_rows_columns_and_middle_survive_2d_boxes_in_mm(tmp_path, ndim, name, kind):
    prediction = predict(grid(ndim, kind))
    found = there_and_back(name, [prediction], tmp_path)[0]["case 1"]
    expected = prediction.detections.boxes.copy()
    middle = expected[..., : ndim - 2].mean(axis=1, keepdims=True)
    expected[..., : ndim - 2] = middle + np.array([-0.5, 0.5])[:, None]
    same(found, Detections(expected, prediction.detections.scores, prediction.detections.labels))


@given(rank=st.sampled_from([2, 3]), seed=st.integers(0, 2**32 - 1), count=st.integers(0, 6))
@pytest.mark.parametrize("name", ["csv", "coco", "slicer", "mitk"])
def test_any_set_survives(tmp_path_factory, name, rank, seed, count):
    prediction = predict(grid(rank, "oblique"), count, "c", seed)
    found, _ = there_and_back(name, [prediction], tmp_path_factory.mktemp("out"))
    same(found["c"], prediction.detections)


@pytest.mark.data
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
    found, _ = there_and_back(name, [prediction], tmp_path / "out")
    same(found["case 1"], prediction.detections)


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
        form.read(tmp_path, ("bening", "malignant"), {})


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
