"""What writers get and readers return: the prediction of one case; and what readers may ask about the data set."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from boxel.io import has_geometry, read_geometry, read_label_map
from boxel.operating_points import OperatingPoints
from boxel.types import Detections, Geometry


def in_mm(geometry: Geometry | None, image_files: Sequence[str | Path]) -> bool:
    """Whether mm mean something: not if the geometry is unknown, nor on pictures (PNG, JPEG ...) without a spacing."""
    if geometry is None or geometry != Geometry.plain(geometry.shape):
        return geometry is not None
    return not image_files or any(has_geometry(Path(file)) for file in image_files)


@dataclass(frozen=True)
class Prediction:
    """The detections of one case, and its segmentation if there is one.

    Attributes:
        case: name of the case.
        detections: boxes in voxels of the original image.
        classes: class names, indexed by the labels.
        image_files: the files that the image was read from, or the folder of a DICOM series.
        label_map: the file of the segmentation; None if there is none. `read_label_map` opens it.
        file: where the detections were read; None if they were not.
        label_names: what the values 1, 2 ... of the label map mean: the classes, or `foreground` alone.
        operating_points: the score thresholds of the detector; None if they are not known.
        warnings: what whoever reads the detections must know, in sentences.
    """

    case: str
    detections: Detections
    classes: tuple[str, ...]
    image_files: tuple[Path, ...] = ()
    label_map: Path | None = None
    label_names: tuple[str, ...] = ()
    file: Path | None = None
    operating_points: OperatingPoints | None = None
    warnings: tuple[str, ...] = ()

    def above(self) -> "Prediction":
        """The same with only the detections that reach the threshold of their class."""
        points = self.operating_points
        return replace(self, detections=points.above(self.detections)) if points else self

    @property
    def notes(self) -> list[str]:
        """What a reader of a file with these detections should know: the operating point, and the warnings."""
        points = [f"Shown: {self.operating_points}."] if self.operating_points else []
        return [*points, *(f"Warning: {warning}." for warning in self.warnings)]

    @property
    def geometry(self) -> Geometry:
        """The geometry of the image.

        Raises:
            ValueError: it is not known.
        """
        if self.detections.geometry is None:
            raise ValueError(
                f"case {self.case!r}: the predictions do not say where the image lies in the world, which this format "
                "needs; name the folder of the images with --images"
            )
        return self.detections.geometry

    @property
    def ranking(self) -> Iterator[tuple[int, np.ndarray, float, str]]:
        """Position, box `(2, d)` float64, score and class name of each detection, by falling score."""
        detections = self.detections
        for row in np.argsort(-np.asarray(detections.scores), kind="stable").tolist():
            yield (
                row,
                np.asarray(detections.boxes[row], np.float64),
                float(detections.scores[row]),
                self.classes[int(detections.labels[row])],
            )

    def read_label_map(self) -> np.ndarray | None:
        """The segmentation `(*s)` int32 on the grid of the image, 0 for background; None if there is none.

        Raises:
            ValueError: the file is missing or damaged, has another shape than the image, or a value without a name.
        """
        if self.label_map is None:
            return None
        array, shape = read_label_map(self.label_map).array, self.geometry.shape
        if array.shape != shape:
            raise ValueError(
                f"{self.label_map}: this label map has shape {array.shape}, but case {self.case!r} was predicted on "
                f"{shape}; predict it again"
            )
        if (highest := int(array.max(initial=0))) > len(self.label_names):
            names = ", ".join(self.label_names)
            raise ValueError(f"{self.label_map}: value {highest} in a label map of {names}; predict the case again")
        return array


@dataclass(frozen=True)
class DatasetInfo:
    """What a reader may need to know about the data set that was predicted.

    Attributes:
        classes: class names in the order of the labels; empty if not known.
        geometries: the geometry of each case, where known. A header may be read at each access.
        annotation_files: the files with the ground truth; COCO results refer to the numbers in theirs.
    """

    classes: tuple[str, ...] = ()
    geometries: Mapping[str, Geometry] = field(default_factory=dict)
    annotation_files: tuple[Path, ...] = ()

    def geometry(self, case: str, path: Path) -> Geometry:
        """The geometry of a case, which the file at `path` lacks.

        Raises:
            ValueError: it is not known.
        """
        if case not in self.geometries:
            raise ValueError(
                f"{path}: positions are in mm and the image of case {case!r} is not known; name the folder of the "
                "images with --images"
            )
        return self.geometries[case]


class ImageGeometries(Mapping[str, Geometry]):
    """The geometry of each case, read from the header of its image when asked for."""

    def __init__(self, images: Mapping[str, Path]) -> None:
        self.images = images

    def __getitem__(self, case: str) -> Geometry:
        return read_geometry(self.images[case])

    def __iter__(self) -> Iterator[str]:
        return iter(self.images)

    def __len__(self) -> int:
        return len(self.images)

    def __contains__(self, case: object) -> bool:
        return case in self.images
