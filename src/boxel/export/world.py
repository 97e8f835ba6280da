"""Boxes as corners in the world, LPS mm with three coordinates: those of a 2D image get z = 0."""

import itertools
from collections.abc import Mapping
from pathlib import Path

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


def geometry_of(case: str, path: Path, geometries: Mapping[str, Geometry]) -> Geometry:
    """The case's geometry, which `path` does not tell.

    Raises:
        ValueError: it is missing.
    """
    if case not in geometries:
        raise ValueError(
            f"{path}: positions are in mm and the image of case {case!r} is not known; give the folder of the images "
            "with --images"
        )
    return geometries[case]
