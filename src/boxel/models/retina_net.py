"""Retina Net: a ResNet, a feature pyramid, dense class and box towers.

Reference: Lin et al., Focal Loss for Dense Object Detection, 2017; its levels as in Jaeger et al. 2018, section 3.1.
"""

from torch import Tensor

from boxel.models.base import Model, ModelConfig
from boxel.models.dense import DenseConfig, DenseDetection, DenseOutputs
from boxel.nn.fpn import FPN
from boxel.nn.resnet import BackboneConfig
from boxel.types import Batch, Detections, Task


class RetinaNetConfig(ModelConfig, name="retina_net"):
    """Retina Net; `pyramid_filters` is the width of the FPN."""

    backbone: BackboneConfig = BackboneConfig()
    pyramid_filters: int = 64
    dense: DenseConfig = DenseConfig()

    def build(self, task: Task) -> "RetinaNet":
        return RetinaNet(task, self)


class RetinaNet(Model):
    """See the module."""

    def __init__(self, task: Task, config: RetinaNetConfig) -> None:
        super().__init__()
        channels = len(task.channels) * (2 * task.context + 1)
        self.backbone = config.backbone.build(task.ndim, channels, task.strides, full_resolution=False)
        self.neck = FPN(
            task.ndim,
            self.backbone.channels,
            first_level=self.backbone.first_level,
            filters=config.pyramid_filters,
            outputs=task.levels,
        )
        self.dense = DenseDetection(task, config.pyramid_filters, config.dense)

    def infer(self, images: Tensor) -> DenseOutputs:
        return self.dense(self.neck(self.backbone(images)), images.shape[2:])

    def loss(self, outputs: DenseOutputs, batch: Batch) -> dict[str, Tensor]:
        return self.dense.loss(outputs, batch.instances)

    def detect(self, outputs: DenseOutputs) -> list[Detections]:
        return self.dense.detect(outputs)
