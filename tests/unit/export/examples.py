"""Predictions on grids as they occur: straight, flipped and oblique."""

import numpy as np

from boxel.export import DatasetInfo, Prediction, get_format
from boxel.types import Detections, Geometry

CLASSES = ("benign", "malignant")


def grid(ndim, kind, shape=(24, 30, 36)):
    """A geometry: `plain`, `flipped` (every axis runs against the world's) or `oblique` (a rotation, left-handed)."""
    rng = np.random.default_rng(3)
    direction = np.eye(ndim)[:, ::-1]
    if kind == "flipped":
        direction = -direction
    if kind == "oblique":
        direction, _ = np.linalg.qr(rng.normal(size=(ndim, ndim)))
    return Geometry(shape[-ndim:], (2.5, 0.7, 1.3)[-ndim:], (-180.5, 33.25, 712.0)[:ndim],
                    tuple(map(tuple, direction.tolist())))  # fmt: skip


def predict(geometry, count=4, case="case 1", seed=0):
    """Boxes with fractions of a voxel, some beyond the border."""
    rng = np.random.default_rng(seed)
    shape = np.array(geometry.shape)
    lower = rng.uniform(-2, shape - 4, (count, len(shape)))
    boxes = np.stack([lower, lower + rng.uniform(0.2, 9, lower.shape)], 1).astype(np.float32)
    scores = rng.uniform(0, 1, count).round(6).astype(np.float32)
    labels = np.arange(count) % 2
    return Prediction(case, Detections(boxes, scores, labels, geometry), CLASSES)


def whole_voxels(geometry, case="case 1", classes=CLASSES):
    """Two boxes of whole voxels that do not touch, the second one of the first class again."""
    d = len(geometry.shape)
    boxes = np.array([[[1, 2, 3][-d:], [2, 5, 9][-d:]], [[12, 20, 14][-d:], [15, 24, 30][-d:]]], np.float32)
    scores = np.array([0.25, 0.875], np.float32)
    return Prediction(case, Detections(boxes, scores, np.zeros(2, int), geometry), classes)


def read(name, path, classes=CLASSES, geometries=None):
    """The detections of each case in a file or folder."""
    predictions = get_format(name).reader(path, DatasetInfo(classes, geometries or {}))
    return {prediction.case: prediction.detections for prediction in predictions}


def same(detections, expected, atol=1e-3):
    """The same detections, in any order."""
    order, wanted = np.argsort(detections.scores), np.argsort(expected.scores)
    np.testing.assert_allclose(detections.boxes[order], expected.boxes[wanted], atol=atol)
    np.testing.assert_allclose(detections.scores[order], expected.scores[wanted], atol=2e-6)
    np.testing.assert_array_equal(detections.labels[order], expected.labels[wanted])
