"""Objects in DICOM segmentations (SEG) and structure sets (RTSTRUCT), on the grid of their image.

Frames are placed here and not by `highdicom.seg.Segmentation.get_volume`: that refuses segmentations of a tilted
gantry and frames with empty planes between them if `SpacingBetweenSlices` is missing; both occur.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from boxel.datasets.annotations import Annotator
from boxel.datasets.label_maps import Connectivity, Mask, components, overlay
from boxel.datasets.polygons import fill_polygon
from boxel.datasets.problems import InputError
from boxel.types import Geometry, Instances

__all__ = ["DicomObjects", "names_in", "pydicom_module", "segments"]

AGAIN = "export it again for this image series"


@dataclass(frozen=True)
class DicomObjects(Annotator):
    """Segments of SEG files and regions of interest of RTSTRUCT files.

    Attributes:
        classes: the class of each name; segments with other names are left out.
        by_label: names are segment labels instead of property types.
        split: every connected component is an object; otherwise every segment is one.
    """

    paths: tuple[Path, ...]
    classes: Mapping[str, int]
    by_label: bool = False
    split: bool = True
    connectivity: Connectivity = "corner"
    min_size: int = 1

    @property
    def files(self) -> tuple[Path, ...]:
        return self.paths

    def read(self, geometry: Geometry) -> tuple[np.ndarray, Instances]:
        masks = []
        for path in self.paths:
            try:
                for name, mask in _masks(path, geometry, self.by_label):
                    if name in self.classes and mask.any():
                        masks += [(self.classes[name], part) for part in self._parts(mask)]
            except InputError:
                raise
            except Exception as error:  # damaged files raise nearly anything
                raise InputError(path, f"cannot be read ({error})"[:300], "copy or export it again") from None
        return overlay(masks, geometry.shape)

    def _parts(self, mask: np.ndarray) -> list[Mask]:
        whole = Mask.crop(mask)
        if not self.split:
            return [whole] if mask.sum() >= self.min_size else []
        parts, instances = components(whole.voxels.astype(np.int32), {1: 0}, self.connectivity, self.min_size)
        pieces = [Mask.crop(parts == number) for number in instances.ids]
        return [Mask(tuple(np.add(piece.lower, whole.lower).tolist()), piece.voxels) for piece in pieces]


def pydicom_module() -> Any:
    """The module `pydicom`, configured not to warn about invalid header values.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import pydicom
    except ImportError:
        raise ValueError("reading DICOM annotations needs pydicom; pip install 'boxel[dicom]'") from None
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    return pydicom


def names_in(path: Path, by_label: bool) -> list[str]:
    """The names of the segments or regions of interest in a file."""
    header = pydicom_module().dcmread(path, stop_before_pixels=True)
    if header.Modality == "RTSTRUCT":
        return [str(region.ROIName) for region in header.StructureSetROISequence]
    return [_name(segment, by_label) for segment in header.SegmentSequence if int(segment.SegmentNumber)]


def _name(segment: Any, by_label: bool) -> str:
    types = segment.get("SegmentedPropertyTypeCodeSequence", ())
    return str(types[0].CodeMeaning if types and not by_label else segment.SegmentLabel)


def _masks(path: Path, geometry: Geometry, by_label: bool) -> Iterator[tuple[str, np.ndarray]]:
    data = pydicom_module().dcmread(path)
    if data.Modality == "RTSTRUCT":
        yield from _structures(path, data, geometry)
    else:
        yield from ((_name(segment, by_label), mask) for segment, mask in segments(path, data, geometry))


