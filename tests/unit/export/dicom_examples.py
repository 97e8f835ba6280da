"""A DICOM image of each kind, and predictions on it."""

import numpy as np
from pydicom import Dataset
from pydicom.uid import EnhancedMRImageStorage, NuclearMedicineImageStorage

from boxel.export import Prediction
from boxel.io import read_image
from boxel.types import Detections
from unit.datasets.dicom_samples import new_file, write_series
from unit.dicom_frames import FIRST, SPACING, put_pixels, write_frames, write_radiograph
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
    if kind == "slice":
        return write_series(folder, stored[:1].astype(np.int16))[0]
    if kind == "nuclear":
        return write_nuclear(folder / "x.dcm", stored)
    if kind == "mr":
        return write_frames(folder / "x.dcm", stored, storage=EnhancedMRImageStorage, Modality="MR")
    extra = [{"FrameContentSequence": {"StackID": str(1 + k // 3)}} for k in range(6)] if kind == "stack" else ()
    return write_frames(folder / "x.dcm", stored, order=SHUFFLED, extra=extra)


def write_nuclear(path, stored):
    """A multi-frame file without functional groups."""
    path.parent.mkdir(parents=True)
    data = new_file(path, NuclearMedicineImageStorage, Modality="NM", SeriesInstanceUID="1.2.826.4", SeriesNumber=1)
    detector = Dataset()
    detector.ImagePositionPatient, detector.ImageOrientationPatient = FIRST.tolist(), [1, 0, 0, 0, 1, 0]
    data.DetectorInformationSequence, data.InstanceNumber, data.NumberOfFrames = [detector], 1, len(stored)
    data.PixelSpacing, data.SpacingBetweenSlices = list(SPACING[1:]), SPACING[0]
    put_pixels(data, stored, {})
    data.save_as(path, enforce_file_format=True)
    return path


def predict(path):
    geometry = read_image(path).geometry
    boxes = BOXES[:, :, -len(geometry.shape) :]
    if geometry.shape[0] == 1:
        boxes = np.concatenate([np.full_like(boxes[..., :1], [[0], [1]]), boxes[..., 1:]], axis=-1)
    detections = Detections(boxes, np.array([0.25, 0.875], np.float32), np.array([1, 0]), geometry)
    return Prediction("case 1", detections, CLASSES, (path,))
