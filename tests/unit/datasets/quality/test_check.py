"""Bad input is refused with the file and a suggested fix; `check` reports all of it at once."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from boxel.datasets.cases import read_case
from boxel.datasets.formats import open_dataset
from boxel.datasets.quality.check import check
from boxel.io import read_image, write_image
from boxel.types import Geometry, Image


def annotate(**changes):
    return lambda root: (root / "labelsTr" / "a.json").write_text(json.dumps(changes))


def rewrite(folder, name, array=lambda array: array, geometry=lambda geometry: geometry):
    def change(root):
        path = next((root / folder).glob(f"{name}*.nii.gz"))
        image = read_image(path)
        changed = array(image.array)
        moved = geometry(image.geometry)
        write_image(path, Image(changed, Geometry(changed.shape[1:], moved.spacing, moved.origin, moved.direction)))

    return change


def with_nan(array):
    array = array.copy()
    array.flat[5] = np.nan
    return array


def shifted(geometry):
    return Geometry(geometry.shape, geometry.spacing, tuple(x + 1 for x in geometry.origin), geometry.direction)


def mirrored(geometry):
    direction = tuple(tuple(-x for x in row) for row in geometry.direction)
    return Geometry(geometry.shape, geometry.spacing, geometry.origin, direction)


def truncate(root):
    path = root / "imagesTr" / "a_0000.nii.gz"
    path.write_bytes(path.read_bytes()[:200])


BAD = {
    "missing label map": (
        lambda root: (root / "labelsTr/a.nii.gz").unlink(),
        "a.nii.gz",
        "the label map does not exist",
    ),
    "missing annotation": (lambda root: (root / "labelsTr/a.json").unlink(), "a.json", "the image has no annotation"),
    "missing image": (lambda root: (root / "imagesTr/a_0000.nii.gz").unlink(), "a.json", "the annotation has no image"),
    "image name": (
        lambda root: (root / "imagesTr/a_0000.nii.gz").with_name("e.nii.gz").touch(),
        "e.nii.gz",
        "not an image name",
    ),
    "broken JSON": (lambda root: (root / "labelsTr/a.json").write_text("{"), "a.json", "not valid JSON"),
    "other shape": (rewrite("labelsTr", "a", lambda a: a[..., 1:]), "a.nii.gz", "shape"),
    "other origin": (rewrite("labelsTr", "a", geometry=shifted), "a.nii.gz", "origin"),
    "other direction": (rewrite("labelsTr", "a", geometry=mirrored), "a.nii.gz", "direction"),
    "NaN": (rewrite("imagesTr", "a", with_nan), "a_0000.nii.gz", "NaN or infinite values in 1 voxel"),
    "infinite": (rewrite("imagesTr", "a", lambda a: a.astype(float) * 1e300), "a_0000.nii.gz", "infinite"),
    "empty file": (lambda root: (root / "imagesTr/a_0000.nii.gz").write_bytes(b""), "a_0000.nii.gz", "empty"),
    "unreadable": (truncate, "a_0000.nii.gz", "copy or export it again"),
    "unknown class": (
        annotate(instances={"1": 0, "2": 7}),
        "a.json",
        r"unknown class id 7; use one of 0 \(benign\)",
    ),
    "id without class": (annotate(instances={"1": 0}), "a.json", "instance ids 2 of a.nii.gz have no class"),
    "class without id": (
        annotate(instances={"1": 0, "2": 0, "3": 0}),
        "a.json",
        "objects 3 have a class but no voxel",
    ),
    "class is no number": (annotate(instances={"1": "benign", "2": 0}), "a.json", "class numbers from 0"),
    "id is no number": (annotate(instances={"one": 0}), "a.json", "class numbers from 0"),
    "no instances": (annotate(objects={}), "a.json", 'no "instances", "boxes" or "shapes"'),
    "box without corners": (
        annotate(instances={}, boxes=[{"id": 1, "label": 0}]),
        "a.json",
        "no valid corners",
    ),
    "fractional label map": (rewrite("labelsTr", "a", lambda a: a * 0.5), "a.nii.gz", "whole numbers"),
    "two formats": (
        lambda root: (root / "imagesTr/a_0000.mha").write_bytes(b"x"),
        "a_0000.nii.gz",
        "duplicate case: a_0000.mha and a_0000.nii.gz",
    ),
    "train and test": (
        lambda root: [path.rename(path.with_name(path.name.replace("d", "a"))) for path in root.glob("*Ts/d*")],
        "a_0000.nii.gz",
        "duplicate case 'a'",
    ),
    "channel missing": (
        lambda root: (root / "imagesTr/a_0000.nii.gz").rename(root / "imagesTr/a_0001.nii.gz"),
        "a_0001.nii.gz",
        "name the files of a case _0000 to _0000",
    ),
}


def read_all(root):
    dataset = open_dataset(root)
    return [read_case(case, dataset) for case in dataset.cases]


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_and_reported_with_file_and_suggested_fix(native, name):
    spoil, file, message = BAD[name]
    spoil(native)
    with pytest.raises(ValueError, match=message) as error:
        read_all(native)
    path, _, _ = str(error.value).partition(": ")
    assert Path(path).name == file
    finding, *others = check(native, workers=0)
    assert (finding.severity, finding.case, finding.file) == ("error", finding.case and "a", Path(path))
    assert re.search(message, f"{finding.problem}; {finding.suggested_fix}")
    assert finding.suggested_fix
    assert not [other for other in others if other.severity == "error"]


@pytest.mark.parametrize(("lower", "upper"), [(-1, 3), (4, 4), (5, 3), (1, 99)])
def test_a_box_that_is_empty_or_leaves_the_image_is_refused(native, ndim, lower, upper):
    box = {"id": 5, "label": 0, "lower": [lower] * ndim, "upper": [upper] * ndim}
    annotate(instances={"1": 0, "2": 1}, boxes=[box])(native)
    dataset = open_dataset(native)
    with pytest.raises(ValueError, match=r"a\.json: .*object 5 is empty or outside the image"):
        read_case(dataset["a"], dataset)


def test_an_object_number_is_given_once(native, ndim):
    box = {"id": 1, "label": 0, "lower": [1] * ndim, "upper": [2] * ndim}
    annotate(instances={"1": 0, "2": 1}, boxes=[box])(native)
    with pytest.raises(ValueError, match="two objects have the number 1"):
        open_dataset(native)


def test_the_rank_of_the_files_is_the_declared_one(native, ndim):
    head = json.loads((native / "dataset.json").read_text())
    (native / "dataset.json").write_text(json.dumps({**head, "dim": 5 - ndim}))
    assert [finding.severity for finding in check(native)] == ["error", "warning"]


def test_all_errors_are_found_at_once_and_come_first(native):
    annotate(instances={"1": 0, "2": 7})(native)
    (native / "imagesTr" / "b_0000.nii.gz").write_bytes(b"")
    (native / "labelsTs" / "d.json").unlink()
    findings = check(native)
    assert [finding.case for finding in findings if finding.severity == "error"] == ["a", "b", "d"]
    assert [finding.severity for finding in findings] == sorted(finding.severity for finding in findings)


def test_a_sound_data_set_has_neither_errors_nor_warnings_and_progress_is_reported(native):
    steps = []
    findings = check(native, progress=lambda what, done, total: steps.append((done, total)))
    assert {finding.severity for finding in findings} <= {"note"}
    assert steps[-1] == (4, 4)
    assert any("1 of 3 training cases has no objects" in finding.problem for finding in findings)


def warnings_of(root):
    return {finding.case: finding.problem for finding in check(root) if finding.severity == "warning"}


def test_tiny_and_torn_objects_are_remarked(native):
    def tear(array):
        array = array.copy()
        array[array == 1] = 0
        array[(0, *[0] * (array.ndim - 1))] = 1
        array[(0, *[2] * (array.ndim - 1))] = 1
        array[(0, *[3] * (array.ndim - 1))] = 1  # touches the one before with a corner: still two parts
        array[array == 2] = 0
        array[(0, *[11] * (array.ndim - 1))] = 2
        return array

    rewrite("labelsTr", "a", tear)(native)
    problems = [finding.problem for finding in check(native) if finding.case == "a"]
    assert problems == ["object 1 is in several parts", "object 2 is smaller than 3 voxels along an axis"]


def test_the_same_kind_of_problem_in_many_cases_is_one_finding(tmp_path):
    """The numbers and the ids of the objects differ from case to case."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for case in range(5):
        labels = np.zeros((32, 32), np.uint8)
        for speck in range(case + 1):
            labels[4 * speck + 2, 4] = speck + 1
        labels[20:30, 20:30] = 9
        for folder, array in (("images", rng.integers(0, 255, (32, 32), np.uint8)), ("labels", labels)):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(array).save(tmp_path / folder / f"{case}.png")
    problems = [finding.problem for finding in check(tmp_path) if "smaller than" in finding.problem]
    assert problems == ["5 cases: objects are smaller than 3 voxels along an axis (0, 1, 2, 3, 4)"]


