"""Kinds of annotation: masks, boxes, points with a diameter, ellipsoids and line pairs become boxes and a label map.

An object without a mask is a `Shape`: the hull of its points, widened by the half axes of an ellipsoid. That covers a
box (two corners), a point with a diameter (equal half axes), an ellipsoid and a RECIST pair (four end points).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np

from boxel.data.problems import InputError
from boxel.io import has_geometry as has_world
from boxel.io import read_label_map, reorient, same_grid
from boxel.types import Geometry, Image, Instances

__all__ = ["Annotator", "LabelMap", "Mask", "MaskFiles", "Opener", "Shape", "Shapes", "ball", "overlay", "tight_boxes"]

Connectivity = Literal["face", "edge", "corner"]
NEIGHBOURS: dict[str, dict[int, Any]] = {
    "face": {2: 4, 3: 6},
    "edge": {2: 8, 3: 18},
    "corner": {2: 8, 3: 26},
}  # as cc3d counts them


class Annotator(ABC):
    """Finds the objects of a case when its image is open; a frozen dataclass, whose `repr` says all it knows.

    Attributes:
        files: what it reads.
        labels: classes of the objects, as far as they are known before anything is opened.
    """

    @property
    def files(self) -> tuple[Path, ...]:
        return ()

    @property
    def labels(self) -> tuple[int, ...]:
        return ()

    @abstractmethod
    def read(self, geometry: Geometry) -> tuple[np.ndarray | None, Instances]:
        """Label map on the image's grid (None without masks), and the objects in its voxels.

        Raises:
            ValueError: names the file, what is wrong with it and the remedy.
        """


class Opener(ABC):
    """Opens a channel that is no image file by itself; a frozen dataclass, whose `repr` says all it knows."""

    @abstractmethod
    def read(self, path: Path) -> Image:
        """The image of one channel."""


@dataclass(frozen=True)
class Shape:
    """An object known by points.

    Attributes:
        points: `(k, d)`, their hull is the box.
        axes: `(m, d)`, half axes of an ellipsoid around each point.
        frame: positions are array-axis voxels, fractions of the image's extent (array axes), or LPS mm.
    """

    label: int
    points: tuple[tuple[float, ...], ...]
    axes: tuple[tuple[float, ...], ...] = ()
    frame: Literal["voxel", "fraction", "world"] = "voxel"

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
    """A point with a diameter, both in voxels or in mm."""
    point = tuple(map(float, centre))
    axes = tuple(map(tuple, (np.eye(len(point)) * (diameter / 2)).tolist()))
    return Shape(label, (point,), axes, frame)


@dataclass(frozen=True)
class Shapes(Annotator):
    """Objects without masks, numbered from 1. What juts out of the image is cut off."""

    shapes: tuple[Shape, ...]

    @property
    def labels(self) -> tuple[int, ...]:
        return tuple(shape.label for shape in self.shapes)

    def read(self, geometry: Geometry) -> tuple[None, Instances]:
        boxes = np.array([shape.box(geometry) for shape in self.shapes]).reshape(-1, 2, len(geometry.shape))
        centres = boxes.mean(axis=1)
        outside = ~((centres >= 0) & (centres <= geometry.shape)).all(axis=1)
        if outside.any():
            first = boxes[outside][0].round(1).tolist()
            raise ValueError(
                f"{outside.sum()} of {len(boxes)} objects lie outside the image of shape {geometry.shape}, such as "
                f"{first[0]} to {first[1]}; check axis order, unit and origin of the annotation"
            )
        boxes = np.clip(boxes, 0, geometry.shape).astype(np.float32)
        count = len(boxes)
        return None, Instances(boxes, np.array(self.labels, np.int64), np.arange(1, count + 1), np.zeros(count, bool))


@dataclass(frozen=True)
class LabelMap(Annotator):
    """A label map of instances, or of classes whose connected components are the instances.

    Attributes:
        classes: the class of each value; other values are background. None: every value is an object.
        components: values are classes; each connected component is an object.
        connectivity: voxels that share a face, an edge or a corner belong together.
        min_size: smaller components are dropped, voxels.
        every: the class of all objects, without `classes`.
        compare_origin: it must be the image's.
    """

    path: Path
    classes: Mapping[int, int] | None = None
    components: bool = False
    connectivity: Connectivity = "corner"
    min_size: int = 1
    every: int = 0
    compare_origin: bool = True

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path,)

    def read(self, geometry: Geometry) -> tuple[np.ndarray, Instances]:
        found = read_label_map(self.path)
        if has_world(self.path):
            found = reorient(found, geometry)
        label_map, mine = found.array, found.geometry
        if not self.compare_origin:
            mine = replace(mine, origin=geometry.origin)
        world = has_world(self.path) and geometry != Geometry.plain(geometry.shape)
        differs = same_grid(mine, geometry, world=world)
        if differs:
            raise InputError(
                self.path,
                differs.format("the image"),
                "both files of a case must lie on the same voxel grid: resample one",
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


def components(
    label_map: np.ndarray, values: Mapping[int, int], connectivity: Connectivity = "corner", min_size: int = 1
) -> tuple[np.ndarray, Instances]:
    """Semantic `label_map (*s)` to instances: per class, connected components of at least `min_size` voxels."""
    import cc3d

    wanted = np.where(np.isin(label_map, [value for value in values if value]), label_map, 0)
    parts = cc3d.connected_components(wanted, connectivity=NEIGHBOURS[connectivity][label_map.ndim]).astype(np.int32)
    sizes = np.bincount(parts.ravel())
    keep = np.flatnonzero(sizes >= min_size)
    numbers = np.zeros(len(sizes), np.int32)
    numbers[keep[keep > 0]] = np.arange(1, (keep > 0).sum() + 1)
    parts = numbers[parts]
    ids, boxes = tight_boxes(parts)
    class_of = np.zeros(len(ids) + 1, np.int64)
    class_of[parts.ravel()] = wanted.ravel()
    labels = np.array([values[value] for value in class_of[1:].tolist()], np.int64)
    return parts, Instances(boxes, labels, ids, np.ones(len(ids), bool))


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


class Mask(NamedTuple):
    """The voxels of one object inside its tight box, whose lower corner is `lower`."""

    lower: tuple[int, ...]
    voxels: np.ndarray

    @classmethod
    def crop(cls, mask: np.ndarray) -> Self:
        """Of a mask `(*s)` that is not empty."""
        axes = range(mask.ndim)
        lines = [np.flatnonzero(mask.any(axis=tuple(other for other in axes if other != axis))) for axis in axes]
        lower = tuple(int(line[0]) for line in lines)
        return cls(lower, mask[tuple(slice(int(line[0]), int(line[-1]) + 1) for line in lines)].copy())

    @property
    def region(self) -> tuple[slice, ...]:
        return tuple(slice(a, a + n) for a, n in zip(self.lower, self.voxels.shape, strict=True))


def overlay(masks: Iterable[tuple[int, Mask]], shape: tuple[int, ...]) -> tuple[np.ndarray, Instances]:
    """Objects `(label, mask)` in one label map, small over large.

    A voxel carries one object: one whose visible part no longer spans its box is kept as a box without mask.
    """
    masks = list(masks)
    label_map = np.zeros(shape, np.int32)
    boxes = np.zeros((len(masks), 2, len(shape)), np.float32)
    sizes = [-int(mask.voxels.sum()) for _, mask in masks]
    for index in np.argsort(sizes, kind="stable").tolist():
        mask = masks[index][1]
        boxes[index] = [[part.start for part in mask.region], [part.stop for part in mask.region]]
        label_map[mask.region][mask.voxels] = index + 1
    numbers, seen = tight_boxes(label_map)
    visible = np.zeros_like(boxes)
    visible[numbers - 1] = seen
    has_mask = (visible == boxes).all(axis=(1, 2))
    if not has_mask.all():
        label_map[np.isin(label_map, np.flatnonzero(~has_mask) + 1)] = 0
    labels = np.array([label for label, _ in masks], np.int64)
    return label_map, Instances(boxes, labels, np.arange(1, len(masks) + 1), has_mask)


def tight_boxes(label_map: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ids in a label map, ascending, and their half-open boxes `(n, 2, d)`."""
    foreground = np.nonzero(label_map)
    values = label_map[foreground]
    order = np.argsort(values, kind="stable")
    ids, starts = np.unique(values[order], return_index=True)
    ordered = [positions[order] for positions in foreground]
    lower = np.stack([np.minimum.reduceat(positions, starts) for positions in ordered], axis=1)
    upper = np.stack([np.maximum.reduceat(positions, starts) for positions in ordered], axis=1) + 1
    return ids.astype(np.int64), np.stack([lower, upper], axis=1).astype(np.float32)
