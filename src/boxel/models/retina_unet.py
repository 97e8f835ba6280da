"""Retina U-Net: Retina Net whose pyramid continues to full resolution, where it learns to segment.

Reference: Jaeger et al., Retina U-Net, 2018, section 3.1, figure 2, eq. (1).
"""

from typing import ClassVar, NamedTuple

from torch import Tensor

from boxel.models.dense import DenseConfig, DenseDetection, DenseOutputs
from boxel.models.grid import Numbers, numbers_of
from boxel.models.pyramid import PyramidConfig, PyramidModel
from boxel.models.segmentation import Segmenter, SegmentingConfig
from boxel.types import Batch, Detections, Task


class RetinaUNetConfig(SegmentingConfig, name="retina_unet"):
    """Retina U-Net: Retina Net on a U-FPN whose finest level learns to segment."""

    dense: DenseConfig = DenseConfig()

    def build(self, task: Task) -> "RetinaUNet":
        return RetinaUNet(**numbers_of(task), config=self)


class RetinaUNetOutputs(NamedTuple):
    """Dense outputs and, where asked for, segmentation logits `(b, 1 + k, *s)`, background first."""

    dense: DenseOutputs
    segmentation: Tensor | None


class RetinaUNet(PyramidModel):
    """Retina U-Net (Jaeger et al., 2018). Losses `class`, `box` and `segmentation`.

    Differs from the paper: anchors are matched by ATSS (IoU of 0.5), classes learn from the focal loss with alpha 0.75
    (cross-entropy with hard negatives), boxes from 2 x (1 - GIoU) (smooth L1), the towers have group norm (none), and
    the segmentation counts half. `mdt_lidc_3d` and the other `mdt` recipes have the paper's settings.

    Example:
        >>> import torch
        >>> from boxel.models import RetinaUNet
        >>> model = RetinaUNet(ndim=2, in_channels=1, num_classes=2).eval()
        >>> outputs = model.infer(torch.rand(1, 1, 64, 64), segmentation=True)
        >>> model.segment(outputs).shape
        torch.Size([1, 2, 64, 64])
        >>> [detections] = model.detect(outputs, masks=True)
        >>> detections.masks.shape[1:]
        torch.Size([28, 28])
    """

    config_class: ClassVar[type[PyramidConfig]] = RetinaUNetConfig

    def add_heads(self, numbers: Numbers, config: RetinaUNetConfig) -> None:
        self.dense = DenseDetection(numbers, self.neck.channels, config.dense)
        self.segmenter = Segmenter(numbers, self.neck.finest_channels, config)
        self.learns_segmentation = self.segmenter.learns

    # One phase: the argument is there for the interface of all models.
    def infer(self, images: Tensor, *, segmentation: bool = False, phase: str = "all") -> RetinaUNetOutputs:
        features = self.encoder(images)
        pyramid = self.neck(features)
        dense = self.dense(pyramid.levels, images.shape[2:])
        return RetinaUNetOutputs(dense, self.segmenter(pyramid.finest) if segmentation else None)

    def loss(self, outputs: RetinaUNetOutputs, batch: Batch) -> dict[str, Tensor]:
        return self.dense.loss(outputs.dense, batch) | self.segmenter.loss(outputs.segmentation, batch)

    def detect(self, outputs: RetinaUNetOutputs, *, masks: bool = False) -> list[Detections[Tensor]]:
        detections = self.dense.detect(outputs.dense)
        return self.segmenter.add_masks(detections, outputs.segmentation) if masks else detections

    def segment(self, outputs: RetinaUNetOutputs) -> Tensor:
        return self.segmenter.probabilities(outputs.segmentation)
