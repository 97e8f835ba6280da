"""U-Net, Attention U-Net and FCN: one network that segments, with connected components as detections.

Reference: Ronneberger et al., U-Net, 2015; Oktay et al., Attention U-Net, 2018; Long et al., FCN, 2015; the baselines
of L-SNet.
"""

from typing import ClassVar, NamedTuple

from torch import Tensor

from boxel.models.built import BuiltModel
from boxel.models.components import Components, ComponentsConfig
from boxel.models.grid import Numbers, numbers_of
from boxel.models.semantic_net import SemanticConfig, SemanticNet, SemanticNetConfig
from boxel.types import Batch, Detections, Task


class UNetConfig(SemanticConfig, name="unet"):
    """U-Net (or Attention U-Net, or FCN): a segmentation whose connected components are the detections."""

    net: SemanticNetConfig = SemanticNetConfig()
    components: ComponentsConfig = ComponentsConfig()

    @property
    def fills_boxes(self) -> bool:
        return self.net.boxes_without_mask == "fill"

    def build(self, task: Task) -> "UNet":
        return UNet(**numbers_of(task), config=self)


class UNetOutputs(NamedTuple):
    """Segmentation logits `(b, o, *s)`."""

    logits: Tensor


class UNet(BuiltModel):
    """A network that segments at full resolution. Loss `segmentation`. Objects of a class that touch are one detection.

    Example:
        >>> import torch
        >>> from boxel.models import SemanticNetConfig, UNet, UNetConfig
        >>> config = UNetConfig(net=SemanticNetConfig(decoder="attention_unet", filters=8))
        >>> model = UNet(ndim=2, in_channels=1, num_classes=2, config=config).eval()
        >>> model.segment(model.infer(torch.rand(1, 1, 64, 64))).shape
        torch.Size([1, 3, 64, 64])
    """

    config_class: ClassVar[type[UNetConfig]] = UNetConfig

    def add_parts(self, numbers: Numbers, in_channels: int, config: UNetConfig) -> None:
        self.net = SemanticNet(numbers, in_channels, config.net)
        self.components = Components(numbers, config.components)

    # It always segments, and has one phase: the arguments are there for the interface of all models.
    def infer(self, images: Tensor, *, segmentation: bool = False, phase: str = "all") -> UNetOutputs:
        return UNetOutputs(self.net(images))

    def loss(self, outputs: UNetOutputs, batch: Batch) -> dict[str, Tensor]:
        return {"segmentation": self.net.loss(outputs.logits, self.net.target(batch))}

    def segment(self, outputs: UNetOutputs) -> Tensor:
        return self.net.probabilities(outputs.logits)

    def detect(self, outputs: UNetOutputs, *, masks: bool = False) -> list[Detections[Tensor]]:
        return self.components.detect(self.segment(outputs), masks=masks)
