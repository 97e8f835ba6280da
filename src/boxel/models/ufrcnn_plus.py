"""U-FRCNN+ (Retina U-Net 2-stage): Faster R-CNN+ on a U-FPN that learns to segment.

Reference: Jaeger et al., Retina U-Net, 2018, section 3.2 and figure 3.
"""

from typing import NamedTuple

from torch import Tensor

from boxel.models.base import Model
from boxel.models.dense import DenseOutputs
from boxel.models.grid import PyramidGrid, numbers_of
from boxel.models.roi import RoIConfig, RoIDetection
from boxel.models.rpn import RPN, RPNConfig
from boxel.models.segmentation import Segmenter, SegmentingConfig
from boxel.nn import BackboneConfig, FPNConfig, NeckConfig, ResNetConfig
from boxel.types import Batch, Detections, Task


class UFRCNNPlusConfig(SegmentingConfig, name="ufrcnn_plus"):
    """U-FRCNN+ (Retina U-Net 2-stage): Faster R-CNN+ on a U-FPN that learns to segment."""

    backbone: BackboneConfig = ResNetConfig()
    neck: NeckConfig = FPNConfig()
    rpn: RPNConfig = RPNConfig()
    roi: RoIConfig = RoIConfig()

    def build(self, task: Task) -> "UFRCNNPlus":
        return UFRCNNPlus(**numbers_of(task), config=self, masks=task.masks)


class UFRCNNPlusOutputs(NamedTuple):
    """The detecting levels, what the RPN predicts on them, and segmentation logits `(b, 1 + k, *s)` if asked for."""

    levels: list[Tensor]
    rpn: DenseOutputs
    segmentation: Tensor | None


class UFRCNNPlus(Model):
    """U-FRCNN+ (Jaeger et al., 2018): Faster R-CNN+ and a segmentation on one U-FPN.

    Losses `rpn_class`, `rpn_box`, `roi_class`, `roi_box` and `segmentation`. Arguments as in `RetinaUNet`.

    Example:
        >>> import torch
        >>> from boxel.models import UFRCNNPlus
        >>> model = UFRCNNPlus(ndim=2, in_channels=1, num_classes=2).eval()
        >>> outputs = model.infer(torch.rand(1, 1, 64, 64), segmentation=True)
        >>> model.segment(outputs).shape
        torch.Size([1, 2, 64, 64])
    """

    def __init__(
        self,
        ndim: int,
        in_channels: int,
        num_classes: int,
        *,
        config: UFRCNNPlusConfig | None = None,
        grid: PyramidGrid | None = None,
        max_detections: int = 100,
        masks: bool = True,
    ) -> None:
        super().__init__()
        config, grid = config or UFRCNNPlusConfig(), grid or PyramidGrid.default(ndim)
        self.encoder = config.backbone.build(ndim, in_channels, grid.strides, full_resolution=True)
        self.neck = config.neck.build(ndim, self.encoder.channels, levels=grid.levels, full_resolution=True)
        channels = self.neck.channels
        self.rpn = RPN(ndim, channels, grid, config.rpn)
        self.roi = RoIDetection(ndim, channels, num_classes, grid, config.roi, max_detections=max_detections)
        self.segmenter = Segmenter(ndim, self.neck.finest_channels, num_classes, config, masks=masks)

    def infer(self, images: Tensor, *, segmentation: bool = False, phase: str = "all") -> UFRCNNPlusOutputs:
        features = self.encoder(images)
        pyramid = self.neck(features)
        rpn = self.rpn(pyramid.levels, images.shape[2:])
        return UFRCNNPlusOutputs(pyramid.levels, rpn, self.segmenter(pyramid.finest) if segmentation else None)

    def loss(self, outputs: UFRCNNPlusOutputs, batch: Batch) -> dict[str, Tensor]:
        first = self.rpn.loss(outputs.rpn, batch)
        proposals = self.rpn.propose(outputs.rpn)
        rois = self.roi.sample(outputs.levels, proposals, batch.instances, batch.ignored)
        terms = first | self.roi.loss(outputs.levels, rois, batch.instances)
        if outputs.segmentation is not None:
            terms["segmentation"] = self.segmenter.loss(outputs.segmentation, batch)
        return terms

    def detect(self, outputs: UFRCNNPlusOutputs, *, masks: bool = False) -> list[Detections]:
        proposals = self.rpn.propose(outputs.rpn)
        detections = self.roi.detect(outputs.levels, proposals, outputs.rpn.shape)
        return self.segmenter.add_masks(detections, outputs.segmentation) if masks else detections

    def segment(self, outputs: UFRCNNPlusOutputs) -> Tensor:
        return self.segmenter.probabilities(outputs.segmentation)
