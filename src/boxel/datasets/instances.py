"""Objects of a case that are suspect: repeated ones, those that reach out of the image, and those that fill it."""

from dataclasses import replace
from typing import Any

import numpy as np

from boxel.types import Instances

__all__ = ["clipped", "fills_image", "repeated"]


def repeated(instances: Instances, *, any_class: bool = False) -> np.ndarray:
    """`(n,)` bool: the objects that have the box and the class of another one; of such a group one is left.

    Two masks are two objects, even in one box: a label map holds each voxel once. A box is not another object than the
    mask in it.

    Args:
        any_class: the class may differ.
    """
    seen: set[tuple[Any, ...]] = set()
    result = np.zeros(len(instances), bool)
    boxes = list(map(tuple, instances.boxes.reshape(len(instances), -1).tolist())) if len(instances) else []
    if len(set(boxes)) == len(boxes):
        return result
    for row in np.argsort(~instances.has_mask, kind="stable").tolist():  # those with masks first
        key = (*boxes[row], -1 if any_class else int(instances.labels[row]))
        result[row] = key in seen and not instances.has_mask[row]
        seen.add(key)
    return result


def clipped(instances: Instances, shape: tuple[int, ...]) -> Instances:
    """Drop boxes without extent, and clip those that reach into the image at its border."""
    boxes = instances.boxes
    clipped = np.clip(boxes, 0, shape).astype(np.float32)
    touches = (clipped[:, 0] < clipped[:, 1]).all(axis=1, keepdims=True)[..., None]
    return replace(instances, boxes=np.where(touches, clipped, boxes))[(boxes[:, 0] < boxes[:, 1]).all(axis=1)]


def fills_image(instances: Instances, shape: tuple[int, ...]) -> np.ndarray:
    """`(n,)` bool: the objects with a mask as large as the image, as in a mask that is inverted."""
    extents = instances.boxes[:, 1] - instances.boxes[:, 0]
    return instances.has_mask & (extents == shape).all(axis=1)
