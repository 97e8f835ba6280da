"""Objects in DICOM segmentations (SEG), structure sets (RTSTRUCT) and reports (SR), on the grid of their image.

Frames are placed here and not by `highdicom.seg.Segmentation.get_volume`: that refuses segmentations of a tilted
gantry and frames with empty planes between them if `SpacingBetweenSlices` is missing; both occur.
"""

import itertools
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from boxel.datasets.annotations import Annotator, Shapes
from boxel.datasets.dicom_reports import FrameKey, frame_keys, regions_in, shapes_in
from boxel.datasets.dicom_structures import AGAIN, structures, unused_contours
from boxel.datasets.label_maps import Connectivity, Mask, components, overlay
from boxel.datasets.problems import InputError, some
from boxel.inputs.folders import listing
from boxel.io.dicom_damage import is_dicom
from boxel.io.dicom_frames import frames_of, pydicom_module, read_pixels
from boxel.io.dicom_stack import Slice
from boxel.types import Geometry, Instances
from boxel.wording import counted

__all__ = ["DicomObjects", "names_in", "segments"]

SAME = 0.5  # intersection over union from which the boxes of two files are of one object


@dataclass(frozen=True)
class DicomObjects(Annotator):
    """Segments of SEG files, regions of interest of RTSTRUCT files, and regions of SR files, which become boxes.

    Attributes:
        classes: the class of each name; segments with other names are left out.
        by_label: names are segment labels instead of property types.
        split: every connected component is an object; otherwise every segment is one.
        image: the file or the folder of the image, to whose frames annotations may refer.
    """

    paths: tuple[Path, ...]
    classes: Mapping[str, int]
    by_label: bool = False
    split: bool = True
    connectivity: Connectivity = "corner"
    min_size: int = 1
    image: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        return self.paths

    def read(self, geometry: Geometry) -> tuple[np.ndarray, Instances]:
        masks, shapes = [], []
        sources = _source_frames(self.image)
        for path in self.paths:
            with _naming(path):
                data = pydicom_module().dcmread(path)
                if data.Modality == "SR":
                    shapes += shapes_in(path, data, self.classes, self.by_label, geometry, sources)
                    continue
                for name, mask in self._masks(path, data, geometry, sources):
                    if name in self.classes and mask.any():
                        masks += [(self.classes[name], part) for part in self._parts(mask)]
        label_map, drawn = overlay(masks, geometry.shape)
        numbers = tuple(range(len(drawn) + 1, len(drawn) + len(shapes) + 1))
        return label_map, Instances.concatenate([drawn, Shapes(tuple(shapes), numbers).read(geometry)[1]])

    def remarks(self, geometry: Geometry) -> tuple[str, ...]:
        """Contours and segments that are no objects, and objects of one class that overlap by half in two files."""
        several = len(self.paths) > 1
        own = [(path, remark) for path in self.paths for remark in self._unused(path, geometry)]
        return (
            *(f"{self._name(path)}: {remark}" if several else remark for path, remark in own),
            *self._shared(geometry),
        )

    def _name(self, path: Path) -> str:
        """The file, with the folders in which it differs from the others."""
        return str(path.relative_to(os.path.commonpath([file.parent for file in self.paths])))

    def _unused(self, path: Path, geometry: Geometry) -> Iterator[str]:
        """Remarks about contours and segments of a file that are empty or not used as they are stored."""
        data = pydicom_module().dcmread(path)
        if data.Modality == "RTSTRUCT":
            yield from unused_contours(path, data, self.classes)
            for *_, remarks in structures(path, data, geometry, self.classes):
                yield from remarks
        elif data.Modality == "SEG":
            drawn = ((_name(segment, self.by_label), planes) for segment, planes in _planes(data))
            empty = [name for name, planes in drawn if name in self.classes and not any(p.any() for _, p in planes)]
            if empty:
                limit = _threshold(data)
                above = f" above {limit:g}, half of MaximumFractionalValue" if limit else ""
                fix = "draw them, or rescale their values" if limit else "draw them"
                number = counted(len(empty), "segment has", "segments have")
                yield f"{number} no voxel{above}: {some(empty)}; {fix} if they are objects"

    def _shared(self, geometry: Geometry) -> tuple[str, ...]:
        if len(self.paths) < 2:
            return ()
        import torch  # not above: most readers can do without

        from boxel.ops import iou

        own = [replace(self, paths=(path,)).read(geometry)[1] for path in self.paths]
        remarks = []
        for (first, mine), (second, others) in itertools.combinations(zip(self.paths, own, strict=True), 2):
            same = mine.labels[:, None] == others.labels
            overlap = iou(torch.from_numpy(mine.boxes), torch.from_numpy(others.boxes)).numpy()
            twice = int((same & (overlap >= SAME)).any(axis=0).sum())
            if twice:
                names = f"{self._name(second)} has {counted(twice, 'object')} that {self._name(first)} has too"
                problem = f"{names}: same class and place"
                remarks.append(f"{problem}; keep one version of the annotation, or one reader's")
        return tuple(remarks)

    def _masks(
        self, path: Path, data: Any, geometry: Geometry, sources: Mapping[FrameKey, Slice]
    ) -> Iterator[tuple[str, np.ndarray]]:
        if data.Modality == "RTSTRUCT":
            unused_contours(path, data, self.classes)
            yield from ((name, mask) for name, mask, _ in structures(path, data, geometry, self.classes))
        else:
            for segment, mask in segments(path, data, geometry, sources):
                yield _name(segment, self.by_label), mask

    def _parts(self, mask: np.ndarray) -> list[Mask]:
        whole = Mask.crop(mask)
        if not self.split:
            return [whole] if mask.sum() >= self.min_size else []
        parts, instances = components(whole.voxels.astype(np.int32), {1: 0}, self.connectivity, self.min_size)
        pieces = [Mask.crop(parts == number) for number in instances.ids]
        return [Mask(tuple(np.add(piece.lower, whole.lower).tolist()), piece.voxels) for piece in pieces]


