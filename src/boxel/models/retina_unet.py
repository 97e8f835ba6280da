"""Retina U-Net: Retina Net whose pyramid goes on to full resolution, where it learns to segment.

Reference: Jaeger et al., Retina U-Net, 2018, section 3.1, figure 2, eq. (1).
"""

from typing import NamedTuple

from torch import Tensor

from boxel.models.base import Model
from boxel.models.dense import DenseConfig, DenseDetection, DenseOutputs
from boxel.models.pyramid import Pyramid, UPyramidConfig
from boxel.models.segmentation import Segmentation
from boxel.types import Batch, Detections, Task


class RetinaUNetConfig(UPyramidConfig, name="retina_unet"):
    """Retina U-Net: Retina Net on a U-FPN whose finest level learns to segment."""

    dense: DenseConfig = DenseConfig()

    def build(self, task: Task) -> "RetinaUNet":
        return RetinaUNet(task, self)


class RetinaUNetOutputs(NamedTuple):
    """Dense outputs and, where asked for, segmentation logits `(b, k, *s)`, background first."""

    dense: DenseOutputs
    segmentation: Tensor | None


class RetinaUNet(Model):
    """See the module."""

    def __init__(self, task: Task, config: RetinaUNetConfig) -> None:
        super().__init__()
        self.backbone = Pyramid(task, config)
        self.dense = DenseDetection(task, config.pyramid_filters, config.dense)
        self.segmentation = Segmentation(task, config)

    def infer(self, images: Tensor, *, segmentation: bool = False, phase: str = "all") -> RetinaUNetOutputs:
        # Boxes alone need neither P0 nor what leads to it.
        pyramid, logits = self.backbone(images, self.segmentation.conv if segmentation else None)
        return RetinaUNetOutputs(self.dense(pyramid, images.shape[2:]), logits)

    def loss(self, outputs: RetinaUNetOutputs, batch: Batch) -> dict[str, Tensor]:
        terms = self.dense.loss(outputs.dense, batch)
        if outputs.segmentation is not None:
            terms["segmentation"] = self.segmentation.loss(outputs.segmentation, batch)
        return terms

    def detect(self, outputs: RetinaUNetOutputs, *, masks: bool = False) -> list[Detections]:
        found = self.dense.detect(outputs.dense)
        return (
            found
            if outputs.segmentation is None or not masks
            else self.segmentation.with_masks(outputs.segmentation, found)
        )

    def segment(self, outputs: RetinaUNetOutputs) -> Tensor:
        if outputs.segmentation is None:
            raise ValueError("these outputs have no segmentation; call infer(images, segmentation=True)")
        return outputs.segmentation.float().softmax(1)
