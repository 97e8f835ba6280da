"""Retina Net: an encoder, a feature pyramid, class and box towers on its levels.

Reference: Lin et al., Focal Loss for Dense Object Detection, 2017; its levels as in Jaeger et al. 2018, section 3.1.
"""

from typing import ClassVar

from torch import Tensor

from boxel.models.base import refuse_masks
from boxel.models.dense import DenseConfig, DenseDetection, DenseOutputs
from boxel.models.grid import Numbers, numbers_of
from boxel.models.pyramid import PyramidConfig, PyramidModel
from boxel.types import Batch, Detections, Task


class RetinaNetConfig(PyramidConfig, name="retina_net"):
    """Retina Net: class and box towers on every level of an FPN."""

    dense: DenseConfig = DenseConfig()

    def build(self, task: Task) -> "RetinaNet":
        return RetinaNet(**numbers_of(task), config=self)


class RetinaNet(PyramidModel):
    """Retina Net (Lin et al., 2017). Outputs are the `DenseOutputs` of all levels; losses `class` and `box`.

    Differs from the papers: anchors are matched by ATSS (Lin et al.: IoU of 0.5), the focal loss has alpha 0.75 (0.25;
    Jaeger et al.: cross-entropy with hard negatives), the box loss is 2 x (1 - GIoU) (smooth L1), and the towers have
    group norm (none). `mdt_lidc_3d` and the other `mdt` recipes, with `--model retina_net`, have Jaeger et al.'s
    settings.

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

    config_class: ClassVar[type[PyramidConfig]] = RetinaNetConfig

    def add_heads(self, numbers: Numbers, config: RetinaNetConfig) -> None:
        self.dense = DenseDetection(numbers, self.neck.channels, config.dense)

    # Nothing to segment and one phase: the arguments are there for the interface of all models.
    def infer(self, images: Tensor, *, segmentation: bool = False, phase: str = "all") -> DenseOutputs:
        features = self.encoder(images)
        pyramid = self.neck(features)
        return self.dense(pyramid.levels, images.shape[2:])

    def loss(self, outputs: DenseOutputs, batch: Batch) -> dict[str, Tensor]:
        return self.dense.loss(outputs, batch)

    def detect(self, outputs: DenseOutputs, *, masks: bool = False) -> list[Detections[Tensor]]:
        refuse_masks(self, masks)
        return self.dense.detect(outputs)
