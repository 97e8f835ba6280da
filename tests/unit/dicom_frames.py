"""Small multi-frame and single-frame DICOM images, made as the standard says."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")

from pydicom.dataset import Dataset  # noqa: E402
from pydicom.uid import DigitalXRayImageStorageForPresentation, EnhancedCTImageStorage, generate_uid  # noqa: E402

from unit.datasets.dicom_samples import new_file  # noqa: E402

FIRST = np.array([-20.0, 30.0, -100.0])
SPACING = (2.5, 0.8, 0.7)


def group(**sequences: Mapping[str, Any]) -> Dataset:
    """A functional group of sequences with one item each."""
    whole = Dataset()
    for name, values in sequences.items():
        item = Dataset()
        for keyword, value in values.items():
            setattr(item, keyword, value)
        setattr(whole, name, [item])
    return whole


def write_frames(
    path: Path,
    stored: np.ndarray,
    *,
    order: Sequence[int] | None = None,
    places: Sequence[float] | None = None,
    axes=((1, 0, 0), (0, 1, 0)),
    step=None,
    slopes: Sequence[float] | None = None,
    intercept: float = -1024.0,
    extra: Sequence[Mapping[str, Mapping[str, Any]]] = (),
    storage: str = EnhancedCTImageStorage,
    spacings: Sequence[Sequence[float]] | None = None,
    **values: Any,
) -> Path:
    """One file of all planes of `stored`, with positions and rescaling in its functional groups.

    Args:
        order: the planes as they follow each other in the file.
        places: multiples of the step along the normal at which the planes lie.
        slopes: one rescale slope per plane; one that all share if None.
        extra: further functional groups of each plane.
        spacings: pixel spacing of each plane, if they differ.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    step = np.cross(*axes) * SPACING[0] if step is None else np.asarray(step, float)
    order = range(len(stored)) if order is None else order
    places = range(len(stored)) if places is None else places
    data = new_file(path, storage, Modality="CT", SeriesInstanceUID="1.2.826.2", SeriesNumber=1, InstanceNumber=1)
    shared = {"PlaneOrientationSequence": {"ImageOrientationPatient": [float(x) for x in np.ravel(axes)]}}
    if spacings is None:
        shared["PixelMeasuresSequence"] = {"PixelSpacing": list(SPACING[1:]), "SliceThickness": 5.0}
    if slopes is None:
        shared["PixelValueTransformationSequence"] = rescale(1.0, intercept)
    data.SharedFunctionalGroupsSequence = [group(**shared)]
    frames = []
    for k in order:
        own = {"PlanePositionSequence": {"ImagePositionPatient": [float(x) for x in FIRST + places[k] * step]}}
        if slopes is not None:
            own["PixelValueTransformationSequence"] = rescale(slopes[k], intercept)
        if spacings is not None:
            own["PixelMeasuresSequence"] = {"PixelSpacing": list(spacings[k]), "SliceThickness": 5.0}
        own["FrameContentSequence"] = {
            "StackID": "1",
            "InStackPositionNumber": k + 1,
            "DimensionIndexValues": [1, k + 1],
        }
        for name, items in (extra[k] if extra else {}).items():
            own[name] = own.get(name, {}) | dict(items)
        frames.append(group(**own))
    data.PerFrameFunctionalGroupsSequence = frames
    data.NumberOfFrames = len(frames)
    put_pixels(data, stored[list(order)], values)
    data.save_as(path, enforce_file_format=True)
    return path


def rescale(slope: float, intercept: float) -> dict[str, Any]:
    return {"RescaleSlope": slope, "RescaleIntercept": intercept, "RescaleType": "HU"}


def put_pixels(data: Dataset, stored: np.ndarray, values: Mapping[str, Any]) -> None:
    data.Rows, data.Columns = stored.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.PixelData = stored.astype(np.uint16).tobytes()
    for name, value in values.items():
        setattr(data, name, value)


def write_radiograph(path: Path, stored: np.ndarray, **values: Any) -> Path:
    """A digital X-ray image, which has no position in the patient; a series UID may be given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = new_file(path, DigitalXRayImageStorageForPresentation, Modality="DX", SeriesInstanceUID=generate_uid())
    del data.FrameOfReferenceUID
    data.SeriesNumber, data.InstanceNumber, data.ImagerPixelSpacing = 1, 1, list(SPACING[1:])
    put_pixels(data, stored, values)
    data.save_as(path, enforce_file_format=True)
    return path
