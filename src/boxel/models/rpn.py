"""The region proposal network: where objects of any class may be.

Reference: Ren et al., Faster R-CNN, 2015, section 3.1.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn

from boxel.models.dense import DenseConfig, DenseDetection, DenseOutputs
from boxel.models.grid import Numbers
from boxel.ranges import ZeroToOne
from boxel.types import Batch, Detections


class RPNConfig(DenseConfig):
    """The region proposal network: one class, one tower for class and box.

    Differs from the paper by the defaults of `DenseConfig`: anchors are matched by ATSS (Ren et al.: IoU of 0.7), the
    losses are the focal loss with alpha 0.75 (cross-entropy of drawn anchors) and 2 x (1 - GIoU) (smooth L1), and the
    tower has group norm (none). The `mdt` recipes have the settings of Jaeger et al.

    Attributes:
        anchor_step: uses every n-th anchor size of the plan; 3 keeps the base octave of Retina U-Net's nine.
        proposals: most boxes handed on per image; in prediction at least as many as there may be detections.
        train_candidates, train_proposals: those of training, where they differ.
    """

    num_convs: NonNegativeInt = 1
    shared_tower: bool = True
    per_level: bool = True
    candidates: PositiveInt | None = 500
    min_score: ZeroToOne = 0.0
    nms_threshold: ZeroToOne = 0.7
    anchor_step: PositiveInt = 1
    proposals: PositiveInt = 200
    train_candidates: PositiveInt | None = None
    train_proposals: PositiveInt | None = None


class RPN(nn.Module):
    """The dense detector of the one-stage models, with a single class.

    Args:
        channels: of the pyramid.
    """

    def __init__(self, numbers: Numbers, channels: int, config: RPNConfig) -> None:
        super().__init__()
        anchors = tuple(sizes[:: config.anchor_step] for sizes in numbers.grid.anchors)
        grid = replace(numbers.grid, anchors=anchors)
        self.numbers, self.config = numbers, config
        own = replace(numbers, num_classes=1, grid=grid)
        self.dense = DenseDetection(own, channels, config)

    def forward(self, levels: list[Tensor], shape: Sequence[int]) -> DenseOutputs:
        return self.dense(levels, shape)

    def loss(self, outputs: DenseOutputs, batch: Batch) -> dict[str, Tensor]:
        """Terms `rpn_class` and `rpn_box`."""
        objects = [replace(one, labels=torch.zeros_like(one.labels)) for one in batch.instances]
        terms = self.dense.loss(outputs, replace(batch, instances=objects))
        return {f"rpn_{name}": term for name, term in terms.items()}

    def propose(self, outputs: DenseOutputs, *, to_train: bool) -> list[Detections[Tensor]]:
        """The boxes of each image that look most like an object.

        Args:
            to_train: for the loss; else for detections, of which there may be more than `proposals`.
        """
        config = self.config
        if to_train:
            return self.dense.detect(outputs, config.train_proposals or config.proposals, config.train_candidates)
        return self.dense.detect(outputs, max(config.proposals, self.numbers.detections_in(outputs.shape)))
