"""A DICOM image of each kind, and predictions on it."""

import numpy as np

from boxel.export import Prediction
from boxel.io import read_image
from boxel.types import Detections
from unit.datasets.dicom_samples import write_series
from unit.dicom_frames import write_frames, write_radiograph
from unit.export.examples import CLASSES

SHAPE = (6, 32, 40)
SHUFFLED = (3, 0, 5, 1, 4, 2)
BOXES = np.array([[[1, 2, 3], [2, 5, 9]], [[3, 10, 11], [5, 14, 20]]], np.float32)


def write_image(kind, folder):
    stored = np.arange(np.prod(SHAPE)).reshape(SHAPE) % 4096
    if kind == "series":
        write_series(folder, stored.astype(np.int16))
        return folder
    if kind == "radiograph":
        return write_radiograph(folder / "x.dcm", stored[0])
    extra = [{"FrameContentSequence": {"StackID": str(1 + k // 3)}} for k in range(6)] if kind == "stack" else ()
    return write_frames(folder / "x.dcm", stored, order=SHUFFLED, extra=extra)


def predict(path):
    geometry = read_image(path).geometry
    boxes = BOXES[:, :, -len(geometry.shape) :]
    detections = Detections(boxes, np.array([0.25, 0.875], np.float32), np.array([1, 0]), geometry)
    return Prediction("case 1", detections, CLASSES, (path,))
