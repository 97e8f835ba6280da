"""Objects that are neither masks nor boxes, in the native layout: `"shapes"` of CASE.json.

    {"id": 3, "label": 0, "points": [[12.5, 100, 87]], "diameter": 8}             a point with a diameter
    {"id": 4, "label": 0, "points": [[12.5, 100, 87]], "axes": [[4, 0, 0], ...]}  an ellipsoid, by its half axes
    {"id": 5, "label": 1, "points": [[...], [...], [...], [...]]}                 RECIST: the ends of two diameters
    {"id": 6, "label": 0, "points": [[...], [...]], "ignore": true}               an ignored object

Positions are in voxels in array order, or with `"frame": "world"` in LPS mm.
"""

from pathlib import Path
from typing import Any

import numpy as np

from boxel.datasets.annotations import Shape, Shapes, ball
from boxel.datasets.formats.files import numbers
from boxel.datasets.names import as_id
from boxel.datasets.problems import InputError

__all__ = ["MOST", "read_shapes"]

RULE = '{"id": 1, "label": 0, "points": [[z, y, x]], "diameter": 8}'
MOST = 2**31  # label maps cannot store larger numbers
KEYS = {"id", "label", "points", "diameter", "axes", "frame", "ignore"}


def read_shapes(path: Path, entries: Any, ndim: int, last_id: int) -> Shapes | None:
    """The shapes of one case, numbered from `last_id + 1` if they have no number; None if there are none."""
    if not isinstance(entries, list):
        raise InputError(path, '"shapes" is not a list', f"list entries such as {RULE}")
    shapes, ids = [], []
    for number, entry in enumerate(entries, start=1):
        where = f'entry {number} of "shapes"'
        label = as_id(entry.get("label")) if isinstance(entry, dict) else None
        if not isinstance(entry, dict) or not entry.keys() <= KEYS or not isinstance(label, int):
            raise InputError(path, f"{where} is {str(entry)[:80]}", f"write {RULE}")
        points = _vectors(path, entry.get("points"), f"points of {where}", ndim)
        axes = _vectors(path, entry.get("axes", ()), f"axes of {where}", ndim)
        frame = entry.get("frame", "voxel")
        if frame not in ("voxel", "world"):
            raise InputError(path, f"{where} has the frame {frame!r}", 'write "voxel" or "world"')
        if "diameter" in entry:
            (diameter,) = numbers([entry["diameter"]], path, f"diameter of {where}")
            axes = ball(0, points[0], diameter).axes if diameter > 0 and points else ()
        spread = np.ptp(np.array(points), axis=0) if points else np.zeros(ndim)
        extent = spread + np.abs(np.array(axes).reshape(-1, ndim)).sum(axis=0)
        if not points or (frame == "voxel" and not (extent > 0).all()):
            raise InputError(path, f"{where} has no extent", "give several points, a diameter or half axes")
        shapes.append(Shape(label, points, axes, frame, bool(entry.get("ignore", False))))
        own = as_id(entry.get("id", last_id + number))
        if not isinstance(own, int) or not 0 < own < MOST:
            raise InputError(path, f"{where} has the number {str(entry['id'])[:80]}", "write a whole number from 1")
        ids.append(own)
    return Shapes(tuple(shapes), tuple(ids)) if shapes else None


def _vectors(path: Path, values: Any, what: str, ndim: int) -> tuple[tuple[float, ...], ...]:
    if not isinstance(values, list | tuple):
        raise InputError(path, f"{what} is {str(values)[:80]}", f"list positions of {ndim} numbers")
    return tuple(numbers(value, path, what, ndim) for value in values)
