"""The short way for the annotations of COCO of which a file may have very many: boxes without an outline."""

from collections.abc import Mapping
from typing import Any

from boxel.datasets.polygons import CocoObject, fits_as_corners

__all__ = ["plain_box"]

LARGEST = 1e300  # of a number; larger ones, NaN and infinity are for the reader to name


def plain_box(entry: Mapping[str, Any], labels: Mapping[int | str, int]) -> CocoObject | None:
    """The object of an annotation that is one box, written as COCO prescribes, and leaves nothing to say.

    Returns:
        The object that the reader would make of it; None if the reader has to look closer.
    """
    category, box, area = entry.get("category_id"), entry.get("bbox"), entry.get("area")
    if type(category) is not int or category not in labels or type(box) is not list or len(box) != 4:
        return None
    if entry.get("segmentation") or not (_is_unset(entry.get("iscrowd")) and _is_unset(entry.get("ignore"))):
        return None
    for value in box if area is None else (*box, area):
        if type(value) not in (int, float) or not -LARGEST < value < LARGEST:
            return None
    x, y, width, height = map(float, box)
    corners, area = (x, y, width, height), None if area is None else float(area)
    if width <= 0 or height <= 0 or (area is not None and fits_as_corners(corners, area)):
        return None
    return CocoObject(labels[category], corners, area=area)


def _is_unset(flag: object) -> bool:
    return flag is None or (type(flag) is int and flag == 0)
