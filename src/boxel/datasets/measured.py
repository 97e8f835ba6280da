"""The boxes of the objects in small label maps, read a batch at a time.

Label maps are read by another process. To ask it for each of many small ones takes longer than to read them.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from boxel.datasets.label_maps import tight_boxes
from boxel.io import png, read_label_map
from boxel.io.apart import apart, now_reading
from boxel.io.decoding import is_small
from boxel.types import Geometry

__all__ = ["MeasuredMap", "measure", "measured_ahead"]

BATCH = 64  # label maps


class MeasuredMap(NamedTuple):
    """The grid of a label map, the ids `(n,)` of its objects, ascending, and their boxes `(n, 2, d)`."""

    geometry: Geometry
    ids: np.ndarray
    boxes: np.ndarray


def measure(path: Path) -> tuple[MeasuredMap, np.ndarray]:
    """What is known about a label map, and the label map itself; raises ValueError as `read_label_map`."""
    image = read_label_map(path)
    return MeasuredMap(image.geometry, *tight_boxes(image.array)), image.array


def measured_ahead(paths: Iterable[Path | None]) -> Iterator[MeasuredMap | None]:
    """What is known about each label map; None for those that are read better, or whose problem is told, one by one."""
    rest = iter(paths)
    while batch := list(islice(rest, BATCH)):
        pictures = dict.fromkeys(path for path in batch if path and path.suffix.lower() == ".png")
        found = _measured([path for path in pictures if is_small(path)])
        yield from (found.get(path) if path else None for path in batch)


def _measured(files: Sequence[Path]) -> dict[Path, MeasuredMap]:
    found, start = {}, 0
    try:
        grids, ids, boxes = apart(files[0], _measure, files) if files else ([], np.zeros(0), np.zeros(0))
    except (ValueError, RuntimeError):  # told again, of the file alone
        return {}
    for file, grid in zip(files, grids, strict=True):
        if grid is not None:
            shape, number = grid
            rows = slice(start, start := start + number)
            found[file] = MeasuredMap(Geometry.plain(shape), ids[rows], boxes[rows])
    return found


def _measure(files: Sequence[Path]) -> tuple[list[tuple[tuple[int, ...], int] | None], np.ndarray, np.ndarray]:
    """The shape of each label map and the number of its objects, None with a problem; and the ids and boxes of all."""
    grids: list[tuple[tuple[int, ...], int] | None] = []
    parts = [(np.zeros(0, np.int64), np.zeros((0, 2, 2), np.float32))]
    for file in files:
        now_reading(file)
        try:
            array = png.read(file)
        except (OSError, ValueError):
            array = None
        if array is None or len(array) > 1:
            grids.append(None)
        else:
            parts.append(tight_boxes(array[0]))
            grids.append((array.shape[1:], len(parts[-1][0])))
    ids, boxes = (np.concatenate(column) for column in zip(*parts, strict=True))
    return grids, ids, boxes
