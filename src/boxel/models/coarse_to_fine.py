"""Coarse-to-fine segmentation: a network segments the image, a second one segments the part around that, cut out.

Reference: Zhou et al., A fixed-point model for pancreas segmentation, 2017, and Zhao et al., 2019, as L-SNet has them.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from pydantic import NonNegativeFloat
from torch import Tensor

from boxel.models.components import Components, ComponentsConfig
from boxel.models.first_stage import FirstStage, FirstStageConfig
from boxel.models.grid import Numbers
from boxel.models.lsnet import LSNetConfig
from boxel.models.semantic_net import SemanticNet, SemanticNetConfig
from boxel.nn import ResNetConfig
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
        """One of the boxes that `locate` gives, at random; the whole image where there is none."""
        shape = outputs.logits.shape[2:]
        whole = torch.tensor([[0.0] * len(shape), [float(extent) for extent in shape]], device=outputs.logits.device)
        found = [one.boxes for one in self.locate(outputs, shape)]
        return torch.stack([_draw(boxes) if len(boxes) else whole for boxes in found])

    @torch.no_grad()
    def locate(self, outputs: CoarseOutputs, shape: Sequence[int]) -> list[Detections[Tensor]]:
        return self.components.detect(self.net.probabilities(outputs.logits))


def _draw(boxes: Float[Tensor, "n 2 d"]) -> Float[Tensor, "2 d"]:
    return boxes[int(torch.randint(len(boxes), ())) if len(boxes) > 1 else 0]


class CoarseToFineConfig(LSNetConfig, name="coarse_to_fine"):
    """Coarse-to-fine: L-SNet with another first stage, whose regions are cut out, without a gradient to it."""

    first: FirstStageConfig = CoarseConfig()
    region: Literal["recalibrate", "crop"] = "crop"
    margin: NonNegativeFloat = 15.0
