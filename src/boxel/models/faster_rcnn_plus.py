"""Faster R-CNN+: region proposals, RoIAlign, class and box head; Mask R-CNN without its mask head.

Reference: Ren et al., Faster R-CNN, 2015; Jaeger et al., Retina U-Net, 2018, section 3.2.
"""

from torch import Tensor

from boxel.models.base import Model, ModelConfig, refuse_masks
from boxel.models.grid import PyramidGrid, numbers_of
from boxel.models.roi import RoIConfig, RoIDetection
from boxel.models.rpn import RPN, RPNConfig, TwoStageOutputs
from boxel.nn import BackboneConfig, FPNConfig, NeckConfig, ResNetConfig
from boxel.types import Batch, Detections, Task


class FasterRCNNPlusConfig(ModelConfig, name="faster_rcnn_plus"):
    """Faster R-CNN+: region proposals, RoIAlign, class and box head; Mask R-CNN without its mask head."""

    backbone: BackboneConfig = ResNetConfig()
    neck: NeckConfig = FPNConfig()
    rpn: RPNConfig = RPNConfig()
    roi: RoIConfig = RoIConfig()

    def build(self, task: Task) -> "FasterRCNNPlus":
        return FasterRCNNPlus(**numbers_of(task), config=self)


class FasterRCNNPlus(Model):
    """Faster R-CNN+ (Jaeger et al., 2018): proposals, then class and box of each.

    The second stage works on what the first proposes, so it belongs to `loss` and `detect`. Losses `rpn_class`,
    `rpn_box`, `roi_class` and `roi_box`. Arguments as in `RetinaNet`.

    Example:
        >>> import torch
        >>> from boxel.models import FasterRCNNPlus
        >>> model = FasterRCNNPlus(ndim=2, in_channels=1, num_classes=2).eval()
        >>> [detections] = model(torch.rand(1, 1, 64, 64))
        >>> detections.boxes.shape[1:]
        torch.Size([2, 2])
    """

    def __init__(
        self,
        ndim: int,
        in_channels: int,
        num_classes: int,
        *,
        config: FasterRCNNPlusConfig | None = None,
        grid: PyramidGrid | None = None,
        max_detections: int = 100,
    ) -> None:
        super().__init__()
        config, grid = config or FasterRCNNPlusConfig(), grid or PyramidGrid.default(ndim)
        self.encoder = config.backbone.build(ndim, in_channels, grid.strides, full_resolution=False)
        self.neck = config.neck.build(ndim, self.encoder.channels, levels=grid.levels)
        channels = self.neck.channels
        self.rpn = RPN(ndim, channels, grid, config.rpn)
        self.roi = RoIDetection(ndim, channels, num_classes, grid, config.roi, max_detections=max_detections)

    def infer(self, images: Tensor, *, segmentation: bool = False, phase: str = "all") -> TwoStageOutputs:
        features = self.encoder(images)
        pyramid = self.neck(features)
        return TwoStageOutputs(pyramid.levels, self.rpn(pyramid.levels, images.shape[2:]))

    def loss(self, outputs: TwoStageOutputs, batch: Batch) -> dict[str, Tensor]:
        first = self.rpn.loss(outputs.rpn, batch)
        proposals = self.rpn.propose(outputs.rpn)
        rois = self.roi.sample(outputs.levels, proposals, batch.instances, batch.ignored)
        return first | self.roi.loss(outputs.levels, rois, batch.instances)

    def detect(self, outputs: TwoStageOutputs, *, masks: bool = False) -> list[Detections]:
        refuse_masks(self, masks)
        proposals = self.rpn.propose(outputs.rpn)
        return self.roi.detect(outputs.levels, proposals, outputs.rpn.shape)
