"""LIDC-IDRI's readings in XML, and in DICOM, and Pancreas-CT."""

import numpy as np
import pytest

from boxel.datasets.cases import read_case
from boxel.datasets.formats import open_dataset
from boxel.datasets.quality.check import check
from boxel.io import write_label_map
from boxel.types import Geometry

pytest.importorskip("pydicom")

from .dicom_samples import SHAPE, SPACING, ring, volume, write_lidc, write_lidc_segments, write_series


def lidc(tmp_path, rng):
    write_series(tmp_path / "LIDC-IDRI-0001" / "ct", volume(rng))
    # Outlines of 8 x 8 pixels enclose 6 x 6. Nodule A: three readers, one of them a pixel to the right; B: one reader.
    a, moved, b = ring(5, 5, 8), ring(6, 5, 8), ring(25, 20, 6)
    sessions = [
        [("1", 4, {2: a, 3: a}), ("2", 5, {4: b}), ("small", 0, {1: [(3, 3)]})],
        [("x", 3, {2: a, 3: a})],
        [("y", 1, {2: moved})],
        [],
    ]
    write_lidc(tmp_path / "LIDC-IDRI-0001" / "ct" / "001.xml", sessions)
    return tmp_path


def test_lidc_readings_are_fused_by_majority(tmp_path, rng):
    dataset = open_dataset(lidc(tmp_path, rng))
    assert (dataset.format, dataset.classes) == ("lidc", ("benign", "malignant"))
    assert dataset.cases[0].group == "LIDC-IDRI-0001"
    found = read_case(dataset.cases[0], dataset)
    # Half of four readers: plane 2 has a in all (columns 6..11) and moved (7..12); plane 3 has two of four. B has one.
    assert found.instances.boxes.tolist() == [[[2, 6, 6], [4, 12, 12]]]
    assert found.instances.labels.tolist() == [0]  # (4 + 3 + 1) / 3 < 3
    assert (found.label_map > 0).sum() == 2 * 36


def test_lidc_has_options(tmp_path, rng):
    root = lidc(tmp_path, rng)

    def read(*options):
        dataset = open_dataset(root, options=options)
        return read_case(dataset.cases[0], dataset).instances

    assert read("num_raters=2").labels.tolist() == [0, 1]  # one of two is half
    assert read("num_raters=2", "min_raters=2").labels.tolist() == [0]
    assert read("num_raters=2", "min_voxels=17").labels.tolist() == [0]  # B has 4 x 4
    assert read("num_raters=2", "malignancy=all").labels.tolist() == [0, 0]  # 5 of one reader, 0 of the other
    assert read("classes=nodule").labels.tolist() == [0]
    notes = [finding.problem for finding in check(root) if finding.severity == "note"]
    assert any("1 scans of 1 patients, 4 readings" in note for note in notes)


def test_lidc_exclusions_cut_holes_and_foreign_outlines_are_errors(tmp_path, rng):
    root = lidc(tmp_path, rng)
    xml = root / "LIDC-IDRI-0001" / "ct" / "001.xml"
    text = xml.read_text()
    edges = "".join(f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for x, y in ring(6, 6, 4))
    hole = f"<roi><imageZposition>-95</imageZposition><inclusion>FALSE</inclusion>{edges}</roi>"
    xml.write_text(text.replace("</characteristics><roi>", f"</characteristics>{hole}<roi>"))
    dataset = open_dataset(root)
    assert (read_case(dataset.cases[0], dataset).label_map > 0).sum() == 2 * 36 - 4  # 2 x 2 inside 4 x 4
    for right, wrong in (
        ("Zposition>-95.000000", "Zposition>500"),
        ("Zposition>-95.000000", "Zposition>1e308"),
        ("Coord>6", "Coord>1e300"),
    ):
        xml.write_text(text.replace(right, wrong))
        (error,) = [finding for finding in check(root) if finding.severity == "error"]
        assert "outside the image" in error.problem


def test_lidc_nodules_are_chosen_by_their_diameter(tmp_path, rng):
    root = lidc(tmp_path, rng)

    def count(diameter):
        dataset = open_dataset(root, options=[f"min_diameter={diameter}"])
        return len(read_case(dataset.cases[0], dataset).instances)

    ball = (72 * np.prod(SPACING) * 6 / np.pi) ** (1 / 3)  # 72 voxels of nodule A
    assert (count(ball - 0.01), count(ball + 0.01)) == (1, 0)


def test_lidc_readings_as_segmentations_and_reports_are_fused_like_those_in_xml(tmp_path, rng):
    files = write_series(tmp_path / "LIDC-IDRI-0001" / "ct", volume(rng))
    a, moved, b = np.zeros((3, *SHAPE), bool)
    a[2:4, 6:12, 6:12], moved[2, 6:12, 7:13], b[4, 21:25, 26:30] = True, True, True
    order = [files.index(file) for file in sorted(files)]
    readings = [("Nodule 1", 4, a), ("Nodule 1", 3, a), ("Nodule 1", 1, moved), ("Nodule 2", 5, b)]
    readings = [(name, malignancy, mask[order]) for name, malignancy, mask in readings]
    write_lidc_segments(tmp_path / "LIDC-IDRI-0001" / "annotations", sorted(files), readings)

    def read(*options):
        dataset = open_dataset(tmp_path, options=options)
        assert (dataset.format, [case.group for case in dataset.cases]) == ("lidc", ["LIDC-IDRI-0001"])
        return read_case(dataset.cases[0], dataset)

    found = read()  # the same as of the XML above
    assert found.instances.boxes.tolist() == [[[2, 6, 6], [4, 12, 12]]]
    assert found.instances.labels.tolist() == [0]
    assert (found.label_map > 0).sum() == 2 * 36
    assert read("num_raters=2").instances.labels.tolist() == [0, 1]
    assert read("num_raters=2", "malignancy=all").instances.labels.tolist() == [0, 0]  # 5 of one, 0 of the other
    for report in (tmp_path / "LIDC-IDRI-0001" / "annotations").glob("sr*"):
        report.unlink()
    assert read("classes=nodule").instances.labels.tolist() == [0]
    (error,) = [finding for finding in check(tmp_path) if finding.severity == "error"]
    assert "no report rates the malignancy" in error.problem


def test_pancreas_ct_lays_label_maps_on_their_series(tmp_path, rng):
    write_series(tmp_path / "PANCREAS_0001" / "study" / "series", volume(rng))
    label_map = np.zeros(SHAPE, np.uint8)
    label_map[1:3, 5:9, 10:20] = 1
    # Rows run upwards in the label files, and the origin is another.
    grid = Geometry(SHAPE, SPACING, (0.0, 0.0, 0.0), ((0, 0, 1), (0, -1, 0), (1, 0, 0)))
    write_label_map(tmp_path / "labels" / "label0001.nii.gz", label_map[:, ::-1], grid)
    dataset = open_dataset(tmp_path)
    assert (dataset.format, dataset.classes) == ("pancreas_ct", ("pancreas",))
    assert read_case(dataset["PANCREAS_0001"], dataset).instances.boxes.tolist() == [[[1, 5, 10], [3, 9, 20]]]
