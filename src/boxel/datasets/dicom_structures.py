"""Objects in DICOM structure sets (RTSTRUCT): closed contours in mm become masks on the grid of their image.

Reference: DICOM PS3.3, C.8.8.6 (ROI Contour Module).
"""

from collections import Counter, defaultdict
from collections.abc import Container, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from boxel.datasets.polygons import fill_polygon
from boxel.datasets.problems import InputError, some
from boxel.types import Geometry
from boxel.wording import counted

__all__ = ["AGAIN", "structures", "unused_contours"]

AGAIN = "export it again for this image series"
CLOSED, EXCLUSIVE = "CLOSED_PLANAR", "CLOSEDPLANAR_XOR"
ON_PLANE, NEAR_PLANE = 0.1, 0.25  # of the distance between planes: less is rounding; more may be the plane beside it


def structures(
    path: Path, data: Any, geometry: Geometry, wanted: Container[str]
) -> Iterator[tuple[str, np.ndarray, tuple[str, ...]]]:
    """The name of each `wanted` structure, its mask `(*s)`, and remarks.

    A contour inside another one is a hole, and one inside that an island. A copy of a contour counts once, and contours
    that overlap are united, unless their type says that they are combined by exclusive or.

    Raises:
        InputError: a contour lies between or beyond the planes of the image, or across them.
    """
    if len(geometry.shape) == 2:
        raise InputError(path, "a structure set is drawn in mm, but the image has no position", "use SEG or SR instead")
    for name, contours in _contours(data, wanted):
        planes: dict[int, list[tuple[str, np.ndarray]]] = defaultdict(list)
        apart = 0.0
        for contour in contours:
            if contour.ContourGeometricType in (CLOSED, EXCLUSIVE):
                points = geometry.to_voxel(np.array(contour.ContourData, float).reshape(-1, 3))
                plane, distance = _plane(path, points, geometry)
                apart = max(apart, distance)
                inside = fill_polygon(points[:, 1:], geometry.shape[1:])
                planes[plane].append((contour.ContourGeometricType, inside))
        mask, copies = np.zeros(geometry.shape, bool), 0
        for plane, drawn in planes.items():
            mask[plane], again = _combined(drawn)
            copies += again
        remarks = []
        if planes and not mask.any():
            remarks.append(f"structure {name} encloses no voxel; draw it larger if it is an object")
        if copies:
            number = counted(
                copies, f"contour of structure {name} is a copy", f"contours of structure {name} are copies"
            )
            remarks.append(f"{number} of others; remove the copies")
        if apart > ON_PLANE * geometry.spacing[0]:
            remarks.append(
                f"contours of structure {name} lie up to {apart:.3g} mm from the planes of the image, and the nearest "
                f"plane is used; {AGAIN} if this is not its image"
            )
        if any(b - a > 1 and (mask[a] & mask[b]).any() for a, b in pairwise(sorted(planes))):
            remarks.append(
                f"the contours of structure {name} skip planes, and each part is an object; draw the planes between, "
                "or add --option split=false if all parts of a structure are one object"
            )
        yield name, mask, tuple(remarks)


def unused_contours(path: Path, data: Any, wanted: Container[str]) -> tuple[str, ...]:
    """Remarks about contours of the `wanted` structures that enclose nothing, and about structures without contours.

    Raises:
        InputError: a structure has open contours only.
    """
    bare, remarks = [], []
    for name, contours in _contours(data, wanted):
        kinds = Counter(str(contour.ContourGeometricType) for contour in contours)
        closed = kinds.pop(CLOSED, 0) + kinds.pop(EXCLUSIVE, 0)
        if not closed and set(kinds) - {"POINT"}:
            problem = f"structure {name} has no closed contour, only {some(kinds)}"
            raise InputError(path, problem, "close its contours, or choose structures with --option classes=NAME,NAME")
        if not closed:
            bare.append(name)
        elif kinds:
            left = f"{counted(kinds.total(), 'contour')} of structure {name} ({some(kinds)})"
            verb = "encloses nothing and is" if kinds.total() == 1 else "enclose nothing and are"
            remarks.append(f"{left} {verb} left out; close them if they outline objects")
    if bare:
        number = counted(len(bare), "structure has", "structures have")
        remarks.append(f"{number} no closed contour and no object: {some(bare)}; outline them if they are objects")
    return tuple(remarks)


def _contours(data: Any, wanted: Container[str]) -> Iterator[tuple[str, list[Any]]]:
    """The name of each `wanted` structure, and its contours."""
    drawn = {int(one.ReferencedROINumber): one for one in data.get("ROIContourSequence", ())}
    for region in data.StructureSetROISequence:
        if str(region.ROIName) in wanted:
            contours = drawn.get(int(region.ROINumber), {}).get("ContourSequence", ())
            yield str(region.ROIName), list(contours or ())


def _plane(path: Path, points: np.ndarray, geometry: Geometry) -> tuple[int, float]:
    """The plane of the image that a contour lies on, and its distance from it in mm."""
    place = float(np.median(points[:, 0])) - 0.5
    plane = round(place)
    apart = abs(place - plane)
    distance = apart * geometry.spacing[0]
    if np.ptp(points[:, 0]) > 0.5:
        raise InputError(path, "a contour does not lie in a plane of the image", AGAIN)
    if not -0.5 <= place < geometry.shape[0] - 0.5:
        raise InputError(path, f"a contour lies on plane {plane}, outside the image", AGAIN)
    if apart > NEAR_PLANE:
        raise InputError(path, f"a contour lies between two planes, {distance:.3g} mm from the nearest", AGAIN)
    return plane, distance


def _combined(drawn: list[tuple[str, np.ndarray]]) -> tuple[np.ndarray, int]:
    """The mask of all contours of one plane, and how many of them are copies of others."""
    mask = np.zeros_like(drawn[0][1])
    closed = sorted((inside for kind, inside in drawn if kind == CLOSED), key=np.count_nonzero, reverse=True)
    outer: list[tuple[np.ndarray, int]] = []
    copies = 0
    for inside in closed:
        if any(np.array_equal(inside, other) for other, _ in outer):
            copies += bool(inside.any())
            continue
        levels = [level + 1 for other, level in outer if not (inside & ~other).any()]
        level = levels[-1] if levels else 0  # below the smallest contour around it
        mask = mask & ~inside if level % 2 else mask | inside
        outer.append((inside, level))
    for kind, inside in drawn:
        if kind == EXCLUSIVE:
            mask = mask ^ inside
    return mask, copies
