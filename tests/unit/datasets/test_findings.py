"""What `check` remarks, and what `--fix` mends."""

import json
import subprocess
import sys

import numpy as np
import pytest

from boxel.datasets.cases import read_case
from boxel.datasets.formats import open_dataset
from boxel.datasets.formats.native_writer import write_case, write_dataset
from boxel.datasets.quality.check import check, examine
from boxel.datasets.quality.near_duplicates import hash_image, near_duplicates
from boxel.datasets.quality.repair import repair
from boxel.datasets.split import make_splits
from boxel.io import read_image, read_label_map, write_image, write_label_map
from boxel.types import Geometry, Image


def smooth(rng, shape, channels=1):
    """A random landscape: large structures, as images have them."""
    axes = [np.linspace(0, 1, size) for size in shape]
    grid = np.meshgrid(*axes, indexing="ij")
    waves = [np.sin(sum(f * g for f, g in zip(rng.uniform(-20, 20, len(shape)), grid, strict=True))) for _ in range(8)]
    return np.stack([100 * sum(waves)] * channels)


def test_a_brighter_noisier_copy_looks_alike_and_another_image_does_not(ndim, rng):
    shape = (40, 50, 60)[:ndim]
    image, other = smooth(rng, shape), smooth(rng, shape)
    copy = 1.3 * image + 20 + rng.normal(size=image.shape)
    assert near_duplicates([hash_image(a) for a in (image, other, copy)]) == [(0, 2)]
    assert hash_image(np.zeros((1, *shape))) is None
    assert hash_image(image[(..., *[slice(5)] * ndim)]) is None


def test_the_same_image_in_other_compression_across_a_split_is_remarked(rng, tmp_path, ndim):
    shape = (40, 50, 60)[:ndim]
    geometry = Geometry.plain(shape)
    image, other = smooth(rng, shape), smooth(rng, shape)
    copy = image + rng.normal(size=image.shape)
    for case, array, split in (("a", image, "train"), ("b", other, "train"), ("c", copy, "test")):
        write_case(tmp_path, case, Image(array.astype(np.float32), geometry), None, {}, split=split)
    write_dataset(tmp_path, "x", ndim, ["lesion"], ["MR"])
    found = [finding for finding in check(tmp_path) if "looks like" in finding.problem]
    assert [(finding.case, finding.problem) for finding in found] == [("c", "looks like case a (training and test)")]
    head = json.loads((tmp_path / "dataset.json").read_text())
    (tmp_path / "dataset.json").write_text(json.dumps({**head, "groups": {"a": "p", "c": "p"}}))
    assert not [finding for finding in check(tmp_path) if "looks like" in finding.problem]


@pytest.mark.parametrize(
    ("low", "high", "remarked"),
    [(-1000, 1500, False), (-50, 300, False), (0, 255, True), (0, 2500, True)],
)
def test_ct_values_that_are_no_hounsfield_units_are_remarked(native, low, high, remarked, rng):
    for path in (native / "imagesTr").iterdir():
        image = read_image(path)
        array = rng.uniform(low, high, image.array.shape)
        array.flat[0], array.flat[1] = low, high
        write_image(path, Image(array.round().astype(np.float32), image.geometry))
    assert any("Hounsfield" in finding.problem for finding in check(native)) == remarked


def test_a_repaired_copy_is_clean_and_the_input_untouched(native, ndim, tmp_path):
    label_map = read_label_map(native / "labelsTr" / "a.nii.gz")
    label_map.array[(0,) * ndim] = 1  # a stray voxel of object 1
    label_map.array[label_map.array == 2] = 70
    write_label_map(native / "labelsTr" / "a.nii.gz", label_map.array, label_map.geometry)
    boxed = {"id": 80, "label": 1, "lower": [1.0] * ndim, "upper": [9.5] * ndim}
    (native / "labelsTr" / "a.json").write_text(json.dumps({"instances": {"1": 0, "70": 1}, "boxes": [boxed]}))
    (native / "imagesTr" / "b_0000.nii.gz").write_bytes(b"")
    (native / "splits.json").write_text(json.dumps([{"train": ["a", "b"], "val": ["c"], "test": ["d"]}]))
    before = {path: path.read_bytes() for path in native.rglob("*") if path.is_file()}
    found = examine(native)
    assert {finding.case for finding in found.findings if finding.severity == "error"} == {"b"}
    repair(found.dataset, found.findings, tmp_path / "fixed")
    assert {path: path.read_bytes() for path in native.rglob("*") if path.is_file()} == before
    fixed = open_dataset(tmp_path / "fixed")
    assert not [finding for finding in check(tmp_path / "fixed") if finding.severity == "error"]
    assert [case.id for case in fixed.cases] == ["a", "c", "d"]
    assert fixed.splits == ({"train": ("a",), "val": ("c",), "test": ("d",)},)
    instances = read_case(fixed["a"], fixed).instances
    assert instances.ids.tolist() == [1, 2, 3]
    assert instances.labels.tolist() == [0, 1, 1]
    assert instances.boxes[:, 0].tolist() == [[2] * ndim, [7] * ndim, [1] * ndim]
    assert instances.has_mask.tolist() == [True, True, False]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    with pytest.raises(ValueError, match="`boxel check --fix` did not write there"):
        repair(found.dataset, found.findings, tmp_path / "mine")


