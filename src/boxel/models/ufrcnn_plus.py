"""U-FRCNN+ (Retina U-Net 2-stage): Faster R-CNN+ on a U-FPN that learns to segment.

Reference: Jaeger et al., Retina U-Net, 2018, section 3.2 and figure 3.
"""

from typing import ClassVar, NamedTuple

from torch import Tensor

from boxel.models.dense import DenseOutputs
from boxel.models.grid import Numbers, numbers_of
from boxel.models.pyramid import PyramidConfig, PyramidModel
from boxel.models.roi import RoIDetection
from boxel.models.rpn import RPN
from boxel.models.segmentation import Segmenter, SegmentingConfig
from boxel.models.two_stage import TwoStageConfig
from boxel.types import Batch, Detections, Task


class UFRCNNPlusConfig(TwoStageConfig, SegmentingConfig, name="ufrcnn_plus"):
    """U-FRCNN+ (Retina U-Net 2-stage): Faster R-CNN+ on a U-FPN that learns to segment."""

    def build(self, task: Task) -> "UFRCNNPlus":
        return UFRCNNPlus(**numbers_of(task), config=self)


class UFRCNNPlusOutputs(NamedTuple):
    """The detecting levels, what the RPN predicts on them, and segmentation logits `(b, 1 + k, *s)` if asked for."""

    levels: list[Tensor]
    rpn: DenseOutputs
    segmentation: Tensor | None


class UFRCNNPlus(PyramidModel):
    """U-FRCNN+ (Jaeger et al., 2018): Faster R-CNN+ and a segmentation on one U-FPN.

    Losses `rpn_class`, `rpn_box`, `roi_class`, `roi_box` and `segmentation`.

    Differs from the papers: the RPN has newer defaults, see `RPNConfig`, the head of the second stage has group norm
    (none), the segmentation counts half, and RoIs are drawn at random (Jaeger et al.: by hard example mining).
    `mdt_lidc_3d` and the other `mdt` recipes, with `--model ufrcnn_plus`, have Jaeger et al.'s settings.

    Example:
        >>> import torch
        >>> from boxel.models import UFRCNNPlus
        >>> model = UFRCNNPlus(ndim=2, in_channels=1, num_classes=2).eval()
        >>> outputs = model.infer(torch.rand(1, 1, 64, 64), segmentation=True)
        >>> model.segment(outputs).shape
        torch.Size([1, 2, 64, 64])
    """

    config_class: ClassVar[type[PyramidConfig]] = UFRCNNPlusConfig

    def add_heads(self, numbers: Numbers, config: UFRCNNPlusConfig) -> None:
        self.rpn = RPN(numbers, self.neck.channels, config.rpn)
        self.roi = RoIDetection(numbers, self.neck.channels, config.roi)
        self.segmenter = Segmenter(numbers, self.neck.finest_channels, config)
        self.learns_segmentation = self.segmenter.learns

    # One phase: the argument is there for the interface of all models.
    def infer(self, images: Tensor, *, segmentation: bool = False, phase: str = "all") -> UFRCNNPlusOutputs:
        features = self.encoder(images)
        pyramid = self.neck(features)
        rpn = self.rpn(pyramid.levels, images.shape[2:])
        return UFRCNNPlusOutputs(pyramid.levels, rpn, self.segmenter(pyramid.finest) if segmentation else None)

    def loss(self, outputs: UFRCNNPlusOutputs, batch: Batch) -> dict[str, Tensor]:
        first = self.rpn.loss(outputs.rpn, batch)
        proposals = self.rpn.propose(outputs.rpn, to_train=True)
        rois = self.roi.sample(outputs.levels, proposals, batch.instances, batch.ignored)
        second = self.roi.loss(outputs.levels, rois, batch.instances)
        return first | second | self.segmenter.loss(outputs.segmentation, batch)

    def detect(self, outputs: UFRCNNPlusOutputs, *, masks: bool = False) -> list[Detections[Tensor]]:
        proposals = self.rpn.propose(outputs.rpn, to_train=False)
        detections = self.roi.detect(outputs.levels, proposals, outputs.rpn.shape)
        return self.segmenter.add_masks(detections, outputs.segmentation) if masks else detections

    def segment(self, outputs: UFRCNNPlusOutputs) -> Tensor:
        return self.segmenter.probabilities(outputs.segmentation)
