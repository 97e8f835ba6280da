"""The ceiling of the toy tasks: an observer who knows how the images are made.

An image is uniform noise in 0..1 plus 0.2 in one object. A class and a centre are possible if every voxel then lies in
the range of its noise, and all possible ones are equally likely, since the noise is uniform and so are class and
centre: Bayes' rule is to count them.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from boxel.datasets.toy import CONTRAST, DIAMETERS, MARGIN, PRESETS, SCALES, toy_object
from boxel.types import Detections


def ideal_detections(image: np.ndarray, task: str, preset: str) -> Detections:
    """The object of a toy image `(*s)`, as each class that is possible.

    Returns:
        One box per possible class: the mean box of its possible centres, with the posterior probability of the class
        as score.
    """
    scale = SCALES[image.ndim]
    boxes, counts = [], []
    for label in range(2):
        template, offset = _template(task, preset, image.ndim, label, scale)
        centres = _possible_centres(image, template, offset, scale)
        counts.append(len(centres))
        if len(centres):
            lower = centres.mean(axis=0) - offset
            boxes.append(np.stack([lower, lower + template.shape]))
    scores = np.array([count for count in counts if count], np.float32) / max(1, sum(counts))
    labels = np.flatnonzero(counts)
    return Detections(np.array(boxes, np.float32).reshape(-1, 2, image.ndim), scores, labels)


def _template(task: str, preset: str, ndim: int, label: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """What an object brightens, cut to its box, and the place of the centre in it."""
    side = 2 * int(max(DIAMETERS[task]) * PRESETS[preset] * scale) + 5
    bright, _ = toy_object(task, preset, (side,) * ndim, (side // 2,) * ndim, label, scale)
    occupied = np.argwhere(bright)
    lower, upper = occupied.min(axis=0), occupied.max(axis=0) + 1
    cut = bright[tuple(slice(a, b) for a, b in zip(lower, upper, strict=True))]
    return cut, side // 2 - lower


def _possible_centres(image: np.ndarray, template: np.ndarray, offset: np.ndarray, scale: float) -> np.ndarray:
    """`(n, d)` centres at which no voxel of the object is below 0.2, and no voxel above 1 is outside of it."""
    margin, reach = max(1, round(MARGIN * scale)), max(template.shape)
    first, last = np.full(image.ndim, margin), np.array(image.shape) - margin
    bright = np.argwhere(image > 1)
    if len(bright):  # the object holds every such voxel, so its centre is near all of them
        first = np.maximum(first, bright.max(axis=0) - reach)
        last = np.minimum(last, bright.min(axis=0) + reach + 1)
    if (first >= last).any():
        return np.zeros((0, image.ndim))
    padded = np.pad(image, reach, constant_values=0.5)
    lower = first - offset + reach
    region = padded[tuple(slice(a, a + n) for a, n in zip(lower, last - first + template.shape - 1, strict=True))]
    windows = sliding_window_view(region, template.shape)
    inside = tuple(range(-image.ndim, 0))
    dark = ((windows < CONTRAST) & template).any(axis=inside)
    held = ((windows > 1) & template).sum(axis=inside)
    return np.argwhere(~dark & (held == len(bright))) + first