def test_duplicate_images_are_remarked(native):
    (native / "imagesTs" / "d_0000.nii.gz").write_bytes((native / "imagesTr" / "a_0000.nii.gz").read_bytes())
    assert warnings_of(native) == {"d": "the same image as case a (training and test)"}


def test_a_constant_image_is_remarked(native):
    rewrite("imagesTr", "c", lambda array: np.full_like(array, 7))(native)
    assert warnings_of(native) == {"c": "all voxels are 7"}


def test_a_patient_on_both_sides_and_a_class_without_objects_are_remarked(native):
    head = json.loads((native / "dataset.json").read_text())
    head["groups"] = {"a": "patient 1", "d": "patient 1"}
    head["labels"]["2"] = "third"
    (native / "dataset.json").write_text(json.dumps(head))
    problems = [finding.problem for finding in check(native) if finding.severity == "warning"]
    assert problems == [
        "a and d, a training and a test case, are of one group (patient)",
        "class third occurs in no training case",
    ]


def test_a_data_set_without_objects_is_remarked(native):
    for case_id in "ab":
        (native / "labelsTr" / f"{case_id}.json").write_text('{"instances": {}}')
        (native / "labelsTr" / f"{case_id}.nii.gz").unlink()
    assert warnings_of(native) == {"": "no objects in the training cases"}


def test_anisotropic_voxels_are_noted(native, ndim):
    def stretch(geometry):
        spacing = (5.0, *geometry.spacing[1:])
        return Geometry(geometry.shape, spacing, geometry.origin, geometry.direction)

    for folder, name in [(f, n) for f in ("imagesTr", "labelsTr") for n in "abc"]:
        rewrite(folder, name, geometry=stretch)(native)
    notes = [finding.problem for finding in check(native) if finding.severity == "note"]
    assert notes[2].startswith("voxels are anisotropic (median 5 x ")
