"""The components of a DetU-Net that become detections."""

import pytest
import torch

from boxel.models.det_unet import DetUNetOutputs
from tests.unit.builders import MODELS, make_task

# Widths of the components, largest first: class 0 has 6, 4 and 2 voxels, class 1 has 5 and 3.
WIDTHS = {0: (6, 4, 2), 1: (5, 3)}


def components(ndim, candidates, per):
    """(class, width) of the detections on an image with the components of `WIDTHS`."""
    logits = torch.zeros(1, 3, *(48,) * ndim)
    logits[:, 0] = 5.0
    start = 1
    for label, widths in WIDTHS.items():
        for width in widths:
            logits[(0, label + 1, *(slice(start, start + width),) * ndim)] = 9.0
            start += width + 2
    changes = {"candidates": candidates, "candidates_per": per, "min_voxels": 4}
    model = MODELS["det_unet"].model_copy(update=changes).build(make_task(ndim, size=48))
    (detections,) = model.detect(DetUNetOutputs(logits))
    widths = (detections.boxes[:, 1] - detections.boxes[:, 0])[:, -1].int().tolist()
    return sorted(zip(detections.labels.tolist(), widths, strict=True), key=lambda one: (one[0], -one[1]))


@pytest.mark.parametrize(
    ("candidates", "per", "expected"),
    [
        (None, "class", [(0, 6), (0, 4), (0, 2), (1, 5), (1, 3)]),
        (None, "image", [(0, 6), (0, 4), (0, 2), (1, 5), (1, 3)]),
        (2, "class", [(0, 6), (0, 4), (1, 5), (1, 3)]),
        (1, "class", [(0, 6), (1, 5)]),
        (3, "image", [(0, 6), (0, 4), (1, 5)]),
        (2, "image", [(0, 6), (1, 5)]),
        (1, "image", [(0, 6)]),
    ],
)
def test_the_largest_components_are_kept_of_each_class_or_of_the_image(ndim, candidates, per, expected):
    assert components(ndim, candidates, per) == expected
