"""The ceiling of the toy tasks: an observer who knows how the images are made.

An image is uniform noise in 0..1 plus 0.2 in one object. A class and a centre are possible if every voxel then lies in
the range of its noise, and all possible ones are equally likely, since the noise is uniform and so are class and
centre: Bayes' rule is to count them.
"""

from collections.abc import Sequence
from itertools import product

import numpy as np

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
    reach = max(template.shape)
    padded = np.pad(image, reach, constant_values=0.5)
    too_dark, too_bright = (padded < CONTRAST), (padded > 1)
    margin = max(1, round(MARGIN * scale))
    candidates = product(*(range(margin, n - margin) for n in image.shape))
    if (anchor := np.argwhere(image > 1)).size:  # the object holds every such voxel, so its centre is near all of them
        low, high = anchor.max(axis=0) - template.shape, anchor.min(axis=0) + template.shape
        ranges = [range(max(margin, a), min(n - margin, b + 1)) for a, b, n in zip(low, high, image.shape, strict=True)]
        candidates = product(*ranges)
    number = int(too_bright.sum())
    possible = [centre for centre in candidates if _fits(centre, template, offset, reach, too_dark, too_bright, number)]
    return np.array(possible, float).reshape(-1, image.ndim)


def _fits(
    centre: Sequence[int], template: np.ndarray, offset: np.ndarray, reach: int,
    too_dark: np.ndarray, too_bright: np.ndarray, number: int,
) -> bool:  # fmt: skip
    window = tuple(
        slice(c - o + reach, c - o + reach + n) for c, o, n in zip(centre, offset, template.shape, strict=True)
    )
    return not (too_dark[window] & template).any() and int((too_bright[window] & template).sum()) == number
