"""Crops around one object each, read for a mosaic onto the grid of its canvases."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from itertools import permutations
from typing import NamedTuple

import numpy as np

from boxel.datasets.cases import Dataset, read_case, read_case_image
from boxel.datasets.tiles import Crop, obstacle
from boxel.io import resample
from boxel.types import Geometry, Image, Progress
from boxel.wording import counted

__all__ = ["Place", "read_crops", "shown_besides"]


class Place(NamedTuple):
    """Where the object of a crop lies.

    Attributes:
        group: the patient.
        geometry: the grid of the crop.
        voxels: those of the object, `(n, d)`.
    """

    group: str
    geometry: Geometry
    voxels: np.ndarray


def read_crops(
    source: Dataset, canvas: Sequence[int], spacing: Sequence[float], progress: Progress
) -> tuple[list[Crop], dict[str, str]]:
    """The crops on the grid of the canvas, and why others are left out, by case.

    A crop that shows the object of another crop of its patient too is left out: nobody would have annotated it there.
    """
    crops: list[Crop] = []
    left_out: dict[str, str] = {}
    places: dict[str, Place] = {}
    for number, case in enumerate(source.cases, start=1):
        progress("read", number, len(source.cases))
        loaded = read_case(case, source)
        geometry, objects, label_map = loaded.image.geometry, loaded.instances, loaded.label_map
        if len(objects) != 1 or label_map is None or not objects.has_mask.all():
            left_out[case.id] = (
                f"{counted(len(objects), 'object')}, {int(objects.has_mask.sum())} with a mask, instead of one"
            )
            continue
        places[case.id] = Place(case.group or case.id, geometry, np.argwhere(label_map == objects.ids[0]))
        extent = np.asarray(geometry.shape) * geometry.spacing
        shape = np.maximum(np.rint(extent / spacing), 1).astype(int).tolist()
        image = np.rint(resample(loaded.image, shape).array[0]).clip(-32768, 32767).astype(np.int16)
        mask = resample(Image(label_map, geometry), shape, label_map=True).array == objects.ids[0]
        crop = Crop(case.id, case.group or case.id, int(objects.labels[0]), image, mask)
        wrong = obstacle(crop, canvas)
        if wrong:
            left_out[case.id] = wrong
        else:
            crops.append(crop)
    besides = shown_besides(places, lambda case: read_case_image(source[case], source).array[0])
    left_out |= {crop.case: f"shows the object of {besides[crop.case]} too" for crop in crops if crop.case in besides}
    return [crop for crop in crops if crop.case not in besides], left_out


def shown_besides(places: Mapping[str, Place], read: Callable[[str], np.ndarray]) -> dict[str, str]:
    """The crops in which voxels of another crop's object of the same patient are seen, each with such a crop.

    Crops may lie in the same place because their files say nothing of it: the voxels must have equal values too.

    Args:
        places: by case.
        read: gives the image `(*s)` of a case; called only where places overlap.
    """
    image = cache(read)
    found: dict[str, str] = {}
    for case, other in _pairs(places):
        own, theirs = _shared(places[case].geometry, places[other])
        if case not in found and len(own) and (image(case)[tuple(own.T)] == image(other)[tuple(theirs.T)]).mean() > 0.5:
            found[case] = other
    return found


def _pairs(places: Mapping[str, Place]) -> Iterator[tuple[str, str]]:
    groups: dict[str, list[str]] = {}
    for case, place in places.items():
        groups.setdefault(place.group, []).append(case)
    for cases in groups.values():
        yield from permutations(cases, 2)


def _shared(crop: Geometry, other: Place) -> tuple[np.ndarray, np.ndarray]:
    """The voxels `(n, d)` of a crop where voxels of another crop's object lie, and these."""
    positions = np.floor(crop.to_voxel(other.geometry.to_world(other.voxels + 0.5))).astype(int)
    inside = ((positions >= 0) & (positions < crop.shape)).all(axis=1)
    return positions[inside], other.voxels[inside]
