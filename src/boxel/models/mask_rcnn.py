"""Mask R-CNN: region proposals, RoIAlign, class and box head, mask head.

Reference: He et al., Mask R-CNN, 2017; as in Jaeger et al., Retina U-Net, 2018, section 3.2 and figure 3.
"""

from typing import ClassVar

from torch import Tensor

from boxel.models.grid import Numbers, numbers_of
from boxel.models.pyramid import PyramidConfig, PyramidModel
from boxel.models.roi import RoIDetection
from boxel.models.roi_masks import MaskConfig, RoIMasks
from boxel.models.rpn import RPN
from boxel.models.two_stage import TwoStageConfig, TwoStageOutputs
from boxel.types import Batch, Detections, Task


class MaskRCNNConfig(TwoStageConfig, name="mask_rcnn"):
    """Mask R-CNN: region proposals, RoIAlign, class and box head, mask head."""

    gives_masks: ClassVar[bool] = True

    mask: MaskConfig = MaskConfig()

    def build(self, task: Task) -> "MaskRCNN":
        return MaskRCNN(**numbers_of(task), config=self)


class MaskRCNN(PyramidModel):
    """Mask R-CNN (He et al., 2017): proposals, then class, box and mask of each.

    The second stage works on what the first proposes, so it belongs to `loss` and `detect`. Losses `rpn_class`,
    `rpn_box`, `roi_class`, `roi_box` and `mask`.

    Differs from the papers: the RPN has newer defaults, see `RPNConfig`, the heads of the second stage have group norm
    (none), and RoIs are drawn at random (Jaeger et al.: by hard example mining). `mdt_lidc_3d` and the other `mdt`
    recipes, with `--model mask_rcnn`, have Jaeger et al.'s settings.

    Example:
        >>> import torch
        >>> from boxel.models import MaskRCNN
        >>> model = MaskRCNN(ndim=2, in_channels=1, num_classes=2).eval()
        >>> [detections] = model(torch.rand(1, 1, 64, 64), masks=True)
        >>> detections.masks.shape[1:]
        torch.Size([28, 28])
    """

    config_class: ClassVar[type[PyramidConfig]] = MaskRCNNConfig

    def add_heads(self, numbers: Numbers, config: MaskRCNNConfig) -> None:
        self.rpn = RPN(numbers, self.neck.channels, config.rpn)
        self.roi = RoIDetection(numbers, self.neck.channels, config.roi)
        self.masks = RoIMasks(numbers, self.neck.channels, self.roi, config.mask)

    # Nothing to segment and one phase: the arguments are there for the interface of all models.
    def infer(self, images: Tensor, *, segmentation: bool = False, phase: str = "all") -> TwoStageOutputs:
        features = self.encoder(images)
        pyramid = self.neck(features)
        return TwoStageOutputs(pyramid.levels, self.rpn(pyramid.levels, images.shape[2:]))

    def loss(self, outputs: TwoStageOutputs, batch: Batch) -> dict[str, Tensor]:
        first = self.rpn.loss(outputs.rpn, batch)
        proposals = self.rpn.propose(outputs.rpn, to_train=True)
        rois = self.roi.sample(outputs.levels, proposals, batch.instances, batch.ignored)
        second = self.roi.loss(outputs.levels, rois, batch.instances)
        return first | second | {"mask": self.masks.loss(outputs.levels, rois, batch)}

    def detect(self, outputs: TwoStageOutputs, *, masks: bool = False) -> list[Detections[Tensor]]:
        proposals = self.rpn.propose(outputs.rpn, to_train=False)
        detections = self.roi.detect(outputs.levels, proposals, outputs.rpn.shape)
        return self.masks.add_masks(detections, outputs.levels) if masks else detections
