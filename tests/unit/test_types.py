"""The nouns: rows that belong together stay together; places in the world and in the array are the same places."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from boxel.types import Detections, Geometry, Instances


def detections(count: int, ndim: int) -> Detections:
    lower = np.arange(count * ndim, dtype=np.float32).reshape(count, ndim)
    boxes = np.stack([lower, lower + 1], axis=1)
    return Detections(boxes, np.linspace(0, 1, count).astype(np.float32), np.arange(count), Geometry.plain((9,) * ndim))


def test_an_empty_set_keeps_its_shape(ndim):
    assert Instances.empty(ndim).boxes.shape == Detections.empty(ndim).boxes.shape == (0, 2, ndim)
    assert len(detections(3, ndim)[:0]) == 0


def test_rows_are_chosen_in_every_column_and_the_geometry_stays(ndim):
    some = detections(5, ndim)[np.array([3, 1])]
    assert some.labels.tolist() == [3, 1]
    assert some.geometry == Geometry.plain((9,) * ndim)
    both = Detections.concatenate([some, some])
    assert both.labels.tolist() == [3, 1, 3, 1]


def test_columns_of_different_length_or_boxes_of_another_layout_are_refused():
    with pytest.raises(ValueError, match="scores has 2 rows"):
        Detections(np.zeros((3, 2, 2)), np.zeros(2), np.zeros(3))
    with pytest.raises(ValueError, match=r"\(n, 2, ndim\)"):
        Detections(np.zeros((3, 4)), np.zeros(3), np.zeros(3))


def test_a_set_holds_tensors_as_well_as_arrays(ndim):
    tensors = detections(4, ndim).map(torch.from_numpy)
    assert all(isinstance(column, torch.Tensor) for column in (tensors.boxes, tensors.scores, tensors.labels))
    assert tensors.geometry == Geometry.plain((9,) * ndim)
    chosen = Detections.concatenate([tensors[tensors.labels > 1], tensors[:1]])
    assert chosen.labels.tolist() == [2, 3, 0]
    assert isinstance(chosen.map(lambda column: column.numpy()).boxes, np.ndarray)


def test_the_types_can_be_imported_without_torch():
    code = "import sys, boxel.types; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_the_centre_of_the_first_voxel_is_the_origin(ndim):
    geometry = Geometry((4,) * ndim, (2.0,) * ndim, (5.0,) * ndim, tuple(map(tuple, np.eye(ndim))))
    assert np.allclose(geometry.to_world(np.full((1, ndim), 0.5)), 5.0)


@given(st.integers(0, 10_000), st.sampled_from([2, 3]))
def test_to_world_and_back_is_the_identity_for_any_orientation(seed, ndim):
    rng = np.random.default_rng(seed)
    direction, _ = np.linalg.qr(rng.normal(size=(ndim, ndim)))
    geometry = Geometry(
        (10,) * ndim,
        tuple(rng.uniform(0.2, 5, ndim)),
        tuple(rng.normal(scale=100, size=ndim)),
        tuple(map(tuple, direction.tolist())),
    )
    points = rng.uniform(-20, 20, (7, ndim))
    assert np.allclose(geometry.to_voxel(geometry.to_world(points)), points, atol=1e-8)
