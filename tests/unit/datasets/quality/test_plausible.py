"""Voxel sizes that an imaging method cannot have, and numbers of cases that cannot be divided, are found."""

import numpy as np
import pytest

from boxel.datasets.formats import open_dataset
from boxel.datasets.formats.native_writer import write_case, write_dataset
from boxel.datasets.quality.check import check
from boxel.datasets.quality.plausible import far_from_median, implausible_size, unusual_size
from boxel.preparation.prepare import prepare
from boxel.types import Geometry, Image


def write(root, spacings, channel="CT", ndim=3, value=None):
    """One case per voxel size, each with an object."""
    shape = (12, 14, 16)[-ndim:]
    label_map = np.zeros(shape, np.uint8)
    label_map[(slice(3, 8),) * ndim] = 1
    for number, spacing in enumerate(spacings):
        array = np.random.default_rng(number).normal(0, 100, (1, *shape)).astype(np.float32)
        if value is not None and number == 1:
            array[(0,) + (4,) * ndim] = value
        geometry = Geometry.plain(shape, np.broadcast_to(spacing, ndim).tolist())
        write_case(root, f"c{number}", Image(array, geometry), label_map, {1: 0})
    write_dataset(root, "small", ndim, ["a"], [channel])
    return root


def found(root, severity):
    return [finding for finding in check(root, workers=0) if finding.severity == severity]


@pytest.mark.parametrize(
    ("channel", "spacing", "verdict"),
    [
        ("CT", 0.7, ""),
        ("CT", (5.0, 0.4, 0.4), ""),
        ("CT", 1000.0, "error"),
        ("CT", 1e5, "error"),
        ("CT", 1e-9, "error"),
        ("CT", 30.0, "warning"),
        ("CT", 0.005, "warning"),
        ("T2w", 0.5, ""),
        ("T2w", 1000.0, "error"),
        ("T2w", 40.0, "warning"),
        ("DAPI", 2.5e-4, ""),
        ("DAPI", (1.0, 1.0, 1.0), ""),
        ("DAPI", 5.0, "warning"),
        ("DAPI", 1000.0, "error"),
        ("red", 1.0, ""),
        ("red", 1000.0, "error"),
        ("red", 1e-9, "error"),
        ("red", 80.0, "warning"),
    ],
)
def test_voxel_sizes_are_judged_by_the_imaging_method(channel, spacing, verdict):
    grid = Geometry.plain((20, 30, 40), np.broadcast_to(spacing, 3).tolist())
    assert ("error" if implausible_size(grid, [channel]) else "warning" if unusual_size(grid, [channel]) else "") == (
        verdict
    )


@pytest.mark.parametrize("spacing", [-1.0, 0.0, np.nan, np.inf])
def test_a_voxel_size_is_a_positive_number(ndim, spacing):
    grid = Geometry.plain((8,) * ndim, (1.0,) * (ndim - 1) + (spacing,))
    assert "is not positive; correct the voxel size" in implausible_size(grid, ["MRI"])


def test_an_image_of_the_length_of_a_house_is_found(ndim):
    grid = Geometry.plain((512,) * ndim, (9.0,) * ndim)
    assert "extent 4608 x 4608" in unusual_size(grid, ["CT"])
    assert not unusual_size(Geometry.plain((40_000,) * ndim), ["red"])  # pixels of a picture have no unit


def test_check_reports_and_prepare_refuses_an_impossible_voxel_size(tmp_path, ndim):
    root = write(tmp_path / "data", [1.0, 1000.0, 1.0, 1.0], ndim=ndim)
    (error,) = found(root, "error")
    assert (error.case, error.file.name[:2]) == ("c1", "c1")
    assert error.problem.startswith("voxel size 1000 x 1000")
    with pytest.raises(ValueError, match=r"c1_0000.*: voxel size 1000 x .* impossible for CT .*; correct"):
        prepare(open_dataset(root), tmp_path / "work", workers=0)


def test_a_case_far_from_the_others_is_named(tmp_path, ndim):
    root = write(tmp_path / "data", [1.0, 40.0, 1.0, 1.1], ndim=ndim, channel="US")
    (finding,) = [f for f in found(root, "warning") if "far from that of the other" in f.problem]
    assert finding.case == "c1"


def test_several_cases_of_a_kind_are_not_far_from_the_median():
    assert far_from_median(np.array([[1.0], [1.0], [50.0]])).tolist() == [False, False, True]
    assert not far_from_median(np.array([[1.0], [100.0]])).any()
    assert not far_from_median(np.array([[1.0]] * 7 + [[50.0]] * 2)).any()
    assert far_from_median(np.array([[1.0]] * 18 + [[50.0]] * 2)).sum() == 2


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_cases_are_said_by_check_in_the_words_of_prepare(tmp_path, ndim, count):
    root = write(tmp_path / "data", [1.0] * count, ndim=ndim)
    with pytest.raises(ValueError, match="too few") as refused:
        prepare(open_dataset(root), tmp_path / "work", workers=0)
    assert f"note: {refused.value}" in map(str, found(root, "note"))
    assert str(refused.value).startswith(f"{root}: {count} group")
    assert not (tmp_path / "work").exists()


def test_an_extreme_voxel_is_a_finding_with_case_value_and_position(tmp_path, ndim):
    root = write(tmp_path / "data", [1.0] * 4, ndim=ndim, value=1e38)
    (finding,) = [f for f in found(root, "warning") if "far beyond" in f.problem]
    assert finding.case == "c1"
    assert f"1e+38 at {(4,) * ndim}" in finding.problem


def test_a_name_that_prepare_cannot_use_is_said_by_check(tmp_path, ndim):
    root = write(tmp_path / "data", [1.0] * 4, ndim=ndim)
    for file in [*root.glob("*/c1*")]:
        file.rename(file.with_name(file.name.replace("c1", "c1.labels")))
    (error,) = found(root, "error")
    with pytest.raises(ValueError, match=r"case 'c1\.labels': cannot be a file name") as refused:
        prepare(open_dataset(root), tmp_path / "work", workers=0)
    assert str(error) == f"error: {refused.value}"


def test_a_name_that_can_name_no_file_is_said_once(tmp_path, ndim):
    root = write(tmp_path / "data", [1.0] * 4, ndim=ndim)
    for file in [*root.glob("*/c1*")]:
        file.rename(file.with_name(file.name.replace("c1", "c\x01")))
    assert [finding.case for finding in found(root, "error")] == ["c\x01"]
