"""A model of your own in one file: each cell of one feature map near the middle of an object predicts its box.

    boxel train work --plugin examples/my_model.py --recipe my_model_small --out run
    boxel predict run scans/ --plugin examples/my_model.py --out predictions

A model is two classes: a configuration, registered by `name=` in its class line, whose `build` adds what the data
dictates, and a `Model` with the methods `infer`, `loss` and `detect`. The code is the same in 2D and 3D.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from boxel.models import Model, ModelConfig
from boxel.models.postprocess import best_boxes
from boxel.nn import nd
from boxel.nn.backbone import BackboneConfig
from boxel.nn.blocks import conv_block
from boxel.nn.losses import focal_loss
from boxel.nn.resnet import ResNetConfig
from boxel.ops import anchor_grid, centre, decode, paired_overlap
from boxel.types import Batch, Detections, Task


class MyModelConfig(ModelConfig, name="my_model"):
    """My model: a detector without anchors on one level."""

    backbone: BackboneConfig = ResNetConfig(depth=18, start_filters=16, norm="batch")
    stages: int = 3
    filters: int = 64
    min_score: float = 0.02

    def build(self, task: Task) -> "MyModel":
        return MyModel(task, self)


class Outputs(NamedTuple):
    """`logits (b, n, k)` and `deltas (b, n, 2, d)` of `cells (n, 2, d)`, for images of `shape`."""

    logits: Tensor
    deltas: Tensor
    cells: Tensor
    shape: tuple[int, ...]


class MyModel(Model):
    """A backbone, one convolution, and at each cell of its last feature map the logits and the box."""

    def __init__(self, task: Task, config: MyModelConfig) -> None:
        super().__init__()
        self.config, self.num_classes, self.max_detections = config, len(task.classes), task.max_detections
        strides = task.strides[: config.stages]
        self.stride = torch.tensor(strides, dtype=torch.float32).prod(0).tolist()
        self.backbone = config.backbone.build(task.ndim, task.input_channels, strides, full_resolution=False)
        self.tower = conv_block(task.ndim, self.backbone.channels[-1], config.filters, norm="group")
        self.head = nd.CONV[task.ndim](config.filters, self.num_classes + 2 * task.ndim, 1)
        nn.init.constant_(self.head.bias[: self.num_classes], -4.0)  # objects are rare: scores start near 0.02

    def infer(self, images: Tensor, *, segmentation: bool = False, phase: str = "all") -> Outputs:
        features = self.tower(self.backbone(images)[-1])
        rows = self.head(features).flatten(2).transpose(1, 2).float()  # (b, n, k + 2d)
        cells = anchor_grid(features.shape[2:], self.stride, [self.stride], device=rows.device)
        deltas = rows[..., self.num_classes :].unflatten(-1, cells.shape[1:])
        return Outputs(rows[..., : self.num_classes], deltas, cells, tuple(images.shape[2:]))

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        class_terms, box_terms, num_positives = [], [outputs.deltas.sum() * 0.0], 0
        for logits, deltas, objects in zip(outputs.logits, outputs.deltas, batch.instances, strict=True):
            labels, owner = self._targets(outputs.cells, objects.boxes, objects.labels)
            class_terms.append(focal_loss(logits, labels, softmax=False, alpha=0.25, gamma=2.0).sum())
            positive = labels >= 0
            if positive.any():
                boxes = decode(deltas[positive], outputs.cells[positive])
                box_terms.append((1 - paired_overlap(boxes, objects.boxes[owner[positive]], "giou")).sum())
                num_positives += int(positive.sum())
        return {
            name: sum(terms) / max(1, num_positives) for name, terms in (("class", class_terms), ("box", box_terms))
        }

    def _targets(self, cells: Tensor, boxes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The class of each cell, -1 for background, and its object: the nearest, at most one cell away."""
        background = torch.full((len(cells),), -1, device=cells.device)
        if not len(boxes):
            return background, background
        steps = (centre(cells)[:, None] - centre(boxes)[None]).abs() / torch.tensor(self.stride, device=cells.device)
        distance, owner = steps.amax(-1).min(1)
        return torch.where(distance <= 1, labels[owner], background), owner

    @torch.no_grad()
    def detect(self, outputs: Outputs, *, masks: bool = False) -> list[Detections]:
        if masks:
            raise ValueError("my_model predicts boxes only; call detect without masks=True")
        return [
            best_boxes(
                logits.sigmoid(),
                lambda rows, _, deltas=deltas: decode(deltas[rows], outputs.cells[rows]),
                outputs.shape,
                candidates=500,
                min_score=self.config.min_score,
                nms_threshold=0.5,
                max_detections=self.max_detections,
            )
            for logits, deltas in zip(outputs.logits, outputs.deltas, strict=True)
        ]