@pytest.mark.parametrize("broken", [False, True])
def test_the_command_says_2_for_errors_and_0_for_warnings(native, broken, tmp_path):
    if broken:
        (native / "imagesTr" / "b_0000.nii.gz").write_bytes(b"")
    boxel = [sys.executable, "-m", "boxel"]
    run = subprocess.run(
        [*boxel, "check", str(native), "--fix", str(tmp_path / "fixed")], capture_output=True, text=True
    )
    assert run.returncode == (2 if broken else 0), run.stderr
    assert "native layout" in run.stdout
    assert f"wrote {3 if broken else 4} of 4 cases" in run.stderr
    assert (tmp_path / "fixed" / "dataset.json").exists()


def test_prescribed_folds_that_training_would_refuse_are_errors(native):
    head = json.loads((native / "dataset.json").read_text())
    (native / "dataset.json").write_text(json.dumps({**head, "groups": {"a": "p", "b": "p"}}))
    folds = [{"train": ["a", "b"], "val": ["c"]}, {"train": ["a"], "val": ["b"]}]
    (native / "splits.json").write_text(json.dumps(folds))
    (error,) = [finding for finding in check(native) if finding.severity == "error"]
    assert "fold 1" in error.problem
    assert "'a' in train and 'b' in val, but they are of one group (patient)" in error.problem
    assert "belong together" in error.suggested_fix


def test_copies_on_two_sides_of_a_prescribed_fold_are_called_so(native):
    (native / "imagesTr" / "b_0000.nii.gz").write_bytes((native / "imagesTr" / "a_0000.nii.gz").read_bytes())
    (native / "splits.json").write_text(json.dumps([{"train": ["a", "c"], "val": ["b"]}]))
    found = [finding.problem for finding in check(native) if "same image" in finding.problem]
    assert found == ["the same image as case a (training and validation of fold 0)"]


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_a_share_of_the_patients_is_held_out_and_the_rest_is_cut_into_folds(tmp_path, rng, share):
    for number in range(20):
        image = Image(rng.normal(size=(1, 8, 8)).astype(np.float32), Geometry.plain((8, 8)))
        write_case(tmp_path, f"p{number // 2}_{number}", image, None, {})
    write_dataset(tmp_path, "x", 2, ["lesion"], ["MR"])
    dataset = open_dataset(tmp_path, options=[f"holdout={share}", "group=p\\d+"])
    test = [case.id for case in dataset.test]
    assert len(test) == 20 * share
    assert not {case.group for case in dataset.test} & {case.group for case in dataset.train}
    folds = make_splits(dataset.cases)
    assert [sorted(fold.test) for fold in folds] == [sorted(test)] * 5
    assert sorted(name for fold in folds for name in fold.val) == sorted(case.id for case in dataset.train)
    with pytest.raises(ValueError, match="holdout"):
        open_dataset(tmp_path, options=["holdout=0.9"])
    (tmp_path / "splits.json").write_text(json.dumps([{"train": [test[0]], "val": [test[1]]}]))
    with pytest.raises(ValueError, match="its own test cases or folds"):
        open_dataset(tmp_path, options=["holdout=0.2"])


def write_blobs(root, rng, ndim, turn, cases=4):
    """Bright blobs on noise, their label maps turned by `turn`, which the headers do not say."""
    shape = (48, 48, 48)[:ndim]
    for number in range(cases):
        label_map = np.zeros(shape, np.uint8)
        for value in (1, 2, 3, 4, 5):
            corner = rng.integers(2, 34, ndim)
            label_map[tuple(slice(c, c + s) for c, s in zip(corner, rng.integers(9, 13, ndim), strict=True))] = value
        array = 20 * rng.normal(size=shape) + 300 * (label_map > 0)
        label_map = np.ascontiguousarray(turn(label_map, number))
        labels = dict.fromkeys(np.unique(label_map)[1:].tolist(), 0)
        write_case(root, f"c{number}", Image(array[None].astype(np.float32), Geometry.plain(shape)), label_map, labels)
    write_dataset(root, "x", ndim, ["lesion"], ["MR"])


