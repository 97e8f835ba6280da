"""Retina Net: an encoder, a feature pyramid, class and box towers on its levels.

Reference: Lin et al., Focal Loss for Dense Object Detection, 2017; its levels as in Jaeger et al. 2018, section 3.1.
"""

from torch import Tensor

from boxel.models.base import Model, ModelConfig, refuse_masks
from boxel.models.dense import DenseConfig, DenseDetection, DenseOutputs
from boxel.models.grid import PyramidGrid, numbers_of
from boxel.nn import BackboneConfig, FPNConfig, NeckConfig, ResNetConfig
from boxel.types import Batch, Detections, Task


class RetinaNetConfig(ModelConfig, name="retina_net"):
    """Retina Net: class and box towers on every level of an FPN."""

    backbone: BackboneConfig = ResNetConfig()
    neck: NeckConfig = FPNConfig()
    dense: DenseConfig = DenseConfig()

    def build(self, task: Task) -> "RetinaNet":
        return RetinaNet(**numbers_of(task), config=self)


class RetinaNet(Model):
    """Retina Net (Lin et al., 2017). Outputs are the `DenseOutputs` of all levels; losses `class` and `box`.

    Args:
        ndim: spatial axes of the images, 2 or 3.
        in_channels: channels of the images.
        num_classes: classes of objects, background not counted.
        config: sizes and training targets.
        grid: strides, detecting levels and anchors; default: P2 to P5 with three anchors each.
        max_detections: most boxes kept per image.

    Example:
        >>> import torch
        >>> from boxel import Batch, Instances
        >>> from boxel.models import RetinaNet
        >>> model = RetinaNet(ndim=2, in_channels=1, num_classes=2)
        >>> objects = Instances.from_boxes([[[8, 8], [24, 30]]], labels=[1])
        >>> batch = Batch(torch.rand(1, 1, 64, 64), instances=[objects])
        >>> sorted(model(batch.images, batch))
        ['box', 'class']
        >>> [detections] = model.eval()(batch.images)
        >>> detections.boxes.shape[1:]
        torch.Size([2, 2])
    """

    def __init__(
        self,
        ndim: int,
        in_channels: int,
        num_classes: int,
        *,
        config: RetinaNetConfig | None = None,
        grid: PyramidGrid | None = None,
        max_detections: int = 100,
    ) -> None:
        super().__init__()
        config, grid = config or RetinaNetConfig(), grid or PyramidGrid.default(ndim)
        self.encoder = config.backbone.build(ndim, in_channels, grid.strides, full_resolution=False)
        self.neck = config.neck.build(ndim, self.encoder.channels, levels=grid.levels)
        self.dense = DenseDetection(
            ndim, self.neck.channels, num_classes, grid, config.dense, max_detections=max_detections
        )

    def infer(self, images: Tensor, *, segmentation: bool = False, phase: str = "all") -> DenseOutputs:
        features = self.encoder(images)
        pyramid = self.neck(features)
        return self.dense(pyramid.levels, images.shape[2:])

    def loss(self, outputs: DenseOutputs, batch: Batch) -> dict[str, Tensor]:
        return self.dense.loss(outputs, batch)

    def detect(self, outputs: DenseOutputs, *, masks: bool = False) -> list[Detections]:
        refuse_masks(self, masks)
        return self.dense.detect(outputs)
