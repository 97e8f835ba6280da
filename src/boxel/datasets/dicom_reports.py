"""Objects in DICOM structured reports (SR): the regions of their measurement groups (TID 1500) become boxes.

A region is drawn in mm (SCOORD3D), or in pixels of a frame that it refers to (SCOORD). Groups that refer to a segment
have no region of their own: their object is in the segmentation.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from boxel.datasets.annotations import Shape
from boxel.datasets.problems import InputError
from boxel.io.dicom_stack import Slice
from boxel.types import Geometry

__all__ = ["FrameKey", "Region", "count_points", "frame_keys", "regions_in", "shapes_in"]

FrameKey = tuple[str, int]
"""SOPInstanceUID of a file and the number of a frame in it, from 1."""

GROUP, FINDING, TRACKING, TRACKING_UID = "125007", "121071", "112039", "112040"  # codes of DCM
POINTS = ("POINT", "MULTIPOINT")
PAIRS = ("ELLIPSE", "ELLIPSOID")  # given by the end points of their axes


class Region(NamedTuple):
    """A drawing: `points` are `(n, 3)` LPS mm, or `(n, 2)` columns and rows of a `frame`."""

    kind: str
    points: np.ndarray
    frame: FrameKey | None


def regions_in(report: Any, by_label: bool = False) -> Iterator[tuple[str, list[Region]]]:
    """Name and drawings of each object that has drawings; the name is the finding, or else the label.

    An object is a measurement group, or all groups of one tracking UID: the same object, drawn several times.
    """
    objects: dict[str, tuple[str, list[Region]]] = {}
    for number, group in enumerate(_groups(report)):
        items = list(group.get("ContentSequence", ()))
        drawn = _drawn(items)
        if drawn:
            codes = [item.ConceptCodeSequence[0] for item in items if _code(item) == FINDING]
            labels = [str(item.TextValue) for item in items if _code(item) == TRACKING]
            names = [str(code.CodeMeaning) for code in codes]
            name = next(iter([*labels, *names] if by_label else [*names, *labels]), "object")
            uid = next((str(item.UID) for item in items if _code(item) == TRACKING_UID), str(number))
            objects.setdefault(uid, (name, []))[1].extend(drawn)
    yield from objects.values()


def count_points(report: Any) -> int:
    """How many measurement groups have points only, which enclose nothing."""
    groups = [list(group.get("ContentSequence", ())) for group in _groups(report)]
    marked = [items for items in groups if any(item.get("GraphicType") in POINTS for item in [*items, *_below(items)])]
    return sum(not _drawn(items) for items in marked)


def shapes_in(
    path: Path,
    report: Any,
    classes: Mapping[str, int],
    by_label: bool,
    geometry: Geometry,
    sources: Mapping[FrameKey, Slice],
) -> list[Shape]:
    """The boxes of a report in an image.

    Args:
        path: the report, for messages.
        report: its content.
        classes: the class of each name; regions with other names are left out.
        by_label: see `regions_in`.
        geometry: of the image.
        sources: the frames of the image.

    Raises:
        InputError: every region lies in other images, or the image has no position that mm could refer to.
    """
    groups = list(regions_in(report, by_label))
    shapes, elsewhere = [], 0
    for name, drawings in groups:
        here = [region for region in drawings if region.frame is None or region.frame in sources]
        elsewhere += not here
        if not here or name not in classes:
            continue
        boxes = np.stack([_box(path, region, geometry, sources) for region in here])
        lower, upper = boxes[:, 0].min(axis=0), boxes[:, 1].max(axis=0)
        if len(geometry.shape) == 3 and upper[0] - lower[0] < 1 - 1e-3:  # drawn in one plane
            lower[0] = np.floor((lower[0] + upper[0]) / 2)
            upper[0] = lower[0] + 1
        shapes.append(Shape(classes[name], (tuple(lower.tolist()), tuple(upper.tolist()))))
    if groups and elsewhere == len(groups) and len(geometry.shape) == 3:
        fix = "add the images that it refers to, or remove the report"
        raise InputError(path, f"its {elsewhere} regions refer to other images than this one", fix)
    return shapes


def _box(path: Path, region: Region, geometry: Geometry, sources: Mapping[FrameKey, Slice]) -> np.ndarray:
    flat = len(geometry.shape) == 2
    if flat and region.frame is None:
        fix = "refer to pixels of the image (SCOORD)"
        raise InputError(path, "a region is given in mm, but the image has no position", fix)
    points, plane = region.points, sources[region.frame] if region.frame is not None else None
    if plane is not None and flat:
        points = points[:, ::-1]  # rows, columns; both count from the corner of the first pixel
    elif plane is not None:
        if plane.position is None or plane.axes is None:
            raise InputError(path, "a region refers to a frame without position", "draw it in mm (SCOORD3D)")
        steps = (points - 0.5) * (plane.spacing[1], plane.spacing[0])
        points = plane.position + steps @ plane.axes
    axes: np.ndarray = np.zeros((0, points.shape[1]))
    if region.kind == "CIRCLE":  # centre and a point on it
        radius = np.linalg.norm(points[1] - points[0])
        points = points[:1]
        axes = radius * (np.eye(2) if flat or plane is None else np.asarray(plane.axes))
    elif region.kind in PAIRS:
        axes = (points[1::2] - points[::2]) / 2
        points = points.mean(axis=0, keepdims=True)
    shape = Shape(0, tuple(map(tuple, points.tolist())), tuple(map(tuple, axes.tolist())), "voxel" if flat else "world")
    return shape.box(geometry)


def _groups(item: Any) -> Iterator[Any]:
    for part in item.get("ContentSequence", ()):
        if part.get("ValueType") == "CONTAINER" and _code(part) == GROUP:
            yield part
        else:
            yield from _groups(part)


def _below(items: list[Any]) -> Iterator[Any]:
    for item in items:
        for part in item.get("ContentSequence", ()):
            yield part
            yield from _below([part])


def _drawn(items: list[Any]) -> list[Region]:
    """The drawings of a measurement group, or else those within its items."""
    return list(_drawings(items)) or list(_drawings(list(_below(items))))


def _drawings(items: list[Any]) -> Iterator[Region]:
    for item in items:
        if item.get("GraphicType") in POINTS:
            continue
        if item.get("ValueType") == "SCOORD3D":
            yield Region(str(item.GraphicType), np.array(item.GraphicData, float).reshape(-1, 3), None)
        elif item.get("ValueType") == "SCOORD":
            images = [part.ReferencedSOPSequence[0] for part in item.get("ContentSequence", ())
                      if part.get("ValueType") == "IMAGE"]  # fmt: skip
            for key in (key for image in images[:1] for key in frame_keys(image)):
                yield Region(str(item.GraphicType), np.array(item.GraphicData, float).reshape(-1, 2), key)


def frame_keys(reference: Any) -> list[FrameKey]:
    """The frames that an item of a ReferencedSOPSequence or SourceImageSequence refers to."""
    numbers = np.atleast_1d(reference.get("ReferencedFrameNumber") or 1)
    return [(str(reference.ReferencedSOPInstanceUID), int(number)) for number in numbers]


def _code(item: Any) -> str:
    names = item.get("ConceptNameCodeSequence", ())
    return str(names[0].get("CodeValue", "")) if names else ""
