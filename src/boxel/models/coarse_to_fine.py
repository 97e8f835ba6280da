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
from boxel.types import Batch, Detections


class CoarseConfig(FirstStageConfig, name="semantic_net"):
    """A network that segments; the boxes of its masks are the regions.

    Attributes:
        objects: whether a class has one box around its whole mask, or one for each connected component.
    """

    net: SemanticNetConfig = SemanticNetConfig(backbone=ResNetConfig(depth=18, start_filters=64, norm="batch"))
    objects: Literal["mask", "components"] = "mask"
    components: ComponentsConfig = ComponentsConfig()

    def build(self, numbers: Numbers, in_channels: int) -> "Coarse":
        return Coarse(numbers, in_channels, self)


class CoarseOutputs(NamedTuple):
    """Segmentation logits `(b, o, *s)`."""

    logits: Tensor


class Coarse(FirstStage):
    """A network that segments. Loss `coarse`."""

    def __init__(self, numbers: Numbers, in_channels: int, config: CoarseConfig) -> None:
        super().__init__()
        self.config = config
        self.net = SemanticNet(numbers, in_channels, config.net)
        self.components = Components(numbers, config.components)

    def forward(self, images: Float[Tensor, "b c *s"]) -> CoarseOutputs:
        return CoarseOutputs(self.net(images))

    def loss(self, outputs: CoarseOutputs, batch: Batch) -> dict[str, Tensor]:
        return {"coarse": self.net.loss(outputs.logits, self.net.target(batch))}

    @torch.no_grad()
    def propose(self, outputs: CoarseOutputs) -> Float[Tensor, "b 2 d"]:
        """The box around the mask of all classes; the whole image where the mask is empty."""
        shape = outputs.logits.shape[2:]
        foreground = self.net.probabilities(outputs.logits).argmax(1) > 0
        whole = torch.stack([torch.zeros(len(shape)), torch.tensor(shape, dtype=torch.float32)]).to(foreground.device)
        boxes = [_box_around(mask) if mask.any() else whole for mask in foreground]
        return torch.stack(boxes)

    @torch.no_grad()
    def locate(self, outputs: CoarseOutputs, shape: Sequence[int]) -> list[Detections[Tensor]]:
        probabilities = self.net.probabilities(outputs.logits)
        if self.config.objects == "components":
            return self.components.detect(probabilities)
        return [_whole_masks(one) for one in probabilities]


def _whole_masks(probabilities: Float[Tensor, "k *s"]) -> Detections[Tensor]:
    """One detection for each class that has a mask."""
    winner = probabilities.argmax(0)
    labels = winner.unique()
    labels = labels[labels > 0]
    masks = [winner == label for label in labels]
    ndim = winner.ndim
    boxes = torch.stack([_box_around(mask) for mask in masks]) if masks else winner.new_zeros((0, 2, ndim)).float()
    scores = [probabilities[label][mask].max() for label, mask in zip(labels, masks, strict=True)]
    found = Detections(boxes, torch.stack(scores) if scores else boxes.new_zeros(0), labels - 1)
    return found[found.scores.argsort(descending=True, stable=True)]


def _box_around(mask: Tensor) -> Float[Tensor, "2 d"]:
    voxels = mask.nonzero()
    return torch.stack([voxels.amin(0), voxels.amax(0) + 1]).float()


class CoarseToFineConfig(LSNetConfig, name="coarse_to_fine"):
    """Coarse-to-fine: L-SNet with another first stage, whose regions are cut out, without a gradient to it."""

    first: FirstStageConfig = CoarseConfig()
    region: Literal["recalibrate", "crop"] = "crop"
    margin: float = 15.0
