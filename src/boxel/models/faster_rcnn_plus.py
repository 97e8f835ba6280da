"""Faster R-CNN+: region proposals, RoIAlign, class and box head; Mask R-CNN without its mask head.

Reference: Ren et al., Faster R-CNN, 2015; Jaeger et al., Retina U-Net, 2018, section 3.2.
"""

from typing import ClassVar

from torch import Tensor

from boxel.models.base import refuse_masks
from boxel.models.grid import Numbers, numbers_of
from boxel.models.pyramid import PyramidConfig, PyramidModel
from boxel.models.roi import RoIDetection
from boxel.models.rpn import RPN
from boxel.models.two_stage import TwoStageConfig, TwoStageOutputs
from boxel.types import Batch, Detections, Task


class FasterRCNNPlusConfig(TwoStageConfig, name="faster_rcnn_plus"):
    """Faster R-CNN+: region proposals, RoIAlign, class and box head; Mask R-CNN without its mask head."""

    def build(self, task: Task) -> "FasterRCNNPlus":
        return FasterRCNNPlus(**numbers_of(task), config=self)


class FasterRCNNPlus(PyramidModel):
    """Faster R-CNN+ (Jaeger et al., 2018): proposals, then class and box of each.

    The second stage works on what the first proposes, so it belongs to `loss` and `detect`. Losses `rpn_class`,
    `rpn_box`, `roi_class` and `roi_box`.

    Differs from the papers: the RPN has newer defaults, see `RPNConfig`, the head of the second stage has group norm
    (none), and RoIs are drawn at random (Jaeger et al.: by hard example mining). `mdt_lidc_3d` and the other `mdt`
    recipes, with `--model faster_rcnn_plus`, have Jaeger et al.'s settings.

    Example:
        >>> import torch
        >>> from boxel.models import FasterRCNNPlus
        >>> model = FasterRCNNPlus(ndim=2, in_channels=1, num_classes=2).eval()
        >>> [detections] = model(torch.rand(1, 1, 64, 64))
        >>> detections.boxes.shape[1:]
        torch.Size([2, 2])
    """

    config_class: ClassVar[type[PyramidConfig]] = FasterRCNNPlusConfig

    def add_heads(self, numbers: Numbers, config: TwoStageConfig) -> None:
        self.rpn = RPN(numbers, self.neck.channels, config.rpn)
        self.roi = RoIDetection(numbers, self.neck.channels, config.roi)

    # Nothing to segment and one phase: the arguments are there for the interface of all models.
    def infer(self, images: Tensor, *, segmentation: bool = False, phase: str = "all") -> TwoStageOutputs:
        features = self.encoder(images)
        pyramid = self.neck(features)
        return TwoStageOutputs(pyramid.levels, self.rpn(pyramid.levels, images.shape[2:]))

    def loss(self, outputs: TwoStageOutputs, batch: Batch) -> dict[str, Tensor]:
        first = self.rpn.loss(outputs.rpn, batch)
        proposals = self.rpn.propose(outputs.rpn, to_train=True)
        rois = self.roi.sample(outputs.levels, proposals, batch.instances, batch.ignored)
        return first | self.roi.loss(outputs.levels, rois, batch.instances)

    def detect(self, outputs: TwoStageOutputs, *, masks: bool = False) -> list[Detections[Tensor]]:
        refuse_masks(self, masks)
        proposals = self.rpn.propose(outputs.rpn, to_train=False)
        return self.roi.detect(outputs.levels, proposals, outputs.rpn.shape)
