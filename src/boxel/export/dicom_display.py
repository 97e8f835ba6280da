"""How a DICOM image is shown: what its stored voxels mean, and the window in which viewers show them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from boxel.export.dicom_source import Source
from boxel.export.prediction import Prediction
from boxel.io import read_image
from boxel.io.dicom_frames import attribute_of
from boxel.io.display import visible_channels, window_of

WINDOW, RESCALE = ("FrameVOILUTSequence",), ("PixelValueTransformationSequence",)
SHAPES = ("LINEAR", "LINEAR_EXACT", "SIGMOID")  # of a window, PS3.3, C.11.2.1.2


class Values(NamedTuple):
    """What the stored voxels of a plane mean: slope * stored + intercept."""

    slope: float
    intercept: float
    unit: str


class Window(NamedTuple):
    """Centre and width of the values that are shown from black to white, and how: `VOILUTFunction`."""

    centre: float
    width: float
    shape: str


def values_of(source: Source, plane: int) -> Values:
    """What the stored voxels of a plane mean, as its file says."""
    slope, intercept, unit = (
        _first(source, plane, RESCALE, name) for name in ("RescaleSlope", "RescaleIntercept", "RescaleType")
    )
    return Values(1.0 if slope is None else float(slope), float(intercept or 0), str(unit or "US"))


def file_window(source: Source, plane: int) -> Window | None:
    """The first window of a plane that its file names; None if it names none."""
    centre, width, shape = (
        _first(source, plane, WINDOW, name) for name in ("WindowCenter", "WindowWidth", "VOILUTFunction")
    )
    if centre is None or width is None or float(width) < 1:
        return None
    return Window(float(centre), float(width), shape if shape in SHAPES else SHAPES[0])


def windows_of(prediction: Prediction, source: Source, planes: Sequence[int]) -> list[Window]:
    """The windows of some planes: those of the files, else that in which Boxel shows the whole image."""
    found = [file_window(source, plane) for plane in planes]
    if None not in found:
        return [window for window in found if window]
    low, high = shown_image(prediction)[1]
    own = Window((low + high) / 2, max(high - low, 1e-6), "LINEAR_EXACT")
    return [window or own for window in found]


def shown_image(prediction: Prediction) -> tuple[np.ndarray, tuple[float, float]]:
    """The visible channels `(c, *s)` of the image of a prediction, and the values that are shown black and white."""
    channels = visible_channels(read_image(prediction.image_files[0]).array, prediction.image_files)
    return channels, window_of(channels)


def _first(source: Source, plane: int, sequences: Sequence[str], name: str) -> Any:
    """The first value of an attribute, of which a plane may have several, such as windows; None if there is none."""
    header, frame = source.at(plane)
    groups = header.get("PerFrameFunctionalGroupsSequence")
    value = attribute_of(header, groups[frame - 1] if groups and frame else {}, sequences, (name,), {})
    return value if value is None or isinstance(value, str) else np.ravel(value)[0]
