"""Coarse-to-fine segmentation: a network segments the image, a second one segments the part around that, cut out.

Reference: Zhou et al., A fixed-point model for pancreas segmentation, 2017, and Zhao et al., 2019, as L-SNet has them.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from boxel.models.components import Components, ComponentsConfig
from boxel.models.first_stage import FirstStage, FirstStageConfig
from boxel.models.grid import Numbers
from boxel.models.lsnet import LSNetConfig
from boxel.models.semantic_net import SemanticNet, SemanticNetConfig
from boxel.nn import ResNetConfig
from boxel.ops import boxes_from_label_map
from boxel.types import Batch, Detections


class CoarseConfig(FirstStageConfig, name="semantic_net"):
    """A network that segments; the boxes of its masks are the regions, by default one around the mask of each class."""

    net: SemanticNetConfig = SemanticNetConfig(backbone=ResNetConfig(depth=18, start_filters=64, norm="batch"))
    components: ComponentsConfig = ComponentsConfig(connectivity="whole", min_voxels=1, min_score=0.0)

    def build(self, numbers: Numbers, in_channels: int) -> "Coarse":
        return Coarse(numbers, in_channels, self)


class CoarseOutputs(NamedTuple):
    """Segmentation logits `(b, o, *s)`."""

    logits: Tensor


class Coarse(FirstStage):
    """A network that segments. Loss `coarse`."""

    def __init__(self, numbers: Numbers, in_channels: int, config: CoarseConfig) -> None:
        super().__init__()
        self.net = SemanticNet(numbers, in_channels, config.net)
        self.components = Components(numbers, config.components)

    def forward(self, images: Float[Tensor, "b c *s"]) -> CoarseOutputs:
        return CoarseOutputs(self.net(images))

    def loss(self, outputs: CoarseOutputs, batch: Batch) -> dict[str, Tensor]:
        return {"coarse": self.net.loss(outputs.logits, self.net.target(batch))}

    @torch.no_grad()
    def propose(self, outputs: CoarseOutputs) -> Float[Tensor, "b 2 d"]:
        """The box around the mask of all classes; the whole image where the mask is empty."""
        foreground = self.net.probabilities(outputs.logits).argmax(1) > 0
        boxes = [boxes_from_label_map(mask.long(), torch.ones(1, device=mask.device).long()) for mask in foreground]
        shape = boxes[0][0].new_tensor(outputs.logits.shape[2:])
        whole = torch.stack([torch.zeros_like(shape), shape])
        return torch.stack([box[0] if present else whole for box, present in boxes])

    @torch.no_grad()
    def locate(self, outputs: CoarseOutputs, shape: Sequence[int]) -> list[Detections[Tensor]]:
        return self.components.detect(self.net.probabilities(outputs.logits))


class CoarseToFineConfig(LSNetConfig, name="coarse_to_fine"):
    """Coarse-to-fine: L-SNet with another first stage, whose regions are cut out, without a gradient to it."""

    first: FirstStageConfig = CoarseConfig()
    region: Literal["recalibrate", "crop"] = "crop"
    margin: float = 15.0