def _source_frames(image: Path | None) -> dict[FrameKey, Slice]:
    """The frames of an image, by what annotations call them."""
    frames: dict[FrameKey, Slice] = {}
    for file in listing(image) if image is not None and image.is_dir() else [image] if image else []:
        if file.is_file() and is_dicom(file):
            header = pydicom_module().dcmread(file, stop_before_pixels=True)
            if "Rows" in header:
                frames |= {(entry.uid, entry.frame): entry for entry in frames_of(header, file)}
    return frames


def names_in(path: Path, by_label: bool) -> list[str]:
    """The names of the segments or regions of interest in a file."""
    with _naming(path):
        header = pydicom_module().dcmread(path, stop_before_pixels=True)
        if header.Modality == "RTSTRUCT":
            return [str(region.ROIName) for region in header.StructureSetROISequence]
        if header.Modality == "SR":
            return [name for name, _ in regions_in(header, by_label)]
        return [_name(segment, by_label) for segment in header.SegmentSequence if int(segment.SegmentNumber)]


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Every error names the file."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # damaged files raise nearly anything
        raise InputError(path, f"cannot be read ({error})"[:300], "copy or export it again") from None


def _name(segment: Any, by_label: bool) -> str:
    types = segment.get("SegmentedPropertyTypeCodeSequence", ())
    return str(types[0].CodeMeaning if types and not by_label else segment.SegmentLabel)


def segments(
    path: Path, data: Any, geometry: Geometry, sources: Mapping[FrameKey, Slice] | None = None
) -> Iterator[tuple[Any, np.ndarray]]:
    """The header of each segment of a SEG file, and its mask on the grid of the image.

    Frames without position lie where the frames of the image lie that they refer to, by `sources`.
    """
    shared = data.SharedFunctionalGroupsSequence[0]
    shape = (int(data.Rows), int(data.Columns))
    groups = data.PerFrameFunctionalGroupsSequence
    places = [_place_of(path, frame, shared, shape, geometry, sources or {}) for frame in groups]
    for segment, planes in _planes(data):
        mask = np.zeros(geometry.shape, bool)
        for frame, pixels in planes:
            place = places[frame]
            if place is not None:  # of this image
                mask[place] |= pixels
        yield segment, mask


def _threshold(data: Any) -> float:
    """The value above which a voxel of a FRACTIONAL segmentation belongs to its segment; 0 for other types."""
    return int(data.get("MaximumFractionalValue", 1)) / 2 if data.get("SegmentationType") == "FRACTIONAL" else 0


def _planes(data: Any) -> Iterator[tuple[Any, list[tuple[int, np.ndarray]]]]:
    """The header of each segment of a SEG file, and its masks with the indices of their frames."""
    frames = read_pixels(data, Path(data.filename))
    frames = frames if int(data.get("NumberOfFrames", 1)) > 1 else frames.reshape(1, *frames.shape[-2:])
    groups, threshold = data.PerFrameFunctionalGroupsSequence, _threshold(data)
    for segment in data.SegmentSequence:
        number = int(segment.SegmentNumber)
        if number == 0:  # the background of a LABELMAP
            continue
        if data.get("SegmentationType") == "LABELMAP":
            yield segment, [(index, pixels == number) for index, pixels in enumerate(frames)]
            continue
        shared = data.SharedFunctionalGroupsSequence[0]
        numbers = [_group(frame, shared, "SegmentIdentificationSequence").ReferencedSegmentNumber for frame in groups]
        yield segment, [(k, frames[k] > threshold) for k, own in enumerate(numbers) if int(own) == number]


def _group(frame: Any, shared: Any, name: str) -> Any:
    return (frame.get(name) or shared.get(name))[0]


def _place_of(
    path: Path, frame: Any, shared: Any, shape: tuple[int, ...], geometry: Geometry, sources: Mapping[FrameKey, Slice]
) -> tuple[int | slice, ...] | None:
    """The position of a frame of `shape` in the image; None if it belongs to another 2D image."""
    derived = [source for part in frame.get("DerivationImageSequence", ()) for source in part.SourceImageSequence]
    keys = [key for source in derived for key in frame_keys(source)]
    known = [sources[key] for key in keys if key in sources]
    if len(geometry.shape) == 2:
        if keys and not known:
            return None
        if shape != geometry.shape:
            raise InputError(path, f"a frame of {shape} but the image has {geometry.shape}", "export it for this image")
        return slice(None), slice(None)
    if "PlanePositionSequence" in frame or "PlanePositionSequence" in shared:
        position = _group(frame, shared, "PlanePositionSequence").ImagePositionPatient
        orientation = _group(frame, shared, "PlaneOrientationSequence").ImageOrientationPatient
        spacing = _group(frame, shared, "PixelMeasuresSequence").PixelSpacing
        at, axes, step = (np.array(value, float) for value in (position, orientation, spacing))
    elif known and known[0].position is not None and known[0].axes is not None:
        at, axes, step = known[0].position, known[0].axes.ravel(), np.array(known[0].spacing)
    else:
        raise InputError(path, "a frame has no position and refers to no frame of the image", AGAIN)
    return _place(path, at, axes, step, shape, geometry)


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
