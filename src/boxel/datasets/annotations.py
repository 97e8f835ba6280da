"""Annotations: masks, boxes, points with a diameter, ellipsoids and RECIST pairs become boxes and a label map.

An object without a mask is a `Shape`: the hull of its points, widened by the half axes of an ellipsoid. A `Shape` is
therefore a box (two corners), a point with a diameter (equal half axes), an ellipsoid, or a RECIST pair (four end
points).
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from boxel.datasets.label_maps import Connectivity, Mask, components, overlay, tight_boxes
from boxel.datasets.problems import InputError, some
from boxel.io import grid_fix, has_geometry, is_segmentation, place, read_label_map, reorient, same_grid
from boxel.types import Geometry, Image, Instances
from boxel.wording import counted_of

MARGIN = 1.0  # voxels by which a box may extend beyond the image

__all__ = ["Annotator", "LabelMapFile", "MaskFiles", "Opener", "Shape", "Shapes", "ball", "beyond", "boxed"]


class Annotator(ABC):
    """Reads the objects of a case once its image is open. Subclasses are frozen dataclasses.

    The `repr` of an annotator shows all it contains: preparation compares it to see whether a case has changed.

    Attributes:
        files: the files that it reads.
        labels: classes of the objects that are known before any file is opened.
    """

    @property
    def files(self) -> tuple[Path, ...]:
        return ()

    @property
    def labels(self) -> tuple[int, ...]:
        return ()

    @abstractmethod
    def read(self, geometry: Geometry) -> tuple[np.ndarray | None, Instances]:
        """The label map on the image's grid (None without masks), and the objects in voxels of the image.

        Raises:
            ValueError: names the file, the problem and a suggested fix.
        """

    def ignored(self, geometry: Geometry) -> Instances:
        """Ignored objects, in voxels of the image: excluded from training and scoring."""
        return Instances.empty(len(geometry.shape))

    @property
    def ignores_regions(self) -> bool:
        """Whether ignored objects are regions that hold any number of objects (crowds), not single objects."""
        return False

    def remarks(self, geometry: Geometry) -> tuple[str, ...]:
        """Peculiarities of the objects that do not prevent their use."""
        return ()


class Opener(ABC):
    """Reads a channel that `boxel.io.read_image` cannot read. Subclasses are frozen dataclasses (see `Annotator`)."""

    @abstractmethod
    def read(self, path: Path) -> Image:
        """The image of one channel."""


@dataclass(frozen=True)
class Shape:
    """An object given by points.

    Attributes:
        points: `(k, d)`; the box is their hull.
        axes: `(m, d)`, half axes of an ellipsoid around each point.
        frame: positions are voxels in array order, fractions of the image's extent in array order, or LPS mm.
        ignore: the object is excluded from training and scoring.
    """

    label: int
    points: tuple[tuple[float, ...], ...]
    axes: tuple[tuple[float, ...], ...] = ()
    frame: Literal["voxel", "fraction", "world"] = "voxel"
    ignore: bool = False

    def box(self, geometry: Geometry) -> np.ndarray:
        """`(2, d)` in voxels of `geometry`."""
        points, axes = (
            np.array(self.points, np.float64),
            np.array(self.axes, np.float64).reshape(-1, len(self.points[0])),
        )
        if self.frame == "fraction":
            points, axes = points * geometry.shape, axes * geometry.shape
        if self.frame == "world":
            points = geometry.to_voxel(points)
            axes = axes @ np.linalg.inv(np.asarray(geometry.direction)).T / np.asarray(geometry.spacing)
        radius = np.sqrt(np.square(axes).sum(axis=0))
        return np.stack([points.min(axis=0) - radius, points.max(axis=0) + radius])


def ball(label: int, centre: Iterable[float], diameter: float, frame: Literal["voxel", "world"] = "world") -> Shape:
    """A point with a diameter, both in voxels or both in mm."""
    point = tuple(map(float, centre))
    axes = tuple(map(tuple, (np.eye(len(point)) * (diameter / 2)).tolist()))
    return Shape(label, (point,), axes, frame)


@dataclass(frozen=True)
class Shapes(Annotator):
    """Objects without masks, numbered from 1 unless `ids` are given. Boxes are clipped at the border of the image.

    `hint` is what users may try where objects lie outside the image.
    """

    shapes: tuple[Shape, ...]
    ids: tuple[int, ...] = ()
    hint: str = ""

    @property
    def labels(self) -> tuple[int, ...]:
        return tuple(shape.label for shape in self.shapes if not shape.ignore)

    def read(self, geometry: Geometry) -> tuple[None, Instances]:
        return None, self._chosen(geometry, ignore=False)

    def ignored(self, geometry: Geometry) -> Instances:
        return self._chosen(geometry, ignore=True)

    def remarks(self, geometry: Geometry) -> tuple[str, ...]:
        return beyond(_boxes([shape for shape in self.shapes if not shape.ignore], geometry), geometry)

    def _chosen(self, geometry: Geometry, *, ignore: bool) -> Instances:
        rows = [row for row, shape in enumerate(self.shapes) if shape.ignore == ignore]
        shapes = [self.shapes[row] for row in rows]
        boxes, labels = _boxes(shapes, geometry), np.array([shape.label for shape in shapes], np.int64)
        ids = np.array(self.ids or range(1, len(self.shapes) + 1), np.int64)[rows]
        if ignore:  # they may lie in another field of view
            kept = ~_outside(boxes, geometry)
            boxes, labels, ids = boxes[kept], labels[kept], ids[kept]
        return boxed(boxes, labels, ids, geometry, self.hint)


def boxed(boxes: np.ndarray, labels: np.ndarray, ids: np.ndarray, geometry: Geometry, hint: str = "") -> Instances:
    """Objects without masks, their boxes `(n, 2, d)` clipped at the border of the image.

    Raises:
        ValueError: an object lies outside the image; `hint` is what users may try.
    """
    outside = _outside(boxes, geometry)
    if outside.any():
        first = boxes[outside][0].round(1).tolist()
        number = counted_of(int(outside.sum()), len(boxes), "object", "lies", "lie")
        raise ValueError(
            f"{number} outside the image of shape {geometry.shape}, such as {first[0]} to {first[1]}; "
            f"check axis order, unit and origin of the annotation{hint and f' ({hint})'}"
        )
    boxes = np.clip(boxes, 0, geometry.shape).astype(np.float32)
    return Instances(boxes, labels, ids, np.zeros(len(boxes), bool))


def beyond(boxes: np.ndarray, geometry: Geometry) -> tuple[str, ...]:
    """A remark if boxes `(n, 2, d)` extend beyond the image by more than a margin."""
    excess = np.maximum(-boxes[:, 0], boxes[:, 1] - geometry.shape).max(axis=1)
    if not (excess > MARGIN).any():
        return ()
    number = counted_of(int((excess > MARGIN).sum()), len(boxes), "object", "extends", "extend")
    return (f"{number} beyond the image by up to {excess.max():.1f} voxels",)


def _outside(boxes: np.ndarray, geometry: Geometry) -> np.ndarray:
    centres = boxes.mean(axis=1)
    return np.asarray(~((centres >= 0) & (centres <= geometry.shape)).all(axis=1))


def _boxes(shapes: Sequence[Shape], geometry: Geometry) -> np.ndarray:
    """The boxes `(n, 2, d)` of shapes; those of boxes, of which there may be very many, at once."""
    are_plain = all(shape.frame == "voxel" and not shape.axes for shape in shapes)
    if are_plain and len({len(shape.points) for shape in shapes}) == 1:
        points = np.array([shape.points for shape in shapes], np.float64)
        return np.stack([points.min(axis=1), points.max(axis=1)], axis=1)
    return np.array([shape.box(geometry) for shape in shapes]).reshape(-1, 2, len(geometry.shape))


@dataclass(frozen=True)
class LabelMapFile(Annotator):
    """A file with a label map of instances, or of classes whose connected components are the instances.

    Attributes:
        classes: the class of each value; other values are background. With None every value is an object.
        components: the values are classes, and each connected component is an object.
        connectivity: voxels are connected if they share a face, an edge or a corner.
        min_size: smaller components are dropped (voxels).
        every: the class of all objects if `classes` is None.
        compare_origin: whether the origin must be that of the image.
        known: the values that may occur besides 0; None for any.
    """

    path: Path
    classes: Mapping[int, int] | None = None
    components: bool = False
    connectivity: Connectivity = "corner"
    min_size: int = 1
    every: int = 0
    compare_origin: bool = True
    known: Collection[int] | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path,)

    def read(self, geometry: Geometry) -> tuple[np.ndarray, Instances]:
        image = read_label_map(self.path)
        if has_geometry(self.path):
            image = reorient(image, geometry)
        if is_segmentation(self.path):  # cropped by 3D Slicer
            image = place(image, geometry)
        label_map, mine = image.array, image.geometry
        if not self.compare_origin:
            mine = replace(mine, origin=geometry.origin)
        world = has_geometry(self.path) and geometry != Geometry.plain(geometry.shape)
        difference = same_grid(mine, geometry, world=world)
        if difference:
            raise InputError(self.path, difference.format("the image"), grid_fix(mine, geometry))
        unknown = sorted(set(np.unique(label_map).tolist()) - {0, *self.known}) if self.known is not None else []
        if unknown:
            raise InputError(
                self.path,
                f"the values {some(unknown)} have no class; known: {some(sorted(self.known or ()))}",
                "name them among the labels of the data set, or correct the label map",
            )
        values = self.classes
        if values is None:
            values = {int(value): self.every for value in np.unique(label_map) if value}
        if not self.components:
            kept = np.where(np.isin(label_map, list(values)), label_map, 0)
            ids, boxes = tight_boxes(kept)
            labels = np.array([values[number] for number in ids.tolist()], np.int64)
            return kept, Instances(boxes, labels, ids, np.ones(len(ids), bool))
        return components(label_map, values, self.connectivity, self.min_size)


@dataclass(frozen=True)
class MaskFiles(Annotator):
    """One binary mask file per object."""

    paths: tuple[Path, ...]
    classes: tuple[int, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        return self.paths

    @property
    def labels(self) -> tuple[int, ...]:
        return self.classes

    def read(self, geometry: Geometry) -> tuple[np.ndarray, Instances]:
        masks = []
        for path, label in zip(self.paths, self.classes, strict=True):
            mask = read_label_map(path).array > 0
            if mask.shape != geometry.shape:
                raise InputError(path, f"shape {mask.shape} but the image has {geometry.shape}", "export it again")
            if mask.any():
                masks.append((label, Mask.crop(mask)))
        return overlay(masks, geometry.shape)
