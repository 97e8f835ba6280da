"""The mask head of Mask R-CNN, with its loss and the masks of detections.

Reference: He et al., Mask R-CNN, 2017, section 3.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from boxel.config import Config
from boxel.models.grid import Numbers
from boxel.models.postprocess import join
from boxel.models.roi import RoIDetection, RoIPooler, RoIs
from boxel.nn.blocks import Norm
from boxel.nn.roi_heads import RoIMaskHead
from boxel.ops import crop_masks
from boxel.types import Batch, Detections, Instances


class MaskConfig(Config):
    """The mask head.

    Attributes:
        pool_size: cells per axis that a RoI is pooled to, half the mask's; None: twice those of the box head.
        num_convs: convolutions before the mask.
        norm: the norm after each of them.
        weight: of this loss beside the others.
    """

    pool_size: tuple[PositiveInt, ...] | None = None
    num_convs: NonNegativeInt = 4
    norm: Norm = "group"
    weight: NonNegativeFloat = 1.0


class RoIMasks(nn.Module):
    """A mask per class for each RoI.

    Args:
        channels: of the pyramid.
        roi: the box head, whose pooling the mask head shares.
    """

    def __init__(self, numbers: Numbers, channels: int, roi: RoIDetection, config: MaskConfig) -> None:
        super().__init__()
        self.config = config
        self.pool: RoIPooler = roi.pool
        self.pool_size = config.pool_size or tuple(2 * cells for cells in roi.pool_size)
        outputs = numbers.num_classes + 1
        self.head = RoIMaskHead(numbers.ndim, channels, num_convs=config.num_convs, norm=config.norm, outputs=outputs)

    def forward(self, pyramid: Sequence[Tensor], boxes: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        """Logits `(r, *m)` of the mask of each RoI's class, on a grid over the RoI."""
        logits = self.head(self.pool(pyramid, boxes, images, self.pool_size))
        return logits[torch.arange(len(labels), device=labels.device), labels + 1]

    def loss(self, pyramid: Sequence[Tensor], rois: RoIs, batch: Batch) -> Tensor:
        """Cross-entropy of the own class' mask, mean over positive RoIs whose object has a mask, and their cells."""
        positive = (rois.labels >= 0).nonzero()[:, 0]
        objects = Instances.concatenate(batch.instances)
        rows = positive[objects.has_mask[rois.objects[positive]]]
        # The head takes part in every step, which distributed training relies on.
        if batch.label_maps is None or not len(rows):
            return self(pyramid, rois.boxes[:1], rois.images[:1], rois.labels[:1]).sum() * 0.0
        boxes, images, ids = rois.boxes[rows], rois.images[rows], objects.ids[rois.objects[rows]]
        logits = self(pyramid, boxes, images, rois.labels[rows])
        target = crop_masks(batch.label_maps, boxes, images, ids, logits.shape[1:])
        loss = F.binary_cross_entropy_with_logits(logits, (target >= 0.5).to(logits.dtype))
        return self.config.weight * loss

    @torch.no_grad()
    def add_masks(
        self, detections: Sequence[Detections[Tensor]], pyramid: Sequence[Tensor]
    ) -> list[Detections[Tensor]]:
        """The same detections with masks."""
        boxes, images = join([one.boxes for one in detections])
        labels = torch.cat([one.labels for one in detections])
        masks = self(pyramid, boxes, images, labels).sigmoid()
        return [replace(one, masks=masks[images == image]) for image, one in enumerate(detections)]
