"""Retina Net: a ResNet, a feature pyramid, dense class and box towers.

Reference: Lin et al., Focal Loss for Dense Object Detection, 2017; its levels as in Jaeger et al. 2018, section 3.1.
"""

from torch import Tensor

from boxel.models.base import Model
from boxel.models.dense import DenseConfig, DenseDetection, DenseOutputs
from boxel.models.pyramid import Pyramid, PyramidConfig
from boxel.types import Batch, Detections, Task


class RetinaNetConfig(PyramidConfig, name="retina_net"):
    """Retina Net: class and box towers on every level of an FPN."""

    dense: DenseConfig = DenseConfig()

    def build(self, task: Task) -> "RetinaNet":
        return RetinaNet(task, self)


class RetinaNet(Model):
    """See the module."""

    def __init__(self, task: Task, config: RetinaNetConfig) -> None:
        super().__init__()
        self.backbone = Pyramid(task, config)
        self.dense = DenseDetection(task, config.pyramid_filters, config.dense)

    def infer(self, images: Tensor, *, segmentation: bool = False, phase: str = "all") -> DenseOutputs:
        pyramid, _ = self.backbone(images)
        return self.dense(pyramid, images.shape[2:])

    def loss(self, outputs: DenseOutputs, batch: Batch) -> dict[str, Tensor]:
        return self.dense.loss(outputs, batch)

    def detect(self, outputs: DenseOutputs, *, masks: bool = False) -> list[Detections]:
        return self.dense.detect(outputs)