def segments(path: Path, data: Any, geometry: Geometry) -> Iterator[tuple[Any, np.ndarray]]:
    """The header of each segment of a SEG file, and its mask on the grid of the image."""
    frames = data.pixel_array
    frames = frames if int(data.get("NumberOfFrames", 1)) > 1 else frames.reshape(1, *frames.shape[-2:])
    threshold = int(data.get("MaximumFractionalValue", 1)) / 2 if data.get("SegmentationType") == "FRACTIONAL" else 0
    shared = data.SharedFunctionalGroupsSequence[0]
    places = []
    for frame in data.PerFrameFunctionalGroupsSequence:
        orientation = _group(frame, shared, "PlaneOrientationSequence").ImageOrientationPatient
        position = _group(frame, shared, "PlanePositionSequence").ImagePositionPatient
        spacing = _group(frame, shared, "PixelMeasuresSequence").PixelSpacing
        at, axes, step = (np.array(value, float) for value in (position, orientation, spacing))
        places.append(_place(path, at, axes, step, frames.shape[1:], geometry))
    for segment in data.SegmentSequence:
        number = int(segment.SegmentNumber)
        if number == 0:  # the background of a LABELMAP
            continue
        mask = np.zeros(geometry.shape, bool)
        for pixels, frame, place in zip(frames, data.PerFrameFunctionalGroupsSequence, places, strict=True):
            if data.get("SegmentationType") == "LABELMAP":
                mask[place] |= pixels == number
            elif int(_group(frame, shared, "SegmentIdentificationSequence").ReferencedSegmentNumber) == number:
                mask[place] |= pixels > threshold
        yield segment, mask


def _group(frame: Any, shared: Any, name: str) -> Any:
    return (frame.get(name) or shared.get(name))[0]


def _place(
    path: Path,
    position: np.ndarray,
    orientation: np.ndarray,
    spacing: np.ndarray,
    shape: tuple[int, ...],
    geometry: Geometry,
) -> tuple[int | slice, ...]:
    """The position of a frame of `shape` in the image: plane, rows, columns.

    The image of a tilted gantry is larger than its slices; a frame is moved to the nearest voxels of it.
    """
    plane, *corner = (geometry.to_voxel(position[None])[0] - 0.5).tolist()
    axes = np.asarray(geometry.direction)[:, [2, 1]].T.ravel()
    first = np.rint(corner).astype(int)
    same = np.allclose(orientation, axes, atol=1e-3) and np.allclose(spacing, geometry.spacing[1:], rtol=1e-3)
    inside = (first >= 0).all() and (first + shape <= geometry.shape[1:]).all()
    apart = max(abs(plane - round(plane)), *np.abs(corner - first) if shape == geometry.shape[1:] else (0,))
    if not (same and inside and apart <= 0.1):
        raise InputError(
            path, f"a frame of {shape} at {position.round(2).tolist()} mm is not on the image's grid", AGAIN
        )
    if not 0 <= round(plane) < geometry.shape[0]:
        raise InputError(path, f"a frame at {position.round(2).tolist()} mm lies outside the image", AGAIN)
    return (round(plane), *(slice(int(a), int(a) + n) for a, n in zip(first, shape, strict=True)))


def _structures(path: Path, data: Any, geometry: Geometry) -> Iterator[tuple[str, np.ndarray]]:
    names = {int(region.ROINumber): str(region.ROIName) for region in data.StructureSetROISequence}
    for contours in data.get("ROIContourSequence", ()):
        mask = np.zeros(geometry.shape, bool)
        for contour in contours.get("ContourSequence", ()):
            if contour.ContourGeometricType != "CLOSED_PLANAR":
                continue
            points = geometry.to_voxel(np.array(contour.ContourData, float).reshape(-1, 3))
            plane = int(np.floor(np.median(points[:, 0])))
            if np.ptp(points[:, 0]) > 0.5:
                raise InputError(path, "a contour does not lie in a plane of the image", AGAIN)
            if not 0 <= plane < geometry.shape[0]:
                raise InputError(path, f"a contour lies on plane {plane}, outside the image", AGAIN)
            mask[plane] ^= fill_polygon(points[:, 1:], geometry.shape[1:])  # a contour inside another is a hole
        yield names.get(int(contours.ReferencedROINumber), ""), mask
