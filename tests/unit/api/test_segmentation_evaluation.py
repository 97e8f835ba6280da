"""`boxel evaluate --protocol segmentation` and `boxel compare`: label maps in folders against a data set."""

import csv
import json
import shutil

import numpy as np
import pytest

from boxel.cli.console import print_comparison
from boxel.io import read_label_map, write_label_map
from boxel.types import Geometry
from tests.end_to_end.commands import refused
from tests.settings import compare_files, evaluate_files
from unit.predicted import write_boxel, write_segmentations

CLASSES = ("benign", "malignant")


def evaluate(*args, **settings):
    return evaluate_files(*args, protocol="segmentation", num_resamples=20, **settings)


def first_plane_lost(labels):
    """The cubes of 4 voxels without their first plane along the first axis."""
    labels[[2, 7]] = 0
    return labels


@pytest.mark.parametrize(("suffix", "names"), [("_seg.nii.gz", CLASSES), (".nii.gz", None)])
def test_label_maps_of_boxel_and_of_other_tools_are_evaluated(suffix, names, truth, native, tmp_path, ndim):
    """In a each object lost a quarter: recall 3/4, DSC 6/7; b is perfect; c has no object; d is missed."""
    changes = {"a": first_plane_lost, "d": np.zeros_like}
    folder = write_segmentations(tmp_path / "p", *truth, suffix=suffix, names=names, **changes)
    metrics = evaluate(folder, native, tmp_path / "out").metrics
    assert metrics["DSC/benign"] == pytest.approx((6 / 7 + 1 + 0) / 3)
    assert metrics["recall/malignant"] == pytest.approx((3 / 4 + 1) / 2)
    assert metrics["precision/malignant"] == 1
    assert metrics["mean_surface_distance/benign"] < metrics["HD95/benign"] == (1.5, 1.0, 0.5)[-ndim] / 2
    assert (metrics["no_region"], metrics["no_region/benign"]) == (1, 1)
    assert metrics["num_undefined/DSC/malignant"] == 2
    assert metrics["PQ/benign"] == pytest.approx((3 / 4 + 1) / 2.5)
    assert metrics["num_undefined/HD95/benign"] == 2
    slices = 4 if ndim == 3 else 1
    with_object = 1 if ndim == 3 else 6 / 7  # of a, the slices that are left are perfect
    expected = (3 + slices) / (3 * slices) if ndim == 3 else (with_object + 1) / 3
    assert metrics["DSC/slices_with_object/benign"] == pytest.approx(expected)
    with (tmp_path / "out" / "per_case.csv").open() as file:
        rows = {(row["case"], row["class"]): row for row in csv.DictReader(file)}
    assert len(rows) == 8
    voxels = 4**ndim
    assert rows["a", "benign"]["object_voxels"] == str(voxels)
    assert rows["a", "benign"]["predicted_voxels"] == str(voxels * 3 // 4)
    assert rows["a", "benign"]["slices_with_object"] == str(slices)
    assert float(rows["a", "benign"]["DSC"]) == pytest.approx(6 / 7, abs=1e-6)
    assert rows["c", "benign"]["DSC"] == rows["d", "benign"]["HD95"] == ""
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == metrics
    assert {path.name for path in (tmp_path / "out" / "figures").iterdir()} == {"dsc_by_class.png", "dsc_by_size.png"}
    assert not (tmp_path / "out" / "per_object.csv").exists()


def test_one_foreground_is_compared_with_the_union_of_the_objects(truth, native, tmp_path):
    folder = write_segmentations(tmp_path / "p", *truth, names=("foreground",), a=first_plane_lost)
    metrics = evaluate(folder, native).metrics
    assert metrics["DSC/foreground"] == metrics["DSC"] == pytest.approx((6 / 7 + 1 + 1) / 3)
    assert metrics["num_objects"] == 5
    assert "DSC/benign" not in metrics


def test_sets_are_compared_also_if_one_has_a_foreground_only(truth, native, tmp_path, capsys):
    whole = write_segmentations(tmp_path / "whole", *truth, names=CLASSES)
    parts = write_segmentations(tmp_path / "parts", *truth, names=("foreground",), a=first_plane_lost)
    settings = {"protocol": "segmentation", "num_resamples": 20}
    same = compare_files(whole, whole, native, **settings)["metrics"]["DSC/benign"]
    assert (same["difference"], same["p"]) == (0, 1)
    result = compare_files(whole, parts, native, **settings)
    assert result["metrics"]["DSC/foreground"]["difference"] == pytest.approx((6 / 7 - 1) / 3)
    print_comparison(result, whole, parts)
    printed = capsys.readouterr().out
    assert printed.startswith(f"a: {whole}\nb: {parts}\n")
    assert "DSC/slices_with_object" in printed


def test_an_image_predicted_under_another_name_belongs_to_its_case(truth, native, tmp_path):
    folder = write_segmentations(tmp_path / "p", *truth, names=CLASSES)
    for suffix in (".json", "_seg.nii.gz"):
        (folder / f"a{suffix}").rename(folder / f"scan{suffix}")
    record = folder / "scan.json"
    record.write_text(record.read_text().replace('"case": "a"', '"case": "scan"'))
    assert evaluate(folder, native).metrics["DSC"] == 1


def test_a_missing_case_is_named(truth, native, tmp_path):
    """The data set declares two test cases; of them one is predicted."""
    data, cases = truth
    folder = write_segmentations(tmp_path / "p", data, {"d": cases["d"]})
    assert evaluate(folder, native).metrics["num_images"] == 1  # the only test case
    for part in ("images", "labels"):
        for path in (native / f"{part}Tr").glob("b[._]*"):
            path.rename(native / f"{part}Ts" / path.name)
    with pytest.raises(ValueError, match=r"case 'b' has no label map in .*p \(1 of 2 cases has none\); predict it"):
        evaluate(folder, native)
    both = write_segmentations(tmp_path / "both", data, {"b": cases["b"], "d": cases["d"]})
    with pytest.raises(ValueError, match="case 'b' is in only one of"):
        compare_files(folder, both, native, protocol="segmentation")


@pytest.mark.parametrize("extra", [7, {"segmentation": "a"}, {"segmentation": {"file": "a", "values": ["benign"]}},
                                   {"segmentation": {"file": "a", "values": {"one": "benign"}}}])  # fmt: skip
def test_a_record_that_does_not_say_what_the_values_are_is_named(extra, truth, native, tmp_path):
    folder = write_segmentations(tmp_path / "p", *truth, names=CLASSES)
    file = folder / "b.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"extra": extra}))
    with pytest.raises(ValueError, match=r"b\.json: extra.* must be .*; predict the case again"):
        evaluate(folder, native)


def test_bad_input_is_refused_in_one_line(truth, native, tmp_path):
    data, cases = truth

    def check(folder, *options, says):
        words = ("evaluate", folder, native, "--out", tmp_path / "out", "--protocol", "segmentation")
        refused(*words, *options, says=says)

    boxes = write_boxel(tmp_path / "boxes", data, cases)
    check(
        boxes, says="boxes: no label maps (CASE_seg.nii.gz or CASE.nii.gz), which protocol segmentation needs; predict"
    )
    check(tmp_path / "none", says="none: no such folder")
    good = write_segmentations(tmp_path / "p", data, cases, names=CLASSES)
    check(good, "--iou", 0.5, says="protocol segmentation fixes the matching and the metrics; leave out --iou")
    check(good, "--from", "nifti", says="leave out --ignore and --from")
    high = write_segmentations(tmp_path / "high", data, cases, b=lambda labels: labels + 1)
    check(high, says="b_seg.nii.gz: value 3 in a label map of 2 classes; write 0 for background")
    other = write_segmentations(tmp_path / "other", data, cases, names=("benign", "cyst"))
    check(other, says="segments the classes benign, cyst; the data set has benign, malignant")
    shape, wide = cases["a"].image.geometry.shape, (9,) * data.ndim
    write_label_map(good / "a_seg.nii.gz", np.zeros(wide, np.uint8), Geometry.plain(wide))
    check(good, says=f"a_seg.nii.gz: this label map has shape {wide}, but the image")
    check(good, says=f"a_0000.nii.gz has {shape}; resample it")
    write_label_map(good / "a_seg.nii.gz", np.zeros(shape, np.uint8), Geometry.plain(shape, (9.0,) * data.ndim))
    check(good, says="a_seg.nii.gz: spacing")
    shutil.copy(good / "b_seg.nii.gz", good / "z_seg.nii.gz")
    check(good, says="1 of 5 predicted cases is not in")
    (good / "b.json").unlink()
    (good / "b_seg.nii.gz").rename(good / "b.nii.gz")
    check(good, says="p: holds a_seg.nii.gz of `boxel predict` and b.nii.gz of another tool; put")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("ignored", [False, True])
def test_data_without_masks_is_refused_naming_the_case(ignored, truth, native, tmp_path, ndim):
    folder = write_segmentations(tmp_path / "p", *truth)
    shape = {"id": 7, "label": 0, "points": [[8.0] * ndim], "diameter": 2}
    record = {"instances": {"1": 0, "2": 1}, "shapes": [shape | ({"ignore": True} if ignored else {})]}
    (native / "labelsTr" / "a.json").write_text(json.dumps(record))
    says = "case 'a' has ignored objects or regions" if ignored else "case 'a' is data without masks: object 7 has only"
    refused("evaluate", folder, native, "--out", tmp_path / "out", "--protocol", "segmentation", says=says)


def test_maps_are_read_back_unchanged(truth, tmp_path):
    """What the other tests rely on: the values of the label maps are the classes in their order."""
    folder = write_segmentations(tmp_path / "p", *truth)
    assert set(np.unique(read_label_map(folder / "a_seg.nii.gz").array)) == {0, 1, 2}
