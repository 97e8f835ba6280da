"""The short way for the annotations of COCO of which a file may have very many: boxes without an outline."""

from collections.abc import Mapping
from typing import Any

from boxel.datasets.polygons import CocoObject, fits_as_corners

__all__ = ["plain_box"]

NUMBERS = {int, float}
LARGEST = 1e300  # of numbers; larger ones, NaN and infinity are for the reader to name


def plain_box(entry: Mapping[str, Any], labels: Mapping[int | str, int]) -> CocoObject | None:
    """The object of an annotation that is one box, written as COCO prescribes, and leaves nothing to say.

    Returns:
        The object that the reader would make of it; None if the reader has to look closer.
    """
    category, box, area = entry.get("category_id"), entry.get("bbox"), entry.get("area")
    if type(category) is not int or category not in labels or type(box) is not list or len(box) != 4:
        return None
    for flag in (entry.get("iscrowd"), entry.get("ignore")):
        if flag is not None and (type(flag) is not int or flag):
            return None
    values = box if area is None else [*box, area]
    if entry.get("segmentation") or not NUMBERS.issuperset(map(type, values)):
        return None
    if not sum(map(abs, values), 0.0) < LARGEST or box[2] <= 0 or box[3] <= 0:
        return None
    x, y, width, height = map(float, box)
    corners, area = (x, y, width, height), None if area is None else float(area)
    if area is not None and fits_as_corners(corners, area):
        return None
    return CocoObject(labels[category], corners, area=area)
