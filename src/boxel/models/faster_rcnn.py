"""Faster R-CNN with the values of torchvision's `fasterrcnn_resnet50_fpn`: the network of Faster R-CNN+.

Reference: Ren et al., Faster R-CNN, 2015; Lin et al., Feature Pyramid Networks, 2017; every number: torchvision,
`models/detection/faster_rcnn.py`.
"""

from pathlib import Path
from typing import ClassVar

from boxel.models.base import Model
from boxel.models.dense import IoUMatcherConfig
from boxel.models.faster_rcnn_plus import FasterRCNNPlus
from boxel.models.grid import numbers_of
from boxel.models.loss_terms import BoxLossConfig, SampledConfig, SmoothL1Config
from boxel.models.pyramid import PyramidConfig
from boxel.models.roi import RoIConfig
from boxel.models.rpn import RPNConfig
from boxel.models.two_stage import TwoStageConfig
from boxel.nn import BackboneConfig, FPNConfig, NeckConfig, ResNetConfig
from boxel.nn.pretrained import Pretrained
from boxel.nn.pretrained.detectors import pretrained_detector
from boxel.types import Task

_BOX_LOSS: BoxLossConfig = SmoothL1Config(beta=1 / 9, over="sampled")


class FasterRCNNConfig(TwoStageConfig, name="faster_rcnn"):
    """Faster R-CNN as torchvision has it: a ResNet-50 with FPN, P2 to P6.

    Attributes:
        weights: file of torchvision's weights of the whole detector that a training starts from.
    """

    backbone: BackboneConfig = ResNetConfig(start_filters=64, stride_in="middle", norm="frozen")
    neck: NeckConfig = FPNConfig(filters=256, extra="pool")
    rpn: RPNConfig = RPNConfig(
        filters=256,
        norm="none",
        matcher=IoUMatcherConfig(positive=0.7, negative=0.3),
        class_loss=SampledConfig(),
        box_loss=_BOX_LOSS,
        centre_std=1.0,
        size_std=1.0,
        centred_anchors=False,
        candidates=1000,
        proposals=1000,
        train_candidates=2000,
        train_proposals=2000,
        nms_per_level=True,
    )
    roi: RoIConfig = RoIConfig(
        pool_size=7,
        aligned=False,
        level_rule="canonical",
        filters=1024,
        norm="none",
        per_image=512,
        positive_share=0.25,
        box_loss=_BOX_LOSS,
        candidates=20_000,  # all: at most 20 classes of each of the 1000 proposals reach a score of 0.05
        min_score=0.05,
    )
    weights: str | None = None

    def build(self, task: Task) -> "FasterRCNN":
        return FasterRCNN(**numbers_of(task), config=self)

    def pretrained(self, model: Model) -> Pretrained | None:
        return None if self.weights is None else pretrained_detector(Path(self.weights), model)


class FasterRCNN(FasterRCNNPlus):
    """Faster R-CNN (Ren et al., 2015) with FPN, as torchvision has it: losses and outputs of `FasterRCNNPlus`.

    Its anchors are numbers of the grid, `plan.anchors=torchvision`. In 3D every number counts for all axes: RoIs are
    pooled to 7 x 7 x 7 cells, and their level follows from the geometric mean of their extents.

    Differs from torchvision: of equally good anchors for an object below the IoU of 0.7 the first is positive (there:
    all), samples of a RoI beyond the image continue its border (there: zeros), and weights that no file gives start as
    torch's layers do (there: by a rule for each layer).

    Example:
        >>> import torch
        >>> from boxel.models import FasterRCNN
        >>> model = FasterRCNN(ndim=2, in_channels=3, num_classes=90).eval()
        >>> sum(weight.numel() for weight in model.parameters())
        41755286
        >>> [detections] = model(torch.rand(1, 3, 64, 64))
        >>> detections.boxes.shape[1:]
        torch.Size([2, 2])
    """

    config_class: ClassVar[type[PyramidConfig]] = FasterRCNNConfig
