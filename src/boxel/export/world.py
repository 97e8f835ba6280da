"""Boxes as corners in the world, LPS mm with three coordinates: those of a 2D image get z = 0."""

import itertools

import numpy as np

from boxel.types import Geometry


def in_space(points: np.ndarray) -> np.ndarray:
    """Points `(..., d)` with zeros appended to three coordinates."""
    return np.pad(points, [(0, 0)] * (points.ndim - 1) + [(0, 3 - points.shape[-1])])


def box_corners(box: np.ndarray) -> np.ndarray:
    """The `2**d` corners of a box `(2, d)`, `(2**d, d)`; the last axis turns fastest."""
    return np.array(list(itertools.product(*box.T)))


def box_around(points: np.ndarray, geometry: Geometry) -> np.ndarray:
    """The voxel box `(2, d)` around world points `(n, 3)`."""
    voxels = geometry.to_voxel(np.asarray(points, np.float64)[:, : len(geometry.shape)])
    return np.stack([voxels.min(axis=0), voxels.max(axis=0)])
