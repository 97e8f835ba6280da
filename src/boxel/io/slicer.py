"""Segmentations of 3D Slicer (`.seg.nrrd`): cropped to their segments, which may lie in several layers.

Reference: https://slicer.readthedocs.io/en/latest/user_guide/modules/segmentations.html
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from boxel.io.headers import counts
from boxel.io.nrrd import read_values

__all__ = ["is_segmentation", "merge_layers", "segment_classes"]


class _Segment(NamedTuple):
    name: str
    layer: int
    value: int


def is_segmentation(path: Path) -> bool:
    """Whether a file is a segmentation of 3D Slicer, by its name."""
    return path.name.lower().endswith((".seg.nrrd", ".seg.nhdr"))


def merge_layers(path: Path, array: np.ndarray) -> np.ndarray:
    """The layers `(c, *s)` of a segmentation as one layer `(1, *s)`.

    Segments keep their values if these are unique, and are otherwise numbered from 1 in the order of the file.

    Raises:
        ValueError: two segments overlap.
    """
    if len(array) == 1:
        return array
    segments = list(_segments(path)) or [
        _Segment(f"{value} of layer {layer}", layer, int(value))
        for layer, values in enumerate(array)
        for value in np.unique(values)
        if value
    ]
    unique = _is_unique(segments)
    merged = np.zeros(array.shape[1:], np.int32)
    owner = np.full(array.shape[1:], -1)
    for index, segment in enumerate(segments):
        mask = array[segment.layer] == segment.value
        below = owner[mask]
        if (below >= 0).any():
            other = segments[below.max()].name
            problem = f"the segments {other!r} and {segment.name!r} overlap in {(below >= 0).sum()} voxels"
            raise ValueError(f"{path}: {problem}; separate them in 3D Slicer, or save each as a label map of its own")
        owner[mask] = index
        merged[mask] = segment.value if unique else index + 1
    return merged[None]


def segment_classes(paths: Sequence[Path]) -> dict[Path, dict[int, str]]:
    """The names of the values of each label map; empty unless all are segmentations whose segments were given names.

    Numbers at the end of a name, as in "lesion 2", tell segments of one class apart and are removed.
    """
    names: dict[Path, dict[int, str]] = {}
    for path in paths:
        try:
            segments = list(_segments(path)) if is_segmentation(path) else []
        except ValueError:  # reported when the case is read
            return {}
        numbers = [segment.value if _is_unique(segments) else number for number, segment in enumerate(segments, 1)]
        own = [re.sub(r"[\W_]*\d*$", "", segment.name) for segment in segments]
        if not own or {"", "Segment"} & set(own):  # as 3D Slicer names them
            return {}
        names[path] = dict(zip(numbers, own, strict=True))
    return names


def _is_unique(segments: Sequence[_Segment]) -> bool:
    return len({segment.value for segment in segments}) == len(segments)


def _segments(path: Path) -> Iterator[_Segment]:
    """The segments that the header lists; raises ValueError if it is damaged."""
    values = read_values(path)
    index = 0
    while f"Segment{index}_LabelValue" in values:
        own = {key: values.get(f"Segment{index}_{key}", "") for key in ("Name", "Layer", "LabelValue")}
        (layer, value) = counts("segments", f"{own['Layer'] or 0} {own['LabelValue']}", 2, 0)
        yield _Segment(own["Name"] or f"Segment{index}", layer, value)
        index += 1