@pytest.mark.parametrize(
    ("turn", "expected"),
    [
        (lambda label_map, number: label_map, []),
        (lambda label_map, number: np.flip(label_map, -2), ["the label maps fit their images better when reversed"]),
        (
            lambda label_map, number: np.swapaxes(label_map, -1, -2),
            ["the label maps fit their images better when rows"],
        ),
        (
            lambda label_map, number: label_map[..., ::-1] if number == 2 else label_map,
            ["the label map fits its image"],
        ),
    ],
    ids=["right", "reversed", "swapped", "one reversed"],
)
def test_label_maps_in_another_orientation_than_their_images_are_remarked(tmp_path, rng, ndim, turn, expected):
    write_blobs(tmp_path, rng, ndim, turn)
    found = [finding for finding in check(tmp_path) if "better when" in finding.problem]
    assert [finding.problem[: len(start)] for finding, start in zip(found, expected, strict=True)] == expected
    assert all(finding.severity == "warning" and "overlay" in finding.suggested_fix for finding in found)
    assert [finding.case for finding in found] == (["c2"] if "map fits" in "".join(expected) else [""] * len(expected))


def test_swapped_axes_are_called_so(native, ndim):
    path = native / "labelsTr" / "a.nii.gz"
    label_map = read_label_map(path)
    write_label_map(path, label_map.array.T.copy(), Geometry.plain(label_map.array.T.shape, label_map.geometry.spacing))
    (error,) = [finding for finding in check(native) if finding.severity == "error"]
    assert "with its axes swapped" in error.problem


def test_objects_that_extend_beyond_the_image_are_reported(native, ndim):
    shape = {"id": 9, "label": 0, "points": [[-5] * ndim, [6] * ndim]}
    (native / "labelsTr" / "c.json").write_text(json.dumps({"instances": {}, "shapes": [shape]}))
    (found,) = [finding for finding in check(native) if "beyond the image" in finding.problem]
    assert (found.severity, found.case) == ("warning", "c")
    assert "by up to 5.0 voxels" in found.problem


def test_repair_fixes_what_needs_no_decision_and_loses_nothing(native, ndim, tmp_path):
    """Objects without voxel or extent go, boxes are cut at the border; ignored regions and attributes stay."""
    content = {
        "instances": {"1": 0, "2": 1, "6": 0},  # 6 has no voxel
        "boxes": [
            {"id": 7, "label": 1, "lower": [-3] * ndim, "upper": [5] * ndim},
            {"id": 8, "label": 1, "lower": [4] * ndim, "upper": [4] * ndim},
        ],
        "shapes": [{"id": 9, "label": 0, "points": [[1] * ndim, [9] * ndim], "ignore": True}],
        "attributes": {"2": {"diameter_mm": 8.5}, "7": {"diameter_mm": 3}},
    }
    (native / "labelsTr" / "a.json").write_text(json.dumps(content))
    outside = {"id": 7, "label": 1, "lower": [-30] * ndim, "upper": [-20] * ndim}
    (native / "labelsTr" / "b.json").write_text(json.dumps({"instances": {"1": 1, "2": 0}, "boxes": [outside]}))
    found = examine(native)
    assert {finding.case for finding in found.findings if finding.severity == "error"} == {"a", "b"}
    fixed = repair(found.dataset, found.findings, tmp_path / "fixed")
    assert [case.id for case in fixed.cases] == ["a", "c", "d"]  # what lies outside is not guessed at
    dataset = open_dataset(tmp_path / "fixed")
    case = read_case(dataset["a"], dataset)
    assert case.instances.labels.tolist() == [0, 1, 1]
    assert case.instances.boxes[2].tolist() == [[0] * ndim, [5] * ndim]
    assert case.ignored.boxes.tolist() == [[[1] * ndim, [9] * ndim]]
    assert dataset["a"].attributes == {2: {"diameter_mm": 8.5}, 3: {"diameter_mm": 3}}
    with pytest.raises(ValueError, match="lies in the data set"):
        repair(found.dataset, found.findings, native / "fixed")


def test_huge_object_numbers_need_no_huge_memory(native, ndim, tmp_path):
    path = native / "labelsTr" / "a.nii.gz"
    label_map = read_label_map(path)
    write_label_map(path, np.where(label_map.array == 2, 2**31 - 2, label_map.array), label_map.geometry)
    (native / "labelsTr" / "a.json").write_text(json.dumps({"instances": {"1": 0, str(2**31 - 2): 1}}))
    found = examine(native)
    fixed = open_dataset(repair(found.dataset, found.findings, tmp_path / "fixed").root)
    assert read_case(fixed["a"], fixed).instances.ids.tolist() == [1, 2]


def test_label_maps_of_weak_annotations_are_boxes(native, ndim):
    """nnDetection 2: the label map shows rasterised boxes or balls, no shapes to learn."""
    head = json.loads((native / "dataset.json").read_text())
    (native / "dataset.json").write_text(json.dumps({**head, "annotation_style": "weak"}))
    dataset = open_dataset(native)
    found = read_case(dataset["a"], dataset)
    assert found.label_map is None
    assert found.instances.has_mask.tolist() == [False, False]
    assert found.instances.boxes.tolist() == [[[2] * ndim, [6] * ndim], [[7] * ndim, [11] * ndim]]
