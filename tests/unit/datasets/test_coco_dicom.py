"""COCO may name DICOM files of one frame."""

import pytest

from boxel.datasets.cases import read_case
from boxel.datasets.formats import open_dataset

from .dicom_samples import SHAPE, volume, write_series
from .test_contradictions import outcome, said, text


def write(root, names, **entry):
    images = [{"id": n, "file_name": name, "height": SHAPE[1], "width": SHAPE[2]} for n, name in enumerate(names)]
    objects = [{"id": n, "image_id": n, "category_id": 1, "bbox": [8, 5, 12, 8], **entry} for n, _ in enumerate(names)]
    text(root / "x.json", {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "cell"}]})


@pytest.mark.parametrize("folder", ["", "images/"])
def test_coco_may_name_dicom_files(tmp_path, rng, folder):
    array = volume(rng)
    files = write_series(tmp_path / "images", array)
    write(tmp_path, [f"{folder}{file.name}" for file in files[:2]])
    problems = outcome(tmp_path, "coco")[1]
    assert not [one for one in problems if one.severity == "error"]
    data = open_dataset(tmp_path, format="coco")
    assert data.ndim == 2
    for case, plane in zip(data.cases, array, strict=False):
        loaded = read_case(case, data)
        assert (loaded.image.array == plane).all()
        assert loaded.instances.boxes.tolist() == [[[5, 8], [13, 20]]]
    assert said(problems, "warning", "4 images", files[2].name)


def test_a_dicom_file_that_does_not_exist_is_an_error(tmp_path, rng):
    files = write_series(tmp_path / "images", volume(rng))
    write(tmp_path, [files[0].name, "other.dcm"])
    assert said(outcome(tmp_path, "coco")[1], "error", "image 'other.dcm' does not exist")
