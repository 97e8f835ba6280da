"""Contours of structure sets: copies, holes, open ones, planes between those of the image; segments without voxels."""

import numpy as np
import pytest

from boxel.datasets.cases import read_case
from boxel.datasets.formats import open_dataset
from boxel.datasets.quality.check import check

pydicom = pytest.importorskip("pydicom")

from .dicom_samples import SHAPE, volume, write_segmentation, write_series, write_structures  # noqa: E402


def square(x, y, size):
    """Between pixel centres, so that it encloses `size * size` of them."""
    x, y = x - 0.5, y - 0.5
    return [(x, y), (x + size, y), (x + size, y + size), (x, y + size)]


@pytest.fixture
def root(tmp_path, rng):
    write_series(tmp_path / "ct", volume(rng))
    return tmp_path


def area(root):
    """Voxels of all objects on plane 2."""
    dataset = open_dataset(root)
    return int((read_case(dataset.cases[0], dataset).label_map[2] > 0).sum())


def problems(root, severity):
    other = ("Hounsfield", "smaller than", "objects in the training", "in no training case")
    found = [one for one in check(root, workers=0) if one.severity == severity]
    return [f"{one.problem}; {one.suggested_fix}" for one in found if not any(text in one.problem for text in other)]


OUTER, HOLE, ISLAND, OTHER = square(5, 5, 10), square(7, 7, 6), square(9, 9, 2), square(12, 12, 10)


@pytest.mark.parametrize(
    ("contours", "voxels", "copies"),
    [
        ([OUTER], 100, 0),
        ([OUTER, OUTER], 100, 1),
        ([OUTER[2:] + OUTER[:2], OUTER[::-1], OUTER], 100, 2),  # elsewhere begun, the other way round
        ([HOLE, OUTER], 100 - 36, 0),
        ([OUTER, HOLE, OUTER, HOLE], 100 - 36, 2),
        ([ISLAND, HOLE, OUTER], 100 - 36 + 4, 0),
        ([OUTER, OTHER], 100 + 100 - 9, 0),
        ([OUTER, OTHER, square(13, 13, 1)], 100 + 100 - 9 - 1, 0),  # a hole in both
        ([OUTER, square(20, 20, 3)], 100 + 9, 0),
    ],
)
def test_contours_in_each_other_are_holes_and_others_add_up(root, contours, voxels, copies):
    write_structures(root / "rs.dcm", {"GTV": [(2, contour) for contour in contours]})
    assert area(root) == voxels
    what = "1 contour of structure GTV is a copy" if copies == 1 else f"{copies} contours of structure GTV are copies"
    assert problems(root, "warning") == ([f"{what} of others; remove the copies"] if copies else [])


@pytest.mark.parametrize(
    ("contours", "skips"),
    [
        ([(1, OUTER), (3, OUTER)], True),
        ([(1, OUTER), (2, OUTER), (3, OUTER)], False),
        ([(1, OUTER), (3, square(20, 20, 3))], False),  # two objects
    ],
)
def test_contours_that_skip_planes_are_reported(root, contours, skips):
    write_structures(root / "rs.dcm", {"GTV": contours})
    warnings = problems(root, "warning")
    assert len(warnings) == skips
    assert all(text.startswith("the contours of structure GTV skip planes") for text in warnings)


def test_contours_of_the_exclusive_type_are_combined_by_exclusive_or(root):
    write_structures(root / "rs.dcm", {"GTV": [(2, contour, "CLOSEDPLANAR_XOR") for contour in (OUTER, OTHER)]})
    assert area(root) == 100 + 100 - 2 * 9


def test_structures_with_open_contours_only_are_an_error_until_others_are_chosen(root):
    write_structures(root / "rs.dcm", {"GTV": [(2, OUTER)], "line": [(2, OTHER, "OPEN_PLANAR")]})
    (error,) = problems(root, "error")
    assert "structure line has no closed contour, only OPEN_PLANAR; close its contours" in error
    dataset = open_dataset(root, options=["classes=GTV"])
    assert len(read_case(dataset.cases[0], dataset).instances) == 1


def test_points_and_open_contours_beside_closed_ones_and_empty_structures_are_warnings(root):
    regions = {
        "GTV": [(2, OUTER), (3, OTHER, "OPEN_PLANAR"), (3, OTHER[:1], "POINT")],
        "isocentre": [(2, OTHER[:1], "POINT")],
        "empty": [],
        "tiny": [(2, [(20.1, 20.1), (20.2, 20.1), (20.2, 20.2)])],
    }
    write_structures(root / "rs.dcm", regions)
    assert area(root) == 100
    assert sorted(problems(root, "warning")) == [
        "2 contours of structure GTV (POINT, OPEN_PLANAR) enclose nothing and are left out; "
        "close them if they outline objects",
        "2 structures have no closed contour and no object: empty, isocentre; outline them if they are objects",
        "structure tiny encloses no voxel; draw it larger if it is an object",
    ]


@pytest.mark.parametrize(
    ("offset", "severity", "text"),
    [
        (0.05, "", ""),
        (-0.2, "warning", "contours of structure GTV lie up to 0.5 mm from the planes"),  # planes are 2.5 mm apart
        (0.5, "error", "a contour lies between two planes, 1.25 mm from the nearest"),
        (-2.9, "error", "a contour lies on plane -1, outside the image"),
    ],
)
def test_contours_between_planes_are_not_moved_silently(root, offset, severity, text):
    write_structures(root / "rs.dcm", {"GTV": [(2 + offset, OUTER)]})
    for kind in ("error", "warning"):
        assert [text in problem for problem in problems(root, kind)] == [True] * (kind == severity)
    if severity != "error":
        assert area(root) == 100


@pytest.mark.parametrize(("kind", "limit"), [("BINARY", ""), ("FRACTIONAL", " above 127.5, half of Maximum")])
def test_segments_without_voxels_are_a_warning(root, kind, limit):
    files = sorted((root / "ct").iterdir())
    weak, strong = np.zeros((2, *SHAPE), np.float32)
    weak[2, 3:9, 3:9] = 0.4 if kind == "FRACTIONAL" else 0
    strong[2, 13:19, 3:9] = 1
    write_segmentation(root / "seg.dcm", files, {"liver": weak, "lesion": strong}, kind)
    dataset = open_dataset(root)
    assert len(read_case(dataset.cases[0], dataset).instances) == 1
    (warning,) = problems(root, "warning")
    assert f"1 segment has no voxel{limit}" in warning
    assert ": Liver; " in warning


@pytest.mark.parametrize(("kind", "severity"), [("RTSTRUCT", "error"), ("SEG", "warning")])
def test_annotations_in_another_frame_of_reference_than_their_image_are_reported(root, kind, severity):
    files = sorted((root / "ct").iterdir())
    mask = np.zeros(SHAPE, bool)
    mask[2, 3:9, 3:9] = True
    if kind == "SEG":
        write_segmentation(root / "a.dcm", files, {"lesion": mask})
        data = pydicom.dcmread(root / "a.dcm")
        data.FrameOfReferenceUID = "1.2.826.10"
        data.save_as(root / "a.dcm")
    else:
        write_structures(root / "a.dcm", {"GTV": [(2, OUTER)]}, frame_uid="1.2.826.10")
    (problem,) = problems(root, severity)
    assert "its frame of reference is 1.2.826.10, that of its image is 1.2.826.9; export it again" in problem
