"""A model that knows the answer: what it detects and segments can be read off the image."""

import torch

from boxel.models.base import Model
from boxel.ops import crop_masks
from boxel.ops.masks import boxes_from_label_map
from boxel.types import Detections


class Oracle(Model):
    """Detects the tight box of each intensity 1, 2, ... in a tile, with score 0.9; segments them as classes.

    Args:
        certainty: the probability of a voxel's own class; the background has the rest.
    """

    def __init__(self, certainty: float = 1.0) -> None:
        super().__init__()
        self.certainty = certainty
        self.tiles_seen: list[tuple[int, ...]] = []

    def infer(self, images, *, segmentation=False, phase="all"):
        self.tiles_seen += [tuple(image.shape) for image in images]
        return images

    def loss(self, outputs, batch):
        return {}

    def detect(self, outputs, *, masks=False):
        detections = []
        for middle in self._middle(outputs):
            boxes, present = boxes_from_label_map(middle, torch.arange(1, 5))
            boxes = boxes[present]
            count = len(boxes)
            numbers = torch.arange(1, 5)[present]
            grids = crop_masks(middle[None], boxes, torch.zeros_like(numbers), numbers, (8,) * middle.ndim)
            scores, labels = torch.full((count,), 0.9), torch.zeros(count, dtype=torch.int64)
            detections.append(Detections(boxes, scores, labels, masks=grids if masks else None))
        return detections

    def segment(self, outputs):
        values = self._middle(outputs)
        classes = [(values == number) * self.certainty for number in range(1, 5)]
        return torch.stack([1 - sum(classes), *classes], dim=1)

    @staticmethod
    def _middle(images):
        """The image's own slice among those of its context."""
        return images[:, images.shape[1] // 2].round().int()
