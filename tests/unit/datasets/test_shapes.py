"""Kinds of annotation, mixed in one case: masks, boxes, points, ellipsoids, RECIST pairs, ignored regions."""

import json

import numpy as np
import pytest

from boxel.datasets.annotations import Shape, ball
from boxel.datasets.cases import read_case
from boxel.datasets.formats import open_dataset
from boxel.datasets.quality.check import check
from boxel.datasets.source_files import signature
from boxel.types import Geometry


def annotate(root, **values):
    (root / "labelsTr" / "a.json").write_text(json.dumps(values))


def test_all_kinds_are_kept_side_by_side(native, ndim):
    spot, ends = [5.0] * ndim, np.array([[2, 3, 3], [6, 9, 4], [3, 4, 8], [5, 5, 7]])[:, -ndim:].astype(float)
    shapes = [
        {"id": 11, "label": 1, "points": [spot], "diameter": 4},
        {"label": 0, "points": [spot], "axes": (np.eye(ndim) * [1, 2, 3][-ndim:]).tolist()},
        {"id": 13, "label": 0, "points": ends.tolist()},
        {"id": 14, "label": 0, "points": [[1] * ndim, [9] * ndim], "ignore": True},
    ]
    boxed = {"id": 5, "label": 1, "lower": [1] * ndim, "upper": [4.5] * ndim}
    annotate(native, instances={"1": 0, "2": 1}, boxes=[boxed], shapes=shapes)
    dataset = open_dataset(native)
    assert dataset["a"].labels == [1, 0, 0, 0, 1, 1]  # for stratification; the ignored one is none
    found = read_case(dataset["a"], dataset)
    boxes = dict(zip(found.instances.ids.tolist(), found.instances.boxes.tolist(), strict=True))
    assert set(boxes) == {1, 2, 5, 11, 7, 13}  # numbered on after the last box where there is none
    assert boxes[11] == [[3] * ndim, [7] * ndim]
    assert boxes[7] == [[4, 3, 2][-ndim:], [6, 7, 8][-ndim:]]
    assert boxes[13] == [ends.min(axis=0).tolist(), ends.max(axis=0).tolist()]
    assert dict(zip(found.instances.ids.tolist(), found.instances.has_mask.tolist(), strict=True))[2]
    assert found.ignored.boxes.tolist() == [[[1] * ndim, [9] * ndim]]
    assert native / "labelsTr" / "a.nii.gz" in {type(native)(name) for name in signature(dataset["a"])}
    assert not [finding for finding in check(native) if finding.severity == "error"]


def test_a_rotated_ellipsoid_is_touched_on_all_sides():
    c, s = np.cos(0.5), np.sin(0.5)
    axes = ((3 * c, 3 * s), (-s, c))
    lower, upper = Shape(0, ((10.0, 20.0),), axes).box(Geometry.plain((50, 50)))
    angles = np.linspace(0, 2 * np.pi, 10_000)
    outline = np.outer(np.cos(angles), axes[0]) + np.outer(np.sin(angles), axes[1]) + (10, 20)
    np.testing.assert_allclose(lower, outline.min(axis=0), atol=1e-5)
    np.testing.assert_allclose(upper, outline.max(axis=0), atol=1e-5)


def test_a_ball_in_mm_has_the_same_extent_on_an_oblique_grid():
    c, s = np.cos(0.5), np.sin(0.5)
    grid = Geometry((50, 50, 50), (2.0, 1.0, 0.5), (1.0, 2.0, 3.0), ((0, -s, c), (0, c, s), (1, 0, 0)))
    middle = np.array([[20.5, 10.5, 30.5]])
    box = ball(0, grid.to_world(middle)[0], 6.0).box(grid)
    np.testing.assert_allclose(box, middle + np.array([[-1.5, -3, -6], [1.5, 3, 6]]), atol=1e-9)


@pytest.mark.parametrize(
    "entry",
    [
        {"label": 0},
        {"label": 0, "points": [[1, 2]], "frame": "sky"},
        {"label": "x", "points": [[5, 5, 5]], "diameter": 3},
        {"label": 0, "points": [[5, 5, 5]]},
        {"label": 0, "points": [["a", 1, 2]], "diameter": 3},
        {"label": 0, "points": [[5, 5, 5]], "diameter": -3},
        {"label": 0, "points": 3, "diameter": 3},
        {"id": 1, "label": 0, "points": [[5, 5, 5]], "diameter": 3},
        {"label": 0, "points": [[500, 500, 500]], "diameter": 3},
        7,
    ],
)
def test_a_wrong_shape_is_an_error_of_its_case(native, ndim, entry):
    if isinstance(entry, dict) and isinstance(entry.get("points"), list):
        entry = {**entry, "points": [point[:ndim] for point in entry["points"]]}
    annotate(native, instances={"1": 0, "2": 1}, shapes=[entry])
    errors = [finding for finding in check(native) if finding.severity == "error"]
    assert [(error.case, error.file.name) for error in errors] == [("a", "a.json")]
